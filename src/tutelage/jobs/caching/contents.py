"""What a cache holds, looked at file by file: shards that are there, missing or damaged, and the bytes that a sample really takes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tutelage.signals.cache import (
    About,
    DamagedCache,
    KeptSplit,
    check_shard,
    file_of,
    is_there,
    note_for,
)
from tutelage.signals.cache.about import FILE
from tutelage.signals.cache.shards import note_of, open_shard

SHOWN = 5


def contents(folder: Path, about: About) -> dict[str, Any]:
    """What a cache holds, as plain values; all bits of its shards are compared with their checksums.

    Returns:
        `folder`, `fingerprint`, `teacher`, `data`, `seed`, `measured`; `splits`, by name: `samples`, `views`, `logits` and `taps` as
        cache.json says, `ragged`, `shards`, `missing` and `damaged` (names and reasons), `bytes` of all files, `rows` (of logits; one a
        sample, or one a position), and, of sound shards, `bytes_a_sample` in one view, by signal, "ids" and "files" among them; `bytes`
        of all; `finished`, whether each shard is there and sound.
    """
    plain = about.plain
    splits = {name: _split(folder, about, name, kept) | _said(plain["splits"][name]) for name, kept in about.splits.items()}
    return {
        "folder": str(folder),
        "fingerprint": about.fingerprint,
        **{key: plain[key] for key in ("teacher", "data", "seed", "measured")},
        "splits": splits,
        "bytes": (folder / FILE).stat().st_size + sum(split["bytes"] for split in splits.values()),
        "finished": not any(split["missing"] or split["damaged"] for split in splits.values()),
    }


def _said(split: Mapping[str, Any]) -> dict[str, Any]:
    return {key: split[key] for key in ("samples", "views", "ragged", "logits", "taps")}


def _split(folder: Path, about: About, name: str, kept: KeptSplit) -> dict[str, Any]:
    missing, damaged, size, samples, rows = [], {}, 0, 0, 0
    sizes: dict[str, int] = {}
    for view, number in kept.shards:
        file = file_of(folder, name, view, number)
        if not is_there(file):
            missing.append(f"{name}/{file.name}")
            continue
        files = file.stat().st_size + note_of(file).stat().st_size
        size += files
        try:
            check_shard(file, note_for(about.fingerprint, name, kept, view, number))
            tensors = open_shard(file)
        except DamagedCache as error:
            damaged[f"{name}/{file.name}"] = str(error)
            continue
        samples += len(kept.rows(number))
        for signal, count in {**_sizes(tensors, kept), "files": files}.items():
            sizes[signal] = sizes.get(signal, 0) + count
        rows += _rows(tensors)
    a_sample = {signal: count / samples for signal, count in sizes.items()} if samples else {}
    return {
        "shards": len(kept.shards),
        "missing": missing,
        "damaged": damaged,
        "bytes": size,
        "rows": rows,
        "bytes_a_sample": a_sample,
        "bytes_a_row": sizes.get("logits", 0) / rows if rows else None,
    }


def _rows(tensors: Mapping[str, Any]) -> int:
    """Rows of logits in a shard."""
    found = tensors.get("logits", tensors.get("logits.ids"))
    return 0 if found is None or not found.numel() else found.numel() // (*found.shape, 1)[found.ndim - 1]


def _sizes(tensors: Mapping[str, Any], kept: KeptSplit) -> dict[str, int]:
    """Bytes of a shard's tensors by signal."""
    found: dict[str, int] = {}
    taps = {f"tap.{name}{suffix}": name for name in kept.taps for suffix in ("", ".low", ".step")}
    for key, tensor in tensors.items():
        signal = "logits" if key.startswith("logits") else taps.get(key, "ids")
        found[signal] = found.get(signal, 0) + tensor.nbytes
    return found
