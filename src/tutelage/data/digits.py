"""scikit-learn's handwritten digits: 1,797 grey images of 8x8, ten classes, bundled with the package."""

from __future__ import annotations

import torch

from tutelage.data.source import Data, Table
from tutelage.data.split import completed

PREPARED = {"kind": "images", "channels": 1, "height": 8, "width": 8, "divided_by": 16}


def digits(seed: int = 0, train: float = 0.5, validation: float = 0.15) -> Data:
    """Load the digits, split by class.

    Args:
        seed: of the split, apart from the run's seed, so that a teacher and its student agree on what is test.
        train: share of the samples to train on.
        validation: share to choose on; the rest is test.

    Returns:
        Images `x` of shape (N, 1, 8, 8) in [0, 1], labels `y`.

    Source: Alpaydin & Kaynak, "Optical Recognition of Handwritten Digits", UCI, 1998.
    """
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images = torch.from_numpy(bunch.images).float().div(16).unsqueeze(1)
    whole = Table({"x": images, "y": torch.from_numpy(bunch.target).long()}, "digits")
    names = tuple(str(d) for d in range(10))
    return completed({"train": whole}, classes=names, name="digits", train=train, validation=validation, seed=seed, prepared=PREPARED)
