"""A language model at hand that answers dialogues, as a server would: tokens in between, text at both ends."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from tutelage.data import Data
from tutelage.errors import BadInput
from tutelage.language.chat import OWN, Control
from tutelage.language.dialogues import Dialogues
from tutelage.language.generation import context_of, generate, prompts_in, stops_of
from tutelage.language.preparation import lessons
from tutelage.language.sampling import Sampling
from tutelage.language.server import Answer
from tutelage.randomness import derive
from tutelage.signals import Model
from tutelage.signals.cache import weights_of

LONGEST = 1 << 20
"""Tokens of a dialogue, none of which is cut."""


@dataclass(frozen=True)
class Writer:
    """A language model that writes answers.

    Args:
        model: who writes.
        tokenizer: Hugging Face's interface.
        template: how messages become text, see `lessons`.
        control: what names of control tokens in the messages become, likewise.
        prompt: tokens of running text that it goes on from.
        vocabulary: tokens that mean something, see `generate`.
        at_once: prompts that it writes after at a time.
        device: where to compute.
    """

    model: Model
    tokenizer: Any
    template: str = OWN
    control: Control = "text"
    prompt: int = 32
    vocabulary: int | None = None
    at_once: int = 16
    device: torch.device | str = "cpu"

    @property
    def name(self) -> str:
        """How messages call it."""
        return self.model.name

    def work(self) -> list[Any]:
        """What decides its answers, besides what it is asked."""
        return [weights_of(self.model.module), self.template, self.control, self.prompt, self.vocabulary]

    def answers(self, asked: Dialogues, places: Sequence[int], sampling: Sampling, seed: int) -> Iterator[tuple[int, Answer]]:
        """Answer dialogues, the longest first, so that what does not fit into memory is seen at once.

        Args:
            asked: dialogues, whose last answers are not looked at; of running text the beginning is gone on from.
            places: of those that are to be answered.
            sampling: how it writes.
            seed: with the id of each dialogue, that of its draws.

        Yields:
            The place, and the answer: of running text the beginning and what follows it, which counts as ended wherever it stops.

        Raises:
            BadInput: a template that fails, or a prompt that leaves no room in the model's context.
        """
        chosen = asked.rows(torch.tensor(places), asked.name)
        made: Any = lessons(Data(chosen), self.tokenizer, length=LONGEST, template=self.template, control=self.control, learn="last").train
        place_of = dict(zip(chosen.ids().tolist(), places, strict=True))
        place = [place_of[id] for id in made.ids().tolist()]
        running = [asked.dialogues[each].kind == "text" for each in place]
        prompts = [prompts_in(made.batch(torch.tensor([row])), self.prompt)[0] for row in range(len(made))]
        context = context_of(self.model)
        order = sorted(range(len(made)), key=lambda row: -len(prompts[row]))
        if context is not None and order and len(prompts[order[0]]) > context:
            row = order[0]
            raise BadInput(
                f"dialogue {place[row] + 1:,} of {asked.name} takes {len(prompts[row]):,} tokens to ask, and {self.name} reads "
                f"{context:,} at most; leave it out, or shorten it"
            )
        self.model.module.to(self.device)
        stop, ends = made.stop, sorted(made.stop | stops_of(self.model))
        for start in range(0, len(order), self.at_once):
            rows = order[start : start + self.at_once]
            seeds = [derive("answer", seed, id) for id in made.ids()[torch.tensor(rows)].tolist()]
            given = [prompts[row].to(self.device) for row in rows]
            texts = generate(self.model, given, seeds, sampling, stop=stop, vocabulary=self.vocabulary, beyond="cut")
            for row, text in zip(rows, texts, strict=True):
                tokens = text.tolist()
                ended = tokens[-1] in ends
                if running[row]:
                    tokens = prompts[row].tolist() + tokens
                said = self.tokenizer.decode(tokens, skip_special_tokens=True)
                yield place[row], Answer(said, ended or running[row], len(text))
