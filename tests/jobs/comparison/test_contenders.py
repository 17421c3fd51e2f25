"""Who takes part in a comparison, and why the others do not."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tutelage.data import Data, Table
from tutelage.errors import BadInput, MissingFile
from tutelage.jobs.comparison.contenders import contenders, rehearsed
from tutelage.jobs.sources import data_from

PAIR = {"teacher": "cnn:width=2,depth=2", "student": "cnn:width=2,depth=2"}
ALL = ["alone", "born-again", "fitnets", "hinton-kd", "ps-kd"]
LANGUAGE = ["gkd", "lm-kd", "seqkd", "taid"]
ROBUST = ["mtard", "pgd-at"]
GENERAL = ["minilmv2"]
CONDENSING = ["ast", "mtt"]
DRAWING = ["consistency-distillation", "ddpm", "disback", "dmd", "progressive-distillation"]


def who(recipes, given=PAIR, data=None):
    """Names of those that take part, and reasons of the others."""
    found, left_out = contenders(recipes, given, data or data_from("digits"), 0, False)
    return [each.name for each in found], {each["recipe"]: each["reason"] for each in left_out}


@pytest.fixture
def unlabelled() -> Data:
    """Numbers without classes."""
    rows = torch.arange(40.0).reshape(10, 4)
    return Data(Table({"x": rows}, name="rows"), Table({"x": rows}, name="more"), Table({"x": rows}, name="rest"))


@pytest.fixture
def own(tmp_path) -> Path:
    """A file with recipes of a user's own."""
    file = tmp_path / "mine.py"
    file.write_text(
        "from tutelage import recipe, Fit, Plan, Stage, Learner, CrossEntropy\n"
        "from tutelage.signals import Model\n"
        "@recipe(matches='labels')\n"
        "def plain(student, data, *, weight: float = 1.0, fit: Fit = Fit(epochs=2)):\n"
        "    'Train.'\n"
        "    return Plan([Stage('train', Learner(student, weight * CrossEntropy()), fit, data.train)], student)\n"
        "@recipe(matches='labels')\n"
        "def helped(student, helper, data, *, fit: Fit = Fit(epochs=2)):\n"
        "    'Train.'\n"
        "@recipe(matches='labels')\n"
        "def broken(student, data, *, fit: Fit = Fit(epochs=2)):\n"
        "    'Train.'\n"
        "    return {}['nothing']\n"
        "def no_recipe(student, data): pass\n"
    )
    return file


def test_all_that_are_listed_take_part_where_all_is_there():
    """Also those that teach themselves; those for language models only where they are named."""
    names, reasons = who(None)
    assert names == ALL
    language = dict.fromkeys(LANGUAGE, "it is meant for language models; name it to compare it on these data")
    made = {name: reasons.pop(name) for name in CONDENSING}
    assert all("makes a data set" in reason for reason in made.values())
    drawn = {name: reasons.pop(name) for name in DRAWING}
    assert all("draws images" in reason for reason in drawn.values())
    assert "attention" in reasons.pop("teacher-intervention")
    assert reasons == language | dict.fromkeys(ROBUST, "it is meant for accuracy under attack; name it to compare it") | dict.fromkeys(
        GENERAL, "it is for no task and trains no head; name it to compare it"
    )
    assert who(["pgd-at"])[0] == ["pgd-at", "alone"]
    assert who(["taid"])[0] == ["taid", "alone"]
    text = data_from("stdlib-bytes:held_out=64")
    assert set(LANGUAGE) <= set(who(None, {"teacher": "gpt:width=8,heads=2", "student": "gpt:width=8,heads=2"}, text)[0])


def test_without_a_teacher_those_that_need_one_are_left_out_with_the_reason():
    """A comparison of what can be had is better than none."""
    names, reasons = who(None, {"student": "cnn:width=2"})
    assert names == ["alone", "ps-kd"]
    assert set(reasons) == {
        "born-again",
        "fitnets",
        "hinton-kd",
        *LANGUAGE,
        *ROBUST,
        *GENERAL,
        *DRAWING,
        *CONDENSING,
        "teacher-intervention",
    }
    assert "needs a teacher" in reasons["hinton-kd"]


