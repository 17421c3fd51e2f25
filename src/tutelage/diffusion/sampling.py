"""Samplers: from noise to images by asking a denoiser some times; DDIM, and the ancestral sampler of DDPM.

Each image has a seed of its own: what is drawn for it does not depend on which others are drawn beside it, nor on the batch size.

Shapes: B images.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Tensor

from tutelage.diffusion.parametrization import Prediction
from tutelage.diffusion.schedule import NoiseSchedule
from tutelage.errors import BadInput
from tutelage.randomness import generator


class Denoises(Protocol):
    """What can be asked for the image in a noised one: a `Denoiser`, or an oracle."""

    @property
    def schedule(self) -> NoiseSchedule:
        """The noise that it was made for."""

    def __call__(self, x_t: Tensor, t_B: Tensor, label_B: Tensor | None = None) -> Prediction:
        """What it says of x_t."""


def noise_of(
    seeds: Sequence[int], shape: Sequence[int], purpose: str = "noise", number: int = 0, dtype: torch.dtype = torch.float32
) -> Tensor:
    """Standard normal noise `(B, *shape)`, a function of each image's seed, the purpose and the number alone."""
    rows = [torch.randn(tuple(shape), generator=generator(purpose, seed, number), dtype=dtype) for seed in seeds]
    return torch.stack(rows) if rows else torch.empty(0, *shape, dtype=dtype)


def jump(schedule: NoiseSchedule, said: Prediction, u_B: Tensor) -> Tensor:
    """Where DDIM goes at time u from what the denoiser said: a_u x0 + s_u eps; at u = -1 the image itself."""
    there = said.x0
    inner_B = u_B >= 0
    a, s = schedule.levels(u_B.clamp(min=0), there)
    moved = a * said.x0 + s * said.eps
    return torch.where(inner_B.view(-1, *(1 for _ in there.shape[1:])), moved, there)


def ddim(
    denoiser: Denoises, noise: Tensor, steps: int, label_B: Tensor | None = None, *, told: Callable[[int], None] | None = None
) -> Tensor:
    """Follow the probability flow from noise to an image, in that many evaluations.

    Args:
        denoiser: who is asked.
        noise: x at the last time, (B, ...).
        steps: evaluations, 1 to T.
        label_B: classes to draw; None for none.
        told: called after each evaluation with how many are done.

    Returns:
        Images (B, ...): the last evaluation's x0.

    Source: Song, Meng and Ermon, "Denoising Diffusion Implicit Models", 2021, eq. 12 with eta 0.
    """
    times = denoiser.schedule.times(steps)
    x_t = noise
    for number, (t, u) in enumerate(zip(times, [*times[1:], -1], strict=True)):
        said = denoiser(x_t, _at(t, x_t), label_B)
        x_t = jump(denoiser.schedule, said, _at(u, x_t))
        if told is not None:
            told(number + 1)
    return x_t


def ancestral(denoiser: Denoises, noise: Tensor, steps: int, seeds: Sequence[int], label_B: Tensor | None = None) -> Tensor:
    """Draw each next image from DDPM's posterior, so that fresh noise goes in at each step but the last.

    Args:
        denoiser: who is asked.
        noise: x at the last time, (B, ...).
        steps: evaluations, 1 to T.
        seeds: of the images.
        label_B: classes to draw.

    Source: Ho et al., 2020, eq. 6 and 7, on a subset of the times.
    """
    if len(seeds) != len(noise):
        raise BadInput(f"{len(seeds)} seeds for {len(noise)} images; expected one for each")
    schedule, times = denoiser.schedule, denoiser.schedule.times(steps)
    x_t = noise
    for number, (t, u) in enumerate(zip(times, [*times[1:], -1], strict=True)):
        said = denoiser(x_t, _at(t, x_t), label_B)
        if u < 0:
            return said.x0
        kept_t, kept_u = (float(schedule.kept[each]) for each in (t, u))
        step = kept_t / kept_u  # what is kept from u to t
        own = kept_u**0.5 * (1 - step) / (1 - kept_t)
        old = step**0.5 * (1 - kept_u) / (1 - kept_t)
        spread = ((1 - kept_u) / (1 - kept_t) * (1 - step)) ** 0.5
        fresh = noise_of(seeds, x_t.shape[1:], "ancestral", number, x_t.dtype).to(x_t.device)
        x_t = own * said.x0 + old * x_t + spread * fresh
    return x_t


def _at(t: int, x: Tensor) -> Tensor:
    return torch.full((len(x),), t, dtype=torch.int64, device=x.device)
