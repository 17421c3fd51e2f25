"""What is measured of a language model: how well it tells the next token, and how far it is from its teacher.

Shapes: N samples, T positions, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

from tutelage.evaluation import predict
from tutelage.objectives.labels import IGNORED
from tutelage.reproductions.harness.design import Made

AT_ONCE = 16
"""Samples whose probabilities are held in float64 at once."""


def in_bits(made: Made) -> Mapping[str, float]:
    """`bits` a token and `entropy` in nats a token; where there is a teacher its `forward kl` and `reverse kl` in nats a token.

    The means run over all tokens that have a label. forward is KL(teacher || student).
    """
    assert made.data.test is not None
    teacher = None if made.teacher is None else predict(made.teacher, made.data.test).logits
    return measured(made.shown.logits, made.shown.labels, teacher)


def measured(logits_NTV: Tensor, y_NT: Tensor | None, teacher_NTV: Tensor | None) -> dict[str, float]:
    """The numbers of `in_bits` from logits and labels."""
    assert y_NT is not None
    sums: dict[str, float] = {}
    for start in range(0, len(y_NT), AT_ONCE):
        rows = slice(start, start + AT_ONCE)
        kept = y_NT[rows] != IGNORED
        log_q_KV = logits_NTV[rows][kept].double().log_softmax(-1)
        found = {
            "bits": F.nll_loss(log_q_KV, y_NT[rows][kept].long(), reduction="sum") / math.log(2),
            "entropy": _cross(log_q_KV, log_q_KV),
        }
        if teacher_NTV is not None:
            log_p_KV = teacher_NTV[rows][kept].double().log_softmax(-1)
            found["forward kl"] = _cross(log_p_KV, log_q_KV) - _cross(log_p_KV, log_p_KV)
            found["reverse kl"] = _cross(log_q_KV, log_p_KV) - found["entropy"]
        for name, value in found.items():
            sums[name] = sums.get(name, 0.0) + float(value)
    count = int((y_NT != IGNORED).sum())
    return {name: total / count for name, total in sums.items()}


def _cross(log_of_KV: Tensor, log_under_KV: Tensor) -> Tensor:
    """The cross entropy of one distribution under another, summed over rows."""
    return -torch.where(log_of_KV == -torch.inf, 0.0, log_of_KV.exp() * log_under_KV).sum()
