"""Which tensors a shard has, of which types and shapes: what a writer makes, and what a reader believes nobody without looking.

Shapes: N samples of a shard, S positions of all of them one after the other, T positions of each.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from tutelage.signals.cache.about import DamagedCache, KeptLogits, KeptSplit, KeptTap
from tutelage.signals.cache.codes import DTYPES, FLOATS, channels, ids_in_range, sparse_parts

Per: TypeAlias = Literal["sample", "position", "shard"]


@dataclass(frozen=True)
class Part:
    """A tensor of a shard.

    Args:
        dtypes: those it may have.
        shape: of one of what it has.
        per: what it has one for.
    """

    dtypes: tuple[torch.dtype, ...]
    shape: tuple[int, ...] = ()
    per: Per = "sample"


def parts(kept: KeptSplit) -> dict[str, Part]:
    """The tensors of a split's shards by name."""
    found = {"id": Part((torch.int64,))}
    if kept.ragged:
        found["lengths"] = Part((torch.int32,))
    if kept.logits is not None:
        found |= logits_parts(kept.logits)
    for name, tap in kept.taps.items():
        found |= {f"tap.{name}{suffix}": part for suffix, part in tap_parts(tap).items()}
    return found


def logits_parts(kept: KeptLogits) -> dict[str, Part]:
    """The tensors that hold logits."""
    per: Per = "position" if kept.positions else "sample"
    if kept.form == "dense":
        return {"logits": Part(_dtypes(kept.precision), (kept.classes,), per)}
    return {f"logits.{name}": Part(dtypes, shape, per) for name, (dtypes, shape) in sparse_parts(kept).items()}


def tap_parts(kept: KeptTap) -> dict[str, Part]:
    """The tensors that hold a tap's signal, by suffix."""
    per: Per = "position" if kept.positions else "sample"
    found = {"": Part(_dtypes(kept.precision), kept.shape, per)}
    if kept.precision == "8-bit":
        found |= {suffix: Part((torch.float32,), (channels(kept),), "shard") for suffix in (".low", ".step")}
    return found


def _dtypes(precision: str) -> tuple[torch.dtype, ...]:
    return FLOATS if precision == "full" else (DTYPES.get(precision, torch.uint8),)


def check_tensors(tensors: Mapping[str, Tensor], kept: KeptSplit, samples: int, where: str) -> None:
    """Refuse a shard whose tensors are not what the description says.

    Args:
        tensors: of the shard.
        kept: the description.
        samples: that it must hold.
        where: how messages call it.

    Raises:
        DamagedCache: names the first tensor that is missing, or has another type or shape, or numbers that cannot be.
    """
    wanted = parts(kept)
    odd = sorted(wanted.keys() ^ tensors.keys())
    if odd:
        raise DamagedCache(f"{where} {'lacks the tensor' if odd[0] in wanted else 'has a tensor too many,'} {odd[0]!r}")
    for name, part in wanted.items():
        tensor = tensors[name]
        lead: tuple[int, ...] = ()
        if part.per == "position" and kept.ragged:
            lead = (int(tensors["lengths"].sum()),)
        elif part.per == "position":
            lead = (samples, tensor.shape[1] if tensor.ndim > 1 else 1)
        elif part.per == "sample":
            lead = (samples,)
        if tensor.dtype not in part.dtypes or tensor.shape != (*lead, *part.shape):
            raise DamagedCache(
                f"{where} has the tensor {name!r} of {tensor.dtype} {tuple(tensor.shape)}; "
                f"expected {' or '.join(map(str, part.dtypes))} {(*lead, *part.shape)}"
            )
        if name == "lengths" and int(tensor.min()) < 0:
            raise DamagedCache(f"{where} has a sample of {int(tensor.min())} positions")
    if kept.logits is not None and kept.logits.form != "dense":
        logits = {name: tensors[f"logits.{name}"] for name in sparse_parts(kept.logits)}
        if not ids_in_range(logits, kept.logits.classes):
            raise DamagedCache(f"{where} names a class that is none of {kept.logits.classes:,}")


def bytes_a_sample(kept: KeptSplit, positions: float = 1.0, dtype: torch.dtype = torch.float32) -> dict[str, float]:
    """How many bytes one sample takes in one view, by signal: "logits", and each tap by its name.

    The ids take 8 more, the lengths of ragged samples 4; a shard has a header, a note, and ranges of what is in eight bits.

    Args:
        kept: how they are kept.
        positions: of a sample, on average, where there are any.
        dtype: of the teacher's numbers, for what is kept in full.
    """
    sizes = {} if kept.logits is None else {"logits": bytes_a_row(kept.logits, dtype) * (positions if kept.logits.positions else 1)}
    return sizes | {name: _bytes(tap_parts(tap), dtype) * (positions if tap.positions else 1) for name, tap in kept.taps.items()}


def bytes_a_row(logits: KeptLogits, dtype: torch.dtype = torch.float32) -> int:
    """How many bytes one row of logits takes: one sample, or one token."""
    return _bytes(logits_parts(logits), dtype)


def _bytes(found: Mapping[str, Part], dtype: torch.dtype) -> int:
    rows = [part for part in found.values() if part.per != "shard"]
    return sum(math.prod(part.shape) * (dtype if dtype in part.dtypes else part.dtypes[0]).itemsize for part in rows)
