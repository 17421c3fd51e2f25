"""Real data that claims are measured on: images, cut anew for each seed, and text as bytes. Shapes: N images."""

from __future__ import annotations

import functools

import torch
from torch import Tensor
from torch.nn import functional as F

from tutelage.data import Data, Table, stdlib_bytes
from tutelage.data.fashion_mnist import CLASSES, fashion_mnist
from tutelage.data.joined import Joined
from tutelage.errors import BadInput
from tutelage.objectives.labels import IGNORED
from tutelage.randomness import generator
from tutelage.signals import Batch

VALIDATION = 5_000
WINDOWS = 192
"""Of held-out files that language models are measured on: 24,576 bytes."""
PROMPT, ANSWER = 32, 33
"""Bytes of a window that are given, and that follow and count; all but the last are 64 positions."""
ANSWERS = 384
"""Windows with prompts that are measured: 12,672 bytes that count."""


def fm14(seed: int, train: int) -> Data:
    """Fashion-MNIST at 14x14: a seed's own cut of the 60,000 training images, and the 10,000 test images.

    Larger `train` under one seed holds the smaller ones.

    Args:
        seed: of the cut.
        train: images to study, up to 55,000; 5,000 others are for validation.

    Raises:
        BadInput: more than there are.
        MissingFile: Fashion-MNIST is not installed.
    """
    whole, test = _pooled()
    order = torch.randperm(len(whole), generator=generator("fm14", seed))
    if not 1 <= train <= len(whole) - VALIDATION:
        raise BadInput(f"fm14(train={train}): expected 1 to {len(whole) - VALIDATION}")
    validation, studied = order[:VALIDATION].sort().values, order[VALIDATION : VALIDATION + train].sort().values
    return Data(whole.rows(studied, "train"), whole.rows(validation, "validation"), test, CLASSES, f"fashion-mnist-14x14/{train}")


@functools.cache
def _pooled() -> tuple[Table, Table]:
    """All training and all test images, averaged over squares of four."""
    data = fashion_mnist()
    assert data.validation is not None
    assert data.test is not None
    whole = Joined([data.train, data.validation], "fashion-mnist")
    read = whole.batch(whole.ids().argsort())
    tests = data.test.batch(torch.arange(len(data.test)))
    return tuple(  # type: ignore[return-value]
        Table({"x": F.avg_pool2d(each["x"], 2), "y": each["y"], "id": each["id"]}, name)
        for each, name in ((read, "fashion-mnist-14x14"), (tests, "test"))
    )


def without(data: Data, label: int) -> Data:
    """The data with one class left out of what is studied; validation and test keep it."""
    labels = data.train.labels()
    assert labels is not None
    kept = (labels != label).nonzero()[:, 0]
    return Data(data.train.rows(kept, "train"), data.validation, data.test, data.classes, f"{data.name} without {data.classes[label]}")


def python_sources(seed: int) -> Data:
    """Windows of 128 bytes of Python's standard library, split by file: the same for all seeds, whose orders draw others from them.

    Nothing is chosen on them, so there is no validation. Another version of Python has other sources, and other numbers.

    Args:
        seed: not used.

    Raises:
        MissingFile: this Python has no sources.
    """
    return _python_sources()


@functools.cache
def _python_sources() -> Data:
    data = stdlib_bytes(held_out=WINDOWS)
    return Data(data.train, None, data.test, data.classes, data.name, data.prepared)


class Prompted(Table):
    """Windows of bytes whose first part is a prompt: what counts are the bytes after it. Its column `window` is uint8 (N, T + 1)."""

    def batch(self, positions: Tensor, *, seed: int = 0, views: Tensor | None = None) -> Batch:
        """Read windows."""
        read_BT = self.columns["window"][positions].long()  # type: ignore[call-overload]
        counts_BT = (torch.arange(read_BT.shape[1] - 1) >= PROMPT - 1).expand(len(positions), -1)
        y_BT = read_BT[:, 1:].masked_fill(~counts_BT, IGNORED)
        return {"input_ids": read_BT[:, :-1].contiguous(), "y": y_BT, "mask": counts_BT.clone(), "id": self.ids()[positions]}

    def labels(self) -> Tensor:
        """The byte after each that counts, (N, T)."""
        return self.batch(torch.arange(len(self)))["y"]

    def varies(self) -> bool:
        """Nothing is drawn."""
        return False


def python_prompts(seed: int, samples: int | None = None) -> Data:
    """Windows of Python's standard library, split by file: 32 bytes are given, and the 33 after them count. The same for all seeds.

    Args:
        seed: not used.
        samples: so many windows to study; None for all.

    Raises:
        MissingFile: this Python has no sources.
    """
    return _python_prompts(samples)


@functools.cache
def _python_prompts(samples: int | None) -> Data:
    data = stdlib_bytes(PROMPT + ANSWER - 1, samples, held_out=ANSWERS)
    train, test = (Prompted(split.columns, split.name) for split in (data.train, data.test) if isinstance(split, Table))
    return Data(train, None, test, data.classes, data.name, data.prepared)
