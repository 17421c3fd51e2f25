"""TAID's target and its controller: closed forms, limits, the published update written out in a loop. Shapes: B=3, T=5, V=7."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.special
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tutelage.errors import BadInput, ShapeMismatch
from tutelage.objectives import LossDriven, Match, divergences, interpolated_target, soft_cross_entropy, soft_targets
from tutelage.objectives.interpolated import interpolated_divergence
from tutelage.signals import Signals
from tutelage.signals.sparse import top_k
from tutelage.state import Clock, Record

B, T, V = 3, 5, 7
each_value = pytest.mark.parametrize("value", ["kl", "cross-entropy"])


def pair(rng, *shape, scale=2.0):
    return (scale * torch.randn(2, *shape, dtype=torch.float64, generator=rng)).unbind()


def gradient_of(distance, student, teacher):
    own = student.detach().clone().requires_grad_()
    return torch.autograd.grad(distance(own, teacher).sum(), own)[0]


@each_value
@pytest.mark.parametrize("t", [0.0, 0.25, 0.6, 1.0])
@pytest.mark.parametrize("shape", [(B, V), (B, T, V)], ids=["rows", "positions"])
def test_the_divergence_equals_a_loop_with_mixed_logits(rng, shape, t, value):
    """Mixed probabilities in place of mixed logits are another method."""
    student, teacher = pair(rng, *shape)
    values = interpolated_target(t, value)(student, teacher)
    assert values.shape == shape[:-1]
    for found, s, z in zip(values.reshape(-1), student.reshape(-1, V).numpy(), teacher.reshape(-1, V).numpy(), strict=True):
        q, r = scipy.special.softmax(s), scipy.special.softmax((1 - t) * s + t * z)
        expected = scipy.stats.entropy(r, q) + (scipy.stats.entropy(r) if value == "cross-entropy" else 0)
        assert found.item() == pytest.approx(expected, rel=1e-10, abs=1e-12)


@each_value
@pytest.mark.parametrize("t", [0.25, 0.6])
def test_the_gradient_is_the_student_minus_the_target(rng, t, value):
    """The card: softmax(z) - softmax((1 - t) z + t z'); a target that is not detached gives another."""
    student, teacher = pair(rng, B, T, V)
    q, r = (scipy.special.softmax(z.numpy(), axis=-1) for z in (student, (1 - t) * student + t * teacher))
    np.testing.assert_allclose(gradient_of(interpolated_target(t, value), student, teacher).numpy(), q - r, atol=1e-12)


@each_value
def test_at_the_end_the_gradient_is_the_forward_kls_and_at_the_start_there_is_none(rng, value):
    """The two ends of the way: the student's own distribution, and the teacher's."""
    student, teacher = pair(rng, B, V)
    there, forward = (gradient_of(d, student, teacher) for d in (interpolated_target(1.0, value), soft_targets(1.0)))
    torch.testing.assert_close(there, forward)
    here = gradient_of(interpolated_target(0.0, value), student, teacher)
    torch.testing.assert_close(here, torch.zeros(B, V, dtype=torch.float64), atol=1e-12, rtol=0)
    own = {"kl": soft_targets(1.0), "cross-entropy": soft_cross_entropy()}[value]
    torch.testing.assert_close(interpolated_target(1.0, value)(student, teacher), own(student, teacher))


@settings(deadline=None, max_examples=60)
@given(st.lists(st.floats(-30, 30), min_size=2 * V, max_size=2 * V), st.floats(0, 1))
def test_the_kl_is_never_negative_and_below_the_teachers(numbers, t):
    """The target lies between the two: it is nearer to the student than the teacher is."""
    student, teacher = torch.tensor(numbers, dtype=torch.float64).reshape(2, 1, V)
    found = interpolated_target(t)(student, teacher).item()
    assert -1e-9 <= found <= soft_targets(1.0)(student, teacher).item() + 1e-9


@pytest.mark.parametrize("t", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("nothing", [-1e4, -math.inf])
def test_classes_that_a_side_rules_out_give_finite_values_and_gradients(t, nothing):
    """0 times infinity at either end of the way would end a run."""
    student = torch.tensor([[1.0, 2.0, nothing], [nothing, 0.0, 1.0]], requires_grad=True)
    teacher = torch.tensor([[2.0, 1.0, nothing], [0.0, nothing, 1.0]])
    for value in ("kl", "cross-entropy"):
        values = interpolated_target(t, value)(student, teacher)
        assert values.isfinite().all()
        assert torch.autograd.grad(values.sum(), student)[0].isfinite().all()


def test_large_vocabularies_in_pieces_give_the_same(rng, monkeypatch):
    """Some rows at a time, made again for the gradient."""
    student, teacher = pair(rng, B, T, V)
    whole, expected = interpolated_target(0.3)(student, teacher), gradient_of(interpolated_target(0.3), student, teacher)
    monkeypatch.setattr(divergences, "PIECE", 2 * V)
    torch.testing.assert_close(interpolated_target(0.3)(student, teacher), whole)
    torch.testing.assert_close(gradient_of(interpolated_target(0.3), student, teacher), expected)


def test_half_precision_is_raised_and_the_teacher_gets_no_gradient(rng):
    """As with every distance."""
    student, teacher = (x.bfloat16().requires_grad_() for x in pair(rng, B, V))
    assert interpolated_target(0.3)(student, teacher).dtype == torch.float32
    Match("logits", by=interpolated_target(0.3))({"logits": student}, {"logits": teacher}, {}).backward()
    assert student.grad is not None
    assert teacher.grad is None


def test_what_cannot_be_mixed_is_refused(rng):
    """Kept classes say nothing of the logits of the others."""
    student, teacher = pair(rng, B, V)
    kept = Signals({"logits": top_k(teacher, 2)})
    with pytest.raises(BadInput, match="interpolated_target mixes the logits of all classes"):
        Match("logits", by=interpolated_target(0.3))(Signals({"logits": student}), kept, {})
    with pytest.raises(ShapeMismatch):
        interpolated_target(0.3)(student, teacher[:, :1])
    for t in (-0.1, 1.1, math.nan, True, "half"):
        with pytest.raises(BadInput, match=r"in \[0, 1\]"):
            interpolated_target(t)
    with pytest.raises(BadInput, match="'kl' or 'cross-entropy'"):
        interpolated_target(0.3, "ce")


def test_the_plain_function_is_the_maths_of_the_distance(rng):
    """Users compute it by hand in notebooks and must get the trained number."""
    student, teacher = pair(rng, B, V)
    torch.testing.assert_close(interpolated_divergence(student, teacher, 0.3), interpolated_target(0.3)(student, teacher))


def clock(step, steps):
    return Clock("distil", step, steps, 0, 1.0, 0)


def driven(losses, **options):
    """The value that each step saw, and the controller as it was left."""
    controller = LossDriven("taid", **options)
    controller.open()
    seen = []
    for step, loss in enumerate(losses):
        controller.begin(clock(step, len(losses)))
        seen.append(controller.value)
        controller.update(Record(clock(step, len(losses)), {"taid": torch.tensor(loss, dtype=torch.float64)}, {}))
    return seen, controller


def published(losses, start, end, alpha, beta):
    """The update of the card, one line a formula."""
    t, momentum, previous, seen = start, 0.0, None, []
    for n, loss in enumerate(losses):
        seen.append(t)
        if previous is not None:
            momentum = beta * momentum + (1 - beta) * (previous - loss) / (previous + 1e-15)
            delta = alpha * scipy.special.expit(momentum) * (1 - t)
            t = min(end, max(start + (end - start) * n / len(losses), t + delta))
        previous = loss
    return seen, t


LOSSES = st.lists(st.floats(1e-3, 50), min_size=1, max_size=40)


@given(LOSSES, st.floats(0, 0.9), st.floats(0, 0.3), st.floats(0, 0.99))
def test_the_controller_moves_as_published(losses, start, alpha, beta):
    """An update that is off by a step, or reads another loss, teaches at another pace."""
    seen, controller = driven(losses, start=start, end=0.95, alpha=alpha, beta=beta)
    expected, last = published(losses, start, 0.95, alpha, beta)
    assert seen == pytest.approx(expected, abs=1e-12)
    assert controller.value == pytest.approx(last, abs=1e-12)


@given(LOSSES, st.floats(0, 0.9), st.floats(0, 1), st.floats(0, 0.99))
def test_the_way_is_monotone_never_behind_the_straight_line_and_never_past_the_end(losses, start, alpha, beta):
    """Or the student would be sent back to itself, or left there."""
    seen, controller = driven(losses, start=start, end=0.9, alpha=alpha, beta=beta)
    path = [*seen, controller.value]
    assert path == sorted(path)
    assert all(start <= value <= 0.9 for value in path)
    # what a step leaves is not behind the line at that step; the next step sees it
    line = [start + (0.9 - start) * n / len(losses) for n in range(len(losses))]
    assert all(value >= at - 1e-12 for value, at in zip(path[2:], line[1:], strict=True))


def test_without_alpha_it_is_the_straight_line():
    """The paper's arm without adaptation, one step late."""
    seen, controller = driven([3.0, 2.5, 9.0, 1.0, 1.0], start=0.2, end=1.0, alpha=0.0)
    assert [*seen[1:], controller.value] == pytest.approx([0.2 + 0.8 * n / 5 for n in range(5)])


def test_a_loss_that_stands_still_keeps_the_momentum_at_0():
    """Then each step adds alpha (1 - t) / 2, where that is ahead of the line."""
    seen, controller = driven([2.0] * 5, start=0.4, end=1.0, alpha=0.9)
    assert controller.momentum == 0.0
    for before, after in zip(seen[1:], [*seen[2:], controller.value], strict=True):
        assert after == pytest.approx(before + 0.45 * (1 - before))


def test_a_falling_loss_moves_faster_than_a_rising_one():
    """The sign of the change: the target moves on as the student learns."""
    falling, rising = (driven([factor**n for n in range(20)], alpha=0.3, beta=0.5)[0] for factor in (0.7, 1.4))
    assert all(one > other for one, other in zip(falling[2:8], rising[2:8], strict=True))


@pytest.mark.parametrize("losses", [[0.0, 1.0, 1.0], [1e-300, 1e300, 1.0], [0.0, 0.0, 0.0]])
def test_losses_near_0_do_not_overflow(losses):
    """A relative change has no bound; its sigmoid has."""
    seen, controller = driven(losses, beta=0.0)
    assert all(math.isfinite(value) for value in [*seen, controller.value])


def test_its_state_survives():
    """A resumed run that forgot the last loss would leave out an update, and end with another student."""
    losses = [3.0, 2.0, 2.5, 1.0, 0.9, 0.8]
    expected, whole = driven(losses, alpha=0.5)
    for cut in range(1, len(losses)):
        first, again = (LossDriven("taid", alpha=0.5) for _ in range(2))
        seen = []
        for controller, steps in ((first, range(cut)), (again, range(cut, len(losses)))):
            controller.open()
            if controller is again:
                again.begin(clock(0, len(losses)))  # a stage is rehearsed before it goes on
                again.load_state_dict(first.state_dict())
            for step in steps:
                controller.begin(clock(step, len(losses)))
                seen.append(controller.value)
                controller.update(Record(clock(step, len(losses)), {"taid": torch.tensor(losses[step], dtype=torch.float64)}, {}))
        assert seen == expected
        assert (again.value, again.last, again.momentum) == (whole.value, whole.last, whole.momentum)
    assert all(isinstance(value, float) for value in whole.state_dict().values())


def test_a_new_stage_starts_anew():
    """The same plan carried out twice must not begin where it ended."""
    _, controller = driven([3.0, 2.0, 1.0], start=0.3, alpha=0.5)
    controller.begin(clock(0, 3))
    assert (controller.value, controller.last, controller.momentum) == (0.3, None, 0.0)


def test_a_note_can_be_watched_and_an_unknown_name_is_an_error():
    """A typing error would leave the plain schedule in silence."""
    controller = LossDriven("entropy")
    controller.open()
    controller.begin(clock(0, 3))
    controller.update(Record(clock(0, 3), {}, {"entropy": torch.tensor(2.0)}))
    assert controller.last == 2.0
    controller.update(Record(clock(1, 3), {}, {}))  # its learner was not due
    with pytest.raises(BadInput, match=r"watches 'entropy'.*nearest: 'entropi'"):
        controller.update(Record(clock(0, 3), {"entropi": torch.tensor(1.0)}, {}))


@pytest.mark.parametrize("bad", [{"start": -0.1}, {"start": 0.7, "end": 0.5}, {"end": 1.1}, {"alpha": -1}, {"alpha": 1.1}, {"beta": 1.0}])
def test_numbers_outside_their_range_are_refused(bad):
    """A momentum that never forgets, or a target beyond the teacher."""
    with pytest.raises(BadInput, match=next(iter(bad))):
        LossDriven("taid", **bad)


def test_the_controller_is_a_visible_knob():
    """So that a stage finds, begins and saves it; its words are how it is made."""
    controller = LossDriven("taid", 0.2)
    assert interpolated_target(controller).knobs["t"] is controller
    assert repr(controller) == "LossDriven('taid', 0.2, 1.0, alpha=0.0005, beta=0.99)"
