"""The recipe as a whole: from the command line to an encoder that others read, and what it refuses."""

from __future__ import annotations

import json

import pytest
import torch

from hub_folders import bert
from tutelage import Fit, Frozen, Model, Run, RunOptions, train
from tutelage.cli.main import main
from tutelage.data import Data, Table
from tutelage.errors import BadInput, Mismatch
from tutelage.recipes.minilmv2 import minilmv2
from tutelage.students import hf, vit
from tutelage.teachers import Ensemble

TEXTS = ["good film", "bad book very dull", "very fine", "not good", "dull film not fine book", "good good book", "bad", "fine film"]


def encoder(folder, seed=0, **options):
    return hf.hf(str(folder), kind="text", classes=(), count=None, seed=seed, encoder=True, max_length=8, **options)


@pytest.fixture
def folders(tmp_path):
    """A teacher with weights."""
    return bert(tmp_path / "teacher", layers=3)


def small(folder, seed=1, **options):
    return encoder(folder, seed, pretrained=False, **{"num_hidden_layers": 2, "hidden_size": 24, "num_attention_heads": 3, **options})


def data():
    return Data(Table({"text": TEXTS}))


def trained(plan, steps=None):
    train(plan, Run(None, seed=0, options=RunOptions(device="cpu", quiet=True)))
    return plan.product


def test_what_lies_above_the_relations_is_not_trained(folders):
    """The last layer's output, its feed-forward part and the pooler stay; all below moves, and the loss falls."""
    student = small(folders)
    fit = Fit(steps=30, batch_size=4, lr=1e-2)
    plan = minilmv2(Frozen(encoder(folders)), student, data(), heads=4, fit=fit)
    before = {name: p.clone() for name, p in student.module.named_parameters()}
    loss = plan.stages[0].named["student"].loss

    def now():
        batch = data().train.batch(torch.arange(8))
        needs = loss.needs()
        shown = Frozen(student).signals(batch, needs.student)
        return float(loss(shown, Frozen(encoder(folders)).signals(batch, needs.teacher), batch))

    first = now()
    trained(plan)
    assert now() < first / 2
    moved = {name for name, p in student.module.named_parameters() if not torch.equal(p, before[name])}
    last = "encoder.layer.1."
    assert {name for name in moved if name.startswith(last)} <= {
        f"{last}attention.self.{w}.{k}" for w in ("query", "key", "value") for k in ("weight", "bias")
    }
    assert f"{last}attention.self.value.weight" in moved
    assert "encoder.layer.0.output.dense.weight" in moved
    assert not any("pooler" in name for name in moved)


def test_a_student_like_its_teacher_has_nothing_to_learn(folders):
    """Zero, whatever the relation heads."""
    teacher = encoder(folders)
    for heads in (1, 2, 16):
        loss = minilmv2(Frozen(teacher), encoder(folders), data(), heads=heads, attention=1.0).stages[0].named["student"].loss
        batch = data().train.batch(torch.arange(8))
        needs = loss.needs()
        assert needs.student == needs.teacher
        shown = Frozen(teacher).signals(batch, needs.student)
        assert float(loss(shown, shown, batch)) == pytest.approx(0.0, abs=1e-6)
        assert len(loss.terms(shown, shown, batch)) == 4


def test_layers_and_heads_by_default(folders):
    """The last layers, and as many heads as leave the teacher 16 numbers."""
    plan = minilmv2(Frozen(encoder(folders)), small(folders), data())
    needs = plan.stages[0].named["student"].loss.needs()
    assert {tap.split(".")[2] for tap in needs.teacher} == {"2"}
    assert {tap.split(".")[2] for tap in needs.student} == {"1"}
    assert plan.stages[0].named["student"].loss.leaves().__next__().heads == 1
    deep = Model(lambda: vit(width=32, depth=16, heads=2, classes=2, channels=1, size=8))
    needs = minilmv2(Frozen(deep), Model(lambda: vit(width=64, depth=2, heads=4, classes=2, channels=1, size=8)), data()).stages[0]
    leaf = next(iter(needs.named["student"].loss.leaves()))
    assert (leaf.teacher[0].tap, leaf.student[0].tap, leaf.heads) == ("blocks.13.attention.query", "blocks.1.attention.query", 2)
    assert not deep.built


