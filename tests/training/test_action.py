"""Actions: work between stages that is done once, kept, and found again."""

from __future__ import annotations

import json

import pytest
import torch
from torch import nn

from tutelage.data import Table
from tutelage.errors import BadInput, Mismatch
from tutelage.objectives import CrossEntropy
from tutelage.randomness import generator
from tutelage.signals import Model
from tutelage.training import Action, Fit, Learner, Plan, Run, RunOptions, SameWeights, Stage, train

QUIET = RunOptions(device="cpu", quiet=True, share_every=0)
FIT = Fit(steps=4, batch_size=3, optimizer="sgd", lr=0.1)


@pytest.fixture
def table(rng):
    return Table({"x": torch.randn(10, 3, generator=rng), "y": torch.randint(4, (10,), generator=rng)})


def plan_of(table, student, counted, name="choose"):
    """Some samples are chosen, then studied; the plan begins and ends with an action."""

    def choose(run):
        counted.append(name)
        return {"rows": torch.randperm(len(table), generator=generator("choose", run.seed))[:6], "share": 0.6, "why": "drawn"}

    def count(run):
        counted.append("count")
        return {"weights": sum(p.numel() for p in student.module.parameters())}

    first, last = Action(name, choose), Action("count", count)
    stage = Stage("study", Learner(student, CrossEntropy()), FIT, lambda: table.rows(first.result["rows"], "chosen"))
    return Plan([first, stage, last], student), first, last


def fresh() -> Model:
    return Model(lambda: nn.Linear(3, 4), seed=1)


def weights(model):
    return [p.detach().clone() for p in model.module.parameters()]


def test_a_stage_studies_what_an_action_chose(table, tmp_path):
    counted, student = [], fresh()
    plan, first, last = plan_of(table, student, counted)
    train(plan, Run(tmp_path / "run", seed=7, options=QUIET))
    assert counted == ["choose", "count"]
    assert last.result == {"weights": 16}
    alone = fresh()
    stage = Stage("study", Learner(alone, CrossEntropy()), FIT, table.rows(first.result["rows"], "chosen"))
    train(Plan([stage], alone), Run(seed=7, options=QUIET))
    assert all(torch.equal(a, b) for a, b in zip(weights(student), weights(alone), strict=True))


def test_what_was_done_is_not_done_again(table, tmp_path):
    """Hours of generation must survive whatever stops the training after them."""
    counted, student = [], fresh()
    plan, *_ = plan_of(table, student, counted)
    train(plan, Run(tmp_path / "run", seed=7, options=QUIET))
    again = fresh()
    plan, first, last = plan_of(table, again, counted)
    train(plan, Run(tmp_path / "run", seed=7, options=QUIET))
    assert counted == ["choose", "count"]
    assert (first.result["share"], first.result["why"], last.result) == (0.6, "drawn", {"weights": 16})
    assert all(torch.equal(a, b) for a, b in zip(weights(student), weights(again), strict=True))


def test_a_run_that_was_stopped_after_an_action_goes_on(table, tmp_path):
    """The log goes on where it was, too."""
    counted, whole = [], fresh()
    train(plan_of(table, whole, [])[0], Run(tmp_path / "whole", seed=7, options=QUIET))

    class Gone(Exception):
        pass

    def broken(run):
        raise Gone

    student = fresh()
    plan, *_ = plan_of(table, student, counted)
    with pytest.raises(Gone):
        train(Plan([*plan.parts[:2], Action("count", broken)], student), Run(tmp_path / "run", seed=7, options=QUIET))
    student = fresh()
    train(plan_of(table, student, counted)[0], Run(tmp_path / "run", seed=7, options=QUIET))
    assert counted == ["choose", "count"]
    assert all(torch.equal(a, b) for a, b in zip(weights(student), weights(whole), strict=True))
    lines = [(tmp_path / name / "metrics.jsonl").read_text() for name in ("whole", "run")]
    assert lines[0] == lines[1]
    assert json.loads(lines[0].splitlines()[-1])["stage"] == "study"


