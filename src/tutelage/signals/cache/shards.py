"""The shards of a cache: safetensors files, each with a note beside it that says what it must hold, to the last bit.

A shard is there when its note is: both are written beside their place and renamed, the note last. What a killed writer leaves is no shard.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from tutelage.signals.cache.about import PLAIN, DamagedCache

_SOUND: dict[Path, tuple[int, int]] = {}
"""Shards whose bits were compared in this process, with the size and time of change that they had."""


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
        with beside.open("wb") as file:
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


def check_shard(path: Path, note: Mapping[str, Any]) -> None:
    """Compare a shard with what its note says, bit for bit, and the note with what is expected; once in a process.

    Args:
        path: of the shard.
        note: what its note must say.

    Raises:
        DamagedCache: it is missing, cut, changed, or of another cache; says which.
    """
    try:
        stat = path.stat()
        said = json.loads(note_of(path).read_text())
        size, checksum = said["bytes"], said["crc32"]
    except FileNotFoundError:
        raise DamagedCache(f"{path} is missing") from None
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        raise DamagedCache(f"{note_of(path)} is damaged") from None
    other = next((key for key in note if said.get(key) != note[key]), None)
    if other is not None:
        raise DamagedCache(f"{path} is of another cache: its {other} is {str(said.get(other))[:40]}, not {note[other]}")
    if stat.st_size != size:
        raise DamagedCache(f"{path} has {stat.st_size:,} bytes where {size:,} were written")
    if _SOUND.get(path) == (stat.st_size, stat.st_mtime_ns):
        return
    if _checksum(path) != checksum:
        raise DamagedCache(f"{path} is not what was written: a bit of it has changed")
    _SOUND[path] = (stat.st_size, stat.st_mtime_ns)


def _checksum(path: Path) -> int:
    total = 0
    with path.open("rb") as file:
        while block := file.read(1 << 22):
            total = zlib.crc32(block, total)
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
