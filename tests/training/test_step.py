"""Step, and losses that are functions of it: remembered signals, generators, notes, no data, every, repeat, order."""

from __future__ import annotations

import itertools
import json

import pytest
import torch
from torch import nn

from tutelage.data import Table
from tutelage.errors import BadInput
from tutelage.objectives import Term
from tutelage.signals import Model
from tutelage.state import Controller
from tutelage.teachers import Frozen
from tutelage.training import Fit, Learner, Plan, Run, RunOptions, Stage, train

QUIET = RunOptions(device="cpu", quiet=True, log_every=1)


@pytest.fixture
def data(rng):
    return Table({"x": torch.randn(12, 3, generator=rng)})


def go(learners, data=None, steps=4, folder=None, options=QUIET, **settings):
    stage = Stage("s", learners, Fit(steps=steps, batch_size=4, optimizer="sgd", momentum=0.0, weight_decay=0.0), data, **settings)
    train(Plan([stage], Model(nn.Linear(1, 1))), Run(folder, seed=2, options=options))


def test_every_repeat_and_order_say_who_steps_when(data):
    """Else a critic that shall step five times for one of the generator steps once."""
    a, b, seen = Model(nn.Linear(3, 2)), Model(nn.Linear(3, 2)), []

    def loss(name, model):
        def terms(step):
            seen.append((step.clock.step, name, step.turn))
            return [Term("t", step.signals(model, {"logits"})["logits"].square().mean(1))]

        return terms

    go({"a": Learner(a, loss("a", a)), "b": Learner(b, loss("b", b), every=2, repeat=3)}, data, order=["a", "b", "a"], steps=3)
    full = [("a", 0), ("b", 1), ("b", 2), ("b", 3), ("a", 4)]
    assert seen == [(0, *x) for x in full] + [(1, "a", 0), (1, "a", 1)] + [(2, *x) for x in full]


def test_none_is_no_update(data):
    """Else weight decay and momentum move a learner that was not promoted."""
    module = nn.Linear(3, 2)
    model, kept = Model(module), []

    def loss(step):
        kept.append(module.weight.detach().clone())
        return None if step.clock.step in (1, 2) else [Term("t", step.signals(model, {"logits"})["logits"].square().mean(1))]

    go(Learner(model, loss), data, steps=5)
    assert [torch.equal(x, y) for x, y in itertools.pairwise(kept)] == [False, True, True, False]


def test_a_stage_without_data_has_steps_whose_draws_are_a_function_of_seed_step_turn_and_purpose():
    """Else a generator that is trained on noise cannot be resumed."""
    model = Model(nn.Linear(3, 2))

    def draws():
        seen = {}

        def loss(step):
            assert not step.batch
            for purpose in ("noise", "mix"):
                seen[step.clock.step, step.turn, purpose] = torch.randn(2, 3, generator=step.rng(purpose))
            return [Term("t", model.module(torch.randn(2, 3, generator=step.rng("noise"))).square().mean(1))]

        go({"a": Learner(model, loss, repeat=2)}, steps=3)
        return seen

    one, two = draws(), draws()
    assert len(one) == 3 * 2 * 2
    assert all(torch.equal(one[k], two[k]) for k in one)
    flat = [tuple(v.flatten().tolist()) for v in one.values()]
    assert len(set(flat)) == len(flat)


def test_notes_reach_controllers_and_the_metrics(data, tmp_path):
    """Else a method that follows an entropy follows nothing."""

    class Look(Controller):
        def __init__(self):
            self.seen = []

        def update(self, record):
            self.seen.append(float(record.notes["rows"]))

    look, model = Look(), Model(nn.Linear(3, 2))

    def loss(step):
        step.note("rows", torch.tensor(float(step.batch["id"].sum())))
        return [Term("t", step.signals(model, {"logits"})["logits"].square().mean(1))]

    options = RunOptions(device="cpu", quiet=True, log_every=1, micro_batch=2)
    go(Learner(model, loss), data, parts=[look], folder=tmp_path, options=options)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["terms"]["rows"] for line in lines] == look.seen
    assert sum(look.seen[:3]) * 2 == sum(range(12))  # the mean over two micro-batches; three steps see each of twelve ids once


def test_signals_are_remembered_until_the_model_is_updated(data):
    """Else a model runs twice for what it has said, or old words are used after it has learned."""
    calls = []
    module = nn.Sequential(nn.Linear(3, 2), nn.Tanh())
    module.register_forward_pre_hook(lambda *_: calls.append(1))
    model = Model(module)
    itself = Frozen(model)

    def loss(step):
        before = len(calls)
        one = step.signals("a", {"logits"})["logits"]
        assert step.signals(model, {"logits"})["logits"] is one
        assert len(calls) == before + 1
        inner = step.signals("a", {"0"})
        assert set(inner) == {"0", "logits"}
        old = step.signals(itself, {"logits"})["logits"]
        assert not old.requires_grad
        torch.testing.assert_close(old, one.detach())  # also in the second repeat, after an update
        return [Term("t", step.signals("a", {"logits"})["logits"].square().mean(1))]

    go({"a": Learner(model, loss, repeat=2)}, data, steps=2)


def test_an_unknown_learner_is_named_with_the_nearest(data):
    """Else a typing error is a KeyError in the middle of a stage."""
    model = Model(nn.Linear(3, 2))
    with pytest.raises(BadInput, match=r"no learner is named 'studnt'.*nearest: 'student'"):
        go(Learner(model, lambda step: step.signals("studnt", {"logits"})), data)


def test_two_terms_of_one_name_are_refused(data):
    """Else one of them vanishes from the log."""
    model = Model(nn.Linear(3, 2))

    def loss(step):
        values = step.signals(model, {"logits"})["logits"].square().mean(1)
        return [Term("t", values), Term("t", values)]

    with pytest.raises(BadInput, match=r"two terms named 't'"):
        go(Learner(model, loss), data)


def test_a_learner_of_several_models_trains_those_its_patterns_allow(data):
    """Else a pattern over one of two models is read as one over both."""
    a, b = nn.Linear(3, 2), nn.Linear(3, 2)
    before = [p.detach().clone() for m in (a, b) for p in m.parameters()]

    def loss(step):
        return [Term("t", (a(step.batch["x"]) - b(step.batch["x"]) - 1).square().mean(1))]

    go({"both": Learner({"left": a, "right": b}, loss, only=("left.*", "right.bias"), groups={"right.*": {"lr": 0.1}})}, data)
    moved = [not torch.equal(p, q) for p, q in zip((p for m in (a, b) for p in m.parameters()), before, strict=True)]
    assert moved == [True, True, False, True]
