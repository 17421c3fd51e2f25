"""Cached: a teacher that was asked once; what it showed lies on disk. Shapes: B batch."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

import torch

from tutelage.data import Source
from tutelage.errors import BadInput, nearest
from tutelage.signals import Batch, Signals, Tail, Tap
from tutelage.signals.cache import Cache, Split, check_source
from tutelage.signals.sparse import TAILS
from tutelage.signals.taps import LOGITS
from tutelage.teachers.teacher import Gives, Teacher, Views


class Cached(Teacher):
    """A teacher's signals from a cache that `tutelage cache` wrote, looked up by (id, view); no model is run, or even there.

    A batch's column `view` says in which view each sample is studied; without one, or where the cache has plain samples only, it is the
    sample as it is. All bits of the split are compared with their checksums when it is first asked, once in a process.

    Args:
        path: the cache's folder.
        split: which of its splits.
        tail: what objectives make of the classes that top-k left out: "bucket", "renormalize" or "spread".

    Raises:
        MissingFile: there is no cache.
        Mismatch: it has another format.
        DamagedCache: it is not finished, or not what was written.
        BadInput: no such split, or an unknown tail.

    Relations: with full precision it teaches as the model itself does, bit for bit where the model was asked in batches of the same shape.
    """

    def __init__(self, path: str | Path, split: str = "train", *, tail: Tail = "bucket") -> None:
        if tail not in TAILS:
            raise BadInput(f"Cached(tail={tail!r}): expected {', '.join(TAILS)}{nearest(str(tail), TAILS)}")
        self.path, self.split, self.tail = Path(path), split, tail
        self.cache = Cache(self.path)
        self.about = self.cache.about
        if split not in self.about.splits:
            raise BadInput(f"the cache {path} holds nothing of the split {split!r}; it has {', '.join(self.about.splits)}")
        self.kept = self.about.splits[split]
        said = self.kept.logits.said if self.kept.logits else "taps"
        self.name = f"{self.about.teacher.get('name')} in cache {path} ({said})"
        self._by_tap = {**{tap.path: name for name, tap in self.kept.taps.items()}, **{name: name for name in self.kept.taps}}
        self.gives = Gives(
            forms=frozenset({self.kept.logits.form} if self.kept.logits else ()),
            taps=frozenset(self._by_tap),
            new_inputs=False,
            views=Views(self.kept.views, self.about.seed if self.kept.views else 0),
        )
        self._read: Split | None = None

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of what the logits stand for, in order; empty where the cache does not say."""
        return tuple(map(str, self.about.data.get("classes") or ()))

    def of(self, split: str) -> Cached | None:
        """The same cache's signals of another split; None where it holds none."""
        return Cached(self.path, split, tail=self.tail) if split in self.about.splits else None

    def check(self, source: Source) -> None:
        """Refuse other data than those that the cache was written for.

        Args:
            source: the split at hand.

        Raises:
            Mismatch: names both sides.
        """
        check_source(self.cache, self.split, source.fingerprint(), source.name)

    def open(self) -> None:
        """Open the split, and compare it with its checksums; otherwise that is done when it is first asked.

        Raises:
            DamagedCache: it is not finished, or not what was written.
        """
        self._opened()

    def begin_stage(self, run: Any) -> None:
        """Open the split before anything trains."""
        self.open()

    def _opened(self) -> Split:
        if self._read is None:
            self._read = self.cache.split(self.split)
        return self._read

    def signals(self, batch: Batch, taps: Collection[Tap], *, view: str | None = None) -> Signals:
        """What the teacher showed on these samples.

        Raises:
            BadInput: a sample, tap or view that the cache does not hold, or a batch whose mask has other positions than were kept.
        """
        if view is not None:
            raise BadInput(f"view {view!r} asks the teacher about new inputs, which a cache cannot answer; use the model itself")
        names = {tap: self._by_tap.get(str(tap), str(tap)) for tap in taps if tap != LOGITS}
        ids_B = batch["id"]
        asked = {column: batch[column].cpu() for column in ("view", "mask") if column in batch}
        read = self._opened().read(
            ids_B.cpu(),
            asked.get("view") if self.kept.views else None,
            taps=set(names.values()),
            logits=LOGITS in taps,
            tail=self.tail,
            mask_BT=asked.get("mask") if self.kept.ragged else None,
        )
        there = ids_B.device
        if there != torch.device("cpu"):
            read = {name: signal.to(there) for name, signal in read.items()}
        return Signals({tap: read[names[tap]] if tap in names else read[LOGITS] for tap in taps})
