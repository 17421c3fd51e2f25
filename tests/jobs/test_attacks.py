"""Attacks by name, models measured under them, and reports of recipes that are meant for it."""

from __future__ import annotations

import json

import pytest
import torch

from tutelage import Fit, RunOptions, distill, evaluate
from tutelage.attacks import Attack, fgsm, pgd
from tutelage.cli.main import main
from tutelage.data import Data, Table
from tutelage.errors import BadInput
from tutelage.evaluation import Referee
from tutelage.jobs.attacks import attack_from, judge_of

QUIET = RunOptions(quiet=True, device="cpu")


@pytest.mark.filterwarnings("ignore")
def test_attacks_are_made_from_what_users_write():
    assert attack_from("pgd:eps=0.1,steps=7,norm=l2,restarts=2") == pgd(eps=0.1, steps=7, norm="l2", restarts=2)
    assert attack_from("fgsm:eps=0.1") == fgsm(eps=0.1)
    assert attack_from("square:eps=0.1") == Referee("square", 0.1)
    assert attack_from(Attack(0.2)) == Attack(0.2)
    assert judge_of(Attack(0.1, steps=5, step=0.1, start="near", against="teacher")) == pgd(eps=0.1, steps=20)
    assert judge_of(Attack(0.1, steps=50)).steps == 50


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("pdg:eps=0.1", "attack 'pdg' is not known; nearest: 'pgd'"),
        ("pgd", "give pgd:eps=0.1"),
        ("pgd:eps=-1", "eps=-1"),
        ("pgd:eps=0.1,step=x", "expected a number|step"),
        ("pgd:eps=0.1,stepz=3", "no option 'stepz'"),
        ("pgd:eps=0.1,steps=0", "steps=0"),
        (7, "not int"),
    ],
)
def test_what_is_no_attack_is_refused(given, said):
    with pytest.raises(BadInput, match=said):
        attack_from(given)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of `pgd-at` with its baseline."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tutelage.jobs.report.render", lambda contents: "")
        patch.setattr("tutelage.evaluation.cost.SECONDS", 0.0)
        out = tmp_path_factory.mktemp("runs") / "robust"
        fit, attack = Fit(steps=150, batch_size=64, lr=1e-2), Attack(0.2, steps=3)
        return distill(None, "mlp:width=32", "digits", recipe="pgd-at", attack=attack, fit=fit, out=out, options=QUIET)


def test_the_report_of_a_robust_recipe_has_both_accuracies(run):
    report = run.report
    assert report["attack"] == {"name": "PGD-20, linf 0.2", "samples": report["samples"]}
    for name in ("alone", "student"):
        numbers = report[name]
        assert numbers["weighted_robust_accuracy"] == pytest.approx((numbers["accuracy"] + numbers["robust_accuracy"]) / 2)
        assert numbers["robust_accuracy"] < numbers["accuracy"]
    assert report["student"]["robust_accuracy"] > report["alone"]["robust_accuracy"]


def test_evaluate_measures_all_models_of_a_run_under_attack(run, capsys):
    found = evaluate(run.folder, attack="pgd:eps=0.2,steps=20", device="cpu")
    assert found.attack == "PGD-20, linf 0.2"
    for name in ("alone", "student"):
        assert found.models[name]["robust_accuracy"] == pytest.approx(run.report[name]["robust_accuracy"], abs=0.02)
        ends = found.models[name]["intervals"]["robust_accuracy"]
        assert ends["low"] <= found.models[name]["robust_accuracy"] <= ends["high"]
    assert found.recorded["equal"]
    assert main(["evaluate", str(run.folder), "--attack", "fgsm:eps=0.2", "--device", "cpu", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["attack"] == "FGSM, linf 0.2"
    assert told["models"]["student"]["robust_accuracy"] >= found.models["student"]["robust_accuracy"] - 1e-9
    assert main(["evaluate", str(run.folder), "--attack", "fgsm:eps=0.2", "--device", "cpu"]) == 0
    assert "under FGSM" in capsys.readouterr().out
    assert evaluate(run.folder, device="cpu").attack is None


def test_what_cannot_be_attacked_is_refused(run):
    rows = Data(Table({"x": torch.rand(9, 64), "y": torch.arange(9) % 10}), name="rows")
    with pytest.raises(BadInput, match="an attack changes images, but data holds numbers"):
        evaluate("mlp:inputs=64,classes=10", data=rows, attack="pgd:eps=0.1", device="cpu")
    wide = Data(Table({"x": torch.rand(9, 1, 8, 8) * 255, "y": torch.arange(9) % 10}), name="wide")
    with pytest.raises(BadInput, match=r"keeps images in \[0, 1\]"):
        evaluate(run.folder, data=wide, attack="pgd:eps=0.1", device="cpu")
