"""How good a language model's own text is: what its teacher thinks of it, how far the two are apart there, and how it repeats itself.

Given text shows a model only what others wrote before; here each token follows what the model itself has written. Shapes: P tokens of a
prompt, R of a response.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tutelage.data import Source, Table
from tutelage.errors import BadInput
from tutelage.evaluation.language import measure_tokens, told
from tutelage.language.generation import generate, prompts_in, responses_as_batch
from tutelage.language.sampling import Sampling
from tutelage.randomness import derive
from tutelage.signals import Model
from tutelage.teachers import Teacher


@dataclass(frozen=True)
class Answers:
    """What a model wrote after some prompts.

    Args:
        prompts: int64 (P,) each.
        responses: int64 (R,) each, R at least 1.
        ids: of the samples, int64 (N,).
    """

    prompts: Sequence[Tensor]
    responses: Sequence[Tensor]
    ids: Tensor

    def source(self, masked: bool = True) -> Table:
        """The same as samples of a language model; what counts are the responses.

        Args:
            masked: whether they have a column `attention_mask`, which some models do not take.
        """
        made = responses_as_batch(self.prompts, self.responses, self.ids)
        return Table({name: column for name, column in made.items() if masked or name != "attention_mask"}, "own text")


def answers(
    model: Model,
    source: Source,
    sampling: Sampling = Sampling(),
    *,
    samples: int | None = None,
    prompt: int = 32,
    stop: Collection[int] = (),
    vocabulary: int | None = None,
    seed: int = 0,
    at_once: int = 32,
    device: torch.device | str = "cpu",
) -> Answers:
    """Let a model write on from the prompts of a source; two models under one seed draw by the same numbers.

    Args:
        model: who writes.
        source: samples as `Lessons` gives them.
        sampling: how it writes.
        samples: from so many of them, evenly chosen; None for all.
        prompt: tokens of running text that it is given.
        stop: tokens that end a response, besides those that the model names.
        vocabulary: tokens that mean something, see `generate`.
        seed: of what is drawn.
        at_once: prompts at a time.
        device: where to compute.

    Returns:
        The prompts and what it wrote, on the CPU.

    Raises:
        BadInput: samples without prompts, or prompts that leave no room.
    """
    size = len(source) if samples is None else min(samples, len(source))
    if size < 1 or at_once < 1:
        raise BadInput(f"answers(samples={samples}, at_once={at_once}): expected at least 1 of each")
    chosen = torch.arange(size) * len(source) // size
    model.module.to(device)
    prompts: list[Tensor] = []
    responses: list[Tensor] = []
    ids = source.ids()[chosen]
    for part in torch.arange(size).split(at_once):
        own = prompts_in(source.batch(chosen[part]), prompt)
        seeds = [derive("answers", seed, id) for id in ids[part].tolist()]
        prompts += own
        responses += generate(model, own, seeds, sampling, stop=stop, vocabulary=vocabulary)
    return Answers(prompts, responses, ids)


def measure_own_text(
    model: Model, teacher: Model | Teacher, written: Answers, *, masked: bool = True, device: torch.device | str = "cpu"
) -> dict[str, float]:
    """Numbers of a model's own text, means over its tokens, in nats.

    Args:
        model: who wrote it, at temperature 1 and from all tokens, or `sequence_kl` is none.
        teacher: who judges.
        written: the text.
        masked: whether the models are given an `attention_mask`.
        device: where to compute.

    Returns:
        `teacher_nll`, the teacher's negative log-likelihood of the text: it falls as the text becomes more like the teacher's, but also as
        the student becomes surer of itself; `own_nll`, the model's; `sequence_kl`, their difference, which on text drawn from the model
        estimates KL(model || teacher) of whole texts, a token; `forward_kl` and `reverse_kl`, KL(teacher || model) and KL(model ||
        teacher) of the next token after what the model wrote; `entropy`, of the model there; `agreement` of both's likeliest tokens.
    """
    said = told({"model": model, "teacher": teacher}, written.source(masked), reference="teacher", device=device)
    own, judged = measure_tokens(said["model"]), measure_tokens(said["teacher"])
    kept = {name: own[name] for name in ("forward_kl", "reverse_kl", "entropy", "agreement")}
    return {"teacher_nll": judged["nll"], "own_nll": own["nll"], "sequence_kl": judged["nll"] - own["nll"], **kept}


def repetition(responses: Sequence[Tensor], n: int = 4) -> float | None:
    """The share of n-grams that came before in the same response, mean over the responses that have any; None where none has.

    Source: Welleck et al., "Neural Text Generation with Unlikelihood Training", ICLR 2020, section 6 (seq-rep-n).
    """
    shares = [1 - len(set(grams)) / len(grams) for grams in (_grams(response, n) for response in responses) if grams]
    return sum(shares) / len(shares) if shares else None


def distinct(responses: Sequence[Tensor], n: int = 2) -> float | None:
    """How many different n-grams there are in all responses, over how many there are; None where there is none.

    It falls as there is more text, so only equally much can be compared.

    Source: Li et al., "A Diversity-Promoting Objective Function for Neural Conversation Models", NAACL 2016, section 5.2 (distinct-n).
    """
    grams = [gram for response in responses for gram in _grams(response, n)]
    return len(set(grams)) / len(grams) if grams else None


def ended(responses: Sequence[Tensor], stop: Collection[int]) -> float:
    """The share of responses that a stop token ends."""
    return sum(int(response[-1]) in stop for response in responses) / len(responses)


def side_by_side(written: Mapping[str, Answers], read: Callable[[Sequence[int]], str], samples: int = 5) -> list[dict[str, Any]]:
    """What several models wrote after the same prompts, as text.

    Args:
        written: by the models' names; the same prompts in the same order.
        read: makes text of tokens, such as a tokenizer's `decode`.
        samples: how many, evenly chosen.

    Returns:
        Of each its `id`, `prompt`, and `responses` by name. The texts are as the models wrote them: nothing in them is safe to show.

    Raises:
        BadInput: nothing to show, or different prompts.
    """
    if not written or samples < 1:
        raise BadInput(f"side_by_side: {len(written)} models and samples={samples}; expected at least 1 of each")
    first = next(iter(written.values()))
    for name, each in written.items():
        same = len(each.prompts) == len(first.prompts) and all(map(torch.equal, each.prompts, first.prompts))
        if not same or not torch.equal(each.ids, first.ids):
            raise BadInput(f"{name} wrote on from other prompts than {next(iter(written))}; only texts after the same can be compared")
    size = min(samples, len(first.prompts))
    return [
        {
            "id": int(first.ids[row]),
            "prompt": read(first.prompts[row].tolist()),
            "responses": {name: read(each.responses[row].tolist()) for name, each in written.items()},
        }
        for row in (number * len(first.prompts) // size for number in range(size))
    ]


def _grams(response: Tensor, n: int) -> list[tuple[int, ...]]:
    if n < 1:
        raise BadInput(f"n={n}: an n-gram has at least 1 token")
    tokens = response.tolist()
    return [tuple(tokens[i : i + n]) for i in range(len(tokens) - n + 1)]
