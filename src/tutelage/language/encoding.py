"""From rendered dialogues to token ids, and which of the tokens are learnt.

A text is split into tokens as a whole, as the tokenizer would. Only where a token would reach across the border of an answer (or across a
place that the text must not be read across) is the text cut there, which is also what a model sees that continues the prompt.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from tutelage.errors import BadInput, TutelageError
from tutelage.language.chat import Rendered, Script
from tutelage.language.rows import Dialogue

CHUNK = 256
"""Dialogues that are given to the tokenizer at once."""

OPTIONS: dict[str, Any] = {"add_special_tokens": False, "return_attention_mask": False, "return_token_type_ids": False, "verbose": False}


class Encoder:
    """Splits dialogues into tokens.

    Args:
        script: how they become text.
    """

    def __init__(self, script: Script) -> None:
        self.script, self.tokenizer = script, script.tokenizer
        self.offsets = bool(getattr(self.tokenizer, "is_fast", False))
        self.first = _first(self.tokenizer)
        self.marker = self._marker()

    def encoded(self, dialogues: Sequence[Dialogue], name: str) -> Iterator[tuple[np.ndarray, np.ndarray, bool]]:
        """Split dialogues into tokens.

        Args:
            dialogues: what to split.
            name: how messages call them.

        Yields:
            For each: token ids, int32 (T,); whether each is to be learnt, bool (T,); whether the last answer is ended by a control token.

        Raises:
            BadInput: no end-of-sequence token where one is needed, or a dialogue that cannot be rendered, which is named.
        """
        if self.tokenizer.eos_token_id is None and any(self.script.adds(d)[0] for d in dialogues):
            raise BadInput(
                f"{name} cannot be ended: the tokenizer has no end-of-sequence token, without which a student would not learn to stop; "
                "name one in its tokenizer_config.json (eos_token)"
            )
        for start in range(0, len(dialogues), CHUNK):
            some = dialogues[start : start + CHUNK]
            rendered = []
            for number, dialogue in enumerate(some, start + 1):
                try:
                    rendered.append(self.script.rendered(dialogue))
                except TutelageError as error:
                    raise type(error)(f"dialogue {number:,} of {name}: {error}") from None
            for dialogue, text, (ids, learnt) in zip(some, rendered, self._split(rendered), strict=True):
                yield *self._with_ends(dialogue, ids, learnt), text.ends

    def _with_ends(self, dialogue: Dialogue, ids: np.ndarray, learnt: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Add the beginning and the end where they are missing."""
        begins, ends = self.script.adds(dialogue)
        if begins and self.first and ids[: len(self.first)].tolist() != self.first:
            ids = np.concatenate([np.array(self.first, dtype=np.int32), ids])
            learnt = np.concatenate([np.full(len(self.first), self.script.learn == "all"), learnt])
        if ends and (not len(ids) or ids[-1] != self.tokenizer.eos_token_id):
            ids = np.append(ids, np.int32(self.tokenizer.eos_token_id))
            learnt = np.append(learnt, True)
        return ids, learnt

    def _split(self, rendered: Sequence[Rendered]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        if not self.offsets:
            for text in rendered:
                yield self._cut(text, {*text.cuts, *(place for span in text.answers for place in span)})
            return
        whole = [i for i, text in enumerate(rendered) if not text.cuts]
        made = self.tokenizer([rendered[i].text for i in whole], return_offsets_mapping=True, **OPTIONS) if whole else {}
        place = {i: row for row, i in enumerate(whole)}
        for i, text in enumerate(rendered):
            if i not in place:
                yield self._cut(text, set(text.cuts))
                continue
            ids, spans = _ids(made["input_ids"][place[i]]), _tiled(made["offset_mapping"][place[i]])
            crossed = _crossed(spans, text)
            yield self._cut(text, crossed) if crossed else (ids, _learnt(spans, text.answers))

    def _cut(self, text: Rendered, cuts: set[int]) -> tuple[np.ndarray, np.ndarray]:
        """Split a text piece by piece."""
        while True:
            borders = sorted({0, len(text.text), *cuts})
            pieces = [self._piece(text.text, begin, end) for begin, end in itertools.pairwise(borders)]
            ids = np.concatenate([p[0] for p in pieces] or [np.empty(0, np.int32)])
            spans = np.concatenate([p[1] for p in pieces] or [np.empty((0, 2), np.int64)])
            crossed = _crossed(spans, text) - cuts if self.offsets else set()
            if not crossed:
                return ids, _learnt(spans, text.answers)
            cuts = cuts | crossed

    def _piece(self, text: str, begin: int, end: int) -> tuple[np.ndarray, np.ndarray]:
        """The tokens of a piece and where they stand. What is no beginning of a text is split behind a control token, or some tokenizers
        would put a space before it.
        """
        before, number = self.marker if begin and self.marker else ("", None)
        made = self.tokenizer(before + text[begin:end], return_offsets_mapping=self.offsets, **OPTIONS)
        ids = _ids(made["input_ids"])
        marked = int(before != "" and ids[0] == number)
        if not self.offsets:  # a piece lies wholly within an answer, or wholly outside
            return ids[marked:], np.tile(np.array([[begin, end]], dtype=np.int64), (len(ids) - marked, 1))
        spans = np.array(made["offset_mapping"], dtype=np.int64).reshape(-1, 2) - len(before)
        return ids[marked:], _tiled(spans[marked:]) + begin

    def _marker(self) -> tuple[str, int] | None:
        """A control token that is read as one wherever it stands, by name and id."""
        swallow = {str(t) for t in getattr(self.tokenizer, "added_tokens_decoder", {}).values() if getattr(t, "rstrip", False)}
        for name in self.script.named:
            if name not in swallow and self.tokenizer(name, **OPTIONS)["input_ids"] == [self.tokenizer.convert_tokens_to_ids(name)]:
                return name, self.tokenizer.convert_tokens_to_ids(name)
        return None


def _first(tokenizer: Any) -> list[int]:
    """The tokens that the tokenizer puts before any text by itself, such as the beginning of the sequence."""
    plain = tokenizer("a", add_special_tokens=False)["input_ids"]
    whole = tokenizer("a")["input_ids"]
    size = len(plain)
    return next((whole[:i] for i in range(len(whole) - size + 1) if whole[i : i + size] == plain), []) if size else []


def _ids(ids: Sequence[int]) -> np.ndarray:
    return np.array(ids, dtype=np.int32)


def _tiled(spans: Any) -> np.ndarray:
    """Where tokens stand, (T, 2) in characters, without gaps: some tokenizers leave white space out of what they say, though a token holds
    it; it is taken as the next one's.
    """
    found = np.array(spans, dtype=np.int64).reshape(-1, 2)
    found[1:, 0] = np.minimum(found[1:, 0], np.maximum.accumulate(found[:, 1])[:-1])
    return found


def _crossed(spans: np.ndarray, text: Rendered) -> set[int]:
    """Borders of answers that a token reaches across."""
    begins, ends = spans[:, 0], spans[:, 1]
    borders = {place for span in text.answers for place in span}
    return {place for place in borders if ((begins < place) & (ends > place)).any()}


def _learnt(spans: np.ndarray, answers: Sequence[tuple[int, int]]) -> np.ndarray:
    learnt = np.zeros(len(spans), dtype=bool)
    for begin, end in answers:
        learnt |= (spans[:, 0] >= begin) & (spans[:, 0] < end) & (spans[:, 1] <= end)
    return learnt
