"""Generation, against one sample at a time without a cache; its masks, its draws, and what it leaves as it was."""

from __future__ import annotations

import itertools
import random

import numpy as np
import pytest
import scipy.stats
import torch

from small_texts import V, columns, sharp
from tiny_tokenizers import letters
from tutelage import Model
from tutelage.errors import BadInput, NotFinite
from tutelage.language import from_rows, lessons
from tutelage.language.generation import context_of, generate, prompts_in, responses_as_batch, stops_of
from tutelage.language.sampling import Sampling, drawn, probabilities
from tutelage.randomness import generator
from tutelage.students import gpt

PROMPTS = [torch.tensor(p) for p in ([1], [2, 3, 4, 5, 6], [7, 8], [9, 10, 1])]
SEEDS = [11, 12, 13, 14]


def llama() -> torch.nn.Module:
    from transformers import LlamaConfig, LlamaForCausalLM

    sizes = {"hidden_size": 16, "intermediate_size": 20, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}
    return LlamaForCausalLM(LlamaConfig(vocab_size=V, max_position_embeddings=32, eos_token_id=None, bos_token_id=None, **sizes))


def gpt2() -> torch.nn.Module:
    from transformers import GPT2Config, GPT2LMHeadModel

    return GPT2LMHeadModel(GPT2Config(vocab_size=V, n_positions=32, n_embd=16, n_layer=2, n_head=4, eos_token_id=None, bos_token_id=None))


def ours() -> torch.nn.Module:
    return gpt(classes=V, width=16, depth=2, heads=4, context=32)


def made(kind, seed: int = 3) -> Model:
    """With opinions, in float64, so that rounding decides nothing."""
    model = Model(kind, seed=seed)
    with torch.no_grad():
        for p in model.module.parameters():
            p.mul_((4 if kind is ours else 15) if p.ndim > 1 else 1)
    model.module.double().train()
    return model


def alone(model: Model, prompt: torch.Tensor, seed: int, sampling: Sampling, stop=()) -> list[int]:
    """One sample, all computed anew for each token, no mask, no cache."""
    uniform = torch.rand(sampling.tokens, dtype=torch.float64, generator=generator("generate", seed))
    found = prompt.tolist()
    with model.mode(training=False), torch.no_grad():
        for u in uniform:
            logits = model.logits(model.module(torch.tensor([found])))[:, -1]
            found.append(int(drawn(probabilities(logits, sampling), u[None])))
            if found[-1] in stop:
                break
    return found[len(prompt) :]


@pytest.mark.parametrize("kind", [llama, gpt2, ours])
@pytest.mark.parametrize("sampling", [Sampling(9), Sampling(9, temperature=0.0), Sampling(9, temperature=0.7, top_k=5, top_p=0.8)])
def test_it_equals_one_sample_at_a_time_without_a_cache(kind, sampling):
    """Guards padding, places, masks and the cache: each of them silently wrong gives fluent text of another model."""
    model = made(kind)
    found = generate(model, PROMPTS, SEEDS, sampling, stop=[4])
    expected = [alone(model, p, s, sampling, [4]) for p, s in zip(PROMPTS, SEEDS, strict=True)]
    assert [f.tolist() for f in found] == expected
    assert len({tuple(e) for e in expected}) > 1


@pytest.mark.parametrize("kind", [llama, gpt2, ours])
def test_what_a_sample_gets_does_not_depend_on_those_beside_it(kind):
    """Otherwise the number of processes or the micro-batch would change what a student studies."""
    model, sampling = made(kind), Sampling(8)
    together = generate(model, PROMPTS, SEEDS, sampling)
    turned = generate(model, PROMPTS[::-1], SEEDS[::-1], sampling)[::-1]
    pairs = [r for i in (0, 2) for r in generate(model, PROMPTS[i : i + 2], SEEDS[i : i + 2], sampling)]
    for other in (turned, pairs):
        assert all(torch.equal(a, b) for a, b in zip(together, other, strict=True))
    assert torch.equal(generate(model, PROMPTS[:1], [99], sampling)[0], generate(model, PROMPTS[:1], [99], sampling)[0])
    assert not torch.equal(generate(model, PROMPTS[:1], [98], Sampling(12))[0], generate(model, PROMPTS[:1], [99], Sampling(12))[0])


