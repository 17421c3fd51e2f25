"""timm's models as handles. timm itself needs torchvision; where it is missing, a stand-in shows what is asked of it."""

from __future__ import annotations

import sys
import types

import pytest
import torch
from torch import nn

from tutelage.data import Data, Table
from tutelage.errors import BadInput
from tutelage.jobs.folder import write_model
from tutelage.jobs.models import model_from


@pytest.fixture
def images() -> Data:
    """Six grey images of 8x8."""
    table = Table({"x": torch.rand(6, 1, 8, 8), "y": torch.tensor([0, 1, 2] * 2)}, "pictures")
    return Data(table, table, table, ("a", "b", "c"), "pictures")


@pytest.fixture
def stand_in(monkeypatch):
    """A module called timm with the four functions that are used."""
    calls = []

    def create_model(name, **options):
        calls.append((name, options))
        return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, options["num_classes"]))

    made = types.ModuleType("timm")
    made.is_model = lambda name: name == "tiny_net"
    made.list_models = lambda: ["tiny_net"]
    made.get_pretrained_cfg = lambda name: types.SimpleNamespace(mean=(0.5,) * 3, std=(0.25,) * 3, input_size=(3, 16, 16), num_classes=3)
    made.create_model = create_model
    monkeypatch.setitem(sys.modules, "timm", made)
    return calls


def test_a_new_model_keeps_the_data_s_size(stand_in, images):
    """Grey becomes colour; the classes are those of the data; further options go to timm."""
    model = model_from("timm:tiny_net:drop_rate=0.1", "student", data=images, seed=0)
    assert not model.trained
    assert model.inputs(images.train.batch(torch.arange(2)))[0].shape == (2, 3, 8, 8)
    assert model.observe(images.train.batch(torch.arange(2)), {"logits"})["logits"].shape == (2, 3)
    assert stand_in == [("tiny_net", {"num_classes": 3, "drop_rate": 0.1})]


def test_a_pretrained_model_brings_its_preprocessing(stand_in, images):
    """And counts as trained where its classes are as many."""
    model = model_from("timm:tiny_net:pretrained=true", "teacher", data=images, seed=0)
    assert model.trained
    (x,) = model.inputs({"id": torch.arange(1), "x": torch.full((1, 1, 8, 8), 0.75)})
    torch.testing.assert_close(x, torch.ones(1, 3, 16, 16))
    assert model.spec == "timm:tiny_net:pretrained=true"


@pytest.mark.parametrize("spec", ["timm:tiny_net", "timm:tiny_net:pretrained=true"])
def test_a_run_s_product_comes_back_with_its_own_weights(stand_in, images, tmp_path, spec):
    """And nothing is fetched for it."""
    model = model_from(spec, "student", data=images, seed=0)
    with torch.no_grad():
        model.module[2].weight.fill_(3.0)
    write_model(tmp_path / "run", model, images)
    stand_in.clear()
    again = model_from(tmp_path / "run", "teacher", data=images, seed=1)
    assert again.trained
    batch = images.train.batch(torch.arange(6))
    assert torch.equal(again.observe(batch, {"logits"})["logits"], model.observe(batch, {"logits"})["logits"])
    assert not any(options.get("pretrained") for _, options in stand_in)


def test_bad_input_is_one_sentence(stand_in, images, monkeypatch):
    """A misspelt name, other data, a missing package."""
    with pytest.raises(BadInput, match="no model 'tiny_nat'; nearest: 'tiny_net'"):
        model_from("timm:tiny_nat", "student", data=images, seed=0)
    numbers = Table({"x": torch.rand(4, 3), "y": torch.tensor([0, 1, 0, 1])})
    with pytest.raises(BadInput, match="classifies images, but the data hold numbers"):
        model_from("timm:tiny_net", "student", data=Data(numbers), seed=0)
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(BadInput, match="needs timm, which"):
        model_from("timm:tiny_net", "student", data=images, seed=0)
