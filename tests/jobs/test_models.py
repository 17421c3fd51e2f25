"""From what a user names to handles on models."""

from __future__ import annotations

import json
import pickle

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from tutelage.data import Data, Table
from tutelage.errors import BadInput, Mismatch, MissingFile
from tutelage.jobs.folder import write_model
from tutelage.jobs.models import model_from
from tutelage.jobs.sources import data_from
from tutelage.students import cnn

NET = """
from torch import nn
from tutelage.signals.images import ImageInputs

def small(classes=10, width=4):
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, width), nn.Linear(width, classes))

small.inputs = ImageInputs(size=16, mean=0.5, std=0.5, channels=3)
small.logits = lambda output: output * 2
"""


@pytest.fixture(scope="module")
def digits() -> Data:
    return data_from("digits")


def logits(model, data):
    with model.mode(training=False), torch.no_grad():
        return model.observe(data.train.batch(torch.arange(4)), {"logits"})["logits"]


@pytest.mark.parametrize("form", ["safetensors", "pt", "pth", "bin", "wrapped", "parallel", "run", "hf-like"])
def test_weights_come_from_files_of_every_kind(tmp_path, digits, form):
    """The same numbers whatever the container, and no code from it."""
    net = cnn(width=4, depth=2).eval()
    state = net.state_dict()
    path = tmp_path / f"w.{form}"
    if form == "safetensors":
        save_file(state, path)
    elif form == "wrapped":
        path = tmp_path / "w.pt"
        torch.save({"epoch": 3, "state_dict": state}, path)
    elif form == "parallel":
        path = tmp_path / "w.pt"
        torch.save({f"module.{k}": v for k, v in state.items()}, path)
    elif form == "run":
        path = tmp_path / "run"
        write_model(path, model_from(net, "teacher", data=digits, seed=0), digits)
    elif form == "hf-like":
        path = tmp_path / "folder"
        path.mkdir()
        save_file(state, path / "model.safetensors")
    else:
        torch.save(state, path)
    model = model_from(f"cnn:width=4,depth=2,weights={path}", "teacher", data=digits, seed=5)
    assert model.trained
    assert "weights" not in model.spec
    with torch.no_grad():
        torch.testing.assert_close(logits(model, digits), net(digits.train.batch(torch.arange(4))["x"]))


class Evil:
    """Would run if it were unpickled."""

    def __reduce__(self):
        return (pytest.fail, ("code ran",))


@pytest.mark.parametrize(
    ("name", "content", "error", "says"),
    [
        ("w.pt", lambda p: p.write_bytes(pickle.dumps(Evil())), BadInput, "more than tensors"),
        ("w.pt", lambda p: torch.save(nn.Linear(2, 2), p), BadInput, "more than tensors"),
        ("w.pt", lambda p: p.write_bytes(b"PK\x03\x04broken"), BadInput, "damaged|more than tensors"),
        ("w.pt", lambda p: p.write_bytes(b""), BadInput, "damaged"),
        ("w.pt", lambda p: torch.save([1, 2], p), BadInput, "found list"),
        ("w.pt", lambda p: torch.save({"state_dict": {}}, p), BadInput, "expected tensors by name"),
        ("w.pt", lambda p: torch.save({"a": torch.ones(2)}, p), Mismatch, "do not fit"),
        ("w.safetensors", lambda p: p.write_bytes(b"\xff" * 20), BadInput, "damaged"),
        ("w.safetensors", lambda p: save_file({"a": torch.ones(2)}, p), Mismatch, "do not fit"),
        ("w.onnx", lambda p: p.write_bytes(b"x"), BadInput, "expected .safetensors"),
        ("w.pt", lambda p: None, MissingFile, "do not exist"),
    ],
)
def test_bad_weights_are_one_sentence_and_run_no_code(tmp_path, digits, name, content, error, says):
    """Also a pickle that holds code."""
    content(tmp_path / name)
    with pytest.raises(error, match=says):
        assert model_from(f"cnn:weights={tmp_path / name}", "teacher", data=digits, seed=0).module


def test_a_user_s_function_may_bring_its_own_preprocessing(tmp_path, digits):
    """As attributes of the function; they come back with a run folder."""
    file = tmp_path / "net.py"
    file.write_text(NET)
    model = model_from(f"{file}:small:width=3", "teacher", data=digits, seed=0)
    (x,) = model.inputs(digits.train.batch(torch.arange(4)))
    assert x.shape == (4, 3, 16, 16)
    assert x.min() >= -1
    with torch.no_grad():
        expected = model.module(x) * 2
    torch.testing.assert_close(logits(model, digits), expected)
    write_model(tmp_path / "run", model, digits)
    with pytest.raises(BadInput, match="--trust-code"):
        model_from(tmp_path / "run", "teacher", data=digits, seed=1)
    again = model_from(tmp_path / "run", "teacher", data=digits, seed=1, trust_code=True)
    torch.testing.assert_close(logits(again, digits), expected)


def test_models_are_for_their_kind_of_data(digits):
    """A net of images on numbers, with the mend in the sentence."""
    numbers = Table({"x": torch.rand(4, 3), "y": torch.tensor([0, 1, 0, 1])}, "rows")
    with pytest.raises(BadInput, match="cnn takes images, but data holds numbers"):
        model_from("cnn", "student", data=Data(numbers), seed=0)
    assert model_from("mlp", "student", data=Data(numbers), seed=0).spec == "mlp:classes=2,inputs=3"
    texts = Table({"text": ["a", "b"], "y": torch.tensor([0, 1])}, "texts")
    with pytest.raises(BadInput, match="mlp takes images or numbers, but data holds text"):
        model_from("mlp", "student", data=Data(texts), seed=0)


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("cnnn", "nearest: 'cnn'"),
        ("./cnn", "does not exist"),
        ("cnn:widht=3", "no option 'widht'; nearest: 'width'"),
        ("cnn:width=x", "expected a whole number"),
        ("hf:", "not known"),
        ("", "not known"),
        ("net.py:small", "does not exist"),
    ],
)
def test_names_that_are_nothing(digits, spec, says):
    """The nearest is named."""
    with pytest.raises((BadInput, MissingFile), match=says):
        model_from(spec, "student", data=digits, seed=0)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"classes": 5}, "'classes' is no list of names"),
        ({"classes": [1, 2]}, "'classes' is no list of names"),
        ({"prepared": [1]}, "'prepared' does not say"),
        ({"prepared": {"kind": "table"}}, "'prepared' does not say"),
        ({"prepared": {"kind": "table", "columns": [{"column": "a", "mean": 1.0}]}}, "'prepared' does not say"),
        ({"prepared": {"kind": "table", "columns": [{"column": "a", "mean": 1.0, "spread": 0}]}}, "'prepared' does not say"),
        ({"spec": 3}, "expected JSON with a 'spec'"),
    ],
)
def test_a_damaged_description_of_a_model_is_one_sentence(changes, said, tmp_path, digits):
    write_model(tmp_path / "run", model_from("cnn:width=2", "model", data=digits, seed=0), digits)
    file = tmp_path / "run" / "model" / "model.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))
    with pytest.raises(BadInput, match=said):
        model_from(tmp_path / "run", "teacher", data=digits, seed=0)
