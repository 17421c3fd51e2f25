"""TAID's wiring: against a loop with the published controller, on sequences with masks, in its limits, and resumed."""

from __future__ import annotations

import math

import pytest
import torch

from small_texts import BATCH, FIT, SIZE, V, columns, descend, go, mean, net, sharp, texts
from tutelage import Fit, Frozen, Model
from tutelage.data import Data, Order, Table
from tutelage.errors import BadInput
from tutelage.recipes.lm_kd import lm_kd
from tutelage.recipes.taid import taid


@pytest.mark.parametrize("micro_batch", [None, 2])
@pytest.mark.parametrize("reduction", ["token", "sequence"])
def test_it_equals_a_loop_with_the_published_controller(reduction, micro_batch):
    """Guards what is mixed, what is detached, which loss moves t, and when."""
    data, teacher, student = texts(), sharp(), Model(net, seed=1)
    expected, order = student.fresh(1).module, Order(SIZE, BATCH, 2, "distil")
    t, momentum, before, losses = 0.2, 0.0, None, []
    for step in range(FIT.steps):
        batch = data.train.batch(order.batch(step)[0])
        z, told = expected(batch["input_ids"]), teacher.module(batch["input_ids"]).detach()
        target = ((1 - t) * z.detach() + t * told).softmax(-1)
        loss = mean(-(target * z.log_softmax(-1)).sum(-1), batch["mask"], reduction)
        descend(expected, loss)
        losses.append(loss.item())
        if before is not None:
            momentum = 0.5 * momentum + 0.5 * (before - losses[-1]) / before
            t = min(0.9, max(0.2 + 0.7 * step / FIT.steps, t + 0.8 / (1 + math.exp(-momentum)) * (1 - t)))
        before = losses[-1]
    plan = taid(Frozen(teacher), student, data, start=0.2, end=0.9, alpha=0.8, beta=0.5, reduction=reduction, fit=FIT)
    ours, terms = go(plan, micro_batch=micro_batch)
    for a, b in zip(ours.parameters(), expected.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)
    assert [each["taid"] for each in terms] == pytest.approx(losses, rel=1e-5)


def test_at_the_teacher_it_trains_as_forward_kl():
    """The stated relation: the target's entropy has no gradient."""
    data, teacher = texts(), sharp()
    at_end = go(taid(Frozen(teacher), Model(net, seed=1), data, start=1.0, end=1.0, fit=FIT))[0]
    forward = go(lm_kd(Frozen(teacher), Model(net, seed=1), data, fit=FIT))[0]
    for a, b in zip(at_end.parameters(), forward.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


def test_at_the_student_nothing_moves():
    """A target that is the student itself teaches nothing; a way for gradients through it would."""
    student = Model(net, seed=1)
    before = [p.clone() for p in student.fresh(1).module.parameters()]
    ours, _ = go(taid(Frozen(sharp()), student, texts(), start=0.0, end=0.0, alpha=0.0, fit=FIT))
    for a, b in zip(ours.parameters(), before, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-6)


class Failing(Table):
    """Cannot be read a ninth time."""

    reads, fatal = 0, 9

    def batch(self, positions, **how):
        if len(positions) == BATCH:
            Failing.reads += 1
            if Failing.reads == Failing.fatal:
                raise OSError("the disk is gone")
        return super().batch(positions, **how)


def test_a_run_that_broke_off_goes_on_with_its_t_and_its_last_loss(tmp_path):
    """Begun anew, t would fall back to its start, and the student be sent back to itself."""
    fit = Fit(steps=12, batch_size=BATCH, lr=0.05)
    found = {}
    for name, fatal in (("whole", 10**9), ("broken", 9)):
        Failing.reads, Failing.fatal = 0, fatal
        source = Failing(columns())

        def plan(source=source):
            return taid(Frozen(sharp()), Model(net, seed=1), Data(source, classes=[str(v) for v in range(V)]), alpha=0.3, fit=fit)

        if name == "broken":
            with pytest.raises(OSError, match="disk"):
                go(plan(), tmp_path / name, checkpoint_every=3)
        go(plan(), tmp_path / name, checkpoint_every=3)
        found[name] = {p.name: p.read_bytes() for p in sorted((tmp_path / name).rglob("*")) if p.is_file()}
    assert found["broken"] == found["whole"]
    assert any(b"momentum" in content for content in found["whole"].values())


def test_what_is_not_labelled_can_be_studied():
    """The teacher says what follows."""
    go(taid(Frozen(sharp()), Model(net), texts(labels=False), fit=FIT))


@pytest.mark.parametrize("bad", [{"start": -0.1}, {"start": 0.9, "end": 0.5}, {"alpha": -1.0}, {"beta": 1.0}, {"reduction": "mean"}])
def test_knobs_that_are_none_are_refused(bad):
    with pytest.raises(BadInput):
        taid(Frozen(sharp()), Model(net), texts(), **bad)
