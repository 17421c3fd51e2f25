"""Several teachers in one learner: each is asked by its name, only in the views where a term wants it, and once there."""

from __future__ import annotations

import json
import os
import signal

import pytest
import torch
from torch import nn

from tutelage.data import Table
from tutelage.errors import BadInput
from tutelage.objectives import CrossEntropy, Match, mse, regressor, soft_targets
from tutelage.signals import Model
from tutelage.state import linear_ramp
from tutelage.teachers import Ensemble, Frozen, Gives, Pool, Teacher, Views
from tutelage.training import Fit, Learner, Plan, Run, RunOptions, Stage, rehearse, train

QUIET = RunOptions(device="cpu", quiet=True, log_every=1, share_every=0)
FIT = Fit(steps=5, batch_size=6, optimizer="sgd", lr=0.1)


def net(seed: int, width: int = 5) -> Model:
    return Model(lambda: nn.Sequential(nn.Linear(3, width), nn.Tanh(), nn.Linear(width, 4)), seed=seed)


@pytest.fixture
def table(rng):
    return Table({"x": torch.randn(14, 3, generator=rng), "y": torch.randint(4, (14,), generator=rng)})


def turned(step, student):
    return {**step.batch, "x": -step.batch["x"]}


def soft(name: str = "logits", temperature=2.0) -> Match:
    return Match("logits", by=soft_targets(temperature), name=name)


def hint() -> Match:
    return Match("0", through=regressor(), by=mse(), name="hint")


def after(table, loss, teacher, views=None, options=QUIET, folder=None):
    student = net(1)
    stage = Stage("s", Learner(student, loss, teacher, views=views or {}), FIT, table)
    train(Plan([stage], student), Run(folder, seed=3, options=options))
    return [p.detach().clone() for p in student.module.parameters()]


def equal(first, second) -> bool:
    return all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


class Counted(Frozen):
    def __init__(self, model: Model) -> None:
        super().__init__(model)
        self.asked: list[tuple[str | None, frozenset]] = []

    def signals(self, batch, taps, *, view=None):
        self.asked.append((view, frozenset(taps)))
        return super().signals(batch, taps, view=view)


def test_a_pool_of_one_teaches_as_the_teacher_itself(table):
    """Connectors included: their shapes are those of the member."""
    loss = CrossEntropy() + hint() + soft()
    routed = CrossEntropy() + hint().on(teacher="a") + soft().on(teacher="a")
    assert equal(after(table, routed, Pool({"a": Frozen(net(2, 8))})), after(table, loss, Frozen(net(2, 8))))
    assert equal(
        after(table, (hint() + soft()).on(teacher="a"), Pool({"a": Frozen(net(2, 8))})), after(table, hint() + soft(), Frozen(net(2, 8)))
    )


@pytest.mark.parametrize("micro_batch", [None, 2])
def test_two_teachers_are_asked_what_each_term_says(table, micro_batch):
    """The gradient is that of a loss written by hand."""
    clean, robust = net(2, 8), net(3, 6)
    loss = 0.3 * soft("clean").on(teacher="clean") + 0.7 * soft("robust").on("turned", teacher="robust")
    fit = Fit(steps=1, batch_size=14, optimizer="sgd", lr=0.1, weight_decay=0.0, momentum=0.0)
    student = net(1)
    pool = Pool({"clean": Frozen(clean), "robust": Frozen(robust)})
    stage = Stage("s", Learner(student, loss, pool, views={"turned": turned}), fit, table)
    twin = net(1)
    x = table.columns["x"]
    by = soft_targets(2.0)
    by_hand = 0.3 * by(twin.module(x), clean.module(x)).mean() + 0.7 * by(twin.module(-x), robust.module(-x)).mean()
    by_hand.backward()
    train(Plan([stage], student), Run(None, seed=3, options=RunOptions(device="cpu", quiet=True, share_every=0, micro_batch=micro_batch)))
    for p, q in zip(twin.module.parameters(), student.module.parameters(), strict=True):
        torch.testing.assert_close(q, p - 0.1 * p.grad)


