"""Text that the student writes itself, as a view of the samples that a step studies. Shapes: B batch, T positions."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import TypeAlias

import torch
from torch import Tensor

from tutelage.errors import BadInput
from tutelage.language.generation import generate, prompts_in, responses_as_batch
from tutelage.language.lessons import NOTHING
from tutelage.language.sampling import Sampling
from tutelage.randomness import derive, generator
from tutelage.signals import Batch, Model
from tutelage.state import Clock
from tutelage.training import Step

View: TypeAlias = Callable[[Step, Model], Batch]

OF_SAMPLES = ("weight", "domain", "view")
"""Columns that say something of a sample whatever its text."""


def own_text(
    share: float = 1.0,
    sampling: Sampling = Sampling(),
    *,
    prompt: int = 32,
    stop: Collection[int] = (),
    vocabulary: int | None = None,
    labels: bool = True,
) -> View:
    """A view that holds, at a share of the steps, what the student writes after the prompts of the samples, and else the samples.

    Which of the two is a function of the seed, the stage and the step; what is drawn for a sample one of these and its id, so that
    neither micro-batches nor processes change them. Nothing that the student draws has a way back for gradients. Where the model's context
    leaves less room than `sampling.tokens`, a response is shorter.

    Args:
        share: of the steps, in [0, 1].
        sampling: how the student writes.
        prompt: tokens of running text that it is given; dialogues bring their prompts.
        stop: tokens that end a response, besides those that the student names.
        vocabulary: tokens that mean something, see `generate`.
        labels: whether what it wrote may count as labels, `y`; else y is -100 there, and only a teacher speaks on it.

    Raises:
        BadInput: no share, or samples without prompts, such as packed windows.
    """
    if not 0 <= share <= 1:
        raise BadInput(f"on_policy={share}; expected a share of the steps, in [0, 1]")

    def view(step: Step, student: Model) -> Batch:
        prompts = prompts_in(step.batch, prompt)  # also where they are not used, so that what cannot be shows at the first step
        if not on_policy(step.clock, share):
            return step.batch
        responses = generate(student, prompts, _seeds(step), sampling, stop=stop, vocabulary=vocabulary, beyond="cut")
        made = responses_as_batch(prompts, responses, step.batch["id"])
        if "attention_mask" not in step.batch:
            del made["attention_mask"]
        if not labels:
            made["y"] = torch.full_like(made["y"], NOTHING)
        return {**made, **{name: step.batch[name] for name in OF_SAMPLES if name in step.batch}}

    return view


def on_policy(clock: Clock, share: float) -> bool:
    """Whether the student's own text is studied at a step."""
    drawn = torch.rand((), dtype=torch.float64, generator=generator("on-policy", clock.seed, clock.stage, clock.step))
    return bool(drawn < share)


def _seeds(step: Step) -> list[int]:
    """A seed for each sample; a sample that stands twice in a batch, at the border of two epochs, has two."""
    at, ids_B = step.clock, step.batch["id"]
    epochs_B = step.batch.get("view", torch.zeros_like(ids_B))
    assert isinstance(epochs_B, Tensor)
    return [
        derive("own-text", at.seed, at.stage, at.step, step.turn, id, epoch)
        for id, epoch in zip(ids_B.tolist(), epochs_B.tolist(), strict=True)
    ]
