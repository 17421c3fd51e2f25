"""Fit: refused values, the learning rate in closed form, the number of updates."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tutelage.errors import BadInput
from tutelage.training import Fit, RunOptions


@pytest.mark.parametrize(
    "knobs",
    [
        {},
        {"epochs": 1, "steps": 1},
        {"epochs": 0},
        {"epochs": math.inf},
        {"epochs": math.nan},
        {"steps": 0},
        {"steps": 1, "batch_size": 0},
        {"steps": 1, "lr": 0.0},
        {"steps": 1, "lr": math.nan},
        {"steps": 1, "lr": math.inf},
        {"steps": 1, "momentum": 1.0},
        {"steps": 1, "momentum": -0.1},
        {"steps": 1, "weight_decay": -1.0},
        {"steps": 1, "warmup": 1.0},
        {"steps": 1, "clip": 0.0},
        {"steps": 1, "ema": 1.0},
        {"steps": 1, "ema": 0.0},
        {"steps": 1, "optimizer": "lion"},
        {"steps": 1, "schedule": "cosin"},
        {"steps": 1, "keep": "worst"},
    ],
)
def test_a_value_outside_its_range_is_refused_by_name(knobs):
    """Else a typing error trains for hours with a learning rate of NaN."""
    name = next(reversed(knobs), "epochs")
    with pytest.raises(BadInput, match=rf"Fit\(.*{name}="):
        Fit(**knobs)


@pytest.mark.parametrize(
    "knobs",
    [
        {"workers": -1},
        {"checkpoint_every": 0},
        {"log_every": 0},
        {"share_every": -1},
        {"micro_batch": 0},
        {"device": "tpu"},
        {"precision": "fp8"},
    ],
)
def test_a_run_option_outside_its_range_is_refused_by_name(knobs):
    """Else the run fails hours later, where the option is first used."""
    with pytest.raises(BadInput, match=next(iter(knobs))):
        RunOptions(**knobs)


@given(st.integers(1, 200), st.floats(0, 0.9))
def test_every_schedule_rises_to_its_peak_and_stays_in_the_unit_interval(steps, warmup):
    """Else the peak learning rate is never reached, or passed."""
    for schedule in ("constant", "cosine", "linear", "steps"):
        fit = Fit(steps=steps, schedule=schedule, warmup=warmup)
        factors = [fit.factor(s, steps) for s in range(steps)]
        rise = round(warmup * steps)
        assert all(0 < f <= 1 for f in factors)
        assert factors[:rise] == pytest.approx([(s + 1) / (rise + 1) for s in range(rise)])
        if rise < steps:
            assert factors[rise] == 1.0
        assert all(a >= b for a, b in zip(factors[rise:], factors[rise + 1 :], strict=False))


def test_schedules_have_the_closed_forms_that_the_docstring_says():
    """Else a paper's schedule is another one here."""
    at = {s: [Fit(steps=80, schedule=s).factor(i, 80) for i in range(80)] for s in ("constant", "cosine", "linear", "steps")}
    assert at["constant"] == [1.0] * 80
    assert at["cosine"] == pytest.approx([(1 + math.cos(math.pi * i / 80)) / 2 for i in range(80)])
    assert at["linear"] == pytest.approx([1 - i / 80 for i in range(80)])
    assert at["steps"] == pytest.approx([1.0] * 50 + [0.1] * 10 + [0.01] * 10 + [0.001] * 10)


def test_updates_are_epochs_times_size_over_the_batch():
    """Else two recipes with the same epochs are given different budgets."""
    assert Fit(epochs=3, batch_size=10).updates(100) == 30
    assert Fit(epochs=0.25, batch_size=10).updates(100) == 2
    assert Fit(epochs=1, batch_size=10).updates(3) == 1
    assert Fit(steps=7).updates(None) == 7
    with pytest.raises(BadInput, match="without data"):
        Fit(epochs=1).updates(None)
