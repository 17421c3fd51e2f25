"""The loop: equal to one written by hand; moves what it should and nothing else; asks the teacher once; stops on NaN."""

from __future__ import annotations

import copy
import json
import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from tutelage.data import Order, Table
from tutelage.errors import Mismatch, NotFinite
from tutelage.objectives import CrossEntropy, Match, Term, mse, regressor, soft_targets
from tutelage.signals import Model
from tutelage.state import Controller, Stateful
from tutelage.teachers import Frozen
from tutelage.training import Fit, Learner, Plan, Run, RunOptions, Stage, checkpoint, train, up_to

QUIET = RunOptions(device="cpu", quiet=True, checkpoint_every=4, log_every=2, share_every=3)


def net(width: int = 6, drop: float = 0.0, norm: bool = False) -> nn.Sequential:
    # no bias before a batch norm: its gradient is rounding, which Adam blows up
    first, second = nn.BatchNorm1d(width), nn.BatchNorm1d(width, affine=False)
    parts = [nn.Linear(3, width, bias=not norm), first if norm else nn.Identity(), nn.Tanh(), nn.Dropout(drop)]
    return nn.Sequential(*parts, nn.Linear(width, width, bias=not norm), second if norm else nn.Identity(), nn.Linear(width, 5))


@pytest.fixture
def data(rng):
    return Table({"x": torch.randn(23, 3, generator=rng), "y": torch.randint(5, (23,), generator=rng)})


def frozen_copy(module: nn.Module) -> dict[str, torch.Tensor]:
    return copy.deepcopy(module.state_dict())


def changed(module: nn.Module, before: dict[str, torch.Tensor]) -> set[str]:
    return {k for k, v in module.state_dict().items() if not torch.equal(v, before[k])}


