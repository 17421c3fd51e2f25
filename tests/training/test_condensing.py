"""Trajectory matching part by part: what the extras of AST do, and that without them it is MTT."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from tutelage.data import SyntheticSet, Table
from tutelage.errors import BadInput, Interrupted
from tutelage.objectives import CrossEntropy
from tutelage.signals import Model
from tutelage.state import Clock, Stateful
from tutelage.training import Action, Fit, Layout, Learner, Plan, Run, RunOptions, Stage, Trajectory, distance_left, train
from tutelage.training.condensing import (
    Inner,
    SmoothExpert,
    TrajectoryMatching,
    balance,
    clipped_loss,
    input_gradient_penalty,
    match_points,
    perturbed,
    synthetic_model,
)

QUIET = RunOptions(device="cpu", quiet=True, share_every=0, log_every=1, checkpoint_every=2)
D = torch.float64


def test_the_clipped_loss_rises_in_the_first_ten_epochs():
    factor = clipped_loss()
    factor.open()
    seen = []
    for epoch in range(12):
        factor.begin(Clock("experts", 0, 1, epoch, 12, 0))
        seen.append(factor.value)
    assert seen == pytest.approx([0.5 + 0.05 * e for e in range(10)] + [1.0, 1.0])
    with pytest.raises(BadInput, match="clipped_loss"):
        clipped_loss(0.0)


def test_a_linear_map_of_unit_slope_pays_no_penalty_and_others_by_their_norm(rng):
    weight = torch.randn(3, 5, generator=rng, dtype=D)
    x = torch.randn(4, 5, generator=rng, dtype=D).requires_grad_()
    slope = weight.sum(0).norm()
    assert torch.allclose(input_gradient_penalty(x @ (weight / slope).T, x), torch.zeros(4, dtype=D))
    torch.testing.assert_close(input_gradient_penalty(x @ weight.T, x), ((slope - 1) ** 2).expand(4))
    assert input_gradient_penalty(x * 0, x).isfinite().all()
    over = input_gradient_penalty((x.view(4, 1, 1, 5) ** 2).flatten(1), x)
    torch.testing.assert_close(over, ((2 * x).norm(dim=1) - 1) ** 2)


def test_the_penalty_by_channels_is_that_of_each_pixel(rng):
    x = torch.randn(2, 3, 4, 4, generator=rng, dtype=D).requires_grad_()
    found = input_gradient_penalty((x**2).flatten(1), x, over="channels")
    torch.testing.assert_close(found, ((2 * x).norm(dim=1) - 1).square().flatten(1).mean(1))


def test_the_penalty_has_a_way_back_to_the_weights(rng):
    x = torch.randn(3, 4, generator=rng, dtype=D)
    weight = torch.randn(2, 4, generator=rng, dtype=D, requires_grad=True)
    assert torch.autograd.gradcheck(lambda w: input_gradient_penalty(torch.tanh((xs := x.clone().requires_grad_()) @ w.T), xs), (weight,))
    with pytest.raises(BadInput, match="want no gradient"):
        input_gradient_penalty(x, x)
    with pytest.raises(BadInput, match="do not depend"):
        input_gradient_penalty(weight, x.clone().requires_grad_())


def test_late_starts_weigh_more_and_the_middle_is_the_least_of_the_late():
    values = [balance(start, 20) for start in range(20)]
    assert values[10] == pytest.approx(math.log(8, 5))
    assert values[9] == pytest.approx(1 / math.log(9, 5))
    assert all(v < 1 for v in values[:10])
    assert values == sorted(values)


def test_only_kernels_are_perturbed_and_by_no_more_than_alpha_allows(rng):
    net = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(12, 2))
    layout = Layout.of(net)
    flat_P = layout.flat(dict(net.named_parameters())).detach()
    assert torch.equal(perturbed(flat_P, layout, 0.0, rng), flat_P)
    moved, own = layout.named(perturbed(flat_P, layout, 0.7, rng)), layout.named(flat_P)
    assert [name for name in own if not torch.equal(own[name], moved[name])] == ["0.weight"]
    assert (moved["0.weight"] - own["0.weight"]).norm() <= 0.7 * own["0.weight"].abs().max() * (1 + 1e-5)


def test_snapshots_on_the_way_are_met_at_even_distances():
    assert match_points(20, 3) == [6, 12]
    assert match_points(10, 2) == [5]
    assert match_points(7, 1) == []


def task() -> Table:
    made = torch.Generator().manual_seed(3)
    y = torch.arange(24) % 3
    return Table({"x": torch.randn(24, 1, 4, 4, generator=made) + y[:, None, None, None], "y": y})


def net() -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.Tanh(), nn.Flatten(), nn.Linear(8, 3))


def plan_of(
    inner: Inner, steps: int = 6, penalty: float | None = None, parts: tuple[Stateful, ...] = ()
) -> tuple[Plan, TrajectoryMatching]:
    student, path = Model(net, seed=1), Trajectory(every=2)
    fit = Fit(steps=8, batch_size=12, optimizer="sgd", lr=0.05, schedule="constant")
    loss = CrossEntropy() if penalty is None else SmoothExpert(clipped_loss(), penalty)
    views = {} if penalty is None else SmoothExpert.views
    experts = [
        Stage(f"expert-{k}", Learner(student.fresh(k), loss, views=views), fit, task(), parts=[path])  # type: ignore[arg-type]
        for k in (1, 2)
    ]
    first = Action("begin", lambda run: {"x": task().batch(torch.arange(6))["x"]})
    synthetic = synthetic_model((1, 4, 4), torch.arange(6) % 3, 0.05, "x")
    matching = TrajectoryMatching(student.fresh(0), synthetic, path, inner, first)
    learner = Learner(synthetic, matching, groups={"lr": {"lr": 1e-3}})
    condense = Stage("condense", learner, Fit(steps=steps, optimizer="sgd", lr=1.0, momentum=0.5, weight_decay=0.0), parts=parts)
    return Plan([*experts, first, condense], synthetic), matching


def state(model: Model) -> dict[str, torch.Tensor]:
    return {k: v.detach().clone() for k, v in model.module.state_dict().items()}


ALL = Inner(steps=5, ahead=2, starts=2, batch=4, momentum=0.5, intermediate=1.0, balanced=True, perturbation=1.0, segment=2)


@pytest.mark.parametrize("inner", [Inner(steps=6, ahead=2, starts=2), ALL])
def test_matching_brings_the_inner_loop_nearer_to_the_expert(inner):
    losses = []
    plan, _ = plan_of(inner, steps=60)
    train(
        plan, Run(None, seed=3, options=QUIET, track=lambda line: losses.append(line["terms"].get("arrival")) if "terms" in line else None)
    )
    losses = [each for each in losses if each is not None]
    assert len(losses) == 60
    assert sum(losses[-15:]) < sum(losses[:15])
    assert plan.product.module.lr.item() != pytest.approx(0.05, abs=1e-9)


def test_without_extras_it_is_mtt_computed_by_hand():
    plan, matching = plan_of(Inner(steps=4, ahead=1, starts=1), steps=1)
    seen = []
    train(
        plan,
        Run(None, seed=3, options=QUIET, track=lambda line: seen.append(line["terms"]) if "arrival" in line.get("terms", {}) else None),
    )
    trajectory, x, y = matching.reader.trajectory, task().batch(torch.arange(6))["x"], torch.arange(6) % 3
    found = []
    for stage in trajectory.stages:
        begin, target = trajectory.segment(stage, 0, 1)
        student = net()
        student.load_state_dict(begin)
        sgd = torch.optim.SGD(student.parameters(), lr=0.05)
        for _ in range(4):
            sgd.zero_grad()
            F.cross_entropy(student(x), y).backward()
            sgd.step()
        layout = Layout.of(student)
        found.append(float(distance_left(layout.flat(student.state_dict()), layout.flat(begin), layout.flat(target))))
    assert list(seen[0]) == ["arrival"]
    assert min(abs(float(seen[0]["arrival"]) - each) for each in found) < 1e-5


def test_the_inner_rate_stays_above_zero():
    """A set of a negative rate could not even be read again."""
    plan, _ = plan_of(Inner(steps=2, ahead=1, starts=2), steps=1)
    (learner,) = plan.stages[-1].named.values()
    fast = replace(learner, groups={"lr": {"lr": 1e6}})
    plan = Plan([*plan.parts[:-1], replace(plan.stages[-1], learners=fast)], plan.product)
    train(plan, Run(None, seed=3, options=QUIET))
    assert plan.product.module.lr.item() > 0


@pytest.mark.parametrize("change", [{"segment": 2}, {"intermediate": 0.0}])
def test_segments_change_nothing_and_no_weight_leaves_the_passages_out(change):
    inner = Inner(steps=4, ahead=2, starts=2, intermediate=1.0)
    ends = []
    for each in (inner, Inner(**{**vars(inner), **change})):
        plan, _ = plan_of(each, steps=3)
        train(plan, Run(None, seed=3, options=QUIET))
        ends.append(plan.product.module.x.detach())
    assert torch.allclose(*ends, rtol=0, atol=1e-6) == ("segment" in change)


class Stopped(Stateful):
    """Wishes to stop after three steps of condensing."""

    def begin_stage(self, run):
        self.run = run

    def after_step(self, step):
        if step.clock.step == 2:
            self.run.stop_signal = 15


def test_a_stopped_run_goes_on_bit_for_bit(tmp_path):
    plan, _ = plan_of(ALL)
    train(plan, Run(tmp_path / "whole", seed=3, options=QUIET))
    cut, _ = plan_of(ALL, parts=(Stopped(),))
    with pytest.raises(Interrupted, match="stage 'condense'"):
        train(cut, Run(tmp_path / "cut", seed=3, options=QUIET))
    again, _ = plan_of(ALL)
    train(again, Run(tmp_path / "cut", seed=3, options=QUIET))
    assert all(torch.equal(a, b) for a, b in zip(state(plan.product).values(), state(again.product).values(), strict=True))
    assert torch.equal(plan.product.module.y, torch.arange(6) % 3)


def flat_way(penalty: float | None) -> list[torch.Tensor]:
    plan, matching = plan_of(Inner(steps=4, ahead=1, starts=1), steps=1, penalty=penalty)
    train(plan, Run(None, seed=3, options=QUIET))
    layout = Layout.of(net())
    return [layout.flat(each) for each in matching.reader.trajectory.of("expert-1")]


def test_clipped_experts_move_less():
    moved = [sum(float((b - a).norm()) for a, b in itertools.pairwise(flat_way(penalty))) for penalty in (None, 0.0)]
    assert moved[1] < moved[0]


def test_penalised_experts_have_slopes_nearer_to_one():
    slopes = []
    for penalty in (0.0, 2.0):
        model = Model(net())
        model.module.load_state_dict(Layout.of(model.module).named(flat_way(penalty)[-1]))
        x = task().batch(torch.arange(24))["x"].requires_grad_()
        slopes.append(input_gradient_penalty(model.module(x), x).mean().item())
    assert slopes[1] < slopes[0]


def test_nonsense_is_refused():
    for wrong in ({"steps": 0}, {"ahead": 21}, {"starts": 0}, {"batch": 0}, {"momentum": 1.0}, {"intermediate": -1.0}, {"segment": 0}):
        with pytest.raises(BadInput, match=f"Inner\\({next(iter(wrong))}="):
            Inner(**wrong)
    plan, _ = plan_of(Inner(steps=5, ahead=5, starts=2))
    with pytest.raises(BadInput, match="there is no segment of 5"):
        train(plan, Run(None, seed=1, options=QUIET))
    student, path = Model(net, seed=1), Trajectory(every=2)
    wrong = Learner(student, TrajectoryMatching(student, student, path, first=None))
    expert = Stage("expert", Learner(student.fresh(1), CrossEntropy()), Fit(steps=4), task(), parts=[path])
    with pytest.raises(BadInput, match="not a Sequential"):
        train(Plan([expert, Stage("condense", wrong, Fit(steps=1))], student), Run(None, options=QUIET))
    assert isinstance(plan.product.module, SyntheticSet)
