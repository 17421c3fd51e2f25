"""Noise schedules: how much of an image and how much noise is left at each time. One convention for all of `diffusion`.

Time is a whole number from 0 (almost clean) to T - 1 (almost noise). At time t, x_t = a_t x + s_t n with a_t^2 + s_t^2 = 1 and n standard
normal. A model made for x + sigma n instead (EDM) sees x_t / a_t, and sigma = s_t / a_t.

Shapes: B samples, T times; x is (B, ...).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from tutelage.errors import BadInput, nearest


@dataclass(frozen=True, eq=False)
class NoiseSchedule:
    """What is left of the image at each time.

    Args:
        kept: the share of variance that is the image's (alpha bar), float64 (T,), falling, in (0, 1).
        name: how messages call it.

    Raises:
        BadInput: fewer than two times, or shares that do not fall or leave (0, 1).

    Source: Ho et al., "Denoising Diffusion Probabilistic Models", 2020, eq. 4.
    """

    kept: Tensor
    name: str = "own"

    def __post_init__(self) -> None:
        kept_T = self.kept
        good = kept_T.ndim == 1 and len(kept_T) > 1 and bool(((kept_T > 0) & (kept_T < 1)).all())
        if not good or not bool((kept_T[1:] < kept_T[:-1]).all()):
            raise BadInput(f"noise schedule {self.name}: expected at least two shares in (0, 1), each smaller than the one before")
        object.__setattr__(self, "kept", kept_T.double())

    def __len__(self) -> int:
        """T."""
        return len(self.kept)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, NoiseSchedule) and torch.equal(self.kept, other.kept)

    def __hash__(self) -> int:
        return hash((len(self), float(self.kept[-1])))

    def levels(self, t_B: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        """a_t and s_t at some times, in the precision of x and of a shape that multiplies it.

        Args:
            t_B: times, whole numbers (B,).
            x: (B, ...).

        Raises:
            BadInput: times that are no whole numbers from 0 to T - 1.
        """
        if t_B.is_floating_point() or (t_B.numel() and not t_B.is_meta and not 0 <= int(t_B.min()) <= int(t_B.max()) < len(self)):
            raise BadInput(f"noise schedule {self.name}: expected times as whole numbers from 0 to {len(self) - 1}")
        kept_B = self.kept.to(t_B.device)[t_B]
        shape = (-1, *(1 for _ in x.shape[1:]))
        return kept_B.sqrt().to(x.dtype).view(shape), (1 - kept_B).sqrt().to(x.dtype).view(shape)

    def noised(self, x: Tensor, t_B: Tensor, noise: Tensor) -> Tensor:
        """x_t = a_t x + s_t noise."""
        a, s = self.levels(t_B, x)
        return a * x + s * noise

    def sigmas(self) -> Tensor:
        """Noise beside an image that keeps its scale: s_t / a_t, float64 (T,), rising."""
        return ((1 - self.kept) / self.kept).sqrt()

    def log_snr(self) -> Tensor:
        """log(a_t^2 / s_t^2), float64 (T,), falling."""
        return torch.log(self.kept) - torch.log1p(-self.kept)

    def times(self, steps: int) -> list[int]:
        """Times for a sampler of that many evaluations, evenly spaced from T - 1 down; the last lies one spacing above -1.

        So one step asks at T - 1 alone, and halving the number of steps takes every second of the times.

        Raises:
            BadInput: steps outside 1 to T.
        """
        if isinstance(steps, bool) or not isinstance(steps, int) or not 1 <= steps <= len(self):
            raise BadInput(f"a sampler over {len(self)} times takes 1 to {len(self)} steps, not {steps!r}")
        return [round(len(self) * (steps - i) / steps) - 1 for i in range(steps)]

    def at_sigma(self, sigma: float) -> int:
        """The time whose sigma is nearest on a logarithmic scale: where a model in EDM's convention is to be asked."""
        if not sigma > 0:
            raise BadInput(f"a noise level must be above 0, not {sigma}")
        return int((self.sigmas().log() - math.log(sigma)).abs().argmin())


def linear(steps: int = 1000, low: float = 1e-4, high: float = 0.02) -> NoiseSchedule:
    """Variances of the steps that rise linearly.

    Args:
        steps: T; the variances are scaled by 1000 / T, so that the end is as noisy for any T.
        low: variance of the first of 1000 steps.
        high: of the last.

    Source: Ho et al., 2020, section 4.
    """
    _counted(steps)
    betas_T = torch.linspace(low, high, steps, dtype=torch.float64) * (1000 / steps)
    return NoiseSchedule(torch.cumprod(1 - betas_T.clamp(max=0.999), 0), "linear")


def cosine(steps: int = 1000, offset: float = 0.008) -> NoiseSchedule:
    """Keeps more of the image in the middle than `linear` does.

    Args:
        steps: T.
        offset: keeps the first steps from being too small.

    Source: Nichol and Dhariwal, "Improved Denoising Diffusion Probabilistic Models", 2021, eq. 17; variances of steps at most 0.999.
    """
    _counted(steps)
    at = torch.arange(steps + 1, dtype=torch.float64) / steps
    kept = torch.cos((at + offset) / (1 + offset) * math.pi / 2).square()
    return NoiseSchedule(torch.cumprod(1 - (1 - kept[1:] / kept[:-1]).clamp(max=0.999), 0), "cosine")


SCHEDULES: dict[str, Callable[..., NoiseSchedule]] = {"linear": linear, "cosine": cosine}
"""By name."""


def schedule(name: str, steps: int = 1000) -> NoiseSchedule:
    """A schedule by name.

    Raises:
        BadInput: there is none of this name.
    """
    if name not in SCHEDULES:
        raise BadInput(f"there is no noise schedule {name!r}{nearest(name, SCHEDULES)}; expected one of {', '.join(SCHEDULES)}")
    return SCHEDULES[name](steps)


def karras(steps: int, low: float = 0.002, high: float = 80.0, rho: float = 7.0) -> Tensor:
    """Noise levels for a sampler, falling, float64 (steps,): sigma_i^(1/rho) evenly spaced.

    Source: Karras et al., "Elucidating the Design Space of Diffusion-Based Generative Models", 2022, eq. 5.
    """
    _counted(steps)
    return torch.linspace(high ** (1 / rho), low ** (1 / rho), steps, dtype=torch.float64) ** rho


def _counted(steps: int) -> None:
    if isinstance(steps, bool) or not isinstance(steps, int) or steps < 2:
        raise BadInput(f"a noise schedule needs at least 2 times, not {steps!r}")
