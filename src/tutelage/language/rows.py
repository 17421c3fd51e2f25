"""From rows of a table to dialogues: which columns hold what, and which rows cannot be learnt from.

A dialogue is what one row says: a chat of several messages, a prompt with its response, or running text.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from tutelage.errors import BadInput, nearest, printable

Kind = Literal["chat", "pair", "text"]
"""What a dialogue was in its row: `messages`, a prompt with a response, or `text`."""

Missing = Literal["refuse", "drop"]
"""What becomes of rows that lack something: a value, a prompt, an answer."""

ROLES = ("system", "user", "assistant")
RENAMED = {"human": "user", "gpt": "assistant", "bot": "assistant", "model": "assistant", "developer": "system"}
FORMS = (("messages",), ("prompt", "response"), ("prompt", "completion"), ("instruction", "output"), ("text",))
"""Columns that are looked for, the first that are there: some tables have a prompt beside their messages, or a text made of the pair."""
ASKED_FORMS = (("messages",), ("prompt",), ("instruction",), ("text",))
"""Likewise, where answers are yet to be written."""
UNANSWERED = "?"
"""What stands for an answer that is yet to be written."""


@dataclass(frozen=True, slots=True)
class Dialogue:
    """What one row says.

    Args:
        kind: what it was in the row.
        messages: (role, content) in order; a pair is one of the user and one of the assistant, text is one of the role "text".
    """

    kind: Kind
    messages: tuple[tuple[str, str], ...]


def form_of(present: Sequence[str], columns: Sequence[str], name: str, asked: bool = False) -> tuple[str, ...]:
    """The columns to read.

    Args:
        present: the columns of the table.
        columns: those the user named: one of messages or of text, or two, a prompt and its response; none to find them by their names.
        name: how messages call the table.
        asked: whether answers are yet to be written, so that only what asks for them is read.

    Raises:
        BadInput: none of the known columns, a named one that is not there, or more than two.
    """
    if len(columns) > 2:
        raise BadInput(f"{name}: {len(columns)} columns are named; expected one (messages or text), or two (a prompt and its response)")
    for column in columns:
        if column not in present:
            raise BadInput(f"{name} has no column {column!r}{nearest(column, present)}; its columns are {_listed(present)}")
    if columns:
        return tuple(columns[:1] if asked else columns)
    found = next((form for form in (ASKED_FORMS if asked else FORMS) if all(c in present for c in form)), None)
    if found is None:
        pairs = "prompt, instruction" if asked else "prompt and response (or completion), instruction and output,"
        raise BadInput(
            f"{name} has the columns {_listed(present)}; expected messages, {pairs} or text: "
            "rename them, or name the ones to read with --data.columns"
        )
    if found[0] == "instruction" and "input" in present:
        return (*found, "input")
    return found


def dialogues_in(
    columns: Mapping[str, Sequence[Any]], name: str, missing: Missing = "refuse", asked: bool = False
) -> tuple[list[Dialogue | None], Counter[str]]:
    """Read the rows of a table.

    Args:
        columns: those of `form_of`, in its order, each with one value a row.
        name: how messages call the table.
        missing: whether rows that lack something are refused, or dropped.
        asked: whether answers are yet to be written: each dialogue then ends with `UNANSWERED`, whatever was answered before. Of a column
            of strings, "text" is running text, and any other holds prompts.

    Returns:
        A dialogue for each row, None where it is dropped; how many lack what.

    Raises:
        BadInput: a row that lacks something where that is refused, or that holds something else than text or messages.
    """
    if missing not in ("refuse", "drop"):
        raise BadInput(f"{name}: missing={missing!r}; expected refuse or drop")
    lacks: Counter[str] = Counter()
    first: dict[str, int] = {}
    found: list[Dialogue | None] = []
    for number, values in enumerate(zip(*columns.values(), strict=True), 1):
        try:
            found.append((_asked if asked else _read)(dict(zip(columns, values, strict=True))))
        except _Lacks as lack:
            lacks[str(lack)] += 1
            first.setdefault(str(lack), number)
            found.append(None)
        except BadInput as error:
            raise BadInput(f"row {number:,} of {name}: {error}") from None
    if lacks and missing == "refuse":
        what, number = next(iter(first.items()))
        more = f" (so it is with {lacks.total() - 1:,} more of {len(found):,} rows)" if lacks.total() > 1 else ""
        raise BadInput(f"row {number:,} of {name} {what}{more}; mend such rows, or leave them out with --data.missing drop")
    return found, lacks


class _Lacks(Exception):
    """What a row lacks."""


def _read(row: Mapping[str, Any]) -> Dialogue:
    values = list(row.items())
    if len(values) == 1:
        column, value = values[0]
        if _is_missing(value):
            raise _Lacks(f"lacks its {column}")
        if isinstance(value, str):
            return Dialogue("text", (("text", _text(value, column)),))
        said = _messages(value, column)
        if not any(role == "assistant" for role, _ in said):
            raise _Lacks("has no message of the assistant to learn from")
        return Dialogue("chat", said)
    (first, prompt), (second, response), *more = values
    prompt, response = _text(prompt, first), _text(response, second)
    return Dialogue("pair", (("user", _with_input(prompt, more)), ("assistant", response)))


def _asked(row: Mapping[str, Any]) -> Dialogue:
    """What a row asks, with nothing known of the answer."""
    (column, value), *more = row.items()
    if _is_missing(value):
        raise _Lacks(f"lacks its {column}")
    if column == "text" and isinstance(value, str):
        return Dialogue("text", (("text", _text(value, column)),))
    answer = ("assistant", UNANSWERED)
    if isinstance(value, str):
        return Dialogue("pair", (("user", _with_input(_text(value, column), more)), answer))
    said = _messages(value, column)
    before = said[:-1] if said[-1][0] == "assistant" else said
    if not before:
        raise _Lacks("asks nothing")
    return Dialogue("chat", (*before, answer))


def _with_input(prompt: str, more: Sequence[tuple[str, Any]]) -> str:
    """A prompt, with what it is about where that stands in a column of its own."""
    extra = more[0][1] if more else None
    return prompt if _is_missing(extra) or extra == "" else f"{prompt}\n\n{_text(extra, more[0][0])}"


def _messages(value: Any, column: str) -> tuple[tuple[str, str], ...]:
    value = value.tolist() if hasattr(value, "tolist") else value  # Parquet gives arrays
    if not isinstance(value, (list, tuple)):
        raise BadInput(f"{column!r} is {_called(value)}; expected text, or a list of messages, each with a role and a content")
    if not value:
        raise _Lacks(f"lacks its {column}")
    return tuple(_message(message, place) for place, message in enumerate(value, 1))


def _message(message: Any, place: int) -> tuple[str, str]:
    if not isinstance(message, Mapping) or "role" not in message or "content" not in message:
        shown = f"a mapping of {_listed(list(message))}" if isinstance(message, Mapping) else _called(message)
        raise BadInput(f"message {place} is {shown}; expected a role and a content")
    role, content = message["role"], message["content"]
    if role not in ROLES:
        called = f"; call it {RENAMED[role]!r}" if isinstance(role, str) and role in RENAMED else ""
        raise BadInput(f"message {place} has the role {printable(str(role))[:40]!r}; expected system, user or assistant{called}")
    if _is_missing(content):
        raise _Lacks(f"has a message of the {role} without content")
    if role == "system" and content == "":
        return role, content
    return role, _text(content, "answer" if role == "assistant" else f"message of the {role}")


def _text(value: Any, called: str) -> str:
    if _is_missing(value):
        raise _Lacks(f"lacks its {called}")
    if not isinstance(value, str):
        hint = "; lists of messages belong under 'messages', prompt and response in one" if isinstance(value, (list, tuple)) else ""
        raise BadInput(f"its {called} is {_called(value)}; expected text{hint}")
    if not value.strip():
        raise _Lacks(f"has an empty {called}")
    try:
        value.encode("utf8")
    except UnicodeEncodeError:
        raise BadInput(f"its {called} holds half of a character (a lone surrogate), which no tokenizer can read; mend the file") from None
    return value


def _is_missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and value != value) or type(value).__name__ in ("NAType", "NaTType")


def _called(value: Any) -> str:
    return f"of type {type(value).__name__}"


def _listed(names: Iterable[Any]) -> str:
    listed = list(names)
    return ", ".join(printable(repr(n)) for n in listed[:12]) + (", ..." if len(listed) > 12 else "")
