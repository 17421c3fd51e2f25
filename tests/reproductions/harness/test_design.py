"""Designs: what is no fair comparison is refused when it is written down."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tutelage.data.digits import digits
from tutelage.errors import BadInput
from tutelage.reproductions.harness import Arm, Difference, Reproduction, each_try
from tutelage.reproductions.harness.drive import check_equal

FIT = {"fit": {"steps": 4}}


def claim(**changes):
    stated = {
        "claim": "c",
        "bench": "b",
        "data": lambda seed: digits(seed=seed),
        "arms": {
            "alone": Arm("alone", "mlp:width=4", "alone", knobs=FIT),
            "taught": Arm("taught", "mlp:width=4", "hinton-kd", "teacher", knobs=FIT),
        },
        "fixtures": {"teacher": Arm("teacher", "mlp:width=4", "alone", knobs=FIT)},
        "predictions": [Difference("accuracy", "taught", "alone", matters=0.01)],
        "seeds": 2,
        "minutes": 1,
    }
    return Reproduction(**{**stated, **changes})


def test_equal_arms_have_equal_updates():
    assert check_equal(claim()) == {"alone": 4, "taught": 4}


def test_another_number_of_updates_is_refused_unless_it_is_explained():
    longer = Arm("taught", "mlp:width=4", "hinton-kd", "teacher", knobs={"fit": {"steps": 5}})
    arms = {**claim().arms, "taught": longer}
    with pytest.raises(BadInput, match="alone 4, taught 5"):
        check_equal(claim(arms=arms))
    assert check_equal(claim(arms={**arms, "taught": replace(longer, unequal="it is meant to")})) == {"alone": 4, "taught": 5}


def test_updates_are_counted_over_all_stages_of_the_product():
    both = {"fit": {"steps": 3}, "hint_fit": {"steps": 1}}
    arms = {**claim().arms, "hinted": Arm("hinted", "cnn:width=2", "fitnets", "teacher", knobs=both)}
    found = check_equal(claim(arms=arms, fixtures={"teacher": Arm("teacher", "cnn:width=2", "alone", knobs=FIT)}))
    assert found["hinted"] == 4


def test_arms_are_tuned_alike():
    arms = {**claim().arms, "tuned": Arm("tuned", "mlp:width=4", "alone", knobs=FIT, tries=each_try(**{"fit.lr": (0.1, 0.2)}))}
    with pytest.raises(BadInput, match="0 or 2 tries"):
        claim(arms=arms)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"predictions": []}, "at least one prediction"),
        ({"seeds": 1}, "two seeds"),
        ({"arms": {"a": Arm("a", "mlp", "alone", "techer")}}, "no fixture; nearest: 'teacher'"),
        ({"arms": {"a": Arm("a", "mlp", "alone", start="teacher-0")}}, "no fixture; nearest: 'teacher'"),
        ({"arms": {"a": Arm("a", "mlp:width=5", "alone", start="teacher")}}, "mlp:width=5 and cannot begin with the weights of 'teacher'"),
        ({"arms": {"a": Arm("a", "mlp")}}, "give a recipe and a student"),
        ({"arms": {"a": Arm("a", recipe="alone")}}, "give a recipe and a student"),
        ({"arms": {"a": Arm("a")}}, "give a recipe and a student"),
    ],
)
def test_designs_without_sense_are_refused(changes, match):
    with pytest.raises(BadInput, match=match):
        claim(**changes)


def test_tries_reach_into_fits():
    assert each_try(**{"fit.lr": (1, 2)}) == [{"fit": {"lr": 1}}, {"fit": {"lr": 2}}]
    assert each_try(**{"fit.lr": (1, 2), "hint_fit.lr": (3, 4), "alpha": (5, 6)})[1] == {
        "fit": {"lr": 2},
        "hint_fit": {"lr": 4},
        "alpha": 6,
    }
    with pytest.raises(BadInput, match="equally many"):
        each_try(a=(1,), b=(1, 2))
