"""Generation: a language model writes on from prompts, each row by draws of its own.

What a row gets is a function of the model, its prompt and its seed, and not of the rows beside it, but for the rounding of the model's
own arithmetic. Models of transformers keep what they computed of earlier tokens; of others, such as `gpt`, all is computed again for each
new token. Shapes: B rows, T positions, P of a prompt, R new tokens, V vocabulary.
"""

from __future__ import annotations

import contextlib
import inspect
import sys
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from tutelage.errors import BadInput, NotFinite
from tutelage.language.lessons import NOTHING
from tutelage.language.sampling import Sampling, drawn, probabilities
from tutelage.randomness import generator, seeded
from tutelage.signals import Batch, Model
from tutelage.signals.taps import LOGITS
from tutelage.students.gpt import Gpt


def generate(
    model: Model,
    prompts: Sequence[Tensor],
    seeds: Sequence[int],
    sampling: Sampling = Sampling(),
    *,
    stop: Collection[int] = (),
    beyond: Literal["refuse", "cut"] = "refuse",
    vocabulary: int | None = None,
    pad: int = 0,
) -> list[Tensor]:
    """Let a language model write on from prompts, in evaluation mode and without gradients.

    Its mode and the global random state are afterwards as they were before.

    Args:
        model: called with `input_ids` (B, T), and with `attention_mask` where it takes one; gives logits (B, T, V).
        prompts: tokens of each, int64 (P,), at least one.
        seeds: of each row's draws.
        sampling: how tokens are drawn, and how many at most.
        stop: tokens that end a response, which holds them as its last. Those that the model itself names are added.
        beyond: where a prompt and the new tokens are more than the model takes at once, they are refused, or the response is cut.
        vocabulary: tokens that mean something, counted from 0; heads are often wider. None draws from all.
        pad: what stands where no token is; it is never looked at.

    Returns:
        The new tokens of each row, int64 (R,), on the device of its prompt; 1 <= R <= `sampling.tokens`.

    Raises:
        BadInput: no or an empty prompt, or one that leaves no room.
        NotFinite: the model gave logits that are no numbers.
    """
    if len(seeds) != len(prompts) or not prompts:
        raise BadInput(f"generate: {len(prompts)} prompts and {len(seeds)} seeds; expected at least one prompt, and a seed for each")
    sizes = [len(prompt) for prompt in prompts]
    if not min(sizes):
        raise BadInput("generate: a prompt is empty; expected at least one token, such as the one that begins a text")
    most = _most(model, sizes, sampling.tokens, beyond)
    device = next((p.device for p in model.module.parameters()), prompts[0].device)
    uniforms = [torch.rand(sampling.tokens, dtype=torch.float64, generator=generator("generate", seed)) for seed in seeds]
    uniform_BR = torch.stack(uniforms).to(device)
    ends_E = torch.tensor(sorted({*stop, *stops_of(model)}), dtype=torch.int64, device=device)
    base = pretrained(model.module)
    write = _writes_on if base is not None and "past_key_values" in _arguments(base) else _reads_anew

    def choose(number: int, rows_B: Tensor, logits_BV: Tensor) -> tuple[Tensor, Tensor]:
        """The next token of some rows, and whether it is their last."""
        shares_BV = probabilities(logits_BV[:, :vocabulary], sampling)
        if not shares_BV.sum(1).isfinite().all():
            raise NotFinite(f"{model.name} gave logits that are no finite numbers while it wrote")
        token_B = drawn(shares_BV, uniform_BR[rows_B, number])
        return token_B, torch.isin(token_B, ends_E) | (most_B[rows_B] <= number + 1)

    most_B = torch.tensor(most, device=device)
    with seeded("generate"), model.mode(training=False), torch.no_grad(), _as_written(model):
        written_BR, ends_B = write(model, [p.to(device) for p in prompts], choose, max(most), pad)
    torch.clear_autocast_cache()  # weights that were cast without a gradient must not be met by a pass that wants one
    counts = ends_B.tolist()
    return [row[:count].to(prompt.device) for row, count, prompt in zip(written_BR, counts, prompts, strict=True)]


