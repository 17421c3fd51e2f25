"""The claims that come with us: fair by design, and their committed results follow from their own raw numbers by the stated rule."""

from __future__ import annotations

import json
import re

import pytest

from tutelage.data.fashion_mnist import DEBIAN
from tutelage.errors import BadInput, MissingFile
from tutelage.evaluation.seeds import interval
from tutelage.recipes import listing as recipes
from tutelage.recipes import load as recipe
from tutelage.reproductions import RESULTS, listing, load
from tutelage.reproductions.harness.drive import check_equal
from tutelage.reproductions.harness.results import read
from tutelage.reproductions.harness.trial import knobs
from tutelage.reproductions.harness.verdicts import together

MEASURED = [name for name in listing() if (RESULTS / f"{name}.json").is_file()]


def test_every_method_with_a_paper_has_a_claim():
    with_paper = {each.name for each in recipes() if recipe(each.name).about.paper is not None}
    assert with_paper <= {load(name).recipe for name in listing()}


@pytest.mark.parametrize("name", listing())
def test_claims_name_their_paper(name):
    claim = load(name)
    assert claim.paper() is not None
    assert claim.seeds >= 5


@pytest.mark.skipif(not DEBIAN.is_dir(), reason="needs Debian's dataset-fashion-mnist")
@pytest.mark.parametrize("name", listing())
def test_arms_are_on_equal_terms(name):
    try:
        load(name).data(0)
    except MissingFile as error:
        pytest.skip(str(error))
    assert check_equal(load(name))


def test_every_claim_has_been_measured():
    assert listing() == MEASURED


@pytest.mark.parametrize("name", MEASURED)
def test_committed_verdicts_follow_from_the_raw_numbers(name):
    claim, found = load(name), read(RESULTS / f"{name}.json")
    assert found["claim"] == claim.claim
    assert found["bench"] == claim.bench
    assert list(found["arms"]) == list(claim.arms)
    assert found["seeds"] == list(range(claim.seeds))
    for arm, stated in claim.arms.items():
        tuned = found["arms"][arm]["tuned"]
        assert (tuned is not None) == bool(stated.tries)
        if tuned:
            assert tuned["chosen"] == tuned["validation"].index(max(tuned["validation"]))
        if stated.recipe is not None:
            chosen = knobs(stated, tuned and tuned["chosen"])
            assert found["arms"][arm]["knobs"]["fit"]["lr"] == chosen["fit"].lr
    assert len(found["predictions"]) == len(claim.predictions)
    for said, prediction in zip(found["predictions"], claim.predictions, strict=True):
        values = prediction.per_seed(found["numbers"])
        now = interval(values)
        assert said["says"] == prediction.says
        assert said["per_seed"] == pytest.approx(values)
        assert (said["mean"], said["low"], said["high"]) == pytest.approx((now.mean, now.low, now.high))
        assert said["verdict"] == prediction.verdict(now)
    assert found["verdict"] == together([p["verdict"] for p in found["predictions"]])


@pytest.mark.parametrize("name", MEASURED)
def test_results_say_when_and_on_what(name):
    found = read(RESULTS / f"{name}.json")
    assert re.fullmatch(r"20\d\d-\d\d-\d\d", found["date"])
    assert found["machine"]["processor"]
    assert found["machine"]["threads"] == 1
    assert {"tutelage", "torch", "numpy"} <= set(found["versions"])
    assert found["prefix"]["trials"]
    text = json.dumps(found)
    assert "/home/" not in text
    assert "/root/" not in text
    assert "/tmp/" not in text


@pytest.mark.parametrize("name", MEASURED)
def test_a_claim_that_does_not_hold_says_why_we_think_so(name):
    found, why = read(RESULTS / f"{name}.json"), RESULTS / f"{name}.md"
    if found["verdict"] == "reproduced":
        assert not why.exists()
    else:
        assert len(why.read_text().split()) > 30


def test_unknown_claims_name_the_nearest(tmp_path):
    with pytest.raises(BadInput, match="nearest: 'hinton-kd'"):
        load("hinton-k")
    with pytest.raises(MissingFile, match="does not exist"):
        load(str(tmp_path / "none.py"))
    (tmp_path / "empty.py").write_text("x = 1")
    with pytest.raises(BadInput, match="has no REPRODUCTION"):
        load(str(tmp_path / "empty.py"))


def test_underscores_name_the_same_claim():
    assert load("hinton_kd") is not None
    assert load("hinton_kd").recipe == "hinton-kd"
