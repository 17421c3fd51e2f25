"""Opening a stage: what is wrong is said before anything trains, and looking moves nothing."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from torch import nn

from tutelage.data import Table
from tutelage.errors import BadInput, ShapeMismatch, UnknownTap
from tutelage.objectives import CrossEntropy, Distance, Match, Objective, mse, regressor, soft_targets
from tutelage.randomness import seeded
from tutelage.signals import Depth, Model
from tutelage.state import Controller, LinearRamp, Stateful, linear_ramp
from tutelage.teachers import Ensemble, Frozen, Gives, Teacher
from tutelage.training import Fit, Learner, Plan, Run, RunOptions, Stage, train
from tutelage.training.opening import open_stage
from tutelage.training.parts import stateful_parts

FIT = Fit(steps=2, batch_size=4)
OPTIONS = RunOptions(device="cpu", quiet=True)


@pytest.fixture
def data(rng):
    return Table({"x": torch.randn(10, 3, generator=rng), "y": torch.randint(5, (10,), generator=rng)})


def net(classes: int = 5, width: int = 6) -> nn.Sequential:
    return nn.Sequential(nn.Linear(3, width), nn.BatchNorm1d(width), nn.Tanh(), nn.Dropout(0.5), nn.Linear(width, classes))


def state(*modules: nn.Module) -> list[torch.Tensor]:
    return [v.clone() for m in modules for v in m.state_dict().values()]


def same(a: list[torch.Tensor], b: list[torch.Tensor]) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def refused(error: type[Exception], said: str, second: Stage, data, run: Run | None = None) -> None:
    """A plan whose second stage is wrong raises before the first one has moved a bit."""
    student = net()
    before = state(student)
    plan = Plan([Stage("first", Learner(student, CrossEntropy()), FIT, data), second], Model(student))
    with pytest.raises(error, match=said):
        train(plan, run or Run(options=OPTIONS))
    assert same(state(student), before)


def test_an_unknown_tap_of_a_later_stage_is_found_before_the_first_trains(data):
    """Else hours are lost to a typing error."""
    loss = Match("4", "layer", by=mse())
    refused(UnknownTap, r"tap 'layer' is not in the teacher", Stage("b", Learner(net(), loss, Frozen(Model(net()))), FIT, data), data)
    loss = Match("5", "4", by=mse())
    refused(UnknownTap, r"tap '5' is not in the student", Stage("b", Learner(net(), loss, Frozen(Model(net()))), FIT, data), data)


def test_an_objective_without_its_teacher_is_found_before_the_first_stage_trains(data):
    """Else the second half of a plan fails at night."""
    second = Stage("b", Learner(net(), Match("logits", by=soft_targets(2.0))), FIT, data)
    refused(BadInput, r"learner 'student' of stage 'b' matches a teacher but has none", second, data)


def test_a_teacher_that_cannot_give_a_tap_is_found_before_the_first_stage_trains(data):
    """Else an ensemble is asked for features it does not have."""

    class Narrow(Teacher):
        gives = Gives(taps=frozenset({"0", "1"}))
        name = "narrow"

    for teacher, can in ((Ensemble([Frozen(Model(net()))]), "its logits only"), (Narrow(), "0, 1")):
        for tap in ("2", Depth(0.5)):
            second = Stage("b", Learner(net(), Match("2", tap, by=mse()), teacher), FIT, data)
            refused(BadInput, rf"stage 'b' asks the teacher .* for tap .*, but it gives {can}", second, data)


def test_other_classes_are_found_before_step_0(data):
    """Else the first batch fails inside a KL, with sizes but without names."""
    student = net()
    before = state(student)
    loss = CrossEntropy() + Match("logits", by=soft_targets(2.0), name="soft")
    with pytest.raises(ShapeMismatch, match=r"\(2, 5\).*\(2, 7\)"):
        train(Plan([Stage("s", Learner(student, loss, Frozen(Model(net(7)))), FIT, data)], Model(student)), Run(options=OPTIONS))
    assert same(state(student), before)
    assert all(p.requires_grad for p in student.parameters())


def test_a_pattern_that_fits_nothing_is_refused_with_an_example(data):
    """Else a learner trains nothing, or all."""
    with pytest.raises(BadInput, match=r"only='head\*' fits no parameter .* named like '0.weight'"):
        train(Plan([Stage("s", Learner(net(), CrossEntropy(), only=("head*",)), FIT, data)], Model(net())), Run(options=OPTIONS))
    student = net()
    student.requires_grad_(False)
    with pytest.raises(BadInput, match=r"trains no parameter"):
        train(Plan([Stage("s", Learner(student, CrossEntropy()), FIT, data)], Model(student)), Run(options=OPTIONS))


def test_terms_of_one_name_are_refused():
    """Else one curve hides another."""
    with pytest.raises(BadInput, match="two terms are named 'logits'"):
        Match("logits", by=mse()) + Match("logits", by=soft_targets(2.0))


def test_a_loss_that_reaches_nothing_that_is_trained_is_refused(data):
    """Else a stage runs to its end and changes nothing."""
    loss = Match("2", by=mse())
    with pytest.raises(BadInput, match="no trained parameter"):
        train(Plan([Stage("s", Learner(net(), loss, Frozen(Model(net())), only=("4.*",)), FIT, data)], Model(net())), Run(options=OPTIONS))


def test_parameters_that_the_loss_does_not_reach_are_named(data, capsys):
    """Else a hint stage that shall train the whole trains half of it, in silence."""
    loss = Match("2", by=mse())
    options = RunOptions(device="cpu", quiet=False)
    train(Plan([Stage("s", Learner(net(), loss, Frozen(Model(net()))), FIT, data)], Model(net())), Run(options=options))
    assert "the loss does not reach 4.weight, 4.bias; they stay as they are" in capsys.readouterr().err


def test_an_objective_needs_data():
    """Else the first step fails on an empty batch."""
    with pytest.raises(BadInput, match="has an objective but the stage has no data"):
        train(Plan([Stage("s", Learner(net(), CrossEntropy()), FIT)], Model(net())), Run(options=OPTIONS))


def test_a_batch_smaller_than_the_processes_is_refused(data):
    """Else a process has no sample, and all wait."""

    class Five(Run):
        ranks = 5

    with pytest.raises(BadInput, match=r"batch_size=4 is smaller than the 5 processes"):
        train(Plan([Stage("s", Learner(net(), CrossEntropy()), FIT, data)], Model(net())), Five(options=OPTIONS))


@pytest.mark.parametrize("paces", [{"every": 2}, {"repeat": 2}])
def test_learners_that_step_together_need_one_pace(paces, data):
    """Else one of them is silently stepped at the other's pace."""
    learners = {"a": Learner(net(), CrossEntropy()), "b": Learner(net(), CrossEntropy(), **paces)}
    with pytest.raises(BadInput, match="need the same `every` and `repeat`"):
        train(Plan([Stage("s", learners, FIT, data, order=[("a", "b")])], Model(net())), Run(options=OPTIONS))