def prompts_in(batch: Batch, running: int = 32) -> list[Tensor]:
    """The prompt of each sample of a batch as `Lessons` gives it, int64 (P,).

    Of a dialogue: the tokens up to and with the first position that counts, whose next token begins the answer. Of running text, which
    counts from its first position on: its first tokens.

    Args:
        batch: `input_ids` (B, T), and `mask` or `y`.
        running: how many tokens of running text, at least 1; of a shorter one all but the last that counts.

    Raises:
        BadInput: several documents in a window, or a batch that holds no tokens.
    """
    if "position_ids" in batch:
        raise BadInput(
            "generation needs samples that each begin with a prompt, but these windows hold several documents; "
            "prepare the data with packing=none"
        )
    ids_BT = batch.get("input_ids")
    if not isinstance(ids_BT, Tensor) or ids_BT.ndim != 2 or ids_BT.is_floating_point():
        raise BadInput(f"generation needs a column 'input_ids' of tokens, (B, T); the batch has {sorted(batch)}")
    if running < 1:
        raise BadInput(f"prompt={running}; expected at least 1 token")
    counts_BT = batch.get("mask")
    if counts_BT is None:
        counts_BT = batch["y"] != NOTHING if "y" in batch else torch.ones_like(ids_BT, dtype=torch.bool)
    counts_BT = counts_BT.bool()
    first_B, count_B = counts_BT.int().argmax(1), counts_BT.sum(1)
    # where nothing counts, all that is there
    size_B = torch.where(first_B > 0, first_B + 1, torch.where(count_B > 0, count_B.clamp(max=running), _lengths(batch, ids_BT)))
    return [row[:size] for row, size in zip(ids_BT, size_B.tolist(), strict=True)]


def responses_as_batch(prompts: Sequence[Tensor], responses: Sequence[Tensor], ids: Tensor, pad: int = 0) -> dict[str, Tensor]:
    """Prompts and what was written after them as a batch with the columns of `Lessons`: what counts are the tokens of the responses.

    The last token of a row follows the last position and is no input itself.

    Args:
        prompts: int64 (P,) each.
        responses: int64 (R,) each, R at least 1.
        ids: of the samples, (B,).
        pad: what stands on padding.

    Returns:
        `input_ids`, `y`, `mask`, `attention_mask` (B, T) and `id`.
    """
    device = prompts[0].device
    T = max(len(p) + len(r) for p, r in zip(prompts, responses, strict=True)) - 1
    input_ids_BT = torch.full((len(prompts), T), pad, dtype=torch.int64, device=device)
    y_BT = torch.full_like(input_ids_BT, NOTHING)
    attention_BT = torch.zeros_like(input_ids_BT)
    for row, (prompt, response) in enumerate(zip(prompts, responses, strict=True)):
        end = len(prompt) + len(response) - 1
        input_ids_BT[row, :end] = torch.cat([prompt, response])[:-1]
        y_BT[row, len(prompt) - 1 : end] = response
        attention_BT[row, :end] = 1
    return {"input_ids": input_ids_BT, "attention_mask": attention_BT, "y": y_BT, "mask": y_BT != NOTHING, "id": ids}


def context_of(model: Model) -> int | None:
    """How many tokens a model takes at once; None where it does not say."""
    if isinstance(model.module, Gpt):
        return model.module.context
    base = pretrained(model.module)
    return None if base is None else getattr(base.config.get_text_config(), "max_position_embeddings", None)


def stops_of(model: Model) -> frozenset[int]:
    """The tokens that a model of transformers says end what it writes; none of other models."""
    base = pretrained(model.module)
    if base is None:
        return frozenset()
    said = getattr(base, "generation_config", None)
    ends = getattr(said, "eos_token_id", None) if said is not None else None
    ends = getattr(base.config, "eos_token_id", None) if ends is None else ends
    return frozenset([ends] if isinstance(ends, int) else ends or ())


def pretrained(module: nn.Module) -> Any:
    """The model of transformers that a module is, or that lies below adapters of peft; None where it is none."""
    # by what is loaded already: importing either takes seconds, and a model of theirs cannot be there without it
    peft, transformers = sys.modules.get("peft.peft_model"), sys.modules.get("transformers.modeling_utils")
    if peft is not None and isinstance(module, peft.PeftModel):
        module = module.get_base_model()
    return module if transformers is not None and isinstance(module, transformers.PreTrainedModel) else None


Choose = Callable[[int, Tensor, Tensor], tuple[Tensor, Tensor]]


