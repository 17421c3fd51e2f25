"""Attack: how far images may be changed, how the change is looked for, and what it is to spoil."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

from tutelage.errors import BadInput, nearest

NORMS = ("linf", "l2")
STARTS = ("uniform", "near", "none")
GOALS = ("labels", "self", "teacher")
MOST = 10_000
"""Steps and restarts; nobody looks longer."""
NEAR = 1e-3
"""Deviation of the normal noise that a search begins with when it starts near the image."""


@dataclass(frozen=True)
class Attack:
    """How images are changed within a small ball, so that a model's loss rises: projected gradient ascent.

    x' = x + start; then `steps` times x' = clip(x + project(x' + step * direction - x)), the direction being the gradient's sign (linf) or
    the gradient over its length (l2); clip leaves what an image may be, [0, 1], project what is within eps of x. Sizes are in units of
    the images themselves, before a model's own normalisation.

    Args:
        eps: radius of the ball, >= 0; 0 changes nothing.
        norm: "linf" bounds the change of each value, "l2" the length of the change of all values together.
        steps: gradient steps, at least 1.
        step: length of a step, > 0; null takes 2.5 eps / steps, with which an edge of the ball can be reached from the other.
        start: "uniform" draws a point of the ball, "near" adds normal noise of deviation 0.001, "none" begins at the image.
        restarts: searches from starts of their own; each image keeps the end with the largest loss.
        against: whose loss rises: cross entropy with the "labels", or the divergence from what the model itself ("self") or its "teacher"
            says of the image as it is.

    Raises:
        BadInput: a value outside its range, several restarts of one start, or a search against itself that begins where its gradient is 0.

    Source: Madry et al., "Towards Deep Learning Models Resistant to Adversarial Attacks", ICLR 2018, section 2.1.
    Relations: one step of length eps from the image itself is FGSM (Goodfellow et al., 2015). For a linear model under linf it is exact:
        x + eps * sign(w).
    """

    eps: float = 8 / 255
    norm: Literal["linf", "l2"] = "linf"
    steps: int = 10
    step: float | None = None
    start: Literal["uniform", "near", "none"] = "uniform"
    restarts: int = 1
    against: Literal["labels", "self", "teacher"] = "labels"

    def __post_init__(self) -> None:
        _number("eps", self.eps, 0 <= _real(self.eps) < math.inf, "a finite number of at least 0, in units of images in [0, 1]")
        if self.step is not None:
            _number("step", self.step, 0 < _real(self.step) < math.inf, "a finite number above 0, or null")
        for name in ("steps", "restarts"):
            value = getattr(self, name)
            whole = isinstance(value, int) and not isinstance(value, bool)
            _number(name, value, whole and 1 <= value <= MOST, f"a whole number from 1 to {MOST:,}")
        for name, known in (("norm", NORMS), ("start", STARTS), ("against", GOALS)):
            value = getattr(self, name)
            _number(name, value, value in known, f"{', '.join(known[:-1])} or {known[-1]}{nearest(str(value), known)}")
        if self.restarts > 1 and self.start == "none":
            raise BadInput(f"attack: {self.restarts} restarts from the image itself are all the same; give start=uniform")
        if self.start == "none" and self.against == "self":
            raise BadInput("attack: against=self has no gradient at the image itself; give start=near or start=uniform")

    @property
    def length(self) -> float:
        """Of a step."""
        return 2.5 * self.eps / self.steps if self.step is None else self.step

    @property
    def named(self) -> str:
        """In a few words, such as "PGD-20, linf 0.1"."""
        kind = "FGSM" if self.steps == 1 and self.start == "none" else f"PGD-{self.steps}"
        again = f" from {self.restarts} starts" if self.restarts > 1 else ""
        return f"{kind}{again}, {self.norm} {self.eps:.4g}"


def fgsm(*, eps: float, norm: Literal["linf", "l2"] = "linf") -> Attack:
    """The fast gradient sign method: one step of length eps from the image itself.

    Args:
        eps: radius of the ball.
        norm: "linf" or "l2".

    Source: Goodfellow, Shlens & Szegedy, "Explaining and Harnessing Adversarial Examples", ICLR 2015.
    """
    return Attack(eps=eps, norm=norm, steps=1, step=eps or None, start="none")


def pgd(
    *,
    eps: float,
    steps: int = 20,
    step: float | None = None,
    norm: Literal["linf", "l2"] = "linf",
    start: Literal["uniform", "near", "none"] = "uniform",
    restarts: int = 1,
) -> Attack:
    """Projected gradient ascent on the cross entropy with the labels; see `Attack`.

    Args:
        eps: radius of the ball.
        steps: gradient steps.
        step: length of a step; null takes 2.5 eps / steps.
        norm: "linf" or "l2".
        start: "uniform", "near" or "none".
        restarts: searches from starts of their own.
    """
    return Attack(eps=eps, norm=norm, steps=steps, step=step, start=start, restarts=restarts)


def _real(value: Any) -> float:
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else math.nan


def _number(name: str, value: Any, good: bool, expected: str) -> None:
    if not good:
        raise BadInput(f"attack: {name}={value}; expected {expected}")