def test_what_does_not_fit_is_refused(folders, tmp_path):
    """One sentence each, before anything trains but for the tokens, which the first batch shows."""
    teacher, student = Frozen(encoder(folders)), small(folders)
    for knobs, message in (
        ({"layer": 4}, "minilmv2\\(layer=4\\): teacher has 3 layers"),
        ({"onto": 0}, "minilmv2\\(onto=0\\): teacher has 2 layers"),
        ({"heads": 5}, "must divide the width of the teacher's queries, 16, and the student's, 24; 1, 2, 4, 8 do"),
        ({"query": -1.0}, "at least 0"),
        ({"query": 0.0, "key": 0.0, "value": 0.0}, "nothing to learn"),
    ):
        with pytest.raises(BadInput, match=message):
            minilmv2(teacher, student, data(), **knobs)
    with pytest.raises(BadInput, match="no single model"):
        minilmv2(Ensemble([teacher, Frozen(encoder(folders))]), student, data())
    with pytest.raises(BadInput, match="where attention lives in"):
        minilmv2(teacher, Model(torch.nn.Linear(2, 2)), data())
    short = hf.hf(str(folders), kind="text", classes=(), count=None, encoder=True, max_length=4, pretrained=False)
    with pytest.raises(Mismatch, match="different numbers of tokens"):
        trained(minilmv2(teacher, short, data(), fit=Fit(steps=1, batch_size=8)))


@pytest.fixture
def run(folders, tmp_path, monkeypatch):
    """A finished run from the command line, on texts under labels that it does not look at."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    file = tmp_path / "texts.jsonl"
    rows = [{"text": " ".join(TEXTS[(i * 3 + j) % 8] for j in range(1 + i % 3)), "label": "ab"[i % 2]} for i in range(60)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    student = f"hf:{folders}:encoder=true,pretrained=false,num_hidden_layers=1,hidden_size=8,num_attention_heads=1,max_length=8"
    words = ["--teacher", f"hf:{folders}:encoder=true,max_length=8", "--student", student, "--steps", "4", "--batch-size", "8"]
    out = tmp_path / "run"
    assert main(["distill", "--recipe", "minilmv2", *words, "--data", f"jsonl:{file}", "--quiet", "--out", str(out)]) == 0
    return out, file


def test_a_run_gives_an_encoder_that_others_read_and_that_is_fine_tuned(run, folders, tmp_path, capsys):
    """report.html, evaluate, export as transformers reads it, and a head on it for a task."""
    transformers = pytest.importorskip("transformers")
    out, file = run
    report = json.loads((out / "report.json").read_text())
    assert report["encoders"] is True
    assert report["models"] == ["teacher", "student"]
    assert {"probe_accuracy", "similarity", "neighbours"} <= set(report["student"])
    assert "similarity" not in report["teacher"]
    assert "linear probe" in (out / "report.html").read_text().lower()
    capsys.readouterr()
    assert main(["evaluate", str(out), "--json"]) == 0
    again = json.loads(capsys.readouterr().out)
    assert again["recorded"]["equal"]
    assert again["models"]["student"]["intervals"]["probe_accuracy"]["low"] <= report["student"]["probe_accuracy"]
    assert main(["evaluate", str(out)]) == 0
    assert main(["report", str(out)]) == 0
    assert main(["export", str(out), "--to", "hf", "--out", str(tmp_path / "hf")]) == 0
    read = transformers.AutoModel.from_pretrained(tmp_path / "hf")
    tokens = transformers.AutoTokenizer.from_pretrained(tmp_path / "hf")(["good film"], return_tensors="pt")
    assert read.eval()(**tokens).last_hidden_state.shape == (1, 4, 8)
    assert "AutoModel" in (tmp_path / "hf" / "README.md").read_text()
    assert main(["export", str(out), "--to", "onnx"]) != 0
    assert "export it with --to hf" in capsys.readouterr().err
    words = [
        "--recipe",
        "alone",
        "--student",
        str(out),
        "--data",
        f"jsonl:{file}",
        "--steps",
        "3",
        "--quiet",
        "--out",
        str(tmp_path / "tuned"),
    ]
    assert main(["distill", *words]) == 0
    assert json.loads((tmp_path / "tuned" / "report.json").read_text())["student"]["accuracy"] > 0
    spec = f"hf:{folders}:encoder=true"
    assert main(["distill", "--recipe", "alone", "--student", spec, "--data", f"jsonl:{file}", "--dry-run"]) != 0
    assert "with a head" in capsys.readouterr().err
    assert main(["evaluate", str(tmp_path / "tuned"), str(out), "--data", f"jsonl:{file}"]) != 0
    assert "only encoders are measured together" in capsys.readouterr().err