class Counted(nn.Module):
    """Counts the passes through it."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner, self.passes = inner, 0

    def forward(self, x):
        self.passes += 1
        return self.inner(x)


def by_hand(student, teacher, data, fit: Fit, seed: int, stage: str):
    """The plan "CE + 0.5 KD" as anyone would write it, with the order of samples taken from the library."""
    student, steps = copy.deepcopy(student), fit.steps
    own = list(student.parameters())
    if fit.optimizer == "sgd":
        optimizer = torch.optim.SGD(own, lr=fit.lr, momentum=fit.momentum, weight_decay=fit.weight_decay)
    else:
        kind = torch.optim.AdamW if fit.optimizer == "adamw" else torch.optim.Adam
        optimizer = kind(own, lr=fit.lr, weight_decay=fit.weight_decay)
    order = Order(len(data), fit.batch_size, seed, stage)
    average = [p.detach().clone() for p in own]
    warm = round(fit.warmup * steps)
    for step in range(steps):
        done = (step - warm) / (steps - warm)
        scale = {"cosine": 0.5 * (1 + math.cos(math.pi * done)), "linear": 1 - done, "constant": 1.0}[fit.schedule]
        optimizer.param_groups[0]["lr"] = fit.lr * ((step + 1) / (warm + 1) if step < warm else scale)
        rows = order.batch(step)[0]
        x, y = data.columns["x"][rows], data.columns["y"][rows]
        logits = student.train()(x)
        with torch.no_grad():
            goal = teacher.eval()(x)
        kd = F.kl_div(F.log_softmax(logits / 3, 1), F.softmax(goal / 3, 1), reduction="batchmean") * 9
        (F.cross_entropy(logits, y) + 0.5 * kd).backward()
        if fit.clip:
            nn.utils.clip_grad_norm_(own, fit.clip)
        optimizer.step()
        optimizer.zero_grad()
        if fit.ema:
            average = [fit.ema * a + (1 - fit.ema) * p.detach() for a, p in zip(average, own, strict=True)]
    if fit.ema:
        with torch.no_grad():
            for p, a in zip(own, average, strict=True):
                p.copy_(a)
    return student


@pytest.mark.parametrize(
    "fit",
    [
        Fit(steps=15, batch_size=7, optimizer="sgd", lr=0.2, schedule="cosine", warmup=0.2, clip=0.3, weight_decay=0.01),
        Fit(steps=15, batch_size=7, optimizer="sgd", lr=0.2, schedule="linear", momentum=0.0, ema=0.7),
        Fit(steps=9, batch_size=30, optimizer="adam", lr=0.02, schedule="constant", weight_decay=0.1),
        Fit(steps=12, batch_size=5, optimizer="adamw", lr=0.02, warmup=0.5, ema=0.9, clip=1.0),
    ],
    ids=["sgd-clip", "sgd-ema", "adam-batch-over-size", "adamw-all"],
)
@pytest.mark.parametrize("norm", [False, True])
def test_a_plan_equals_the_loop_that_anyone_would_write(fit, norm, data):
    """Else numbers cannot be compared with those of other code."""
    student, teacher = net(norm=norm), net(9)
    hand = by_hand(student, teacher, data, fit, seed=3, stage="distil")
    loss = CrossEntropy() + 0.5 * Match("logits", by=soft_targets(3.0))
    model = Model(student)
    train(Plan([Stage("distil", Learner(model, loss, Frozen(Model(teacher))), fit, data)], model), Run(seed=3, options=QUIET))
    for name, value in hand.state_dict().items():
        torch.testing.assert_close(student.state_dict()[name], value, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("only", ["pattern", "up_to", "head"])
def test_only_what_a_learner_trains_moves(only, data):
    """Else a frozen trunk, its statistics, or the teacher drift away while the loss looks fine."""
    student, teacher = net(norm=True), net(8, norm=True)
    rule = {"pattern": ("0.*", "1.*"), "up_to": up_to("2"), "head": ("6.*",)}[only]
    before, taught = frozen_copy(student), frozen_copy(teacher)
    loss = CrossEntropy() + Match("2", through=regressor(), by=mse(), name="hint")
    train(
        Plan([Stage("s", Learner(student, loss, Frozen(Model(teacher)), only=rule), Fit(steps=5, batch_size=8), data)], Model(student)),
        Run(options=QUIET),
    )
    low = {"0.weight", "1.weight", "1.bias", "1.running_mean", "1.running_var", "1.num_batches_tracked"}
    moved = changed(student, before)
    if only == "head":
        assert moved == {"6.weight", "6.bias"}
    elif only == "pattern":
        assert moved == low
    else:  # a function names parameters only; batch norm without scale goes with the module around it
        assert moved - {"5.running_mean", "5.running_var", "5.num_batches_tracked"} == low
    assert not changed(teacher, taught)
    assert all(p.grad is None for p in [*student.parameters(), *teacher.parameters(), *loss.parameters()])


def test_turn_by_turn_other_learners_do_not_move_by_a_bit(data):
    """Else a critic's turn moves the batch statistics of the model it judges."""
    a, b = net(norm=True, drop=0.5), net(norm=True)
    seen: list[tuple[str, str, int, bool]] = []
    before = {"a": frozen_copy(a), "b": frozen_copy(b)}

    def loss(me: str, other: str, module: nn.Module):
        def terms(step):
            goal = step.signals(other, {"logits"})["logits"]
            assert not goal.requires_grad
            own = step.signals(me, {"logits"})["logits"]
            assert own.requires_grad
            rest = {"a": a, "b": b}[other]
            moved = changed(rest, before[other])
            assert not moved or step.turn != 0
            seen.append((me, other, step.turn, rest.training))
            before[other] = frozen_copy(rest)
            return [Term("gap", (own - goal).square().mean(1))]

        return terms

    class Between(Stateful):
        def after_batch(self, step) -> None:
            other = seen[-1][1]
            rest = {"a": a, "b": b}[other]
            assert not changed(rest, before[other])
            assert all(p.grad is None for p in rest.parameters())

    learners = {"a": Learner(a, loss("a", "b", a)), "b": Learner(b, loss("b", "a", b))}
    stage = Stage("s", learners, Fit(steps=3, batch_size=8), data, order=["a", "b", "a"], parts=[Between()])
    train(Plan([stage], Model(a)), Run(options=QUIET))
    assert [(me, turn, training) for me, _, turn, training in seen] == 3 * [("a", 0, False), ("b", 1, False), ("a", 2, False)]
    assert all(p.grad is None for m in (a, b) for p in m.parameters())


def test_a_model_asked_by_another_learner_first_still_gets_its_own_gradient(data):
    """Else signals remembered without a gradient from another learner's turn silently stop a model from learning."""
    a, b = net(), net()
    before = frozen_copy(b)

    def asks(step):
        return [Term("gap", (step.signals("a", {"logits"})["logits"] - step.signals("b", {"logits"})["logits"]).square().mean(1))]

    learners = {
        "a": Learner(a, asks),
        "b": Learner(b, CrossEntropy() + Match("logits", by=mse(), through=regressor()), Frozen(Model(net()))),
    }
    train(Plan([Stage("s", learners, Fit(steps=2, batch_size=8), data)], Model(a)), Run(options=QUIET))
    assert changed(b, before) == set(before)


