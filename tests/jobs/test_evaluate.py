"""evaluate: a run's numbers again, any models side by side, and what is refused."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from sklearn.metrics import accuracy_score
from torch import nn

import tutelage
from tutelage import Data, Fit, Model, RunOptions, Table
from tutelage.errors import BadInput, MissingFile, TutelageError
from tutelage.evaluation import cost
from tutelage.jobs.distill import distill
from tutelage.jobs.evaluate import evaluate

QUIET = RunOptions(quiet=True)
SHORT = {"steps": 3, "batch_size": 8}
TIMES = ("latency_ms", "throughput")


@pytest.fixture(autouse=True)
def _short(monkeypatch):
    monkeypatch.setattr(cost, "ROUNDS", 3)
    monkeypatch.setattr("tutelage.jobs.report.render", lambda contents: "")


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """A finished run: a teacher trained in it, the student alone, the student taught."""
    out = tmp_path_factory.mktemp("runs") / "done"
    words = {"train_teacher": True, "teacher_fit": Fit(steps=20), "fit": SHORT, "options": QUIET, "out": out}
    distill("cnn:width=4,depth=2", "mlp:width=4", "digits", **words)
    return out


@pytest.fixture
def copy(done, tmp_path):
    """A copy that may be broken."""
    return shutil.copytree(done, tmp_path / "run")


@pytest.fixture
def table(rng) -> Table:
    """Samples of three classes; some without a label."""
    x = torch.randn(60, 3, generator=rng)
    labels = (x + 0.8 * torch.randn(60, 3, generator=rng)).argmax(1)
    labels[::7] = -100
    return Table({"x": x, "y": labels}, "toy")


def test_a_runs_numbers_come_out_as_its_report_has_them(done):
    """All of them: of three models, and of each class."""
    report = json.loads((done / "report.json").read_text())
    found = evaluate(done)
    assert list(found.models) == report["models"] == ["teacher", "alone", "student"]
    assert (found.teacher, found.split, found.samples, found.data) == ("teacher", "test", report["samples"], "digits")
    for name in report["models"]:
        for key in ("model", "accuracy", "macro_f1", "nll", "ece", "agreement", "parameters", "bytes", "flops"):
            assert found.models[name][key] == pytest.approx(report[name][key], abs=1e-6) if key != "model" else report[name][key]
    assert found.recorded["equal"]
    assert found.recorded["same_data"]
    assert len(found.recorded["numbers"]) == 3 * 8 + 3 * 10
    rows = {row["class"]: row for row in found.per_class}
    assert all(rows[row["class"]]["recall"]["student"]["value"] == pytest.approx(row["student"]) for row in report["per_class"])
    assert [(each["first"], each["second"]) for each in found.comparisons] == [("student", "teacher"), ("student", "alone")]
    gap = report["taught_minus_alone"]
    assert found.comparisons[1]["accuracy"] == {"difference": gap["accuracy"], "low": gap["low"], "high": gap["high"]}
    assert found.notes == []


def test_intervals_hold_their_numbers_and_all_of_it_is_plain(done):
    """A script reads it; JSON knows no NaN."""
    found = evaluate(done)
    again = json.loads(json.dumps(found.as_json(), allow_nan=False))
    assert again["format"] == 1
    for name, numbers in again["models"].items():
        expected = {"accuracy", "macro_f1", "nll", "ece"} | ({"agreement"} if name != "teacher" else set())
        assert set(numbers["intervals"]) == expected
        assert all(ends["low"] <= numbers[key] <= ends["high"] for key, ends in numbers["intervals"].items())
    for row in again["per_class"]:
        assert all(each["low"] <= each["value"] <= each["high"] for each in row["recall"].values())


def test_the_same_seed_gives_the_same_numbers_and_another_other_draws(done):
    """What was said once can be said again."""
    strip = lambda found: {n: {k: v for k, v in m.items() if k not in TIMES} for n, m in found.models.items()}  # noqa: E731
    first, again, other = evaluate(done), evaluate(done), evaluate(done, seed=1)
    assert strip(first) == strip(again)
    assert first.comparisons == again.comparisons
    assert strip(first) != strip(other)
    assert strip(first)["student"]["intervals"]["accuracy"] == strip(other)["student"]["intervals"]["accuracy"]


def test_a_number_that_is_not_the_reports_is_named(copy):
    """A report that was written by hand, or a model that was exchanged."""
    file = copy / "report.json"
    numbers = json.loads(file.read_text())
    numbers["student"]["accuracy"] += 0.01
    numbers["per_class"][3]["alone"] = 0.123
    file.write_text(json.dumps(numbers))
    found = evaluate(copy).recorded
    assert not found["equal"]
    assert [row["name"] for row in found["numbers"] if not row["equal"]] == ["student accuracy", "alone recall of 3"]


def test_other_weights_in_the_folder_are_noticed(copy):
    """The purpose of measuring again."""
    shutil.copy(copy / "baseline/model/model.safetensors", copy / "model/model.safetensors")
    found = evaluate(copy).recorded
    assert {row["name"].split()[0] for row in found["numbers"] if not row["equal"]} == {"student"}


def test_data_that_have_changed_since_are_noticed(copy):
    """Same name, other samples."""
    (copy / "config.yaml").write_text((copy / "config.yaml").read_text().replace("data: digits", "data: digits:seed=3"))
    found = evaluate(copy).recorded
    assert not found["same_data"]
    assert not found["equal"]


def test_a_report_is_not_held_against_other_data_or_another_split(done):
    """They need not be equal."""
    assert evaluate(done, data="digits:seed=3").recorded is None
    assert evaluate(done, split="validation").recorded is None
    assert evaluate(done, data="digits").recorded["equal"]


def test_with_another_teacher_only_agreement_is_another(done):
    """And it is not held against the report's."""
    found = evaluate(done, teacher=str(done / "baseline"))
    assert found.teacher == str(done / "baseline")
    assert found.models["alone"]["agreement"] == 1.0
    assert found.models["teacher"]["agreement"] < 1
    assert found.recorded["equal"]
    assert not [row for row in found.recorded["numbers"] if row["name"].endswith("agreement")]


