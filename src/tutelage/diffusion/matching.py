"""Score distillation: a generator learns from the gap between what two denoisers say of its images. Shapes: B images.

One of them knows the real images, the other is taught all the while what the generator makes; their difference at a noised image is the
direction in which the two densities there differ most.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from tutelage.diffusion.denoiser import Denoiser
from tutelage.diffusion.denoising import like, times_of
from tutelage.errors import BadInput
from tutelage.objectives import Term
from tutelage.training.plan import LossFunction
from tutelage.training.step import Step

Weight: TypeAlias = Literal["dmd", "diff-instruct"]
Made: TypeAlias = "Callable[[Step], tuple[Tensor, Tensor | None]]"
"""Gives a generator's images (B, ...), with a way back to it, and their classes."""


def score_gap(x: Tensor, fake_x0: Tensor, real_x0: Tensor, weight: Weight = "dmd", snr: Tensor | float = 1.0) -> Tensor:
    """The direction in which a generated image should not go, (B, ...): what the fake denoiser says less what the real one says.

    dmd: `(fake - real) / mean |x - real|`, the mean over an image's numbers. diff-instruct: (fake - real) times the signal-to-noise ratio
    a^2 / s^2, which is the gap of scores times s a.

    Args:
        x: what the generator made.
        fake_x0: the image that the denoiser of generated images sees in x, noised.
        real_x0: the image that the teacher sees there.
        weight: as above.
        snr: a^2 / s^2, of a shape that multiplies x; for diff-instruct.

    Returns:
        Without a way back for gradients; 0 where it would not be finite.

    Source: Yin et al., 2024, eq. 7 and 8; Luo et al., "Diff-Instruct", 2023, eq. 3.1.
    """
    with torch.no_grad():
        gap = fake_x0 - real_x0
        if weight == "dmd":
            scale_B = (x - real_x0).abs().flatten(1).mean(1)
            gap = gap / scale_B.view(-1, *(1 for _ in x.shape[1:]))
        elif weight == "diff-instruct":
            gap = gap * snr
        else:
            raise BadInput(f"score_gap(weight={weight!r}): expected 'dmd' or 'diff-instruct'")
        return torch.nan_to_num(gap, nan=0.0, posinf=0.0, neginf=0.0)


def moved(x: Tensor, against: Tensor) -> Tensor:
    """A loss (B,) whose gradient on x is `against`, divided by the numbers of an image: half the mean of (x - sg(x - against))^2."""
    return 0.5 * (x - (x - against).detach()).square().flatten(1).mean(1)


def matching(
    made: Made,
    fake: Denoiser,
    real: Denoiser,
    *,
    span: tuple[float, float] = (0.02, 0.98),
    weight: Weight = "dmd",
    name: str = "matching",
) -> LossFunction:
    """The loss of a generator that is to make what the teacher knows: the gap of two denoisers, at a random time, as its gradient.

    Args:
        made: what the generator makes of a step's noise.
        fake: the denoiser of generated images; trained by a learner of its own.
        real: the teacher.
        span: between which shares of the schedule times are drawn.
        weight: see `score_gap`.
        name: of the term.

    Raises:
        BadInput: a span that is none.

    Source: Yin et al., 2024, section 3.2.
    Relations: an image at which both denoisers agree gets no gradient; `denoising` on the generator's images trains `fake`.
    """
    if not 0 <= span[0] < span[1] <= 1:
        raise BadInput(f"span={span}: expected two shares of the schedule, the first below the second, in [0, 1]")

    def loss(step: Step) -> list[Term]:
        x, label_B = made(step)
        with torch.no_grad():
            count = len(real.schedule)
            low, high = int(span[0] * count), max(int(span[0] * count) + 1, int(span[1] * count))
            t_B = times_of(step, len(x), low, high, f"{name}-times")
            x_t = real.schedule.noised(x, t_B, like(step, x, f"{name}-noise"))
            a, s = real.schedule.levels(t_B, x)
            fake_x0, real_x0 = (each(x_t, t_B, label_B, ask=step.ask).x0 for each in (fake, real))
            gap = score_gap(x, fake_x0, real_x0, weight, (a / s).square())
        size = gap.square().flatten(1).mean(1).sqrt().mean()
        return [Term(name, moved(x, gap), notes={f"{name}/gap": size})]

    return loss
