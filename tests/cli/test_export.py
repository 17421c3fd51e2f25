"""`tutelage export`: what it prints, and what it refuses."""

from __future__ import annotations

import json

import pytest

from tutelage.cli.main import main


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = [
        "distill",
        "--teacher",
        "cnn:width=4",
        "--train-teacher",
        "--student",
        "cnn:width=2",
        "--steps",
        "3",
        "--teacher_fit.steps",
        "3",
    ]
    assert main([*words, "--no-baseline", "--quiet", "--out", "runs/first"]) == 0
    return "runs/first"


def test_it_says_what_was_written_and_tried(run, capsys):
    capsys.readouterr()
    assert main(["export", run]) == 0
    said = capsys.readouterr().out
    assert "Exported cnn to runs/first/exported/safetensors: " in said
    assert "no probability in a process without tutelage is further than" in said
    assert main(["export", run, "--to", "onnx", "--int8", "--which", "teacher", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["folder"] == "runs/first/exported/teacher-onnx"
    assert set(found["files"]) == {"README.md", "model.int8.onnx", "model.json", "model.onnx"}
    assert main(["runs", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)) == 1  # what was exported is no run


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "model"),
        (["runs/none"], "'runs/none' does not exist"),
        (["cnn:width=2"], "lies in no run; give --data"),
        (["runs/first", "--to", "onx"], "'onx': expected one of safetensors, hf, onnx, packed; nearest: 'onnx'"),
        (["runs/first", "--data.label", "x"], "--data.label is an option of --data"),
        (["runs/first", "--witch", "teacher"], "--witch is not known; nearest: 'which'"),
        (["runs/first/model", "--int8"], "--int8 is for --to onnx"),
    ],
)
def test_bad_input_is_one_sentence(words, said, run, capsys):
    capsys.readouterr()
    assert main(["export", *words]) == 2
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 1


def test_a_truncated_file_is_one_sentence(run, capsys):
    with open("runs/first/model/model.safetensors", "r+b") as file:
        file.truncate(40)
    capsys.readouterr()
    assert main(["export", run]) == 2
    assert "damaged" in capsys.readouterr().err
