"""A small task, a teacher for it, and caches of what it says. Shapes: B=5 samples a pass, N=13 of them, V=3 classes."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import torch
from torch import nn

from tutelage import Data, Model, RunOptions, Table
from tutelage.data import Augmented
from tutelage.jobs.cache import cache
from tutelage.signals.cache import PLAIN

B, N, V = 5, 13, 3
QUIET = RunOptions(quiet=True, device="cpu")
ONE = 1e-6
"""MiB of a shard that then holds one batch."""


def table(count: int = N, first: int = 0) -> Table:
    made = torch.Generator().manual_seed(count)
    ids = 40 + 7 * torch.arange(first, first + count)
    return Table({"x": torch.rand(count, 1, 6, 6, generator=made), "y": torch.arange(count) % V, "id": ids}, "toy")


def task(augment: str = "") -> Data:
    train = Augmented(table(), augment) if augment else table()
    return Data(train, table(7, 50), table(6, 90), ("a", "b", "c"), "toy")


def net() -> nn.Module:
    """Batch norm, so that the mode matters, and dropout, so that it matters more."""
    made = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Dropout(), nn.Linear(64, V))
    nn.init.normal_(made[1].running_mean, generator=torch.Generator().manual_seed(2))
    return made


def teacher(seed: int = 3) -> Model:
    return Model(net, name="net", seed=seed)


def said(model: Model, source, positions, view: int = PLAIN, seed: int = 0, taps=("logits",)) -> dict:
    """What the model itself says of a batch of five."""
    how = {} if view == PLAIN else {"seed": seed, "views": torch.full((B,), view)}
    with model.mode(training=False), torch.no_grad():
        return dict(model.observe(source.batch(torch.as_tensor(positions), **how), taps))


def written(out, data=None, who=None, **how):
    return cache(who or teacher(), data or task(), out=out, **{"batch_size": B, "shard_mib": ONE, "options": QUIET, **how})


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file()}


def break_byte(file: Path) -> None:
    """Flip a bit in the middle of a file."""
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def signed(folder: Path, change) -> None:
    """Change cache.json as somebody would who knows how its fingerprint is made."""

    said = json.loads((folder / "cache.json").read_text())
    change(said)
    plain = {key: value for key, value in said.items() if key not in ("measured", "fingerprint")}
    said["fingerprint"] = hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()[:16]
    (folder / "cache.json").write_text(json.dumps(said))
