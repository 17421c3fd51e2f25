"""What a denoiser predicts, and how each prediction is turned into the others: the noise, the image, the velocity, or EDM's output.

Shapes: x_t, predictions and noise are (B, ...); a and s are what `NoiseSchedule.levels` gives, one for each sample.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from tutelage.errors import BadInput, nearest

Kind = Literal["eps", "x0", "v", "edm"]
KINDS: tuple[str, ...] = ("eps", "x0", "v", "edm")

SIGMA_DATA = 0.5
"""Deviation of the data that EDM's scales assume."""


@dataclass(frozen=True)
class Prediction:
    """What a denoiser says of x_t = a x0 + s eps.

    Args:
        x0: the image.
        eps: the noise.
    """

    x0: Tensor
    eps: Tensor

    def score(self, s: Tensor) -> Tensor:
        """The gradient of the log-density of x_t, -eps / s."""
        return -self.eps / s


def read(kind: Kind, output: Tensor, x_t: Tensor, a: Tensor, s: Tensor) -> Prediction:
    """Image and noise from what a net gave.

    eps: x0 = (x_t - s eps) / a. x0: eps = (x_t - a x0) / s. v = a eps - s x0: x0 = a x_t - s v, eps = s x_t + a v.
    edm: x0 = c_skip x_t / a + c_out output, with sigma = s / a, c_skip = d^2 / (sigma^2 + d^2), c_out = sigma d / sqrt(sigma^2 + d^2).

    Args:
        kind: what the net predicts.
        output: what it gave.
        x_t: what it was given.
        a: of the schedule at its times.
        s: of the schedule at its times.

    Raises:
        BadInput: an unknown kind, or an output of another shape than x_t.

    Source: Salimans and Ho, "Progressive Distillation", 2022, section 4, for v; Karras et al., 2022, eq. 7 and table 1, for edm.
    """
    if output.shape != x_t.shape:
        raise BadInput(f"a denoiser gave {tuple(output.shape)} for noised images {tuple(x_t.shape)}; expected the same shape")
    if kind == "eps":
        return Prediction((x_t - s * output) / a, output)
    if kind == "v":
        return Prediction(a * x_t - s * output, s * x_t + a * output)
    if kind == "edm":
        skip, out = edm_scales(a, s)
        output = skip * x_t + out * output
    elif kind != "x0":
        raise _unknown(kind)
    return Prediction(output, (x_t - a * output) / s)


def target(kind: Kind, x0: Tensor, eps: Tensor, a: Tensor, s: Tensor) -> Tensor:
    """What a net of a kind would have to give for this image and this noise; the inverse of `read`."""
    if kind == "eps":
        return eps
    if kind == "x0":
        return x0
    if kind == "v":
        return a * eps - s * x0
    if kind == "edm":
        skip, out = edm_scales(a, s)
        return (x0 - skip * (a * x0 + s * eps)) / out
    raise _unknown(kind)


def edm_scales(a: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
    """What x_t and the output are multiplied by: c_skip / a, and c_out."""
    data = SIGMA_DATA
    both = s.square() + (a * data).square()  # (sigma^2 + d^2) a^2
    return a * data**2 / both, s * data / both.sqrt()


def edm_input(x_t: Tensor, a: Tensor, s: Tensor) -> Tensor:
    """What a net of EDM's kind is given: of deviation 1 for data of deviation `SIGMA_DATA`."""
    return x_t / (s.square() + (a * SIGMA_DATA).square()).sqrt()


def _unknown(kind: str) -> BadInput:
    return BadInput(f"a denoiser cannot predict {kind!r}{nearest(kind, KINDS)}; expected one of {', '.join(KINDS)}")
