"""Rows become dialogues; what cannot be learnt from is named with its row."""

from __future__ import annotations

import numpy as np
import pytest

from tutelage.errors import BadInput
from tutelage.language.rows import UNANSWERED, Dialogue, dialogues_in, form_of

ASKED = {"role": "user", "content": "hi"}
ANSWERED = {"role": "assistant", "content": "hello"}


@pytest.mark.parametrize(
    ("present", "form"),
    [
        (["messages"], ("messages",)),
        (["prompt", "prompt_id", "messages"], ("messages",)),
        (["response", "prompt", "score"], ("prompt", "response")),
        (["prompt", "completion"], ("prompt", "completion")),
        (["instruction", "input", "output", "text"], ("instruction", "output", "input")),
        (["instruction", "output"], ("instruction", "output")),
        (["text", "prompt"], ("text",)),
    ],
)
def test_the_fullest_form_is_read(present, form):
    """A table of chats often has their first prompt beside them; taken for a text, a student would never see an answer."""
    assert form_of(present, (), "data") == form


def test_named_columns_win():
    assert form_of(["messages", "question", "answer"], ("question", "answer"), "data") == ("question", "answer")


@pytest.mark.parametrize(
    ("present", "columns", "said"),
    [
        (["label", "x"], (), r"has the columns 'label', 'x'; expected messages, prompt and response"),
        (["question", "answer"], ("question", "anser"), "no column 'anser'; nearest: 'answer'"),
        (["a", "b", "c"], ("a", "b", "c"), "3 columns are named"),
    ],
)
def test_other_columns_are_refused(present, columns, said):
    with pytest.raises(BadInput, match=said):
        form_of(present, columns, "data")


def test_each_form_becomes_a_dialogue():
    chat, _ = dialogues_in({"messages": [[ASKED, ANSWERED], np.array([ASKED, ANSWERED])]}, "data")
    assert chat == [Dialogue("chat", (("user", "hi"), ("assistant", "hello")))] * 2
    pair, _ = dialogues_in({"prompt": ["a"], "response": [" b"]}, "data")
    assert pair == [Dialogue("pair", (("user", "a"), ("assistant", " b")))]
    more, _ = dialogues_in({"instruction": ["a", "a"], "output": ["b", "b"], "input": ["c", None]}, "data")
    assert [d.messages[0][1] for d in more] == ["a\n\nc", "a"]
    text, _ = dialogues_in({"text": ["once"]}, "data")
    assert text == [Dialogue("text", (("text", "once"),))]


MISSING = [
    ({"text": [None]}, "lacks its text"),
    ({"text": [float("nan")]}, "lacks its text"),
    ({"text": ["  \n"]}, "has an empty text"),
    ({"prompt": [""], "response": ["b"]}, "has an empty prompt"),
    ({"prompt": ["a"], "response": [""]}, "has an empty response"),
    ({"prompt": ["a"], "response": [float("nan")]}, "lacks its response"),
    ({"messages": [None]}, "lacks its messages"),
    ({"messages": [[]]}, "lacks its messages"),
    ({"messages": [[ASKED]]}, "no message of the assistant"),
    ({"messages": [[ASKED, {"role": "assistant", "content": ""}]]}, "has an empty answer"),
    ({"messages": [[ASKED, {"role": "assistant", "content": None}]]}, "message of the assistant without content"),
]


@pytest.mark.parametrize(("columns", "said"), MISSING)
def test_a_row_that_lacks_something_is_refused_or_dropped(columns, said):
    """An empty answer would teach a student to end at once."""
    with pytest.raises(BadInput, match=f"row 1 of data .*{said}.*--data.missing drop"):
        dialogues_in(columns, "data")
    dialogues, lacks = dialogues_in(columns, "data", "drop")
    assert dialogues == [None]
    assert sum(lacks.values()) == 1
    assert said in next(iter(lacks))


