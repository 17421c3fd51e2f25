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
from tutelage.language.free_running import answers, measure_own_text
from tutelage.language.sampling import Sampling
from tutelage.objectives.labels import IGNORED
from tutelage.reproductions.harness.benches import ANSWER
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


def freely(made: Made) -> Mapping[str, float]:
    """The numbers of `in_bits`; and of what the model writes itself after the prompts of the test, drawn at temperature 1, where it has a
    teacher: `own forward kl` and `own reverse kl` to it after what the model wrote, and `gap`, by how much the former exceeds `forward kl`,
    which is that on given text; `sequence kl`, an estimate of KL(model || teacher) of whole texts, all four in nats a token; `teacher
    bits`, what the teacher makes of the text, in bits a token. See `language.free_running`. All arms of a seed draw by the same numbers.
    """
    found = dict(in_bits(made))
    if made.teacher is None:
        return found
    assert made.data.test is not None
    written = answers(made.product, made.data.test, Sampling(ANSWER), at_once=128)
    own = measure_own_text(made.product, made.teacher, written, masked=False)
    found |= {f"own {name.replace('_', ' ')}": own[name] for name in ("forward_kl", "reverse_kl")}
    found["gap"] = own["forward_kl"] - found["forward kl"]
    return {**found, "sequence kl": own["sequence_kl"], "teacher bits": own["teacher_nll"] / math.log(2)}


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
