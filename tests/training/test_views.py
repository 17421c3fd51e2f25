"""Objectives on other views of a step's samples: made once, seen by both sides, counted, dropped when the student has moved."""

from __future__ import annotations

import contextlib
import json
import os
import signal

import pytest
import torch
from torch import nn

from tutelage.data import Table
from tutelage.errors import BadInput, Interrupted
from tutelage.objectives import CrossEntropy, Match, mse, regressor, soft_targets
from tutelage.signals import Model
from tutelage.state import Stateful, linear_ramp
from tutelage.teachers import Frozen, Gives
from tutelage.training import Fit, Learner, Plan, Run, RunOptions, Stage, train

QUIET = RunOptions(device="cpu", quiet=True, log_every=1, share_every=0)
FIT = Fit(steps=5, batch_size=6, optimizer="sgd", lr=0.1)


def net(seed: int, width: int = 5, drop: float = 0.0) -> Model:
    return Model(lambda: nn.Sequential(nn.Linear(3, width), nn.Dropout(drop), nn.Tanh(), nn.Linear(width, 4)), seed=seed)


@pytest.fixture
def table(rng):
    return Table({"x": torch.randn(14, 3, generator=rng), "y": torch.randint(4, (14,), generator=rng)})


def turned(step, student):
    """The same samples seen from the other side."""
    return {**step.batch, "x": -step.batch["x"]}


def weights_after(loss, table, views=None, options=QUIET, folder=None, student=None, teacher=None, fit=FIT):
    student, teacher = student or net(1), teacher or Frozen(net(2, 8))
    stage = Stage("s", Learner(student, loss, teacher, views=views or {}), fit, table)
    train(Plan([stage], student), Run(folder, seed=3, options=options))
    return [p.detach().clone() for p in student.module.parameters()]


def both():
    """Labels and a teacher through a connector."""
    return CrossEntropy() + Match("0", through=regressor(), by=mse(), name="hint") + Match("logits", by=soft_targets(2.0))


def equal(first, second) -> bool:
    return all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("micro_batch", [None, 2])
def test_an_objective_on_a_view_is_the_objective_on_samples_that_look_so(table, micro_batch):
    """Student, teacher, labels and connectors: all of them must see the view."""
    options = RunOptions(device="cpu", quiet=True, micro_batch=micro_batch, share_every=0)
    other = Table({"x": -table.columns["x"], "y": table.columns["y"]})
    assert equal(weights_after(both().on("turned"), table, {"turned": turned}, options), weights_after(both(), other, options=options))
    assert not equal(weights_after(both().on("turned"), table, {"turned": turned}, options), weights_after(both(), table, options=options))


def test_views_stand_beside_the_samples_as_they_are(table):
    """Plain and turned samples in one loss are the mean of both."""
    plain, view = CrossEntropy(), CrossEntropy().on("turned").named("turned")
    student = net(1)
    batch = table.batch(torch.arange(14))
    loss = weights_after(0.5 * plain + 0.5 * view, table, {"turned": turned}, fit=Fit(steps=1, batch_size=14, optimizer="sgd", lr=0.1))
    logits = torch.cat([student.module(batch["x"]), student.module(-batch["x"])])
    nn.functional.cross_entropy(logits, batch["y"].repeat(2)).backward()
    for p, after in zip(student.module.parameters(), loss, strict=True):
        torch.testing.assert_close(after, (p - 0.1 * p.grad) if p.ndim < 2 else (p - 0.1 * (p.grad + 0.01 * p)), atol=2e-3, rtol=0)


def test_a_view_is_made_once_a_step_whoever_looks_at_it(table):
    """Generation costs more than all else."""
    made, asked = [], []

    class Counted(Frozen):
        def signals(self, batch, taps, *, view=None):
            asked.append(view)
            return super().signals(batch, taps, view=view)

    def view(step, student):
        made.append((step.clock.step, step.micro, student.evaluating))
        return turned(step, student)

    weights_after(both().on("turned"), table, {"turned": view}, teacher=Counted(net(2, 8)))
    rehearsed = len(made) - 5
    assert rehearsed <= 2
    assert [at for at, _, _ in made[rehearsed:]] == [0, 1, 2, 3, 4]
    assert asked == ["turned"] * len(made)


def test_a_plain_pass_is_left_out_where_all_is_on_views(table):
    """Else each generated batch pays for one that nobody looks at."""
    model, seen = net(1), []
    model.module.register_forward_pre_hook(lambda module, args: seen.append(args[0].clone()))
    weights_after(CrossEntropy().on("turned"), table, {"turned": turned}, student=model)
    plain = {tuple(row.tolist()) for row in table.columns["x"]}
    assert seen
    assert not any(tuple(row.tolist()) in plain for x in seen for row in x)


