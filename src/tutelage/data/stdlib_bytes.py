"""Bytes of Python's own standard library: code and prose that is on every machine, for small language models.

Shapes: B batch, N windows, T bytes.
"""

from __future__ import annotations

import functools
import sys
import sysconfig
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from tutelage.data.source import Data, Table
from tutelage.errors import BadInput, MissingFile
from tutelage.randomness import generator
from tutelage.signals import Batch

CLASSES = tuple(chr(b) if 33 <= b < 127 else f"0x{b:02x}" for b in range(256))
"""The bytes, as tables call them."""

LEFT_OUT = {"test", "tests", "__pycache__", "site-packages", "dist-packages"}
"""Folders: tests are half of the library, and often not installed."""

SMALLEST = 10
"""Files of a library that can be cut."""


class Windows(Table):
    """Windows of bytes, each with the byte after it: column `window` is uint8 (N, T + 1).

    What is read of it: `input_ids` int64 (B, T), `y` int64 (B, T), the byte that follows each, and `mask` bool (B, T), all of it true.
    """

    def batch(self, positions: Tensor, *, seed: int = 0, views: Tensor | None = None) -> Batch:
        """Read windows."""
        read_BT = self.columns["window"][positions].long()  # type: ignore[call-overload]
        x_BT, y_BT = read_BT[:, :-1].contiguous(), read_BT[:, 1:].contiguous()
        return {"input_ids": x_BT, "y": y_BT, "mask": torch.ones_like(y_BT, dtype=torch.bool), "id": self.ids()[positions]}

    def text(self, tokens: Sequence[int]) -> str:
        """Tokens as text; what is no character is a replacement character."""
        return bytes(tokens).decode("utf8", "replace")

    def labels(self) -> Tensor:
        """The byte after each, (N, T); in as few bytes as can hold -100, too."""
        return self._following

    @functools.cached_property
    def _following(self) -> Tensor:
        return self.columns["window"][:, 1:].to(torch.int16)  # type: ignore[call-overload]

    def varies(self) -> bool:
        """Nothing is drawn."""
        return False


def stdlib_bytes(
    length: int = 128, samples: int | None = None, held_out: int = 512, validation: float = 0.05, test: float = 0.05, seed: int = 0
) -> Data:
    """Load the sources of Python's standard library as windows of bytes, split by file.

    Each file of the modules that Python itself lists as its own, tests left out, is cut into windows from its start; what is too short
    at its end for a window is left out, so no window holds parts of two files. Another version of Python has other files.

    Args:
        length: bytes of a window, T; each predicts the next one.
        samples: take only so many training windows, drawn from all files; null for all.
        held_out: take at most so many windows to choose on, and as many to report, evenly from all of their files; null for all.
        validation: share of the files to choose on.
        test: share of the files to report on.
        seed: of the split and the draw, apart from the run's seed.

    Returns:
        `input_ids` (N, T), `y` (N, T), the byte after each, and `mask`; ids count through training, validation, test.

    Raises:
        MissingFile: this Python has no sources.
        BadInput: a number that is none, or more windows than there are.
    """
    if length < 1 or (samples is not None and samples < 1) or (held_out is not None and held_out < 1):
        raise BadInput(f"stdlib-bytes(length={length}, samples={samples}, held_out={held_out}): expected at least 1 of each")
    if not (0 < validation < 1 and 0 < test < 1 and validation + test < 1):
        raise BadInput(f"stdlib-bytes: shares validation={validation}, test={test} must each lie in (0, 1) and leave something to train on")
    files = sources()
    order = torch.randperm(len(files), generator=generator("stdlib-bytes", seed)).tolist()
    first, second = round(len(files) * (1 - validation - test)), round(len(files) * (1 - test))
    parts = {"train": order[:first], "validation": order[first:second], "test": order[second:]}
    begins, tables = 0, {}
    for split, chosen in parts.items():
        windows = torch.cat([_windows(files[i], length) for i in sorted(chosen)]) if chosen else torch.empty(0, length + 1)
        if not len(windows):
            raise BadInput(f"stdlib-bytes(length={length}): no file of {split} is that long; take shorter windows, or a larger share")
        ids = torch.arange(begins, begins + len(windows))
        begins += len(windows)
        kept = _kept(len(windows), samples, seed) if split == "train" else _spread(len(windows), held_out)
        tables[split] = Windows({"window": windows[kept], "id": ids[kept]}, f"stdlib-bytes/{split}")
    prepared = {"kind": "bytes", "length": length}
    return Data(tables["train"], tables["validation"], tables["test"], CLASSES, "stdlib-bytes", prepared)


def _windows(content: bytes, length: int) -> Tensor:
    """A file's windows, each with the byte after it, which is the first of the next one: (N, length + 1)."""
    count = max((len(content) - 1) // length, 0)
    if not count:
        return torch.empty(0, length + 1, dtype=torch.uint8)
    return torch.frombuffer(bytearray(content[: count * length + 1]), dtype=torch.uint8).unfold(0, length + 1, length)


def _kept(count: int, samples: int | None, seed: int) -> Tensor:
    if samples is not None and samples > count:
        raise BadInput(f"stdlib-bytes: samples={samples:,}; there are {count:,} training windows of this length")
    order = torch.randperm(count, generator=generator("stdlib-bytes", "draw", seed))
    return (order if samples is None else order[:samples]).sort().values


def _spread(count: int, most: int | None) -> Tensor:
    return torch.arange(count) if most is None or most >= count else torch.arange(most) * count // most


@functools.cache
def sources() -> tuple[bytes, ...]:
    """The content of each file, in the order of the files' names.

    Raises:
        MissingFile: there are none.
    """
    root = Path(sysconfig.get_path("stdlib"))
    found: list[Path] = []
    for name in sorted(sys.stdlib_module_names):
        found += [file] if (file := root / f"{name}.py").is_file() else (root / name).rglob("*.py")
    files = sorted(f.relative_to(root).as_posix() for f in found)
    contents = tuple((root / f).read_bytes() for f in files if not LEFT_OUT & set(f.split("/")))
    if len(contents) < SMALLEST:
        raise MissingFile(f"stdlib-bytes: {root} holds {len(contents)} sources of the standard library; take a Python that has them")
    return contents
