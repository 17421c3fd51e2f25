"""Save and restore: folders of a safetensors file and a JSON file, written beside and renamed, so that a reader finds all or nothing.

A checkpoint holds what moves: trained models by bare names, objectives, optimizers, averages, Stateful parts. It does not hold frozen
teachers, schedules, the place in the data, or generators: those are functions of the step.
"""

from __future__ import annotations

import json
import os
import shutil
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from tutelage.errors import Mismatch, MissingFile, TutelageError

FORMAT = 1
CONTENT = ("tensors.safetensors", "state.json")


class DamagedCheckpoint(TutelageError, ValueError):
    """A checkpoint that cannot be read."""


def write_atomically(path: Path, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
    """Write a folder with `tensors.safetensors`, `state.json` and the checksums of both, all or nothing.

    Args:
        path: the folder; replaced where it exists.
        tensors: by name; stored from the CPU, shared storage copied.
        state: JSON values; floats come back exactly.
    """
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir(parents=True)
    save_file(_separate(tensors), beside / "tensors.safetensors")
    (beside / "state.json").write_text(json.dumps({"format": FORMAT, **state}, indent=1))
    (beside / "checksums.json").write_text(json.dumps({name: _checksum(beside / name) for name in CONTENT}))
    for each in beside.iterdir():
        _sync(each)
    _sync(beside)
    if path.exists():
        old = path.with_name(f".{path.name}.{os.getpid()}.old")
        shutil.rmtree(old, ignore_errors=True)
        path.rename(old)
        beside.rename(path)
        shutil.rmtree(old, ignore_errors=True)
    else:
        beside.rename(path)
    _sync(path.parent)


def write_text_atomically(path: Path, text: str) -> None:
    """Write a text file, all or nothing; a link in its place is replaced, not followed."""
    write_bytes_atomically(path, text.encode())


def write_bytes_atomically(path: Path, content: bytes) -> None:
    """Write a file, all or nothing; a link in its place is replaced, not followed."""
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    beside.unlink(missing_ok=True)
    with beside.open("xb") as file:
        file.write(content)
    _sync(beside)
    beside.replace(path)
    _sync(path.parent)


def read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read what `write_atomically` wrote.

    Raises:
        MissingFile: no such folder.
        DamagedCheckpoint: it cannot be read, a bit of it has changed, or it is of another format.
    """
    if not path.is_dir():
        raise MissingFile(f"checkpoint {path} does not exist")
    try:
        if {name: _checksum(path / name) for name in CONTENT} != json.loads((path / "checksums.json").read_text()):
            raise ValueError("its content is not what was written")
        state = json.loads((path / "state.json").read_text())
        tensors = load_file(path / "tensors.safetensors")
    except (OSError, ValueError, RecursionError, SafetensorError) as error:
        raise DamagedCheckpoint(f"checkpoint {path} is damaged ({error}); delete it to go on from the one before") from None
    if state.get("format") != FORMAT:
        raise DamagedCheckpoint(
            f"checkpoint {path} has format {state.get('format')}, this version reads {FORMAT}; run it with the version that wrote it"
        )
    return tensors, state


def newest(folder: Path, stage: int) -> Path | None:
    """The newest checkpoint of a stage, or None."""
    found = sorted(folder.glob(f"{stage:02d}-step-*"))
    return found[-1] if found else None


def prune(folder: Path, stage: int, keep: int = 2) -> None:
    """Delete all but the newest checkpoints of a stage."""
    for old in sorted(folder.glob(f"{stage:02d}-step-*"))[: -keep or None]:
        shutil.rmtree(old, ignore_errors=True)
    sweep(folder)


def sweep(folder: Path) -> None:
    """Delete what interrupted writes have left."""
    for left in (*folder.glob(".*.tmp"), *folder.glob(".*.old")):
        shutil.rmtree(left, ignore_errors=True)


def compare_identity(saved: Mapping[str, Any], now: Mapping[str, Any], where: Path) -> None:
    """Refuse to go on with another plan than the one that was saved.

    Raises:
        Mismatch: names the first thing that differs, with both sides.
    """
    old: Any = saved
    new: Any = now
    if old == new:
        return
    path: list[str] = []
    while isinstance(old, Mapping) and isinstance(new, Mapping):
        key = next(k for k in [*new, *old] if k not in old or k not in new or old[k] != new[k])
        path.append(key)
        old, new = old.get(key), new.get(key)
    raise Mismatch(
        f"{where} was written with {' '.join(path)} = {_short(old)}, this run has {_short(new)}; "
        "resume with the same settings, or choose another --out"
    )


def split_state(state: Mapping[str, Any], prefix: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Part a flat state into tensors, named with the prefix, and JSON values."""
    tensors = {f"{prefix}/{k}": v for k, v in state.items() if isinstance(v, Tensor)}
    return tensors, {k: v for k, v in state.items() if not isinstance(v, Tensor)}


def with_prefix(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors below a prefix, by the rest of their names."""
    start = prefix + "/"
    return {k[len(start) :]: v for k, v in tensors.items() if k.startswith(start)}


def optimizer_state(optimizer: torch.optim.Optimizer, prefix: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """An optimizer's state as named tensors and JSON values."""
    whole = optimizer.state_dict()
    tensors: dict[str, Tensor] = {}
    scalars: dict[str, dict[str, Any]] = {}
    for index, state in whole["state"].items():
        found, rest = split_state(state, f"{prefix}/{index}")
        tensors |= found
        scalars[str(index)] = rest
    return tensors, {"state": scalars, "param_groups": whole["param_groups"]}


def restore_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor], saved: Mapping[str, Any]) -> None:
    """Take back what `optimizer_state` gave; `tensors` are named "index/key"."""
    state: dict[int, dict[str, Any]] = {int(i): dict(rest) for i, rest in saved["state"].items()}
    for name, tensor in tensors.items():
        index, _, key = name.partition("/")
        state.setdefault(int(index), {})[key] = tensor
    groups = [{k: tuple(v) if k == "betas" else v for k, v in g.items()} for g in saved["param_groups"]]
    optimizer.load_state_dict({"state": state, "param_groups": groups})


def _separate(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    seen: set[int] = set()
    separate: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        plain = tensor.detach().cpu().contiguous()
        storage = plain.untyped_storage().data_ptr()
        whole = plain.untyped_storage().nbytes() == plain.nbytes
        # tied weights and views share storage, which the format refuses
        separate[name] = plain.clone() if storage in seen or not whole else plain
        seen.add(storage)
    return separate


def _checksum(path: Path) -> int:
    """CRC-32 of a file: it shows any damaged bit, which safetensors alone would load as another number."""
    total = 0
    with path.open("rb") as file:
        while block := file.read(1 << 22):
            total = zlib.crc32(block, total)
    return total


def _sync(path: Path) -> None:
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def _short(value: Any) -> str:
    text = json.dumps(value, default=str)
    return text if len(text) <= 120 else text[:117] + "..."


def names(items: Iterable[str], limit: int = 5) -> str:
    """A short list of names for a message."""
    found = list(items)
    return ", ".join(found[:limit]) + (f" and {len(found) - limit} more" if len(found) > limit else "")
