"""The shards of a cache: safetensors files, each with a note beside it that says what it must hold, to the last bit.

A shard is there when its note is: both are written beside their place and renamed, the note last. What a killed writer leaves is no shard.
"""

from __future__ import annotations

import json
import os
import time
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from tutelage.signals.cache.about import PLAIN, DamagedCache

LARGEST_NOTE = 1 << 16
BLOCK = 1 << 20
SETTLED = 100_000_000
"""Nanoseconds since a file's last change after which another change would show in its times, coarse as they are."""

_CHECKSUMS: dict[tuple[int, ...], int] = {}
"""Of files that were read in this process, by device, number, size and times of change: what was read once is not read again."""


def file_of(folder: Path, split: str, view: int, number: int) -> Path:
    """Where a shard lies."""
    return folder / split / f"{'plain' if view == PLAIN else f'view-{view:04d}'}-{number:05d}.safetensors"


def write_shard(path: Path, tensors: Mapping[str, Tensor], note: Mapping[str, Any]) -> None:
    """Write a shard and its note, all or nothing.

    Args:
        path: of the shard; replaced where it exists.
        tensors: by name.
        note: JSON values that `check_shard` compares; the checksum and the size are added.
    """
    from safetensors.torch import save

    content = save({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()})
    whole = {**note, "bytes": len(content), "crc32": zlib.crc32(content)}
    path.parent.mkdir(parents=True, exist_ok=True)
    note_of(path).unlink(missing_ok=True)
    _write(path, content)
    _write(note_of(path), (json.dumps(whole) + "\n").encode())


def _write(path: Path, content: bytes) -> None:
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        beside.unlink(missing_ok=True)
        with beside.open("xb") as file:  # a link in its place is not followed
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except OSError:
        beside.unlink(missing_ok=True)
        raise


def note_of(path: Path) -> Path:
    """The note beside a shard."""
    return path.with_suffix(".json")


def is_there(path: Path) -> bool:
    """Whether a shard was written to its end; says nothing of what has happened to it since."""
    return path.is_file() and note_of(path).is_file()


def check_shard(path: Path, note: Mapping[str, Any], *, compared: Callable[[int], None] | None = None) -> None:
    """Compare a shard with what its note says, bit for bit, and the note with what is expected.

    All bits are read, but once in a process as long as the file does not change.

    Args:
        path: of the shard.
        note: what its note must say.
        compared: is told how many bytes were compared, from time to time.

    Raises:
        DamagedCache: it is missing, cut, changed, or of another cache; says which.
    """
    if not path.is_file():
        raise DamagedCache(f"{path} is missing")
    said = _read_note(note_of(path))
    other = next((key for key in note if said.get(key) != note[key]), None)
    if other is not None:
        raise DamagedCache(f"{path} is of another cache: its {other} is {str(said.get(other))[:40]}, not {note[other]}")
    try:
        size = path.stat().st_size
        if size != said["bytes"]:
            raise DamagedCache(f"{path} has {size:,} bytes where {said['bytes']:,} were written")
        if _checksum(path, compared) != said["crc32"]:
            raise DamagedCache(f"{path} is not what was written: a bit of it has changed")
    except OSError as error:
        raise DamagedCache(f"{path} cannot be read ({error.strerror})") from None


def _read_note(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise DamagedCache(f"{path} is missing")
    try:
        if path.stat().st_size > LARGEST_NOTE:
            raise ValueError("too long")
        said = json.loads(path.read_text())
        if type(said["bytes"]) is int and type(said["crc32"]) is int and isinstance(said, dict):
            return said
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        pass
    raise DamagedCache(f"{path} is damaged")


def _checksum(path: Path, compared: Callable[[int], None] | None) -> int:
    tell = compared or (lambda count: None)
    with path.open("rb") as file:
        stat = os.fstat(file.fileno())
        key = stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns
        if key in _CHECKSUMS:
            tell(stat.st_size)
            return _CHECKSUMS[key]
        total = 0
        while block := file.read(BLOCK):
            total = zlib.crc32(block, total)
            tell(len(block))
    if time.time_ns() - max(stat.st_mtime_ns, stat.st_ctime_ns) > SETTLED:
        _CHECKSUMS[key] = total
    return total


def open_shard(path: Path) -> dict[str, Tensor]:
    """The tensors of a shard, memory-mapped: a page is read when a row on it is asked for.

    Raises:
        DamagedCache: it is no safetensors file.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no mapping
    except (OSError, SafetensorError) as error:
        raise DamagedCache(f"{path} cannot be read ({error})") from None
