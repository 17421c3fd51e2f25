"""Reproducing a small claim of our own on the digits: paired, resumed, recorded, replayed."""

from __future__ import annotations

import json
import time

import numpy as np
import pytest
from scipy.stats import t

from tutelage.errors import BadInput, Failed, MissingFile
from tutelage.jobs.pool import pool
from tutelage.reproductions.harness import drive, replay, results, store
from tutelage.reproductions.harness.reproduce import check_recorded, foreseen, reproduce

CLAIM = """
from tutelage.data.digits import digits
from tutelage.reproductions.harness import Arm, Difference, Reproduction, each_try

FIT = {"fit": {"steps": 12, "batch_size": 32}}
RATES = each_try(**{"fit.lr": (1e-5, 1e-2)})
NET = "mlp:width=8"

REPRODUCTION = Reproduction(
    claim="a claim",
    bench="digits",
    data=lambda seed: digits(seed=seed),
    fixtures={"teacher": Arm("teacher", "mlp:width=16", "alone", knobs=FIT)},
    arms={
        "teacher": Arm("the teacher as it is", fixture="teacher"),
        "alone": Arm("alone", NET, "alone", knobs=FIT, tries=RATES),
        "taught, well": Arm("taught", NET, "hinton-kd", "teacher", knobs=FIT, tries=RATES),
    },
    predictions=[Difference("accuracy", "taught, well", "alone", matters=0.01)],
    seeds=3,
    minutes=0.1,
    prefix=2,
)
"""


BEGUN = """
from tutelage.data.digits import digits
from tutelage.reproductions.harness import Arm, Difference, Reproduction

NET = "mlp:width=8"
STILL = {"fit": {"steps": 2, "lr": 1e-30}}

REPRODUCTION = Reproduction(
    claim="a claim",
    bench="digits",
    data=lambda seed: digits(seed=seed),
    fixtures={
        "teacher": Arm("teacher", "mlp:width=16", "alone", knobs={"fit": {"steps": 9}}, seed=7),
        "begun": Arm("begun", NET, "alone", knobs={"fit": {"steps": 30, "lr": 1e-2}}),
    },
    arms={
        "begun": Arm("as it is", fixture="begun"),
        "on": Arm("goes on", NET, "alone", knobs=STILL, start="begun"),
        "taught": Arm("taught", NET, "hinton-kd", "teacher", knobs=STILL, start="begun"),
        "anew": Arm("anew", NET, "alone", knobs=STILL),
    },
    predictions=[Difference("accuracy", "on", "anew", matters=0.01)],
    seeds=3,
    minutes=0.1,
    prefix=1,
)
"""


@pytest.fixture
def claim(tmp_path, monkeypatch):
    monkeypatch.setenv("TUTELAGE_CACHE", str(tmp_path / "cache"))
    file = tmp_path / "my_claim.py"
    file.write_text(CLAIM)
    return str(file)


def trials(claim):
    return {f.stem: f.stat().st_mtime_ns for f in drive.folder_of(claim).glob("*.json")}


def test_from_arms_to_a_verdict(claim, tmp_path):
    found, file = reproduce(claim, workers=0, quiet=True)
    assert file == tmp_path / "results" / "my-claim.json"
    assert json.loads(file.read_text()) == json.loads(json.dumps(found))
    assert set(found["numbers"]) == {"teacher", "alone", "taught, well"}
    assert all(len(values) == 3 for arm in found["numbers"].values() for values in arm.values())
    # tuned on validation, both alike: a rate of 1e-5 learns nothing in 12 updates
    assert [found["arms"][a]["tuned"]["chosen"] for a in ("alone", "taught, well")] == [1, 1]
    assert found["arms"]["alone"]["knobs"]["fit"]["lr"] == 1e-2
    assert found["arms"]["alone"]["updates"] == found["arms"]["taught, well"]["updates"] == 12
    # the prediction by an independent computation
    gaps = np.subtract(found["numbers"]["taught, well"]["accuracy"], found["numbers"]["alone"]["accuracy"])
    said = found["predictions"][0]
    assert said["per_seed"] == pytest.approx(gaps.tolist())
    low, high = t.interval(0.95, 2, loc=gaps.mean(), scale=gaps.std(ddof=1) / np.sqrt(3))
    assert (said["low"], said["high"]) == pytest.approx((low, high))
    assert found["machine"]["threads"] == 1
    assert found["versions"]["torch"]

    # again: nothing is trained twice, and the same comes out
    before = trials(claim)
    again, _ = reproduce(claim, workers=0, quiet=True)
    assert trials(claim) == before
    assert again["numbers"] == found["numbers"]

    # the recorded beginning is replayed
    assert check_recorded(claim, workers=0) > 10


