"""The loss that denoisers are trained by, on real images or on what a generator makes. Shapes: B samples, C channels, H W space."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from tutelage.diffusion.denoiser import Ask, Denoiser
from tutelage.diffusion.parametrization import SIGMA_DATA
from tutelage.errors import BadInput
from tutelage.objectives import Term
from tutelage.signals import RESERVED, Model
from tutelage.training.plan import LossFunction
from tutelage.training.step import Step

Weighting: TypeAlias = Literal["eps", "x0", "snr", "edm", "bound"]


Images: TypeAlias = "Callable[[Step], tuple[Tensor, Tensor | None]]"
"""Gives images in [-1, 1] (B, C, H, W) and their classes (B,), or None for none."""


def studied(step: Step) -> tuple[Tensor, Tensor | None]:
    """The images of the step's samples, from [0, 1] to [-1, 1], and their labels where they have some.

    Raises:
        BadInput: the samples are no images.
    """
    columns = [value for name, value in step.batch.items() if name not in RESERVED]
    if len(columns) != 1 or not isinstance(columns[0], Tensor) or columns[0].ndim != 4 or not columns[0].is_floating_point():
        raise BadInput(f"a denoiser studies images, one column of floating point (B, C, H, W), but the samples have {sorted(step.batch)}")
    label = step.batch.get("y")
    return 2 * columns[0] - 1, label if isinstance(label, Tensor) and not label.is_floating_point() else None


def times_of(step: Step, count: int, low: int, high: int, purpose: str) -> Tensor:
    """Times from low to high - 1, each as likely; drawn by the step."""
    return torch.randint(low, high, (count,), generator=step.rng(purpose), device=step.device)


def like(step: Step, x: Tensor, purpose: str) -> Tensor:
    """Standard normal noise of the shape of x, drawn by the step."""
    return torch.randn(x.shape, generator=step.rng(purpose), device=x.device, dtype=x.dtype)


def denoising_error(
    denoiser: Denoiser, x: Tensor, t_B: Tensor, noise: Tensor, label_B: Tensor | None, weight: Weighting, ask: Ask
) -> Tensor:
    """By how much a denoiser is wrong, (B,): the squared error's mean over an image's numbers, weighted by its noise.

    Args:
        denoiser: who is asked.
        x: clean images (B, ...).
        t_B: times.
        noise: (B, ...).
        label_B: classes, -1 for none.
        weight: eps: the error of the noise. x0: that of the image. snr: that of the image times max(1, a^2 / s^2). edm: that of the image
            times (sigma^2 + d^2) / (sigma d)^2, with sigma = s / a, which is the error of EDM's raw output. bound: the error of the noise,
            times b / (2 (1 - b) s^2), b the variance of the step: an image's share, by T and its size, of the variational bound.
        ask: how the model is asked.

    Source: Ho et al., 2020, eq. 14, and eq. 12 for the bound, with the step's variance as that of the model; Salimans and
        Ho, 2022, section 4; Karras et al., 2022, table 1.
    Relations: the first three are the same error, times a^2 / s^2, 1 and max(1, a^2 / s^2).
    """
    a, s = denoiser.schedule.levels(t_B, x)
    said = denoiser(denoiser.schedule.noised(x, t_B, noise), t_B, label_B, ask=ask)
    if weight == "eps":
        return (said.eps - noise).square().flatten(1).mean(1)
    if weight == "bound":
        before_B = torch.cat([torch.ones_like(denoiser.schedule.kept[:1]), denoiser.schedule.kept]).to(t_B.device)[t_B]
        kept_B = denoiser.schedule.kept.to(t_B.device)[t_B]
        step_B = kept_B / before_B
        share_B = ((1 - step_B) / (2 * step_B * (1 - kept_B))).to(x.dtype)
        return share_B * (said.eps - noise).square().flatten(1).mean(1)
    error_B = (said.x0 - x).square().flatten(1).mean(1)
    snr_B = (a / s).square().flatten()
    if weight == "snr":
        return error_B * snr_B.clamp(min=1)
    if weight == "edm":
        return error_B * (1 / SIGMA_DATA**2 + snr_B)
    return error_B


def denoising(
    student: Model | Denoiser, *, images: Images = studied, drop: float = 0.0, weight: Weighting = "eps", name: str = "denoising"
) -> LossFunction:
    """The loss of a learner that denoises: E over times and noise of how wrong it is.

    Args:
        student: what is trained.
        images: what it denoises; default: the step's samples. What is made by a generator must come without a way back for gradients.
        drop: share of samples whose class it is not told, so that it also learns to do without; in [0, 1].
        weight: see `denoising_error`.
        name: of the term.

    Raises:
        BadInput: drop outside [0, 1]; at the first step, classes that the student does not know.

    Source: Ho et al., 2020; Ho and Salimans, 2022, for the classes that are dropped.
    """
    if not 0 <= drop <= 1:
        raise BadInput(f"drop={drop}: expected a share in [0, 1]")
    denoiser = student if isinstance(student, Denoiser) else Denoiser(student)

    def loss(step: Step) -> list[Term]:
        x, label_B = images(step)
        x = x.detach()
        if label_B is not None and not denoiser.classes:
            label_B = None
        if label_B is not None and drop:
            left_B = torch.rand(len(x), generator=step.rng(f"{name}-drop"), device=step.device) < drop
            label_B = torch.where(left_B, -1, label_B)
        t_B = times_of(step, len(x), 0, len(denoiser.schedule), f"{name}-times")
        error_B = denoising_error(denoiser, x, t_B, like(step, x, f"{name}-noise"), label_B, weight, step.ask)
        return [Term(name, error_B)]

    return loss
