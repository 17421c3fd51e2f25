"""From dialogues to the text that a model reads, and where in it the answers stand.

A chat is rendered by a template, the tokenizer's own or another. Where the template marks what the assistant says (`{% generation %}`), its
marks are used; else what is rendered up to each answer is compared with the whole. Nothing here knows tokens but the names of control
tokens: where the user's text holds such a name, a token must not reach across the place after its first letter, so it stays text.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tutelage.errors import BadInput, MissingFile, TutelageError, in_short
from tutelage.language.rows import Dialogue

Learn = Literal["responses", "last", "all"]
"""Which tokens are learnt: those of all answers, of each dialogue's last answer, or all. Of running text all are, whatever is said here."""

Control = Literal["text", "tokens"]
"""What a control token's name in the rows becomes: plain text, or the token, for rows that were rendered before."""

OWN, JOINED, TURNS = "own", "joined", "turns"

LINES = (
    "{% for message in messages %}{% if message['role'] == 'assistant' %}Assistant:"
    "{% generation %}{{ ' ' + message['content'] + eos_token }}{% endgeneration %}{{ '\n' }}"
    "{% else %}{{ message['role'] | capitalize + ': ' + message['content'] + '\n' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}Assistant:{% endif %}"
)
"""The template "turns": plain text, a line for each message, answers ended by the end-of-sequence token."""

_MARKED = re.compile(r"\{%-?\s*generation\s*-?%\}")


@dataclass(frozen=True, slots=True)
class Rendered:
    """A dialogue as one text.

    Args:
        text: what the model reads.
        answers: where in it stands what is to be learnt: (begin, end) in characters, in order.
        cuts: places that no token may reach across.
        ends: whether the last answer is ended by a control token, its template's or one that is added.
    """

    text: str
    answers: tuple[tuple[int, int], ...]
    cuts: tuple[int, ...] = ()
    ends: bool = True


