"""The answer of a comparison, on numbers that are made up: how often it is wrong, and that it does not depend on names or order."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tutelage.jobs.comparison import ranking

SAMPLES = 360


def results(test: dict[str, list[float]], validation: dict[str, list[float]] | None = None) -> dict:
    """What trials gave, from accuracies by recipe and seed."""
    chosen = validation or test
    return {
        name: {
            str(seed): {
                "validation": {"accuracy": chosen[name][seed]},
                "test": {"accuracy": value, "nll": 1 - value},
                "seconds": 2.0 * (seed + 1),
                "folder": f"trials/{name}-seed-{seed}",
            }
            for seed, value in enumerate(values)
        }
        for name, values in test.items()
    }


def drawn(rng: np.random.Generator, arms: int, seeds: int, together: float, lead: float = 0.0) -> dict:
    """Recipes that are equal but for the first one's lead: a part that seeds share, one of each training, and one of each split.

    Args:
        rng: draws.
        arms: recipes.
        seeds: of each.
        together: share of a training's luck that shows on both splits.
        lead: of the first recipe.
    """
    luck = 0.9 + rng.normal(0, 0.01, seeds) + rng.normal(0, 0.012 * together**0.5, (arms, seeds))
    luck[0] += lead
    test, validation = (
        np.round((luck + rng.normal(0, 0.012 * (1 - together) ** 0.5, (arms, seeds))) * SAMPLES) / SAMPLES for _ in range(2)
    )
    names = [f"r{i}" for i in range(arms)]
    return results(dict(zip(names, test.tolist(), strict=True)), dict(zip(names, validation.tolist(), strict=True)))


def seen(found: dict) -> list[str | None]:
    """Each verdict on the winner against another."""
    return [gap["better"] for gap in ranking.differences(found, "accuracy", SAMPLES)]


@pytest.mark.parametrize(("arms", "seeds", "together"), [(2, 2, 0.5), (2, 3, 1.0), (2, 5, 0.0), (5, 3, 1.0), (5, 5, 1.0), (8, 5, 1.0)])
def test_of_equal_recipes_a_difference_is_seen_at_most_at_the_nominal_rate(arms, seeds, together):
    """The winner is chosen for its luck, and where that shows on test, too, counting only its own pairs would be wrong in a tenth."""
    rng, times = np.random.default_rng(arms * 100 + seeds), 300
    wrong = sum(any(seen(drawn(rng, arms, seeds, together))) for _ in range(times))
    assert wrong <= 0.05 * times + 3 * (times * 0.05 * 0.95) ** 0.5


def test_a_recipe_that_is_really_better_is_seen():
    """An answer that is always "no difference" is never wrong."""
    rng = np.random.default_rng(0)
    found = [seen(drawn(rng, 4, 5, 0.5, lead=0.12)) for _ in range(40)]
    assert sum(each == ["first"] * 3 for each in found) >= 36


def test_few_seeds_that_agree_to_the_sample_are_no_certainty():
    """Shares come in steps; two seeds that both differ by one sample have no spread, and Student would be sure."""
    one = 1 / SAMPLES
    assert seen(results({"a": [0.9 + one, 0.8 + one], "b": [0.9, 0.8]})) == [None]
    assert seen(results({"a": [0.9 + 90 * one, 0.8 + 90 * one], "b": [0.9, 0.8]})) == ["first"]


accuracies = st.lists(st.integers(0, SAMPLES), min_size=3, max_size=3).map(lambda found: [k / SAMPLES for k in found])


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.lists(accuracies, min_size=2, max_size=4, unique_by=tuple), st.randoms(use_true_random=False))
def test_the_answer_does_not_depend_on_order_or_names(rows, shuffle):
    """Which recipe is listed first, and what it is called, is no reason to prefer it."""
    names = [f"r{i}" for i in range(len(rows))]
    chosen = dict(zip(names, [[k / 7, k / 7, k / 7] for k in range(len(rows))], strict=True))  # no two are equal on validation
    test = dict(zip(names, rows, strict=True))
    first = results(test, chosen)
    order = list(names)
    shuffle.shuffle(order)
    again = results({n: test[n] for n in order}, {n: chosen[n] for n in order})
    assert ranking.ranked(first, "accuracy") == ranking.ranked(again, "accuracy")
    assert ranking.differences(first, "accuracy", SAMPLES) == ranking.differences(again, "accuracy", SAMPLES)
    called = {n: f"z{len(names) - i}" for i, n in enumerate(names)}
    renamed = results({called[n]: test[n] for n in names}, {called[n]: chosen[n] for n in names})
    back = {v: k for k, v in called.items()}
    for gap, other in zip(ranking.differences(first, "accuracy", SAMPLES), ranking.differences(renamed, "accuracy", SAMPLES), strict=True):
        assert {**other, "first": back[other["first"]], "second": back[other["second"]]} == gap


@settings(max_examples=60, deadline=None, derandomize=True)
@given(accuracies, accuracies)
def test_two_recipes_that_change_places_change_the_answers_sign(one, other):
    """Plain differences have no favourite."""
    chosen = {"a": [0.9] * 3, "b": [0.5] * 3}
    gap = ranking.differences(results({"a": one, "b": other}, chosen), "accuracy", SAMPLES)[0]
    turned = ranking.differences(results({"a": other, "b": one}, chosen), "accuracy", SAMPLES)[0]
    assert turned["mean"] == pytest.approx(-gap["mean"], abs=1e-12)
    assert turned["low"] == pytest.approx(-gap["high"], abs=1e-12)
    assert turned["p_holm"] == pytest.approx(gap["p_holm"], abs=1e-9)
    assert turned["better"] == {"first": "second", "second": "first", None: None}[gap["better"]]


def test_ranked_by_validation_and_not_by_test():
    """Test is for the last number only."""
    found = results({"a": [0.5, 0.5], "b": [0.9, 0.9]}, {"a": [0.8, 0.9], "b": [0.7, 0.7]})
    assert ranking.ranked(found, "accuracy") == ["a", "b"]
    assert ranking.winner(found, "accuracy") == {"recipe": "a", "seed": 1, "folder": "trials/a-seed-1"}
    assert seen(found) == ["second"]


def test_a_recipe_without_a_finished_seed_comes_last_and_is_compared_with_nothing():
    """It has no number that could be ranked."""
    found = {"failed": {}, **results({"b": [0.5, 0.6], "a": [0.4, 0.7]}, {"a": [0.1, 0.1], "b": [0.2, 0.2]})}
    assert ranking.ranked(found, "accuracy") == ["b", "a", "failed"]
    assert [gap["second"] for gap in ranking.differences(found, "accuracy", SAMPLES)] == ["a"]
    assert ranking.summary({}, "accuracy", SAMPLES, 100) == {"validation": None, "test": {}, "seconds": None}
    assert ranking.winner({"failed": {}}, "accuracy") is None


def test_recipes_are_paired_by_the_seeds_that_both_have():
    """A seed that failed in one says nothing of the difference."""
    found = results({"a": [0.9, 0.8, 0.7], "b": [0.8, 0.7, 0.1]}, {"a": [0.9] * 3, "b": [0.5] * 3})
    del found["b"]["2"]
    gap = ranking.differences(found, "accuracy", SAMPLES)[0]
    assert gap["mean"] == pytest.approx(0.1)
    del found["b"]["1"]
    gap = ranking.differences(found, "accuracy", SAMPLES)[0]
    assert (gap["low"], gap["high"], gap["p"], gap["p_holm"], gap["better"]) == (None, None, 1.0, 1.0, None)
    del found["b"]["0"]
    assert ranking.differences(found, "accuracy", SAMPLES) == []


def test_the_mean_of_seeds_is_that_of_students_interval():
    """Against a computation by hand."""
    from scipy import stats

    values = [0.91, 0.93, 0.92]
    found = ranking.summary(results({"a": values})["a"], "accuracy", SAMPLES, SAMPLES)
    low, high = stats.t.interval(0.95, 2, loc=np.mean(values), scale=stats.sem(values))
    assert found["test"]["accuracy"] == {"mean": pytest.approx(0.92), "low": pytest.approx(low), "high": pytest.approx(high)}
    assert found["seconds"]["mean"] == pytest.approx(4.0)


def test_no_interval_holds_what_cannot_be():
    """An accuracy of 101 % makes a reader doubt the rest."""
    found = ranking.summary(results({"a": [0.99, 0.9]})["a"], "accuracy", SAMPLES, SAMPLES)
    assert found["test"]["accuracy"]["high"] == found["validation"]["high"] == 1
    assert 0 < found["test"]["accuracy"]["low"] < 0.9
    assert found["test"]["nll"]["low"] == found["seconds"]["low"] == 0
    assert found["seconds"]["high"] > 4


def test_cost_is_over_hinton_kd_and_unknown_without_it():
    """Seconds of a machine mean nothing elsewhere; their ratio does."""
    found = results({"hinton-kd": [0.5, 0.5], "b": [0.5, 0.5]})
    for row in found["b"].values():
        row["seconds"] *= 1.5
    assert ranking.cost(found, "b") == pytest.approx(1.5)
    assert ranking.cost(found, "hinton-kd") == 1
    found["b"]["0"]["seconds"] = None  # a training that was interrupted
    assert ranking.cost(found, "b") == pytest.approx(1.5)
    assert ranking.cost({"b": found["b"]}, "b") is None


@pytest.mark.parametrize(
    ("test", "chosen", "said"),
    [
        ({"a": [0.5]}, {"a": [0.5]}, "a is the only one of which there are numbers"),
        ({"a": [0.5], "b": [0.4]}, None, "a is best on validation, in one seed: how much other seeds would change is not known"),
        ({"a": [0.5, 0.6], "b": [0.6, 0.5]}, {"a": [0.9, 0.9], "b": [0.1, 0.1]}, "on test no difference is seen between it and b."),
        ({"a": [0.9, 0.8, 0.7], "b": [0.5, 0.4, 0.3]}, None, "a is best on validation; on test it is ahead of b (+40.00 points)."),
        ({"a": [0.5, 0.4], "b": [0.9, 0.8]}, {"a": [0.9, 0.9], "b": [0.1, 0.1]}, "on test b (-40.00 points) is ahead of it."),
        (
            {"a": [0.9, 0.8, 0.7], "b": [0.5, 0.4, 0.3], "c": [0.8, 0.9, 0.6]},
            None,
            "a is best on validation; on test it is ahead of b (+40.00 points); no difference is seen between it and c.",
        ),
        ({}, None, "No training was finished"),
    ],
)
def test_the_answer_in_words(test, chosen, said):
    """The sentence is what is read."""
    found = results(test, chosen)
    gaps = ranking.differences(found, "accuracy", SAMPLES)
    assert said in ranking.said(found, "accuracy", gaps, "validation", "test")


def test_where_nothing_was_held_back_the_answer_says_so():
    """The winner of many on one split is flattered by it."""
    found = results({"a": [0.9, 0.8], "b": [0.8, 0.9]})
    gaps = ranking.differences(found, "accuracy", SAMPLES)
    assert "There is no split to choose on, so test was chosen on, too" in ranking.said(found, "accuracy", gaps, "test", "test")
