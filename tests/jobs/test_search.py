"""search: nets are scored, none is trained; what is found is a student; a search that was stopped ends like one that was not."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from torch import nn

import tutelage
from tutelage.cli.main import main
from tutelage.data import Data, Table, digits
from tutelage.errors import BadInput, Interrupted, Mismatch, MissingFile
from tutelage.evaluation import size_of
from tutelage.evaluation.diswot import diswot, look
from tutelage.jobs import models
from tutelage.jobs.search import frontier, search
from tutelage.jobs.searching.journal import NAME, Journal
from tutelage.jobs.searching.scoring import Scorer
from tutelage.signals import Model
from tutelage.students import cnn
from tutelage.students.space import Space
from tutelage.training import Fit

SPACE = "resnet:blocks=[1,2],widths=[2,3,4],grows=[1,2]"
TEACHER = "cnn:width=6,depth=2"


def searched(out, count=6, **more):
    options = {"space": SPACE, "budget": "params=4k", "candidates": count, "population": 3, "parents": 2, "batch_size": 16}
    return search(TEACHER, "digits", out=out, quiet=True, **{**options, **more})


def lines(folder, timed=False):
    found = [json.loads(line) for line in (folder / NAME).read_text().splitlines()]
    return found if timed else [{k: v for k, v in line.items() if k != "seconds"} for line in found]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return searched(tmp_path_factory.mktemp("search") / "found")


def test_it_keeps_the_budget_and_ranks_by_score(whole):
    rows = whole.found["best"]
    assert whole.found["scored"] == 6 == len({row["spec"] for row in rows})
    assert [row["score"] for row in rows] == sorted((row["score"] for row in rows), reverse=True)
    assert all(row["costs"]["params"] <= 4000 for row in whole.found["nets"])
    assert whole.spec == rows[0]["spec"]


def test_scores_are_those_of_diswot_on_the_batch(whole):
    """What is ranked must be the paper's score of that very net, not of its neighbour."""
    data = digits()
    teacher = models.model_from(TEACHER, "teacher", data=data, seed=0)
    scorer = Scorer("diswot", data, teacher, "fresh", 16, 1, 0, torch.device("cpu"))
    for row in whole.found["best"][:2]:
        net = models.model_from(row["spec"], "net", data=data, seed=0)
        batch, taught = scorer._batches[0], scorer._looks[0]
        assert diswot(look(net.fresh(scorer.seed_of(0)), batch), taught) == {k: row[k] for k in ("score", "semantic", "relation")}


def test_the_frontier_has_whom_nobody_beats_at_as_little_cost(whole):
    nets = whole.found["nets"]
    front = whole.found["frontier"]
    for row in nets:
        beaten = any(o["score"] > row["score"] and o["costs"]["params"] <= row["costs"]["params"] for o in nets)
        assert (row["spec"] in front) != (beaten or any(o is not row and o["costs"] == row["costs"] and o["spec"] in front for o in nets))
    assert frontier(nets, "params") == front
    assert front[-1] == whole.spec


def test_the_report_says_what_was_found_and_nothing_acts_in_it(whole):
    page = (whole.folder / "search.html").read_text()
    assert whole.spec.split(":")[0] in page
    assert page.count("<svg") == 2
    assert "<script" not in page
    from tutelage.evaluation.search_page import render

    evil = json.loads(json.dumps(whole.found).replace("resnet:blocks", "<b>x</b>").replace("digits", "<script>"))
    assert "<b>x" not in render(evil)
    assert "<script" not in render(evil)


def test_what_was_found_is_a_student_without_weights(whole, no_page, monkeypatch):
    """It must draw its own weights from the run's seed, and be refused where a trained model is asked for."""
    monkeypatch.setattr("tutelage.evaluation.cost.SECONDS", 0.0)
    data = digits()
    first, again, other = (models.model_from(str(whole.folder), "student", data=data, seed=seed) for seed in (0, 0, 1))
    assert not first.trained
    a, b, c = (m.module.head.weight for m in (first, again, other))
    assert torch.equal(a, b)
    assert not torch.equal(a, c)
    assert size_of(first.module)["parameters"] == whole.found["best"][0]["costs"]["params"]
    result = tutelage.distill(
        Model(lambda: cnn(width=2)), str(whole.folder), "digits", out=whole.folder / "taught", fit=Fit(steps=2), baseline=False
    )
    assert result.report["student"]["parameters"] == size_of(first.module)["parameters"]
    with pytest.raises(BadInput, match="has no weights trained for these classes"):
        tutelage.distill(str(whole.folder), "cnn", "digits")