class Script:
    """How dialogues become text for one tokenizer.

    Args:
        tokenizer: Hugging Face's interface.
        template: "own" (the tokenizer's chat template; a prompt and its response are joined as they are where it has none), "joined" (a
            prompt directly followed by its response), "turns" (plain text, a line for each message), a file with a Jinja template, or the
            template itself.
        learn: which tokens are learnt.
        control: what becomes of names of control tokens in the rows.

    Raises:
        BadInput: no such template, or one of the other choices is none.
        MissingFile: no such file.
    """

    def __init__(self, tokenizer: Any, template: str = OWN, learn: Learn = "responses", control: Control = "text") -> None:
        if learn not in ("responses", "last", "all"):
            raise BadInput(f"learn={learn!r}; expected responses, last or all")
        if control not in ("text", "tokens"):
            raise BadInput(f"control={control!r}; expected text or tokens")
        self.tokenizer, self.template, self.learn, self.control = tokenizer, template, learn, control
        self.source = _source(tokenizer, template)
        self.named = [n for n in control_tokens(tokenizer) if len(n) > 1]
        self._names = re.compile("|".join(map(re.escape, self.named))) if self.named else None
        self._announces: bool | None = None

    def adds(self, dialogue: Dialogue) -> tuple[bool, bool]:
        """Whether a beginning and an end are to be added to its tokens: a chat template has its own."""
        plain = dialogue.kind == "text" or self.source is None
        return plain or self.template == TURNS, plain

    def names_control(self, dialogue: Dialogue) -> bool:
        """Whether a control token's name stands in what was said."""
        return self._names is not None and any(self._names.search(content) for _, content in dialogue.messages)

    def rendered(self, dialogue: Dialogue) -> Rendered:
        """The dialogue as text, with the places of what is to be learnt.

        Raises:
            BadInput: a chat without a template, a template that fails, or one that does not let its answers be found.
        """
        if dialogue.kind == "text" or (dialogue.kind == "pair" and self.source is None):
            return self._joined(dialogue)
        if self.source is None:
            has = "with template=joined" if self.template == JOINED else "and the tokenizer has no chat template"
            raise BadInput(
                f"it is a chat of several messages, {has}; choose template=turns (plain text, a line for each message), "
                "or give a file with the Jinja template that the model was trained with (template=FILE.jinja)"
            )
        mark = self._mark(dialogue)
        messages = [{"role": role, "content": self._broken(content, mark)} for role, content in dialogue.messages]
        if _MARKED.search(self.source):
            text, answers = self._marked(messages)
        else:
            text, answers = self._compared(messages)
        if self.learn == "last":
            answers = answers[-1:]
        ends = self._names is not None and self._names.search(text, *answers[-1]) is not None
        return _unmarked(text, [(0, len(text))] if self.learn == "all" else answers, mark, ends)

    def _joined(self, dialogue: Dialogue) -> Rendered:
        mark = self._mark(dialogue)
        parts = [self._broken(content, mark) for _, content in dialogue.messages]
        text = "".join(parts)
        begin = len(parts[0]) if dialogue.kind == "pair" and self.learn != "all" else 0
        return _unmarked(text, [(begin, len(text))], mark, True)

    def _mark(self, dialogue: Dialogue) -> str:
        """A letter of the private use area that the dialogue does not hold."""
        said = {letter for _, content in dialogue.messages for letter in content}
        free = next((letter for letter in map(chr, range(0xE000, 0xF900)) if letter not in said), None)
        if free is None:
            raise BadInput("it holds every letter of Unicode's private use area, of which one is needed to mark places; leave it out")
        return free

    def _broken(self, content: str, mark: str) -> str:
        """The content with a mark after the first letter of each control token's name."""
        if self._names is None or self.control == "tokens":
            return content
        return self._names.sub(lambda found: found[0][0] + mark + found[0][1:], content)

    def _render(self, messages: list[dict[str, str]], prompt: bool = False) -> str:
        try:
            found = self.tokenizer.apply_chat_template(messages, chat_template=self.source, tokenize=False, add_generation_prompt=prompt)
        except TutelageError:
            raise
        except Exception as error:  # a template is a program, which may fail in any way
            raise BadInput(f"the chat template cannot render it: {type(error).__name__}: {in_short(error)}") from None
        if not isinstance(found, str):
            raise BadInput(f"the chat template gives a {type(found).__name__}; expected text")
        return found

    def _marked(self, messages: list[dict[str, str]]) -> tuple[str, list[tuple[int, int]]]:
        """What is rendered, and the spans within `{% generation %}` marks."""
        from transformers.utils.chat_template_utils import render_jinja_template

        try:
            given: dict[str, Any] = {"chat_template": self.source, "return_assistant_tokens_mask": True}
            made: Any = render_jinja_template([messages], **given, **self.tokenizer.special_tokens_map)
        except Exception as error:
            raise BadInput(f"the chat template cannot render it: {type(error).__name__}: {in_short(error)}") from None
        found = [(begin, end) for begin, end in made[1][0] if end > begin]
        if not found:
            raise BadInput("the chat template marks no answer of it with {% generation %}; expected one for each message of the assistant")
        return made[0][0], found

    def _compared(self, messages: list[dict[str, str]]) -> tuple[str, list[tuple[int, int]]]:
        """What is rendered, and the spans of answers, found by rendering what goes before each and up to each."""
        text = self._render(messages)
        places = [i for i, message in enumerate(messages) if message["role"] == "assistant"]
        if self.learn == "all":
            return text, [(0, len(text))]
        return text, [self._span(text, messages, i) for i in (places[-1:] if self.learn == "last" else places)]

    def _span(self, text: str, messages: list[dict[str, str]], place: int) -> tuple[int, int]:
        before = self._render(messages[:place], prompt=True) if place else ""
        upto = text if place == len(messages) - 1 else self._render(messages[: place + 1])
        if not text.startswith(before):
            raise BadInput(self._rewritten(place))
        content = messages[place]["content"].strip()
        whole = text.startswith(upto)
        known = len(upto) if whole else next(i for i, letter in enumerate(upto) if text[i : i + 1] != letter)
        begin = len(before)
        found, stop = self._ended(text, content, begin, known)
        if place and self._announces is None:
            self._announces = before != self._render(messages[:place])
        if not place or not self._announces:  # nothing announces an answer: its header, if any, is rendered with it
            header = text[begin : max(found, begin)]
            begin = found if header.strip() else begin
        if stop is None and not whole:
            raise BadInput(self._rewritten(place))
        return begin, known if stop is None else stop

    def _ended(self, text: str, content: str, begin: int, end: int) -> tuple[int, int | None]:
        """Where a content stands, the last time that a control token which begins between two places ends it, and the end of that token;
        without such a token, where it stands last (-1: nowhere), and None.
        """
        tokens = [found.span() for found in self._names.finditer(text, begin)] if self._names is not None else []
        last = found = text.rfind(content, begin, end)
        while found >= 0:
            after = found + len(content)
            while text[after : after + 1].isspace():
                after += 1
            stop = next((e for b, e in tokens if b == after and b < end), None)
            if stop is not None and not any(b < found < e for b, e in tokens):  # not what a token's own name holds
                return found, stop
            found = text.rfind(content, begin, found + len(content) - 1)
        return last, None

    def _rewritten(self, place: int) -> str:
        some = f"what goes before or follows the answer in message {place + 1}"
        return (
            f"the chat template renders {some} in another way when the dialogue goes on, so its answers cannot be told apart; "
            "learn only the last answer of each dialogue (learn=last), or give a template with {% generation %} marks (template=FILE.jinja)"
        )


def control_tokens(tokenizer: Any) -> list[str]:
    """The names of a tokenizer's control tokens, longest first."""
    added = getattr(tokenizer, "added_tokens_decoder", {})
    names = {str(t) for t in added.values() if getattr(t, "special", False)} | set(map(str, tokenizer.all_special_tokens))
    return sorted((n for n in names if n.strip()), key=lambda n: (-len(n), n))


def _source(tokenizer: Any, template: str) -> str | None:
    """The Jinja template, or None where there is to be none."""
    if template == OWN:
        return tokenizer.get_chat_template() if tokenizer.chat_template else None
    if template == JOINED:
        return None
    if template == TURNS:
        return LINES
    if "{%" in template or "{{" in template:
        return template
    file = Path(template).expanduser()
    if not file.is_file():
        raise MissingFile(f"template {template!r} is no file; expected {OWN}, {JOINED}, {TURNS} or a file with a Jinja template")
    try:
        return file.read_text(encoding="utf8")
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"template {template!r} cannot be read: {in_short(error)}") from None


def _unmarked(text: str, answers: Sequence[tuple[int, int]], mark: str, ends: bool) -> Rendered:
    """Take the marks out; where they stood, no token may reach across."""
    marks = [i for i, letter in enumerate(text) if letter == mark] if mark in text else []
    if not marks:
        return Rendered(text, tuple(answers), (), ends)
    places = tuple(place - number for number, place in enumerate(marks))
    moved = tuple((b - sum(m < b for m in marks), e - sum(m < e for m in marks)) for b, e in answers)
    return Rendered(text.replace(mark, ""), moved, places, ends)
