"""What is exported must work where tutelage is not installed, and say there what the model says."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import hub_folders
import tutelage
from tutelage.errors import BadInput, MissingFile
from tutelage.evaluation import predict
from tutelage.jobs.export import export
from tutelage.jobs.folder import write_model
from tutelage.jobs.models import model_from
from tutelage.jobs.sources import data_from
from tutelage.signals import Model
from tutelage.training import Fit, RunOptions

NET = """
import torch
from torch import nn
from tutelage import ImageInputs

SCALE = 2.0


class Small(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.body, self.head = nn.Conv2d(3, 4, 3), nn.Linear(4, classes)

    def forward(self, images):
        return {"logits": self.head(self.body(images * SCALE).relu().mean((2, 3))), "other": images}


def small(classes=10):
    return Small(classes)


small.inputs = ImageInputs(size=12, mean=0.5, std=0.25, channels=3)


def view(batch):
    return (batch["x"] * 2 - 1,)


def viewed(classes=10):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, classes))


viewed.inputs = view
"""

ALONE = "import sys; sys.modules['tutelage'] = None; import json, torch; torch.set_num_threads(1)\n"


def alone(code: str, folder: Path) -> str:
    """What code prints in a fresh process that cannot import tutelage, started in a folder."""
    ended = subprocess.run([sys.executable, "-c", ALONE + code], capture_output=True, text=True, cwd=folder, check=False)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


@pytest.fixture(scope="module")
def digits():
    return data_from("digits")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished run, with a teacher and a baseline of its own."""
    torch.set_num_threads(1)
    place = tmp_path_factory.mktemp("runs") / "first"
    fit = Fit(steps=12, lr=1e-2)
    options = RunOptions(quiet=True)
    tutelage.distill(
        "cnn:width=4", "cnn:width=2,depth=2", "digits", train_teacher=True, teacher_fit=fit, fit=fit, out=place, options=options
    )
    return place


def written(tmp_path, spec, data):
    """A model in a folder as a run leaves it, with weights that nobody trained."""
    model = model_from(spec, "model", data=data, seed=3)
    write_model(tmp_path / "run", model, data)
    return tmp_path / "run", model


def probabilities(model, batch):
    with model.mode(training=False), torch.no_grad():
        return model.observe(batch, {"logits"})["logits"].double().softmax(-1)


def test_a_built_in_net_loads_in_a_process_without_tutelage(run, tmp_path, digits):
    made = export(run, out=tmp_path / "out")
    batch = digits.test.batch(torch.arange(5))
    torch.save(batch["x"], tmp_path / "x.pt")
    code = (
        f"import model; labels, p = model.predict({{'x': torch.load({str(tmp_path / 'x.pt')!r})}}); print(json.dumps([labels, p.tolist()]))"
    )
    labels, found = json.loads(alone(code, made.folder))
    expected = probabilities(model_from(str(run), "model", data=digits, seed=0), batch)
    torch.testing.assert_close(torch.tensor(found).double(), expected, rtol=1e-4, atol=1e-6)
    assert labels == [digits.classes[i] for i in expected.argmax(-1)]
    assert made.about["packages"] == ["safetensors", "torch"]
    assert made.about["difference"] < 1e-5


