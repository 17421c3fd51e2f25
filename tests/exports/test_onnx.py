"""An ONNX file must say what the model says, for any number of samples, and carry what it needs to be asked."""

from __future__ import annotations

import json

import numpy
import onnx as library
import onnxruntime
import pytest
import torch
from torch import nn

import hub_folders
from tutelage import students
from tutelage.errors import BadInput
from tutelage.evaluation import measure, predict, size_of
from tutelage.exports import onnx
from tutelage.jobs.models import model_from
from tutelage.jobs.sources import data_from
from tutelage.signals import Model
from tutelage.students.onnx import onnx as read

NETS = {
    "cnn": (lambda: students.cnn(classes=3, width=2, depth=2), (1, 8, 8)),
    "resnet": (lambda: students.resnet(classes=3, depth=8, width=2, channels=3), (3, 8, 8)),
    "vit": (lambda: students.vit(classes=3, size=8, channels=1, width=16, depth=1), (1, 8, 8)),
    "mixer": (lambda: students.mixer(classes=3, size=8, channels=1, width=16, depth=1), (1, 8, 8)),
    "mlp": (lambda: students.mlp(classes=3, inputs=7), (7,)),
}


def batch_of(n, shape, rng):
    return {"id": torch.arange(n), "x": torch.randn(n, *shape, generator=rng)}


@pytest.mark.parametrize("name", NETS)
def test_a_file_says_what_the_net_says_for_any_number_of_samples(name, tmp_path, rng):
    make, shape = NETS[name]
    model = Model(make)
    with model.mode(training=False):
        inputs = onnx.write(model, batch_of(3, shape, rng), batch_of(5, shape, rng), tmp_path / "m.onnx", {})
    assert [i["shape"] for i in inputs] == [["batch", *shape]]
    session = onnxruntime.InferenceSession(tmp_path / "m.onnx")
    for samples in (1, 2, 11):
        batch = batch_of(samples, shape, rng)
        (found,) = session.run(["logits"], {inputs[0]["name"]: batch["x"].numpy()})
        expected = model.module.eval()(batch["x"]).detach().numpy()
        numpy.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_text_takes_any_number_of_tokens(tmp_path):
    """With a fixed length, every shorter text would have to be padded, and every longer one be refused."""
    (tmp_path / "mails.csv").write_text("label,text\n" + "good,good film\nbad,very dull book\n" * 12)
    data = data_from(f"csv:{tmp_path}/mails.csv")
    model = model_from(f"hf:{hub_folders.bert(tmp_path / 'bert')}", "model", data=data, seed=0)
    short = {"id": torch.arange(2), "text": ["good", "bad film"]}
    long = {"id": torch.arange(3), "text": ["very " * 20, "film", "not good " * 5]}
    with model.mode(training=False):
        inputs = onnx.write(model, short, long, tmp_path / "m.onnx", {})
    assert {i["name"]: i["shape"] for i in inputs}["input_ids"] == ["batch", "sequence"]
    assert onnx.difference(tmp_path / "m.onnx", model, [short, long]) < 1e-4


def test_hashed_words_of_any_number(tmp_path):
    (tmp_path / "mails.csv").write_text("label,text\n" + "good,good film\nbad,very dull book\n" * 12)
    data = data_from(f"csv:{tmp_path}/mails.csv")
    model = model_from("bag:width=3,buckets=50", "model", data=data, seed=0)
    two, three = ({"id": torch.arange(n), "text": ["good film"] * n} for n in (2, 3))
    with model.mode(training=False):
        onnx.write(model, two, three, tmp_path / "m.onnx", {})
    odd = {"id": torch.arange(4), "text": ["", "a", "a b c d e", "f"]}
    assert onnx.difference(tmp_path / "m.onnx", model, [two, three, odd]) < 1e-4


def test_metadata_come_back_and_nothing_of_this_machine_is_in_the_file(tmp_path, rng):
    """The exporter notes the lines of source and their paths, which are nobody's business."""
    model = Model(NETS["cnn"][0])
    said = onnx.metadata(["ä", "b"], {"preprocessing": None, "prepared": {"kind": "images"}})
    with model.mode(training=False):
        onnx.write(model, batch_of(3, (1, 8, 8), rng), batch_of(5, (1, 8, 8), rng), tmp_path / "m.onnx", said)
    running = onnx.session(tmp_path / "m.onnx")
    assert onnx.read_metadata(running, tmp_path / "m.onnx") == {"labels": ["ä", "b"], "preprocessing": None, "prepared": {"kind": "images"}}
    assert b".py" not in (tmp_path / "m.onnx").read_bytes()
    library.checker.check_model(library.load(tmp_path / "m.onnx"))


def test_a_file_that_says_something_else_is_refused(tmp_path, rng):
    model, other = Model(NETS["mlp"][0]), Model(NETS["mlp"][0], seed=1)
    with model.mode(training=False):
        onnx.write(model, batch_of(3, (7,), rng), batch_of(5, (7,), rng), tmp_path / "m.onnx", {})
    with pytest.raises(BadInput, match="do not agree on 3 samples"):
        onnx.difference(tmp_path / "m.onnx", other, [batch_of(3, (7,), rng)])


class Branching(nn.Module):
    def forward(self, x):
        return x if x.sum() > 0 else -x


def test_a_net_that_cannot_be_exported_is_one_sentence(tmp_path, rng):
    with pytest.raises(BadInput, match="Branching cannot be exported to ONNX"):
        onnx.write(Model(Branching()), batch_of(3, (7,), rng), batch_of(5, (7,), rng), tmp_path / "m.onnx", {})