def test_an_ensemble_is_made_again_of_what_the_run_kept(tmp_path):
    """`born-again` measures one; its members lie in the folder."""
    words = {"recipe": "born-again", "generations": 2, "train_teacher": True, "teacher_fit": Fit(steps=9), "baseline": False}
    distill("mlp:width=4", "mlp:width=4", "digits", **words, fit=SHORT, options=QUIET, out=tmp_path / "ban")
    found = evaluate(tmp_path / "ban")
    assert list(found.models) == ["teacher", "student", "generation-1", "generation-2", "ensemble"]
    assert found.recorded["equal"]
    assert "ensemble ece" in {row["name"] for row in found.recorded["numbers"]}
    assert "parameters" not in found.models["ensemble"]
    shutil.rmtree(tmp_path / "ban/also/generation-1")
    assert evaluate(tmp_path / "ban").notes == ["ensemble is left out: the run folder does not hold what it is made of."]


def test_a_model_that_is_gone_is_left_out_and_the_rest_measured(copy):
    """Whoever deletes a large teacher keeps the student."""
    shutil.rmtree(copy / "teacher")
    found = evaluate(copy)
    assert list(found.models) == ["alone", "student"]
    assert found.teacher is None
    assert found.notes[0].startswith("teacher is left out: ")
    assert found.recorded["equal"]
    shutil.rmtree(copy / "model")
    with pytest.raises(MissingFile, match="holds no model"):
        evaluate(copy)


def test_among_several_models_a_run_stands_for_its_student(done):
    """And parts of it bring its data along."""
    found = evaluate(done / "baseline", done, done, str(done / "teacher"))
    assert list(found.models) == [str(done / "baseline"), str(done), f"{done} (2)", str(done / "teacher")]
    report = json.loads((done / "report.json").read_text())
    assert found.models[str(done)]["accuracy"] == pytest.approx(report["student"]["accuracy"])
    assert found.teacher is None
    assert found.recorded is None
    assert [each["second"] for each in found.comparisons] == list(found.models)[1:]
    assert found.comparisons[0]["accuracy"] == found.comparisons[1]["accuracy"]
    assert found.comparisons[0]["p_holm"] >= found.comparisons[0]["p"]


