"""Where queries, keys and values are read, by the model's type; and whether two models look at the same tokens. Shapes: B=3, T=5."""

from __future__ import annotations

import pytest
import torch

from hub_folders import WORDS
from tutelage.errors import BadInput, Mismatch
from tutelage.objectives.relations import projected, relation_kl
from tutelage.signals import Model
from tutelage.signals.attention import outline_of, same_tokens, transformer_of
from tutelage.signals.tokens import Tokens
from tutelage.students import cnn, vit

SIZES = {"hidden_size": 8, "num_hidden_layers": 2, "intermediate_size": 12, "num_attention_heads": 4}


def tiny(kind):
    transformers = pytest.importorskip("transformers")
    auto = transformers.AutoModel
    if kind == "vit":
        return auto.from_config(transformers.ViTConfig(**SIZES, image_size=6, patch_size=3)).eval()
    if kind == "distilbert":
        config = transformers.DistilBertConfig(dim=8, n_layers=2, n_heads=4, hidden_dim=12, vocab_size=30)
        return auto.from_config(config).eval()
    if kind in ("llama", "mistral", "qwen2"):
        name = {"llama": "LlamaConfig", "mistral": "MistralConfig", "qwen2": "Qwen2Config"}[kind]
        return auto.from_config(getattr(transformers, name)(**SIZES, num_key_value_heads=2, vocab_size=30)).eval()
    more = {"embedding_size": 8} if kind == "electra" else {}
    config = {"bert": "BertConfig", "roberta": "RobertaConfig", "electra": "ElectraConfig"}[kind]
    return auto.from_config(getattr(transformers, config)(**SIZES, vocab_size=30, **more)).eval()


def asked(kind):
    made = torch.Generator().manual_seed(0)
    if kind in ("vit", "ours"):
        name, side = ("pixel_values", 6) if kind == "vit" else ("x", 8)
        return {"id": torch.arange(3), name: torch.randn(3, 3 if kind == "vit" else 1, side, side, generator=made)}
    mask = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0], [1, 0, 0, 0, 0]])
    return {"id": torch.arange(3), "input_ids": torch.randint(3, 30, (3, 5), generator=made), "attention_mask": mask}


@pytest.mark.parametrize("kind", ["bert", "roberta", "electra", "distilbert", "vit", "llama", "mistral", "qwen2", "ours"])
def test_projections_of_encoders_without_a_head_are_found(kind):
    """Of all heads side by side, as wide for keys and values as for queries, and the way to each from the layer's own parameters only."""
    module = vit(width=8, depth=2, heads=4, classes=2, channels=1, size=8).eval() if kind == "ours" else tiny(kind)
    model, batch = Model(module, name="net"), asked(kind)
    outline = outline_of(model)
    found = outline.found
    assert (outline.width, outline.head) == (8, 2)
    assert (len(found.blocks), found.heads) == (2, 4)
    assert (found.shared, found.plain) == ((2, False) if kind in ("llama", "mistral", "qwen2") else (1, True))
    places = [projected(found, 2, which, 2) for which in ("query", "key", "value")]
    shown = model.observe(batch, {place.tap for place in places})
    values = [place.of(shown) for place in places]
    assert len({v.shape for v in values}) == 1
    assert values[0].shape[-1] == 8
    goal = torch.randn(*values[0].shape[:2], 4, generator=torch.Generator().manual_seed(1))
    sum(relation_kl(v, v, goal, goal, 2) for v in values).sum().backward()
    last, kept = found.blocks[1], tuple(place.tap for place in places)
    reached = {name for name, p in module.named_parameters() if p.grad is not None and (p.grad != 0).any()}
    within = {name for name in reached if name.startswith(last.path + ".")}
    before = ("norm1", "layernorm_before", "input_layernorm")
    assert any(name.startswith(kept) for name in within)
    assert all(name.startswith(kept) or any(part in name for part in before) for name in within)
    assert not any(name.startswith(("head", "pooler")) for name in reached)


def test_an_outline_reads_no_weights():
    """Plans are built without them."""
    transformers = pytest.importorskip("transformers")
    config = transformers.BertConfig(**SIZES, vocab_size=30)
    model = Model(lambda: transformers.AutoModel.from_config(config), name="net")
    assert len(outline_of(model).found.blocks) == 2
    assert not model.built


def test_a_model_without_known_attention_is_refused():
    """By the types that are known."""
    with pytest.raises(BadInput, match=r"is not known; expected a model of one of the types bert, roberta.*llama"):
        transformer_of(cnn(width=2), "net")


def speaking(name, length=8, vocabulary=WORDS):
    transformers = pytest.importorskip("transformers")
    made = transformers.BertTokenizerFast(vocab={w: i for i, w in enumerate(vocabulary)})
    return Model(torch.nn.Identity(), name=name, inputs=Tokens(lambda: made, length))


def test_the_mask_of_texts_is_the_common_one():
    """Each side splits the texts itself; the tokens are compared, and looked at once a batch."""
    student = speaking("small")
    batch = {"id": torch.arange(2), "text": ["good film very dull", "bad"]}
    valid = same_tokens(student, speaking("big"))
    mask = valid(batch)
    assert mask.sum(1).tolist() == student.inputs(batch)["attention_mask"].sum(1).tolist()
    assert valid(batch) is mask
    images = {"id": torch.arange(2), "x": torch.zeros(2, 1, 4, 4)}
    assert same_tokens(Model(torch.nn.Identity()), Model(torch.nn.Identity()))(images) is None


def test_sides_with_other_tokens_are_refused():
    """Other words, or a text that is cut elsewhere."""
    batch = {"id": torch.arange(2), "text": ["good film not bad very fine book", "bad"]}
    with pytest.raises(Mismatch, match="small and big split the same texts into different numbers of tokens"):
        same_tokens(speaking("small", 4), speaking("big", 12))(batch)
    with pytest.raises(Mismatch, match="small and big have different tokens for the same text"):
        same_tokens(speaking("small"), speaking("big", 8, [*WORDS[:5], *reversed(WORDS[5:])]))(batch)
