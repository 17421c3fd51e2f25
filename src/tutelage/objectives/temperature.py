"""Temperatures: which ones a distance takes, and which ones logits that were kept at one temperature can still be read at."""

from __future__ import annotations

import math

from torch import Tensor

from tutelage.errors import BadInput
from tutelage.signals import SparseLogits
from tutelage.state import Controller, Number

HOTTEST = 1e18
"""Largest temperature: losses are multiplied by its square, in float32."""


def check_temperature(where: str, temperature: Number) -> None:
    """Refuse a temperature that is not a positive finite number, or whose square is beyond float32.

    Raises:
        BadInput: it is not.
    """
    if isinstance(temperature, Controller):
        return
    if isinstance(temperature, bool) or not isinstance(temperature, (int, float)) or not (0 < temperature <= HOTTEST):
        raise BadInput(f"{where}(temperature={temperature}): expected a positive finite number, at most {HOTTEST:g}")


def tempered(logits: Tensor, temperature: float) -> Tensor:
    """Logits over a temperature; at 1 themselves, not a copy."""
    return logits if temperature == 1 else logits / temperature


def renormalized(kept: SparseLogits) -> bool:
    """Whether the kept classes share all of the mass: then, and only then, the distribution is known at any temperature."""
    return kept.form == "top-k" and (kept.tail == "renormalize" or kept.kept == kept.classes)


def check_kept(where: str, temperature: Number, kept: SparseLogits) -> None:
    """Refuse a temperature that sparse logits cannot be read at.

    A distribution at another temperature is p_v^(T0 / T), renormalised: of the classes that were left out it needs each one's probability,
    and only their sum was kept; of drawn classes, that they had been drawn with other probabilities.

    Args:
        where: who asks.
        temperature: what is asked for; one that moves will differ from the kept one sooner or later.
        kept: the logits.

    Raises:
        BadInput: they cannot be read at it.
    """
    if renormalized(kept):
        return
    remedy = "keep all of the classes (--keep all)" + ("" if kept.form == "sampled" else ", or take the tail 'renormalize'")
    if isinstance(temperature, Controller):
        raise BadInput(
            f"{where}: the teacher's {kept.form} logits were kept at temperature {kept.temperature:g} and cannot be read at another, "
            f"but its temperature moves ({temperature!r}); give a fixed one, or {remedy}"
        )
    if not math.isclose(temperature, kept.temperature, rel_tol=1e-6):
        raise BadInput(
            f"the teacher's {kept.form} logits were kept at temperature {kept.temperature:g}, {where} asks for {temperature:g}; "
            f"write the cache with --temperature {temperature:g}, or {remedy}"
        )
