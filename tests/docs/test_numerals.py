"""Numbers on the pages: shares in percent and points, all else plain, with as many digits as say something."""

from __future__ import annotations

import math

import pytest

import result_files as files


@pytest.fixture
def numerals(module):
    return module("numerals")


def estimate(mean, low, high):
    class Found:
        pass

    Found.mean, Found.low, Found.high = mean, low, high
    return Found


@pytest.mark.parametrize(
    ("metric", "difference", "value"),
    [
        ("accuracy", "+1.20 points (+0.40 to +2.00)", "1.20 % (0.40 to 2.00)"),
        ("macro_f1", "+1.20 points (+0.40 to +2.00)", "1.20 % (0.40 to 2.00)"),
        ("ensemble-accuracy", "+1.20 points (+0.40 to +2.00)", "1.20 % (0.40 to 2.00)"),
        ("agreement", "+1.20 points (+0.40 to +2.00)", "1.20 % (0.40 to 2.00)"),
        ("nll", "+0.0120 (+0.0040 to +0.0200)", "0.0120 (0.0040 to 0.0200)"),
        ("ece", "+0.0120 (+0.0040 to +0.0200)", "0.0120 (0.0040 to 0.0200)"),
        ("inaccuracy", "+0.0120 (+0.0040 to +0.0200)", "0.0120 (0.0040 to 0.0200)"),
    ],
)
def test_shares_are_in_points_and_all_else_is_plain(numerals, metric, difference, value):
    """A nat is not a percentage, and 0.012 of accuracy reads like nothing."""
    found, unit = estimate(0.012, 0.004, 0.02), numerals.unit_of(metric)
    assert numerals.difference(found, unit) == difference
    assert numerals.value(found, unit) == value


def test_a_rank_correlation_of_accuracies_is_plain(module):
    """It has no points, whatever it orders the arms by."""
    scoreboard = module("scoreboard")
    said = files.prediction("reproduced", kind="rank")
    found = scoreboard._prediction(scoreboard.Part("x", said), 5)
    assert found.unit is module("numerals").PLAIN


def test_an_end_that_is_not_known_is_not_shown(numerals):
    """Infinity is no number of points."""
    assert numerals.difference(estimate(0.01, -math.inf, math.inf), numerals.POINTS) == "+1.00 points (one seed, no interval)"


def test_what_rounds_to_nothing_has_no_sign(numerals):
    """A "-0.00" looks like a loss."""
    assert numerals.difference(estimate(-0.00001, -0.00002, 0.0), numerals.POINTS) == "0.00 points (0.00 to 0.00)"


@pytest.mark.parametrize(("number", "digits"), [(1234.0, 0), (12.3, 1), (1.23, 2), (0.314, 3), (0.0314, 4), (1e-9, 4), (0.0, 3)])
def test_three_figures_of_the_largest_number_are_shown(numerals, number, digits):
    """More are noise, fewer hide a difference."""
    assert numerals.decimals([number, -number / 7, math.inf]) == digits