def test_opening_a_stage_moves_neither_weights_nor_statistics_nor_generators(data):
    """Else a resumed run, which opens its stage again, is another one."""
    student, teacher = net(), net()
    ramp = linear_ramp(2.0, 1.0)
    loss = CrossEntropy() + ramp * Match(Depth(0.5), through=regressor(), by=mse(), name="hint")
    stage = Stage("s", Learner(student, loss, Frozen(Model(teacher))), FIT, data)
    run = Run(seed=1, options=OPTIONS)
    random.seed(1)
    np.random.seed(1)
    torch.manual_seed(1)
    before, drawn = state(student, teacher), (torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist())
    with open_stage(run, stage, 0):
        assert same(state(student, teacher), before)
    assert torch.equal(torch.get_rng_state(), drawn[0])
    assert random.getstate() == drawn[1]
    assert np.random.get_state()[1].tolist() == drawn[2]
    assert all(p.requires_grad for p in [*student.parameters(), *teacher.parameters(), *loss.parameters()])
    assert teacher.training


def test_a_connector_is_drawn_from_the_seed_the_stage_and_the_term_alone(data):
    """Else the connector of a resumed run starts elsewhere."""

    def drawn(seed: int, stage: str, term: str) -> torch.Tensor:
        torch.manual_seed(random.randrange(1000))
        hint = Match("0", through=regressor(), by=mse(), name=term)
        with open_stage(Run(seed=seed, options=OPTIONS), Stage(stage, Learner(net(), hint, Frozen(Model(net()))), FIT, data), 0):
            return hint.connector.linear.weight.detach().clone()

    one = drawn(1, "s", "t")
    assert torch.equal(one, drawn(1, "s", "t"))
    assert not any(torch.equal(one, drawn(*other)) for other in ((2, "s", "t"), (1, "r", "t"), (1, "s", "u")))


