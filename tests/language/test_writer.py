"""Answers of a model at hand against transformers' own generation from its own rendering of the chat."""

from __future__ import annotations

import pytest
import torch

pytest.importorskip("transformers")

import transformers

from tiny_causal import causal_folder
from tiny_tokenizers import END, letters
from tutelage.errors import BadInput
from tutelage.language import from_rows
from tutelage.language.answered import answered
from tutelage.language.sampling import Sampling
from tutelage.language.writer import Writer
from tutelage.students.causal import causal

GREEDY = Sampling(12, temperature=0)
ROWS = [{"messages": [{"role": "user", "content": f"{'ab' * i}?"}]} for i in (1, 7, 3, 2, 5)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return causal_folder(tmp_path_factory.mktemp("writer") / "model", seed=3)


def writer(folder, **how) -> Writer:
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    return Writer(causal(str(folder)), tokenizer, vocabulary=len(tokenizer), **how)


def asked(rows):
    return from_rows(rows, asked=True).train


def said(by: Writer, rows, sampling=GREEDY, seed=0):
    given = asked(rows)
    return dict(by.answers(given, range(len(given)), sampling, seed))


def own(folder, prompt: str, tokens: int) -> str:
    """What transformers itself makes of a prompt, the likeliest token each time."""
    model, tokenizer = (kind.from_pretrained(folder) for kind in (transformers.AutoModelForCausalLM, transformers.AutoTokenizer))
    ids = tokenizer(prompt, add_special_tokens=False, return_tensors="pt")
    ends = [tokenizer.eos_token_id, tokenizer.convert_tokens_to_ids(END)]
    made = model.eval().generate(**ids, do_sample=False, max_new_tokens=tokens, eos_token_id=ends, pad_token_id=0)
    return tokenizer.decode(made[0, ids["input_ids"].shape[1] :], skip_special_tokens=True)


@pytest.mark.parametrize("at_once", [1, 2, 16])
def test_chats_are_answered_as_transformers_would(folder, at_once):
    """From the prompt that its template makes, whatever stands beside a chat in a batch."""
    found = said(writer(folder, at_once=at_once), ROWS)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    for place, row in enumerate(ROWS):
        prompt = tokenizer.apply_chat_template(row["messages"], tokenize=False, add_generation_prompt=True)
        assert found[place].text == own(folder, prompt, 12)
        assert found[place].tokens == 12 or found[place].ended
    assert len({answer.text for answer in found.values()}) > 1


def test_later_turns_see_the_earlier_ones(folder):
    """An answer in the middle is part of what is asked; the last one is not."""
    first = [{"role": "user", "content": "a?"}, {"role": "assistant", "content": "b"}, {"role": "user", "content": "c?"}]
    rows = [{"messages": [*first, *more]} for more in ([], [{"role": "assistant", "content": "never read"}])]
    found = said(writer(folder), rows)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    assert found[0].text == own(folder, tokenizer.apply_chat_template(first, tokenize=False, add_generation_prompt=True), 12)
    assert found[1].text == found[0].text


def test_without_a_template_a_prompt_is_gone_on_from(tmp_path):
    """As the response would be joined to it in training."""
    folder = causal_folder(tmp_path / "plain", seed=3, tokenizer=letters(None))
    found = said(writer(folder), [{"prompt": "abc"}])
    assert found[0].text == own(folder, "abc", 12)


def test_running_text_is_gone_on_from_its_beginning(folder):
    """All of it is text to learn; that it stops at the limit says nothing."""
    found = said(writer(folder, prompt=4), [{"text": "abcdefgh"}, {"text": "abcdxxxx"}])
    assert found[0].text == found[1].text == "abcd" + own(folder, "abcd", 12)
    assert found[0].ended


def test_draws_are_each_dialogues_own(folder):
    """A row gets the same answer alone and among others, and another one under another seed."""
    by, sampling = writer(folder), Sampling(12)
    whole = said(by, ROWS, sampling)
    alone = dict(by.answers(asked(ROWS), [3], sampling, 0))
    assert alone[3] == whole[3]
    assert said(by, ROWS, sampling, seed=1) != whole


def test_a_prompt_that_the_model_cannot_read_is_refused_first(folder):
    """Before anything is written; it says which."""
    rows = [*ROWS, {"messages": [{"role": "user", "content": "a" * 80}]}]
    with pytest.raises(BadInput, match=r"dialogue 6 of .* takes \d+ tokens to ask, and .* reads 64 at most; leave it out, or shorten it"):
        said(writer(folder), rows)


def test_what_was_answered_by_another_model_is_not_taken(folder, tmp_path):
    """Kept answers belong to weights, not to a name."""
    text = [{"text": "abcdefgh"}]
    answered(asked(text), writer(folder), GREEDY, kept=tmp_path / "kept")
    other = writer(folder)
    with torch.no_grad():
        next(other.model.module.parameters()).add_(1)
    with pytest.raises(BadInput, match="holds answers to other questions, of another model"):
        answered(asked(text), other, GREEDY, kept=tmp_path / "kept")