def test_fewer_tokens_are_the_first_of_more():
    """A longer limit must not change what was drawn before it."""
    model = made(ours)
    for short, long in zip(generate(model, PROMPTS, SEEDS, Sampling(3)), generate(model, PROMPTS, SEEDS, Sampling(20)), strict=True):
        assert torch.equal(short, long[:3])


@pytest.mark.parametrize("kind", [llama, ours])
def test_a_response_ends_with_its_first_stop(kind):
    """The end must be learnt, and nothing after it."""
    model, sampling = made(kind), Sampling(20)
    free = [r.tolist() for r in generate(model, PROMPTS, SEEDS, sampling)]
    stop = free[0][4]
    ended = [r.tolist() for r in generate(model, PROMPTS, SEEDS, sampling, stop=[stop])]
    for whole, cut in zip(free, ended, strict=True):
        assert cut == (whole[: whole.index(stop) + 1] if stop in whole else whole)
    assert len(ended[0]) <= 5


def test_what_a_model_names_as_its_ends_stops_it():
    model = made(llama)
    free = generate(model, PROMPTS, SEEDS, Sampling(20))
    assert stops_of(model) == frozenset()
    for named in (int(free[0][2]), [int(free[0][2]), 0]):
        model.module.generation_config.eos_token_id = named
        assert int(free[0][2]) in stops_of(model)
        assert torch.equal(generate(model, PROMPTS, SEEDS, Sampling(20))[0], free[0][: free[0].tolist().index(int(free[0][2])) + 1])
    model.module.generation_config.eos_token_id = None
    model.module.config.eos_token_id = 5
    assert stops_of(model) == {5}
    assert stops_of(made(ours)) == frozenset()


@pytest.mark.parametrize("kind", [llama, ours])
def test_tokens_that_mean_nothing_are_not_drawn(kind):
    """Heads are padded to widths that compute fast; what is drawn there no tokenizer can read."""
    model = made(kind)
    free = torch.cat(generate(model, PROMPTS, SEEDS, Sampling(20)))
    held = torch.cat(generate(model, PROMPTS, SEEDS, Sampling(20), vocabulary=V - 4))
    assert int(free.max()) >= V - 4 > int(held.max())


@pytest.mark.parametrize("kind", [llama, ours])
def test_samples_have_the_models_distribution(kind):
    """Against all texts of two tokens, enumerated; a bias of the sampler is one of the method."""
    model = made(kind)
    prompt, n = torch.tensor([1, 2]), 4000
    with model.mode(training=False), torch.no_grad():
        rows = torch.cat([prompt.expand(V, -1), torch.arange(V)[:, None]], 1)
        logits = model.logits(model.module(rows)).log_softmax(-1)
    expected = (logits[0, 1][:, None] + logits[:, 2]).exp().flatten().numpy()
    found = torch.stack(generate(model, [prompt] * n, list(range(n)), Sampling(2)))
    counts = np.bincount((found[:, 0] * V + found[:, 1]).numpy(), minlength=V * V)
    often = expected * n >= 5
    observed = np.append(counts[often], counts[~often].sum())
    assert often.sum() > 10
    assert scipy.stats.chisquare(observed, n * np.append(expected[often], expected[~often].sum())).pvalue > 0.001


