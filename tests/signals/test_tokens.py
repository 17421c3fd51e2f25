"""A model's own view of text."""

from __future__ import annotations

import pytest
import torch

from tutelage.errors import BadInput
from tutelage.signals import tokens
from tutelage.signals.tokens import Tokens


class Words:
    """A tokenizer with Hugging Face's interface: words by length, ends marked by 1 and 2."""

    pad_token_id, padding_side = 9, "right"

    def __init__(self):
        self.seen: list[str] = []

    def __call__(self, first, second, truncation, max_length):
        assert truncation
        self.seen += first
        ids = [[*[1, *(100 + len(w) for w in t.split())][: max_length - 1], 2] for t in first]
        return {"input_ids": ids, "attention_mask": [[1] * len(i) for i in ids]}


def batch(*texts: str) -> dict:
    return {"id": torch.arange(len(texts)), "text": list(texts), "y": torch.zeros(len(texts))}


def test_texts_are_padded_to_a_multiple_of_eight():
    """With the tokenizer's own padding, on its own side."""
    made = Tokens(Words)(batch("a bb", "ccc"))
    assert made["input_ids"].tolist() == [[1, 101, 102, 2, 9, 9, 9, 9], [1, 103, 2, 9, 9, 9, 9, 9]]
    assert made["attention_mask"].tolist() == [[1, 1, 1, 1, 0, 0, 0, 0], [1, 1, 1, 0, 0, 0, 0, 0]]
    left = Words()
    left.padding_side = "left"
    assert Tokens(lambda: left)(batch("ccc"))["input_ids"].tolist() == [[9, 9, 9, 9, 9, 1, 103, 2]]


def test_each_text_is_split_once():
    """The second epoch finds what the first has split; a full memory is emptied, not overrun."""
    words = Words()
    make = Tokens(lambda: words)
    first = make(batch("a", "bb", "a"))
    again = make(batch("bb", "a", "a"))
    assert words.seen == ["a", "bb"]
    assert torch.equal(first["input_ids"][0], again["input_ids"][1])


def test_the_memory_has_a_bound(monkeypatch):
    """A stream of new texts does not fill the machine."""
    monkeypatch.setattr(tokens, "REMEMBERED", 3)
    make = Tokens(Words)
    for i in range(10):
        assert make(batch("x" * (i + 1)))["input_ids"][0, 1] == 101 + i
        assert len(make._known) <= 3


def test_bad_input_is_refused():
    """A batch of images, and a maximum that leaves no text."""
    with pytest.raises(BadInput, match="column of strings called 'text'"):
        Tokens(Words)({"id": torch.arange(2), "x": torch.zeros(2, 1)})
    with pytest.raises(BadInput, match="at least 2"):
        Tokens(Words, max_length=1)


def test_the_tokenizer_is_loaded_when_it_is_needed():
    """Making a handle reads nothing."""
    Tokens(lambda: pytest.fail("loaded"))
