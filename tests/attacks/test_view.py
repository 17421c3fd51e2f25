"""Attacked samples as a view of a step: deterministic, whatever the micro-batches, and with nothing left behind in the student."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tutelage.attacks import Attack, Attacked
from tutelage.data import Table
from tutelage.errors import BadInput
from tutelage.objectives import CrossEntropy, Match, soft_targets
from tutelage.signals import Model
from tutelage.teachers import Frozen
from tutelage.training import Fit, Learner, Plan, Run, RunOptions, Stage, train

FIT = Fit(steps=4, batch_size=6, optimizer="sgd", lr=0.1)
PGD = Attack(0.1, steps=2)


def net(seed: int) -> Model:
    return Model(lambda: nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.Tanh(), nn.Linear(8, 3)), seed=seed)


@pytest.fixture
def table(rng):
    return Table({"x": torch.rand(14, 1, 4, 4, generator=rng), "y": torch.randint(3, (14,), generator=rng)})


def after(table, attack=PGD, loss=None, teacher=None, view=None, micro_batch=None, student=None, seed=3):
    student = student or net(1)
    view = view or Attacked(attack)
    stage = Stage("s", Learner(student, loss or CrossEntropy().on("attacked"), teacher, views={"attacked": view}), FIT, table)
    options = RunOptions(device="cpu", quiet=True, share_every=0, micro_batch=micro_batch)
    train(Plan([stage], student), Run(None, seed=seed, options=options))
    return [p.detach().clone() for p in student.module.parameters()]


def equal(first, second) -> bool:
    return all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_an_attack_without_reach_is_plain_training(table):
    """eps = 0 must leave nothing of the view."""
    student = net(1)
    stage = Stage("s", Learner(student, CrossEntropy()), FIT, table)
    train(Plan([stage], student), Run(None, seed=3, options=RunOptions(device="cpu", quiet=True, share_every=0)))
    plain = [p.detach() for p in student.module.parameters()]
    assert equal(after(table, Attack(0.0)), plain)
    assert not equal(after(table), plain)


def test_the_same_run_finds_the_same_images_and_another_seed_others(table):
    assert equal(after(table), after(table))
    assert not equal(after(table), after(table, seed=4))


def test_micro_batches_change_nothing(table):
    """Starts are those of samples, not of the places where they stand."""
    for one, other in zip(after(table), after(table, micro_batch=2), strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=0)


def test_statistics_are_those_of_the_training_passes_alone(table):
    """A batch norm that saw each step of the attack would know the attack better than the data."""
    visits = []

    class Watched(nn.BatchNorm2d):
        def forward(self, x):
            visits.append(self.training)
            return super().forward(x)

    student = Model(lambda: nn.Sequential(nn.Conv2d(1, 2, 3), Watched(2), nn.Flatten(), nn.Linear(8, 3)))
    after(table, student=student)
    assert visits.count(True) == FIT.steps
    assert student.module[1].num_batches_tracked == FIT.steps


@pytest.mark.parametrize("against", ["labels", "self", "teacher"])
def test_each_goal_makes_the_student_leave_it(table, against):
    """Whatever the student should say, it says it less of the attacked image."""
    teacher = Frozen(net(2)) if against == "teacher" else None
    seen = {}
    attack = Attack(0.3, steps=10, start="near", against=against)
    view = Attacked(attack, teacher)

    def kept(step, student):
        made = view(step, student)
        with torch.no_grad():
            shown = [student.observe(b, {"logits"})["logits"].log_softmax(-1) for b in (step.batch, made)]
            goal = {"self": shown[0].exp(), "labels": nn.functional.one_hot(step.batch["y"], 3).float()}
            goal = goal[against] if teacher is None else step.signals(teacher, {"logits"})["logits"].softmax(-1)
        seen.setdefault("before", []).append(-(goal * shown[0]).sum(-1))
        seen.setdefault("after", []).append(-(goal * shown[1]).sum(-1))
        return made

    loss = CrossEntropy().on("attacked") + Match("logits", by=soft_targets(1.0))
    after(table, view=kept, loss=loss, teacher=teacher or Frozen(net(2)))
    assert (torch.cat(seen["after"]) > torch.cat(seen["before"])).all()


def test_a_teacher_is_asked_for_the_attack_and_the_loss_once(table):
    """Its pass on the samples as they are serves both."""
    asked = []

    class Counted(Frozen):
        def signals(self, batch, taps, *, view=None):
            asked.append(view)
            return super().signals(batch, taps, view=view)

    teacher = Counted(net(2))
    loss = Match("logits", by=soft_targets(1.0)) + CrossEntropy().on("attacked")
    after(table, view=Attacked(Attack(0.1, against="teacher"), teacher), loss=loss, teacher=teacher)
    assert asked == [None] * (FIT.steps + 1)  # one is of the dry run


def test_what_cannot_be_attacked_is_refused_before_training(table):
    with pytest.raises(BadInput, match="give the teacher"):
        Attacked(Attack(0.1, against="teacher"))
    with pytest.raises(BadInput, match="asks no teacher"):
        Attacked(Attack(0.1), Frozen(net(2)))
    unlabelled = Table({"x": table.columns["x"]})
    with pytest.raises(BadInput, match="without a column y"):
        after(unlabelled, loss=Match("logits", by=soft_targets(1.0)).on("attacked"), teacher=Frozen(net(2)))
    wide = Table({"x": 2 * table.columns["x"], "y": table.columns["y"]})
    with pytest.raises(BadInput, match=r"keeps images in \[0, 1\]"):
        after(wide)
