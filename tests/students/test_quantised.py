"""Students of few bits: by any spec of a transformer, trained, saved and read again as what they are."""

from __future__ import annotations

import pytest
import torch

from tutelage import Fit, RunOptions, distill
from tutelage.data import Data, Table
from tutelage.errors import BadInput
from tutelage.jobs.models import function_of, model_from
from tutelage.signals import Model
from tutelage.signals.attention import context, scores, transformer_of, valid_tokens
from tutelage.students import cnn, vit
from tutelage.students.quantised import QuantisedEmbedding, QuantisedLinear, quantise, quantised

SIZES = {"size": 6, "patch": 3, "width": 8, "depth": 2, "heads": 2}
SPEC = "vit:width=8,depth=2,heads=2,patch=3"


pytestmark = pytest.mark.usefixtures("no_page")


@pytest.fixture
def batch(rng):
    return {"id": torch.arange(3), "x": torch.randn(3, 1, 6, 6, generator=rng)}


def data(rng):
    x, y = torch.randn(30, 1, 6, 6, generator=rng), torch.randint(0, 3, (30,), generator=rng)
    held = Table({"x": x[:11], "y": y[:11], "id": torch.arange(100, 111)}, "held")
    return Data(Table({"x": x, "y": y}, "train"), held, held, ("a", "b", "c"), "tiny")


def tiny(kind, **more):
    transformers = pytest.importorskip("transformers")
    if kind == "distilbert":
        config = transformers.DistilBertConfig(dim=8, n_heads=2, n_layers=2, hidden_dim=12, vocab_size=30, **more)
        return transformers.DistilBertForSequenceClassification(config).eval()
    sizes = {"hidden_size": 8, "num_attention_heads": 2, "num_hidden_layers": 2, "intermediate_size": 12}
    if kind == "vit":
        return transformers.ViTForImageClassification(transformers.ViTConfig(**sizes, image_size=6, patch_size=3, **more)).eval()
    config = {"bert": transformers.BertConfig, "roberta": transformers.RobertaConfig, "electra": transformers.ElectraConfig}[kind]
    auto = transformers.AutoModelForSequenceClassification
    return auto.from_config(config(**sizes, vocab_size=30, **({"embedding_size": 8} if kind == "electra" else {}), **more)).eval()


def asked(kind):
    drawn = torch.Generator().manual_seed(0)
    if kind == "vit":
        return {"id": torch.arange(3), "pixel_values": torch.randn(3, 3, 6, 6, generator=drawn)}
    mask = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0], [1, 0, 0, 0, 0]])
    return {"id": torch.arange(3), "input_ids": torch.randint(3, 30, (3, 5), generator=drawn), "attention_mask": mask}


