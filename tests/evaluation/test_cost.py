"""What models cost."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tutelage.data import Table
from tutelage.evaluation import cost as module
from tutelage.evaluation import costs, processor, size_of
from tutelage.signals import Model


@pytest.fixture(autouse=True)
def _short(monkeypatch):
    monkeypatch.setattr(module, "ROUNDS", 4)


@pytest.fixture
def table(rng) -> Table:
    return Table({"x": torch.randn(5, 3, generator=rng), "y": torch.zeros(5, dtype=torch.long)})


class Choosy(nn.Module):
    """Refuses a pass over one sample, as a model does that drops a dimension of length one."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 2)
        self.modes: list[bool] = []

    def forward(self, x):
        self.modes.append(self.training)
        if len(x) == 1:
            raise ValueError("one is not enough")
        return self.layer(x)


def test_operations_and_times_of_every_model(table):
    """A linear layer multiplies and adds once for each weight; the data may be fewer than a batch."""
    found = costs({"small": Model(nn.Linear(3, 2)), "big": Model(nn.Sequential(nn.Linear(3, 11), nn.ReLU(), nn.Linear(11, 2)))}, table)
    assert found["small"]["flops"] == 2 * 3 * 2
    assert found["big"]["flops"] == 2 * (3 * 11 + 11 * 2)
    for each in found.values():
        for batch in ("batch_1", "batch_64"):
            time = each["latency_ms"][batch]
            assert 0 < time["least"] <= time["median"] <= time["p95"]
        assert each["throughput"] == pytest.approx(64e3 / each["latency_ms"]["batch_64"]["median"])


def test_what_a_model_cannot_do_is_left_open(table):
    """A pass that fails must not cost the run its report, nor another model its numbers."""
    found = costs({"choosy": Model(Choosy()), "plain": Model(nn.Linear(3, 2))}, table)
    assert found["choosy"]["flops"] is None
    assert found["choosy"]["latency_ms"]["batch_1"] is None
    assert found["choosy"]["latency_ms"]["batch_64"]["median"] > 0
    assert found["choosy"]["throughput"] > 0
    assert found["plain"]["latency_ms"]["batch_1"]["median"] > 0


def test_passes_are_in_evaluation_mode_and_leave_no_trace(table):
    """Batch norm in training mode would move; a thread setting that was changed would slow the rest of the program."""
    choosy, threads = Choosy(), torch.get_num_threads()
    costs({"choosy": Model(choosy)}, table)
    assert not any(choosy.modes)
    assert choosy.training
    assert torch.get_num_threads() == threads
    assert choosy.layer.weight.grad is None


def test_models_take_turns(table, monkeypatch):
    """Timed one after the other, a busy second would speak against one of them alone."""
    order = []
    monkeypatch.setattr(module, "_timed", lambda net, *_: order.append(net) or 1.0)
    nets = [nn.Linear(3, 2), nn.Linear(3, 2)]
    costs({"a": Model(nets[0]), "b": Model(nets[1])}, table)
    warm, rounds = order[:2], order[2:8]  # a slow pass is warmed up once
    assert warm == nets
    assert rounds == [*nets, *nets[::-1], *nets]


def test_sizes_count_tied_weights_once_and_buffers_too():
    """What a file or a memory would hold."""
    net = nn.Sequential(nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False), nn.BatchNorm1d(3))
    net[1].weight = net[0].weight
    assert size_of(net) == {"parameters": 16 + 6, "bytes": 4 * (16 + 6) + 4 * 6 + 8}
    assert processor()