def test_models_given_in_python_on_data_given_in_python(table):
    """Only labelled samples count for accuracy; all for agreement."""
    torch.manual_seed(0)
    first, second = nn.Linear(3, 3), nn.Linear(3, 5)
    found = tutelage.evaluate(first, Model(second, name="wide"), data=table, teacher=nn.Linear(3, 3))
    assert list(found.models) == ["Linear", "wide", "teacher"]
    known = table.labels() != -100
    choices = first(table.columns["x"]).argmax(1)
    assert found.models["Linear"]["accuracy"] == pytest.approx(accuracy_score(table.labels()[known], choices[known]))
    assert (found.samples, found.labelled, found.split) == (60, int(known.sum()), "train")
    assert found.notes == ["9 of the 60 samples have no label; they count for agreement alone."]
    assert found.classes == ["0", "1", "2"]
    assert first.training


def test_soft_labels_are_measured_like_hard_ones(table):
    """But for the nats, which are against the rows."""
    net = nn.Linear(3, 3)
    hard = Table({"x": table.columns["x"], "y": table.labels().clamp(min=0)})
    soft = Table({"x": table.columns["x"], "y": nn.functional.one_hot(hard.labels(), 3) * 0.7 + 0.1})
    first, second = evaluate(net, data=hard), evaluate(net, data=soft)
    for key in ("accuracy", "macro_f1", "ece"):
        assert first.models["Linear"]["intervals"][key] == second.models["Linear"]["intervals"][key]
    assert first.models["Linear"]["intervals"]["nll"] != second.models["Linear"]["intervals"]["nll"]
    assert first.per_class == second.per_class


def test_without_labels_there_is_agreement_alone(table):
    """And a sentence that says so."""
    bare = Table({"x": table.columns["x"]}, "bare")
    first, second = nn.Linear(3, 3), nn.Linear(3, 3)
    found = evaluate(first, data=bare, teacher=second)
    assert set(found.models["Linear"]) >= {"agreement", "parameters", "latency_ms"}
    assert "accuracy" not in found.models["Linear"]
    assert set(found.models["Linear"]["intervals"]) == {"agreement"}
    assert (found.labelled, found.per_class, found.comparisons) == (0, [], [])
    assert found.notes == [
        "There are no labels, one class a sample, among the 60 train samples of data: only agreement with the teacher is known."
    ]
    assert "give --teacher" in evaluate(first, data=bare).notes[0]


def test_answers_position_by_position_agree_without_an_interval():
    """Tokens of a text are not drawn one by one."""
    tokens = Data(Table({"x": torch.arange(30).reshape(6, 5) % 3}))
    found = evaluate(nn.Embedding(3, 7), data=tokens, teacher=nn.Embedding(3, 7))
    assert 0 <= found.models["Embedding"]["agreement"] <= 1
    assert found.models["Embedding"]["intervals"] == {}


@pytest.mark.parametrize("rows", [1, 2])
@pytest.mark.parametrize("right", [True, False])
def test_one_sample_or_one_class_all_right_or_all_wrong(rows, right):
    """The smallest data that there are."""
    net = nn.Linear(1, 2)
    nn.init.zeros_(net.weight)
    net.bias.data = torch.tensor([1.0, 0.0] if right else [0.0, 1.0])
    data = Data(Table({"x": torch.zeros(rows, 1), "y": torch.zeros(rows, dtype=torch.long)}), classes=("a", "b"))
    found = evaluate(net, net, data=data)
    assert found.models["Linear"]["accuracy"] == float(right)
    assert found.per_class[1]["recall"]["Linear"]["value"] is None
    assert found.comparisons[0]["better"] is None
    json.dumps(found.as_json(), allow_nan=False)


class Bad(nn.Module):
    """Divides by its input."""

    def forward(self, x):
        return 1 / x


