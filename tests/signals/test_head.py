"""Passes that end before the head: what they give, for which models, and that nothing of the model stays changed. Shapes: V=11."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from small_texts import V, columns, net
from tutelage.errors import BadInput
from tutelage.signals import DeferredLogits, Model
from tutelage.signals.head import LARGE, head_of, held
from tutelage.signals.observe import unwatched_copy
from tutelage.students import gpt


def batch(rows: int = 4):
    return {"id": torch.arange(rows), **{name: column[:rows] for name, column in columns().items()}}


def shown(model, of=None):
    with torch.no_grad():
        return model.observe(of or batch(), {"logits"})["logits"]


class Tail(nn.Module):
    """A model with a head whose logits are changed behind it."""

    def __init__(self, change) -> None:
        super().__init__()
        self.body, self.head, self.change = nn.Embedding(V, 4), nn.Linear(4, V), change

    def forward(self, input_ids):
        return self.change(self.head(self.body(input_ids)))


def test_a_pass_ends_with_hidden_states_that_give_the_same_logits():
    """In the first pass and in those after it, which show the head nothing."""
    model = Model(net, seed=1)
    expected, sizes = shown(model), []
    model.module.head.register_forward_hook(lambda _m, _i, out: sizes.append(out.shape[1]))
    with model.deferring():
        for _ in range(3):
            found = shown(model)
            assert isinstance(found, DeferredLogits)
            torch.testing.assert_close(found.dense(), expected)
    assert sizes == [1, 0, 0]
    assert torch.equal(shown(model), expected)


@pytest.mark.parametrize("tied", [False, True])
def test_gradients_reach_body_and_head_under_their_own_names(tied):
    """Checkpoints hold the names that the model has without us."""
    model = Model(lambda: gpt(classes=V, width=8, depth=1, heads=2, context=6, tied=tied), seed=1)
    names = list(model.module.state_dict())
    of = batch()
    expected = torch.autograd.grad(model.observe(of, {"logits"})["logits"].sin().sum(), list(model.module.parameters()))
    with model.deferring():
        assert list(model.module.state_dict()) == names
        for _ in range(2):
            logits = model.observe(of, {"logits"})["logits"]
            found = torch.autograd.grad(logits.dense().sin().sum(), list(model.module.parameters()))
            for a, b in zip(found, expected, strict=True):
                torch.testing.assert_close(a, b)


def test_inner_taps_are_seen_in_the_same_pass():
    """Features beside logits cost no second pass; and a pass for features alone is left before the head."""
    model, of = Model(net, seed=1), batch()
    expected = model.observe(of, {"blocks.0", "logits"})
    with model.deferring():
        found = model.observe(of, {"blocks.0", "logits"})
        alone = model.observe(of, {"blocks.0"})
    torch.testing.assert_close(found["logits"].dense(), expected["logits"])
    for each in (found, alone):
        assert torch.equal(each["blocks.0"], expected["blocks.0"])


def test_nothing_is_left_on_the_model_nor_on_its_copies():
    """A hook that stays would cut the logits of whoever uses the model next."""
    model, of = Model(net, seed=1), batch()
    expected = shown(model)
    with model.deferring(now=False):
        assert torch.equal(shown(model), expected)
        with model.deferring():
            assert isinstance(shown(model), DeferredLogits)
            assert torch.equal(model.module(of["input_ids"]), expected)  # as generation calls it
            twin = unwatched_copy(model.module)
        assert torch.equal(shown(model), expected)
    assert not model.module.head._forward_pre_hooks
    assert not twin.head._forward_pre_hooks
    with pytest.raises(IndexError), model.deferring():
        shown(model, {"id": torch.arange(1), "input_ids": torch.full((1, 6), V)})
    assert not model.module.head._forward_pre_hooks


def test_what_is_not_learned_in_the_pass_is_not_learned_in_the_loss():
    """A pass without gradients, and a head that is frozen for it alone."""
    model, of = Model(net, seed=1), batch()
    with model.deferring():
        assert not shown(model).requires_grad
        model.module.head.weight.requires_grad_(False)
        logits = model.observe(of, {"logits"})["logits"]
    model.module.head.weight.requires_grad_(True)
    assert not logits.weight.requires_grad
    assert logits.hidden.requires_grad


def test_logits_that_the_handle_cuts_are_cut_in_the_head():
    """Vocabularies that are padded for speed are cut to what both models have."""
    whole = Model(net, seed=1)
    cut = Model(net, seed=1, logits=lambda output: output[..., :9])
    with cut.deferring():
        found = [shown(cut) for _ in range(2)]
    assert [each.shape for each in found] == [(4, 6, 9)] * 2
    torch.testing.assert_close(found[1].dense(), shown(whole)[..., :9])


def test_autocast_decides_in_the_pass_what_the_head_computes_in():
    model = Model(net, seed=1)
    with model.deferring(), torch.autocast("cpu", torch.bfloat16):
        found, expected = shown(model), model.module(batch()["input_ids"])
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.dense(), expected, rtol=0.02, atol=0.02)


@pytest.mark.parametrize(
    "change", [lambda z: 2 * z, torch.tanh, lambda z: z.flip(-1), lambda z: z[..., 1:], lambda z: z[:, -1], lambda z: z + 1]
)
def test_a_model_that_changes_its_logits_in_a_way_of_its_own_is_refused(change):
    """Its head would be trained by another loss than was asked for."""
    model = Model(Tail(change))
    with torch.no_grad():
        model.module.head.bias[0] = 2.0
    with pytest.raises(BadInput, match=r"logits of Tail|Tail changes its logits"), model.deferring():
        shown(model)
    assert not model.module.head._forward_pre_hooks


def test_models_without_a_head_of_their_own_are_refused():
    """With what was looked for."""
    with pytest.raises(BadInput, match="no head that is known"), Model(nn.Sequential(nn.Embedding(V, 4), nn.Linear(4, V))).deferring():
        pass
    odd = Tail(lambda z: z)
    odd.head = nn.Sequential(nn.Linear(4, V))
    with pytest.raises(BadInput, match="is a Sequential, not a plain linear layer"):
        head_of(odd, "odd")

    class Flat(Tail):
        def forward(self, input_ids):
            return self.head(self.body(input_ids).mean(1))

    flat = Model(Flat(None))
    with pytest.raises(BadInput, match="not those of its head at each position"), flat.deferring():
        shown(flat)


def test_a_model_is_tried_before_it_is_relied_on():
    """Small vocabularies are left as they are, unless asked for; and what is refused leaves no hook."""
    small, of = Model(net, seed=1), batch()
    with held(small, of) as why:
        assert f"{V} logits, too few" in why
    with held(small, of, least=0) as why:
        assert why is None
        assert not isinstance(shown(small), DeferredLogits)
        with small.deferring():
            assert isinstance(shown(small), DeferredLogits)
    large = Model(lambda: gpt(classes=LARGE, width=4, depth=1, heads=1, context=6))
    with held(large, of) as why:
        assert why is None
    odd = Model(Tail(torch.tanh))
    with torch.no_grad():
        odd.module.head.bias[0] = 2.0
    with held(odd, of, least=0) as why:
        assert "changes its logits" in why
        assert not odd.module.head._forward_pre_hooks


CHANGES = {
    "gemma2": {"num_key_value_heads": 2, "head_dim": 4, "final_logit_softcapping": 0.5},
    "granite": {"num_key_value_heads": 2, "logits_scaling": 8.0},
    "cohere": {"num_key_value_heads": 2, "logit_scale": 0.25},
}
"""Models that bound or scale their logits."""


def transformer(kind):
    transformers = pytest.importorskip("transformers")
    from tiny_causal import SIZES, config

    torch.manual_seed(0)
    if kind in SIZES:
        made = config(kind, layers=2)
    else:
        sizes = {"hidden_size": 16, "intermediate_size": 24, "num_attention_heads": 4, "num_hidden_layers": 2, "vocab_size": 264}
        made = transformers.AutoConfig.for_model(kind, **sizes, **CHANGES[kind], pad_token_id=0)
    module = transformers.AutoModelForCausalLM.from_config(made).eval()
    with torch.no_grad():
        for p in module.get_output_embeddings().parameters():
            p.mul_(10)
    return Model(module, name=kind)


@pytest.mark.parametrize("kind", ["llama", "qwen2", "gpt2", "gpt_neox", "opt", *CHANGES])
def test_models_of_transformers_give_the_logits_that_they_give(kind):
    """Tied heads, heads with a bias, and what Gemma, Granite and Cohere do behind them."""
    model = transformer(kind)
    of = {"id": torch.arange(2), "input_ids": torch.randint(264, (2, 7), generator=torch.Generator().manual_seed(1))}
    expected = shown(model, of)
    with model.deferring():
        found = [shown(model, of) for _ in range(2)]
    for each in found:
        assert each.hidden.shape == (2, 7, 16)
        torch.testing.assert_close(each.dense(), expected, rtol=1e-4, atol=1e-4)
    assert torch.equal(shown(model, of), expected)


def test_adapters_in_the_body_are_passed_and_one_on_the_head_is_refused():
    """What LoRA adds to a head is not in its weight."""
    peft = pytest.importorskip("peft")
    of = {"id": torch.arange(2), "input_ids": torch.arange(10).reshape(2, 5)}
    body, head = transformer("llama"), transformer("llama")
    for model, target in ((body, "q_proj"), (head, "lm_head")):
        peft.inject_adapter_in_model(peft.LoraConfig(r=2, target_modules=[target], init_lora_weights=False), model.module)
        model.module.eval()
    expected = shown(body, of)
    with body.deferring():
        torch.testing.assert_close(shown(body, of).dense(), expected)
    with pytest.raises(BadInput, match="not a plain linear layer"), head.deferring():
        pass


@pytest.mark.slow
def test_a_compiled_model_honours_a_hook_that_was_there_first():
    """Compiled, a model would else give its logits whole."""
    model, of = Model(net, seed=1), batch()
    expected = shown(model)
    with held(model, of, least=0) as why:
        assert why is None
        model.compile()
        try:
            with model.deferring():
                for _ in range(2):
                    torch.testing.assert_close(shown(model).dense(), expected, rtol=1e-4, atol=1e-5)
            torch.testing.assert_close(shown(model), expected, rtol=1e-4, atol=1e-5)
        finally:
            model.uncompile()
