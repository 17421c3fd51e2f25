"""Read a cache: signals by (id, view), whatever batch they are asked for in. Shapes: B batch, T positions, N samples of a split."""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tutelage.errors import BadInput, Mismatch, nearest
from tutelage.signals.cache.about import PLAIN, DamagedCache, KeptSplit, read_about
from tutelage.signals.cache.codes import decoded, sparse_parts, unpack
from tutelage.signals.cache.layout import check_tensors
from tutelage.signals.cache.rows import Place, Rows
from tutelage.signals.cache.shards import check_shard, file_of, is_there, open_shard
from tutelage.signals.sparse import SparseLogits, Tail

SHOWN = 3
"""Samples that a message names."""


class Cache:
    """A folder of signals.

    Args:
        folder: what `tutelage cache` wrote.

    Raises:
        MissingFile: there is no cache.
        Mismatch: it is of another format.
        DamagedCache: its description is damaged.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.about = folder, read_about(folder)

    def split(self, name: str, *, progress: Callable[[int, int], None] | None = None) -> Split:
        """The signals of a split; all its bits are compared with their checksums, once in a process.

        Args:
            name: which.
            progress: is told how many bytes were compared, and of how many, from time to time.

        Raises:
            BadInput: it holds no such split.
            DamagedCache: the writing was not finished, or a shard is not what was written.
        """
        if name not in self.about.splits:
            raise BadInput(f"the cache {self.folder} holds nothing of the split {name!r}; it has {', '.join(self.about.splits)}")
        return Split(self, name, progress=progress)

    def missing(self, *splits: str) -> list[Path]:
        """Shards that are not written yet, of some splits or of all."""
        return [
            path
            for name in splits or self.about.splits
            for view, number in self.about.splits[name].shards
            if not is_there(path := file_of(self.folder, name, view, number))
        ]


class Split:
    """What a cache holds of one split; checked when it is opened, so that nothing is found out in the middle of a training.

    It may be sent to another process, which opens the shards again.

    Args:
        cache: whose.
        name: which.
        progress: is told how many bytes were compared, and of how many.
    """

    def __init__(self, cache: Cache, name: str, *, progress: Callable[[int, int], None] | None = None) -> None:
        self.cache, self.name = cache, name
        self.kept: KeptSplit = cache.about.splits[name]
        missing = cache.missing(name)
        if missing:
            raise DamagedCache(
                f"the cache {cache.folder} is not finished: {len(missing)} of {len(self.kept.shards)} shards of {name} are missing "
                f"({missing[0].name}); run the command that writes it again"
            )
        self._open: dict[tuple[int, int], Rows] = {}
        try:
            self._check(progress)
        except DamagedCache as error:
            raise DamagedCache(f"{error}; run the command that writes the cache again, which makes damaged shards anew") from None

    def _check(self, progress: Callable[[int, int], None] | None) -> None:
        files = {key: file_of(self.cache.folder, self.name, *key) for key in self.kept.shards}
        done, whole = 0, sum(file.stat().st_size for file in files.values()) if progress else 0

        def compared(count: int) -> None:
            nonlocal done
            done += count
            if progress is not None:
                progress(done, whole)

        for key, file in files.items():
            check_shard(file, self.note(*key), compared=compared)
            self._rows(key)
        if not self._counted and len(self.ids.unique()) != self.kept.samples:
            raise DamagedCache(f"an id occurs twice in {self.name} of {self.cache.folder}")

    def __getstate__(self) -> dict[str, Any]:
        return {"cache": self.cache, "name": self.name, "kept": self.kept, "_open": {}}

    def note(self, view: int, number: int) -> dict[str, str | int]:
        """What the note of a shard must say."""
        return note_for(self.cache.about.fingerprint, self.name, self.kept, view, number)

    def shard(self, view: int, number: int) -> dict[str, Tensor]:
        """The tensors of a shard."""
        return self._rows((view, number)).tensors

    def _rows(self, key: tuple[int, int]) -> Rows:
        if key not in self._open:
            self._open[key] = self._opened(*key)
        return self._open[key]

    def _opened(self, view: int, number: int) -> Rows:
        """A shard, whose tensors are as described, of the types and shapes of the first one, and of the samples of the plain one."""
        path = file_of(self.cache.folder, self.name, view, number)
        tensors = open_shard(path)
        check_tensors(tensors, self.kept, len(self.kept.rows(number)), str(path))
        if (view, number) != (PLAIN, 0):
            first = self.shard(PLAIN, 0)
            other = next((n for n, t in tensors.items() if (t.dtype, t.shape[1:]) != (first[n].dtype, first[n].shape[1:])), None)
            if other is not None:
                raise DamagedCache(
                    f"{path} has {other!r} as {tensors[other].dtype} {tuple(tensors[other].shape)}, "
                    f"the first shard as {first[other].dtype} {tuple(first[other].shape)}"
                )
        if view != PLAIN and not tensors["id"].equal(self.shard(PLAIN, number)["id"]):
            raise DamagedCache(f"{path} holds other samples than the plain shard of that number")
        return Rows(tensors)

    @functools.cached_property
    def ids(self) -> Tensor:
        """The ids of all samples, int64 (N,), in the order in which they are kept."""
        return torch.cat([self.shard(PLAIN, number)["id"] for view, number in self.kept.shards if view == PLAIN])

    @functools.cached_property
    def _counted(self) -> bool:
        """Whether ids are the positions, which need not be looked up."""
        return self.ids.equal(torch.arange(len(self.ids)))

    @functools.cached_property
    def _sorted(self) -> tuple[Tensor, Tensor]:
        return self.ids.sort()

    def places(self, ids_B: Tensor) -> Tensor:
        """Where samples lie, int64 (B,).

        Raises:
            BadInput: a sample that the cache does not hold; names it.
        """
        if ids_B.dtype != torch.int64 or ids_B.ndim != 1:
            raise BadInput(f"a cache is read by ids, int64 (B,), not {ids_B.dtype} {tuple(ids_B.shape)}")
        if self._counted:
            places_B, absent_B = ids_B, (ids_B < 0) | (ids_B >= self.kept.samples)
        else:
            known, order = self._sorted
            at = torch.searchsorted(known, ids_B).clamp(max=len(known) - 1)
            places_B, absent_B = order[at], known[at] != ids_B
        if absent_B.any():
            absent = ids_B[absent_B].tolist()
            raise BadInput(
                f"the cache {self.cache.folder} holds nothing of {len(absent)} samples of {self.name} "
                f"(id {', '.join(map(str, absent[:SHOWN]))}); it was written for other data"
            )
        return places_B

    def read(
        self,
        ids_B: Tensor,
        views_B: Tensor | None = None,
        *,
        taps: Collection[str] = (),
        logits: bool = True,
        tail: Tail = "bucket",
        mask_BT: Tensor | None = None,
    ) -> dict[str, Tensor | SparseLogits]:
        """The signals of samples.

        Args:
            ids_B: which, int64.
            views_B: in which view, int64, -1 for the plain sample; None means plain.
            taps: names of taps, as they were kept.
            logits: whether the logits are wanted, under "logits".
            tail: how objectives shall read top-k logits.
            mask_BT: of ragged samples, which positions the asker wants, as many as were kept; None for a sample's first ones.

        Returns:
            By name, (B, ...), in memory of its own. With positions (B, T, ...), T those of the mask or of the longest sample; positions
            that were not kept are zeros, which a mask must leave out.

        Raises:
            BadInput: a tap, sample or view that the cache does not hold, or a mask of other positions than were kept.
        """
        kept = self.kept
        for tap in taps:
            if tap not in kept.taps:
                raise BadInput(f"the cache {self.cache.folder} holds no tap {tap!r}; it has {sorted(kept.taps)}{nearest(tap, kept.taps)}")
        if logits and kept.logits is None:
            raise BadInput(f"the cache {self.cache.folder} holds no logits of {self.name}; write it with --keep all, top-K or sample-K")
        place = self._place(self.places(ids_B), views_B)
        real_BT = self._positions(place, mask_BT, ids_B) if kept.ragged else None
        shown: dict[str, Tensor | SparseLogits] = {tap: self._tap(place, tap, real_BT) for tap in taps}
        if logits and kept.logits is not None:
            shown["logits"] = self._logits(place, tail, real_BT)
        return shown

    def _positions(self, place: Place, mask_BT: Tensor | None, ids_B: Tensor) -> Tensor:
        """The positions that the asker wants, bool (B, T)."""
        if mask_BT is None:
            return place.first()
        real_BT, lengths_B = mask_BT.bool(), torch.tensor(place.lengths(), dtype=torch.int64)
        other_B = real_BT.sum(1) != lengths_B
        if other_B.any():
            at = int(other_B.nonzero()[0])
            raise BadInput(
                f"sample {int(ids_B[at])} of {self.name} has {int(real_BT[at].sum())} unmasked positions here, but the cache "
                f"{self.cache.folder} keeps {int(lengths_B[at])}; cut, tokenise and mask samples as the cache's teacher did"
            )
        return real_BT

    def _place(self, places_B: Tensor, views_B: Tensor | None) -> Place:
        """Where the samples lie in the views that are asked for."""
        views = [PLAIN] * len(places_B)
        if views_B is not None:
            if views_B.dtype != torch.int64 or views_B.shape != places_B.shape:
                raise BadInput(f"views are asked for by numbers, int64 {tuple(places_B.shape)}, not {views_B.dtype} {tuple(views_B.shape)}")
            views = views_B.tolist()
            wrong = next((view for view in views if not PLAIN <= view < self.kept.views), None)
            if wrong is not None:
                raise BadInput(f"the cache {self.cache.folder} holds {self.kept.views} views of a sample; view {wrong} was asked for")
        size = self.kept.per_shard
        places = places_B.tolist()
        shards = [self._rows((view, place // size)) for view, place in zip(views, places, strict=True)]
        return Place(shards or [self._rows((PLAIN, 0))], [place % size for place in places])

    def _logits(self, place: Place, tail: Tail, real_BT: Tensor | None) -> Tensor | SparseLogits:
        kept = self.kept.logits
        assert kept is not None

        def read(name: str) -> Tensor:
            return place.read_ragged(name, real_BT) if kept.positions and real_BT is not None else place.read(name)

        if kept.form == "dense":
            logits = read("logits")
            return logits if kept.precision == "full" else logits.float()
        return unpack({name: read(f"logits.{name}") for name in sparse_parts(kept)}, kept, tail)

    def _tap(self, place: Place, name: str, real_BT: Tensor | None) -> Tensor:
        kept = self.kept.taps[name]
        kept_BT = real_BT if kept.positions else None
        found = place.read_ragged(f"tap.{name}", kept_BT) if kept_BT is not None else place.read(f"tap.{name}")
        if kept.precision == "full":
            return found
        if kept.precision != "8-bit":
            return found.float()
        found = decoded(found, place.of_shards(f"tap.{name}.low"), place.of_shards(f"tap.{name}.step"), kept)
        if kept_BT is not None:  # zeros were added as codes
            found[~kept_BT] = 0
        return found


def note_for(fingerprint: str, name: str, kept: KeptSplit, view: int, number: int) -> dict[str, str | int]:
    """What the note of a shard must say: of which cache it is and which samples it holds, in which view."""
    rows = kept.rows(number)
    return {"cache": fingerprint, "split": name, "view": view, "first": rows.start, "samples": len(rows)}


def check_source(cache: Cache, split: str, data: str, name: str) -> None:
    """Refuse data other than those that a split was written for.

    Args:
        cache: the cache.
        split: which.
        data: fingerprint of the source at hand.
        name: how messages call it.

    Raises:
        Mismatch: names both.
    """
    kept = cache.about.splits.get(split)
    if kept is not None and kept.data != data:
        raise Mismatch(
            f"the signals in {cache.folder} are of {cache.about.data.get('name')} ({split} {kept.data}), this run studies {name} "
            f"({split} {data}): samples, labels or augmentation differ; give the same data, or write a cache for these"
        )