@pytest.mark.parametrize("function", ["small", "viewed"])
def test_a_users_file_loads_in_a_process_without_tutelage(function, tmp_path, digits, monkeypatch):
    """Its own preprocessing goes along, although the file itself imports tutelage."""
    monkeypatch.chdir(tmp_path)
    Path("net.py").write_text(NET)
    run, model = written(tmp_path, f"net.py:{function}", digits)
    made = export(str(run), data="digits", trust_code=True, out="out")
    Path("net.py").unlink()
    batch = digits.test.batch(torch.arange(5))
    torch.save(batch["x"], tmp_path / "x.pt")
    code = f"import model; labels, p = model.predict({{'x': torch.load({str(tmp_path / 'x.pt')!r})}}); print(json.dumps(p.tolist()))"
    found = torch.tensor(json.loads(alone(code, made.folder)))
    torch.testing.assert_close(found.double(), probabilities(model, batch), rtol=1e-4, atol=1e-6)
    with pytest.raises(BadInput, match="names code to run"):
        model_from("out", "teacher", data=digits, seed=0)
    again = model_from("out", "teacher", data=digits, seed=0, trust_code=True)
    torch.testing.assert_close(probabilities(again, batch), probabilities(model, batch), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("to", ["hf", "safetensors"])
def test_a_hugging_face_model_loads_in_a_process_without_tutelage(to, tmp_path):
    (tmp_path / "mails.csv").write_text("label,text\n" + "good,good film\nbad,very dull book\n" * 12)
    data = data_from(f"csv:{tmp_path}/mails.csv")
    run, model = written(tmp_path, f"hf:{hub_folders.bert(tmp_path / 'bert')}", data)
    made = export(run, to=to, data=data, out=tmp_path / "out")
    code = (
        "import transformers\nnet = transformers.AutoModelForSequenceClassification.from_pretrained('.').eval()\n"
        "tokens = transformers.AutoTokenizer.from_pretrained('.')(['good film', 'dull'], padding=True, return_tensors='pt')\n"
        "print(json.dumps([net(**tokens).logits.softmax(-1).tolist(), net.config.id2label]))"
        if to == "hf"
        else "import model; print(json.dumps([model.predict(['good film', 'dull'])[1].tolist(), dict(enumerate(model.LABELS))]))"
    )
    found, labels = json.loads(alone(code, made.folder))
    expected = probabilities(model, {"id": torch.arange(2), "text": ["good film", "dull"]})
    torch.testing.assert_close(torch.tensor(found).double(), expected, rtol=1e-4, atol=1e-6)
    assert labels == {"0": "bad", "1": "good"}
    assert made.about["difference"] < 1e-5
    again = predict(model_from(str(tmp_path / "out"), "model", data=data, seed=0), data.test)
    torch.testing.assert_close(again.logits, predict(model, data.test).logits)


def test_a_table_takes_raw_rows_in_the_scale_of_training(tmp_path):
    """Without the means of training, a service would feed raw numbers to a net that never saw such."""
    rows = [(f"{'p' if i % 3 else 'q'}", i * 0.5, ["red", "blue"][i % 2], (i * 7) % 11) for i in range(60)]
    (tmp_path / "t.csv").write_text("label,a,colour,b\n" + "\n".join(",".join(map(str, r)) for r in rows))
    data = data_from(f"csv:{tmp_path}/t.csv")
    run, model = written(tmp_path, "mlp:width=4", data)
    made = export(run, data=data, out=tmp_path / "out")
    first = int(data.test.ids()[0])
    _, a, colour, b = rows[first]
    asked = [{"a": a, "colour": colour, "b": b}]
    found = json.loads(alone(f"import model; print(json.dumps(model.predict({asked!r})[1].tolist()))", made.folder))
    expected = probabilities(model, data.test.batch(torch.tensor([0])))
    torch.testing.assert_close(torch.tensor(found).double(), expected, rtol=1e-4, atol=1e-6)
    onnx = export(run, to="onnx", data=data, out=tmp_path / "onnx")
    assert [c["column"] for c in onnx.about["prepared"]["columns"]] == ["a", "b", "colour"]


def test_a_run_sees_another_table_in_its_own_scale(tmp_path):
    """The other file alone would be scaled by its own means; the same row must get the same answer."""
    header, rows = "label,a,b\n", [f"{'p' if i % 2 else 'q'},{i},{i % 5}" for i in range(60)]
    (tmp_path / "old.csv").write_text(header + "\n".join(rows))
    (tmp_path / "new.csv").write_text("b,label,a\n" + "\n".join(f"{i % 5},{'p' if i % 2 else 'q'},{i}" for i in range(20, 60)))
    old, new = data_from(f"csv:{tmp_path}/old.csv"), data_from(f"csv:{tmp_path}/new.csv")
    run, _ = written(tmp_path, "mlp:width=4", old)
    before, after = (model_from(str(run), "model", data=d, seed=0) for d in (old, new))
    known = {i: p for d in (old.train, old.test) for i, p in zip(d.ids().tolist(), predict(before, d).logits, strict=True)}
    asked = predict(after, new.test)
    matched = [(known[i + 20], logits) for i, logits in zip(new.test.ids().tolist(), asked.logits, strict=True) if i + 20 in known]
    assert len(matched) > 2
    for expected, found in matched:
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert before.preprocessing is None
    for to in ("safetensors", "onnx"):
        taken_home = export(run, to=to, data=old, out=tmp_path / to).folder
        there = predict(model_from(str(taken_home), "model", data=new, seed=0), new.test).logits
        torch.testing.assert_close(there, asked.logits, rtol=1e-4, atol=1e-4)


def test_onnx_is_tried_on_real_samples_and_its_loss_in_eight_bits_is_measured(run, tmp_path, digits):
    made = export(run, to="onnx", int8=True, out=tmp_path / "out")
    assert made.about["difference"] < 1e-4
    whole = predict(model_from(str(tmp_path / "out"), "model", data=digits, seed=0), digits.test)
    small = predict(model_from(str(tmp_path / "out" / "model.int8.onnx"), "model", data=digits, seed=0), digits.test)
    student = predict(model_from(str(run), "model", data=digits, seed=0), digits.test)
    torch.testing.assert_close(whole.logits, student.logits, rtol=1e-4, atol=1e-4)
    said = made.about["int8"]
    assert said["samples"] == len(digits.test)
    assert said["agreement"] == pytest.approx(float((whole.choices() == small.choices()).double().mean()))
    assert said["accuracy"] == pytest.approx(float((small.choices() == small.labels).double().mean()))
    assert "## In 8 bits" in (tmp_path / "out" / "README.md").read_text()


@pytest.mark.parametrize(("which", "width"), [("teacher", 4), ("baseline", 2), ("student", 2)])
def test_each_model_of_a_run_is_exported_by_name(run, which, width, tmp_path):
    made = export(run, which=which, out=tmp_path / "out")
    assert f"width={width}" in made.about["spec"]
    assert (tmp_path / "out" / "README.md").read_text().count("**") == 2  # its row of the table


def test_a_model_in_a_run_is_known_by_its_folder(run, tmp_path):
    made = export(run / "teacher", out=tmp_path / "out")
    assert "width=4" in made.about["spec"]
    assert "the teacher of a run on digits" in (tmp_path / "out" / "README.md").read_text()


def test_the_folder_is_the_runs_own_by_default_and_an_earlier_export_is_replaced(run):
    made = export(run, to="safetensors")
    assert made.folder == run / "exported" / "safetensors"
    (made.folder / "stale").write_text("")
    export(run, to="safetensors")
    assert sorted(f.name for f in made.folder.iterdir()) == ["README.md", "model.json", "model.py", "model.safetensors"]
    assert {f.name: f.stat().st_size for f in made.folder.iterdir() if f.name != "model.json"}.items() <= made.about["files"].items()
    assert [f.name for f in made.folder.parent.iterdir()] == ["safetensors"]


def test_an_object_made_in_python_is_exported_from_python(tmp_path, digits):
    """What was given as an object cannot be built by name; ONNX holds it whole, and safetensors say what is missing."""
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))
    assert export(net, to="onnx", data=digits, out=tmp_path / "onnx").about["difference"] < 1e-4
    weights = export(Model(net), data=digits, out=tmp_path / "weights")
    assert "cannot say how it is built" in (weights.folder / "README.md").read_text()
    assert not (weights.folder / "model.py").exists()