def test_each_teacher_is_asked_once_where_a_term_wants_it_and_nowhere_else(table):
    """Passes cost: the clean teacher need not see attacked samples."""
    clean, robust = Counted(net(2, 8)), Counted(net(3))
    loss = (hint() + soft()).on(teacher="clean") + soft("a").on("turned", teacher="robust") + soft("b").on("turned", teacher="robust")
    after(table, loss, Pool({"clean": clean, "robust": robust, "idle": (idle := Counted(net(4)))}), {"turned": turned})
    assert clean.asked == [(None, frozenset({"0", "logits"}))] * (FIT.steps + 1)
    assert robust.asked == [("turned", frozenset({"logits"}))] * (FIT.steps + 1)
    assert idle.asked == []


def test_the_teacher_may_look_at_the_samples_while_the_student_sees_a_view(table):
    """What robust distillation asks: S(x') as T(x)."""
    teacher = Counted(net(2, 8))
    loss = soft().on("turned", teacher_view=None)
    student, twin = net(1), net(1)
    fit = Fit(steps=1, batch_size=14, optimizer="sgd", lr=0.1, weight_decay=0.0, momentum=0.0)
    train(
        Plan([Stage("s", Learner(student, loss, teacher, views={"turned": turned}), fit, table)], student), Run(None, seed=3, options=QUIET)
    )
    assert {view for view, _ in teacher.asked} == {None}
    x = table.columns["x"]
    soft_targets(2.0)(twin.module(-x), teacher.model.module(x)).mean().backward()
    for p, q in zip(twin.module.parameters(), student.module.parameters(), strict=True):
        torch.testing.assert_close(q, p - 0.1 * p.grad)


def test_the_student_may_see_the_samples_while_the_teacher_looks_at_a_view(table):
    """The student is not run on a view that only the teacher sees, with connectors, labels and members."""
    teacher = Counted(net(2, 8))
    passes = []
    student = net(1)
    student.module.register_forward_hook(lambda *_: passes.append(1))
    loss = CrossEntropy() + hint().on(teacher="a", teacher_view="turned")
    stage = Stage("s", Learner(student, loss, Pool({"a": teacher}), views={"turned": turned}), FIT, table)
    train(Plan([stage], student), Run(None, seed=3, options=QUIET))
    assert {view for view, _ in teacher.asked} == {"turned"}
    assert len(passes) <= FIT.steps + 1


def test_names_keep_where_a_term_is(table):
    """A connector in a view, under another name, has the shapes that are met there."""
    loss = hint().on("turned", teacher="a").named("other") + soft().on(teacher="b")
    after(table, loss, Pool({"a": Frozen(net(2, 8)), "b": Frozen(net(3, 6))}), {"turned": turned})
    leaf = next(loss.leaves())
    assert (leaf.name, leaf.view, leaf.teacher_view, leaf.member) == ("other", "turned", "turned", "a")


def test_moving_weights_of_routed_terms_are_found_and_resumed(table, tmp_path):
    """A killed run with two teachers goes on as if nothing had been."""
    clean, robust = net(2, 8), net(3, 6)

    def loss():
        return linear_ramp(1.0, 0.0) * soft("clean").on(teacher="clean") + linear_ramp(0.0, 1.0) * soft("r").on("turned", teacher="robust")

    def whole(folder, kill=None):
        def view(step, student):
            if kill is not None and step.clock.step == kill:
                os.kill(os.getpid(), signal.SIGTERM)
            return turned(step, student)

        pool = Pool({"clean": Frozen(clean), "robust": Frozen(robust)})
        return after(table, loss(), pool, {"turned": view}, RunOptions(device="cpu", quiet=True, log_every=1, share_every=0), folder)

    first = whole(tmp_path / "a")
    with pytest.raises(Exception, match="stopped at step 3"):
        whole(tmp_path / "b", kill=2)
    assert equal(whole(tmp_path / "b"), first)
    one, other = ((tmp_path / name / "metrics.jsonl").read_text() for name in "ab")
    assert [json.loads(line) for line in one.splitlines()] == [json.loads(line) for line in other.splitlines()]