def test_students_may_begin_with_what_a_fixture_learned_and_one_fixture_serve_all_seeds(claim):
    """Arms from a warm start are paired only if it is the same one; a teacher that is long in the making is made once."""
    drive.Path(claim).write_text(BEGUN)
    found, _ = reproduce(claim, workers=0, quiet=True)
    begun, on, taught, anew = (found["numbers"][arm]["accuracy"] for arm in ("begun", "on", "taught", "anew"))
    assert begun == on == taught
    assert len(set(begun)) > 1
    assert max(anew) < min(begun)
    assert found["arms"]["on"]["updates"] == 2
    made = sorted(name for name in trials(claim) if name.startswith("fixture"))
    assert made == ["fixture-begun-seed-0", "fixture-begun-seed-1", "fixture-begun-seed-2", "fixture-teacher-seed-7"]
    assert {row[0]: row[3:] for row in foreseen(claim)[0]}["teacher (fixture)"] == (1, 1)
    assert check_recorded(claim, workers=0)


def test_a_changed_number_is_noticed(claim):
    _, file = reproduce(claim, workers=0, quiet=True, seeds=2, out=None or drive.Path(claim).parent / "results" / "my-claim.json")
    said = json.loads(file.read_text())
    loss = said["prefix"]["trials"]["alone-seed-0"]["losses"]
    name = next(iter(loss))
    assert len(loss[name]) == 2
    loss[name][1] *= 1.01
    file.write_text(json.dumps(said))
    with pytest.raises(replay.Differs, match=r"alone-seed-0/losses/.*recorded.*measure the claim again"):
        check_recorded(claim, workers=0)
    loss[name][1] *= (1 + 1e-5) / 1.01  # within the tolerance
    file.write_text(json.dumps(said))
    assert check_recorded(claim, workers=0)
    said["arms"].pop("alone")
    file.write_text(json.dumps(said))
    with pytest.raises(replay.Differs, match="was changed after it was measured"):
        check_recorded(claim, workers=0)


def test_two_processes_give_the_same_numbers_to_the_last_digit(claim, tmp_path, monkeypatch):
    one, _ = reproduce(claim, workers=0, quiet=True, seeds=2, out=tmp_path / "one.json")
    monkeypatch.setenv("TUTELAGE_CACHE", str(tmp_path / "other"))
    two, _ = reproduce(claim, workers=2, quiet=True, seeds=2, out=tmp_path / "two.json")
    assert one["numbers"] == two["numbers"]
    assert one["prefix"] == two["prefix"]


def test_arms_are_paired(claim):
    """Under one seed both arms begin from the same weights and see the same samples in the same order."""
    from tutelage.reproductions import load
    from tutelage.reproductions.harness.trial import planned

    stated = load(claim)
    data = stated.data(3)
    alone, again = (planned(stated.arms["alone"], data, None, 3).product.module.state_dict() for _ in range(2))
    teacher = planned(stated.fixtures["teacher"], data, None, 3).product
    taught = planned(stated.arms["taught, well"], data, teacher, 3).product.module.state_dict()
    other = planned(stated.arms["alone"], data, None, 4).product.module.state_dict()
    for name, value in alone.items():
        assert value.equal(taught[name])
        assert value.equal(again[name])
    assert not all(value.equal(other[name]) for name, value in alone.items())
    first = replay.prefix(claim, _here(), {})["trials"]
    assert set(first) == {"fixture-teacher-seed-0", "teacher-seed-0", "alone-seed-0", "taught--well-seed-0"}


