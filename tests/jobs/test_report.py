"""The report of a run: made at its end, and made again from its folder alone."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from tutelage import Data, Fit, RunOptions, Table
from tutelage.errors import BadInput, TutelageError
from tutelage.jobs import measurement
from tutelage.jobs.distill import distill
from tutelage.jobs.report import report

QUIET = RunOptions(quiet=True, log_every=1)


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """A finished small run on data with unlabelled samples."""
    made = torch.Generator().manual_seed(0)
    x, y = torch.rand(40, 1, 4, 4, generator=made), torch.randint(0, 3, (40,), generator=made)
    y[::6] = -100
    part = lambda name, start, stop: Table({"x": x[start:stop], "y": y[start:stop], "id": torch.arange(start, stop) + 100}, name)  # noqa: E731
    data = Data(part("train", 0, 20), part("validation", 20, 30), part("test", 30, 40), ("a", "b", "c"), "toy")
    out = tmp_path_factory.mktemp("runs") / "done"
    fit = {"steps": 3, "batch_size": 5}
    distill("cnn:width=4,depth=2", "cnn:width=2,depth=2", data, train_teacher=True, teacher_fit=Fit(**fit), fit=fit, out=out, options=QUIET)
    return out


@pytest.fixture
def copy(done, tmp_path):
    """A copy that may be broken."""
    return shutil.copytree(done, tmp_path / "run")


def test_the_page_made_again_equals_the_first_wherever_the_run_lies(done, copy):
    """Without models and without data: only the folder is read."""
    first = (done / "report.html").read_bytes()
    (copy / "report.html").unlink()
    shutil.rmtree(copy / "model")
    shutil.rmtree(copy / "stages")
    made = report(copy)
    assert made.page == copy / "report.html"
    assert made.page.read_bytes() == first
    assert made.headline.startswith("The student ")
    assert made.report == json.loads((done / "report.json").read_text())
    assert not list(copy.glob(".*"))


def test_the_numbers_have_stable_keys(done):
    """Scripts read them; a key that moves breaks them silently."""
    numbers = json.loads((done / "report.json").read_text())
    assert list(numbers) == [
        "format",
        "recipe",
        "paper",
        "data",
        "seed",
        "split",
        "samples",
        "classes",
        "splits",
        "models",
        "teachers",
        "teacher",
        "alone",
        "student",
        "taught_minus_alone",
        "per_class",
        "timing",
        "kept",
    ]
    assert numbers["format"] == 2
    assert numbers["paper"].keys() == {"title", "authors", "year", "url"}
    assert numbers["split"] == "test"
    assert numbers["classes"] == ["a", "b", "c"]
    assert {split: about["samples"] for split, about in numbers["splits"].items()} == {"train": 20, "validation": 10, "test": 10}
    assert sum(numbers["splits"]["train"]["counts"]) == 16
    assert [row["class"] for row in numbers["per_class"]] == ["a", "b", "c"]
    assert [row["samples"] for row in numbers["per_class"]] == numbers["splits"]["test"]["counts"]
    assert numbers["models"] == ["teacher", "alone", "student"]
    assert numbers["teacher"]["agreement"] == 1.0
    assert numbers["teacher"]["model"].startswith("cnn:")
    assert numbers["timing"].keys() == {"threads", "processor", "device"}
    assert numbers["kept"] == {"samples": 10, "of": 10}


def test_what_the_models_said_is_kept(done):
    """Whoever wants another number computes it from these."""
    kept = load_file(done / "predictions.safetensors")
    numbers = json.loads((done / "report.json").read_text())
    assert set(kept) == {"id", "labels", "logits.teacher", "logits.alone", "logits.student"}
    assert kept["id"].tolist() == list(range(130, 140))
    known = kept["labels"] != -100
    for name in numbers["models"]:
        right = (kept[f"logits.{name}"].argmax(1) == kept["labels"])[known].double().mean()
        assert numbers[name]["accuracy"] == pytest.approx(float(right))
    shown = json.loads((done / "disagreements.json").read_text())
    assert len(shown) == int((kept["logits.student"].argmax(1) != kept["logits.teacher"].argmax(1)).sum())


def test_large_predictions_are_drawn_from(monkeypatch, tmp_path, no_page):
    """A bound on the folder's size, the same samples for the same seed, and the report says so."""
    monkeypatch.setattr(measurement, "KEPT", 7)
    table = Table({"x": torch.randn(30, 4, generator=torch.Generator().manual_seed(0)), "id": torch.arange(30) * 3})
    ids = []
    for seed, out in ((0, "a"), (0, "b"), (1, "c")):
        words = {"alpha": 1.0, "seed": seed, "fit": Fit(steps=1, batch_size=3), "out": tmp_path / out, "options": QUIET}
        found = distill(nn.Linear(4, 3), lambda: nn.Linear(4, 3), Data(table), **words).report
        assert found["kept"] == {"samples": 7, "of": 30}
        ids.append(load_file(tmp_path / out / "predictions.safetensors")["id"].tolist())
    assert ids[0] == ids[1] != ids[2]
    assert ids[0] == sorted(ids[0])
    monkeypatch.setattr(measurement, "KEPT_NUMBERS", 24)
    assert distill(nn.Linear(4, 3), nn.Linear(4, 3), Data(table), **{**words, "out": tmp_path / "d"}).report["kept"]["samples"] == 4