def test_the_cost_names_each_teacher_and_its_passes(table):
    """A dry run must show what will be asked."""
    clean, robust = Frozen(net(2, 8)), Frozen(net(3))
    loss = soft("clean").on(teacher="clean") + soft("robust").on("turned", teacher="robust")
    stage = Stage("s", Learner(net(1), loss, Pool({"clean": clean, "robust": robust}), views={"turned": turned}), FIT, table)
    (cost,) = Plan([stage], net(1)).cost()
    assert [who for who, _ in cost.asked] == [clean, robust]
    assert [model for role, model, *_ in cost.passes if role == "teacher"] == [clean.model, robust.model]


def test_what_cannot_be_is_refused_before_anything_trains(table):
    """Naming the teacher, and what to write."""
    pool = Pool({"clean": Frozen(net(2)), "robust": Frozen(net(3))})
    with pytest.raises(BadInput, match=r"asks the teacher 'robst', but the learner has \['clean', 'robust'\]; nearest: 'robust'"):
        Learner(net(1), soft().on(teacher="robst"), pool)
    with pytest.raises(BadInput, match="asks the teacher 'clean', but the learner has no pool"):
        Learner(net(1), soft().on(teacher="clean"), Frozen(net(2)))
    with pytest.raises(BadInput, match="has several teachers, clean, robust; say which"):
        after(table, soft(), pool)
    with pytest.raises(BadInput, match="which one is asked"):
        pool.signals({"x": torch.ones(1, 3)}, {"logits"})
    with pytest.raises(BadInput, match="asks the teacher 'a' already"):
        soft().on(teacher="a").on(teacher="b")
    with pytest.raises(BadInput, match="say both at once"):
        soft().on("turned").on(teacher="b")
    with pytest.raises(BadInput, match="asks no teacher"):
        CrossEntropy().on(teacher="a")
    with pytest.raises(BadInput, match="says nothing"):
        soft().on()
    with pytest.raises(BadInput, match="at least one teacher"):
        Pool({})
    with pytest.raises(BadInput, match="asks the teacher 'a', but there are none of that kind"):
        soft().on(teacher="a")({"logits": torch.ones(2, 4)}, {"logits": torch.ones(2, 4)}, {})
    with pytest.raises(BadInput, match="but it gives its logits only"):
        after(table, hint().on(teacher="e"), Pool({"e": Ensemble([Frozen(net(2))])}))
    known = Known()
    with pytest.raises(BadInput, match=r"view 'turned' asks the teacher .* which a cache cannot answer"):
        after(table, soft().on("turned", teacher="kept"), Pool({"kept": known}), {"turned": turned})
    rehearse(
        Run(None, options=QUIET),
        Plan(
            [
                Stage(
                    "s",
                    Learner(
                        net(1), soft().on("turned", teacher="kept", teacher_view=None), Pool({"kept": known}), views={"turned": turned}
                    ),
                    FIT,
                    table,
                )
            ],
            net(1),
        ),
    )


class Known(Teacher):
    """A teacher that knows the samples and nothing else, such as a cache."""

    name = "cache runs/kept"
    gives = Gives(new_inputs=False, views=Views(0, 0))

    def signals(self, batch, taps, *, view=None):
        return Frozen(net(2)).signals(batch, taps)


def test_teachers_of_different_views_make_no_pool():
    class Other(Known):
        gives = Gives(new_inputs=False, views=Views(3, 1))

    with pytest.raises(BadInput, match="different views of samples"):
        Pool({"a": Known(), "b": Other()})
    assert Pool({"a": Known(), "b": Frozen(net(1))}).gives.views == Views(0, 0)
    assert not Pool({"a": Known(), "b": Frozen(net(1))}).gives.new_inputs