@pytest.mark.parametrize("fails", [False, True])
def test_flags_and_hooks_of_the_user_are_as_before_also_after_an_error(fails, data):
    """Else a notebook's model comes back frozen, or slower with each run."""
    student, teacher = net(), net()
    student[4].weight.requires_grad_(False)
    teacher.requires_grad_(False)
    called = []
    student[0].register_forward_hook(lambda *_: called.append(1))

    def counts():
        return [[len(m._forward_hooks) for m in each.modules()] for each in (student, teacher)]

    hooks, frozen = counts(), student[4].weight.clone()

    class Bomb(Stateful):
        def after_step(self, step) -> None:
            if fails:
                raise ZeroDivisionError

    loss = CrossEntropy() + Match("2", by=mse(), through=regressor())
    stage = Stage("s", Learner(student, loss, Frozen(Model(teacher))), Fit(steps=3, batch_size=4), data, parts=[Bomb()])
    run = Run(options=QUIET)
    try:
        train(Plan([stage], Model(student)), run)
    except ZeroDivisionError:
        assert fails
    assert {n for n, p in student.named_parameters() if not p.requires_grad} == {"4.weight"}
    assert not any(p.requires_grad for p in teacher.parameters())
    assert torch.equal(student[4].weight, frozen)
    assert all(p.grad is None for p in student.parameters())
    assert counts() == hooks
    assert called
    assert not student._compiled_call_impl
    assert not run.accelerator._models
    assert not run.accelerator._optimizers


@pytest.mark.parametrize("order", [[("a", "b")], ["a", "b"]])
def test_the_teacher_is_asked_once_a_batch_whatever_the_learners_and_terms(order, data):
    """Else the dearest part of a distillation is paid several times."""
    counted = Counted(net(8))
    teacher = Frozen(Model(counted))

    def loss():
        return (
            CrossEntropy()
            + Match("logits", by=soft_targets(2.0), name="kl")
            + Match("2", "inner.2", by=mse(), through=regressor(), name="f")
        )

    learners = {"a": Learner(net(), loss(), teacher), "b": Learner(net(), loss(), teacher)}
    options = RunOptions(device="cpu", quiet=True, micro_batch=4)

    def passes(steps: int) -> int:
        counted.passes = 0
        train(Plan([Stage("s", learners, Fit(steps=steps, batch_size=8), data, order=order)], Model(net())), Run(options=options))
        return counted.passes

    assert passes(7) - passes(2) == 5 * 2


def test_the_teacher_is_not_asked_where_no_objective_needs_it(data):
    """Else a stage of labels only costs as much as a distillation."""
    counted = Counted(net(8))
    train(Plan([Stage("s", Learner(net(), CrossEntropy(), Frozen(Model(counted))), Fit(steps=3), data)], Model(net())), Run(options=QUIET))
    assert counted.passes == 0


def test_the_teacher_runs_only_as_deep_as_its_deepest_tap(data):
    """Else a hint from a middle layer costs a whole pass of the teacher."""
    teacher = net(8)
    teacher[2], teacher[4] = Counted(teacher[2]), Counted(teacher[4])
    loss = Match("2", by=mse(), through=regressor())
    train(
        Plan([Stage("s", Learner(net(), loss, Frozen(Model(teacher)), only=up_to("2")), Fit(steps=3), data)], Model(net())),
        Run(options=QUIET),
    )
    assert teacher[4].passes == 0
    assert teacher[2].passes == 3 + 1  # and the dry run


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("every", [2, 100])
def test_a_term_that_is_not_finite_stops_the_run_by_name_and_keeps_the_last_good_checkpoint(bad, every, data, tmp_path):
    """Else hours are spent on NaN, and the newest checkpoint is one of them."""
    model = Model(net())

    def loss(step):
        values = step.signals(model, {"logits"})["logits"].square().mean(1)
        return [Term("fine", values), Term("broken", values * (bad if step.clock.step == 6 else 1.0))]

    run = Run(tmp_path, options=RunOptions(device="cpu", quiet=True, checkpoint_every=3, log_every=every, share_every=0))
    with pytest.raises(NotFinite, match=r"'broken'.*between steps .* of stage 's'.*00-step-000000006"):
        train(Plan([Stage("s", Learner(model, loss), Fit(steps=20, batch_size=4), data)], model), run)
    tensors, state = checkpoint.read(tmp_path / "checkpoints" / "00-step-000000006")
    assert state["step"] == 6
    assert all(bool(torch.isfinite(t).all()) for t in tensors.values() if t.is_floating_point())


