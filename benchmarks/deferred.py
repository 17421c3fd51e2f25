"""Deferred logits: time and memory of a divergence over a large vocabulary, from hidden states and heads to gradients.

Three forms of the same loss: dense, as one writes it down; ours, `soft_targets` and `jensen_shannon` on `DeferredLogits`; and the chunked
divergence of TRL, where it is installed. Shapes: N tokens, D width, V vocabulary.
"""

from __future__ import annotations

import functools
import importlib
import math
import sys
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

import peer
from recipes import in_bytes, peak
from timing import Row, compared, turns
from tutelage import jensen_shannon, soft_targets
from tutelage.signals import DeferredLogits
from tutelage.signals.head import LARGE

TITLE = "deferred"
NOTE = (
    "Forward and backward of the mean divergence, from hidden states of width {width} and the two heads to the gradients on the student's "
    "hidden states and head, float32; the models' bodies are in no row. *Dense* makes both logits and writes the divergence down "
    "(`log_softmax`, `logaddexp`, `kl_div`). *Peak memory* is the most bytes of tensors that live at once, counted by torch's profiler: "
    "what is made on the way, and the gradients; not hidden states and heads. The gradient on the student's head is in it on all sides: "
    "113 MB of float32 over 49,152 tokens. Trainings defer logits by themselves from {large:,} tokens on. {trl}"
)
WITH = "TRL is version {version}: `ChunkedDivergenceFunction`, in its form for processors (elsewhere it uses Triton)."
WITHOUT = f"TRL was not installed, so its rows are left out: pip install --no-deps --target {peer.FOLDER.name} trl."
WIDTH = 576
"""Of SmolLM2-135M, whose vocabulary has 49,152 tokens."""
TIMES = ((1024, 1024, 9), (8192, 512, 7), (16384, 512, 5), (32768, 512, 5), (49152, 512, 4))
"""Vocabulary, tokens, rounds."""
MEMORY = ((8192, 1024), (49152, 1024), (49152, 2048))
LEAST = 0.25
"""Share of the dense form's memory that is aimed at, over the largest vocabulary."""


def sides(vocabulary: int, tokens: int, width: int = WIDTH) -> tuple[DeferredLogits, DeferredLogits]:
    """Hidden states and heads of a student, with gradients, and of a teacher, who is the surer of the two."""
    drawn = torch.Generator().manual_seed(0)
    hidden, told = (torch.randn(tokens, width, generator=drawn) for _ in range(2))
    weight, told_weight = (torch.randn(vocabulary, width, generator=drawn) * factor / width**0.5 for factor in (1, 2))
    return DeferredLogits(hidden.requires_grad_(), weight.requires_grad_()), DeferredLogits(told, told_weight)


def clear(student: DeferredLogits) -> None:
    """Drop the gradients."""
    student.hidden.grad = student.weight.grad = None


def forward_kl(student_NV: Tensor, teacher_NV: Tensor) -> Tensor:
    """KL(teacher || student), as one writes it down."""
    log_q, log_p = student_NV.log_softmax(-1), teacher_NV.log_softmax(-1)
    return F.kl_div(log_q, log_p, reduction="none", log_target=True).sum(-1)


def jsd(student_NV: Tensor, teacher_NV: Tensor) -> Tensor:
    """Jensen-Shannon divergence, as one writes it down."""
    log_q, log_p = student_NV.log_softmax(-1), teacher_NV.log_softmax(-1)
    log_m = torch.logaddexp(log_q, log_p) - math.log(2)
    return 0.5 * sum(F.kl_div(log_m, each, reduction="none", log_target=True).sum(-1) for each in (log_p, log_q))


LOSSES: dict[str, tuple[Callable[..., Tensor], Callable[..., Tensor], float]] = {
    "forward KL": (forward_kl, soft_targets(1.0), 0.0),
    "Jensen-Shannon": (jsd, jensen_shannon(0.5), 0.5),
}
"""Each as it is written down, ours, and what TRL calls it."""


@functools.cache
def trl() -> Any:
    """TRL's function, and its version; None where it is not installed."""
    if str(peer.FOLDER) not in sys.path:
        sys.path.append(str(peer.FOLDER))
    try:
        function = importlib.import_module("trl.kernels.chunked_divergence").ChunkedDivergenceFunction
        return function, importlib.import_module("trl").__version__
    except ImportError:
        return None


def forms(loss: str, own: DeferredLogits, told: DeferredLogits) -> dict[str, Callable[[], None]]:
    """The forms of a loss, each from nothing to gradients."""
    dense, ours, beta = LOSSES[loss]
    peers = trl()

    def work(values: Callable[[], Tensor]) -> Callable[[], None]:
        def once() -> None:
            clear(own)
            values().mean().backward()

        return once

    made = {
        "dense": work(lambda: dense(F.linear(own.hidden, own.weight), F.linear(told.hidden, told.weight))),
        "ours": work(lambda: ours(own, told)),
    }
    if peers is not None:
        made["TRL"] = work(lambda: peers[0].apply(own.hidden, own.weight, None, told.hidden, told.weight, None, beta)[0])
    return made


def note() -> str:
    """How it was measured."""
    found = trl()
    return NOTE.format(width=WIDTH, large=LARGE, trl=WITHOUT if found is None else WITH.format(version=found[1]))


def against(form: str) -> str:
    """What a form is called in the table."""
    return "dense logits" if form == "dense" else form


def said(loss: str, vocabulary: int, tokens: int) -> str:
    """What a case is called in the table."""
    return f"{loss}, vocabulary of {vocabulary:,}, {tokens:,} positions"


def timed(vocabulary: int, tokens: int, rounds: int) -> list[Row]:
    """Rows of time."""
    found, (own, told) = [], sides(vocabulary, tokens)
    for loss in LOSSES:
        taken = turns(forms(loss, own, told), rounds, warm=1)
        for other in sorted(taken.keys() - {"ours"}):
            dense = other == "dense"
            brief = dense and (vocabulary, tokens, rounds) == TIMES[-1]
            row = compared(said(loss, vocabulary, tokens), against(other), taken[other], taken["ours"], brief=brief)
            found.append({**row, "target": {"ratio": 1.0} if dense else {}})
    return found


def counted(vocabulary: int, tokens: int) -> list[Row]:
    """Rows of memory."""
    found, (own, told) = [], sides(vocabulary, tokens)
    for loss in LOSSES:
        bytes_of = {}
        for name, form in forms(loss, own, told).items():
            clear(own)
            bytes_of[name] = peak(form)
        for other in sorted(bytes_of.keys() - {"ours"}):
            row = in_bytes(f"peak memory, {said(loss, vocabulary, tokens)}", against(other), bytes_of[other], bytes_of["ours"])
            row["ratio"] = dict.fromkeys(("median", "lower_quartile", "upper_quartile"), row["ratio"]["median"])
            aimed = other == "dense" and vocabulary == MEMORY[-1][0]
            brief = aimed and (vocabulary, tokens) == MEMORY[-1]
            found.append({**row, "target": {"ratio": LEAST} if aimed else {}, "brief": brief})
    return found


def rows() -> list[Row]:
    """The rows of the table."""
    return [row for case in TIMES for row in timed(*case)] + [row for case in MEMORY for row in counted(*case)]