def test_the_card_says_what_the_report_says(run, tmp_path):
    text = (export(run, out=tmp_path / "out").folder / "README.md").read_text()
    report = json.loads((run / "report.json").read_text())
    assert f"{report['student']['accuracy']:.2%}" in text
    assert f"{report['alone']['accuracy']:.2%}" in text
    assert "629 test samples" in text
    assert "Hinton, Vinyals, Dean" in text
    assert text.startswith("---\nlibrary_name: pytorch\npipeline_tag: image-classification\n")


BAD = [
    ({"to": "tflite"}, "--to 'tflite': expected one of safetensors, hf, onnx"),
    ({"to": "hf"}, "is no Hugging Face model"),
    ({"int8": True}, "--int8 is for --to onnx"),
    ({"which": "generation-1"}, r"holds no model 'generation-1'.*; it holds student, teacher, baseline"),
    ({"data": "fashion"}, "data 'fashion' is not known"),
]


@pytest.mark.parametrize(("options", "said"), BAD)
def test_bad_input_is_one_sentence_and_leaves_nothing(options, said, run, tmp_path):
    with pytest.raises(BadInput, match=said):
        export(run, **options, out=tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_what_is_no_trained_model_is_refused(tmp_path, digits):
    with pytest.raises(BadInput, match="has no trained weights"):
        export("cnn:width=2", data="digits", out=tmp_path / "out")
    with pytest.raises(BadInput, match="give --data"):
        export("cnn:width=2", out=tmp_path / "out")
    with pytest.raises((BadInput, MissingFile)):
        export("runs/none", data="digits", out=tmp_path / "out")
    with pytest.raises(BadInput, match="is none; leave it out"):
        export("cnn:width=2", which="teacher", data="digits", out=tmp_path / "out")


def test_nothing_but_an_earlier_export_is_written_over(run, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("")
    (tmp_path / "file").write_text("")
    with pytest.raises(BadInput, match="already holds something else"):
        export(run, out=tmp_path / "mine")
    with pytest.raises(BadInput, match="is a file"):
        export(run, out=tmp_path / "file")


def test_code_that_does_not_run_by_itself_is_said_so(tmp_path, digits, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("net.py").write_text(
        "from torch import nn\nglobals()['HIDDEN'] = 10\n\n\n"
        "def net(classes=10):\n    return nn.Sequential(nn.Flatten(), nn.Linear(64, HIDDEN))\n"
    )
    run, _ = written(tmp_path, "net.py:net", digits)
    with pytest.raises(BadInput, match=r"does not run by itself \(NameError: name 'HIDDEN'.*--to onnx"):
        export(run, data="digits", trust_code=True, out="out")
    assert not Path("out").exists()


def test_a_run_of_somebody_else_is_not_written_through(run, tmp_path):
    """A link in it would lead what is written, and what an earlier export is replaced by, to any place."""
    shutil.copytree(run, tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "exported", ignore_errors=True)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "run" / "exported").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(BadInput, match="link that leads out of the run folder"):
        export(tmp_path / "run")
    assert not list((tmp_path / "elsewhere").iterdir())


def test_names_of_classes_are_text_in_the_code_and_on_the_card(tmp_path):
    """Labels come from data, which may come from anywhere; model.py is run, and the card is shown as a page."""
    names = ("'''\nraise SystemExit('ran')\n'''", '"] + [print(1)] + ["', "<script>alert(1)</script>\n# x")
    generator = torch.Generator().manual_seed(0)
    table = tutelage.Table({"x": torch.rand(12, 4, generator=generator), "y": torch.arange(12) % 3})
    data = tutelage.Data(table, classes=names)
    run, _ = written(tmp_path, "mlp:width=2", data)
    made = export(run, data=data, out=tmp_path / "out")
    assert json.loads(alone("import model; print(json.dumps(model.LABELS))", made.folder)) == list(names)
    text = (made.folder / "README.md").read_text()
    assert "<script>" not in text
    assert "\n# x" not in text


def test_a_run_does_not_name_a_teacher_of_code_by_itself(run, tmp_path):
    """Its config may come from a stranger; exporting the teacher must not run what it names."""
    shutil.copytree(run, tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "teacher")
    (tmp_path / "evil.py").write_text(f"import pathlib\npathlib.Path({str(tmp_path / 'ran')!r}).write_text('')\ndef net(): ...\n")
    config = tmp_path / "run" / "config.yaml"
    lines = [f"teacher: {tmp_path}/evil.py:net" if line.startswith("teacher:") else line for line in config.read_text().splitlines()]
    config.write_text("\n".join(lines))
    with pytest.raises(BadInput, match="names code to run"):
        export(tmp_path / "run", which="teacher", out=tmp_path / "out")
    assert not (tmp_path / "ran").exists()
