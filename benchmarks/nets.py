"""Nets and samples that the benchmarks share. Shapes: B batch, T tokens, C channels, H W space."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from tutelage import Table
from tutelage.students import cnn

BATCH = 64

Pair = tuple[Table, Callable[[], nn.Module], Callable[[], nn.Module]]
"""Samples, and what makes a teacher and a student for them."""


class Reader(nn.Module):
    """A small transformer classifier over tokens."""

    def __init__(self, width: int, layers: int, words: int = 500, classes: int = 10) -> None:
        super().__init__()
        self.embed = nn.Embedding(words, width)
        layer = nn.TransformerEncoderLayer(width, 4, 4 * width, dropout=0.0, batch_first=True)
        self.body = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        self.head = nn.Linear(width, classes)

    def forward(self, tokens_BT: Tensor) -> Tensor:
        """Logits (B, classes)."""
        return self.head(self.body(self.embed(tokens_BT)).mean(1))


class Even(nn.Module):
    """A convolutional classifier whose blocks are all alike, after a light stem and before a light head."""

    def __init__(self, width: int, blocks: int, classes: int = 10) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, width, 3, padding=1)
        made = (nn.Sequential(nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()) for _ in range(blocks))
        self.blocks = nn.Sequential(*made)
        self.head = nn.Linear(width, classes)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Logits (B, classes)."""
        return self.head(self.blocks(self.stem(x_BCHW)).mean((2, 3)))


def images(side: int, teacher: int, student: int) -> Pair:
    """A convolutional pair of some widths on square images."""
    made = torch.Generator().manual_seed(0)
    table = Table({"x": torch.randn(2048, 1, side, side, generator=made), "y": torch.randint(0, 10, (2048,), generator=made)})
    return table, lambda: cnn(width=teacher, depth=4), lambda: cnn(width=student, depth=4)


def tokens(length: int, teacher: int, student: int) -> Pair:
    """A transformer pair of some widths on sequences of tokens."""
    made = torch.Generator().manual_seed(0)
    table = Table({"x": torch.randint(0, 500, (2048, length), generator=made), "y": torch.randint(0, 10, (2048,), generator=made)})
    return table, lambda: Reader(teacher, 4), lambda: Reader(student, 2)


def built(pair: Pair) -> tuple[Table, nn.Module, nn.Module, nn.Module]:
    """Samples, a teacher, and two students with the same weights."""
    table, big, small = pair
    with torch.random.fork_rng():
        torch.manual_seed(0)
        teacher, first, second = big(), small(), small()
    second.load_state_dict(first.state_dict())
    return table, teacher.eval(), first, second


def same(one: nn.Module, other: nn.Module) -> None:
    """Check that two trainings have come to the same weights.

    Raises:
        AssertionError: they did not do the same work.
    """
    for a, b in zip(one.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-2, atol=1e-3)
