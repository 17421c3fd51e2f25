"""What a model is worth under attack: closed forms, and a referee of another package that must agree."""

from __future__ import annotations

import sys

import pytest
import torch
from torch import nn

from tutelage.attacks import Attack, pgd
from tutelage.data import Table
from tutelage.errors import BadInput
from tutelage.evaluation import Predictions, Referee, predict, robustness, under_attack
from tutelage.signals import Model

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")


@pytest.fixture
def line():
    """A linear model of two classes whose margin is known, and images on both sides of it."""
    made = torch.Generator().manual_seed(0)
    weight = torch.randn(36, generator=made)

    def make():
        net = nn.Sequential(nn.Flatten(), nn.Linear(36, 2))
        net[1].weight.data = torch.stack([-weight / 2, weight / 2])
        net[1].bias.data = torch.tensor([0.0, -float(weight.sum()) / 2])
        return net

    x = torch.rand(60, 1, 6, 6, generator=made) * 0.6 + 0.2
    margin = (x.flatten(1) - 0.5) @ weight
    return Model(make), Table({"x": x, "y": (margin > 0).long()}), margin.abs() / weight.abs().sum()


@pytest.mark.parametrize("eps", [0.01, 0.05, 0.15])
def test_on_a_linear_model_the_robust_accuracy_is_the_share_of_margins_above_eps(line, eps):
    """For linf the distance to the border is |margin| / |w|_1."""
    model, table, distance = line
    expected = float((distance > eps).double().mean())
    plain = predict(model, table)
    ours = robustness(plain, under_attack(model, table, pgd(eps=eps)))
    assert ours["robust_accuracy"] == pytest.approx(expected)
    assert ours["weighted_robust_accuracy"] == pytest.approx((1 + expected) / 2)
    for kind in ("apgd", "square"):
        theirs = robustness(plain, under_attack(model, table, Referee(kind, eps, 100)))["robust_accuracy"]
        assert theirs >= expected - 1e-6
        assert theirs <= expected + (0.02 if kind == "apgd" else 0.35)


def test_a_referee_finds_no_more_than_a_long_search_of_ours_and_leaves_no_trace():
    """On a net with batch norm: both agree within a few samples; statistics, flags and generators stay."""
    made = torch.Generator().manual_seed(1)
    x = torch.rand(80, 1, 6, 6, generator=made)
    y = (x[:, 0, :3].mean((1, 2)) > x[:, 0, 3:].mean((1, 2))).long()
    model = Model(lambda: nn.Sequential(nn.Conv2d(1, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Flatten(), nn.Linear(96, 2)), seed=1)
    optimizer = torch.optim.Adam(model.module.parameters(), 1e-2)
    for _ in range(60):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model.module(x), y).backward()
        optimizer.step()
    optimizer.zero_grad()
    table = Table({"x": x, "y": y})
    model.module.train()
    before = {k: v.clone() for k, v in model.module.state_dict().items()}
    state = torch.get_rng_state()
    plain = predict(model, table)
    ours = robustness(plain, under_attack(model, table, pgd(eps=0.03, steps=40, restarts=3)))["robust_accuracy"]
    theirs = [robustness(plain, under_attack(model, table, Referee("apgd", 0.03, 40)))["robust_accuracy"] for _ in range(2)]
    assert theirs[0] == theirs[1]
    assert abs(ours - theirs[0]) <= 3 / 80
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(v, before[k]) for k, v in model.module.state_dict().items())
    assert all(p.grad is None and p.requires_grad for p in model.module.parameters())
    assert model.module.training


def test_batches_and_order_change_nothing(line):
    """A sample's start is its own."""
    model, table, _ = line
    whole = under_attack(model, table, pgd(eps=0.05, steps=2))
    parts = under_attack(model, table, pgd(eps=0.05, steps=2), batch_size=7)
    torch.testing.assert_close(whole.logits, parts.logits, atol=1e-5, rtol=0)
    assert torch.equal(whole.ids, parts.ids)


def test_samples_without_a_label_count_for_nothing(line):
    model, table, _ = line
    labels = table.columns["y"].clone()
    labels[::2] = -100
    some = under_attack(model, Table({"x": table.columns["x"], "y": labels}), pgd(eps=0.05))
    plain = predict(model, table)
    torch.testing.assert_close(some.logits[::2], plain.logits[::2], atol=1e-5, rtol=0)
    nothing = Predictions(torch.ones(2, 2), torch.tensor([-100, -100]))
    assert robustness(nothing, nothing) == {}


def test_what_cannot_be_measured_is_refused(line, monkeypatch):
    model, table, _ = line
    with pytest.raises(BadInput, match="no labels"):
        under_attack(model, Table({"x": table.columns["x"]}), pgd(eps=0.1))
    with pytest.raises(BadInput, match="against=self; what a model is worth"):
        under_attack(model, table, Attack(0.1, against="self"))
    for kind, knobs, said in (("square", {"eps": 0}, "eps=0"), ("apgd", {"eps": 0.1, "steps": 0}, "steps=0"), ("cw", {"eps": 0.1}, "'cw'")):
        with pytest.raises(BadInput, match=said):
            Referee(kind, **knobs)
    tiny = Table({"x": torch.rand(3, 1, 4, 4), "y": torch.zeros(3, dtype=torch.long)})
    with pytest.raises(BadInput, match="at least 6x6, not 4x4"):
        under_attack(Model(nn.Sequential(nn.Flatten(), nn.Linear(16, 2))), tiny, Referee("square", 0.1))
    monkeypatch.setitem(sys.modules, "art.attacks.evasion", None)
    with pytest.raises(BadInput, match=r"pip install 'tutelage\[robust\]'"):
        Referee("square", 0.1)