REFUSED = {
    "nothing": (lambda done: evaluate(), "nothing to evaluate"),
    "no data": (lambda done: evaluate("mlp"), "give --data"),
    "unknown model": (lambda done: evaluate("resnett", data="digits"), "nearest: 'resnet'"),
    "no such folder": (lambda done: evaluate(done / "nothing", data="digits"), "does not exist"),
    "no model at all": (lambda done: evaluate(3, data="digits"), "not int"),
    "fewer classes": (lambda done: evaluate(done, "mlp:classes=7"), "gives 7 logits, but digits has 10 classes"),
    "a teacher of fewer classes": (lambda done: evaluate(done, teacher="mlp:classes=7"), "gives 7 logits, but digits has 10 classes"),
    "unknown split": (lambda done: evaluate(done, split="tests"), "nearest: 'test'"),
    "a split that is not there": (lambda done: evaluate(nn.Identity(), data=DATA, split="test"), "has no split 'test'; it has train"),
    "unknown device": (lambda done: evaluate(done, device="tpu"), "expected one of 'auto', 'cpu'"),
    "no seed": (lambda done: evaluate(done, seed="x"), "whole number"),
    "answers that are not finite": (lambda done: evaluate(Bad(), data=DATA), "Bad gives NaN or infinite logits for 1 of 3 samples"),
    "another input": (lambda done: evaluate(nn.Linear(7, 2), data=DATA), "cannot be run on samples"),
    "a label beyond the logits": (lambda done: evaluate(nn.Linear(2, 2), data=UNTAUGHT), "has the label 2"),
}
DATA = Data(Table({"x": torch.tensor([[1.0, 2.0], [0.0, 1.0], [1.0, 1.0]]), "y": torch.tensor([0, 1, 1])}), name="three")
UNTAUGHT = Data(Table({"x": torch.ones(2, 2)}), test=Table({"x": torch.ones(2, 2), "y": torch.tensor([0, 2])}))


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_measured_is_refused_in_one_sentence(case, done):
    """Which one, what was expected, what to do."""
    ask, expected = REFUSED[case]
    with pytest.raises(TutelageError) as caught:
        ask(done)
    assert expected in str(caught.value)
    assert caught.value.exit_code == 2
    assert "\n" not in str(caught.value)


def test_a_run_that_is_not_finished_says_how_to_go_on(copy):
    """It has no numbers to hold anything against, and perhaps no student."""
    (copy / "report.json").unlink()
    with pytest.raises(BadInput, match="not finished; go on with: tutelage distill --resume"):
        evaluate(copy)


def test_a_config_that_names_code_is_asked_about(copy, tmp_path):
    """A run folder from someone else must not run its code by being looked at."""
    evil = tmp_path / "evil.py"
    evil.write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\ndef data(): pass\ndef net(): pass\n")
    config, report = (copy / "config.yaml").read_text(), json.loads((copy / "report.json").read_text())
    (copy / "config.yaml").write_text(config.replace("data: digits", f"data: {evil}:data"))
    for given in (copy, copy / "baseline"):
        with pytest.raises(BadInput, match="--trust-code"):
            evaluate(given)
    del report["teacher"]["updates"]  # as if it had been there before
    (copy / "report.json").write_text(json.dumps(report))
    (copy / "config.yaml").write_text(config.replace("teacher: cnn:width=4,depth=2", f"teacher: {evil}:net"))
    with pytest.raises(BadInput, match="--trust-code"):
        evaluate(copy)
    assert not (tmp_path / "ran").exists()


def test_data_given_in_python_must_be_given_again(tmp_path):
    """The config of the run cannot hold them; given again, they are known to be the same."""
    data = Data(Table({"x": torch.randn(30, 64), "y": torch.arange(30) % 3}), classes=("a", "b", "c"))
    distill(student="mlp:width=3", data=data, recipe="alone", fit=SHORT, options=QUIET, out=tmp_path / "run")
    with pytest.raises(BadInput, match="given in Python"):
        evaluate(tmp_path / "run")
    found = evaluate(tmp_path / "run", data=data)
    assert found.recorded["equal"]
    assert found.teacher is None
    other = Data(Table({"x": torch.randn(30, 64), "y": torch.arange(30) % 3}), classes=("a", "b", "c"))
    assert evaluate(tmp_path / "run", data=other).recorded is None


def test_models_without_weights_are_measured_with_a_note():
    """Chance level is a number, too, but nobody should take it for a trained model's."""
    found = evaluate("mlp:width=3", data="digits")
    assert found.models["mlp:width=3"]["accuracy"] < 0.3
    assert found.notes[0].startswith("mlp:width=3 names no weights")
