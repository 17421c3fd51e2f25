"""`tutelage evaluate` as a user meets it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tutelage.cli.main import main
from tutelage.evaluation import cost


@pytest.fixture(autouse=True)
def _short(monkeypatch):
    monkeypatch.setattr(cost, "ROUNDS", 3)
    monkeypatch.setattr("tutelage.jobs.report.render", lambda contents: "")


@pytest.fixture(scope="module")
def done(tmp_path_factory) -> Path:
    """A finished run of a few steps."""
    out = tmp_path_factory.mktemp("runs") / "done"
    words = ["--teacher", "cnn:width=4,depth=2", "--train-teacher", "--student", "mlp:width=4", "--teacher_fit.steps", "30", "--steps", "9"]
    assert main(["distill", *words, "--quiet", "--out", str(out)]) == 0
    return out


def test_a_run_is_shown_side_by_side_with_intervals_and_held_against_its_report(done, capsys):
    """The question that brings a user here: do these numbers stand?"""
    assert main(["evaluate", str(done)]) == 0
    out = capsys.readouterr().out
    for row in ("teacher", "alone", "student", "accuracy", "macro F1", "nats a sample", "calibration error", "agrees with teacher"):
        assert row in out
    for row in ("parameters", "memory", "operations a sample", "ms, batch 1", "ms, batch 64", "least recognised", "best recognised"):
        assert row in out
    report = json.loads((done / "report.json").read_text())
    assert f"{report['student']['accuracy'] * 100:.2f} % (" in out
    said = " ".join(out.split())
    assert "student is right" in said
    assert "McNemar's exact p = " in said
    assert "All 54 numbers are those of report.json" in said


def test_numbers_that_are_not_the_reports_are_shown(done, tmp_path, capsys):
    """Which, and what they were."""
    copy = shutil.copytree(done, tmp_path / "run")
    numbers = json.loads((copy / "report.json").read_text())
    numbers["student"]["parameters"] = 7
    (copy / "report.json").write_text(json.dumps(numbers))
    assert main(["evaluate", str(copy)]) == 0
    assert "1 of 54 numbers is not that of report.json: student parameters 310 instead of 7." in " ".join(capsys.readouterr().out.split())


def test_json_goes_to_stdout_and_into_a_file(done, tmp_path, capsys):
    """A script pipes it on, another reads it later; the file may lie in a folder that is not there yet."""
    out = tmp_path / "new" / "numbers.json"
    words = ["evaluate", str(done / "baseline"), str(done), "--teacher", str(done / "teacher"), "--split", "validation", "--json"]
    assert main([*words, "--out", str(out)]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown == json.loads(out.read_text())
    assert [f.name for f in out.parent.iterdir()] == ["numbers.json"]
    assert list(shown["models"]) == [str(done / "baseline"), str(done), "teacher"]
    assert (shown["split"], shown["teacher"], shown["recorded"]) == ("validation", "teacher", None)
    assert len(shown["per_class"]) == 10
    assert {c["second"] for c in shown["comparisons"]} == {str(done), "teacher"}


def test_data_and_their_options_are_those_of_distill(tmp_path, capsys):
    """Any table, with a column of labels that is named here."""
    rows = "".join(f"{i % 7},{i % 3},{'xy'[(i % 7 + i // 9) % 2]}\n" for i in range(80))
    (tmp_path / "own.csv").write_text("a,b,kind\n" + rows)
    words = ["evaluate", "mlp:width=3", "mlp:width=4", "--data", f"csv:{tmp_path}/own.csv", "--data.label", "kind", "--json"]
    assert main(words) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["classes"] == ["x", "y"]
    assert len(shown["notes"]) == 2


def test_names_from_elsewhere_cannot_steer_the_terminal(tmp_path, capsys):
    """Classes are named by whoever made the data."""
    (tmp_path / "own.csv").write_text("a,label\n" + "".join(f"{i % 5},{('[bold]x', 'y' + chr(27) + '[31m')[i % 2]}\n" for i in range(60)))
    assert main(["evaluate", "mlp:width=3", "--data", f"csv:{tmp_path}/own.csv"]) == 0
    out = capsys.readouterr().out
    assert "[bold]x" in out
    assert "\x1b[31m" not in out


BAD = {
    "nothing": ([], "required"),
    "unknown model": (["resnett", "--data", "digits"], "nearest: 'resnet'"),
    "no data": (["mlp"], "give --data"),
    "data options without data": (["{done}", "--data.label", "a"], "--data.label is an option of --data"),
    "unknown data": (["{done}", "--data", "digitz"], "nearest: 'digits'"),
    "other number of classes": (["{done}", "mlp:classes=7"], "gives 7 logits, but digits has 10 classes"),
    "a teacher of fewer classes": (["{done}", "--teacher", "mlp:classes=3"], "gives 3 logits, but digits has 10 classes"),
    "unknown split": (["{done}", "--split", "tset"], "nearest: 'test'"),
    "no such split": (["{done}/baseline", "--data", "{tmp}/own.py:data", "--split", "test"], "has no split 'test'; it has train"),
    "unfinished run": (["{cut}"], "not finished"),
    "unfinished run among others": (["{done}", "{cut}"], "go on with --resume"),
    "unknown device": (["{done}", "--device", "gpu"], "expected one of"),
    "seed that is none": (["{done}", "--seed", "x"], "whole number"),
    "out is a folder": (["{done}", "--out", "{tmp}"], "is no file"),
    "out is nothing": (["{done}", "--out", ""], "is no file"),
    "out below a file": (["{done}", "--out", "{tmp}/own.py/x.json"], "cannot be made"),
    "out with a null byte": (["{done}", "--out", "a\0b/c"], "cannot be made"),
    "misspelt option": (["{done}", "--teachr", "mlp"], "nearest: 'teacher'"),
    "other images": (["{done}", "--data", "{tmp}/own.py:flat"], "cannot be run on samples"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_gets_one_sentence_and_exit_code_2(case, done, tmp_path, capsys):
    """Which names the thing; nothing is written."""
    (tmp_path / "own.py").write_text(
        "import torch\nfrom tutelage import Data, Table\n"
        "def data(): return Data(Table({'x': torch.zeros(20, 1, 8, 8), 'y': torch.arange(20) % 10}), name='own')\n"
        "def flat(): return Data(Table({'x': torch.zeros(20, 5), 'y': torch.arange(20) % 10}), name='flat')\n"
    )
    cut = shutil.copytree(done, tmp_path / "cut")
    (cut / "report.json").unlink()
    shutil.rmtree(cut / "model")
    words, expected = BAD[case]
    assert main(["evaluate", *(w.format(done=done, tmp=tmp_path, cut=cut) for w in words)]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("tutelage: ")
    assert shown.err.count("\n") == 1
    assert expected in shown.err
