"""Dialogues whose answers a model writes, at hand or behind a server: the text that a teacher teaches by.

Answers are kept line by line as they come, so that work that was stopped goes on where it was.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

from tutelage.errors import BadInput, printable
from tutelage.language.dialogues import Dialogues
from tutelage.language.progress import tracked
from tutelage.language.rows import Dialogue
from tutelage.language.sampling import Sampling
from tutelage.language.server import Answer, Server, ask, check_server
from tutelage.language.writer import Writer
from tutelage.training.checkpoint import write_text_atomically

CUT = "has an answer that was cut at its most tokens"
EMPTY = "has an empty answer"


def answered(
    given: Dialogues, by: Server | Writer, sampling: Sampling = Sampling(tokens=512), *, kept: Path, seed: int = 0, quiet: bool = True
) -> Dialogues:
    """Let a model answer dialogues anew; their last answers are replaced by its own.

    Trained on by themselves, these are what `seqkd` makes with a model at hand. Answers that are empty, or were cut, are left out, since a
    student would learn to be silent or to stop where the limit was; `dropped` counts them.

    Args:
        given: chats, whose last answer is asked for anew; prompts, which are asked as the message of a user; or, for a model at hand,
            running text, of which it is given the beginning.
        by: who answers.
        sampling: how it shall write.
        kept: a file of JSON lines that the answers are put into as they come, and taken from when this is done again.
        seed: of what is drawn.
        quiet: whether to show no progress.

    Returns:
        The dialogues with its answers, ids kept.

    Raises:
        BadInput: running text for a server, which it asks nothing; a file of other work; nothing left; or what the model or `ask` says.
        Failed: the server failed; what was answered is kept.
    """
    if isinstance(by, Server):
        _refuse_running(given)
    name, decides = (by.model, [by.url, by.model]) if isinstance(by, Server) else (by.name, by.work())
    ids = given.ids().tolist()
    work = hashlib.sha256(repr([given.fingerprint(), *decides, sampling, seed]).encode()).hexdigest()[:16]
    found = _read(kept, work)
    missing = [place for place, id in enumerate(ids) if id not in found]
    if missing:
        if isinstance(by, Server):
            check_server(by)
        kept.parent.mkdir(parents=True, exist_ok=True)
        if not kept.is_file():
            write_text_atomically(kept, json.dumps({"work": work, "by": name, "seed": seed}) + "\n")
        with kept.open("a", encoding="utf8") as file:
            answers = _asked(by, given, missing, sampling, seed)
            for place, answer in tracked(answers, len(missing), f"{name} answers", not quiet):
                id = ids[place]
                found[id] = answer
                line = {"id": id, "text": answer.text, "ended": answer.ended, "tokens": answer.tokens}
                file.write(json.dumps(line) + "\n")
                file.flush()
    lacks: Counter[str] = Counter(given.dropped)
    rows = []
    for place, id in enumerate(ids):
        if not found[id].ended or not found[id].text.strip():
            lacks[EMPTY if found[id].ended else CUT] += 1
        else:
            rows.append(place)
    if not rows:
        raise BadInput(f"{given.name}: none of {len(ids):,} answers of {name} can be learnt from; the first {next(iter(lacks))}")
    said = [_with(given.dialogues[place], found[ids[place]].text) for place in rows]
    return Dialogues({"dialogue": said, "id": given.ids()[torch.tensor(rows)]}, f"{given.name} as {printable(name)} answers it", lacks)


def _asked(by: Server | Writer, given: Dialogues, places: Sequence[int], sampling: Sampling, seed: int) -> Iterator[tuple[int, Answer]]:
    """The answers to some of the dialogues, by place, as they come."""
    if isinstance(by, Writer):
        yield from by.answers(given, places, sampling, seed)
        return
    chats, ids = [_before(given.dialogues[place]) for place in places], given.ids()[torch.tensor(places)].tolist()
    for number, answer in ask(by, chats, sampling, seed=seed, ids=ids):
        yield places[number], answer


def _before(dialogue: Dialogue) -> tuple[tuple[str, str], ...]:
    """The messages before the last answer."""
    last = max(i for i, (role, _) in enumerate(dialogue.messages) if role == "assistant")
    return dialogue.messages[:last]


def _with(dialogue: Dialogue, answer: str) -> Dialogue:
    """The dialogue with another last answer; running text is the answer as it is."""
    if dialogue.kind == "text":
        return Dialogue("text", (("text", answer),))
    return Dialogue(dialogue.kind, (*_before(dialogue), ("assistant", answer)))


def _refuse_running(given: Dialogues) -> None:
    number = next((number for number, dialogue in enumerate(given.dialogues, 1) if dialogue.kind == "text"), None)
    if number is not None:
        raise BadInput(f"dialogue {number:,} of {given.name} is running text, which asks nothing; give chats, or prompts")


def _read(file: Path, work: str) -> dict[int, Answer]:
    """The answers in a file; a last line that was not written to its end is cut off."""
    if not file.is_file():
        return {}
    content = file.read_bytes()
    whole = content.rfind(b"\n") + 1
    try:
        first, *lines = [json.loads(line) for line in content[:whole].splitlines()]
        same = first.get("work") == work
        found = {int(line["id"]): Answer(line["text"], line["ended"], line["tokens"]) for line in lines}
    except (ValueError, KeyError, TypeError, AttributeError):
        raise BadInput(f"{file} holds no answers of ours, or is damaged; name another file, or delete it") from None
    if not same:
        raise BadInput(f"{file} holds answers to other questions, of another model or under other settings; name another file")
    if whole < len(content):
        with file.open("r+b") as opened:
            opened.truncate(whole)
    return found