def test_without_labels_only_what_needs_none_can_take_part(unlabelled):
    """And training alone is no baseline then."""
    pair = {"teacher": "mlp:width=2,classes=3", "student": "mlp:width=2,classes=3"}
    with pytest.raises(BadInput, match=r"no recipe applies to these models and data \(alone: recipe alone needs labels.*give alpha=1"):
        who(None, pair, unlabelled)
    assert who(["hinton-kd:alpha=1"], pair, unlabelled) == (["hinton-kd:alpha=1"], {})


def test_training_alone_always_takes_part_where_there_are_labels():
    """Without it nobody knows what teaching was worth."""
    assert who(["fitnets"])[0] == ["fitnets", "alone"]
    assert who(["alone", "fitnets"])[0] == ["alone", "fitnets"]
    assert who(["alone:label_smoothing=0.1"])[0] == ["alone:label_smoothing=0.1", "alone"]


def test_a_recipe_takes_part_more_than_once_with_other_knobs():
    """Which temperature is a question like which recipe."""
    found, _ = contenders(["hinton-kd", "hinton-kd:temperature=8,fit={lr: 0.01}"], PAIR, data_from("digits"), 0, False)
    plain, other = found[0], found[1]
    assert (plain.knobs["temperature"], other.knobs["temperature"]) == (4.0, 8.0)
    assert other.knobs["fit"].lr == 0.01
    assert other.knobs["fit"].epochs == plain.knobs["fit"].epochs
    assert other.fixed == {"temperature", "fit"}
    assert other.slug == "hinton-kd-temperature-8-fit-lr-0.01"


def test_names_may_stand_in_one_word():
    """As they are written everywhere else."""
    assert who(["fitnets,alone"])[0] == ["fitnets", "alone"]


def test_a_recipe_of_a_users_own_takes_part(own):
    """No fork is needed."""
    found, _ = contenders([f"{own}:plain:weight=2"], PAIR, data_from("digits"), 0, False)
    assert found[0].knobs["weight"] == 2
    assert found[0].recipe == f"{own}:plain"
    assert "/" not in found[0].slug
    assert rehearsed(found, True)[0] == found


@pytest.mark.parametrize(
    ("recipes", "said"),
    [
        (["hinton"], "recipe 'hinton' is not known; nearest: 'hinton-kd'"),
        ([""], "a recipe's name is empty"),
        (["alone", "alone"], "named twice"),
        (["hinton-kd:temprature=3"], "has no option 'temprature'; nearest: 'temperature'"),
        (["hinton-kd:temperature=hot"], "temperature=hot: expected a number"),
        (["hinton-kd:alpha=3"], "alpha=3.0; expected a share"),
        (["hinton-kd:teacher=cnn"], "teacher is a role, which all recipes share; give --teacher"),
        (["hinton-kd:x"], "is no option; expected NAME:key=value"),
        (["hinton-kd:temperature=8", "hinton-kd:temperature=8.0"], "hinton-kd:temperature=8 and hinton-kd:temperature=8.0 are the same"),
        (["kd", "hinton-kd"], "are the same; leave one of them out"),
        (["hinton-kd:hint=", "hinton-kd"], "has no option 'hint'"),
        ([object()], "list of names or file.py:function"),
        ("alone", "list of names or file.py:function"),
        (["nothing.py:x"], "nothing.py does not exist"),
        (["MINE:no_recipe"], "is not a recipe"),
        (["MINE:helped"], "needs a helper"),
        (["MINE:broken"], "cannot be used: KeyError: 'nothing'"),
    ],
)
def test_a_recipe_that_was_named_and_does_not_apply_is_an_error(recipes, said, own):
    """It was asked for, so it cannot be left out in silence."""
    named = [str(own) + each[4:] if isinstance(each, str) and each.startswith("MINE") else each for each in recipes]
    with pytest.raises((BadInput, MissingFile), match=said):
        who(named if isinstance(recipes, list) else recipes)


def test_a_rehearsal_finds_what_would_fail_later():
    """A teacher that knows too few classes, before hours of training."""
    found, _ = contenders(["hinton-kd"], {**PAIR, "teacher": "cnn:width=2,classes=5"}, data_from("digits"), 0, False)
    with pytest.raises(BadInput, match="gives 5 logits, but digits has 10 classes"):
        rehearsed(found, True)
    fit, left_out = rehearsed(found, False)
    assert [each.name for each in fit] == ["alone"]
    assert "10 classes" in left_out[0]["reason"]