def test_runs_without_labels_without_a_teacher_and_of_other_shapes_have_a_report(tmp_path):
    """Whatever a run was, it ends with a page."""
    fit = {"fit": Fit(steps=2, batch_size=3), "options": QUIET}
    x = torch.randn(12, 4, generator=torch.Generator().manual_seed(0))
    bare = distill(nn.Linear(4, 3), nn.Linear(4, 3), Data(Table({"x": x})), alpha=1.0, out=tmp_path / "bare", **fit).report
    assert "accuracy" not in bare["student"]
    assert "per_class" not in bare
    assert bare["splits"]["train"]["counts"] is None
    assert "labels" not in load_file(tmp_path / "bare" / "predictions.safetensors")
    alone = distill(
        student=nn.Linear(4, 3), data=Data(Table({"x": x, "y": torch.arange(12) % 3})), recipe="alone", out=tmp_path / "alone", **fit
    )
    assert alone.report["teachers"] == []
    assert alone.report["paper"] is None
    tokens = Data(Table({"x": torch.zeros(6, 5, dtype=torch.long)}))
    shaped = distill(nn.Embedding(3, 7), nn.Embedding(3, 7), tokens, alpha=1.0, out=tmp_path / "tokens", **fit)
    assert shaped.report["kept"] is None
    assert not (tmp_path / "tokens" / "predictions.safetensors").exists()
    for name in ("bare", "alone", "tokens"):
        assert (tmp_path / name / "report.html").read_text() == report(tmp_path / name).page.read_text()


def rewrite(file, change):
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))


BROKEN = {
    "no folder": (lambda run: shutil.rmtree(run), "does not exist"),
    "no run folder": (lambda run: (run / "config.yaml").unlink(), "is no run folder: it holds no config.yaml"),
    "not finished": (lambda run: (run / "report.json").unlink(), "is not finished; go on with: tutelage distill --resume"),
    "older format": (
        lambda run: rewrite(run / "report.json", lambda r: r.update(format=1)),
        "has format 1, this version reads 2; a finished run",
    ),
    "newer format": (lambda run: rewrite(run / "report.json", lambda r: r.update(format=3)), "update tutelage"),
    "cut off": (lambda run: (run / "report.json").write_text('{"format": 2'), "report.json is damaged"),
    "a list": (lambda run: (run / "report.json").write_text("[]"), "expected a dict, found a list"),
    "not text": (lambda run: (run / "report.json").write_bytes(b"\xff\xfe\x00"), "report.json is damaged"),
    "no student": (lambda run: rewrite(run / "report.json", lambda r: r.pop("student")), "'student' is not the dict"),
    "nothing of the teacher": (lambda run: rewrite(run / "report.json", lambda r: r.update(teacher={})), "nothing of the model 'teacher'"),
    "unknown model": (lambda run: rewrite(run / "report.json", lambda r: r["models"].append("who")), "nothing of the model 'who'"),
    "no environment": (lambda run: (run / "environment.json").unlink(), "environment.json is missing"),
    "no disagreements": (lambda run: (run / "disagreements.json").unlink(), "disagreements.json is missing"),
    "disagreements of another kind": (lambda run: (run / "disagreements.json").write_text("{}"), "expected a list"),
    "a choice that is no class": (
        lambda run: rewrite(run / "disagreements.json", lambda d: d.append({**d[0], "label": 99}) if d else d.append({"label": 99})),
        "do not fit together",
    ),
    "no predictions": (lambda run: (run / "predictions.safetensors").unlink(), "predictions.safetensors is missing"),
    "damaged predictions": (lambda run: (run / "predictions.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0{nonsense"), "is damaged"),
    "predictions of others": (
        lambda run: save_file({"logits.teacher": torch.ones(3, 2)}, run / "predictions.safetensors"),
        "expected the logits",
    ),
    "predictions of two lengths": (
        lambda run: save_file(
            {"logits.student": torch.ones(3, 2), "labels": torch.ones(2, dtype=torch.long)}, run / "predictions.safetensors"
        ),
        "and one length",
    ),
    "metrics cut off": (lambda run: (run / "metrics.jsonl").write_text('{"stage": "a"\n'), "made without its curves"),
    "metrics of another kind": (lambda run: (run / "metrics.jsonl").write_text('{"step": 1}\n'), "do not fit together"),
    "config is no YAML": (lambda run: (run / "config.yaml").write_text("a: [1"), "no YAML"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_run_folder_is_refused_in_one_sentence(case, copy):
    """It says which file, and what to do; the page that is there stays."""
    damage, expected = BROKEN[case]
    page = (copy / "report.html").read_bytes()
    damage(copy)
    with pytest.raises(TutelageError) as caught:
        report(copy)
    assert expected in str(caught.value)
    assert caught.value.exit_code == 2
    assert "\n" not in str(caught.value)
    assert not copy.exists() or (copy / "report.html").read_bytes() == page


def test_a_part_of_a_run_points_to_the_whole(done):
    """RUN/teacher is a folder of models, not a run with a report."""
    with pytest.raises(TutelageError, match="it is part of the run"):
        report(done / "teacher")


def test_a_run_without_its_logs_still_has_a_page(copy):
    """Whoever deletes large logs keeps the rest."""
    for file in copy.rglob("metrics.jsonl"):
        file.unlink()
    page = report(copy).page.read_text()
    assert "nothing was measured while training" in page
    assert "holds no log of the terms" in page


def test_a_broken_folder_is_bad_input(copy):
    """Callers catch one kind of error."""
    (copy / "report.json").write_text("{")
    with pytest.raises(BadInput):
        report(copy)
