"""Caches of made-up signals, for tests of the store: what each sample shows in each view is known as a plain tensor."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tutelage.signals.cache import PLAIN, About, Cache, KeptLogits, KeptSplit, KeptTap, Shard, file_of, note_for, write_shard

TEACHER = {"name": "toy", "spec": None, "weights": "3f2a", "preprocessing": {"kind": "none"}}
DATA = {"name": "made-up", "classes": []}

Shown = Mapping[int, Mapping[str, Tensor]]
"""By view, by signal: (N, ...) of all samples."""


def about_of(splits: Mapping[str, KeptSplit], **fields: Any) -> About:
    """A description."""
    return About(**{"teacher": TEACHER, "data": DATA, "splits": splits, "seed": 0, **fields})


def write(
    folder: Path,
    kept: KeptSplit,
    ids: Tensor,
    shown: Shown,
    *,
    uniforms: Tensor | None = None,
    mask: Tensor | None = None,
    batch: int = 3,
    split: str = "train",
    **fields: Any,
) -> Cache:
    """Write a cache of one split, its shards batch by batch as a teacher would be asked.

    Args:
        folder: where.
        kept: the split's description.
        ids: of the samples, (N,).
        shown: signals by view and name.
        uniforms: of sampled logits, (N,) or (N, T).
        mask: of ragged samples, (N, T).
        batch: samples a batch.
        split: its name.
        fields: others of the description.
    """
    about = about_of({split: kept}, **fields)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "cache.json").write_text(about.text())
    for view, number in kept.shards:
        shard = Shard(kept)
        for rows in torch.tensor(list(kept.rows(number))).split(batch):
            shard.add(
                ids[rows],
                {name: signal[rows] for name, signal in shown[view].items()},
                uniforms=None if uniforms is None else uniforms[rows],
                mask_BT=None if mask is None else mask[rows],
            )
        write_shard(file_of(folder, split, view, number), shard.tensors(), note_for(about.fingerprint, split, kept, view, number))
    return Cache(folder)


def dense(folder: Path, samples: int = 7, per_shard: int = 3, views: int = 0, classes: int = 5, seed: int = 0, **fields: Any) -> Cache:
    """A cache of plain logits and a small tap, float32, ids 10, 11, ..."""
    made = torch.Generator().manual_seed(seed)
    kept = KeptSplit(samples, per_shard, "data", KeptLogits("dense", classes, classes), {"tap": KeptTap("layer", (2, 3))}, views)
    shown = {
        view: {"logits": torch.randn(samples, classes, generator=made), "tap": torch.randn(samples, 2, 3, generator=made)}
        for view in range(PLAIN, views)
    }
    return write(folder, kept, torch.arange(samples) + 10, shown, **fields)
