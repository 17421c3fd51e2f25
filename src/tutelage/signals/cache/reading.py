"""Read a cache: signals by (id, view), whatever batch they are asked for in. Shapes: B batch, T positions, N samples of a split."""

from __future__ import annotations

import functools
from collections.abc import Collection
from pathlib import Path

import torch
from torch import Tensor

from tutelage.errors import BadInput, Mismatch, nearest
from tutelage.signals.cache.about import PLAIN, DamagedCache, KeptSplit, read_about
from tutelage.signals.cache.codes import decoded, unpack
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

    def split(self, name: str) -> Split:
        """The signals of a split.

        Raises:
            BadInput: it holds no such split.
            DamagedCache: the writing was not finished, or a shard is not what was written.
        """
        if name not in self.about.splits:
            raise BadInput(f"the cache {self.folder} holds nothing of the split {name!r}; it has {', '.join(self.about.splits)}")
        return Split(self, name)

    def missing(self) -> list[Path]:
        """Shards that are not written yet."""
        found = []
        for name, split in self.about.splits.items():
            found += [path for view, number in split.shards if not is_there(path := file_of(self.folder, name, view, number))]
        return found


class Split:
    """What a cache holds of one split; checked when it is opened, so that nothing is found out in the middle of a training.

    Args:
        cache: whose.
        name: which.
    """

    def __init__(self, cache: Cache, name: str) -> None:
        self.cache, self.name = cache, name
        self.kept: KeptSplit = cache.about.splits[name]
        missing = [path for path in cache.missing() if path.parent.name == name]
        if missing:
            raise DamagedCache(
                f"the cache {cache.folder} is not finished: {len(missing)} of {len(self.kept.shards)} shards of {name} are missing "
                f"({missing[0].name}); run the command that writes it again"
            )
        self._open: dict[tuple[int, int], dict[str, Tensor]] = {}
        for view, number in self.kept.shards:
            try:
                check_shard(file_of(cache.folder, name, view, number), self.note(view, number))
            except DamagedCache as error:
                raise DamagedCache(f"{error}; run the command that writes the cache again, which makes damaged shards anew") from None

    def note(self, view: int, number: int) -> dict[str, str | int]:
        """What the note of a shard must say."""
        return note_for(self.cache.about.fingerprint, self.name, self.kept, view, number)

    def shard(self, view: int, number: int) -> dict[str, Tensor]:
        """The tensors of a shard."""
        if (view, number) not in self._open:
            self._open[view, number] = open_shard(file_of(self.cache.folder, self.name, view, number))
        return self._open[view, number]

    @functools.cached_property
    def ids(self) -> Tensor:
        """The ids of all samples, int64 (N,), in the order in which they are kept."""
        return torch.cat([self.shard(PLAIN, number)["id"] for view, number in self.kept.shards if view == PLAIN])

    @functools.cached_property
    def _sorted(self) -> tuple[Tensor, Tensor]:
        return self.ids.sort()

    def places(self, ids_B: Tensor) -> Tensor:
        """Where samples lie, int64 (B,).

        Raises:
            BadInput: a sample that the cache does not hold; names it.
        """
        known, order = self._sorted
        at = torch.searchsorted(known, ids_B).clamp(max=len(known) - 1)
        absent = ids_B[known[at] != ids_B]
        if len(absent):
            named = ", ".join(str(i) for i in absent[:SHOWN].tolist())
            raise BadInput(
                f"the cache {self.cache.folder} holds nothing of {len(absent)} samples of {self.name} (id {named}); "
                "it was written for other data"
            )
        return order[at]

    def read(
        self, ids_B: Tensor, views_B: Tensor | None = None, *, taps: Collection[str] = (), logits: bool = True, tail: Tail = "bucket"
    ) -> dict[str, Tensor | SparseLogits]:
        """The signals of samples.

        Args:
            ids_B: which, int64.
            views_B: in which view, int64, -1 for the plain sample; None means plain.
            taps: names of taps, as they were kept.
            logits: whether the logits are wanted, under "logits".
            tail: how objectives shall read top-k logits.

        Returns:
            By name, (B, ...), in memory of its own. With positions (B, T, ...), T those of the longest sample; shorter ones end in zeros,
            which a mask must leave out.

        Raises:
            BadInput: a tap, sample or view that the cache does not hold.
        """
        kept = self.kept
        for tap in taps:
            if tap not in kept.taps:
                raise BadInput(f"the cache {self.cache.folder} holds no tap {tap!r}; it has {sorted(kept.taps)}{nearest(tap, kept.taps)}")
        if logits and kept.logits is None:
            raise BadInput(f"the cache {self.cache.folder} holds no logits of {self.name}; write it with --keep all, top-K or sample-K")
        wanted = [f"tap.{tap}" for tap in taps]
        if logits and kept.logits is not None:
            wanted += ["logits"] if kept.logits.form == "dense" else ["logits.ids", "logits.log_probs", "logits.rest"]
        parts = self._grouped(self.places(ids_B), views_B)
        found = {name: self._gathered(name, parts, len(ids_B)) for name in wanted}
        shown: dict[str, Tensor | SparseLogits] = {tap: found[f"tap.{tap}"] for tap in taps}
        if logits and kept.logits is not None:
            if kept.logits.form == "dense":
                full = kept.logits.precision == "full"
                shown["logits"] = found["logits"] if full else found["logits"].float()
            else:
                shown["logits"] = unpack({name: found[f"logits.{name}"] for name in ("ids", "log_probs", "rest")}, kept.logits, tail)
        return shown

    def _grouped(self, places_B: Tensor, views_B: Tensor | None) -> list[tuple[tuple[int, int], Tensor | slice, Tensor]]:
        """((view, number) of a shard, which of the batch, rows in the shard), for each shard that is touched."""
        numbers_B, rows_B = places_B // self.kept.per_shard, places_B % self.kept.per_shard
        views_B = torch.full_like(places_B, PLAIN) if views_B is None else views_B
        count = self.kept.views
        wrong = views_B[(views_B < PLAIN) | (views_B >= count)]
        if len(wrong):
            raise BadInput(f"the cache {self.cache.folder} holds {count} views of a sample; view {int(wrong[0])} was asked for")
        keys_B = (views_B + 1) * (1 + numbers_B.max()) + numbers_B if len(places_B) else places_B
        keys, inverse_B = keys_B.unique(return_inverse=True)
        if len(keys) <= 1:
            return [((int(views_B[0]), int(numbers_B[0])), slice(None), rows_B)] if len(places_B) else []
        parts: list[tuple[tuple[int, int], Tensor | slice, Tensor]] = []
        order_B = inverse_B.argsort()
        for which in order_B.split(torch.bincount(inverse_B).tolist()):
            first = which[0]
            parts.append(((int(views_B[first]), int(numbers_B[first])), which, rows_B[which]))
        return parts

    def _gathered(self, name: str, parts: list[tuple[tuple[int, int], Tensor | slice, Tensor]], size: int) -> Tensor:
        ragged = self.kept.ragged and self._by_position(name)
        pieces = [(which, self._rows(key, name, rows, ragged)) for key, which, rows in parts]
        if len(pieces) == 1 and isinstance(pieces[0][0], slice):
            return pieces[0][1]
        longest = max((piece.shape[1] for _, piece in pieces), default=0) if ragged else 0
        first = pieces[0][1]
        shape = (size, longest, *first.shape[2:]) if ragged else (size, *first.shape[1:])
        whole = first.new_zeros(shape) if ragged else first.new_empty(shape)
        for which, piece in pieces:
            if ragged:
                whole[which, : piece.shape[1]] = piece
            else:
                whole[which] = piece
        return whole

    def _by_position(self, name: str) -> bool:
        if name.startswith("tap."):
            return self.kept.taps[name.removeprefix("tap.")].positions
        return self.kept.logits is not None and self.kept.logits.positions

    def _rows(self, key: tuple[int, int], name: str, rows: Tensor, ragged: bool) -> Tensor:
        """Some samples of a shard, decoded; ragged ones padded with zeros to the longest of them."""
        shard = self.shard(*key)
        if not ragged:
            read = shard[name][rows]
            padding = None
        else:
            lengths = shard["lengths"].long()
            ends = lengths.cumsum(0)
            own = lengths[rows]
            places = torch.arange(int(own.max()))
            padding = places >= own[:, None]
            read = shard[name][((ends - lengths)[rows, None] + places).clamp(max=int(ends[-1]) - 1)]
        if name.startswith("tap."):
            read = decoded(read, shard.get(f"{name}.low"), shard.get(f"{name}.step"), self.kept.taps[name.removeprefix("tap.")])
        if padding is not None:
            read[padding] = 0
        return read


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
