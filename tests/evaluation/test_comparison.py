"""Which of two models is better, against scipy and plain loops."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from tutelage.evaluation import Predictions, difference
from tutelage.evaluation.bootstrap import draw
from tutelage.evaluation.comparison import compared, holm, judged, mcnemar

N, V = 83, 5


def said(seed: int, skill: float = 0.0, labels=None) -> Predictions:
    made = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, V, (N,), generator=torch.Generator().manual_seed(99)) if labels is None else labels
    hard = labels.clamp(min=0) if labels.ndim == 1 else labels.argmax(1)
    return Predictions(torch.randn(N, V, generator=made) + skill * torch.nn.functional.one_hot(hard, V), labels)


def pair(first: Predictions, second: Predictions) -> dict:
    shown = {"a": first, "b": second}
    return compared("a", "b", difference(first, second), draw(shown, seed=0, draws=200))


@given(st.integers(0, 500), st.integers(0, 500))
def test_mcnemars_test_is_the_sign_test_on_the_samples_that_tell(b, c):
    """Where both are right or both wrong, nothing is learnt about which is better."""
    assert mcnemar(b, c) == pytest.approx(stats.binomtest(b, b + c).pvalue if b + c else 1.0)
    assert mcnemar(b, c) == mcnemar(c, b)


def test_chance_finds_no_difference_more_often_than_it_may():
    """Two models of one worth: at 0.05, at most one comparison in twenty may call one of them better."""
    found = np.array([mcnemar(int(b), 40 - int(b)) for b in np.random.default_rng(0).binomial(40, 0.5, size=3000)])
    assert 0.01 < (found < 0.05).mean() < 0.05


@given(st.lists(st.floats(0, 1), min_size=1, max_size=6))
def test_holms_method_is_its_definition(chances):
    """Step by step: the smallest against all, the next against all but one, ..."""
    raised = holm(chances)
    for level in (0.01, 0.05, 0.3):
        refused, order = set(), np.argsort(chances, kind="stable")
        for rank, at in enumerate(order):
            if (len(chances) - rank) * chances[at] >= level:
                break
            refused.add(int(at))
        assert {i for i, p in enumerate(raised) if p < level} == refused
    assert holm([0.04]) == [0.04]


def test_the_difference_is_counted_on_labelled_samples():
    """By a loop."""
    labels = torch.randint(0, V, (N,), generator=torch.Generator().manual_seed(1))
    labels[::4] = -100
    first, second = said(0, 2.0, labels), said(1, 1.0, labels)
    kept = [i for i in range(N) if labels[i] != -100]
    right = [[int(p.logits[i].argmax()) == int(labels[i]) for i in kept] for p in (first, second)]
    found = difference(first, second)
    assert found["only_first"] == sum(a and not b for a, b in zip(*right, strict=True))
    assert found["only_second"] == sum(b and not a for a, b in zip(*right, strict=True))
    assert found["accuracy"] == pytest.approx((sum(right[0]) - sum(right[1])) / len(kept))
    assert found["low"] < found["accuracy"] < found["high"]


def test_without_labels_there_is_no_difference_to_speak_of():
    """Nothing to be right about."""
    bare = Predictions(torch.randn(3, V), None)
    assert difference(bare, bare) is None
    assert difference(Predictions(torch.randn(3, V), torch.full((3,), -100)), bare) is None
    assert difference(Predictions(torch.randn(3, 2, V), torch.zeros(3, 2)), bare) is None


def test_exchanging_two_models_changes_signs_and_nothing_else():
    """The verdict must not depend on who is named first."""
    found, other = pair(said(0, 2.0), said(1, 1.0)), pair(said(1, 1.0), said(0, 2.0))
    assert found["p"] == other["p"]
    for key in ("accuracy", "macro_f1", "nll", "ece"):
        assert found[key]["difference"] == pytest.approx(-other[key]["difference"], abs=1e-12)
        assert (found[key]["low"], found[key]["high"]) == pytest.approx((-other[key]["high"], -other[key]["low"]), abs=1e-9)
        assert found[key]["low"] <= found[key]["difference"] <= found[key]["high"]


def test_a_model_is_no_better_than_itself():
    """Identical answers: all differences are 0, and no verdict."""
    (found,) = judged([pair(said(0, 1.0), said(0, 1.0))])
    assert found["better"] is None
    assert found["p"] == found["p_holm"] == 1.0
    assert found["macro_f1"] == found["nll"] == {"difference": 0.0, "low": 0.0, "high": 0.0}
    assert found["accuracy"]["low"] < 0 < found["accuracy"]["high"]
    assert found["ece"]["low"] <= 0 <= found["ece"]["high"]


def test_the_better_of_two_is_named():
    """By the sign of what was seen, whichever place it has."""
    good, bad = said(0, 4.0), said(1, 0.5)
    assert judged([pair(good, bad)])[0]["better"] == "first"
    assert judged([pair(bad, good)])[0]["better"] == "second"


def test_many_comparisons_ask_for_more():
    """What one comparison would call a difference may be chance among twenty."""
    close = {"p": 0.03, "only_first": 20, "only_second": 8}
    assert judged([close])[0]["better"] == "first"
    assert {each["better"] for each in judged([close, *[{**close, "p": 0.5}] * 19])} == {None}


@pytest.mark.parametrize("rows", [1, 2])
def test_very_few_samples_are_compared_too(rows):
    """One sample, and one class."""
    labels = torch.zeros(rows, dtype=torch.long)
    right, wrong = (Predictions(torch.tensor([row] * rows), labels) for row in ([3.0, 0.0], [0.0, 3.0]))
    found = pair(right, wrong)
    assert found["accuracy"]["difference"] == 1.0
    assert found["p"] == pytest.approx(2 * 0.5**rows if rows > 1 else 1.0)
    assert judged([found])[0]["better"] is None
