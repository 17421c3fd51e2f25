"""Lessons from a file, a folder or the hub, with the tokenizer of a Hugging Face folder: what `lessons:PATH` stands for."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from tutelage.data import Data
from tutelage.language.chat import OWN, Control, Learn
from tutelage.language.dialogues import dialogues
from tutelage.language.lessons import Cut, Padding, check_layout
from tutelage.language.packing import Packing
from tutelage.language.preparation import lessons
from tutelage.language.rows import Missing
from tutelage.students.hf import tokenizer_of


def lessons_in(
    path: str,
    *,
    tokenizer: str = "",
    length: int = 512,
    packing: Packing = "none",
    padding: Padding = "longest",
    cut: Cut = "end",
    learn: Learn = "responses",
    template: str = OWN,
    control: Control = "text",
    columns: Sequence[str] = (),
    id: str = "",
    split: str = "",
    test: str = "",
    config: str = "",
    missing: Missing = "refuse",
    train: float = 0.7,
    validation: float = 0.15,
    seed: int = 0,
) -> Data:
    """Load dialogues or running text, and split them into the tokens of a language model.

    Args:
        path: a file (.jsonl, .json, .ndjson, .parquet, .csv, .tsv, also with .gz), or a Hugging Face data set, by folder or name.
        tokenizer: a Hugging Face folder, a GGUF file, or a name on the hub; by default that of the models. Without any, the dialogues stay
            text.
        length: most tokens of a sample.
        packing: "none" (a sample is a dialogue), or windows that hold several, filled "in-order" or by "first-fit".
        padding: to the longest sample of a batch, or to the "length".
        cut: whether a dialogue that is too long loses its "end" or its "start"; packed running text loses none.
        learn: the tokens of all "responses", of the "last" one, or "all"; of running text always all.
        template: how messages become text: the tokenizer's "own", "joined", "turns", or a file with a Jinja template.
        control: whether names of control tokens in the rows are plain "text", or "tokens" of a row that was rendered before.
        columns: the column to read, of messages or text; or two, a prompt and its response; by default those with usual names.
        id: a column that identifies each row; by default the row's number.
        split: a column that says train, validation or test.
        test: a second file, to test on.
        config: which configuration of a Hugging Face data set.
        missing: rows that lack a value, a prompt or an answer: refuse, or drop.
        train: share to train on, where nothing says what is train.
        validation: share to choose on; the rest is test.
        seed: of the cut.

    Returns:
        Lessons; or dialogues, where no tokenizer is given.

    Raises:
        MissingFile: no such file, folder or template.
        BadInput: columns, rows, a tokenizer or a template that cannot be used; names them.
    """
    check_layout(length, packing, padding, cut)
    chosen: dict[str, Any] = {"columns": columns, "id": id, "split": split, "test": test, "config": config, "missing": missing}
    found = dialogues(path, **chosen, train=train, validation=validation, seed=seed)
    if not tokenizer:
        return found
    read = tokenizer_of(tokenizer)
    layout: dict[str, Any] = {"length": length, "packing": packing, "padding": padding, "cut": cut}
    made = lessons(found, read, **layout, learn=learn, template=template, control=control, quiet=False)
    known = {"tokenizer": tokenizer, "words": words_of(read), "vocabulary": len(read)}
    return replace(made, prepared={**made.prepared, **known})


def asked_in(
    path: str,
    *,
    tokenizer: str = "",
    template: str = OWN,
    control: Control = "text",
    columns: Sequence[str] = (),
    id: str = "",
    split: str = "",
    test: str = "",
    config: str = "",
    missing: Missing = "refuse",
) -> Data:
    """Load what is to be answered: chats up to their last answer, prompts, or running text to be gone on from.

    Args:
        path: as in `lessons_in`, like all that follow; rows need no answers, and those that are there are not read.
        tokenizer: a Hugging Face folder, a GGUF file, or a name on the hub; by default that of the model.
        template: how messages become text.
        control: what becomes of names of control tokens.
        columns: the one to read: of messages, of prompts, or "text" for running text.
        id: a column that identifies each row.
        split: a column that says train, validation or test.
        test: a second file.
        config: which configuration of a Hugging Face data set.
        missing: rows that ask nothing: refuse, or drop.

    Returns:
        Dialogues that end with `rows.UNANSWERED`; all of them as train, where nothing says otherwise.

    Raises:
        MissingFile: no such file or folder.
        BadInput: columns or rows that cannot be used.
    """
    chosen: dict[str, Any] = {"columns": columns, "id": id, "split": split, "test": test, "config": config, "missing": missing}
    found = dialogues(path, **chosen, asked=True)
    return replace(found, prepared={**found.prepared, "tokenizer": tokenizer, "template": template, "control": control})


def words_of(tokenizer: Any) -> str:
    """A hash of which token has which id."""
    listed = sorted((id, token) for token, id in tokenizer.get_vocab().items())
    return hashlib.sha256(repr(listed).encode("utf8", "surrogatepass")).hexdigest()[:16]