@pytest.mark.parametrize("kind", ["bert", "roberta", "electra", "distilbert", "vit", "ours"])
def test_what_heads_see_is_what_the_model_itself_computes(kind, batch):
    """Whatever kernel runs inside: the output projection of our own context is the module's own output, where tokens are valid."""
    module = vit(**SIZES).eval() if kind == "ours" else tiny(kind)
    given = batch if kind == "ours" else asked(kind)
    model = Model(module)
    found = transformer_of(module, "m")
    assert (len(found.blocks), found.heads) == (2, 2)
    valid = valid_tokens(model)(given)
    for block in found.blocks:
        seen = model.observe(given, {block.query, block.key, block.value, block.output, block.normed, block.path, found.embedding})
        shown = context(scores(seen[block.query], seen[block.key], found.heads), seen[block.value], valid)
        by_hand = module.get_submodule(block.output)(shown)
        keep = torch.ones(by_hand.shape[:2], dtype=torch.bool) if valid is None else valid
        torch.testing.assert_close(by_hand[keep], seen[block.output][keep], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("kind", ["bert", "vit", "ours"])
@pytest.mark.parametrize("levels", ["ternary", "binary", "int4", "int8"])
def test_blocks_are_of_few_levels_and_names_and_other_layers_stay(kind, levels, batch):
    """A teacher's weights must fit, and the head is left alone."""
    module = vit(**SIZES).eval() if kind == "ours" else tiny(kind)
    given = batch if kind == "ours" else asked(kind)
    before = {n: p.clone() for n, p in module.state_dict().items()}
    plain = Model(module)
    small = quantised(plain, levels)
    shown = small.observe(given, {"logits"})["logits"]
    assert shown.isfinite().all()
    assert before.keys() == small.module.state_dict().keys()
    assert all(torch.equal(before[n], p) for n, p in small.module.state_dict().items())
    assert not any(isinstance(m, (QuantisedLinear, QuantisedEmbedding)) for m in module.modules())
    linear = [m for m in small.module.modules() if isinstance(m, QuantisedLinear)]
    assert len(linear) == 12
    assert sum(isinstance(m, QuantisedEmbedding) for m in small.module.modules()) == (kind == "bert")
    if levels == "int8":
        torch.testing.assert_close(shown, plain.observe(given, {"logits"})["logits"], rtol=0, atol=0.03)
    shown.sum().backward()
    assert all(m.weight.grad is not None for m in linear)


def test_a_looked_up_row_is_the_row_of_the_quantised_embedding(rng):
    """Only what is looked up is quantised; each row has its own scale, so it is the same."""
    from tutelage.students.quantisers import quantised_weight

    plain = torch.nn.Embedding(9, 5)
    ids = torch.randint(0, 9, (2, 4), generator=rng)
    expected = quantised_weight(plain.weight, "ternary", rows=True)[ids]
    torch.testing.assert_close(QuantisedEmbedding(plain, "ternary")(ids), expected)


def test_what_a_sample_gives_does_not_depend_on_those_beside_it(batch):
    """A scale of the whole batch would make a prediction depend on its neighbours."""
    module = quantise(vit(**SIZES).eval(), "ternary")
    torch.testing.assert_close(module(batch["x"])[1:2], module(batch["x"][1:2]))


def test_a_trained_student_of_few_bits_is_read_again_as_what_it_was(rng, tmp_path):
    """A folder that is read as a net of full precision says something else."""
    made = data(rng)
    options = RunOptions(quiet=True)
    distill(
        student=f"ternary:{SPEC}",
        data=made,
        recipe="alone",
        out=tmp_path / "run",
        fit=Fit(steps=3, batch_size=8),
        options=options,
    )
    again = model_from(tmp_path / "run", "student", data=made, seed=0)
    assert again.spec.startswith("ternary:vit:")
    assert any(isinstance(m, QuantisedLinear) for m in again.module.modules())
    batch = made.test.batch(torch.arange(11))
    shown = again.observe(batch, {"logits"})["logits"]
    from safetensors.torch import load_file

    weights = load_file(tmp_path / "run" / "model" / "model.safetensors")
    net = quantise(vit(classes=3, **SIZES), "ternary").eval()
    net.load_state_dict(weights)
    torch.testing.assert_close(shown, net(batch["x"]))


def test_a_handle_builds_nothing_draws_as_its_own_would_and_can_be_made_anew():
    """Dry runs stay light, and generations of one architecture begin with weights of their own."""
    plain = Model(lambda: vit(**SIZES), seed=3)
    small = quantised(plain)
    assert small.skeleton().head.weight.is_meta
    assert not plain.built
    assert not small.built
    assert torch.equal(small.module.head.weight, Model(lambda: vit(**SIZES), seed=3).module.head.weight)
    assert not torch.equal(small.fresh(4).module.head.weight, small.module.head.weight)
    assert isinstance(small.fresh(4).module.blocks[0].attention.query, QuantisedLinear)


def test_models_without_known_attention_and_unknown_levels_are_refused(rng):
    """One sentence that names what is expected."""
    with pytest.raises(BadInput, match="is not known; expected a model of one of the types bert"):
        quantised(Model(lambda: cnn(width=2))).module  # noqa: B018
    with pytest.raises(BadInput, match="expected one of ternary"):
        quantised(Model(lambda: vit(**SIZES)), "int5")
    with pytest.raises(BadInput, match="few bits"):
        function_of(f"ternary:{SPEC}")
    broken = vit(**SIZES)
    broken.blocks[1].attention.value = None
    with pytest.raises(BadInput, match=r"has no module 'blocks\.1\.attention\.value'"):
        transformer_of(broken, "net")