def test_a_search_that_goes_on_ends_like_an_unbroken_one(whole, tmp_path):
    """Also after a crash in the middle of a line."""
    searched(tmp_path / "cut", 2)
    assert lines(tmp_path / "cut")[1:] == lines(whole.folder)[1:3]
    with (tmp_path / "cut" / NAME).open("a") as file:
        file.write('{"candidate": {"blo')
    resumed = searched(tmp_path / "cut", 6, resume=True)
    assert lines(tmp_path / "cut") == lines(whole.folder)
    assert resumed.found["best"] == whole.found["best"]


def test_a_signal_keeps_what_was_scored(tmp_path, monkeypatch):
    score, calls = Scorer.__call__, []

    def counted(self, model, spec):
        calls.append(spec)
        if len(calls) == 4:  # the first is the rehearsal
            os.kill(os.getpid(), signal.SIGTERM)
        return score(self, model, spec)

    monkeypatch.setattr(Scorer, "__call__", counted)
    with pytest.raises(Interrupted, match=r"stopped with 3 of 6 nets scored; go on with: tutelage search --resume") as stopped:
        searched(tmp_path / "cut")
    assert stopped.value.exit_code == 128 + signal.SIGTERM
    assert len(lines(tmp_path / "cut")) == 4
    assert not (tmp_path / "cut" / "failure.json").exists()


def test_a_killed_process_loses_nothing(whole, tmp_path):
    """No handler runs when the power goes."""
    words = ["search", "--teacher", TEACHER, "--space", SPACE, "--budget", "params=4k", "--population", "3", "--parents", "2"]
    words += ["--batch-size", "16", "--candidates", "500", "--out", str(tmp_path / "cut"), "--quiet", "--device", "cpu"]
    process = subprocess.Popen([sys.executable, "-m", "tutelage", *words], env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)})
    while process.poll() is None and not ((tmp_path / "cut" / NAME).is_file() and len((tmp_path / "cut" / NAME).read_bytes()) > 1500):
        time.sleep(0.02)
    process.kill()
    process.wait()
    done = lines(tmp_path / "cut")[1:]
    resumed = searched(tmp_path / "cut", max(6, len(done)), resume=True)
    assert lines(resumed.folder)[1 : 1 + min(6, len(done))] == lines(whole.folder)[1 : 1 + min(6, len(done))]


def test_another_search_does_not_go_on_in_the_same_folder(whole, tmp_path):
    """Scores on other batches would be ranked among these."""
    with pytest.raises(Mismatch, match="seed was 0, is 1"):
        searched(whole.folder, resume=True, seed=1)
    with pytest.raises(Mismatch, match="space was"):
        searched(whole.folder, resume=True, space="resnet:blocks=1,widths=2")
    with pytest.raises(BadInput, match="already holds a run; go on with --resume"):
        searched(whole.folder)
    (tmp_path / NAME).write_text('{"format": 1, "identity": {}}\nnonsense\n')
    with pytest.raises(BadInput, match="damaged in line 2"):
        Journal(tmp_path, {})


def test_a_small_space_ends_early_and_says_so(tmp_path):
    found = searched(tmp_path / "small", 50, space="resnet:blocks=1,widths=[2,3],grows=1", score="params")
    assert found.found["scored"] == 2
    assert not found.found["complete"]
    assert "ended early" in (tmp_path / "small" / "search.html").read_text()
    assert found.found["best"][0]["score"] == found.found["best"][0]["costs"]["params"]


@pytest.mark.parametrize("score", ["nwot", "synflow", "snip", "random"])
def test_other_scores_need_no_teacher(tmp_path, score):
    found = search(None, "digits", space=SPACE, score=score, candidates=3, batch_size=8, out=tmp_path / "found", quiet=True)
    assert len({row["score"] for row in found.found["best"]}) == 3


def test_a_space_of_one_s_own_and_nets_of_numbers(tmp_path, monkeypatch):
    """The candidate's file is code: a run folder that names it is not believed."""
    monkeypatch.chdir(tmp_path)
    Path("nets.py").write_text(
        "import torch\nfrom tutelage.students.space import Space\n"
        "def net(*, width: int = 3): return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, width), torch.nn.ReLU(),"
        " torch.nn.Linear(width, 10))\n"
        "def space(*, most: int = 5): return Space({'width': tuple(range(2, most))}, 'nets.py:net:width={width}', 'mine')\n"
        "def three(): return 3\n"
    )
    found = search("mlp:width=9", "digits", space="nets.py:space:most=7", candidates=4, batch_size=8, out="found", quiet=True)
    assert found.spec.startswith("nets.py:net:width=")
    with pytest.raises(BadInput, match="names code to run"):
        models.model_from("found", "student", data=digits(), seed=0)
    assert models.model_from("found", "student", data=digits(), seed=0, trust_code=True).module[1].out_features >= 2
    with pytest.raises(BadInput, match="gave a int; expected a tutelage"):
        search("mlp", "digits", space="nets.py:three")
    with pytest.raises(BadInput, match="no option 'least'; it takes most"):
        search("mlp", "digits", space="nets.py:space:least=3")


