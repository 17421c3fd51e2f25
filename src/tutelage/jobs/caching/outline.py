"""From what is wanted and what the teacher shows on a first batch to what a cache will hold. Shapes: B batch, T positions, V classes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from tutelage.data import Data, Source, Table
from tutelage.errors import BadInput, ShapeMismatch
from tutelage.jobs.caching.asking import Asked, Asker
from tutelage.jobs.caching.wish import Wish
from tutelage.signals.cache import PLAIN, About, KeptLogits, KeptSplit, KeptTap, bytes_a_sample, preprocessing_of, weights_of
from tutelage.signals.cache.about import MOST_SHARDS
from tutelage.signals.taps import LOGITS

MOST_SAMPLES = 8192
"""In a shard, however small they are: what an interruption can cost."""
MOST_POSITIONS = 2**17
"""Of all of a shard's samples: where each has many, fewer of them take the teacher as long."""
BESIDE = 8 + 4
"""Bytes of a sample's id and of its length, at most."""


def splits_of(data: Data, evaluation: bool) -> dict[str, Source]:
    """The splits that are kept, by name."""
    held = {"validation": data.validation, "test": data.test} if evaluation else {}
    return {"train": data.train, **{name: source for name, source in held.items() if source is not None}}


def first_of(asker: Asker, source: Source, taps: Mapping[str, str], logits: bool) -> Asked:
    """What the teacher shows of a split's first samples."""
    return asker.ask(source, torch.arange(min(asker.batch_size, len(source))), PLAIN, taps, logits)


def outlined(
    wish: Wish,
    asker: Asker,
    data: Data,
    sources: Mapping[str, Source],
    taps: Mapping[str, str],
    first: Asked,
    shard_mib: float,
) -> About:
    """What the cache will hold.

    Args:
        wish: what is wanted.
        asker: asks the teacher.
        data: what is studied.
        sources: the splits of it that are kept.
        taps: paths by the names under which they are kept.
        first: what the teacher showed of the first training samples, its logits included where it gives any.
        shard_mib: about how large a shard is.

    Raises:
        BadInput: more classes wanted than there are, ids that occur twice, or so many shards that something must be wrong.
        ShapeMismatch: logits or a mask of a shape that cannot be kept.
    """
    for source in sources.values():
        if source.ids().unique().numel() != len(source):
            raise BadInput(f"some ids of {source.name} occur twice; a cache is read by them, so each sample needs one of its own")
    logits = first.signals.get(LOGITS)
    ragged = _ragged(data.train, first, logits)
    positions = logits is not None and logits.ndim == 3
    kept_logits = None if wish.form is None or logits is None else _logits(wish, logits)
    kept_taps = {name: _tap(first.signals[name], path, wish, logits if positions else None) for name, path in taps.items()}
    dense = None if logits is None else KeptLogits("dense", logits.shape[-1], logits.shape[-1], 1.0, "full", positions)
    splits = {}
    for name, source in sources.items():
        study = name == "train"
        found = kept_logits if study else dense
        its = ragged if study else positions and _ragged(source, None, logits)
        kept = KeptSplit(
            len(source), 1, source.fingerprint(), found, kept_taps if study else {}, wish.views if study else 0, its and positions
        )
        splits[name] = _cut(kept, first, asker.batch_size, shard_mib)
    model = asker.model
    teacher = {
        "name": model.name,
        "spec": model.spec,
        "weights": weights_of(model.module),
        "preprocessing": preprocessing_of(model),
        "asked": {"batch_size": wish.batch_size, "precision": asker.run.options.precision},
    }
    return About(teacher, {"name": data.name, "classes": list(map(str, data.classes))}, splits, wish.seed)


def _logits(wish: Wish, logits: Tensor) -> KeptLogits:
    classes = logits.shape[-1]
    if wish.kept > classes:
        said = f"{'top' if wish.form == 'top-k' else 'sample'}-{wish.kept}"
        raise BadInput(f"keep={said}, but the teacher gives {classes} logits; keep at most {classes} of them, or all")
    assert wish.form is not None
    return KeptLogits(wish.form, classes, wish.kept or classes, wish.temperature, wish.logits_as, logits.ndim == 3)


def _tap(signal: Tensor, path: str, wish: Wish, logits_BTV: Tensor | None) -> KeptTap:
    if not signal.is_floating_point():
        raise BadInput(f"the teacher's signal at {path!r} is of type {signal.dtype}; a cache keeps floating-point numbers")
    positions = logits_BTV is not None and signal.ndim > 2 and signal.shape[1] == logits_BTV.shape[1]
    return KeptTap(path, tuple(signal.shape[2 if positions else 1 :]), wish.taps_as, positions)


def _ragged(source: Source, asked: Asked | None, logits: Tensor | None) -> bool:
    """Whether samples may differ in their number of positions: they have a mask, which is not known to be true everywhere."""
    if logits is not None and logits.ndim not in (2, 3):
        raise ShapeMismatch(
            f"the teacher's logits have shape {tuple(logits.shape)} for a batch; a cache keeps (B, V), or (B, T, V) with a row for each "
            "position"
        )
    if logits is None or logits.ndim == 2:
        return False
    mask = (asked.batch if asked is not None else source.batch(torch.tensor([0]))).get("mask")
    if not isinstance(mask, Tensor) or mask.ndim != 2:
        return False
    if asked is not None and mask.shape[1] != logits.shape[1]:
        raise ShapeMismatch(f"the mask of {source.name} has shape {tuple(mask.shape)}, the teacher's logits {tuple(logits.shape)}")
    whole = source.columns.get("mask") if type(source) is Table else None
    return not (isinstance(whole, Tensor) and bool(whole.bool().all()))


def _cut(kept: KeptSplit, first: Asked, batch_size: int, shard_mib: float) -> KeptSplit:
    """The same in shards of about so many MiB, each of whole batches, and with no more samples than an interruption may cost."""
    size = sum(bytes_a_sample(kept, positions_of(first), dtype_of(first)).values()) + BESIDE
    most = min(MOST_SAMPLES, int(MOST_POSITIONS / positions_of(first)))
    batches = max(1, min(int(shard_mib * 2**20 / (size * batch_size)), most // batch_size))
    count = (kept.views + 1) * -(-kept.samples // (batches * batch_size))
    if count > MOST_SHARDS:
        raise BadInput(f"a cache of {count:,} shards is more than a folder should hold; take a larger batch_size, or fewer views")
    return replace(kept, per_shard=batches * batch_size)


def positions_of(first: Asked) -> float:
    """Positions of a sample, as far as a first batch tells: the longest."""
    logits = first.signals.get(LOGITS)
    return float(logits.shape[1]) if logits is not None and logits.ndim == 3 else 1.0


def dtype_of(first: Asked) -> torch.dtype:
    """The type of the teacher's numbers."""
    return next(iter(first.signals.values())).dtype