def test_a_teacher_that_prepares_itself_when_a_stage_begins_is_ready_for_the_dry_run(data):
    """Else a table of past predictions is read before it is there."""

    class Late(Teacher):
        gives = Gives()
        ready = False

        def begin_stage(self, run) -> None:
            self.ready = True

        def signals(self, batch, taps, *, view=None):
            assert self.ready
            return Frozen(Model(net())).signals(batch, taps)

    loss = Match("logits", by=soft_targets(2.0))
    train(Plan([Stage("s", Learner(net(), loss, Late()), FIT, data)], Model(net())), Run(options=OPTIONS))


def test_an_objectives_own_frozen_parameters_stay_and_trained_ones_can_be_trained_again(data):
    """Else a fixed projection learns to make the loss small, or a second run trains half of what the first did."""

    class Projected(Objective):
        name = "projected"

        def __init__(self) -> None:
            super().__init__()
            self.fixed, self.free = nn.Linear(5, 5), nn.Linear(5, 5)
            self.fixed.requires_grad_(False)

        def needs(self):
            return CrossEntropy().needs()

        def terms(self, student, teacher, batch):
            return CrossEntropy().terms({"logits": self.free(self.fixed(student["logits"]))}, None, batch)

    loss, other = Projected(), Projected()
    for _ in range(2):
        before = state(loss.fixed, loss.free)
        learners = {"a": Learner(net(), loss), "b": Learner(net(), other)}
        train(Plan([Stage("s", learners, FIT, data)], Model(net())), Run(options=OPTIONS))
        after = state(loss.fixed, loss.free)
        assert [torch.equal(x, y) for x, y in zip(before, after, strict=True)] == [True, True, False, False]


def test_stateful_parts_are_found_wherever_they_are_visible_each_once():
    """Else a schedule is never begun, or a table is lost on resume."""

    class Own(Teacher):
        def __init__(self) -> None:
            self.pace, self.inner = LinearRamp(0, 1, 1), {"a": [Frozen(Model(net()))]}

    heat, weight, extra = linear_ramp(4, 1), linear_ramp(0, 1), Stateful()
    by = Distance(lambda student, target, heat: (student - target).square().mean(1), {"heat": heat})
    loss = CrossEntropy() + weight * Match("logits", by=by, name="x") + heat * Match("logits", by=by, name="y")
    teacher = Own()
    found = stateful_parts(Stage("s", {"a": Learner(net(), loss, teacher), "b": Learner(net(), loss, teacher)}, FIT, parts=[extra, heat]))
    assert len(found) == len({id(p) for p in found.values()}) == 6
    assert {id(p) for p in found.values()} == {id(p) for p in (heat, weight, extra, teacher, teacher.pace, teacher.inner["a"][0])}
    assert all(path.startswith(("learners.a.", "parts.0")) for path in found)


def test_a_controller_hidden_in_a_closure_is_an_error(data):
    """Else a schedule that nobody begins stays at its first value."""
    hidden: Controller = linear_ramp(1.0, 0.0)
    loss = Match("logits", by=lambda student, target: (student - target).square().mean(1) * hidden.value)
    with pytest.raises(BadInput, match="does not own it"):
        train(Plan([Stage("s", Learner(net(), loss, Frozen(Model(net()))), FIT, data)], Model(net())), Run(options=OPTIONS))


def test_lazy_layers_take_their_shapes_before_the_optimizer_is_made(data):
    """Else a model with lazy layers cannot be trained at all."""
    with seeded("lazy"):
        student = nn.Sequential(nn.LazyLinear(6), nn.Tanh(), nn.LazyLinear(5))
    model = Model(student)
    train(Plan([Stage("s", Learner(model, CrossEntropy()), FIT, data)], model), Run(options=OPTIONS))
    assert student[0].weight.shape == (6, 3)