def _writes_on(model: Model, prompts: list[Tensor], choose: Choose, most: int, pad: int) -> tuple[Tensor, Tensor]:
    """Write token by token, what was computed of earlier ones being kept by the model.

    Prompts are padded at their start, so that all rows write at one place; padding is masked, and places are counted without it.
    """
    B, P, device = len(prompts), max(map(len, prompts)), prompts[0].device
    takes = _arguments(pretrained(model.module))
    input_ids_BT = torch.full((B, P), pad, dtype=torch.int64, device=device)
    mask_BT = torch.zeros_like(input_ids_BT)
    for row, prompt in enumerate(prompts):
        input_ids_BT[row, P - len(prompt) :] = prompt
        mask_BT[row, P - len(prompt) :] = 1
    place_BT = (mask_BT.cumsum(1) - 1).clamp(min=0)
    rows_B, written_BR = torch.arange(B, device=device), torch.full((B, most), pad, dtype=torch.int64, device=device)
    counts_B, going_B = torch.zeros_like(rows_B), torch.ones_like(rows_B, dtype=torch.bool)
    past: Any = None
    for number in range(most):
        given = {"input_ids": input_ids_BT, "attention_mask": mask_BT, "past_key_values": past, "use_cache": True}
        given |= {"position_ids": place_BT} if "position_ids" in takes else {}
        given |= {"logits_to_keep": 1} if "logits_to_keep" in takes else {}
        output = model.module(**given)
        past = output.past_key_values
        token_B, last_B = choose(number, rows_B, model.logits(output)[:, -1])
        written_BR[:, number] = torch.where(going_B, token_B, pad)
        counts_B += going_B
        going_B = going_B & ~last_B
        if not going_B.any():
            break
        # a row that ended stays where it is, since the next place may be beyond the context
        input_ids_BT, place_BT = token_B[:, None], place_BT[:, -1:] + going_B[:, None].long()
        mask_BT = torch.cat([mask_BT, torch.ones_like(mask_BT[:, :1])], 1)
    return written_BR, counts_B


def _reads_anew(model: Model, prompts: list[Tensor], choose: Choose, most: int, pad: int) -> tuple[Tensor, Tensor]:
    """Write token by token, all being read anew for each; padded at the end, which no earlier token sees. Rows that ended are left out."""
    device = prompts[0].device
    masked = model.preprocessing is not None or _takes_mask(model.module)
    size_B = torch.tensor([len(prompt) for prompt in prompts], device=device)
    begin_B = size_B.clone()
    all_BT = torch.full((len(prompts), int(size_B.max()) + most), pad, dtype=torch.int64, device=device)
    for row, prompt in enumerate(prompts):
        all_BT[row, : len(prompt)] = prompt
    rows_B = torch.arange(len(prompts), device=device)
    for number in range(most):
        sizes = size_B[rows_B]
        T = int(sizes.max())
        batch = {"input_ids": all_BT[rows_B, :T], "id": rows_B}
        if masked:
            batch["attention_mask"] = (torch.arange(T, device=device) < sizes[:, None]).long()
        logits_BTV = model.observe(batch, {LOGITS})[LOGITS]
        token_B, last_B = choose(number, rows_B, logits_BTV[torch.arange(len(rows_B), device=device), sizes - 1])
        all_BT[rows_B, sizes] = token_B
        size_B[rows_B] += 1
        rows_B = rows_B[~last_B]
        if not len(rows_B):
            break
    counts_B = size_B - begin_B
    place_BR = begin_B[:, None] + torch.arange(most, device=device)
    return all_BT.gather(1, place_BR), counts_B


@contextlib.contextmanager
def _as_written(model: Model) -> Iterator[None]:
    """Run a compiled model as it was written: a text that grows has another shape at each token, each to be compiled."""
    if not model.compiled:
        yield
        return
    with torch.compiler.set_stance("force_eager"):
        yield


def _most(model: Model, sizes: Sequence[int], tokens: int, beyond: str) -> list[int]:
    """How many tokens each row may get."""
    context = context_of(model)
    if context is None:
        return [tokens] * len(sizes)
    longest = max(sizes)
    room = context + 1 - longest  # the last new token is not read
    if room < (1 if beyond == "cut" else tokens):
        raise BadInput(
            f"{model.name} takes {context:,} tokens at once, too few for a prompt of {longest:,} and {tokens:,} new ones; "
            + (f"give tokens={room}, or shorter prompts" if room > 0 else "give shorter prompts")
        )
    return [min(tokens, context + 1 - size) for size in sizes]


def _arguments(module: nn.Module) -> Collection[str]:
    return inspect.signature(module.forward).parameters.keys()


def _takes_mask(module: nn.Module) -> bool:
    found = inspect.signature(module.forward).parameters
    return "attention_mask" in found or any(p.kind is p.VAR_KEYWORD for p in found.values())


def _lengths(batch: Batch, ids_BT: Tensor) -> Tensor:
    shown_BT = batch.get("attention_mask")
    return torch.full_like(ids_BT[:, 0], ids_BT.shape[1]) if shown_BT is None else shown_BT.sum(1)
