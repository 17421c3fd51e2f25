"""How signals become the tensors of a shard, and signals again: sparse logits in few bytes, features in eight bits a number.

Shapes: B batch, N samples or positions of a shard, K kept classes, C channels, 1 a row.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from tutelage.errors import BadInput
from tutelage.signals.cache.about import KeptLogits, KeptTap, Precision
from tutelage.signals.sparse import SparseLogits, Tail

STEP = 1 / 16
"""Of the eight-bit codes of log-probabilities, in nats: code c stands for -c / 16; less than exp(-15.9) is kept as that."""

DTYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16}

FLOATS = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
"""What "full" may mean: the teacher's own type."""

MOST_8_BIT = 1e38
"""The largest number kept in eight bits: sums and differences of such numbers are finite in float32."""


WIDE = 1 << 16
"""More classes than this have numbers of three bytes in eight-bit precision: a word of 32 bits holds one and its code."""


def id_dtype(classes: int) -> torch.dtype:
    """The type of class numbers that stand alone: one, two or four bytes, as few as hold the largest."""
    return torch.uint8 if classes <= 1 << 8 else torch.uint16 if classes <= WIDE else torch.int32


def sparse_parts(kept: KeptLogits) -> dict[str, tuple[tuple[torch.dtype, ...], tuple[int, ...]]]:
    """The tensors of sparse logits by name, with the types that they may have and the shape of a row; see `pack`."""
    each = (kept.kept,)
    if kept.precision == "8-bit":
        wide = {"words": ((torch.uint32,), each)}
        apart = {"ids": ((id_dtype(kept.classes),), each), "log_probs": ((torch.uint8,), each)}
        return {**(wide if kept.classes > WIDE else apart), "rest": ((torch.float16,), ())}
    numbers = FLOATS[:2] if kept.precision == "full" else (DTYPES[kept.precision],)
    return {"ids": ((id_dtype(kept.classes),), each), "log_probs": (numbers, each), "rest": (numbers, ())}


def pack(sparse: SparseLogits, precision: Precision) -> dict[str, Tensor]:
    """Sparse logits as tensors for a shard, by name.

    `ids`, `log_probs` and `rest`. In eight bits log-probabilities are codes, and `rest` is float16; of more than 65,536 classes, `words`
    stands for ids and codes: the class's number times 256, and the code.
    """
    ids, log_probs, rest = sparse.ids, sparse.log_probs, sparse.rest
    if precision == "8-bit":
        codes = (-log_probs / STEP).round().clamp(0, 255).to(torch.uint8)
        if sparse.classes > WIDE:
            return {"words": (ids << 8 | codes.long()).to(torch.uint32), "rest": rest.half()}
        return {"ids": ids.to(id_dtype(sparse.classes)), "log_probs": codes, "rest": rest.half()}
    if precision != "full":
        dtype = DTYPES[precision]
        log_probs, rest = log_probs.clamp(min=torch.finfo(dtype).min).to(dtype), rest.to(dtype)
    return {"ids": ids.to(id_dtype(sparse.classes)), "log_probs": log_probs, "rest": rest}


def unpack(tensors: Mapping[str, Tensor], kept: KeptLogits, tail: Tail) -> SparseLogits:
    """The sparse logits that were packed; what rounding took from a row's sum of 1 is given back to its kept classes."""
    assert kept.form != "dense"
    if "words" in tensors:
        words = tensors["words"].long()
        ids, log_probs = words >> 8, words & 255
    else:
        ids, log_probs = tensors["ids"].long(), tensors["log_probs"]
    if kept.precision == "full":
        return SparseLogits(kept.form, ids, log_probs, tensors["rest"], kept.classes, kept.temperature, tail)
    log_probs = log_probs.float() * -STEP if kept.precision == "8-bit" else log_probs.float()
    return _whole(SparseLogits(kept.form, ids, log_probs, tensors["rest"].float(), kept.classes, kept.temperature, tail))


