"""scikit-learn's handwritten digits: 1,797 grey images of 8x8, ten classes, bundled with the package."""

from __future__ import annotations

import torch

from tutelage.data.source import Data, Table
from tutelage.randomness import derive


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
    from sklearn.model_selection import train_test_split

    bunch = load_digits()
    images = torch.from_numpy(bunch.images).float().div(16).unsqueeze(1)
    y = torch.from_numpy(bunch.target).long()
    whole = Table({"x": images, "y": y}, "digits")
    state = derive("split", seed) % 2**32
    kept, rest = train_test_split(range(len(y)), train_size=train, stratify=bunch.target, random_state=state)
    chosen, held = train_test_split(rest, train_size=validation / (1 - train), stratify=bunch.target[rest], random_state=state)

    def part(positions: list[int], name: str) -> Table:
        return whole.rows(torch.tensor(sorted(positions)), f"digits/{name}")

    return Data(part(kept, "train"), part(chosen, "validation"), part(held, "test"), tuple(str(d) for d in range(10)), "digits")
