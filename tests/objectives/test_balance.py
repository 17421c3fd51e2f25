"""Controllers that balance two teachers: bounds, direction, fixed points, what is saved; and what a stage makes of them."""

from __future__ import annotations

import itertools
import math
import os
import signal

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from tutelage.data import Table
from tutelage.errors import BadInput, Interrupted
from tutelage.objectives import CrossEntropy, EntropyBalance, LossBalance, Match, WatchedMatch, mse, soft_targets
from tutelage.objectives.balance import noted
from tutelage.signals import Model
from tutelage.state import Clock, Record
from tutelage.teachers import Frozen, Pool
from tutelage.training import Fit, Learner, Plan, Run, RunOptions, Stage, train


def clock(step: int) -> Clock:
    return Clock("s", step, 1000, 0, 1.0, 0)


def told(step: int, notes: dict | None = None, terms: dict | None = None) -> Record:
    made = {k: {n: torch.tensor(v) for n, v in (given or {}).items()} for k, given in (("notes", notes), ("terms", terms))}
    return Record(clock(step), made["terms"], made["notes"])


def entropy(logits_BV, temperature: float) -> float:
    p = (logits_BV.double() / temperature).softmax(-1)
    return float(-(p * p.log()).sum(-1).mean())


@settings(max_examples=40, deadline=None)
@given(st.floats(0.2, 12), st.floats(0.2, 12), st.integers(0, 5), st.floats(0.001, 0.2))
def test_the_gap_between_two_entropies_falls_until_they_cross(sharp, flat, seed, rate):
    """On two fixed sets of logits; temperatures stay in [1, 10] throughout."""
    made = torch.Generator().manual_seed(seed)
    logits = {"a": torch.randn(16, 5, generator=made) * sharp, "b": torch.randn(16, 5, generator=made) * flat}
    balance = EntropyBalance("a", "b", rate=rate)
    heat = {name: balance[name] for name in "ab"}
    gaps = []
    for step in range(60):
        for each in (balance, *heat.values()):
            each.open()
            each.begin(clock(step))
        values = {name: entropy(logits[name], heat[name].value) for name in "ab"}
        gaps.append(values["a"] - values["b"])
        assert all(1 <= heat[name].value <= 10 for name in "ab")
        balance.update(told(step, notes={noted(name): value for name, value in values.items()}))
    crossed = next((i for i, gap in enumerate(gaps) if gap * gaps[0] <= 0), len(gaps))
    before = [abs(gap) for gap in gaps[:crossed]]
    assert all(later <= earlier + 1e-6 for earlier, later in itertools.pairwise(before))
    after = [abs(gap) for gap in gaps[crossed:]]
    assert all(gap <= abs(gaps[0]) + rate * 10 for gap in after)


def test_the_surer_teacher_is_softened():
    """The ratio of entropies is positive whatever their sign; its direction must not be flipped."""
    balance = EntropyBalance("clean", "robust", rate=0.5, start=2.0)
    balance.begin(clock(0))
    balance.update(told(0, notes={noted("clean"): 0.1, noted("robust"): 1.4}))
    assert balance.numbers == {"clean": 2.5, "robust": 1.5}
    for step in range(1, 50):
        balance.update(told(step, notes={noted("clean"): 0.1, noted("robust"): 1.4}))
    assert balance.numbers == {"clean": 10.0, "robust": 1.0}


def test_equal_teachers_stay_equal():
    balance = EntropyBalance("a", "b", rate=0.1, start=3.0)
    for step in range(5):
        balance.update(told(step, notes={noted("a"): 0.7, noted("b"): 0.7}))
    assert balance.numbers == {"a": 3.0, "b": 3.0}


@settings(max_examples=80, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 1e4), st.floats(0, 1e4), st.floats(0, 1e4)), min_size=1, max_size=20), st.floats(0, 1))
def test_weights_stay_shares_of_one(losses, rate):
    """Whatever the losses do, falling to 0 or beginning there included."""
    balance = LossBalance("a", "b", "c", rate=rate)
    for step, each in enumerate(losses):
        balance.update(told(step, terms=dict(zip("abc", each, strict=True))))
        assert math.isclose(sum(balance.numbers.values()), 1, abs_tol=1e-9)
        assert min(balance.numbers.values()) >= 0


def test_the_rule_is_the_paper_s():
    """By hand: w moves by -r (w - share of relative losses); the first losses are taken once."""
    balance = LossBalance("clean", "robust", rate=0.1)
    weight = {"clean": 0.5, "robust": 0.5}
    rows = [(2.0, 0.5), (1.0, 0.45), (0.6, 0.5), (0.7, 0.2)]
    for step, (clean, robust) in enumerate(rows):
        balance.update(told(step, terms={"clean": clean, "robust": robust}))
        relative = {"clean": clean / 2.0, "robust": robust / 0.5}
        weight = {k: w - 0.1 * (w - relative[k] / sum(relative.values())) for k, w in weight.items()}
        assert balance.numbers == pytest.approx(weight, rel=1e-6)
    assert balance.first == pytest.approx({"clean": 2.0, "robust": 0.5})


