"""Write the shards of a cache: those that are missing or damaged, side by side with other processes that do the same."""

from __future__ import annotations

import contextlib
import errno
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from tutelage.data import Source
from tutelage.errors import BadInput, Failed, Interrupted
from tutelage.jobs.caching.asking import Asker
from tutelage.jobs.caching.claims import LEFT, NAME, Claims, left_over
from tutelage.jobs.caching.progress import Bar
from tutelage.jobs.foreign import refuse_links_out
from tutelage.signals.cache import (
    About,
    DamagedCache,
    Shard,
    check_shard,
    file_of,
    is_there,
    note_for,
    read_about,
    refuse_other,
    write_shard,
)
from tutelage.signals.cache.about import FILE
from tutelage.training.checkpoint import write_text_atomically

PATIENCE = 0.2
"""Seconds between looks at what other processes write."""

Stopping = Callable[[], int | None]
"""The number of a signal that asked to stop; None as long as none has."""

Key = tuple[str, int, int]
"""Of a shard: split, view and number."""


@dataclass(frozen=True)
class Work:
    """What is written, from where.

    Args:
        folder: of the cache.
        about: what it holds.
        sources: of its splits.
        taps: paths by the names under which they are kept.
        asker: asks the teacher.
    """

    folder: Path
    about: About
    sources: Mapping[str, Source]
    taps: Mapping[str, str]
    asker: Asker

    @property
    def shards(self) -> list[Key]:
        """All of them, in the order in which they are written."""
        return [(split, view, number) for split, kept in self.about.splits.items() for view, number in kept.shards]

    def file(self, key: Key) -> Path:
        """Where a shard lies."""
        return file_of(self.folder, *key)

    def note(self, key: Key) -> dict[str, Any]:
        """What its note must say."""
        split, view, number = key
        return note_for(self.about.fingerprint, split, self.about.splits[split], view, number)


def passes_of(work: Work) -> dict[Key, int]:
    """How often the teacher must be asked for each shard that is missing."""
    counts = {key: len(work.about.splits[key[0]].rows(key[2])) for key in work.shards if not is_there(work.file(key))}
    return {key: -(-count // work.asker.batch_size) for key, count in counts.items()}


def check_target(out: str | Path) -> Path:
    """The folder to write to, looked at before anything else; nothing is made.

    Raises:
        BadInput: no folder, one that holds something else, or one with a link that leads out of it.
    """
    if not str(out):
        raise BadInput("--out is empty; expected a folder")
    folder = Path(out)
    try:
        if folder.exists() and not folder.is_dir():
            raise BadInput(f"--out {folder} is a file; expected a folder")
        if not folder.is_dir():
            return folder
        others = [e.name for e in folder.iterdir() if e.name != NAME and not (e.name.startswith(f".{FILE}.") and e.name.endswith(LEFT))]
    except (OSError, ValueError) as error:  # a ValueError where the name holds a null byte
        raise BadInput(f"--out {folder} cannot be used: {getattr(error, 'strerror', None) or error}") from None
    if others and FILE not in others:
        raise BadInput(f"{folder} already holds something else ({min(others)}); choose another --out")
    refuse_links_out(folder)
    return folder


def begin(folder: Path, about: About, claims: Claims, measure: Callable[[], Mapping[str, Any]], stopping: Stopping) -> About:
    """Write the description, or go on with the one that is there.

    Args:
        folder: of the cache.
        about: what it is to hold.
        claims: on its parts.
        measure: what the teacher costs; only asked by the process that writes the description.
        stopping: whether to stop.

    Returns:
        The description as it stands on disk.

    Raises:
        Mismatch: the folder was begun for something else.
    """
    while not claims.take(0):
        if stopping() is not None:
            raise Interrupted("stopped before anything was written", stopping() or 2)
        time.sleep(PATIENCE)
    try:
        for left in left_over(folder):
            left.unlink(missing_ok=True)
        if not (folder / FILE).is_file():
            whole = replace(about, measured=dict(measure()))
            with refusing(folder):
                write_text_atomically(folder / FILE, whole.text())
        kept = read_about(folder)
        refuse_other(kept, about, folder)
    finally:
        claims.give(0)
    return kept


def write(work: Work, claims: Claims, bar: Bar, stopping: Stopping) -> int:
    """Write what is missing or damaged, and wait for what others are writing.

    Args:
        work: what is written.
        claims: on its parts.
        bar: shows how far it is.
        stopping: whether to stop.

    Returns:
        How many shards this process wrote.

    Raises:
        Interrupted: a signal asked to stop; shards that were finished are kept.
        Failed: the disk does not take a shard.
    """
    left = list(enumerate(work.shards, start=1))
    unchecked = {key for _, key in left if is_there(work.file(key))}
    written, waited = 0, False
    while left:
        litter = {split: left_over(work.folder / split) for split in work.about.splits}
        held = []
        for part, key in left:
            _heed(stopping, work)
            if key not in unchecked and is_there(work.file(key)):  # another process was faster
                bar.finished(key)
                continue
            with claims.held(part) as ours:
                if not ours:
                    held.append((part, key))
                    continue
                _sweep(work.file(key), litter[key[0]])
                if is_there(work.file(key)) and _sound(work, key, bar):
                    unchecked.discard(key)
                else:
                    unchecked.discard(key)
                    _write(work, key, bar, stopping)
                    written += 1
                bar.finished(key)
        if len(held) == len(left):
            if not waited:
                bar.say(f"waiting for {len(held)} shards that other processes write")
            waited = True
            time.sleep(PATIENCE)
        left = held
    return written


def _sound(work: Work, key: Key, bar: Bar) -> bool:
    try:
        check_shard(work.file(key), work.note(key))
    except DamagedCache as error:
        bar.say(f"{error}: it is written anew")
        return False
    return True


def _write(work: Work, key: Key, bar: Bar, stopping: Stopping) -> None:
    split, view, number = key
    kept, size = work.about.splits[split], work.asker.batch_size
    rows, shard = kept.rows(number), Shard(kept)
    for first in range(rows.start, rows.stop, size):
        _heed(stopping, work)
        work.asker.add(shard, work.sources[split], torch.arange(first, min(first + size, rows.stop)), view, work.taps)
        bar.advance()
    tensors = shard.tensors()
    with refusing(work):
        write_shard(work.file(key), tensors, work.note(key))


@contextlib.contextmanager
def refusing(work: Work | Path) -> Iterator[None]:
    """Say in a sentence what the disk does not take.

    Args:
        work: what is written, or, as long as nothing is, where.

    Raises:
        Failed: names the place and the reason, and how many shards are there.
    """
    try:
        yield
    except OSError as error:
        folder = work if isinstance(work, Path) else work.folder
        full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        why = f"no room is left ({error.strerror})" if full else str(error.strerror or error)
        mend = "make room" if full else "mend that"
        raise Failed(
            f"{folder} cannot be written to: {why}; {'' if work is folder else _so_far(work)}{mend}, and the same command goes on"
        ) from None


def _heed(stopping: Stopping, work: Work) -> None:
    number = stopping()
    if number is not None:
        raise Interrupted(f"stopped; {_so_far(work)}the same command goes on", number)


def _so_far(work: Work | Path) -> str:
    if isinstance(work, Path):
        return ""
    there = sum(is_there(work.file(key)) for key in work.shards)
    return f"{there:,} of {len(work.shards):,} shards are written; "


def _sweep(file: Path, litter: list[Path]) -> None:
    """Delete what dead writers of a shard have left; who writes it now is us."""
    for left in litter:
        if left.name.startswith(f".{file.stem}."):
            left.unlink(missing_ok=True)
