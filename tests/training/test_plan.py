"""Plans: what is refused when one is built, how they are added and changed, what they cost, and up_to."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from tutelage.data import Table
from tutelage.errors import BadInput
from tutelage.objectives import CrossEntropy, Match, mse, soft_targets
from tutelage.signals import Depth, Model
from tutelage.teachers import Ensemble, Frozen
from tutelage.training import Fit, Learner, Plan, Run, RunOptions, Stage, train, up_to

FIT = Fit(steps=7, batch_size=4)
DATA = Table({"x": torch.zeros(10, 3), "y": torch.zeros(10, dtype=torch.int64)})


def unbuilt() -> Model:
    def never() -> nn.Module:
        raise AssertionError("built")

    return Model(never)


def stage(name: str = "s", **changes) -> Stage:
    return Stage(**{"name": name, "learners": Learner(unbuilt(), CrossEntropy()), "fit": FIT, "data": DATA, **changes})


def test_a_plan_needs_stages_of_distinct_names():
    """Else two stages share a folder of results."""
    with pytest.raises(BadInput, match="distinct"):
        Plan([stage("a"), stage("a")], unbuilt())
    with pytest.raises(BadInput, match="at least one"):
        Plan([], unbuilt())


@pytest.mark.parametrize("order", [["a"], ["a", "b", "c"], [("a", "c"), "b"]])
def test_an_order_must_name_each_learner_and_no_other(order):
    """Else a learner silently never learns."""
    with pytest.raises(BadInput, match="order names"):
        stage(learners={n: Learner(unbuilt(), CrossEntropy()) for n in "ab"}, order=order)


def test_a_learner_refuses_nonsense():
    """Else it fails at the first step."""
    with pytest.raises(BadInput, match="every=0"):
        Learner(unbuilt(), CrossEntropy(), every=0)
    with pytest.raises(BadInput, match="at least one model"):
        Learner({}, lambda step: None)
    with pytest.raises(BadInput, match="compares one student"):
        Learner({"a": unbuilt(), "b": unbuilt()}, CrossEntropy())


def test_plans_add_in_sequence_and_map_changes_each_stage():
    """Else a recipe that wraps another loses a stage or exports the wrong model."""
    one, two = unbuilt(), unbuilt()
    plan = Plan([stage("a")], one, {"x": 1}) + Plan([stage("b")], two, {"y": 2})
    assert [p.name for p in plan.parts] == ["a", "b"]
    assert plan.product is two
    assert plan.also == {"x": 1, "y": 2}
    longer = plan.map(lambda s: replace(s, fit=replace(s.fit, steps=9)))
    assert [s.updates() for s in longer.parts] == [9, 9]
    assert [s.updates() for s in plan.parts] == [7, 7]


def test_cost_counts_passes_of_each_model_and_builds_none():
    """Else a dry run loads weights, or promises another bill."""
    student, big, small, critic = unbuilt(), unbuilt(), unbuilt(), unbuilt()
    teacher = Ensemble([Frozen(big), Frozen(small)])
    loss = CrossEntropy() + Match("logits", by=soft_targets(2.0), name="kl")
    learners = {"s": Learner(student, loss, teacher), "c": Learner(critic, lambda step: None, every=3, repeat=2)}
    plan = Plan([stage(learners=learners, order=["s", "c", "s"])], student)
    (cost,) = plan.cost()
    assert (cost.steps, cost.samples) == (7, 28)
    passes = {id(model): (samples, set(taps), trained) for _, model, samples, taps, trained in cost.passes}
    assert passes[id(student)] == (2 * 28, {"logits"}, True)
    assert passes[id(critic)] == (3 * 2 * 4, {"logits"}, True)  # the steps 0, 3 and 6
    assert passes[id(big)] == passes[id(small)] == (28, {"logits"}, False)
    assert plan.updates(student) == 14
    assert plan.updates(critic) == 6


@pytest.mark.parametrize("every", [1, 2, 3, 7, 9])
def test_updates_are_those_that_the_loop_makes(every, rng):
    """Else a baseline with "the same number of updates" has another."""
    model, calls = Model(nn.Linear(3, 5)), []

    def loss(step):
        calls.append(step.clock.step)

    plan = Plan([Stage("s", Learner(model, loss, every=every, repeat=2), FIT, DATA)], model)
    train(plan, Run(options=RunOptions(device="cpu", quiet=True)))
    assert len(calls) == plan.updates(model)


class Tokens(nn.Module):
    """A model whose class token is a parameter of the root module."""

    def __init__(self) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.zeros(1, 1, 4))
        self.embed = nn.Linear(3, 4)
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)
        self.late = nn.Parameter(torch.zeros(4))
        self.head = nn.Linear(4, 5)

    def forward(self, x_BTD):
        h = torch.cat([self.token.expand(len(x_BTD), -1, -1), self.embed(x_BTD)], 1)
        return self.head(self.second(self.first(h))[:, 0] + self.late)


def test_up_to_finds_a_class_token_and_nothing_above_the_tap(rng):
    """Else a parameter that no module path shows stays untrained, or the head moves."""
    model = Model(Tokens())
    model.module.embed.weight.requires_grad_(False)
    batch = {"x": torch.randn(2, 6, 3, generator=rng), "id": torch.arange(2)}
    low = {"token", "embed.weight", "embed.bias", "first.weight", "first.bias"}
    assert set(up_to("first")(model, batch)) == low
    assert set(up_to("logits")(model, batch)) == {n for n, _ in model.module.named_parameters()}
    assert low <= set(up_to(Depth(0.5))(model, batch)) < set(up_to("logits")(model, batch))
    assert [n for n, p in model.module.named_parameters() if not p.requires_grad] == ["embed.weight"]
    assert model.module.training
    assert all(p.grad is None for p in model.module.parameters())
    assert not any(m._forward_hooks for m in model.module.modules())


def test_up_to_trains_the_class_token(rng):
    """Else half of what the hint should teach is left out."""
    student, teacher = Tokens(), Tokens()
    nn.init.normal_(teacher.token)
    data = Table({"x": torch.randn(9, 6, 3, generator=rng)})
    before = {n: p.detach().clone() for n, p in student.named_parameters()}
    learner = Learner(student, Match("first", by=mse()), Frozen(Model(teacher)), only=up_to("first"))
    train(Plan([Stage("s", learner, FIT, data)], Model(student)), Run(options=RunOptions(device="cpu", quiet=True)))
    moved = {n for n, p in student.named_parameters() if not torch.equal(p, before[n])}
    assert moved == {"token", "embed.weight", "embed.bias", "first.weight", "first.bias"}
