"""Writes of a learner: in its own training passes, with its teacher asked once, and in no evaluation."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tutelage.data import Order, Table
from tutelage.errors import BadInput, UnknownTap
from tutelage.objectives import CrossEntropy, Match, Term, mse
from tutelage.signals import Depth, Model, Write, detached
from tutelage.state import Stateful, during
from tutelage.teachers import Frozen
from tutelage.training import Fit, Learner, Plan, Run, RunOptions, Stage, train
from tutelage.training.demands import check_plan

FIT = Fit(steps=4, batch_size=6, optimizer="sgd", lr=0.1, schedule="constant")
QUIET = RunOptions(device="cpu", quiet=True, log_every=1, share_every=0)


def net(seed, width=5):
    return Model(lambda: nn.Sequential(nn.Linear(3, width), nn.Tanh(), nn.Linear(width, width), nn.Tanh(), nn.Linear(width, 4)), seed=seed)


@pytest.fixture
def table(rng):
    return Table({"x": torch.randn(14, 3, generator=rng), "y": torch.randint(4, (14,), generator=rng)})


class Counted(Frozen):
    """A teacher that counts how often, and for what, it is asked."""

    def __init__(self, model):
        super().__init__(model)
        self.asked = []

    def signals(self, batch, taps, *, view=None):
        self.asked.append(frozenset(taps))
        return super().signals(batch, taps, view=view)


class Grads(Stateful):
    """Keeps which layers got a gradient at each step."""

    def __init__(self, model):
        self.model, self.reached = model, []

    def after_batch(self, step):
        self.reached.append({n[0] for n, p in self.model.module.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0})


def trained(table, writes, loss=None, fit=FIT, teacher=None, watch=None, parts=()):
    student = net(1)
    learner = Learner(student, loss or CrossEntropy(), teacher or Frozen(net(2)), writes=writes)
    stage = Stage("s", learner, fit, table, parts=[p(student) for p in parts])
    train(Plan([stage], student), Run(None, seed=3, options=QUIET, watch=watch))
    return student, stage


def test_training_with_writes_is_training_by_hand(table):
    """Two updates under the write and two without, each as autograd gives them on the patched function."""
    student, _ = trained(table, [Write("2", by="2", when=during(0, 2))])
    by_hand, teacher = net(1).module, net(2).module
    order = Order(len(table), 6, 3, "s", None)
    optimizer = torch.optim.SGD(by_hand.parameters(), lr=0.1, momentum=FIT.momentum, weight_decay=FIT.weight_decay)
    for step in range(4):
        batch = table.batch(order.batch(step)[0])
        middle = teacher[:3](batch["x"]).detach() if step < 2 else by_hand[:3](batch["x"])
        loss = nn.functional.cross_entropy(by_hand[3:](middle), batch["y"])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    for p, q in zip(student.module.parameters(), by_hand.parameters(), strict=True):
        torch.testing.assert_close(p, q)


def test_a_teacher_is_asked_once_for_objective_and_writes(table):
    """Else each step pays for two of its passes."""
    teacher = Counted(net(2))
    trained(table, [Write("0", by="2"), Write("2", by=detached, side="input")], Match("2", by=mse()) + CrossEntropy(), teacher=teacher)
    assert teacher.asked == [frozenset({"2"})] * 5  # the rehearsal and four steps
    teacher = Counted(net(2))
    trained(table, [Write("2", by=lambda own, seen: seen.teacher["0"], reads=["0"])], CrossEntropy(), teacher=teacher)
    assert teacher.asked == [frozenset({"0"})] * 5
    teacher = Counted(net(2))
    trained(table, [Write("2", by=detached)], CrossEntropy(), teacher=teacher)
    assert teacher.asked == []


def test_gradients_below_a_write_come_back_when_it_is_withdrawn(table):
    """The schedule moves what hooks do, not which exist."""
    _, stage = trained(table, [Write("2", by="2", when=during(1, 3))], parts=[Grads])
    assert stage.parts[0].reached == [{"0", "2", "4"}, {"4"}, {"4"}, {"0", "2", "4"}]


def test_evaluations_during_a_stage_see_the_student_without_writes(table):
    """A student is measured by itself."""
    teacher, found = Frozen(net(2)), []
    batch = table.batch(torch.arange(14))

    def watch(product):
        with torch.no_grad(), product.mode(training=False):
            found.append((product.observe(batch, {"logits"})["logits"], product.module[4](product.module[:4](batch["x"]))))
        return {"accuracy": 0.5}

    trained(table, [Write("4", by="4")], Match("2", by=mse()), Fit(steps=4, batch_size=6, measure_every=1), teacher, watch)
    assert len(found) == 4
    told = teacher.model.module(batch["x"])
    for seen, by_hand in found:
        assert torch.equal(seen, by_hand)
        assert not torch.allclose(seen, told)


def test_what_writes_ask_is_checked_before_anything_trains(table):
    """A stage may come after hours of another."""

    def plan(*writes, teacher=True, loss=None):
        learner = Learner(net(1), loss or CrossEntropy(), Frozen(net(2)) if teacher else None, writes=writes)
        return Plan([Stage("s", learner, FIT, table)], net(1))

    check_plan(plan(Write("2", by="2"), Write("0", by=Depth(0.5))))
    with pytest.raises(UnknownTap, match="the student"):
        check_plan(plan(Write("9", by="2")))
    with pytest.raises(UnknownTap, match="the student"):
        check_plan(plan(Write("2", by=detached, sees=["7"])))
    with pytest.raises(UnknownTap, match="the teacher"):
        check_plan(plan(Write("2", by="9")))
    with pytest.raises(UnknownTap, match="the teacher"):
        check_plan(plan(Write("2", by=detached, reads=["8"])))
    with pytest.raises(BadInput, match="writes what a teacher shows but has none"):
        check_plan(plan(Write("2", by="2"), teacher=False))
    with pytest.raises(BadInput, match="needs an objective"):
        Learner(net(1), lambda step: [Term("t", torch.zeros(1))], writes=[Write("2", by="2")])


def test_writes_are_counted_among_what_a_plan_asks(table):
    """Dry runs say what a teacher is asked for."""
    learner = Learner(net(1), CrossEntropy(), Frozen(net(2)), writes=[Write("2", by="2")])
    (cost,) = Plan([Stage("s", learner, FIT, table)], net(1)).cost()
    assert [taps for _, taps in cost.asked] == [frozenset({"2"})]
