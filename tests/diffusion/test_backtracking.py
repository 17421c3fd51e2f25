"""Backtracking: which snapshot is the teacher when."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tutelage.diffusion import Backtracking
from tutelage.errors import BadInput
from tutelage.signals import Model
from tutelage.state import Clock


class Path(list):
    """Snapshots, in memory."""


def walk(share: float, nodes: int = 4) -> tuple[Backtracking, Model]:
    """The teacher has 0, snapshot k has k."""
    teacher, target = (Model(nn.Linear(1, 1, bias=False), name=name) for name in ("teacher", "target"))
    nn.init.zeros_(teacher.module.weight)
    path = Path({"weight": torch.full((1, 1), float(k))} for k in range(nodes + 1))
    found = Backtracking(target, teacher, path, share)
    found.open()
    return found, target


def seen(share: float, steps: int = 20, nodes: int = 4) -> list[float]:
    found, target = walk(share, nodes)
    values = []
    for step in range(steps):
        found.begin(Clock("match", step, steps, 0, 0.0, 0))
        assert target.module.weight.item() == found.value
        values.append(found.value)
    return values


def test_the_walk_goes_back_evenly_and_ends_at_the_teacher():
    """The last snapshot is where the fake denoiser begins, so it is never the target."""
    assert seen(0.6) == [3.0] * 4 + [2.0] * 4 + [1.0] * 4 + [0.0] * 8
    assert seen(1.0, steps=6) == [3.0, 3.0, 2.0, 2.0, 1.0, 1.0]
    assert seen(0.0) == [0.0] * 20
    assert seen(1.0, nodes=1) == [0.0] * 20
    falling = seen(0.37, steps=100, nodes=9)
    assert falling == sorted(falling, reverse=True)
    assert set(falling) == set(map(float, range(9)))


def test_a_resumed_walk_has_the_same_teacher():
    """It depends on the step alone."""
    whole = seen(0.6)
    found, target = walk(0.6)
    found.begin(Clock("match", 9, 20, 0, 0.0, 0))
    assert target.module.weight.item() == whole[9]


def test_a_share_is_a_share():
    with pytest.raises(BadInput, match=r"walk=1.5"):
        walk(1.5)
