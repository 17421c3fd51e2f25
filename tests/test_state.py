"""Controllers, schedules and the clock."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tutelage.errors import BadInput
from tutelage.state import Clock, Controller, Record, Stateful, drawn, during, linear_ramp, value_of


def clock(step, steps):
    return Clock("stage", step, steps, 0, 1.0, 0)


def path(controller, steps):
    controller.open()
    values = []
    for step in range(steps):
        controller.begin(clock(step, steps))
        values.append(controller.value)
    return values


def test_a_linear_ramp_is_a_straight_line_from_the_first_step_to_the_last():
    """FitNets anneals 4 -> 1; an off-by-one never arrives."""
    assert path(linear_ramp(4.0, 1.0), 7) == pytest.approx([4, 3.5, 3, 2.5, 2, 1.5, 1])


def test_a_linear_ramp_over_a_share_stays_at_its_end():
    """Past the way the weight must rest, not run on to negative values."""
    assert path(linear_ramp(4.0, 1.0, over=0.5), 7) == pytest.approx([4, 3, 2, 1, 1, 1, 1])


@given(st.floats(-10, 10), st.floats(-10, 10), st.floats(0.01, 1), st.integers(2, 50))
def test_a_linear_ramp_is_monotone_and_meets_both_ends(start, end, over, steps):
    """A ramp that overshoots trains with weights that nobody asked for."""
    values = path(linear_ramp(start, end, over), steps)
    ordered = sorted(values, reverse=end < start)
    assert values[0] == start
    assert values[-1] == pytest.approx(end, abs=1e-9)
    assert values == pytest.approx(ordered, abs=1e-9)


def test_a_stage_of_one_step_begins_at_the_start():
    """No division by zero."""
    assert path(linear_ramp(4.0, 1.0), 1) == [4.0]


@pytest.mark.parametrize("over", [0, -0.5, 1.01, math.nan, math.inf])
def test_a_ramp_over_no_share_of_the_stage_is_refused(over):
    """`over=10` is a number of epochs by mistake."""
    with pytest.raises(BadInput, match="share of the stage"):
        linear_ramp(4.0, 1.0, over=over)


def test_reading_a_controller_that_no_stage_owns_is_an_error_with_the_way_out():
    """Hidden in a closure it would stand still, and the method silently be another one."""
    ramp = linear_ramp(4.0, 1.0)
    with pytest.raises(BadInput, match=r"visible field.*Stage\(parts"):
        _ = ramp.value
    ramp.open()
    with pytest.raises(BadInput, match="stale"):  # opened, but no step has begun
        _ = ramp.value
    ramp.begin(clock(0, 3))
    assert ramp.value == 4.0
    ramp.close()
    with pytest.raises(BadInput, match="stale"):
        value_of(ramp)


def test_a_controllers_state_comes_back():
    """A resumed run goes on from the value that was saved, once its stage owns the controller again."""
    ramp, again = linear_ramp(4.0, 1.0), linear_ramp(4.0, 1.0)
    assert again.state_dict() == {}
    path(ramp, 5)
    again.load_state_dict(ramp.state_dict())
    with pytest.raises(BadInput, match="stale"):
        _ = again.value
    again.open()
    assert again.value == ramp.value
    again.load_state_dict({})
    assert again.value == ramp.value


def test_a_feedback_controller_moves_after_a_step():
    """The record holds what the step gave; a controller may keep what it needs of it."""

    class Halving(Controller):
        def begin(self, clock):
            if clock.step == 0:
                self.value = 8.0

        def update(self, record):
            self.value = self.value / 2 if record.terms["kd"] < 1 else self.value

    controller = Halving()
    controller.open()
    for step, loss in enumerate([0.5, 2.0, 0.5]):
        controller.begin(clock(step, 3))
        controller.update(Record(clock(step, 3), {"kd": loss}, {}))
    assert controller.value == 2.0


def test_a_number_is_its_own_value():
    """Coefficients may be plain numbers everywhere."""
    assert value_of(0.25) == 0.25


@pytest.mark.parametrize(("step", "steps", "progress"), [(0, 4, 0.0), (3, 4, 0.75), (0, 0, 0.0)])
def test_progress_is_the_share_of_updates_done(step, steps, progress):
    """Below 1 at the last step, and no division by zero."""
    assert clock(step, steps).progress == progress


def test_a_stateful_part_defaults_to_nothing():
    """A part need only write what it has."""
    part = Stateful()
    assert part.state_dict() == {}
    part.load_state_dict({"x": 1})
    for moment in (part.begin_stage, part.after_batch, part.after_step, part.after_epoch):
        assert moment(None) is None


def test_the_words_of_a_ramp_are_how_it_is_made():
    """Plans and configurations print it."""
    assert repr(linear_ramp(4.0, 1.0)) == "linear_ramp(4.0, 1.0, over=1.0)"


@given(first=st.integers(0, 9), length=st.integers(0, 9))
def test_a_window_is_open_in_its_own_steps_and_no_others(first, length):
    """An off-by-one gives an intervention a step that is not its own."""
    assert path(during(first, first + length), 20) == [float(first <= step < first + length) for step in range(20)]


def test_exactly_one_of_several_is_drawn_at_each_step_and_each_as_often_as_another():
    """Two at once, or none, is another method."""
    each = [path(drawn(n, 3), 300) for n in range(3)]
    assert all(sum(values) == 1 for values in zip(*each, strict=True))
    assert all(70 < sum(values) < 130 for values in each)
    assert each == [path(drawn(n, 3), 300) for n in range(3)]
    assert path(drawn(0, 3, "another"), 300) != each[0]


@pytest.mark.parametrize("wrong", [lambda: during(-1, 2), lambda: during(3, 2), lambda: drawn(3, 3), lambda: drawn(-1, 3)])
def test_windows_and_draws_that_cannot_be_are_refused(wrong):
    """Else a write would never happen, without a word."""
    with pytest.raises(BadInput):
        wrong()
