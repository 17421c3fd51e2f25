"""Write a small cache by the parts of the store alone, for tests of what reads it."""

from __future__ import annotations

from pathlib import Path

import torch

from tutelage.data import Source
from tutelage.data.hashing import uniforms
from tutelage.signals import Model, Tap
from tutelage.signals.cache import (
    PLAIN,
    About,
    KeptLogits,
    KeptSplit,
    KeptTap,
    Shard,
    file_of,
    note_for,
    preprocessing_of,
    weights_of,
    write_shard,
)
from tutelage.teachers import Frozen


def write_cache(
    folder: Path,
    model: Model,
    splits: dict[str, Source],
    *,
    logits: KeptLogits | None,
    taps: tuple[Tap, ...] = (),
    views: int = 0,
    seed: int = 0,
    per_shard: int = 8,
    batch: int | None = None,
    classes: tuple[str, ...] = (),
) -> About:
    """What a teacher shows of some splits; the views are of the first one, the others are kept plain and dense."""
    kept = {}
    for number, (name, source) in enumerate(splits.items()):
        two = source.batch(torch.arange(2))
        probe = Frozen(model).signals(two, {"logits", *taps})
        shapes = {str(tap): KeptTap(model.path(tap, two), tuple(probe[tap].shape[1:])) for tap in taps} if number == 0 else {}
        dense = KeptLogits("dense", probe["logits"].shape[-1], probe["logits"].shape[-1])
        kept[name] = KeptSplit(
            len(source), per_shard, source.fingerprint(), logits if number == 0 else dense, shapes, views * (number == 0)
        )
    about = About(
        {"name": model.name, "spec": model.spec, "weights": weights_of(model.module), "preprocessing": preprocessing_of(model)},
        {"name": "toy", "classes": list(classes)},
        kept,
        seed,
    )
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "cache.json").write_text(about.text())
    for name, split in kept.items():
        for view, number in split.shards:
            shard, rows = Shard(split), torch.tensor(list(split.rows(number)))
            for positions in rows.split(batch or len(rows)):
                seen = None if view == PLAIN else torch.full_like(positions, view)
                read = splits[name].batch(positions, seed=seed, views=seen)
                shown = Frozen(model).signals(read, {"logits", *(tap for tap in taps if str(tap) in split.taps)})
                drawn = uniforms(seed, read["id"], torch.full_like(positions, view + 1), 1, "sampled logits")[:, 0]
                shard.add(read["id"], {str(tap): signal for tap, signal in shown.items()}, uniforms=drawn)
            write_shard(file_of(folder, name, view, number), shard.tensors(), note_for(about.fingerprint, name, split, view, number))
    return about