@pytest.mark.parametrize("name", ["mlp", "cnn", "vit"])
def test_eight_bits_are_near_and_take_less_room(name, tmp_path, rng):
    make, shape = {**NETS, "mlp": (lambda: students.mlp(classes=3, inputs=7, width=256), (7,))}[name]
    if name != "mlp":
        make = {"cnn": lambda: students.cnn(classes=3, width=32), "vit": lambda: students.vit(classes=3, size=8, channels=1)}[name]
    model = Model(make)
    with model.mode(training=False):
        onnx.write(model, batch_of(3, shape, rng), batch_of(5, shape, rng), tmp_path / "m.onnx", {"labels": "[1]"})
    onnx.quantized(tmp_path / "m.onnx", tmp_path / "small.onnx")
    assert (tmp_path / "small.onnx").stat().st_size < (tmp_path / "m.onnx").stat().st_size
    batch = batch_of(64, shape, rng)
    whole, small = (onnx.asked(onnx.session(tmp_path / f), (batch["x"],)) for f in ("m.onnx", "small.onnx"))
    assert not torch.equal(whole, small)
    assert (whole - small).abs().max() < 0.2 * whole.abs().max()
    assert onnx.read_metadata(onnx.session(tmp_path / "small.onnx"), tmp_path)["labels"] == [1]


def test_what_holds_no_weights_is_not_quantised(tmp_path, rng):
    model = Model(nn.Softmax(dim=-1))
    with model.mode(training=False):
        onnx.write(model, batch_of(3, (7,), rng), batch_of(5, (7,), rng), tmp_path / "m.onnx", {})
    with pytest.raises(BadInput, match="nothing that can be quantised"):
        onnx.quantized(tmp_path / "m.onnx", tmp_path / "small.onnx")
    assert not (tmp_path / "small.onnx").exists()


def test_a_file_is_read_as_a_model_with_its_preprocessing_and_its_size(tmp_path, rng):
    from tutelage.signals.images import ImageInputs
    from tutelage.signals.preprocessing import described

    data = data_from("digits")
    see = ImageInputs(size=12, mean=0.5, std=0.25, channels=3)
    model = Model(lambda: students.cnn(channels=3, width=2), inputs=see)
    batch, other = (data.test.batch(torch.arange(n)) for n in (3, 5))
    with model.mode(training=False):
        onnx.write(model, batch, other, tmp_path / "m.onnx", onnx.metadata(data.classes, {"preprocessing": described(see)}))
    again = read(str(tmp_path / "m.onnx"), classes=data.classes, count=10)
    assert again.trained
    first, second = predict(model, data.test), predict(again, data.test)
    torch.testing.assert_close(first.logits, second.logits, rtol=1e-4, atol=1e-4)
    assert measure(second, first)["agreement"] == 1.0
    assert size_of(again.module)["bytes"] == (tmp_path / "m.onnx").stat().st_size
    assert 0 < size_of(again.module)["parameters"] <= size_of(model.module)["parameters"]


def test_foreign_files_and_other_classes_are_one_sentence(tmp_path, rng):
    (tmp_path / "broken.onnx").write_bytes(b"no model")
    with pytest.raises(BadInput, match="no ONNX file that onnxruntime can run"):
        read(str(tmp_path / "broken.onnx"))
    model = Model(NETS["mlp"][0])
    with model.mode(training=False):
        onnx.write(model, batch_of(3, (7,), rng), batch_of(5, (7,), rng), tmp_path / "m.onnx", {"labels": json.dumps(["a", "b", "c"])})
    with pytest.raises(BadInput, match="gives 3 logits, but the data have 4 classes"):
        read(str(tmp_path / "m.onnx"), count=4)
    with pytest.raises(BadInput, match="numbers its labels a, b, c"):
        read(str(tmp_path / "m.onnx"), classes=["b", "a", "c"], count=3)
    changed = library.load(tmp_path / "m.onnx")
    changed.graph.output[0].name = "scores"
    changed.graph.node[-1].output[0] = "scores"
    library.save(changed, tmp_path / "other.onnx")
    assert read(str(tmp_path / "other.onnx"), count=3).module(torch.randn(2, 7, generator=rng)).shape == (2, 3)
    changed.graph.output.append(library.helper.make_tensor_value_info("more", 1, [1]))
    changed.graph.node.append(library.helper.make_node("Constant", [], ["more"], value_floats=[1.0]))
    library.save(changed, tmp_path / "two.onnx")
    with pytest.raises(BadInput, match="no output called logits; its outputs are scores, more"):
        read(str(tmp_path / "two.onnx"))


def test_a_file_does_not_read_weights_from_outside_of_its_folder(tmp_path, rng):
    """A file from a stranger may name any other file as its weights, and show it through its answers."""
    model = Model(NETS["mlp"][0])
    (tmp_path / "in").mkdir()
    with model.mode(training=False):
        onnx.write(model, batch_of(3, (7,), rng), batch_of(5, (7,), rng), tmp_path / "in" / "m.onnx", {})
    (tmp_path / "secret").write_bytes(bytes(4096))
    changed = library.load(tmp_path / "in" / "m.onnx")
    for weight in changed.graph.initializer:
        weight.ClearField("raw_data")
        weight.data_location = library.TensorProto.EXTERNAL
        weight.external_data.add(key="location", value="../secret")
    (tmp_path / "in" / "m.onnx").write_bytes(changed.SerializeToString())
    with pytest.raises(BadInput, match="no ONNX file that onnxruntime can run"):
        read(str(tmp_path / "in" / "m.onnx"))
