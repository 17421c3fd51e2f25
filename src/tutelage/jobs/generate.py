"""generate: let a language model, at hand or behind a server, answer dialogues, and write down what it says as rows to teach by."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from tutelage.data import Data
from tutelage.data.split import SPLITS
from tutelage.errors import BadInput
from tutelage.jobs import models, specs
from tutelage.jobs.cached import is_cache
from tutelage.jobs.sources import called
from tutelage.jobs.tokenizers import check_tokens, place_of, with_tokenizer
from tutelage.language import answered, from_rows, lessons
from tutelage.language.dialogues import Dialogues, holds_dialogues
from tutelage.language.located import asked_in, words_of
from tutelage.language.rows import Dialogue
from tutelage.language.sampling import Sampling
from tutelage.language.server import Server, models_of
from tutelage.language.writer import Writer
from tutelage.randomness import derive
from tutelage.signals import Model
from tutelage.signals.reading import Reading
from tutelage.students.hf import tokenizer_of
from tutelage.training.checkpoint import write_text_atomically

SERVER = "server"
"""What the name of a model behind a server begins with: server:URL."""
KEPT = ".part"
"""What is added to the name of the file while it is not complete."""


@dataclass(frozen=True)
class Generated:
    """What was written.

    Args:
        file: where the rows are.
        by: the model.
        asked: how many answers were asked for.
        rows: how many of them are in the file.
        left_out: how many are not, by the reason.
        seconds: that it took, what an earlier call had done not included.
    """

    file: Path
    by: str
    asked: int
    rows: int
    left_out: Mapping[str, int]
    seconds: float


def generate(
    model: Any,
    data: Any,
    *,
    out: str | Path,
    tokens: int = 512,
    temperature: float = 1.0,
    top_k: int = 0,
    top_p: float = 1.0,
    outputs: int = 1,
    prompt: int = 32,
    batch_size: int = 16,
    seed: int = 0,
    device: str = "auto",
    trust_code: bool = False,
    quiet: bool = False,
) -> Generated:
    """Let a language model answer prompts, and keep its answers as rows that `lessons:FILE` reads.

    The same call goes on where an earlier one was stopped: each answer is kept as it comes.

    Args:
        model: who answers: hf:FOLDER_OR_ID, a run folder, or in Python a Model; or server:URL, an OpenAI-compatible server, with
            `:model=NAME` where it has several (also timeout=, retries=, concurrency=). Its key is read from OPENAI_API_KEY.
        data: what is asked: lessons:PATH with chats, prompts (answers that are there are not read), or, for a model at hand, running text.
            In Python also rows, or `Data` of dialogues.
        out: the file of JSON lines to write; none may be there.
        tokens: most of an answer. One that is cut there is left out, since a student would learn to stop anywhere; so is an empty one. Of
            running text all is kept.
        temperature: of the drawing; at 0 the likeliest token is taken.
        top_k: draw from so many likeliest tokens only; 0 for all.
        top_p: draw from the fewest likeliest tokens whose probability adds up to so much.
        outputs: answers to each prompt; each is a row.
        prompt: tokens of running text that the model goes on from.
        batch_size: prompts that a model at hand answers at a time.
        seed: of what is drawn; whether a server heeds it is its own affair.
        device: auto, or cpu.
        trust_code: let a run folder name a .py file whose code then runs.
        quiet: show no progress.

    Returns:
        What was written: rows with `id`, with `split` where the data have splits of their own, and with messages, prompt and response, or
        text, as they were asked.

    Raises:
        BadInput: anything that cannot be used; before the first answer.
        MissingFile: a path that does not exist.
        Failed: the server cannot be reached, or fails again and again; what was answered is kept.
    """
    if isinstance(outputs, bool) or not isinstance(outputs, int) or outputs < 1:
        raise BadInput(f"outputs={outputs!r}; expected at least 1")
    if device not in ("auto", "cpu"):
        raise BadInput(f"device={device!r}: expected one of 'auto', 'cpu'")
    sampling = Sampling(tokens, temperature, top_k, top_p)
    target = _target(out)
    remote = isinstance(model, str) and specs.divided(model, (SERVER,))[0].startswith(f"{SERVER}:")
    asked = _asked(data if remote else with_tokenizer(data, model))
    by: Server | Writer
    if remote:
        by = _server(model, asked)
    else:
        there = torch.accelerator.current_accelerator(check_available=True) if device == "auto" else None
        by = _writer(model, asked, prompt, batch_size, there or torch.device("cpu"), trust_code)
    given, split_of = _together(asked, outputs)
    kept = target.with_name(target.name + KEPT)
    start = time.perf_counter()
    found = answered(given, by, sampling, kept=kept, seed=seed, quiet=quiet)
    rows = (_row(id, split_of.get(id), each) for id, each in zip(found.ids().tolist(), found.dialogues, strict=True))
    write_text_atomically(target, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    kept.unlink()
    name = by.model if isinstance(by, Server) else by.name
    return Generated(target, name, len(given), len(found), found.dropped, time.perf_counter() - start)


def _target(out: str | Path) -> Path:
    target = Path(out).expanduser()
    if not str(out) or target.is_dir() or target.suffix != ".jsonl":
        raise BadInput(f"out={str(out)!r}; expected a file to write that ends in .jsonl, such as answers.jsonl")
    if target.exists():
        raise BadInput(f"{target} exists; name another file, or delete it")
    return target


def _asked(data: Any) -> Data:
    """Dialogues that wait for an answer."""
    if isinstance(data, str):
        name, text = specs.divided(data, ("lessons",))
        kind, _, path = name.partition(":")
        if kind != "lessons" or not path:
            raise BadInput(f"data {data!r} asks no language model; expected lessons:PATH, a file or data set of chats, prompts or text")
        found: Data = called(asked_in, name, specs.options_in(text, data), os.path.expanduser(path))
        return found
    if isinstance(data, Data):
        if not holds_dialogues(data):
            raise BadInput(f"{data.name} holds no dialogues; expected those of tutelage.language.from_rows, or lessons:PATH")
        return data
    return from_rows(data, asked=True)


def _server(model: str, asked: Data) -> Server:
    name, text = specs.divided(model, (SERVER,))
    url = name.partition(":")[2]
    if not url:
        raise BadInput(f"model {model!r} says nothing about where; expected {SERVER}:URL, such as {SERVER}:http://localhost:8000/v1")
    chosen = specs.typed(specs.options_in(text, model), Server, f"model {name}")
    for option, plain in (("tokenizer", ""), ("template", "own"), ("control", "text")):
        if asked.prepared.get(option, plain) != plain:
            raise BadInput(f"a server renders chats itself; leave --data.{option} out")
    if "model" not in chosen:
        listed = models_of(Server(**{**chosen, "url": url, "model": "?"}))
        if len(listed) != 1:
            some = f"it has {', '.join(listed[:5])}" if listed else "it lists none"
            raise BadInput(f"model {model!r} does not say which model of the server; write {name}:model=NAME ({some})")
        chosen["model"] = listed[0]
    return Server(**{**chosen, "url": url})


def _writer(given: Any, asked: Data, prompt: int, at_once: int, device: torch.device, trust_code: bool) -> Writer:
    for name, value in (("prompt", prompt), ("batch_size", at_once)):
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise BadInput(f"{name}={value!r}; expected at least 1")
    if is_cache(given):
        raise BadInput(f"the model {str(given)!r} is a cache, which cannot write; give the model itself")
    place = asked.prepared.get("tokenizer") or place_of(given)
    if isinstance(given, Model) and isinstance(given.preprocessing, Reading):
        tokenizer = given.preprocessing.tokenizer
    elif place:
        tokenizer = tokenizer_of(place)
    else:
        raise BadInput(f"nothing says how texts are split into tokens for {given!r}; give --data.tokenizer FOLDER")
    how: dict[str, Any] = {key: asked.prepared[key] for key in ("template", "control") if key in asked.prepared}
    # the model is made for the tokens, whatever is asked in them
    first = Data(asked.train.rows(torch.tensor([0]), asked.name), name=asked.name)
    shown = lessons(first, tokenizer, length=2, learn="all", **how)
    known = {**shown.prepared, "tokenizer": place, "words": words_of(tokenizer), "vocabulary": len(tokenizer)}
    shown = Data(shown.train, name=asked.name, prepared=known)
    handle = models.model_from(given, "model", data=shown, seed=0, trust_code=trust_code)
    check_tokens({"model": handle}, shown)
    if not handle.trained and handle.spec is not None:
        raise BadInput(f"the model {given!r} has no trained weights; give hf:FOLDER_OR_ID, a run folder, or weights=FILE")
    return Writer(handle, tokenizer, **how, prompt=prompt, vocabulary=len(tokenizer), at_once=at_once, device=device)


def _together(asked: Data, outputs: int) -> tuple[Dialogues, dict[int, str]]:
    """All that is asked, as often as it is, each time under an id of its own; and to which split an id belongs, where the rows
    said so.
    """
    said: list[Dialogue] = []
    ids: list[int] = []
    split_of: dict[int, str] = {}
    for split in dict.fromkeys(SPLITS.values()):
        source = getattr(asked, split)
        if source is None:
            continue
        for id, each in zip(source.ids().tolist(), source.dialogues, strict=True):
            for number in range(outputs):
                own = derive("answer", id, number) if number else id
                said.append(each)
                ids.append(own)
                if asked.validation is not None or asked.test is not None:
                    split_of[own] = split
    return Dialogues({"dialogue": said, "id": torch.tensor(ids)}, asked.name), split_of


def _row(id: int, split: str | None, dialogue: Dialogue) -> dict[str, Any]:
    row: dict[str, Any] = {"id": id} | ({} if split is None else {"split": split})
    if dialogue.kind == "text":
        return {**row, "text": dialogue.messages[0][1]}
    if dialogue.kind == "pair":
        return {**row, "prompt": dialogue.messages[0][1], "response": dialogue.messages[1][1]}
    return {**row, "messages": [{"role": role, "content": content} for role, content in dialogue.messages]}
