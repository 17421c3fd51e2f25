"""Runs that make generators: what they leave, what is drawn from them, and what is refused."""

from __future__ import annotations

import json
import re

import pytest
import torch

import tutelage
from tutelage import Fit, RunOptions
from tutelage.cli.main import main
from tutelage.data import Data, Table, digits
from tutelage.errors import BadInput, MissingFile
from tutelage.jobs import generators
from tutelage.jobs.report import report
from tutelage.signals import Model
from tutelage.students import unet

NET = "unet:width=4,levels=0"
QUICK = RunOptions(device="cpu", quiet=True)
SHORT = Fit(steps=3, batch_size=16)


@pytest.fixture(autouse=True)
def quick_judge(monkeypatch):
    monkeypatch.setattr(generators, "JUDGED_BY", Fit(steps=20, batch_size=32, lr=3e-3))
    monkeypatch.setattr(generators, "LADDER", (1, 2))
    monkeypatch.setattr(generators, "MOST", 60)


@pytest.fixture(scope="module")
def small():
    whole = digits(0)
    parts = {split: getattr(whole, split).rows(torch.arange(60), split) for split in ("train", "validation", "test")}
    return Data(parts["train"], parts["validation"], parts["test"], whole.classes, "digits", whole.prepared)


@pytest.fixture(scope="module")
def runs(tmp_path_factory, small):
    """A teacher and a one-step student."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(generators, "JUDGED_BY", Fit(steps=20, batch_size=32, lr=3e-3))
        patch.setattr(generators, "LADDER", (1, 2))
        patch.setattr(generators, "MOST", 60)
        folder = tmp_path_factory.mktemp("runs")
        tutelage.distill(None, NET, small, recipe="ddpm", out=folder / "teacher", fit=SHORT, steps=4, options=QUICK)
        teacher = str(folder / "teacher")
        tutelage.distill(teacher, teacher, small, recipe="dmd", out=folder / "student", fit=SHORT, updates=1, options=QUICK)
    return folder


def test_the_report_is_about_images(runs):
    """No accuracy, no student alone: images, distances, evaluations, and a page that shows them."""
    found = json.loads((runs / "student" / "report.json").read_text())
    assert found["models"] == ["teacher", "student"]
    assert found["teacher"]["evaluations"] == 4
    assert found["student"]["evaluations"] == 1
    assert [row["evaluations"] for row in found["teacher"]["ladder"]] == [1, 2, 4]
    assert found["teacher"]["ladder"][-1]["frechet"] == found["teacher"]["frechet"]
    assert found["floor"]["frechet"] < found["student"]["frechet"]
    assert 0 <= found["student"]["class_accuracy"] <= 1
    assert found["student"]["updates"] == 3
    assert not (runs / "student" / "baseline").exists()
    for name in ("teacher", "student", "real"):
        assert (runs / "student" / "samples" / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    page = (runs / "student" / "report.html").read_text()
    assert page.count("data:image/png;base64,") == 3
    assert "in one evaluation" in page
    assert not re.search(r"(src|href)=\"(?!data:|#|https://arxiv)", page)
    assert report(runs / "student").headline.startswith("The student draws images in one evaluation at a Frechet distance of")


def test_a_page_takes_no_other_file_for_a_picture(runs, tmp_path):
    import shutil

    shutil.copytree(runs / "student", tmp_path / "run")
    (tmp_path / "run" / "samples" / "student.png").write_text("<script>alert(1)</script>")
    page = report(tmp_path / "run").page.read_text()
    assert page.count("data:image/png;base64,") == 2
    assert "alert" not in page


def test_a_model_remembers_how_it_draws(runs, tmp_path):
    said = json.loads((runs / "student" / "model" / "model.json").read_text())["sampling"]
    assert said == {"how": "generator", "steps": 50, "times": [399], "guidance": 1.0}
    first = tutelage.sample(str(runs / "student"), out=tmp_path / "one", count=5, device="cpu", quiet=True)
    assert (first.images, first.evaluations) == (5, 1)
    assert sorted(f.name for f in (tmp_path / "one").iterdir()) == [*(f"{i:06d}.png" for i in range(5)), "grid.png", "samples.json"]
    # the third image of one call is the first of another
    tutelage.sample(str(runs / "student"), out=tmp_path / "two", count=1, seed=2, labels="2", device="cpu", quiet=True)
    assert (tmp_path / "one" / "000002.png").read_bytes() == (tmp_path / "two" / "000000.png").read_bytes()
    described = json.loads((tmp_path / "one" / "samples.json").read_text())
    assert described["labels"] == ["0", "1", "2", "3", "4"]
    assert described["seeds"] == [0, 4]
    guided = tutelage.sample(str(runs / "teacher"), out=tmp_path / "three", count=2, steps=2, guidance=2.0, device="cpu", quiet=True)
    assert guided.evaluations == 4


def test_the_command_draws_and_measures(runs, tmp_path, small, capsys, monkeypatch):
    monkeypatch.setattr("tutelage.jobs.sources.data_from", lambda given: small)
    words = ["sample", str(runs / "student"), "--count", "3", "--out", str(tmp_path / "out"), "--data", "digits", "--quiet"]
    assert main(words) == 0
    said = capsys.readouterr().out
    assert "drew 3 images" in said
    assert "1 evaluation each" in said
    assert "frechet" in said
    assert main([*words[:5], str(tmp_path / "json"), "--json", "--quiet"]) == 0
    assert json.loads(capsys.readouterr().out)["images"] == 3


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"labels": "7,walrus"}, "knows no class 'walrus'"),
        ({"labels": "12"}, "knows no class '12'"),
        ({"labels": []}, "labels is empty"),
        ({"steps": 3}, "in 1 evaluation, not in 3"),
        ({"steps": 0}, "takes 1 to 1000 steps"),
        ({"guidance": 2.0}, "has its guidance within"),
        ({"count": 0}, "count=0"),
        ({"device": "moon"}, "device='moon'"),
    ],
)
def test_what_cannot_be_drawn_says_why_before_anything_is_written(runs, tmp_path, change, error):
    with pytest.raises(BadInput, match=re.escape(error)):
        tutelage.sample(str(runs / "student"), **{"out": tmp_path / "out", "quiet": True, **change})
    assert not (tmp_path / "out").exists()


def test_other_models_draw_nothing(tmp_path, runs, small):
    tutelage.distill(None, "cnn:width=2,depth=2", small, recipe="alone", out=tmp_path / "cnn", fit=SHORT, options=QUICK)
    with pytest.raises(BadInput, match="draws no images"):
        tutelage.sample(str(tmp_path / "cnn"), out=tmp_path / "out")
    with pytest.raises(BadInput, match="is no run folder"):
        tutelage.sample("cnn:width=2", out=tmp_path / "out")
    with pytest.raises((BadInput, MissingFile), match="nowhere"):
        tutelage.sample("nowhere", out=tmp_path / "out")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").write_text("x")
    with pytest.raises(BadInput, match="already holds"):
        tutelage.sample(str(runs / "student"), out=tmp_path / "full", count=1)


@pytest.mark.parametrize(
    ("recipe", "specs", "knobs", "error"),
    [
        ("dmd", (NET, "unet:width=4,levels=0,noise=cosine"), {}, "noise schedule"),
        ("dmd", (NET, "unet:width=4,levels=0,size=16"), {}, "takes images of shape (1, 16, 16), but those of digits have (1, 8, 8)"),
        ("dmd", (NET, "unet:width=4,levels=0,channels=3"), {}, "takes images of shape (3, 8, 8)"),
        ("dmd", (NET, "unet:width=4,levels=0,classes=4"), {}, "knows 4 classes, but digits has 10"),
        ("dmd", (NET, "unet:width=4,levels=0,classes=12"), {}, "knows 12 classes"),
        ("dmd", (NET, "unet:width=8,levels=0"), {}, "cannot begin with the weights of the teacher"),
        (
            "dmd",
            ("unet:width=4,levels=0,classes=0", "unet:width=4,levels=0,classes=0"),
            {"guidance": 2.0},
            "knows no classes, so it cannot",
        ),
        ("dmd", (NET, NET), {"times": (1000,)}, "asked at time 1000"),
        ("dmd", (NET, NET), {"times": ()}, "falling, one or more"),
        ("dmd", (NET, NET), {"regression": -1.0}, "weights of at least 0"),
        ("disback", (NET, NET), {"nodes": 9}, "nodes=9, but the teacher is spoilt in 3 updates"),
        ("disback", (NET, NET), {"walk": 1.5, "nodes": 2}, "walk=1.5"),
        ("progressive-distillation", (NET, NET), {}, "predicts the noise"),
        ("progressive-distillation", (f"{NET},predicts=v", f"{NET},predicts=v"), {"first": 6, "last": 2}, "no halving leads from first=6"),
        ("consistency-distillation", (NET, NET), {"grid": 2000}, "takes 1 to 1000 steps"),
        ("consistency-distillation", (NET, NET), {"decay": 1.0}, "decay=1.0"),
    ],
)
def test_nets_that_do_not_fit_say_why_before_anything_is_trained(recipe, specs, knobs, error, small, tmp_path):
    fits = {"fit": SHORT, **({"degrade_fit": SHORT} if recipe == "disback" else {})}
    with pytest.raises(BadInput, match=re.escape(error)):
        tutelage.distill(*specs, small, recipe=recipe, out=tmp_path / "out", train_teacher=True, options=QUICK, **{**fits, **knobs})
    assert not (tmp_path / "out").exists()


def test_generators_study_images_only(tmp_path):
    rows = Data(Table({"x": torch.rand(20, 3), "y": torch.arange(20) % 2}), name="rows")
    with pytest.raises(BadInput, match=r"holds numbers|holds no images"):
        tutelage.distill(None, NET, rows, recipe="ddpm", out=tmp_path / "out", fit=SHORT, options=QUICK)


def test_unlabelled_images_are_drawn_without_classes(tmp_path):
    images = Data(Table({"x": torch.rand(40, 3, 6, 6)}), name="plain")
    made = tutelage.distill(None, "unet:width=4,levels=1", images, recipe="ddpm", out=tmp_path / "out", fit=SHORT, steps=2, options=QUICK)
    assert "class_accuracy" not in made.report["student"]
    assert "has no labels" in made.report["judge"]
    assert made.report["student"]["model"].startswith("unet:channels=3,size=6")
    found = tutelage.sample(made.model, out=tmp_path / "drawn", count=3, device="cpu", quiet=True)
    assert found.images == 3
    with pytest.raises(BadInput, match="knows no classes; leave labels out"):
        tutelage.sample(made.model, out=tmp_path / "no", count=3, labels=[1])


def test_jobs_that_ask_for_answers_say_what_to_do(runs, small):
    with pytest.raises(BadInput, match="draws images, and answers for none; measure it by: tutelage sample"):
        tutelage.evaluate(str(runs / "student"), data=small)
    with pytest.raises(BadInput, match="draws images, which no form of export holds yet"):
        tutelage.export(str(runs / "student"), data=small)
    with pytest.raises(BadInput, match="recipe dmd makes a model that draws images"):
        tutelage.compare(NET, NET, "digits", recipes=["dmd"], updates=2, train_teacher=True, dry_run=True)


def test_a_teacher_is_trained_by_ddpm_first(tmp_path, small):
    made = tutelage.distill(
        NET, NET, small, recipe="dmd", out=tmp_path / "out", train_teacher=True, teacher_fit=SHORT, fit=SHORT, updates=1, options=QUICK
    )
    lines = (tmp_path / "out" / "teacher" / "metrics.jsonl").read_text().splitlines()
    assert json.loads(lines[0])["stage"] == "denoise"
    assert made.report["teachers"] == ["teacher"]


def test_a_judge_tells_good_images_from_bad(small):
    judge = generators.judge_for(small)
    reference = generators.Reference.of(small, 0, judge)
    real, _ = generators.images_of(small.train)
    good = reference.compared(real)["frechet"]
    bad = reference.compared(torch.rand(real.shape, generator=torch.Generator().manual_seed(0)))["frechet"]
    assert good < bad / 3
    with pytest.raises(BadInput, match="not finite"):
        reference.compared(torch.full_like(real, float("nan")))


def test_a_net_counts_its_operations_on_images():
    net = Model(lambda: unet(classes=3, size=6, width=4, levels=1), spec="unet")
    shown = unet.inputs_for({"times": 500, "classes": 3})({"x": torch.rand(2, 1, 6, 6), "id": torch.arange(2)})
    assert shown["t"].tolist() == [499, 499]
    assert shown["label"].tolist() == [3, 3]
    assert net.module(**shown).shape == (2, 1, 6, 6)
