"""condense: a set is made, kept and judged; one that was stopped ends like one that was not; it is data for other jobs."""

from __future__ import annotations

import json
import signal

import pytest
import torch
from safetensors.torch import load_file

import tutelage
from tutelage.cli.main import main
from tutelage.data import Data, Table
from tutelage.errors import BadInput, Interrupted
from tutelage.jobs import studies as judging
from tutelage.jobs.condense import condense
from tutelage.jobs.distill import distill
from tutelage.jobs.studies import ARMS, RATES, Studies
from tutelage.training import Fit, RunOptions
from tutelage.training.condensing import Inner

QUIET = RunOptions(device="cpu", quiet=True, checkpoint_every=3)
SHORT = {
    "experts": 2,
    "per_class": 2,
    "inner": Inner(steps=2, ahead=1, starts=2),
    "expert_fit": Fit(steps=6, optimizer="sgd", lr=0.1, batch_size=8),
    "condense_fit": Fit(steps=4, optimizer="sgd", lr=0.01, schedule="constant"),
    "fit": Fit(steps=5, optimizer="sgd", lr=0.05),
}
NET = "cnn:width=2,depth=2,pools=1"


def images(held=True):
    made = torch.Generator().manual_seed(0)
    x, y = torch.rand(40, 1, 6, 6, generator=made), torch.arange(40) % 3
    parts = [Table({"x": x[a:b], "y": y[a:b]}, name) for a, b, name in ((0, 24, "train"), (24, 32, "validation"), (32, 40, "test"))]
    return Data(parts[0], *(parts[1:] if held else ()), classes=("a", "b", "c"), name="squares")


def condensed(out, **more):
    return condense(**{"data": images(), "student": NET, "recipe": "mtt", "out": out, "studies": 2, "options": QUIET, **SHORT, **more})


def timeless(found):
    return {k: v for k, v in found.items() if k not in ("seconds", "settings")}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return condensed(tmp_path_factory.mktemp("condense") / "out", unseen=["mlp:width=4"])


def test_it_gives_the_set_its_pictures_and_its_page(whole):
    found, place = whole.found, whole.folder
    assert (found["condensed"], found["samples"], found["per_class"]) == (6, 24, 2)
    tensors = load_file(place / "condensed" / "condensed.safetensors")
    assert tensors["x"].shape == (6, 1, 6, 6)
    assert tensors["y"].tolist() == [0, 0, 1, 1, 2, 2]
    assert len(list((place / "condensed" / "images").glob("*.png"))) == 6
    page = (place / "condense.html").read_text()
    assert "data:image/png;base64," in page
    assert "<script" not in page


def test_each_net_studies_each_set_alike(whole):
    """A condensed set that gets more tuning or more updates than a random one looks better than it is."""
    rows = whole.found["rows"]
    assert [(row["net"], row["arm"]) for row in rows] == [(net, arm) for net in (NET, "mlp:width=4") for arm in ARMS]
    assert all(len(row["seeds"]) == 2 for row in rows)
    assert {row["samples"] for row in rows} == {6, 24}
    kept = json.loads((whole.folder / "studies.json").read_text())["studies"]
    for net, arm in [(row["net"], row["arm"]) for row in rows]:
        mine = [each["study"] for each in kept if (each["study"]["net"], each["study"]["arm"]) == (net, arm)]
        first = mine[0]["seed"]
        assert [each["rate"] for each in mine if each["seed"] == first] == list(RATES)
        assert len({each["rate"] for each in mine if each["seed"] != first}) == 1


def test_the_rate_that_counts_is_the_best_on_validation_not_on_test(whole, monkeypatch):
    kept = json.loads((whole.folder / "studies.json").read_text())["studies"]
    for row in whole.found["rows"]:
        mine = [each for each in kept if (each["study"]["net"], each["study"]["arm"]) == (row["net"], row["arm"])]
        tried = [each for each in mine if each["study"]["seed"] == mine[0]["study"]["seed"]]
        best = max(tried, key=lambda each: each["found"]["validation"])["study"]["rate"]
        assert row["lr"] == pytest.approx(SHORT["fit"].lr * best)
        assert row["seeds"] == [each["found"]["accuracy"] for each in mine if each["study"]["rate"] == best]


