"""Predictions: one number a seed, against NumPy and SciPy; and the rule: symmetric for plain differences, right at its nominal rate."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import spearmanr

from tutelage.errors import BadInput
from tutelage.evaluation.seeds import Interval, interval
from tutelage.reproductions.harness.predictions import (
    Difference,
    Level,
    NonInferior,
    RankCorrelation,
    Trend,
    of,
)
from tutelage.reproductions.harness.verdicts import VERDICTS, judged, together

NUMBERS = {
    "ours": {"accuracy": [0.8, 0.9, 0.7], "ece": [0.02, 0.03, 0.04]},
    "theirs": {"accuracy": [0.7, 0.85, 0.75], "ece": [0.05, 0.04, 0.03], "ensemble accuracy": [0.8, 0.8, 0.8]},
    "third": {"accuracy": [0.1, 0.2, 0.9], "ece": [0.1, 0.2, 0.9]},
}


def between(low: float, high: float) -> Interval:
    return Interval((low + high) / 2, low, high, 5, 0.5)


def test_difference_is_positive_as_predicted():
    assert Difference("accuracy", "ours", "theirs", matters=0.01).per_seed(NUMBERS) == pytest.approx([0.1, 0.05, -0.05])
    assert Difference("ece", "ours", "theirs", matters=0.01, lower=True).per_seed(NUMBERS) == pytest.approx([0.03, 0.01, -0.01])
    shares = Difference("ece", "ours", "theirs", matters=0.01, lower=True, times=0.7).per_seed(NUMBERS)
    assert shares == pytest.approx([0.7 * 0.05 - 0.02, 0.7 * 0.04 - 0.03, 0.7 * 0.03 - 0.04])
    other = Difference("accuracy", "ours", "theirs", than="ensemble accuracy", matters=0.01).per_seed(NUMBERS)
    assert other == pytest.approx([0.0, 0.1, -0.1])


def test_words_say_what_is_compared():
    plain = Difference("accuracy", "ours", "theirs", matters=0.01)
    assert plain.says == "accuracy of ours above that of theirs"
    assert "within 0.01 of 0" in plain.rule
    share = Difference("ece", "ours", "theirs", lower=True, times=0.7, over=0.1)
    assert share.says == "ece of ours below 0.7 times that of theirs by more than 0.1"
    assert Difference("accuracy", "a", "b", than="ensemble accuracy", matters=1).says == "accuracy of a above ensemble accuracy of b"
    assert NonInferior("accuracy", "a", "b", margin=0.01).says == "accuracy of a not below that of b by 0.01 or more"
    assert Level("accuracy", "a", below=0.5).says == "accuracy of a below 0.5"


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (0.001, 0.1, "reproduced"),
        (-0.1, -0.001, "reversed"),
        (-0.004, 0.004, "not reproduced at this scale"),
        (-0.004, 0.006, "too noisy to say"),
        (-0.006, 0.004, "too noisy to say"),
        (-0.1, 0.1, "too noisy to say"),
        (0.0, 0.1, "too noisy to say"),
    ],
)
def test_rule_of_a_plain_difference(low, high, verdict):
    assert Difference("accuracy", "a", "b", matters=0.005).verdict(between(low, high)) == verdict


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (0.011, 0.1, "reproduced"),
        (0.001, 0.1, "too noisy to say"),
        (0.001, 0.009, "not reproduced at this scale"),
        (-0.5, 0.009, "not reproduced at this scale"),
        (-0.5, -0.001, "reversed"),
    ],
)
def test_rule_with_a_floor(low, high, verdict):
    assert Difference("accuracy", "a", "b", over=0.01).verdict(between(low, high)) == verdict


@given(low=st.floats(-1, 1), width=st.floats(0, 2), matters=st.floats(1e-6, 1))
def test_rule_is_symmetric_for_plain_differences(low, width, matters):
    high = low + width
    mirrored = {"reproduced": "reversed", "reversed": "reproduced"}
    ours, theirs = judged(between(low, high), matters=matters), judged(between(-high, -low), matters=matters)
    assert theirs == mirrored.get(ours, ours)


def test_exchanging_arms_exchanges_reproduced_and_reversed():
    one, other = Difference("ece", "ours", "third", matters=0.001), Difference("ece", "third", "ours", matters=0.001)
    assert one.per_seed(NUMBERS) == [-v for v in other.per_seed(NUMBERS)]


def test_identical_arms_are_told_apart_at_the_nominal_rate():
    draws = np.random.default_rng(0)
    seeds, times = 5, 2000
    called = dict.fromkeys(VERDICTS, 0)
    for _ in range(times):
        common = draws.normal(size=seeds)  # what a seed does to both arms
        arms = {name: {"accuracy": (common + draws.normal(size=seeds)).tolist()} for name in ("a", "b")}
        prediction = Difference("accuracy", "a", "b", matters=0.5)
        called[prediction.verdict(interval(prediction.per_seed(arms)))] += 1
    error = 4 * math.sqrt(0.025 * 0.975 / times)
    assert abs(called["reproduced"] / times - 0.025) < error
    assert abs(called["reversed"] / times - 0.025) < error


def test_a_large_difference_is_reproduced_and_with_few_noisy_seeds_nothing_is_said():
    draws = np.random.default_rng(1)
    sure = {"a": {"m": (5 + draws.normal(size=8)).tolist()}, "b": {"m": draws.normal(size=8).tolist()}}
    prediction = Difference("m", "a", "b", matters=0.1)
    assert prediction.verdict(interval(prediction.per_seed(sure))) == "reproduced"
    assert prediction.verdict(interval([1.0, -1.0])) == "too noisy to say"


def test_not_inferior():
    prediction = NonInferior("accuracy", "ours", "theirs", margin=0.01)
    assert prediction.per_seed(NUMBERS) == pytest.approx([0.1, 0.05, -0.05])
    assert prediction.verdict(between(-0.009, 0.5)) == "reproduced"
    assert prediction.verdict(between(-0.011, 0.5)) == "too noisy to say"
    assert prediction.verdict(between(-0.5, -0.011)) == "reversed"
    assert NonInferior("ece", "ours", "theirs", margin=0.01, lower=True).per_seed(NUMBERS)[0] == pytest.approx(0.03)


def test_level():
    above, below = Level("accuracy", "ours", above=0.75), Level("accuracy", "ours", below=0.75)
    assert above.per_seed(NUMBERS) == pytest.approx([0.05, 0.15, -0.05])
    assert below.per_seed(NUMBERS) == pytest.approx([-0.05, -0.15, 0.05])
    assert above.verdict(between(0.01, 0.2)) == "reproduced"
    assert above.verdict(between(-0.2, -0.1)) == "not reproduced at this scale"
    assert above.verdict(between(-0.2, 0.1)) == "too noisy to say"


def test_trend_is_the_rise_of_the_fitted_line():
    levels, draws = (5.0, 9.0, 13.0), np.random.default_rng(2)
    ours, theirs = draws.normal(size=(3, 4)), draws.normal(size=(3, 4))
    arms = {f"a{i}": {"m": ours[i].tolist()} for i in range(3)} | {f"b{i}": {"m": theirs[i].tolist()} for i in range(3)}
    trend = Trend("m", ("a0", "a1", "a2"), ("b0", "b1", "b2"), levels=levels, matters=0.1)
    slopes = np.polyfit(levels, ours - theirs, 1)[0]
    assert trend.per_seed(arms) == pytest.approx((slopes * 8).tolist())
    swapped = Trend("m", ("b0", "b1", "b2"), ("a0", "a1", "a2"), levels=levels, matters=0.1)
    assert swapped.per_seed(arms) == pytest.approx((-slopes * 8).tolist())


def test_rank_correlation_is_spearmans():
    scores = {"ours": 3.0, "theirs": 2.0, "third": 1.0}
    found = RankCorrelation("accuracy", scores).per_seed(NUMBERS)
    rows = np.array([NUMBERS[a]["accuracy"] for a in scores]).T
    assert found == pytest.approx([spearmanr(list(scores.values()), row)[0] for row in rows])
    alike = {a: {"accuracy": [0.5]} for a in scores}
    assert RankCorrelation("accuracy", scores).per_seed(alike) == [0.0]


def test_a_claim_is_as_good_as_its_worst_prediction():
    assert together(["reproduced", "reproduced"]) == "reproduced"
    assert together(["reproduced", "too noisy to say"]) == "too noisy to say"
    assert together(["too noisy to say", "not reproduced at this scale"]) == "not reproduced at this scale"
    assert together(list(VERDICTS)) == "reversed"


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: Difference("m", "a", "b"), "worth speaking of"),
        (lambda: Difference("m", "a", "b", over=-1.0, matters=1.0), "over > 0"),
        (lambda: Level("m", "a"), "exactly one"),
        (lambda: Level("m", "a", above=1, below=2), "exactly one"),
        (lambda: Trend("m", ("a",), ("b",), levels=(1.0,), matters=1), "two rising levels"),
        (lambda: Trend("m", ("a", "b"), ("c", "d"), levels=(2.0, 1.0), matters=1), "two rising levels"),
        (lambda: RankCorrelation("m", {"a": 1.0, "b": 2.0}), "three arms"),
    ],
)
def test_predictions_that_cannot_be_judged_are_refused(make, match):
    with pytest.raises(BadInput, match=match):
        make()


def test_unknown_arms_and_metrics_name_the_nearest():
    with pytest.raises(BadInput, match="nearest: 'ours'"):
        of(NUMBERS, "our", "accuracy")
    with pytest.raises(BadInput, match="nearest: 'accuracy'"):
        of(NUMBERS, "ours", "acuracy")