def test_weights_that_are_not_finite_are_noticed_before_a_checkpoint_is_written(data, tmp_path):
    """Else a resumed run starts from NaN."""
    module = net()
    model = Model(module)

    class Spoil(Stateful):
        def after_step(self, step) -> None:
            if step.clock.step == 5:
                module[4].bias.data[0] = math.nan

    plan = Plan([Stage("s", Learner(model, CrossEntropy()), Fit(steps=20, batch_size=4), data, parts=[Spoil()])], model)
    with pytest.raises(NotFinite, match=r"parameter '4.bias' became NaN"):
        train(plan, Run(tmp_path, options=RunOptions(device="cpu", quiet=True, checkpoint_every=3, log_every=100)))
    assert [p.name for p in (tmp_path / "checkpoints").iterdir()] == ["00-step-000000003"]


def test_best_weights_are_kept_with_a_folder_and_without(data, tmp_path):
    """Else keep="best" quietly leaves the last weights where a run has no folder."""
    left = []
    for folder in (None, tmp_path):
        torch.manual_seed(0)
        module = net()
        scores, kept = iter([0.2, 0.9, 0.4, 0.9]), []

        def watch(product, scores=scores, kept=kept):
            kept.append(frozen_copy(product.module))
            return {"accuracy": next(scores)}

        fit = Fit(epochs=4, batch_size=23, lr=0.05, keep="best", ema=0.5)
        model = Model(module)
        train(Plan([Stage("s", Learner(model, CrossEntropy()), fit, data)], model), Run(folder, options=QUIET, watch=watch))
        assert not changed(module, kept[1])  # the first of the best
        left.append(frozen_copy(module))
    assert all(torch.equal(left[0][k], left[1][k]) for k in left[0])


@pytest.mark.parametrize(("every", "measured"), [(None, [4, 8, 10]), (3, [3, 6, 9, 10]), (5, [5, 10]), (99, [10])])
def test_measuring_does_not_wait_for_an_epoch_where_it_shall_not(every, measured, data, tmp_path):
    """An epoch of text may last for days."""
    fit = Fit(steps=10, batch_size=len(data) // 4 + 1, measure_every=every)
    model = Model(net())
    run = Run(tmp_path, options=QUIET, watch=lambda product: {"accuracy": 0.5})
    train(Plan([Stage("s", Learner(model, CrossEntropy()), fit, data)], model), run)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "validation" in line] == measured


def test_controllers_see_the_mean_over_repeats(data):
    """Else a learner that steps five times shows controllers five times its loss."""

    class Look(Controller):
        def __init__(self) -> None:
            self.seen = []
            self.value = 0.0

        def update(self, record) -> None:
            self.seen.append((float(record.terms["one"]), float(record.notes["two"]), float(record.notes["three"])))

    look, model = Look(), Model(net())

    def loss(step):
        step.note("two", torch.tensor(2.0))
        logits = step.signals(model, {"logits"})["logits"]
        return [Term("one", logits.sum(1) * 0 + 1.0, notes={"three": torch.tensor(3.0)})]

    for micro_batch in (None, 3):
        options = RunOptions(device="cpu", quiet=True, micro_batch=micro_batch)
        stage = Stage("s", Learner(model, loss, repeat=3), Fit(steps=2, batch_size=8), data, parts=[look])
        train(Plan([stage], model), Run(options=options))
    assert look.seen == [(pytest.approx(1.0), 2.0, 3.0)] * 4


def test_a_limit_ends_each_stage_early_with_its_own_schedule(data):
    """The first updates of a run that is cut short are those of the whole run, the learning rate included."""

    def losses(limit):
        torch.manual_seed(0)
        student, lines = Model(net()), []
        fit = Fit(steps=10, batch_size=8, lr=0.1, schedule="linear")
        stages = [Stage(name, Learner(student, CrossEntropy()), fit, data) for name in ("one", "two")]
        options = RunOptions(device="cpu", quiet=True, log_every=1)
        train(Plan(stages[: 1 if limit is None else 2], student), Run(options=options, track=lines.append, limit=limit))
        return [(line["stage"], line["terms"], line["lr"]) for line in lines if "terms" in line]

    whole, begun = losses(None), losses(3)
    assert [line for line in begun if line[0] == "one"] == whole[:3]
    assert len([line for line in begun if line[0] == "two"]) == 3


def test_a_run_that_was_cut_short_is_not_taken_for_a_whole_one(data, tmp_path):
    def plan():
        torch.manual_seed(0)
        student = Model(net())
        return Plan([Stage("one", Learner(student, CrossEntropy()), Fit(steps=6, batch_size=8), data)], student)

    train(plan(), Run(tmp_path, options=QUIET, limit=2))
    with pytest.raises(Mismatch, match="limit"):
        train(plan(), Run(tmp_path, options=QUIET))
