"""Intervals of shares and of paired differences, against scipy, likelihoods and simulated data."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import optimize, stats

from tutelage.evaluation.intervals import exact, paired

Z = stats.norm.ppf(0.975)


@given(st.integers(1, 3000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))), st.sampled_from([0.5, 0.9, 0.95, 0.999]))
def test_an_exact_interval_is_that_of_scipy(counts, level):
    """Also where all samples count, or none."""
    expected = stats.binomtest(*counts).proportion_ci(level, method="exact")
    assert exact(*counts, level) == pytest.approx((expected.low, expected.high), abs=1e-9)


def test_of_no_samples_nothing_is_known():
    """A class that the split lacks."""
    assert exact(0, 0) == (0.0, 1.0)


@pytest.mark.parametrize(("samples", "share"), [(1, 0.3), (7, 0.9), (40, 0.02), (40, 0.5)])
def test_an_exact_interval_holds_the_truth_at_least_as_often_as_it_says(samples, share):
    """Summed over all that can happen, so not by chance."""
    hits = np.arange(samples + 1)
    ends = [exact(int(h), samples) for h in hits]
    holds = [low <= share <= high for low, high in ends]
    assert stats.binom.pmf(hits, samples, share)[holds].sum() >= 0.95


def likelihood_score(b: int, c: int, n: int, supposed: float) -> float:
    """Tango's statistic, the nuisance share found by a numeric search instead of the formula."""
    least = max(0.0, -supposed)
    most = (1 - supposed) / 2

    def minus_log(q):
        found = 0.0
        for count, share in ((b, q + supposed), (c, q), (n - b - c, 1 - 2 * q - supposed)):
            found -= count * math.log(max(share, 1e-300)) if count else 0.0
        return found

    q = optimize.minimize_scalar(minus_log, bounds=(least, most), method="bounded", options={"xatol": 1e-12}).x
    return (b - c - n * supposed) / math.sqrt(n * (2 * q + supposed - supposed**2))


@pytest.mark.parametrize("counts", [(9, 5, 60), (1, 4, 17), (0, 6, 25), (3, 3, 11), (2, 0, 2000)])
def test_the_ends_of_a_paired_interval_are_where_the_score_test_turns(counts):
    """The definition, with the likelihood searched instead of solved."""
    low, high = paired(*counts)
    assert low < (counts[0] - counts[1]) / counts[2] < high
    assert likelihood_score(*counts, low) == pytest.approx(Z, abs=1e-3)
    assert likelihood_score(*counts, high) == pytest.approx(-Z, abs=1e-3)


counts = st.integers(1, 400).flatmap(
    lambda n: st.integers(0, n).flatmap(lambda b: st.tuples(st.just(b), st.integers(0, n - b), st.just(n)))
)


@given(counts)
def test_exchanging_the_two_exchanges_the_ends(drawn):
    """Otherwise the verdict would depend on who is named first."""
    b, c, n = drawn
    (low, high), (other_low, other_high) = paired(b, c, n), paired(c, b, n)
    assert (low, high) == pytest.approx((-other_high, -other_low), abs=1e-9)
    assert -1 <= low <= (b - c) / n <= high <= 1


@given(counts)
def test_zero_lies_outside_just_where_mcnemars_test_finds_a_difference(drawn):
    """Interval and test must not contradict each other by more than the exact test's caution."""
    b, c, n = drawn
    statistic = abs(b - c) / math.sqrt(b + c) if b + c else 0.0
    low, high = paired(b, c, n)
    if abs(statistic - Z) > 1e-6:
        assert (low > 0 or high < 0) == (statistic > Z)


@pytest.mark.parametrize(("n", "both"), [(1, 1), (1, 0), (20, 13)])
def test_two_that_never_differ_might_have_on_other_samples(n, both):
    """An interval of no width after one sample would claim what nobody can know."""
    low, high = paired(0, 0, n)
    assert low == pytest.approx(-high)
    assert high == pytest.approx(Z**2 / (n + Z**2))


@pytest.mark.parametrize("n", [1, 30])
def test_one_that_is_always_alone_right_reaches_the_end(n):
    """All right against all wrong: the largest difference that there is."""
    low, high = paired(n, 0, n)
    assert high == pytest.approx(1)
    assert low == pytest.approx((n - Z**2) / (n + Z**2))  # the closed form of this case
    assert paired(0, n, n) == pytest.approx((-1, -low))


@pytest.mark.parametrize(("first", "second"), [(0.02, 0.08), (0.1, 0.1), (0.3, 0.1), (0.01, 0.0)])
@pytest.mark.parametrize("n", [30, 200])
def test_a_paired_interval_holds_the_true_difference_about_as_often_as_it_says(first, second, n):
    """Half a level lost would turn noise into news."""
    b, c, _ = np.random.default_rng(0).multinomial(n, [first, second, 1 - first - second], size=1500).T
    holds = [low <= first - second <= high for low, high in (paired(int(i), int(j), n) for i, j in zip(b, c, strict=True))]
    assert np.mean(holds) > 0.925