def test_modes_and_random_states_are_as_before():
    """Otherwise a student would train on without dropout, or another run would follow from having looked."""
    model = Model(lambda: gpt(classes=V, width=8, depth=1, heads=2, context=32, dropout=0.5), seed=1)
    model.module.train()
    model.module.blocks[0].eval()
    modes = [part.training for part in model.module.modules()]
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].copy()
    first, second = (generate(model, PROMPTS, SEEDS, Sampling(5)) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert [part.training for part in model.module.modules()] == modes
    assert torch.equal(torch.get_rng_state(), states[0])
    assert random.getstate() == states[1]
    assert (np.random.get_state()[1] == states[2]).all()
    assert all(p.requires_grad and p.grad is None for p in model.module.parameters())


def test_a_model_that_draws_by_itself_draws_the_same_and_leaves_the_rest():
    """Noise that is on in evaluation, too, must not be that of the training."""

    class Noisy(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = torch.nn.Parameter(torch.ones(()))

        def forward(self, input_ids):
            return self.scale * torch.randn(*input_ids.shape, V)

    state = torch.get_rng_state()
    first, second = (generate(Model(Noisy()), PROMPTS, SEEDS, Sampling(5)) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("kind", [llama, ours])
def test_no_pass_is_made_when_all_have_ended(kind):
    """Most answers are far shorter than their limit."""
    model, passes = made(kind), []
    model.module.register_forward_hook(lambda *_: passes.append(1))
    found = generate(model, PROMPTS, SEEDS, Sampling(20), stop=range(3, V))
    assert len(passes) == max(map(len, found)) < 20


def test_what_is_trained_after_it_in_half_precision_gets_its_gradients():
    """Weights that were cast without a gradient are kept for the next pass, which would then train nothing."""
    model = Model(ours, seed=1)
    with torch.autocast("cpu", torch.bfloat16):
        generate(model, PROMPTS, SEEDS, Sampling(3))
        model.module(torch.arange(8)[None]).float().square().mean().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for n, p in model.module.named_parameters() if n.endswith("mlp.0.weight"))
    assert model.module.head.weight.grad.abs().sum() > 0


def test_a_model_that_fails_is_left_as_it_was():
    model = Model(ours, seed=1)
    model.module.train()
    with torch.no_grad():
        model.module.head.weight.fill_(torch.nan)
    with pytest.raises(NotFinite, match="gave logits that are no finite numbers while it wrote"):
        generate(model, PROMPTS, SEEDS, Sampling(3))
    assert all(part.training for part in model.module.modules())


@pytest.mark.parametrize("kind", [llama, gpt2, ours])
def test_what_a_model_cannot_hold_is_refused_or_cut(kind):
    """Beyond its context a model gives noise, or fails hours later at the longest prompt."""
    model = made(kind)
    assert context_of(model) == 32
    with pytest.raises(BadInput, match="takes 32 tokens at once, too few for a prompt of 5 and 29 new ones; give tokens=28"):
        generate(model, PROMPTS, SEEDS, Sampling(29))
    assert [len(r) for r in generate(model, PROMPTS, SEEDS, Sampling(28))] == [28] * 4
    assert [len(r) for r in generate(model, PROMPTS, SEEDS, Sampling(40), beyond="cut")] == [32, 28, 31, 30]
    with pytest.raises(BadInput, match=r"too few for a prompt of 33 .* give shorter prompts"):
        generate(model, [torch.ones(33, dtype=torch.long)], [1], beyond="cut")


def test_what_cannot_be_written_on_from_is_refused():
    for prompts, seeds in (([], []), (PROMPTS, SEEDS[:2])):
        with pytest.raises(BadInput, match="a seed for each"):
            generate(made(ours), prompts, seeds)
    with pytest.raises(BadInput, match="a prompt is empty"):
        generate(made(ours), [torch.tensor([], dtype=torch.long)], [1])


@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")  # peft asks transformers so
def test_models_below_adapters_keep_what_they_computed():
    """Else students with adapters would write a hundred times slower, and by other masks."""
    peft = pytest.importorskip("peft")
    model = made(llama)
    config = peft.LoraConfig(target_modules=["q_proj", "v_proj"], r=2, init_lora_weights=False)
    adapted = Model(peft.get_peft_model(model.module, config).double())
    calls = []
    hook = lambda module, args, kwargs, out: calls.append(kwargs["input_ids"].shape[1])  # noqa: E731
    handle = model.module.register_forward_hook(hook, with_kwargs=True)
    found = generate(adapted, PROMPTS, SEEDS, Sampling(6))
    handle.remove()
    assert calls == [5, 1, 1, 1, 1, 1]
    assert [f.tolist() for f in found] == [alone(adapted, p, s, Sampling(6)) for p, s in zip(PROMPTS, SEEDS, strict=True)]


def test_compiled_models_are_run_as_they_are_written():
    """Each token has a shape of its own; compiling for each would take minutes."""
    model, plain = made(ours), made(ours)
    model.compile()
    with torch.compiler.set_stance("fail_on_recompile"):
        found = generate(model, PROMPTS, SEEDS, Sampling(4))
    model.uncompile()
    assert all(torch.equal(a, b) for a, b in zip(found, generate(plain, PROMPTS, SEEDS, Sampling(4)), strict=True))


def chats():
    rows = [
        {"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "yes"}]},
        {"messages": [{"role": "user", "content": "and you?"}, {"role": "assistant", "content": "no, not now"}]},
        {"messages": [{"role": "user", "content": "so"}, {"role": "assistant", "content": "what"}]},
    ]
    return from_rows({"train": rows, "validation": rows[:1], "test": rows[:1]})


def test_the_prompt_of_a_dialogue_ends_where_its_answer_begins():
    tokenizer = letters()
    batch = lessons(chats(), tokenizer).train.batch(torch.arange(2))
    said = [tokenizer.decode(p) for p in prompts_in(batch)]
    assert said == [f"<|im_start|>user\n{q}<|im_end|>\n<|im_start|>assistant\n" for q in _asked(batch, tokenizer)]


def _asked(batch, tokenizer):
    return [tokenizer.decode(row).split("user\n")[1].split("<|im_end|>")[0] for row in batch["input_ids"]]


def test_the_prompt_of_running_text_is_its_first_tokens():
    mask = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0], [0, 0, 1, 1], [0, 0, 0, 0]], dtype=torch.bool)
    batch = {"input_ids": torch.arange(16).reshape(4, 4), "mask": mask, "id": torch.arange(4)}
    assert [len(p) for p in prompts_in(batch, running=3)] == [3, 2, 3, 4]
    assert [len(p) for p in prompts_in({"input_ids": batch["input_ids"], "y": torch.where(mask, 1, -100)}, running=1)] == [1, 1, 3, 4]
    assert [len(p) for p in prompts_in({"input_ids": batch["input_ids"]}, running=2)] == [2] * 4
    shown = torch.tensor([[1, 1, 1, 1]] * 3 + [[1, 1, 0, 0]])
    assert [len(p) for p in prompts_in({**batch, "attention_mask": shown}, running=3)] == [3, 2, 3, 2]


