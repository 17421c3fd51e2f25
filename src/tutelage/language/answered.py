"""Dialogues whose answers come from a server: the text that a teacher behind one teaches by.

Answers are kept line by line as they come, so that work that was stopped goes on where it was.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from pathlib import Path

import torch

from tutelage.errors import BadInput, printable
from tutelage.language.dialogues import Dialogues
from tutelage.language.progress import tracked
from tutelage.language.rows import Dialogue
from tutelage.language.sampling import Sampling
from tutelage.language.server import Answer, Server, ask, check_server
from tutelage.training.checkpoint import write_text_atomically

CUT = "has an answer that was cut at its most tokens"
EMPTY = "has an empty answer"


def answered(
    given: Dialogues, server: Server, sampling: Sampling = Sampling(tokens=512), *, kept: Path, seed: int = 0, quiet: bool = True
) -> Dialogues:
    """Let a server answer dialogues anew; their last answers are replaced by its own.

    Trained on by themselves, these are what `seqkd` makes with a model at hand. Answers that are empty, or were cut, are left out, since a
    student would learn to be silent or to stop where the limit was; `dropped` counts them.

    Args:
        given: chats, whose last answer is asked for anew, or prompts, which are asked as the message of a user.
        server: who answers.
        sampling: how it shall write.
        kept: a file of JSON lines that the answers are put into as they come, and taken from when this is done again.
        seed: of the requests.
        quiet: whether to show no progress.

    Returns:
        The dialogues with its answers, ids kept.

    Raises:
        BadInput: running text, which asks nothing; a file of other work; nothing left; or what `ask` says.
        Failed: the server failed; what was answered is kept.
    """
    asked = [_asked(dialogue, number, given.name) for number, dialogue in enumerate(given.dialogues, 1)]
    ids = given.ids().tolist()
    work = hashlib.sha256(repr([given.fingerprint(), server.url, server.model, sampling, seed]).encode()).hexdigest()[:16]
    found = _read(kept, work)
    missing = [place for place, id in enumerate(ids) if id not in found]
    if missing:
        check_server(server)
        kept.parent.mkdir(parents=True, exist_ok=True)
        if not kept.is_file():
            write_text_atomically(kept, json.dumps({"work": work, "url": server.url, "model": server.model, "seed": seed}) + "\n")
        with kept.open("a", encoding="utf8") as file:
            answers = ask(server, [asked[place] for place in missing], sampling, seed=seed, ids=[ids[place] for place in missing])
            for place, answer in tracked(answers, len(missing), f"{server.model} answers", not quiet):
                id = ids[missing[place]]
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
        raise BadInput(f"{given.name}: none of {len(ids):,} answers of {server.model} can be learnt from; the first {next(iter(lacks))}")
    said = [Dialogue(given.dialogues[p].kind, (*_before(given.dialogues[p]), ("assistant", found[ids[p]].text))) for p in rows]
    name = f"{given.name} as {printable(server.model)} answers it"
    return Dialogues({"dialogue": said, "id": given.ids()[torch.tensor(rows)]}, name, lacks)


def _before(dialogue: Dialogue) -> tuple[tuple[str, str], ...]:
    """The messages before the last answer."""
    last = max(i for i, (role, _) in enumerate(dialogue.messages) if role == "assistant")
    return dialogue.messages[:last]


def _asked(dialogue: Dialogue, number: int, name: str) -> tuple[tuple[str, str], ...]:
    if dialogue.kind == "text":
        raise BadInput(f"dialogue {number:,} of {name} is running text, which asks nothing; give chats, or prompts with their responses")
    return _before(dialogue)


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
