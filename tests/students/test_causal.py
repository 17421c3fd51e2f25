"""Causal language models as handles: what they read, what they keep of a bigger one, and what trains."""

from __future__ import annotations

import pytest
import torch

pytest.importorskip("transformers")
import transformers

from tiny_causal import SIZES, causal_folder
from tiny_gguf import write_gguf
from tutelage.errors import BadInput, MissingFile, UnknownTap
from tutelage.signals.reading import Reading
from tutelage.students.adapters import merged
from tutelage.students.causal import causal
from tutelage.students.hf import save

KINDS = sorted(SIZES)


def batch(vocabulary: int = 264, T: int = 7) -> dict[str, torch.Tensor]:
    made = torch.Generator().manual_seed(1)
    ids = torch.randint(vocabulary, (2, T), generator=made)
    attended = torch.ones_like(ids)
    attended[1, 4:] = 0
    return {"input_ids": ids, "attention_mask": attended, "y": ids, "mask": attended.bool(), "id": torch.arange(2)}


def logits(model, of) -> torch.Tensor:
    with model.mode(training=False), torch.no_grad():
        return model.observe(of, {"logits"})["logits"]


@pytest.mark.parametrize("kind", KINDS)
def test_it_says_what_the_model_says(kind, tmp_path):
    """Of all families, and nothing is read before it is used."""
    causal_folder(tmp_path, kind)
    model = causal(str(tmp_path))
    assert not model.built
    assert model.trained
    said = transformers.AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    shown = batch()
    with torch.no_grad():
        own = said(input_ids=shown["input_ids"], attention_mask=shown["attention_mask"]).logits
    assert torch.equal(logits(model, shown), own)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("layers", [2, [1, 2]])
def test_a_student_has_the_layers_that_it_keeps(kind, layers, tmp_path):
    """With their weights, in their order; and generating with a cache says the same as without, so that layers find their own keys."""
    causal_folder(tmp_path / "big", kind)
    big = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "big").eval()
    student = causal(str(tmp_path / "big"), layers=layers)
    assert student.module.config.num_hidden_layers == 2
    kept = {0: 0, 1: 3} if layers == 2 else {0: 1, 1: 2}
    blocks = next(p for n, p in student.module.named_modules() if isinstance(p, torch.nn.ModuleList) and len(p) == 2)
    all_blocks = next(p for n, p in big.named_modules() if isinstance(p, torch.nn.ModuleList) and len(p) == 4)
    for own, other in kept.items():
        for (name, ours), (_, theirs) in zip(blocks[own].named_parameters(), all_blocks[other].named_parameters(), strict=True):
            assert torch.equal(ours, theirs), name
    student.module.save_pretrained(tmp_path / "small")
    again = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "small").eval()
    ids = batch()["input_ids"][:1]
    assert torch.equal(logits(student, {"input_ids": ids}), again(input_ids=ids).logits)
    module = student.module.eval()
    whole = module(input_ids=ids, use_cache=False).logits
    first = module(input_ids=ids[:, :4], use_cache=True)
    rest = module(input_ids=ids[:, 4:], past_key_values=first.past_key_values, use_cache=True)
    assert torch.allclose(torch.cat([first.logits, rest.logits], 1), whole, atol=1e-5)