def test_what_has_no_prompts_is_refused():
    tokenizer = letters()
    packed = lessons(chats(), tokenizer, length=64, packing="in-order").train.batch(torch.arange(1))
    with pytest.raises(BadInput, match="packing=none"):
        prompts_in(packed)
    with pytest.raises(BadInput, match="needs a column 'input_ids' of tokens"):
        prompts_in({"x": torch.zeros(2, 3), "id": torch.arange(2)})
    with pytest.raises(BadInput, match="prompt=0"):
        prompts_in(columns(), running=0)


def test_given_answers_make_the_batch_that_they_came_from():
    """The one place that shifts must be shifted as the other: only the last token, which nothing follows, is no input here."""
    tokenizer = letters()
    source = lessons(chats(), tokenizer).train
    batch = source.batch(torch.arange(len(source)))
    prompts = prompts_in(batch)
    responses = [y[y != -100] for y in batch["y"]]
    found = responses_as_batch(prompts, responses, batch["id"], pad=tokenizer.pad_token_id)
    assert list(found) == list(batch)
    ends = tokenizer.convert_tokens_to_ids("<|im_end|>")
    assert all(int(r[-1]) == ends for r in responses)
    for row in range(len(prompts)):
        size = len(prompts[row]) + len(responses[row]) - 1
        for name in ("input_ids", "y", "mask"):
            assert torch.equal(found[name][row, :size], batch[name][row, :size]), name
        assert found["attention_mask"][row].tolist() == [1] * size + [0] * (found["y"].shape[1] - size)
        assert not found["mask"][row, size:].any()
    assert torch.equal(found["id"], batch["id"])


def test_every_new_token_counts_and_nothing_else():
    model = sharp()
    model.module.requires_grad_(False)
    prompts = [torch.tensor([1, 2, 3]), torch.tensor([4])]
    responses = generate(model, prompts, [1, 2], Sampling(3))
    found = responses_as_batch(prompts, responses, torch.tensor([5, 6]))
    assert [found["y"][i][found["mask"][i]].tolist() for i in range(2)] == [r.tolist() for r in responses]
    assert found["input_ids"].shape == (2, 5)
    logits = model.module(found["input_ids"]).log_softmax(-1)
    for row, (prompt, response) in enumerate(zip(prompts, responses, strict=True)):
        expected = 0.0
        for number, token in enumerate(response.tolist()):
            before = torch.cat([prompt, response[:number]])[None]
            expected += float(model.module(before).log_softmax(-1)[0, -1, token])
        y = found["y"][row]
        told = sum(float(logits[row, i, y[i]]) for i in itertools.chain(found["mask"][row].nonzero()[:, 0].tolist()))
        assert told == pytest.approx(expected, rel=1e-5)