def test_teachers_with_their_own_weights_and_without_labels(tmp_path):
    teacher = Model(lambda: cnn(width=4), name="ours")
    unlabelled = Data(Table({"x": torch.rand(40, 1, 8, 8)}, "blank"), classes=tuple("0123456789"), name="blank")
    found = search(teacher, unlabelled, space=SPACE, candidates=2, batch_size=8, teacher_weights="trained", out=tmp_path / "a", quiet=True)
    assert found.found["teacher"]["name"] == "ours"
    assert found.found["teacher"]["parameters"] == size_of(teacher.module)["parameters"]


class Headless(nn.Module):
    def forward(self, x):
        return x.flatten(1)[:, :10]


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"space": "resnt"}, BadInput, "nearest: 'resnet'; expected one of resnet, vit, or file.py:function"),
        ({"space": "none.py:space"}, MissingFile, "does not exist"),
        ({"space": 3}, BadInput, "not int"),
        ({"space": "resnet:depths=3"}, BadInput, "has no option 'depths'"),
        ({"space": Space({"w": (2,)}, "cmn:width={w}", "mine")}, BadInput, "mine names a net that cannot be used"),
        ({"budget": "params=10"}, BadInput, "no net of space resnet was found within the budget params=10"),
        ({"budget": "size=3"}, BadInput, "no kind of cost"),
        ({"score": "diswt"}, BadInput, "nearest: 'diswot'"),
        ({"teacher": None}, BadInput, "diswot compares with a teacher"),
        ({"teacher": "cache:none"}, BadInput, "is a cache"),
        ({"teacher": Model(Headless, name="odd")}, BadInput, "odd has no classifier weights"),
        ({"teacher": TEACHER, "teacher_weights": "trained"}, BadInput, "has no trained weights"),
        ({"teacher_weights": "new"}, BadInput, "expected fresh or trained"),
        ({"teacher": cnn(width=3)}, BadInput, "given as an instance"),
        ({"data": "digitz"}, BadInput, "nearest: 'digits'"),
        (
            {"data": {"train": Table({"x": torch.rand(9, 4), "y": torch.arange(9) % 3}, "rows")}},
            BadInput,
            "space resnet is of nets for images",
        ),
        ({"data": "stdlib-bytes"}, BadInput, "holds language"),
        ({"candidates": 0}, BadInput, "expected 1 to"),
        ({"batch_size": 1}, BadInput, "expected 2 to"),
        ({"parents": 2.5}, BadInput, "whole number"),
        ({"device": "tpu"}, BadInput, "'auto', 'cpu'"),
        ({"out": ""}, BadInput, "--out is empty"),
    ],
)
def test_what_cannot_be_searched_says_why_before_anything_is_written(change, error, message, tmp_path):
    given = {"teacher": TEACHER, "data": "digits", "space": SPACE, "out": tmp_path / "none", "quiet": True, **change}
    with pytest.raises(error, match=message):
        search(given.pop("teacher"), given.pop("data"), **given)
    assert not (tmp_path / "none" / NAME).exists()


def test_commands_that_need_a_trained_model_say_what_to_do(whole, capsys):
    with pytest.raises(BadInput, match="holds a search, whose net is not trained; teach it: tutelage distill"):
        tutelage.evaluate(str(whole.folder), data="digits")
    with pytest.raises(BadInput, match="has no trained weights to export"):
        tutelage.export(str(whole.folder), to="safetensors")
    assert main(["distill", "--resume", str(whole.folder)]) == 2
    assert "go on with: tutelage search --resume" in capsys.readouterr().err


def test_a_dry_run_scores_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(Scorer, "__call__", None)
    rows = {row.what: row.value for row in searched(tmp_path / "none", dry_run=True).rows}
    assert rows["space"] == "space resnet, 96 candidates of 6 choices"
    assert rows["budget"] == "params=4000"
    assert not (tmp_path / "none").exists()