def ids_in_range(tensors: Mapping[str, Tensor], classes: int) -> bool:
    """Whether packed class numbers are all those of classes."""
    numbers = (tensors["words"] if "words" in tensors else tensors["ids"]).numpy()
    largest = int(numbers.max(initial=0)) >> (8 if "words" in tensors else 0)
    return int(numbers.min(initial=0)) >= 0 and largest < classes


def _whole(sparse: SparseLogits) -> SparseLogits:
    """The same with weights that sum to 1: what is not drawn, or not left over, takes what the others leave."""
    probs_K, rest_1 = sparse.log_probs.exp(), sparse.rest.unsqueeze(-1)
    if sparse.form == "top-k":
        own_K, left_1 = torch.ones_like(probs_K, dtype=torch.bool), -rest_1.expm1()
    else:
        own_K = sparse.log_probs >= rest_1
        left_1 = 1 - rest_1.exp() * (~own_K).sum(-1, keepdim=True)
    total_1 = torch.where(own_K, probs_K, 0.0).sum(-1, keepdim=True)
    share_1 = torch.where((total_1 > 0) & (left_1 > 0), left_1 / total_1, 1.0).log()
    return replace(sparse, log_probs=torch.where(own_K, sparse.log_probs + share_1, sparse.log_probs))


def coded(values: Tensor, precision: Precision, positions: bool) -> dict[str, Tensor]:
    """Dense signals of a shard as tensors by suffix: "" the numbers, and for eight bits `.low` and `.step` of each channel.

    Args:
        values: (N, ...).
        precision: how they are kept.
        positions: whether a sample has one for each position; channels are then the last dimension whatever the number of dimensions.

    Raises:
        BadInput: a number is too large for the precision.
    """
    if precision == "full":
        return {"": values}
    if precision != "8-bit":
        found = values.to(DTYPES[precision])
        if found.isinf().any():
            raise _too_large(values, precision)
        return {"": found}
    if not (values.abs() <= MOST_8_BIT).all():
        raise _too_large(values, precision)
    values = values.float()
    after = _after(values.ndim - 1, positions)
    channels_last = values.movedim(-1 - after, -1).reshape(-1, values.shape[-1 - after])
    if not len(channels_last):  # positions of samples that have none
        channels_last = values.new_zeros(1, channels_last.shape[1])
    low, high = channels_last.amin(0), channels_last.amax(0)
    step = ((high - low) / 255).clamp(min=torch.finfo(torch.float32).tiny)
    along = (-1, *[1] * after)
    codes = ((values - low.view(along)) / step.view(along)).round().clamp(0, 255).to(torch.uint8)
    return {"": codes, ".low": low, ".step": step}


def _after(dims: int, positions: bool) -> int:
    """How many dimensions follow the channels': none of vectors (D) and tokens (T, D), all others of maps (C, H, W)."""
    return 0 if positions or dims < 3 else dims - 1


def _too_large(values: Tensor, precision: Precision) -> BadInput:
    return BadInput(f"a number of the teacher's is as large as {values.abs().max():.3g}, too large for {precision}; keep full precision")


def channels(kept: KeptTap) -> int:
    """How many ranges a tap in eight bits has."""
    return kept.shape[-1 - _after(len(kept.shape), kept.positions)]


def decoded(codes: Tensor, low: Tensor, step: Tensor, kept: KeptTap) -> Tensor:
    """Features that were kept in eight bits, float32.

    Args:
        codes: uint8, (B, ...).
        low: what 0 stands for, of each sample's shard, (B, C) or (1, C).
        step: between neighbours, as `low`.
        kept: how they are kept.
    """
    after = _after(len(kept.shape), kept.positions)
    along = (len(low), *[1] * (codes.ndim - 2 - after), -1, *[1] * after)
    return codes.float() * step.view(along) + low.view(along)
