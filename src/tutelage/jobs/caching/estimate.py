"""What a cache will take, before a byte of it is written: the table of `--dry-run`. Times are those of real passes of the teacher."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from tutelage.data import Source
from tutelage.errors import BadInput, printable
from tutelage.jobs.caching.asking import Asked, Asker
from tutelage.jobs.progress import duration
from tutelage.signals.cache import PLAIN, About, KeptSplit, Shard, bytes_a_sample, file_of, is_there
from tutelage.signals.taps import LOGITS

if TYPE_CHECKING:
    from rich.table import Table

ROUNDS = 5
SECONDS = 2.0
"""So many passes are timed at most, and about so long."""
OF_A_SHARD = 700
"""Bytes of a shard's header and of its note, about."""
MARGIN = 64 * 2**20
"""Bytes that stay free."""


@dataclass(frozen=True)
class Row:
    """What is kept of a split, in one view or in several that take the same.

    Args:
        split: its name.
        view: "plain", "view 0", or "views 0 to 3".
        samples: in each view.
        shards: files in all of these views.
        there: how many of them are written already.
        bytes_a_sample: in one view, by signal.
        bytes: of all, those that are there included.
        left: bytes that are still to be written.
        passes: of the teacher that are still to be made.
        seconds: that these take, about.
    """

    split: str
    view: str
    samples: int
    shards: int
    there: int
    bytes_a_sample: Mapping[str, float]
    bytes: int
    left: int
    passes: int
    seconds: float


def timed(asker: Asker, about: About, sources: Mapping[str, Source], taps: Mapping[str, str]) -> tuple[float, float]:
    """Ask the teacher about a few batches as the writing will, after one that is not counted.

    Returns:
        Seconds of a pass, all that is done with it included, and the mean number of positions of a sample.

    Raises:
        BadInput: a signal is NaN or infinite.
        ShapeMismatch: batches differ in the shape of a signal.
    """
    kept, source = about.splits["train"], sources["train"]
    batches = -(-kept.samples // asker.batch_size)
    chosen = torch.linspace(batches - 1, 0, min(ROUNDS, batches)).long().tolist()  # from all of the data, the last batch first: not alike
    views = [PLAIN, *([0] if kept.views else [])]
    seconds: list[float] = []
    positions: list[float] = []
    start = time.perf_counter()
    for turn, number in enumerate([0, *chosen]):
        begun = time.perf_counter()
        shard = Shard(kept)
        rows = torch.arange(number * asker.batch_size, min((number + 1) * asker.batch_size, kept.samples))
        asked = asker.add(shard, source, rows, views[turn % len(views)], taps)
        shard.tensors()
        seconds.append(time.perf_counter() - begun)
        positions.append(_length(asked, kept))
        if turn and time.perf_counter() - start > SECONDS:
            break
    counted = seconds[1:]
    return sum(counted) / len(counted), sum(positions) / len(positions)


def _length(asked: Asked, kept: KeptSplit) -> float:
    """Positions of a sample, on average over a batch."""
    if kept.ragged and asked.mask is not None:
        return float(asked.mask.bool().sum() / len(asked.mask))
    rows = [LOGITS] if kept.logits is not None and kept.logits.positions else [name for name, tap in kept.taps.items() if tap.positions]
    return float(asked.signals[rows[0]].shape[1]) if rows else 1.0


def rows_of(about: About, folder: Path, batch_size: int, seconds: float, positions: float, dtype: torch.dtype) -> list[Row]:
    """The table.

    Args:
        about: what the cache will hold.
        folder: where; shards that are there need not be written.
        batch_size: samples a pass.
        seconds: of a pass.
        positions: of a sample, on average.
        dtype: of the teacher's numbers.
    """
    found = []
    for split, kept in about.splits.items():
        sizes = bytes_a_sample(kept, positions, dtype)
        each = sum(sizes.values()) + 8 + 4 * kept.ragged
        for label, views in _views(kept):
            shards = [(view, number) for view, number in kept.shards if view in views]
            missing = [(view, number) for view, number in shards if not is_there(file_of(folder, split, view, number))]
            counts = [len(kept.rows(number)) for _, number in missing]
            passes = sum(-(-count // batch_size) for count in counts)
            whole = round(each * kept.samples * len(views)) + OF_A_SHARD * len(shards)
            left = round(each * sum(counts)) + OF_A_SHARD * len(missing)
            there = len(shards) - len(missing)
            found.append(Row(split, label, kept.samples, len(shards), there, sizes, whole, left, passes, passes * seconds))
    return found


def _views(kept: KeptSplit) -> list[tuple[str, range]]:
    augmented = "view 0" if kept.views == 1 else f"views 0 to {kept.views - 1}"
    return [("plain", range(PLAIN, 0)), *([(augmented, range(kept.views))] if kept.views else [])]


def check_space(rows: Sequence[Row], folder: Path, max_gib: float | None) -> None:
    """Refuse a cache that is larger than somebody allows, or than the disk can hold.

    Raises:
        BadInput: says both sizes.
    """
    whole, left = sum(row.bytes for row in rows), sum(row.left for row in rows)
    if max_gib is not None and whole > max_gib * 2**30:
        raise BadInput(
            f"the cache would take {size(whole)}, and at most {max_gib:g} GiB are allowed; keep fewer classes, taps or views, "
            "or a lower precision"
        )
    free = free_at(folder)
    if left > free - MARGIN:
        raise BadInput(
            f"the cache would take {size(left)}, but {folder} has {size(free)} free, of which {size(MARGIN)} must stay so; keep fewer "
            "classes, taps or views, or choose another --out"
        )


def free_at(folder: Path) -> int:
    """Bytes that are free where a folder is, or will be."""
    place = folder.absolute()
    while not place.exists():
        place = place.parent
    return shutil.disk_usage(place).free


def size(count: float) -> str:
    """Bytes in a unit that suits them."""
    for unit, least in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if count >= least:
            return f"{count / least:,.1f} {unit}"
    return f"{count:,.0f} B"


def table_of(rows: Sequence[Row], title: str) -> Table:
    """The rows for people."""
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(printable(title)), title_justify="left")
    for column in ("split", "view"):
        table.add_column(column)
    for column in ("samples", "shards", "bytes a sample", "size", "passes", "time, roughly"):
        table.add_column(column, justify="right")
    for row in rows:
        taps = [f"{printable(name)} {value:,.0f}" for name, value in row.bytes_a_sample.items()]
        shards = f"{row.shards:,}" + (f", {row.there:,} there" if row.there else "")
        cells = (f"{row.samples:,}", shards, "\n".join(taps), size(row.bytes), f"{row.passes:,}", duration(row.seconds))
        table.add_row(row.split, row.view, *map(Text, cells))
    table.add_section()
    whole = (sum(row.bytes for row in rows), sum(row.passes for row in rows), sum(row.seconds for row in rows))
    table.add_row("total", "", "", f"{sum(row.shards for row in rows):,}", "", size(whole[0]), f"{whole[1]:,}", duration(whole[2]))
    return table
