"""`tutelage reproduce`: the list, what would happen, one claim from start to end, and what cannot be."""

from __future__ import annotations

import json

import pytest

from tutelage.cli.main import main
from tutelage.reproductions import listing


@pytest.fixture
def claim(tmp_path, monkeypatch):
    monkeypatch.setenv("TUTELAGE_CACHE", str(tmp_path / "cache"))
    file = tmp_path / "tiny.py"
    file.write_text("""
from tutelage.data.digits import digits
from tutelage.reproductions.harness import Arm, Difference, Reproduction

FIT = {"fit": {"steps": 6, "batch_size": 32}}
REPRODUCTION = Reproduction(
    claim="Smoothed labels change nothing.",
    bench="digits",
    data=lambda seed: digits(seed=seed),
    arms={
        "plain": Arm("plain", "mlp:width=4", "alone", knobs=FIT),
        "smoothed": Arm("smoothed", "mlp:width=4", "alone", knobs={**FIT, "label_smoothing": 0.1}),
    },
    predictions=[Difference("accuracy", "smoothed", "plain", matters=0.01)],
    seeds=2,
    minutes=0.1,
    prefix=2,
)
""")
    return str(file)


def test_lists_all_claims(capsys):
    assert main(["reproduce"]) == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in listing())
    assert main(["reproduce", "--json"]) == 0
    assert [row["name"] for row in json.loads(capsys.readouterr().out)] == listing()


def test_measures_prints_and_checks(claim, tmp_path, capsys):
    assert main(["reproduce", claim, "--dry-run"]) == 0
    assert "smoothed (arm)" in capsys.readouterr().out
    assert main(["reproduce", claim, "--workers", "0", "--quiet"]) == 0
    shown = capsys.readouterr()
    assert "Smoothed labels change nothing." in shown.out
    assert "Verdict:" in shown.out
    assert "tiny.json" in shown.out
    assert shown.err == ""
    assert main(["reproduce", claim, "--check", "--workers", "0"]) == 0
    assert "as recorded" in capsys.readouterr().out
    file = tmp_path / "results" / "tiny.json"
    said = json.loads(file.read_text())
    said["prefix"]["trials"]["plain-seed-0"]["numbers"]["nll"] += 0.1
    file.write_text(json.dumps(said))
    assert main(["reproduce", claim, "--check", "--workers", "0"]) == 1
    assert "differ from the recorded ones" in capsys.readouterr().err


def test_json_is_the_result(claim, tmp_path, capsys):
    assert main(["reproduce", claim, "--workers", "0", "--quiet", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["numbers"] == json.loads((tmp_path / "results" / "tiny.json").read_text())["numbers"]


def test_all_leaves_out_what_time_does_not_allow(capsys):
    assert main(["reproduce", "--all", "--minutes", "0.001"]) == 0
    shown = capsys.readouterr().out
    assert all(f"{name}: left out" in shown for name in listing())


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["hinton-k"], "nearest: 'hinton-kd'"),
        (["none.py"], "does not exist"),
        (["hinton-kd", "--all"], "leave the name out"),
        (["hinton-kd", "--check", "--seeds", "3"], "takes neither --seeds nor --out"),
        (["hinton-kd", "--seeds", "3"], "--out FILE"),
        (["hinton-kd", "--minutes", "-1"], "expected a number above 0"),
        (["hinton-kd", "--engine", "dask"], "expected processes or ray"),
        (["hinton-kd", "--workers", "-1"], "workers=-1: expected 0 to"),
        (["hinton-kd", "--seeds", "many"], "whole number"),
        (["hinton-kd", "--worker", "1"], "nearest: 'workers'"),
    ],
)
def test_bad_input_is_one_sentence(words, said, capsys):
    assert main(["reproduce", *words]) == 2
    shown = capsys.readouterr()
    assert said in shown.err
    assert shown.err.count("\n") == 1
