"""Hugging Face classifiers as handles."""

from __future__ import annotations

import pytest
import torch

from tutelage.data import Data, Table
from tutelage.errors import BadInput, MissingFile
from tutelage.jobs.folder import write_model
from tutelage.jobs.models import model_from

transformers = pytest.importorskip("transformers")
hub = pytest.importorskip("hub_folders")

TEXTS = ["good film", "bad film", "very good book", "not good", "dull book", "fine films"]


@pytest.fixture
def texts() -> Data:
    """Six reviews."""
    table = Table({"text": TEXTS, "y": torch.tensor([1, 0, 1, 0, 0, 1])}, "reviews")
    return Data(table, table, table, ("neg", "pos"), "reviews")


@pytest.fixture
def images() -> Data:
    """Six grey images of 10x10."""
    table = Table({"x": torch.rand(6, 1, 10, 10, generator=torch.Generator().manual_seed(0)), "y": torch.tensor([0, 1, 2] * 2)}, "pictures")
    return Data(table, table, table, ("a", "b", "c"), "pictures")


def logits(model, data):
    with model.mode(training=False), torch.no_grad():
        return model.observe(data.train.batch(torch.arange(6)), {"logits"})["logits"]


def test_an_encoder_gets_a_head_that_the_seed_decides(tmp_path, texts):
    """Its own weights stay; it does not count as trained."""
    folder = hub.bert(tmp_path / "bert")
    first, second, other = (model_from(f"hf:{folder}", "student", data=texts, seed=s) for s in (1, 1, 2))
    assert not first.trained
    assert torch.equal(first.module.classifier.weight, second.module.classifier.weight)
    assert not torch.equal(first.module.classifier.weight, other.module.classifier.weight)
    plain = transformers.BertModel.from_pretrained(folder)
    assert torch.equal(first.module.bert.embeddings.word_embeddings.weight, plain.embeddings.word_embeddings.weight)
    assert first.module.config.id2label == {0: "neg", 1: "pos"}
    assert logits(first, texts).shape == (6, 2)


def test_text_is_split_as_the_tokenizer_alone_does_it(tmp_path, texts):
    """The logits are those of a plain call of transformers."""
    folder = hub.bert(tmp_path / "bert", head=2)
    model = model_from(f"hf:{folder}", "teacher", data=texts, seed=0)
    assert model.trained
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    plain = transformers.AutoModelForSequenceClassification.from_pretrained(folder).eval()
    with torch.no_grad():
        expected = plain(**tokenizer(TEXTS, padding=True, return_tensors="pt")).logits
    torch.testing.assert_close(logits(model, texts), expected)
    assert torch.equal(logits(model, texts), logits(model, texts))  # the second time from what is remembered


def test_pairs_of_texts_are_one_sequence(tmp_path):
    """With the second text's segment marked."""
    table = Table({"text": ["good film", "bad"], "text_pair": ["not", "very dull book"], "y": torch.tensor([0, 1])})
    model = model_from(f"hf:{hub.bert(tmp_path / 'bert')}", "student", data=Data(table, classes=("a", "b")), seed=0)
    made = model.inputs(table.batch(torch.tensor([0, 1])))
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "bert")
    expected = tokenizer(["good film", "bad"], ["not", "very dull book"], padding=True, pad_to_multiple_of=8, return_tensors="pt")
    assert all(torch.equal(made[k], expected[k]) for k in expected)


def test_long_texts_are_cut(tmp_path, texts):
    """At max_length tokens, ends included."""
    long = Table({"text": ["good " * 50], "y": torch.tensor([0])})
    model = model_from(f"hf:{hub.bert(tmp_path / 'bert')}:max_length=12", "student", data=texts, seed=0)
    assert int(model.inputs(long.batch(torch.tensor([0])))["attention_mask"].sum()) == 12


def test_settings_of_the_config_change(tmp_path, texts):
    """Layers beyond those asked for are left out; the rest keeps its weights."""
    folder = hub.bert(tmp_path / "bert", layers=3)
    model = model_from(f"hf:{folder}:num_hidden_layers=1", "student", data=texts, seed=0)
    assert len(model.module.bert.encoder.layer) == 1
    whole = transformers.BertModel.from_pretrained(folder)
    kept = model.module.bert.encoder.layer[0].attention.self.query.weight
    assert torch.equal(kept, whole.encoder.layer[0].attention.self.query.weight)
    new = model_from(f"hf:{folder}:pretrained=false", "student", data=texts, seed=0)
    assert not torch.equal(new.module.bert.encoder.layer[0].attention.self.query.weight, whole.encoder.layer[0].attention.self.query.weight)


def test_a_vit_from_a_config_sees_images_its_own_way(tmp_path, images):
    """Grey 10x10 images become three channels of 8x8, normalised; no weights are needed."""
    model = model_from(f"hf:{hub.vit(tmp_path / 'vit', weights=False)}", "student", data=images, seed=0)
    made = model.inputs(images.train.batch(torch.arange(2)))["pixel_values"]
    assert made.shape == (2, 3, 8, 8)
    assert made.min() < 0
    assert logits(model, images).shape == (6, 3)
    assert not model.trained
    assert model.skeleton().vit is not None