def _here():
    from tutelage.jobs.pool import _Here

    return _Here(1)


def test_a_fixture_is_made_once_for_each_content(claim, tmp_path):
    reproduce(claim, workers=0, quiet=True, seeds=2, out=tmp_path / "a.json")
    kept = {f: f.stat().st_mtime_ns for f in (store.cache() / "fixtures").glob("*/model.safetensors")}
    assert len(kept) == 4  # one for each of two seeds, one for the tuning seed, one cut short
    # another claim with the same teacher finds it there
    drive.Path(claim).write_text(CLAIM.replace('claim="a claim"', 'claim="another"').replace("(1e-5, 1e-2)", "(1e-4, 1e-2)"))
    other = tmp_path / "other_claim.py"
    other.write_text(drive.Path(claim).read_text())
    reproduce(str(other), workers=0, quiet=True, seeds=2, out=tmp_path / "b.json")
    assert {f: f.stat().st_mtime_ns for f in kept} == kept
    assert set((store.cache() / "fixtures").glob("*/model.safetensors")) == set(kept)


def test_time_that_is_up_keeps_what_is_done(claim):
    with pool("processes", 0, threads=1) as here, pytest.raises(drive.Unfinished, match="the same command goes on"):
        drive.carried(claim, here, until=time.monotonic())


def test_a_trial_that_fails_is_named_with_its_log(claim):
    drive.Path(claim).write_text(CLAIM.replace("    predictions=[", "    measured=lambda made: 1 / 0,\n    predictions=["))
    with pytest.raises(Failed, match=r"alone-try-0-seed-1000 first: ZeroDivisionError.*its log is"):
        reproduce(claim, workers=0, quiet=True)


def test_fewer_seeds_go_elsewhere(claim, tmp_path):
    with pytest.raises(BadInput, match="--out FILE"):
        reproduce(claim, seeds=2, workers=0)
    with pytest.raises(BadInput, match="expected 2 to"):
        reproduce(claim, seeds=1, out=tmp_path / "x.json", workers=0, quiet=True)
    with pytest.raises(BadInput, match=r"ends in \.json"):
        reproduce(claim, out=tmp_path / "x.txt", workers=0)


def test_dry_run_counts_what_is_left(claim):
    rows, minutes = foreseen(claim)
    assert minutes == pytest.approx(0.1)
    assert [(name, updates, trainings) for name, _, updates, trainings, _ in rows] == [
        ("teacher (fixture)", 12, 4),
        ("teacher (arm)", 0, 3),
        ("alone (arm)", 12, 5),
        ("taught, well (arm)", 12, 5),
    ]
    assert not any(done for *_, done in rows)
    reproduce(claim, workers=0, quiet=True, seeds=2, out=drive.Path(claim).parent / "x.json")
    assert [done for *_, done in foreseen(claim)[0]] == [3, 2, 4, 4]


def test_results_that_are_damaged_or_missing(tmp_path):
    with pytest.raises(MissingFile, match="has not been measured yet"):
        results.read(tmp_path / "none.json")
    for text in ("{", "[]", '{"format": 99}', '{"format": 1, "verdict": "fine", "arms": {}}'):
        (tmp_path / "bad.json").write_text(text)
        with pytest.raises(BadInput, match="is damaged, or of another format"):
            results.read(tmp_path / "bad.json")


def test_other_code_and_other_claims_have_other_folders(claim):
    before = drive.folder_of(claim)
    drive.Path(claim).write_text(CLAIM + "\n# changed\n")
    assert drive.folder_of(claim) != before
    assert drive.folder_of("hinton-kd") != drive.folder_of("fitnets")
