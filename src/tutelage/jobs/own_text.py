"""What language models write on their own: numbers of it, and texts side by side, for the report. Shapes: B batch, T positions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from tutelage.data import Data, Source
from tutelage.errors import BadInput, NotFinite, TutelageError
from tutelage.language import Lessons
from tutelage.language.free_running import answers, distinct, ended, measure_own_text, repetition, side_by_side
from tutelage.language.generation import stops_of
from tutelage.language.sampling import Sampling
from tutelage.signals import Batch, Model
from tutelage.signals.reading import Reading
from tutelage.students.hf import tokenizer_of
from tutelage.teachers import Teacher

PROMPTS, TOKENS, RUNNING = 16, 48, 24
"""Prompts that are answered, tokens of an answer at most, and tokens of running text that are given."""
SHOWN = 4
"""Texts that stand side by side."""


def own_text(
    models: Mapping[str, Model | Teacher], source: Source, data: Data, seed: int, device: torch.device, *, judge: str | None = None
) -> tuple[dict[str, Any] | None, dict[str, dict[str, float]]]:
    """Let each model write on from the same prompts, and measure what it wrote.

    Args:
        models: by name; those that are no single model, such as cached teachers, write nothing.
        source: where the prompts come from.
        data: says how tokens are read as text.
        seed: of what is drawn.
        device: where to compute.
        judge: name of the teacher that the others' texts are judged by; one that cannot be asked about new text judges nothing.

    Returns:
        `prompts`, `tokens` and `temperature` of the writing, and `samples`: of each its `id`, `prompt`, and `responses` by name, empty
        where tokens cannot be read as text; None where nobody can write, such as after packed dialogues. And by name, the numbers
        `own_teacher_nll` and `own_sequence_kl` (see `measure_own_text`), `repetition` of 4-grams and `distinct` pairs; and `ended`,
        where there is a token that ends a text.
    """
    writers = {name: each for name, each in models.items() if isinstance(each, Model)}
    stop = source.stop if isinstance(source, Lessons) else ()
    vocabulary = data.prepared.get("vocabulary")
    sampling = Sampling(TOKENS)
    how: dict[str, Any] = {"samples": PROMPTS, "prompt": RUNNING, "stop": stop, "vocabulary": vocabulary, "seed": seed, "device": device}
    try:
        written = {name: answers(model, FirstDocuments(source), sampling, **how) for name, model in writers.items()}
    except (BadInput, NotFinite):  # no prompts, or no room after them; the other numbers stand for themselves
        return None, {}
    if not written:
        return None, {}
    numbers: dict[str, dict[str, float]] = {}
    teacher = writers.get(judge or "")
    for name, each in written.items():
        found = {"repetition": repetition(each.responses), "distinct": distinct(each.responses)}
        ends = {*stop, *stops_of(writers[name])}
        if ends:
            found["ended"] = ended(each.responses, ends)
        if teacher is not None:
            masked = isinstance(writers[name].preprocessing, Reading) and isinstance(teacher.preprocessing, Reading)
            own = measure_own_text(writers[name], teacher, each, masked=masked, device=device)
            found |= {"own_teacher_nll": own["teacher_nll"], "own_sequence_kl": own["sequence_kl"]}
        numbers[name] = {key: value for key, value in found.items() if value is not None}
    read = reader_of(data, writers)
    samples = [] if read is None else side_by_side(written, read, SHOWN)
    size = len(next(iter(written.values())).prompts)
    return {"prompts": size, "tokens": TOKENS, "temperature": sampling.temperature, "samples": samples}, numbers


class FirstDocuments(Source):
    """A source of tokens, of packed windows only the first document of each: what follows it is no prompt.

    Args:
        whole: the source.
    """

    def __init__(self, whole: Source) -> None:
        self.whole, self.name = whole, whole.name

    def __len__(self) -> int:
        return len(self.whole)

    def batch(self, positions: Tensor, *, seed: int = 0, views: Tensor | None = None) -> Batch:
        """Read samples; other documents are padding."""
        batch = dict(self.whole.batch(positions, seed=seed, views=views))
        places_BT = batch.pop("position_ids", None)
        if not isinstance(places_BT, Tensor):
            return batch
        first_BT = (places_BT == 0).cumsum(1) == 1
        y_BT = batch["y"]
        assert isinstance(y_BT, Tensor)
        y_BT = torch.where(first_BT, y_BT, -100)
        return {**batch, "attention_mask": first_BT.long(), "y": y_BT, "mask": y_BT != -100}

    def labels(self) -> Tensor | None:
        """Those of the whole."""
        return self.whole.labels()

    def ids(self) -> Tensor:
        """Those of the whole."""
        return self.whole.ids()

    def fingerprint(self) -> str:
        """That of the whole: nothing else is read."""
        return self.whole.fingerprint()


def reader_of(data: Data, models: Mapping[str, Any]) -> Callable[[Sequence[int]], str] | None:
    """What reads tokens of the data as text; None where nothing can."""
    read = getattr(data.train, "text", None)
    if callable(read):
        return read
    for model in models.values():
        if isinstance(model, Model) and isinstance(model.preprocessing, Reading):
            return model.preprocessing.tokenizer.decode
    place = data.prepared.get("tokenizer")
    try:
        return tokenizer_of(place).decode if isinstance(place, str) else None
    except TutelageError:
        return None
