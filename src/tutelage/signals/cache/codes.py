"""How signals become the tensors of a shard, and signals again: sparse logits in few bytes, features in eight bits a number.

Shapes: N samples or positions, K kept classes, C channels.
"""

from __future__ import annotations

import torch
from torch import Tensor

from tutelage.signals.cache.about import KeptLogits, KeptTap, Precision
from tutelage.signals.sparse import SparseLogits, Tail

STEP = 1 / 16
"""Of the eight-bit codes of log-probabilities, in nats: code c stands for -c / 16; less than exp(-15.9) is kept as that."""

DTYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16}


def narrow(ids: Tensor, classes: int) -> Tensor:
    """Class numbers in as few bytes as will hold the largest: one, two or four."""
    return ids.to(torch.uint8 if classes <= 1 << 8 else torch.uint16 if classes <= 1 << 16 else torch.int32)


def pack(sparse: SparseLogits, precision: Precision) -> dict[str, Tensor]:
    """Sparse logits as tensors for a shard, by name: `ids`, `log_probs` and `rest`."""
    log_probs, rest = sparse.log_probs, sparse.rest
    if precision == "8-bit":
        log_probs, rest = (-log_probs / STEP).round().clamp(0, 255).to(torch.uint8), rest.half()
    elif precision != "full":
        log_probs, rest = log_probs.to(DTYPES[precision]), rest.to(DTYPES[precision])
    return {"ids": narrow(sparse.ids, sparse.classes), "log_probs": log_probs, "rest": rest}


def unpack(tensors: dict[str, Tensor], kept: KeptLogits, tail: Tail) -> SparseLogits:
    """The sparse logits that were packed; what rounding took from a row's sum of 1 is given back to its kept classes."""
    ids, log_probs, rest = tensors["ids"].long(), tensors["log_probs"], tensors["rest"]
    if kept.precision == "8-bit":
        log_probs, rest = log_probs.float() * -STEP, rest.float()
    elif kept.precision != "full":
        log_probs, rest = log_probs.float(), rest.float()
    assert kept.form != "dense"
    found = SparseLogits(kept.form, ids, log_probs, rest, kept.classes, kept.temperature, tail)
    return found if kept.precision == "full" else _whole(found)


def _whole(sparse: SparseLogits) -> SparseLogits:
    """The same with weights that sum to 1: what is not drawn, or not left over, takes what the others leave."""
    probs, rest = sparse.log_probs.exp(), sparse.rest.exp().unsqueeze(-1)
    if sparse.form == "top-k":
        own, left = torch.ones_like(probs, dtype=torch.bool), 1 - rest
    else:
        own = probs >= rest
        left = 1 - rest * (~own).sum(-1, keepdim=True)
    total = torch.where(own, probs, 0.0).sum(-1, keepdim=True)
    share = torch.where((total > 0) & (left > 0), left / total, 1.0).log()
    log_probs = torch.where(own, sparse.log_probs + share, sparse.log_probs)
    return SparseLogits(sparse.form, sparse.ids, log_probs, sparse.rest, sparse.classes, sparse.temperature, sparse.tail)


def coded(values: Tensor, precision: Precision, positions: bool) -> dict[str, Tensor]:
    """Dense signals of a shard as tensors by suffix: "" the numbers, and for eight bits `.low` and `.step` of each channel.

    Args:
        values: (N, ...).
        precision: how they are kept.
        positions: whether channels are the last dimension (tokens) rather than the second (maps).
    """
    if precision == "full":
        return {"": values}
    if precision != "8-bit":
        return {"": values.to(DTYPES[precision])}
    values = values.float()
    channel = values.ndim - 1 if positions or values.ndim == 2 else 1
    others = [dim for dim in range(values.ndim) if dim != channel]
    low, high = values.amin(others), values.amax(others)
    step = ((high - low) / 255).clamp(min=torch.finfo(torch.float32).tiny)
    along = [-1 if dim == channel else 1 for dim in range(values.ndim)]
    codes = ((values - low.view(along)) / step.view(along)).round().clamp(0, 255).to(torch.uint8)
    return {"": codes, ".low": low, ".step": step}


def decoded(codes: Tensor, low: Tensor | None, step: Tensor | None, kept: KeptTap) -> Tensor:
    """The signals that were coded, some rows of a shard: as they were, or float32."""
    if kept.precision == "full":
        return codes
    if low is None or step is None:
        return codes.float()
    channel = codes.ndim - 1 if kept.positions or codes.ndim == 2 else 1
    along = [-1 if dim == channel else 1 for dim in range(codes.ndim)]
    return codes.float() * step.view(along) + low.view(along)
