"""Skew KL: the distance to a mixture with the other side, in either direction; what DistiLLM trains language models by.

Both directions are true divergences: not negative, 0 only at equality. Computed in log-space in float32 or wider, summed over classes, and
left per row: (B, V) gives (B,), (B, T, V) gives (B, T). Shapes: B batch, T positions, V classes or vocabulary, R rows of any of them.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from tutelage.errors import BadInput
from tutelage.objectives.deferred import BY_ROWS
from tutelage.objectives.divergences import FLOOR, in_pieces
from tutelage.objectives.logits import kl_divergence
from tutelage.objectives.match import Distance
from tutelage.objectives.objective import alike
from tutelage.objectives.temperature import check_temperature, tempered
from tutelage.state import Controller, Number

DIRECTIONS = ("forward", "reverse")


def skew_divergence(
    student_BV: Tensor,
    teacher_BV: Tensor,
    skew: float = 0.1,
    temperature: float = 1.0,
    direction: str = "forward",
    detach_mixture: bool = False,
) -> Tensor:
    """Skew KL of two sets of logits, times temperature squared, per row: see `skew_kl`."""
    check_temperature("skew_divergence", temperature)
    _check_skew("skew_divergence", skew)
    student_BV, teacher_BV = alike("logits", student_BV, teacher_BV)
    if skew == 0:  # no mixture
        return kl_divergence(student_BV, teacher_BV, temperature, direction)

    def rows(student_RV: Tensor, teacher_RV: Tensor) -> Tensor:
        log_q_RV, log_p_RV = (F.log_softmax(tempered(side, temperature), dim=-1).clamp(min=FLOOR) for side in (student_RV, teacher_RV))
        if direction == "forward":
            return -(log_p_RV.exp() * _log_ratio(log_q_RV, log_p_RV, skew)).sum(-1)
        mixed_RV = log_q_RV.detach() if detach_mixture else log_q_RV
        # log(q / m), by way of the q that is in the mixture: the same number, but where that is detached with another gradient
        return (log_q_RV.exp() * (log_q_RV - mixed_RV - _log_ratio(log_p_RV, mixed_RV, skew))).sum(-1)

    return in_pieces(rows, student_BV, teacher_BV) * temperature**2


def _log_ratio(log_other: Tensor, log_own: Tensor, skew: float) -> Tensor:
    """log(m / own), m = skew * own + (1 - skew) * other: exact also where the two are nearly equal, or the skew is nearly 0."""
    apart = log_other - log_own + math.log1p(-skew)
    return torch.logaddexp(apart, apart.new_tensor(math.log(skew) if skew else -torch.inf))


def skew_kl(
    skew: Number = 0.1,
    direction: Literal["forward", "reverse"] = "forward",
    temperature: Number = 1.0,
    detach_mixture: bool = False,
) -> Distance:
    """Skew KL: how far one side is from a mixture of both, times temperature squared.

    forward: T^2 KL(p || skew p + (1 - skew) q); reverse: T^2 KL(q || (1 - skew) p + skew q); p the teacher's softmax at temperature T, q
    the student's. The mixture bounds the ratio under the logarithm, and with it value and gradient, where one side rules out what the
    other expects.

    Args:
        skew: share in the mixture of the side that is compared with it, in [0, 1); a number or a controller.
        direction: "forward" compares the teacher with the mixture, "reverse" the student.
        temperature: > 0, the same for both sides; a number or a controller.
        detach_mixture: take the student's part of the mixture for a constant; of the reverse direction only, whose gradient on the
            student's logits is then q (log(q / m) - KL(q || m)).

    Returns:
        A distance, per row: (B, V) gives (B,), (B, T, V) gives (B, T). It needs all classes of the teacher.

    Raises:
        BadInput: skew, direction or temperature out of range, or detach_mixture in the forward direction, which would leave no gradient.
        ShapeMismatch: the sides differ in shape.

    Source: Ko et al., "DistiLLM: Towards Streamlined Distillation for Large Language Models", 2024, section 3.1; the detached mixture is
        that of the code of Ko et al., "DistiLLM-2", 2025.
    Relations: at skew 0 it is `soft_targets` in the same direction; at T = 1 never above log(1 / skew). `jensen_shannon` at beta is
        beta times the forward one at skew beta plus 1 - beta times the reverse one at skew 1 - beta. The authors' first code returns the
        forward one as a cross entropy, with the teacher's entropy left in it: the gradient is the same, the value is not.
    """
    _check_skew("skew_kl", skew)
    check_temperature("skew_kl", temperature)
    if direction not in DIRECTIONS:
        raise BadInput(f"skew_kl(direction={direction!r}): expected 'forward' or 'reverse'")
    if detach_mixture and direction == "forward":
        raise BadInput("skew_kl(detach_mixture=True): forward, only the mixture holds the student, so nothing would be learned; reverse it")

    def fn(student_BV: Tensor, teacher_BV: Tensor, skew: float, temperature: float) -> Tensor:
        return skew_divergence(student_BV, teacher_BV, skew, temperature, direction, detach_mixture)

    return Distance(fn, {"skew": skew, "temperature": temperature}, BY_ROWS, name=f"skew_kl({direction})")


def _check_skew(where: str, skew: Number) -> None:
    if isinstance(skew, Controller):
        return
    if isinstance(skew, bool) or not isinstance(skew, (int, float)) or not 0 <= skew < 1:
        raise BadInput(f"{where}(skew={skew}): expected the share of a side in its own mixture, in [0, 1)")