def test_differences_are_paired_means(whole):
    """Against a sum by hand."""
    rows = {(row["net"], row["arm"]): row["seeds"] for row in whole.found["rows"]}
    for each in whole.found["differences"]:
        ours, theirs = rows[each["net"], "condensed"], rows[each["net"], each["against"]]
        assert each["mean"] == pytest.approx(sum(a - b for a, b in zip(ours, theirs, strict=True)) / 2)


def test_it_is_data_for_other_jobs_with_the_held_out_samples_of_the_whole(tmp_path):
    made = condense("digits", NET, recipe="mtt", out=tmp_path / "made", studies=1, options=QUIET, **SHORT)
    result = distill(student=NET, data=f"condensed:{made.folder}", recipe="alone", out=tmp_path / "run", fit=Fit(steps=2), options=QUIET)
    assert result.report["samples"] == made.found["held"]
    assert result.report["splits"]["train"]["samples"] == 20
    # and a run of the recipe by `distill` alone is one, too
    assert len(tutelage.jobs.sources.data_from(f"condensed:{made.folder / 'training'}").train) == 20


@pytest.mark.parametrize("at", [0, 5])
def test_stopped_among_its_studies_it_ends_like_one_that_was_not(at, whole, tmp_path, monkeypatch):
    """What is finished is not done again, and nothing else comes out."""
    found, count = Studies._found, []

    def mortal(self, study, net):
        count.append(study)
        if len(count) == at + 1:
            signal.raise_signal(signal.SIGTERM)
        return found(self, study, net)

    monkeypatch.setattr(Studies, "_found", mortal)
    with pytest.raises(Interrupted, match=f"stopped after {at + 1} trainings .* tutelage condense --resume"):
        condensed(tmp_path / "out", unseen=["mlp:width=4"])
    before = len(count)
    again = condensed(tmp_path / "out", unseen=["mlp:width=4"], resume=True)
    assert len(count) == len(set(count))
    assert before == at + 1
    assert timeless(again.found) == timeless(whole.found)


def test_stopped_while_it_condenses_it_ends_like_one_that_was_not(whole, tmp_path, monkeypatch):
    from tutelage.training.condensing import TrajectoryMatching

    matched, count = TrajectoryMatching.__call__, []

    def mortal(self, step):
        count.append(step)
        if len(count) == 2:
            signal.raise_signal(signal.SIGTERM)
        return matched(self, step)

    monkeypatch.setattr(TrajectoryMatching, "__call__", mortal)
    with pytest.raises(Interrupted):
        condensed(tmp_path / "out", unseen=["mlp:width=4"])
    assert timeless(condensed(tmp_path / "out", unseen=["mlp:width=4"], resume=True).found) == timeless(whole.found)


def test_more_studies_can_be_asked_for_later(tmp_path, monkeypatch):
    first = condensed(tmp_path / "out", studies=1)
    assert first.found["rows"][0]["low"] is None
    assert "one study" in (tmp_path / "out" / "condense.html").read_text()
    done = []
    found = Studies._found
    monkeypatch.setattr(Studies, "_found", lambda self, study, net: done.append(study) or found(self, study, net))
    more = condensed(tmp_path / "out", studies=3, resume=True)
    assert len(done) == 2 * len(ARMS)
    assert [row["seeds"][0] for row in more.found["rows"]] == [row["seeds"][0] for row in first.found["rows"]]


def test_another_set_is_judged_anew(whole, tmp_path):
    """Accuracies of an earlier set must not be taken for those of a later one."""
    data = images()
    made = judging.SyntheticSet((1, 6, 6), torch.tensor([0, 0, 1, 1, 2, 2]), 0.05)
    one = Studies(whole.folder, data, made, 2, SHORT["fit"], QUIET, {"set": "other"})
    assert not one.known


def test_without_a_validation_split_nothing_is_tuned(tmp_path):
    data = images()
    found = condensed(tmp_path / "out", data=Data(data.train, None, data.test, classes=data.classes), studies=1).found
    assert not found["tuned"]
    assert {row["lr"] for row in found["rows"]} == {SHORT["fit"].lr}


def test_a_dry_run_trains_nothing(tmp_path):
    result = condensed(tmp_path / "out", dry_run=True)
    assert [row.stage for row in result.rows if row.steps] == ["expert-1", "expert-2", "condense", "study"]
    assert not (tmp_path / "out").exists()


