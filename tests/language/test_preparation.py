"""From rows to lessons: every choice reaches the tokens, and what was cut, dropped or read in a certain way is said."""

from __future__ import annotations

import pytest
import torch

import tiny_tokenizers as tiny
from tutelage.data import Data, Table
from tutelage.errors import BadInput
from tutelage.language import Lessons, from_rows, lessons, remarks_on

N = 20
CHATS = [{"messages": [{"role": "user", "content": f"ask {i}"}, {"role": "assistant", "content": f"say {i}"}]} for i in range(N)]
PAIRS = [{"prompt": f"ask {i}", "response": f" say {i}"} for i in range(N)]
TEXTS = [{"text": "once upon a time " * (i % 4 + 1)} for i in range(N)]


def learnt(data, tokenizer, split="train"):
    """What is to be predicted, by id."""
    source = getattr(data, split)
    batch = source.batch(torch.arange(len(source)))
    return {int(i): tokenizer.decode(y[y >= 0]) for i, y in zip(batch["id"], batch["y"], strict=True)}


def test_all_splits_become_lessons():
    tokenizer = tiny.letters()
    data = lessons(CHATS, tokenizer, length=64)
    said = [learnt(data, tokenizer, split) for split in ("train", "validation", "test")]
    assert [len(s) for s in said] == [14, 3, 3]
    assert {k: v for s in said for k, v in s.items()} == {i: f"say {i}{tiny.END}" for i in range(N)}
    assert data.class_count() is not None
    assert data.prepared == {
        "kind": "lessons", "length": 64, "packing": "none", "learn": "responses", "template": "own", "control": "text",
    }  # fmt: skip
    assert remarks_on(data) == []


@pytest.mark.parametrize(
    ("rows", "options", "expected"),
    [
        (CHATS, {"learn": "all"}, f"user\nask 3{tiny.END}\n{tiny.START}assistant\nsay 3{tiny.END}\n"),
        (CHATS, {"template": "turns"}, f" say 3{tiny.EOS}"),
        (PAIRS, {}, f" say 3{tiny.END}"),
        (PAIRS, {"template": "joined"}, f" say 3{tiny.EOS}"),
        (TEXTS, {}, "nce upon a time " + "once upon a time " * 3 + tiny.EOS),
        (TEXTS, {"length": 9}, "nce upon "),
        (TEXTS, {"length": 9, "cut": "start"}, f"a time {tiny.EOS}"),
    ],
)
def test_each_choice_reaches_the_tokens(rows, options, expected):
    tokenizer = tiny.letters()
    data = lessons(rows, tokenizer, **options)
    parts = {k: v for split in ("train", "validation", "test") for k, v in learnt(data, tokenizer, split).items()}
    assert parts[3].endswith(expected)


def test_windows_of_all_splits_have_numbers_of_their_own():
    """What is kept by id, of several splits, must not be mixed up."""
    data = lessons(TEXTS, tiny.letters(), length=32, packing="first-fit")
    ids = torch.cat([s.ids() for s in (data.train, data.validation, data.test)])
    assert ids.tolist() == list(range(len(ids)))
    assert "position_ids" in data.train.batch(torch.tensor([0]))
    again = lessons(TEXTS, tiny.letters(), length=32, packing="first-fit")
    assert again.fingerprint() == data.fingerprint()


def test_what_was_done_is_said_once():
    rows = [*PAIRS, {"prompt": "a", "response": ""}, {"prompt": "<|im_end|>", "response": "a"}, {"prompt": "c", "response": "d" * 40}]
    given = from_rows(rows, name="pairs", missing="drop", train=0.9, validation=0.05)
    said = remarks_on(lessons(given, tiny.letters(None), length=30))
    assert said[:3] == [
        "pairs: rows dropped, since each has an empty response: 1",
        "pairs: prompts joined with their responses as they are, since the tokenizer has no chat template: 22",
        "pairs: dialogues that hold names of control tokens, read as plain text (control=tokens reads them as tokens): 1",
    ]
    assert [s.partition(": ")[2] for s in said[3:]] == [s.partition(": ")[2] for s in said[3:] if "cut at the end: 1 of" in s]
    assert len(said) == 4
    said = remarks_on(lessons(given, tiny.letters(), control="tokens"))
    assert "pairs: prompts rendered with their responses by the chat template: 22" in said
    assert "pairs: dialogues that hold names of control tokens, read as tokens: 1" in said
    bare = "{% for m in messages %}{{ m.role + ': ' + m.content + '\n' }}{% endfor %}{% if add_generation_prompt %}assistant: {% endif %}"
    assert any("may not learn to stop: 20" in s for s in remarks_on(lessons(CHATS, tiny.letters(bare))))


def test_a_tokenizer_without_padding_will_do():
    bare = tiny.letters(pad_token=None, eos_token=None)
    assert bare.pad_token_id is None
    data = lessons(CHATS, bare)
    one, other = (learnt(d, bare) for d in (data, lessons(CHATS, tiny.letters())))
    assert one == other
    assert isinstance(data.train, Lessons)
    assert lessons(CHATS, tiny.letters(pad_token=None)).train.pad == tiny.letters().eos_token_id


def test_tables_of_text_become_lessons():
    table = Table({"text": [row["text"] for row in TEXTS]}, "t")
    data = lessons(Data(table), tiny.letters())
    assert len(data.train) == N
    assert data.validation is None


@pytest.mark.parametrize(("template", "ends"), [(tiny.CHATML, [tiny.END]), (tiny.MARKED, [tiny.END]), (tiny.INSTRUCT, [])])
def test_lessons_know_which_tokens_end_their_answers(template, ends):
    """Whoever writes answers must stop where those of the data do; the control tokens of questions end none."""
    tokenizer = tiny.letters(template)
    data = lessons(CHATS, tokenizer)
    assert data.train.stop == {tokenizer.convert_tokens_to_ids(t) for t in (*ends, tiny.EOS)}
    assert lessons(TEXTS, tokenizer).train.stop == {tokenizer.eos_token_id}


def test_tokens_that_the_model_does_not_know_are_refused():
    tokenizer = tiny.letters()
    end = tokenizer.convert_tokens_to_ids(tiny.END)
    with pytest.raises(BadInput, match=rf"data/train holds the token {end}, but the model knows {end:,} tokens"):
        lessons(CHATS, tokenizer, vocabulary=end)
    lessons(CHATS, tokenizer, vocabulary=end + 1)


@pytest.mark.parametrize(
    ("rows", "template", "options", "said"),
    [
        (CHATS, None, {}, "dialogue 1 of data/train: it is a chat of several messages"),
        (CHATS, tiny.FAILING, {}, "dialogue 1 of data/train: the chat template cannot render it"),
        (CHATS, tiny.CHATML, {"length": 8}, "data/train leaves nothing to learn: all positions of its 14 dialogues are masked within 8"),
        (CHATS, tiny.CHATML, {"length": 0}, "length=0"),
        (CHATS, tiny.CHATML, {"packing": "yes"}, "packing='yes'"),
        (CHATS, tiny.CHATML, {"learn": "prompts"}, "learn='prompts'"),
        ([{"label": 1}], tiny.CHATML, {}, "expected messages"),
    ],
)
def test_bad_choices_are_one_sentence(rows, template, options, said):
    with pytest.raises(BadInput, match=said) as raised:
        lessons(rows, tiny.letters(template), **options)
    assert "\n" not in str(raised.value)
