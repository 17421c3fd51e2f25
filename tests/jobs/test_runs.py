"""The list of runs: what is found, what is said of it, and that nothing it finds can break it."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from pathlib import Path

import pytest

from tutelage import Fit, RunOptions
from tutelage.errors import BadInput, Interrupted, MissingFile, NotFinite
from tutelage.jobs.distill import distill
from tutelage.jobs.runs import Place, runs
from tutelage.training import Run

OPTIONS = RunOptions(quiet=True, device="cpu", log_every=2, checkpoint_every=4)
WORDS = {"recipe": "fitnets", "train_teacher": True, "teacher_fit": Fit(steps=3), "hint_fit": {"steps": 4}, "fit": {"steps": 6}}


def go(out: Path, student: str = "cnn:width=3,depth=2", **changed):
    return distill("cnn:width=2,depth=2", student, out=out, options=OPTIONS, **{**WORDS, **changed})


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> tuple[Path, dict]:
    """Four runs: finished, stopped in the second stage, stopped in the teacher, failed."""
    root = tmp_path_factory.mktemp("made")
    report = go(root / "deep" / "done", seed=3).report
    patch = pytest.MonkeyPatch()
    with patch.context() as each:
        each.setattr(Run, "stopping", lambda run, step: step == 5 and run.folder.name == "stopped")
        with pytest.raises(Interrupted):
            go(root / "stopped")
        each.setattr(Run, "stopping", lambda run, step: step == 1)
        with pytest.raises(Interrupted):
            go(root / "early")
    with pytest.raises(NotFinite):
        go(root / "failed", fit={"steps": 9, "optimizer": "sgd", "lr": 1e30})
    return root, report


@pytest.fixture
def found(made):
    """Summaries by name."""
    return {Path(each.folder).name: each for each in runs(made[0])}


def test_all_runs_below_a_folder_are_found_and_their_parts_only_when_asked_for(made, found):
    """A teacher that was trained for a run is no run of its own."""
    assert set(found) == {"done", "stopped", "early", "failed"}
    parts = {str(Path(each.folder).relative_to(made[0])) for each in runs(made[0], parts=True)}
    assert parts >= {"deep/done/teacher", "deep/done/baseline", "stopped/teacher", "stopped/baseline", "early/teacher"}
    assert not any(Path(part).name in ("model", "stages", "checkpoints") for part in parts)


def test_a_finished_run_is_summed_up_from_its_report_and_config(made, found):
    """Numbers are those of report.json, words those of the command."""
    root, report = made
    run = found["done"]
    assert (run.state, run.at, run.note) == ("finished", None, None)
    assert (run.recipe, run.teacher, run.student) == ("fitnets", "cnn:width=2,depth=2", "cnn:width=3,depth=2")
    assert (run.data, run.seed) == ("digits", 3)
    assert run.accuracy == {key: report[key]["accuracy"] for key in ("teacher", "alone", "student")}
    assert run.difference == pytest.approx(report["student"]["accuracy"] - report["alone"]["accuracy"])
    assert run.parameters == report["student"]["parameters"]
    assert run.begun == json.loads((root / "deep/done/environment.json").read_text())["time"]
    assert run.size == sum(file.stat().st_size for file in (root / "deep/done").rglob("*") if file.is_file())


def test_a_run_that_was_not_ended_says_where_it_stands(found):
    """The step of the newest checkpoint where that is further than the log, and otherwise that of the log."""
    assert found["stopped"].state == found["early"].state == "unfinished"
    assert found["stopped"].at == Place("student", "distil", 5)
    assert found["early"].at == Place("teacher", "train", 1)
    assert found["stopped"].accuracy == {}


def test_a_checkpoint_behind_the_log_does_not_hide_it(made, tmp_path):
    """A killed process has logged more than it has saved."""
    shutil.copytree(made[0] / "stopped", tmp_path / "run")
    with (tmp_path / "run/metrics.jsonl").open("a") as log:
        log.write('{"stage": "distil", "step": 6}\n{"stage": "dis')
    assert runs(tmp_path)[0].at == Place("student", "distil", 6)
    shutil.rmtree(tmp_path / "run/checkpoints")
    assert runs(tmp_path)[0].at == Place("student", "distil", 6)


def test_a_run_that_failed_says_why_and_is_well_again_when_it_is_resumed(found, made, tmp_path):
    """Else one reads a log to learn that a loss was NaN."""
    failed = found["failed"]
    assert failed.state == "failed"
    assert failed.note is not None
    assert failed.note.startswith("NotFinite: ")
    assert "became NaN or infinite" in failed.note
    shutil.copytree(made[0] / "stopped", tmp_path / "again")
    (tmp_path / "again/failure.json").write_text('{"error": "OSError: the disk is full"}')
    assert runs(tmp_path)[0].state == "failed"
    go(tmp_path / "again", resume=True)
    assert runs(tmp_path)[0].state == "finished"
    assert not (tmp_path / "again/failure.json").exists()


def test_parts_say_how_their_model_is_built_and_how_good_it_is(made):
    """So that one finds a teacher to use again."""
    root, report = made
    parts = {Path(each.folder).name: each for each in runs(root / "deep", parts=True)}
    assert parts["teacher"].student == "cnn:classes=10,channels=1,width=2,depth=2"
    assert parts["teacher"].accuracy == {"student": report["teacher"]["accuracy"]}
    assert parts["baseline"].accuracy == {"student": report["alone"]["accuracy"]}
    assert parts["baseline"].parameters == report["alone"]["parameters"]


def test_runs_are_sorted_by_any_column_the_unknown_first(made):
    """The newest, largest or best is read last, next to the prompt."""
    for sort, value in (("begun", lambda r: r.begun), ("size", lambda r: r.size), ("folder", lambda r: r.folder)):
        values = [value(run) for run in runs(made[0], sort=sort)]
        assert values == sorted(values)
    assert Path(runs(made[0], sort="difference")[-1].folder).name == "done"
    assert [run.difference for run in runs(made[0], sort="difference")][:3] == [None] * 3
    with pytest.raises(BadInput, match="nearest: 'accuracy'"):
        runs(made[0], sort="acuracy")


DAMAGE = {
    "no JSON": ("report.json", b"{", "report.json is damaged"),
    "a list": ("report.json", b"[1]", "report.json is damaged"),
    "no text": ("report.json", b"\xff\xfe\x00", "report.json is damaged"),
    "deep JSON": ("report.json", b"[" * 100_000, "report.json is damaged"),
    "a long number": ("report.json", b"1" * 5000, "report.json is damaged"),
    "broken YAML": ("config.yaml", b"a: [1", "config.yaml is damaged"),
    "deep YAML": ("config.yaml", b"[" * 10_000, "config.yaml is damaged"),
    "YAML with code": ("config.yaml", b"recipe: !!python/object/apply:os.system ['echo']", "config.yaml is damaged"),
    "an impossible date": ("config.yaml", b"recipe: 2001-99-99", "config.yaml is damaged"),
    "an unhashable key": ("config.yaml", b"{[1]: 2}", "config.yaml is damaged"),
    "broken environment": ("environment.json", b"", "environment.json is damaged"),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_a_damaged_file_is_named_and_the_rest_is_shown(case, made, tmp_path):
    """One broken run must not hide the others."""
    name, content, note = DAMAGE[case]
    shutil.copytree(made[0] / "deep/done", tmp_path / "broken")
    shutil.copytree(made[0] / "deep/done", tmp_path / "whole")
    (tmp_path / "broken" / name).write_bytes(content)
    broken, whole = runs(tmp_path, sort="folder")
    assert (broken.state, broken.note) == ("damaged", note)
    assert broken.recipe == "fitnets"
    assert whole.state == "finished"


@pytest.mark.parametrize(
    "report",
    [
        {"recipe": 3, "seed": "x", "data": ["d"], "student": [1], "teacher": {"accuracy": "high"}, "taught_minus_alone": None},
        {"recipe": "kd", "student": {"accuracy": float("nan"), "parameters": 10**40}, "alone": {"accuracy": 10**400}, "seed": True},
    ],
)
def test_values_of_the_wrong_kind_are_unknown(report, tmp_path):
    """A report of another version, or of another program."""
    (tmp_path / "run").mkdir()
    (tmp_path / "run/report.json").write_text(json.dumps(report))
    (tmp_path / "run/environment.json").write_text('{"time": "0001-01-01T00:00:00+14:00"}')
    (run,) = runs(tmp_path)
    assert (run.accuracy, run.difference, run.parameters, run.seed) == ({}, None, None, None)
    json.dumps(dataclasses.asdict(run), allow_nan=False)


def test_folders_of_something_else_are_no_runs(tmp_path):
    """Many programs write a config.yaml."""
    for name, files in {"a": ["config.yaml"], "b": ["config.yaml", "model"], "c": ["metrics.jsonl"], "d": []}.items():
        (tmp_path / name).mkdir()
        for file in files:
            (tmp_path / name / file).write_text("{lr: 1}")
    assert runs(tmp_path) == []


def test_links_to_runs_count_and_circles_end(made, tmp_path):
    """`runs/latest` is a habit; a link to a folder above would go round for ever."""
    shutil.copytree(made[0] / "deep/done", tmp_path / "elsewhere/done")
    root = tmp_path / "root"
    root.mkdir()
    (root / "latest").symlink_to(tmp_path / "elsewhere/done")
    (root / "outside").symlink_to(tmp_path / "elsewhere")
    (root / "up").symlink_to(root)
    (root / "nowhere").symlink_to(tmp_path / "nothing")
    (root / "round").symlink_to(root / "round")
    (tmp_path / "elsewhere/done/self").symlink_to(tmp_path / "elsewhere/done")
    assert [Path(run.folder).name for run in runs(root)] == ["latest"]
    shutil.copytree(made[0] / "deep/done", root / "real")
    (root / "alias").symlink_to(root / "real")
    assert [Path(run.folder).name for run in runs(root, sort="folder")] == ["latest", "real"]


def test_a_folder_that_may_not_be_read_is_passed_over(made, tmp_path):
    """On a shared disk some runs are another's."""
    shutil.copytree(made[0] / "deep/done", tmp_path / "shut")
    (tmp_path / "shut").chmod(0)
    try:
        if os.access(tmp_path / "shut", os.R_OK):
            pytest.skip("this user may read everything")
        assert runs(tmp_path) == []
    finally:
        (tmp_path / "shut").chmod(0o755)


def test_a_folder_that_is_not_there_and_one_that_is_a_file(tmp_path):
    """Both are a slip of the pen."""
    with pytest.raises(MissingFile, match="does not exist"):
        runs(tmp_path / "nothing")
    (tmp_path / "file").touch()
    with pytest.raises(BadInput, match="is a file"):
        runs(tmp_path / "file")
    assert runs(tmp_path) == []
