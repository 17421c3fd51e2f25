"""Predictions of measured scores: rank correlations against SciPy and loops; a score that is the metric orders it whole."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import rankdata

from tutelage.errors import BadInput
from tutelage.evaluation.seeds import interval
from tutelage.reproductions.harness import Orders, Picks

ARMS = tuple("abcdef")
SEEDS = 3


@pytest.fixture
def numbers():
    drawn = np.random.default_rng(0)
    return {arm: {key: drawn.normal(size=SEEDS).tolist() for key in ("accuracy", "guess", "other", "size")} for arm in ARMS}


def column(numbers, key, seed):
    return np.array([numbers[arm][key][seed] for arm in ARMS])


def test_the_correlation_is_pearson_s_of_ranks(numbers):
    found = Orders("accuracy", "guess", ARMS).per_seed(numbers)
    for seed in range(SEEDS):
        ranks = [rankdata(column(numbers, key, seed)) for key in ("guess", "accuracy")]
        assert found[seed] == pytest.approx(np.corrcoef(*ranks)[0, 1])


def test_the_partial_one_is_that_of_what_a_line_through_the_ranks_leaves(numbers):
    found = Orders("accuracy", "guess", ARMS, given="size").per_seed(numbers)
    for seed in range(SEEDS):
        size = rankdata(column(numbers, "size", seed))
        line = np.stack([np.ones(len(ARMS)), size], 1)
        left = []
        for key in ("guess", "accuracy"):
            ranks = rankdata(column(numbers, key, seed))
            left.append(ranks - line @ np.linalg.lstsq(line, ranks, rcond=None)[0])
        assert found[seed] == pytest.approx(np.corrcoef(*left)[0, 1])


def test_a_comparison_is_the_difference_of_both(numbers):
    ours, theirs = (Orders("accuracy", key, ARMS).per_seed(numbers) for key in ("guess", "other"))
    assert Orders("accuracy", "guess", ARMS, than="other").per_seed(numbers) == pytest.approx(
        [a - b for a, b in zip(ours, theirs, strict=True)]
    )


def test_the_metric_itself_orders_whole_and_its_negative_reversed(numbers):
    for arm in ARMS:
        numbers[arm]["same"] = [3 * v + 1 for v in numbers[arm]["accuracy"]]
        numbers[arm]["flat"] = [1.0] * SEEDS
    perfect = Orders("accuracy", "same", ARMS, over=0.3)
    assert perfect.per_seed(numbers) == pytest.approx([1.0] * SEEDS)
    assert perfect.verdict(interval([0.9, 0.91, 0.92])) == "reproduced"
    assert perfect.verdict(interval([-0.9, -0.91, -0.92])) == "reversed"
    assert perfect.verdict(interval([0.1, 0.11, 0.12])) == "not reproduced at this scale"
    assert Orders("accuracy", "flat", ARMS).per_seed(numbers) == [0.0] * SEEDS
    assert Orders("accuracy", "guess", ARMS, given="same").per_seed(numbers) == [0.0] * SEEDS
    assert "at equal size" in Orders("accuracy", "guess", ARMS, given="size").says
    assert "better than size does" in Orders("accuracy", "guess", ARMS, than="size").says


def test_a_pick_is_worth_its_arm_less_the_mean(numbers):
    found = Picks("accuracy", "guess", ARMS, matters=0.01).per_seed(numbers)
    for seed in range(SEEDS):
        accuracy, guess = column(numbers, "accuracy", seed), column(numbers, "guess", seed)
        assert found[seed] == pytest.approx(accuracy[guess.argmax()] - accuracy.mean())
    assert min(Picks("accuracy", "accuracy", ARMS, matters=0.01).per_seed(numbers)) > 0


def test_what_cannot_be_predicted_is_refused(numbers):
    with pytest.raises(BadInput, match="at least four arms"):
        Orders("accuracy", "guess", ("a", "b", "c"))
    with pytest.raises(BadInput, match="one of than and given"):
        Orders("accuracy", "guess", ARMS, than="other", given="size")
    with pytest.raises(BadInput, match="which a has not"):
        Orders("accuracy", "gess", ARMS).per_seed(numbers)