def test_another_plan_is_refused(table, tmp_path):
    """A result of other work under the same number must not be taken for this one's."""
    student = fresh()
    train(plan_of(table, student, [])[0], Run(tmp_path / "run", seed=7, options=QUIET))
    plan = Plan([*plan_of(table, student, [])[0].parts[:2], Action("count-again", lambda run: {})], student)
    with pytest.raises(Mismatch, match="count-again"):
        train(plan, Run(tmp_path / "run", seed=7, options=QUIET))


def test_it_costs_no_updates_and_is_told(table):
    student = fresh()
    action = Action("choose", lambda run: {})
    plan = Plan([action, Stage("study", Learner(student, CrossEntropy()), FIT, table)], student)
    assert [(c.stage, c.steps, c.samples) for c in plan.cost()] == [("choose", 0, 0), ("study", 4, 12)]
    assert plan.updates(student) == 4
    changed = plan.map(lambda stage: stage)
    assert [part.name for part in changed.parts] == ["choose", "study"]
    assert changed.parts[0] is action


def test_what_cannot_be_is_refused(table):
    student = fresh()
    with pytest.raises(BadInput, match="result of the action 'choose' was asked for before it was done"):
        _ = Action("choose", lambda run: {}).result
    with pytest.raises(BadInput, match=r"action 'choose' gave 'rows' of list; expected tensors"):
        Action("choose", lambda run: {}).take({"rows": [1, 2]})
    with pytest.raises(BadInput, match="at least one stage"):
        Plan([Action("choose", lambda run: {})], student)
    with pytest.raises(BadInput, match="distinct names"):
        Plan([Action("study", lambda run: {}), Stage("study", Learner(student, CrossEntropy()), FIT, table)], student)


def nets(width=4):
    make = lambda: nn.Sequential(nn.Linear(3, width), nn.BatchNorm1d(width), nn.Linear(width, 4))  # noqa: E731
    return Model(make, seed=1), Model(make, seed=2)


def test_a_student_begins_with_the_weights_of_another_model_and_leaves_that_as_it_is(table, tmp_path):
    """Also when the run was stopped in the stage after it, before anything of that was kept."""
    student, other = nets()
    other.module.train()(torch.ones(5, 3))  # statistics of its own
    given = {k: v.clone() for k, v in other.module.state_dict().items()}

    def plan(student, other):
        return Plan([SameWeights(student, other), Stage("study", Learner(student, CrossEntropy()), FIT, table)], student)

    train(plan(student, other), Run(tmp_path / "whole", seed=7, options=QUIET))
    assert all(torch.equal(v, given[k]) for k, v in other.module.state_dict().items())
    by_hand = nets()[0]
    by_hand.module.load_state_dict(given)
    train(Plan([Stage("study", Learner(by_hand, CrossEntropy()), FIT, table)], by_hand), Run(seed=7, options=QUIET))
    assert all(torch.equal(a, b) for a, b in zip(weights(student), weights(by_hand), strict=True))

    class Stopped(Exception):
        pass

    def stop(line):
        raise Stopped

    again, other = nets()
    other.module.load_state_dict(given)
    with pytest.raises(Stopped):
        train(plan(again, other), Run(tmp_path / "cut", seed=7, options=RunOptions(device="cpu", quiet=True, log_every=1), track=stop))
    again, changed = nets()  # what gave the weights may look otherwise by now
    train(plan(again, changed), Run(tmp_path / "cut", seed=7, options=QUIET))
    assert all(torch.equal(a, b) for a, b in zip(weights(again), weights(student), strict=True))


def test_weights_of_another_shape_are_refused(table):
    """Names whose they are, and whom they do not fit."""
    student, other = nets()[0], nets(5)[1]
    plan = Plan([SameWeights(student, other), Stage("study", Learner(student, CrossEntropy()), FIT, table)], student)
    with pytest.raises(Mismatch, match="do not fit"):
        train(plan, Run(seed=7, options=QUIET))
