"""Real data that claims are measured on: images, cut anew for each seed, and text as bytes. Shapes: N images."""

from __future__ import annotations

import functools

import torch
from torch.nn import functional as F

from tutelage.data import Data, Table, stdlib_bytes
from tutelage.data.fashion_mnist import CLASSES, fashion_mnist
from tutelage.data.joined import Joined
from tutelage.errors import BadInput
from tutelage.randomness import generator

VALIDATION = 5_000
WINDOWS = 192
"""Of held-out files that language models are measured on: 24,576 bytes."""


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