BAD = {
    "architecture": ({"student": None}, "give --student NET"),
    "recipe": ({"recipe": "hinton-kd"}, "does not condense data; expected mtt, ast"),
    "too many a class": ({"per_class": 9}, "has 8 samples, fewer than per_class=9"),
    "studies": ({"studies": 0}, "studies=0: expected a whole number, 1 to 1000"),
    "nothing held out": ({"data": images(held=False)}, "neither a test nor a validation split"),
    "short experts": ({"expert_fit": Fit(steps=1), "inner": {"ahead": 2}}, "an expert of 1 updates leaves no way of inner.ahead=2"),
    "knob": ({"per_clas": 3}, "per_class"),
    "unseen": ({"unseen": ["cnnn:width=2"]}, "cnn"),
    "instance": ({"student": torch.nn.Linear(3, 3)}, "cannot"),
    "text": ({"data": "stdlib-bytes", "student": "gpt:width=8,depth=1,heads=1"}, "language|condensed|columns|class"),
    "rate": ({"rate": 0.0}, "expected learning rates, the first above 0"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_said_before_anything_trains(case, tmp_path, monkeypatch):
    changes, said = BAD[case]
    monkeypatch.setattr("tutelage.jobs.distill.train", lambda *_: pytest.fail("trained"))
    with pytest.raises(BadInput, match=said):
        condensed(tmp_path / "out", **changes)
    assert not (tmp_path / "out").exists()


def test_the_command_line_says_the_same(tmp_path, capsys):
    out = str(tmp_path / "out")
    words = [
        "condense",
        "--student",
        NET,
        "--recipe",
        "mtt",
        "--per-class",
        "1",
        "--experts",
        "1",
        "--inner.steps",
        "1",
        "--inner.ahead",
        "1",
    ]
    words += [
        "--inner.starts",
        "1",
        "--expert-fit.steps",
        "2",
        "--condense-fit.steps",
        "2",
        "--fit.steps",
        "2",
        "--studies",
        "1",
        "--quiet",
    ]
    assert main([*words, "--out", out, "--unseen", "mlp:width=2"]) == 0
    said = capsys.readouterr().out
    assert "mlp:width=2" in said
    assert f"--data condensed:{out}" in said.replace("\n", "")
    assert main(["condense", "--resume", out, "--json", "--quiet"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["condensed"] == 10
    assert list(found["nets"]) == [NET, "mlp:width=2"]
    assert main(["distill", "--resume", out]) == 2
    assert "holds a condensation; go on with: tutelage condense" in capsys.readouterr().err
    assert main([*words, "--out", out]) == 2
    assert "already holds a run" in capsys.readouterr().err
    assert main(["compare", "--student", NET, "--recipes", "mtt", "--out", str(tmp_path / "c")]) == 2
    assert "makes a data set, not a student" in capsys.readouterr().err


def test_the_folder_of_another_job_is_refused(tmp_path, capsys):
    (tmp_path / "config.yaml").write_text("space: resnet\n")
    assert main(["condense", "--resume", str(tmp_path)]) == 2
    assert "go on with: tutelage search --resume" in capsys.readouterr().err


def test_code_that_a_file_names_does_not_run(tmp_path, capsys):
    (tmp_path / "nets.py").write_text("raise SystemExit('ran')\n")
    (tmp_path / "config.yaml").write_text(f"studies: 1\nunseen: [{tmp_path}/nets.py:net]\nstudent: cnn\n")
    assert main(["condense", "--resume", str(tmp_path)]) == 2
    assert "nets.py:net" in capsys.readouterr().err


def test_the_page_trusts_nothing(whole, tmp_path):
    from tutelage.evaluation.condense_page import render

    evil = "<script>alert(1)</script>"
    found = json.loads(json.dumps(whole.found))
    found |= {"data": evil, "recipe": evil, "classes": [evil], "processor": evil}
    found["paper"] = {"title": evil, "authors": evil, "year": 1, "url": "javascript:alert(1)"}
    page = render(found, b"<svg onload=alert(1)>")
    assert "<script" not in page
    assert "javascript:" not in page
    assert "data:image/png" not in page