def test_a_view_is_made_anew_when_its_student_has_moved(table):
    """An attack on yesterday's student is none."""
    student, met = net(1), []

    def view(step, model):
        met.append(model.module[0].weight.detach().clone())
        return turned(step, model)

    stage = Stage("s", Learner(student, CrossEntropy().on("v"), repeat=3, views={"v": view}), Fit(steps=2, batch_size=6, lr=0.1), table)
    train(Plan([stage], student), Run(seed=1, options=QUIET))
    trained = met[-6:]
    assert len({tuple(w.flatten().tolist()) for w in trained}) == 6


def test_what_a_view_draws_leaves_the_students_dropout_as_it_was(table):
    """Else the same student comes out differently because somebody looked at a view."""

    def noisy(step, student):
        torch.rand(100)
        return turned(step, student)

    first, second = (weights_after(CrossEntropy().on("v"), table, {"v": v}, student=net(1, drop=0.5)) for v in (turned, noisy))
    assert equal(first, second)


class Stopping(Stateful):
    """Asks the run to stop after a step."""

    def after_step(self, step):
        if step.clock.step == 2:
            os.kill(os.getpid(), signal.SIGINT)


def test_a_run_that_was_stopped_goes_on_with_the_same_views(table, tmp_path):
    """What is drawn is a function of the step, from generators of its own or the global one."""

    def noisy(step, student):
        noise = torch.randn(step.batch["x"].shape, generator=step.rng("noise"))
        return {**step.batch, "x": step.batch["x"] + noise + torch.randn(3)}

    def stage(student, parts):
        return Stage("s", Learner(student, both().on("v"), Frozen(net(2, 8)), views={"v": noisy}), FIT, table, parts=parts)

    found = {}
    for name, stops in (("whole", ()), ("stopped", (Stopping(),))):
        for again in (False, True) if stops else (False,):
            student = net(1)
            with pytest.raises(Interrupted) if stops and not again else contextlib.nullcontext():
                train(Plan([stage(student, () if again else stops)], student), Run(tmp_path / name, seed=3, options=QUIET))
        found[name] = [p.detach() for p in student.module.parameters()]
    assert equal(found["whole"], found["stopped"])
    lines = [json.loads(line) for line in (tmp_path / "stopped" / "metrics.jsonl").read_text().splitlines()]
    assert len({line["terms"]["hint"] for line in lines if "terms" in line}) == 5


def masked(step, student):
    """A view whose mask differs from sample to sample."""
    ids = step.batch["id"]
    x = step.batch["x"][:, None] * torch.tensor([1.0, -1.0, 0.5])[:, None]
    return {"id": ids, "x": x, "y": step.batch["y"][:, None].expand(-1, 3), "mask": torch.arange(3) <= ids[:, None] % 3}


@pytest.mark.parametrize("over", [1, 3])
def test_means_run_over_the_views_own_mask_whatever_the_micro_batch(table, over):
    """Generated texts differ in length; each token must count once."""
    options = [RunOptions(device="cpu", quiet=True, micro_batch=m, share_every=0) for m in (None, over)]
    first, second = (weights_after(CrossEntropy().on("m"), table, {"m": masked}, each) for each in options)
    for a, b in zip(first, second, strict=True):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-5)


def test_moving_numbers_in_a_view_are_found():
    """A schedule inside a view's objective must be begun like any other."""
    table = Table({"x": torch.randn(8, 3), "y": torch.arange(8) % 4})
    loss = CrossEntropy() + (linear_ramp(1.0, 0.0) * Match("logits", by=soft_targets(2.0))).on("turned").named("soft")
    weights_after(loss, table, {"turned": turned})


def test_what_cannot_be_is_refused(table):
    """Before anything trains, naming the view."""
    with pytest.raises(BadInput, match=r"view 'turnd', but the learner has \['turned'\]; nearest: 'turned'"):
        Learner(net(1), CrossEntropy().on("turnd"), views={"turned": turned})
    with pytest.raises(BadInput, match="looks at the view 'a' already"):
        CrossEntropy().on("a").on("b")
    with pytest.raises(BadInput, match="two learners have different views named 'v'"):
        Stage(
            "s",
            {
                "a": Learner(net(1), CrossEntropy().on("v"), views={"v": turned}),
                "b": Learner(net(2), CrossEntropy().on("v"), views={"v": masked}),
            },
            FIT,
            table,
        )
    kept = Frozen(net(2, 8))
    kept.gives = Gives(taps="any", new_inputs=False)
    with pytest.raises(BadInput, match=r"view 'turned' asks the teacher .* about new inputs, which a cache cannot answer"):
        weights_after(both().on("turned"), table, {"turned": turned}, teacher=kept)
    with pytest.raises(BadInput, match="view 'v' gave a batch without ids"):
        weights_after(CrossEntropy().on("v"), table, {"v": lambda step, student: {"x": step.batch["x"], "y": step.batch["y"]}})
    with pytest.raises(BadInput, match="which was not made"):
        CrossEntropy().on("v")({"logits": torch.ones(2, 4)}, None, {"y": torch.zeros(2, dtype=torch.long)})
