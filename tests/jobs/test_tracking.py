"""Trackers and the main job: three plans in one count of steps, also over an interruption; the files hold what metrics.jsonl does."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tutelage import Fit, RunOptions
from tutelage.errors import Interrupted
from tutelage.jobs.distill import distill
from tutelage.training import Run

pytest.importorskip("tensorboard")

WORDS = {"recipe": "fitnets", "train_teacher": True, "teacher_fit": Fit(steps=3), "hint_fit": {"steps": 4}, "fit": {"steps": 6}}
BEGINS = {"teacher": {"train": 0}, "baseline": {"train": 3}, "student": {"hint": 13, "distil": 17}}
"""Updates before each stage: teacher 3, baseline 10 (as many as the student), hint 4, distil 6."""


def go(out: Path, **changed):
    options = RunOptions(
        quiet=True, device="cpu", log_every=2, share_every=2, checkpoint_every=2, track=changed.pop("track", "tensorboard")
    )
    return distill("cnn:width=2,depth=2", "cnn:width=2,depth=2", out=out, options=options, **WORDS, **changed)


def events(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """All scalars in the event files of a folder, by tag, in the order in which they were written."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found: dict[str, list[tuple[int, float]]] = {}
    for file in sorted((folder / "trackers" / "tutelage").glob("events.*"), key=lambda p: p.name):
        read = EventAccumulator(str(file)).Reload()
        for tag in read.Tags()["scalars"]:
            found.setdefault(tag, []).extend((each.step, each.value) for each in read.Scalars(tag))
    return found


def expected(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """The same from metrics.jsonl of the three plans."""
    found: dict[str, list[tuple[int, float]]] = {}
    for plan, begins in BEGINS.items():
        file = folder / ("" if plan == "student" else plan) / "metrics.jsonl"
        for line in map(json.loads, file.read_text().splitlines()):
            step = begins[line["stage"]] + line["step"]
            found.setdefault(f"{plan}/{line['stage']}/epoch", []).append((step, line["epoch"]))
            for group in ("terms", "lr", "shares", "validation"):
                for name, value in line.get(group, {}).items():
                    found.setdefault(f"{plan}/{line['stage']}/{group}/{name}", []).append((step, value))
    return found


def test_event_files_hold_what_metrics_jsonl_holds_also_after_an_interruption(tmp_path, monkeypatch):
    """Else the curves have a gap or a fold where a run was resumed, or those of another plan on top."""
    stopping = Run.stopping
    monkeypatch.setattr(Run, "stopping", lambda run, step: step == 4 and run.folder == tmp_path / "o")
    with pytest.raises(Interrupted, match="step 4 of 6 of stage 'distil'"):
        go(tmp_path / "o")
    monkeypatch.setattr(Run, "stopping", stopping)
    report = go(tmp_path / "o", resume=True).report
    found = events(tmp_path / "o")
    shown = {tag: found.pop(tag) for tag in [*found] if tag.startswith("report/")}
    wanted = expected(tmp_path / "o")
    assert found.keys() == wanted.keys()
    for tag, values in wanted.items():
        assert [step for step, _ in found[tag]] == [step for step, _ in values], tag
        assert [value for _, value in found[tag]] == pytest.approx([value for _, value in values], rel=1e-6), tag
    assert shown["report/student/accuracy"] == [(23, pytest.approx(report["student"]["accuracy"]))]
    assert shown["report/taught_minus_alone/accuracy"] == [(23, pytest.approx(report["taught_minus_alone"]["accuracy"], abs=1e-7))]
    assert "report/seed" not in shown


def test_a_job_gives_the_same_numbers_with_and_without_trackers(tmp_path, timeless):
    """Else whoever looks on changes the student."""
    for name, track in (("tracked", "tensorboard"), ("bare", ())):
        go(tmp_path / name, track=track)
    for file in ("model/model.safetensors", "metrics.jsonl", "teacher/metrics.jsonl", "baseline/metrics.jsonl"):
        assert (tmp_path / "tracked" / file).read_bytes() == (tmp_path / "bare" / file).read_bytes(), file
    reports = [timeless(json.loads((tmp_path / name / "report.json").read_text())) for name in ("tracked", "bare")]
    assert reports[0] == reports[1]
    assert not (tmp_path / "bare" / "trackers").exists()


def test_a_dry_run_starts_no_tracker(tmp_path, monkeypatch):
    """It looks, and writes nothing anywhere."""
    monkeypatch.chdir(tmp_path)
    assert go(tmp_path / "o", dry_run=True).rows
    assert list(tmp_path.iterdir()) == []