def test_packed_documents_do_not_see_each_other(tmp_path):
    """transformers keeps them apart by their places, where no cache is made."""
    causal_folder(tmp_path)
    model = causal(str(tmp_path))
    ids = torch.randint(264, (1, 9), generator=torch.Generator().manual_seed(3))
    places = torch.tensor([[0, 1, 2, 3, 0, 1, 2, 3, 4]])
    whole = logits(model, {"input_ids": ids, "position_ids": places})
    alone = torch.cat([logits(model, {"input_ids": ids[:, :4]}), logits(model, {"input_ids": ids[:, 4:]})], 1)
    assert torch.allclose(whole, alone, atol=1e-5)
    assert not torch.allclose(logits(model, {"input_ids": ids})[:, 4:], alone[:, 4:], atol=1e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_only_adapters_train_and_they_go_into_the_weights(kind, tmp_path):
    """The student is the big model at first, and what is written at the end has no adapters."""
    causal_folder(tmp_path, kind)
    model, plain, shown = causal(str(tmp_path), lora=2), causal(str(tmp_path)), batch()
    assert torch.equal(logits(model, shown), logits(plain, shown))
    trained = [name for name, p in model.module.named_parameters() if p.requires_grad]
    assert trained
    assert all("lora_" in name for name in trained)
    assert len(trained) % 8 == 0  # two for each linear layer of four blocks
    with torch.no_grad():
        for name, p in model.module.named_parameters():
            if "lora_B" in name:
                p.normal_(std=0.1)
    said = logits(model, shown)
    assert not torch.allclose(said, logits(plain, shown))
    bare = merged(model.module)
    assert list(bare.state_dict()) == list(plain.module.state_dict())
    assert torch.allclose(bare.eval()(**{k: shown[k] for k in ("input_ids", "attention_mask")}).logits, said, atol=1e-5)
    assert torch.equal(logits(model, shown), said)  # nothing was done to the model itself
    assert merged(plain.module) is plain.module


def test_adapters_of_a_smaller_student_are_drawn_by_the_seed(tmp_path):
    """Both at once; two seeds draw two."""
    causal_folder(tmp_path)
    one, same, other = (causal(str(tmp_path), layers=2, lora=2, seed=s).module.state_dict() for s in (1, 1, 2))
    assert all(torch.equal(one[k], same[k]) for k in one)
    assert any(not torch.equal(one[k], other[k]) for k in one if "lora_A" in k)


def test_weights_are_drawn_where_only_a_config_is_there(tmp_path):
    """It then counts as untrained, and its config can be changed."""
    causal_folder(tmp_path, weights=False)
    model = causal(str(tmp_path), num_hidden_layers=1, tie_word_embeddings=True)
    assert not model.trained
    assert model.module.config.num_hidden_layers == 1
    assert model.module.lm_head.weight is model.module.model.embed_tokens.weight
    assert not torch.equal(model.fresh(5).module.lm_head.weight, model.module.lm_head.weight)
    assert sum(p.numel() for p in model.skeleton().parameters()) == sum(p.numel() for p in model.module.parameters())


def test_checkpointing_changes_no_gradient(tmp_path):
    """Only what is kept of the forward pass."""
    causal_folder(tmp_path)
    gradients = []
    for given in (False, True):
        model = causal(str(tmp_path), checkpointing=given)
        with model.mode(training=True):
            model.observe(batch(), {"logits"})["logits"].square().mean().backward()
        gradients.append({k: p.grad for k, p in model.module.named_parameters()})
        assert any(getattr(part, "gradient_checkpointing", False) for part in model.module.modules()) is given
    assert all(torch.allclose(gradients[0][k], gradients[1][k], atol=1e-7) for k in gradients[0])


def test_a_wider_head_is_cut_to_what_both_have(tmp_path):
    """Heads are padded; both sides then speak of the same tokens."""
    causal_folder(tmp_path, vocabulary=272)
    model = causal(str(tmp_path))
    assert isinstance(model.preprocessing, Reading)
    model.preprocessing.common = 264
    assert logits(model, batch()).shape == (2, 7, 264)
    assert logits(model.copy(), batch()).shape == (2, 7, 264)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"layers": 9}, "the model has 4 layers; expected 1 to 4"),
        ({"lora": 0}, "expected the rank of the adapters, at least 1"),
        ({"token": "x"}, "takes no option 'token'"),
        ({"num_hiden_layers": 2}, "has no setting 'num_hiden_layers'; nearest: 'num_hidden_layers'"),
    ],
)
def test_what_cannot_be_is_refused_before_weights_are_read(given, said, tmp_path):
    """One sentence each."""
    causal_folder(tmp_path, weights=False)
    with pytest.raises(BadInput, match=said):
        causal(str(tmp_path), **given)


def test_what_is_not_there_or_no_language_model_is_refused(tmp_path):
    """A classifier's folder, no folder, a file that is none."""
    transformers.BertConfig(hidden_size=16, num_attention_heads=2, num_hidden_layers=1, intermediate_size=8).save_pretrained(
        tmp_path / "vit"
    )
    transformers.ViTConfig().save_pretrained(tmp_path / "vit")
    with pytest.raises(BadInput, match="is a vit model, which is no causal language model"):
        causal(str(tmp_path / "vit"))
    with pytest.raises(MissingFile, match="does not exist as a folder"):
        causal("./nowhere")
    with pytest.raises(MissingFile, match="does not exist as a file"):
        causal("nowhere.gguf")


def test_batches_of_something_else_and_samples_that_are_too_long_are_refused(tmp_path):
    """Where positions are looked up, one too many is an index error deep in the model."""
    causal_folder(tmp_path, context=8)
    model = causal(str(tmp_path))
    with pytest.raises(BadInput, match=r"reads tokens, a column input_ids of \(B, T\); the batch has id, text"):
        model.observe({"text": ["a"], "id": torch.arange(1)}, {"logits"})
    with pytest.raises(BadInput, match="reads 8 tokens at most and got 9; give data with length=8"):
        model.observe(batch(T=9), {"logits"})
    with pytest.raises(UnknownTap):
        model.observe(batch(), {"model.layers.9"})


def test_a_gguf_file_says_what_its_folder_says_and_is_saved_as_a_folder(tmp_path):
    """Weights in another order of rows, and a config that speaks of its quantisation: neither may reach the student's folder."""
    pytest.importorskip("gguf")
    folder = causal_folder(tmp_path / "folder")
    file = write_gguf(folder, tmp_path / "small.gguf")
    model, own = causal(f"{file}", tokenizer=str(folder)), causal(str(folder))
    assert model.name == "small"
    torch.testing.assert_close(logits(model, batch()), logits(own, batch()))
    student = causal(f"{file}", tokenizer=str(folder), layers=2)
    save(student, tmp_path / "student")
    again = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "student").eval()
    shown = batch()
    with torch.no_grad():
        said = again(input_ids=shown["input_ids"], attention_mask=shown["attention_mask"]).logits
    torch.testing.assert_close(logits(student, shown), said)
    assert len(transformers.AutoTokenizer.from_pretrained(tmp_path / "student")) == len(transformers.AutoTokenizer.from_pretrained(folder))