def test_the_slower_loss_gets_the_larger_weight():
    balance = LossBalance("fast", "slow", rate=0.05)
    for step in range(200):
        balance.update(told(step, terms={"fast": 0.97**step, "slow": 3 * 0.999**step}))
    assert balance.numbers["slow"] > 0.9


def test_equal_relative_losses_leave_the_weights_equal():
    balance = LossBalance("a", "b", rate=0.3)
    for step in range(10):
        balance.update(told(step, terms={"a": 0.9**step, "b": 7 * 0.9**step}))
    assert balance.numbers == pytest.approx({"a": 0.5, "b": 0.5})


def test_a_loss_that_begins_near_nothing_does_not_take_all():
    """Relative to nothing every loss is huge."""
    balance = LossBalance("a", "b", rate=1.0)
    balance.update(told(0, terms={"a": 1.0, "b": 1e-9}))
    balance.update(told(1, terms={"a": 0.5, "b": 1e-4}))
    assert balance.numbers["b"] < 0.05
    silent = LossBalance("a", "b", rate=1.0)
    silent.update(told(0, terms={"a": 0.0, "b": 0.0}))
    assert silent.numbers == {"a": 0.5, "b": 0.5}


def test_the_teacher_alone_is_softened():
    """KL(sm_T(teacher) || sm_1(student)), without T^2; the student's temperature is what is squared."""
    made = torch.Generator().manual_seed(0)
    s, t = torch.randn(2, 4, 5, generator=made, dtype=torch.float64).requires_grad_()
    found = soft_targets(3.0, student_temperature=1.0)(s, t)
    p, q = (t / 3).softmax(-1), s.log_softmax(-1)
    torch.testing.assert_close(found, (p * (p.log() - q)).sum(-1))
    torch.testing.assert_close(soft_targets(3.0, student_temperature=3.0)(s, t), soft_targets(3.0)(s, t))
    (gradient,) = torch.autograd.grad(found.sum(), s)
    torch.testing.assert_close(gradient, s.softmax(-1) - p)
    assert soft_targets(2.0, student_temperature=1.0).refuses("top-k") is not None
    with pytest.raises(BadInput, match="temperature=0"):
        soft_targets(2.0, student_temperature=0)


FIT = Fit(steps=6, batch_size=6, optimizer="sgd", lr=0.1)


def net(seed: int, scale: float = 1.0) -> Model:
    def make():
        layers = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 4))
        layers[2].weight.data.mul_(scale)
        return layers

    return Model(make, seed=seed)


def turned(step, student):
    return {**step.batch, "x": -step.batch["x"]}


def balanced(rate_t=0.3, rate_w=0.2):
    heat, weight = EntropyBalance("clean", "robust", rate=rate_t), LossBalance("clean", "robust", rate=rate_w)
    clean, robust = (WatchedMatch(by=soft_targets(heat[n], student_temperature=1.0), name=n) for n in ("clean", "robust"))
    loss = weight["clean"] * clean.on(teacher="clean") + weight["robust"] * robust.on("turned", teacher="robust")
    return loss, heat, weight


def trained(table, loss, folder=None, kill=None, micro_batch=None):
    def view(step, student):
        if kill is not None and step.clock.step == kill:
            os.kill(os.getpid(), signal.SIGTERM)
        return turned(step, student)

    student = net(1)
    pool = Pool({"clean": Frozen(net(2, 6.0)), "robust": Frozen(net(3))})
    stage = Stage("s", Learner(student, loss, pool, views={"turned": view}), FIT, table)
    options = RunOptions(device="cpu", quiet=True, log_every=1, share_every=0, micro_batch=micro_batch)
    train(Plan([stage], student), Run(folder, seed=3, options=options))
    return [p.detach().clone() for p in student.module.parameters()]


@pytest.fixture
def table(rng):
    return Table({"x": torch.randn(14, 3, generator=rng), "y": torch.randint(4, (14,), generator=rng)})


