"""Sparse logits as they are after they were kept in few bytes: log-probabilities by codes of so many bits, ids by so many bytes.

A code is the distance below 0 in steps of a fixed size, the same in each row: nothing has to be kept beside it. The last code stands for
all that is less likely.

Shapes: N rows, K kept classes.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from tutelage.signals.sparse import SparseLogits

Ids: TypeAlias = Literal["narrow", "18-bit", "24-bit", "int32"]
"""How class numbers are kept: "narrow", as in a cache, in the fewest of one and two bytes, three beside a code in one word, and four; or in
so many bits."""

REACH = 16.0
"""Nats that the codes span: what is less likely than exp(-16) is kept as about that."""
REST = 2
"""Bytes of the left-over mass or the threshold of a row: a float16 logarithm."""


def step_of(bits: int) -> float:
    """Nats between neighbouring codes."""
    return REACH / 2**bits


def rounded(log_probs: Tensor, bits: int) -> Tensor:
    """Log-probabilities as their codes tell them; 16 bits are float16."""
    if bits == 16:
        return log_probs.half().to(log_probs.dtype)
    step = step_of(bits)
    return (-log_probs / step).round().clamp(0, 2**bits - 1) * -step


def kept(sparse: SparseLogits, bits: int) -> SparseLogits:
    """What is read again where sparse logits were kept with codes of so many bits; a row's weights sum to 1 as before.

    What rounding took from the sum or added to it is shared out among the classes that stand for themselves; those that were drawn
    weigh the threshold.
    """
    rest = sparse.rest.half().to(sparse.rest.dtype)
    log_probs = rounded(sparse.log_probs, bits)
    if sparse.form == "top-k":
        own, left = torch.ones_like(log_probs, dtype=torch.bool), 1 - rest.exp()
    else:
        own = log_probs >= rest.unsqueeze(-1)
        left = 1 - rest.exp() * (~own).sum(-1)
    total = torch.where(own, log_probs, -torch.inf).logsumexp(-1)
    share = torch.where((left > 0) & total.isfinite(), left.clamp(min=1e-30).log() - total, 0.0).unsqueeze(-1)
    read = replace(sparse, log_probs=torch.where(own, log_probs + share, log_probs), rest=rest)
    # a class that was little above the threshold may now be below it, and weigh the threshold: what that makes is taken from all alike
    whole = read.log_weights.logsumexp(-1)
    if sparse.form == "top-k":
        whole = torch.logaddexp(whole, rest)
    return replace(read, log_probs=read.log_probs - whole.unsqueeze(-1), rest=rest - whole)


def id_bits(classes: int, bits: int = 8, ids: Ids = "narrow") -> int:
    """Bits of one class number beside a code of so many bits.

    Raises:
        ValueError: the class numbers need more.
    """
    if ids == "narrow":
        return 8 if classes <= 1 << 8 else 16 if classes <= 1 << 16 else 24 if bits <= 8 else 32
    size = {"18-bit": 18, "24-bit": 24, "int32": 32}[ids]
    if classes > 1 << size:
        raise ValueError(f"{classes} classes do not fit {size} bits")
    return size


def row_bytes(k: int, classes: int, bits: int = 8, ids: Ids = "narrow") -> int:
    """Bytes of a row: its ids and its codes, packed without gaps and filled up to a whole byte, and the rest."""
    return math.ceil(k * (id_bits(classes, bits, ids) + bits) / 8) + REST


def fits(limit: int, classes: int, bits: int = 8, ids: Ids = "narrow") -> int:
    """The most classes that a row can keep in less than so many bytes."""
    k = 0
    while row_bytes(k + 1, classes, bits, ids) < limit:
        k += 1
    return k


def varint_bytes(numbers: Tensor) -> Tensor:
    """Bytes of each number where a byte holds seven bits of it and one that says whether it goes on."""
    return 1 + sum((numbers >= 1 << 7 * more).long() for more in (1, 2, 3, 4))