def test_a_head_of_another_size_is_made_anew(tmp_path, images):
    """As when ImageNet's thousand classes meet three."""
    model = model_from(f"hf:{hub.vit(tmp_path / 'vit', head=7)}", "teacher", data=images, seed=0)
    assert not model.trained
    assert logits(model, images).shape == (6, 3)


@pytest.mark.parametrize("kind", ["text", "images"])
def test_what_is_written_is_a_folder_of_its_own(tmp_path, texts, images, kind):
    """A run folder needs neither the folder it came from nor us: transformers reads it."""
    data = texts if kind == "text" else images
    folder = hub.bert(tmp_path / "m") if kind == "text" else hub.vit(tmp_path / "m")
    model = model_from(f"hf:{folder}:max_length=16" if kind == "text" else f"hf:{folder}", "student", data=data, seed=3)
    expected = logits(model, data)
    write_model(tmp_path / "run", model, data)
    folder.rename(tmp_path / "gone")
    again = model_from(tmp_path / "run", "teacher", data=data, seed=9)
    assert again.trained
    torch.testing.assert_close(logits(again, data), expected, rtol=0, atol=0)
    write_model(tmp_path / "second", again, data)
    third = model_from(tmp_path / "second", "teacher", data=data, seed=9)
    assert torch.equal(logits(third, data), expected)
    auto = transformers.AutoModelForSequenceClassification if kind == "text" else transformers.AutoModelForImageClassification
    plain = auto.from_pretrained(tmp_path / "run" / "model").eval()
    if kind == "text":
        tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "run" / "model")
        with torch.no_grad():
            torch.testing.assert_close(plain(**tokenizer(TEXTS, padding=True, return_tensors="pt")).logits, expected)
    assert not list((tmp_path / "run").glob(".model*"))


def test_bad_input_is_refused_before_weights_are_read(tmp_path, texts, images):
    """One sentence each, with the mend."""
    bert, vit = hub.bert(tmp_path / "bert", head=2, labels=["pos", "neg"]), hub.vit(tmp_path / "vit")
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(BadInput, match=r"does not classify images; give a model of images"):
        model_from(f"hf:{bert}", "student", data=images, seed=0)
    with pytest.raises(BadInput, match="does not classify text"):
        model_from(f"hf:{vit}", "student", data=texts, seed=0)
    with pytest.raises(BadInput, match=r"give the data its order: --data.classes pos,neg"):
        model_from(f"hf:{bert}", "teacher", data=texts, seed=0)
    with pytest.raises(BadInput, match="no setting 'num_hiden_layers'; nearest: 'num_hidden_layers'"):
        model_from(f"hf:{bert}:num_hiden_layers=2", "student", data=texts, seed=0)
    with pytest.raises(MissingFile, match="does not exist"):
        model_from("hf:./nowhere", "student", data=texts, seed=0)
    with pytest.raises(MissingFile, match=r"no config\.json"):
        model_from(f"hf:{empty}", "student", data=texts, seed=0)
    with pytest.raises(BadInput, match="takes no option 'classes'"):
        model_from(f"hf:{bert}:classes=4", "student", data=texts, seed=0)
    with pytest.raises(BadInput, match="write hf:"):
        model_from(str(bert), "student", data=texts, seed=0)
    with pytest.raises(BadInput, match="at least 2 tokens"):
        model_from(f"hf:{vit.parent / 'bert'}:max_length=1,num_labels=3", "student", data=texts, seed=0)


def test_a_name_that_is_not_on_disk_is_one_sentence_offline(texts):
    """The hub is not asked in tests."""
    with pytest.raises(BadInput, match="cannot be read"):
        model_from("hf:no-such/model", "student", data=texts, seed=0)


def test_damaged_weights_and_a_missing_tokenizer_say_so(tmp_path, texts):
    """When they are read."""
    folder = hub.bert(tmp_path / "bert")
    (folder / "model.safetensors").write_bytes(b"damaged")
    model = model_from(f"hf:{folder}", "student", data=texts, seed=0)
    with pytest.raises(BadInput, match=r"weights of hf:.* cannot be read"):
        assert model.module
    for name in ("tokenizer.json", "tokenizer_config.json", "vocab.txt"):
        (folder / name).unlink()
    with pytest.raises(BadInput, match="no tokenizer that can be read"):
        model.inputs(texts.train.batch(torch.arange(2)))


def test_data_without_labels_make_no_classifier(tmp_path):
    """The number of classes is unknown."""
    table = Table({"text": TEXTS})
    with pytest.raises(BadInput, match="is no classifier yet, and data without labels do not tell"):
        model_from(f"hf:{hub.bert(tmp_path / 'bert')}", "student", data=Data(table), seed=0)