@pytest.mark.parametrize("micro_batch", [None, 3])
def test_a_stage_moves_them_as_a_loop_by_hand_does(table, micro_batch):
    """The same numbers as plain PyTorch, step by step: what is noted, when it counts, and what the weights then are."""
    loss, heat, weight = balanced()
    found = trained(table, loss, micro_batch=micro_batch)
    seen = []

    twin, clean, robust = net(1), net(2, 6.0), net(3)

    def batches():
        def spy(step, student):
            seen.append(step.batch["x"])
            return turned(step, student)

        student = net(1)
        stage = Stage("s", Learner(student, CrossEntropy().on("turned"), views={"turned": spy}), FIT, table)
        train(Plan([stage], student), Run(None, seed=3, options=RunOptions(device="cpu", quiet=True, share_every=0)))
        return seen[-FIT.steps :]

    optimizer = torch.optim.SGD(twin.module.parameters(), lr=0.1, momentum=0.9, weight_decay=0.0)
    temperature, share, first = {"clean": 1.0, "robust": 1.0}, {"clean": 0.5, "robust": 0.5}, None
    for number, x in enumerate(batches()):
        for group in optimizer.param_groups:
            group["lr"] = 0.1 * FIT.factor(number, FIT.steps)
        losses, entropies = {}, {}
        for name, model, inputs in (("clean", clean, x), ("robust", robust, -x)):
            with torch.no_grad():
                p = (model.module(inputs) / temperature[name]).softmax(-1)
            entropies[name] = float(torch.special.entr(p).sum(-1).mean())
            losses[name] = F.kl_div(twin.module(inputs).log_softmax(-1), p, reduction="batchmean")
        optimizer.zero_grad()
        (share["clean"] * losses["clean"] + share["robust"] * losses["robust"]).backward()
        for name, p in twin.module.named_parameters():
            if p.ndim > 1 or "weight" in name:
                p.grad.add_(FIT.weight_decay * p.detach())
        optimizer.step()
        values = {name: float(each.detach()) for name, each in losses.items()}
        first = first or values
        relative = {name: values[name] / first[name] for name in values}
        share = {name: w - 0.2 * (w - relative[name] / sum(relative.values())) for name, w in share.items()}
        sign = math.copysign(1, entropies["clean"] - entropies["robust"])
        temperature = {
            "clean": min(10, max(1, temperature["clean"] - 0.3 * sign)),
            "robust": min(10, max(1, temperature["robust"] + 0.3 * sign)),
        }
    assert heat.numbers == pytest.approx(temperature, abs=1e-6)
    assert heat.numbers["clean"] > 1.5
    assert weight.numbers == pytest.approx(share, abs=1e-4)
    for p, q in zip(found, twin.module.parameters(), strict=True):
        torch.testing.assert_close(p, q.detach(), atol=2e-3, rtol=2e-2)


def test_resting_controllers_are_fixed_weights(table):
    """With rates of 0 it is distillation from two teachers with fixed weights."""
    fixed = 0.5 * Match("logits", by=soft_targets(1.0), name="a").on(teacher="clean") + 0.5 * Match(
        "logits", by=soft_targets(1.0), name="b"
    ).on("turned", teacher="robust")
    for p, q in zip(trained(table, balanced(0.0, 0.0)[0]), trained(table, fixed), strict=True):
        torch.testing.assert_close(p, q, atol=1e-6, rtol=0)


def test_a_killed_run_goes_on_with_its_balance(table, tmp_path):
    """First losses, weights and temperatures come back bit for bit."""
    whole = balanced()
    first = trained(table, whole[0], tmp_path / "a")
    with pytest.raises(Interrupted, match="stopped at step 4"):
        trained(table, balanced()[0], tmp_path / "b", kill=3)
    again = balanced()
    for p, q in zip(trained(table, again[0], tmp_path / "b"), first, strict=True):
        assert torch.equal(p, q)
    assert again[1].numbers == whole[1].numbers
    assert again[2].numbers == whole[2].numbers
    assert again[2].first == whole[2].first


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: EntropyBalance("a", "b", rate=-1), "rate=-1"),
        (lambda: EntropyBalance("a", "b", start=0.5), "start=0.5"),
        (lambda: EntropyBalance("a", "a"), "at least two names"),
        (lambda: EntropyBalance("a", "b")["c"], "has no 'c'"),
        (lambda: LossBalance("a", rate=0.1), "at least two names"),
        (lambda: LossBalance("a", "a"), "each name once"),
        (lambda: LossBalance("a", "b", rate=1.5), "rate=1.5"),
        (lambda: LossBalance("a", "b", start={"a": 0.5, "b": 0.6}), "summing to 1"),
        (lambda: WatchedMatch(by=mse(), name="a"), "with a temperature"),
    ],
)
def test_what_means_nothing_is_refused(make, said):
    with pytest.raises(BadInput, match=said):
        make()


def test_a_name_that_no_term_has_is_refused_after_the_first_step(table):
    heat = EntropyBalance("clean", "robust")
    loss = WatchedMatch(by=soft_targets(heat["clean"]), name="clean").on(teacher="clean")
    with pytest.raises(BadInput, match="watches 'entropy of robust', which no term or note is named"):
        trained(table, loss)