def test_how_many_rows_lack_something_is_said():
    columns = {"prompt": ["a", "b", "c"], "response": ["x", "", None]}
    with pytest.raises(BadInput, match=r"row 2 of data has an empty response \(so it is with 1 more of 3 rows\)"):
        dialogues_in(columns, "data")
    dialogues, lacks = dialogues_in(columns, "data", "drop")
    assert [d is None for d in dialogues] == [False, True, True]
    assert lacks == {"has an empty response": 1, "lacks its response": 1}


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"text": [3]}, "'text' is of type int"),
        ({"prompt": [[ASKED]], "response": ["b"]}, "prompt is of type list; expected text; lists of messages belong under 'messages'"),
        ({"messages": [["hi"]]}, "message 1 is of type str; expected a role and a content"),
        ({"messages": [[{"from": "human", "value": "hi"}]]}, "message 1 is a mapping of 'from', 'value'"),
        ({"messages": [[{"role": "gpt", "content": "hi"}]]}, "role 'gpt'; expected system, user or assistant; call it 'assistant'"),
        ({"messages": [[{"role": None, "content": "hi"}]]}, "role 'None'"),
        ({"messages": [[ASKED, {"role": "assistant", "content": [{"type": "text"}]}]]}, "answer is of type list; expected text"),
        ({"text": ["\ud800"]}, "half of a character"),
        ({"messages": [{"role": "user", "content": "hi"}]}, "'messages' is of type dict"),
    ],
)
@pytest.mark.parametrize("missing", ["refuse", "drop"])
def test_what_is_no_text_and_no_messages_is_refused(columns, said, missing):
    """Dropping such rows would hide that a table has another form than was thought."""
    with pytest.raises(BadInput, match=said) as raised:
        dialogues_in(columns, "data", missing)
    assert str(raised.value).startswith("row 1 of data: ")


def test_an_unknown_choice_is_refused():
    with pytest.raises(BadInput, match="missing='fill'; expected refuse or drop"):
        dialogues_in({"text": ["a"]}, "data", "fill")


ASKS = {
    "a chat goes up to its last answer": ({"messages": [[ASKED, ANSWERED]]}, "chat", (("user", "hi"),)),
    "a chat may end with a question": (
        {"messages": [[ASKED, ANSWERED, ASKED]]},
        "chat",
        (("user", "hi"), ("assistant", "hello"), ("user", "hi")),
    ),
    "a prompt needs no response": ({"prompt": ["a"]}, "pair", (("user", "a"),)),
    "an instruction with what it is about": ({"instruction": ["a"], "input": ["c"]}, "pair", (("user", "a\n\nc"),)),
    "an instruction without": ({"instruction": ["a"], "input": [None]}, "pair", (("user", "a"),)),
    "any named column holds prompts": ({"question": ["a"]}, "pair", (("user", "a"),)),
}


@pytest.mark.parametrize(("columns", "kind", "before"), ASKS.values(), ids=ASKS.keys())
def test_rows_that_wait_for_an_answer(columns, kind, before):
    """Whatever was answered before must neither be needed nor seen."""
    (found,), lacks = dialogues_in(columns, "data", asked=True)
    assert found == Dialogue(kind, (*before, ("assistant", UNANSWERED)))
    assert not lacks


def test_running_text_waits_for_none():
    assert dialogues_in({"text": ["once"]}, "data", asked=True)[0] == [Dialogue("text", (("text", "once"),))]


@pytest.mark.parametrize(
    ("present", "columns", "form"),
    [
        (["prompt", "response"], (), ("prompt",)),
        (["instruction", "input", "output"], (), ("instruction", "input")),
        (["text", "prompt", "messages"], (), ("messages",)),
        (["question", "answer"], ("question", "answer"), ("question",)),
    ],
)
def test_of_rows_that_wait_only_what_asks_is_read(present, columns, form):
    assert form_of(present, columns, "data", asked=True) == form


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"messages": [[ANSWERED]]}, "row 1 of data asks nothing"),
        ({"prompt": [None]}, "row 1 of data lacks its prompt"),
        ({"prompt": [" "]}, "row 1 of data has an empty prompt"),
        ({"prompt": [3]}, "row 1 of data: 'prompt' is of type int"),
    ],
)
def test_a_row_that_asks_nothing_is_refused_or_dropped(columns, said):
    with pytest.raises(BadInput, match=said):
        dialogues_in(columns, "data", asked=True)


def test_columns_that_ask_nothing_are_refused():
    with pytest.raises(BadInput, match="has the columns 'x'; expected messages, prompt, instruction or text"):
        form_of(["x"], (), "data", asked=True)
