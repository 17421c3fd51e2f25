"""Dialogues as data: read from a file, a folder or the hub, and cut into training, validation and test, by dialogue.

They are text still: which tokens they become depends on the model that studies them, see `lessons`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tutelage.data import Data, Source, Table, completed, is_hf
from tutelage.data.files import form_of as file_form
from tutelage.data.files import frame_of
from tutelage.data.hub import loaded, parts_of
from tutelage.data.split import SPLITS
from tutelage.errors import BadInput, printable
from tutelage.language.rows import FORMS, Dialogue, Missing, dialogues_in, form_of
from tutelage.randomness import derive


class Dialogues(Table):
    """Dialogues in memory, as the column `dialogue`.

    Args:
        columns: `dialogue`, one a row, and `id`; without it they are counted.
        name: how tables call it.
        dropped: how many rows of the whole table were dropped, by what they lack.
    """

    def __init__(self, columns: Mapping[str, Any], name: str = "data", dropped: Mapping[str, int] | None = None) -> None:
        super().__init__(columns, name)
        self.dropped = dict(dropped or {})

    @property
    def dialogues(self) -> list[Dialogue]:
        """All of them, in order."""
        return list(self.columns["dialogue"])

    def rows(self, positions: Tensor, name: str) -> Dialogues:
        """Some of them, ids kept."""
        return Dialogues({k: _some(v, positions) for k, v in self.columns.items()}, name, self.dropped)


def dialogues(
    path: str,
    *,
    columns: Sequence[str] = (),
    id: str = "",
    split: str = "",
    test: str = "",
    config: str = "",
    missing: Missing = "refuse",
    asked: bool = False,
    train: float = 0.7,
    validation: float = 0.15,
    seed: int = 0,
) -> Data:
    """Load dialogues for a language model: chats, prompts with their responses, or running text.

    Args:
        path: a file, told by its ending (.jsonl, .json or .ndjson with a row a line, .parquet, .csv, .tsv; also with .gz), or a Hugging
            Face data set: a folder, or a name on the hub.
        columns: the one to read, of messages or of text; or two, a prompt and its response. By default the first that are there of:
            messages; prompt and response (or completion); instruction and output (with input); text.
        id: a column that identifies each row; by default the row's number.
        split: a column that says train, validation (or val) or test.
        test: a second file, to test on.
        config: which configuration of a Hugging Face data set.
        missing: rows that lack a value, a prompt or an answer are refused, or dropped.
        asked: whether answers are yet to be written: rows need none, those that are there are not read, and nothing is cut into splits.
        train: share to train on, where nothing says what is train.
        validation: share to choose on; the rest is test.
        seed: of the cut.

    Returns:
        Splits with the column `dialogue`.

    Raises:
        MissingFile: no such file or folder.
        BadInput: a damaged file, columns that are none of these, or rows that hold something else than text or messages.
    """
    options: dict[str, Any] = {"columns": columns, "id": id, "split": split, "missing": missing, "asked": asked}
    cut: dict[str, Any] = {"train": train, "validation": validation, "seed": seed}
    name = Path(path).name
    if file_form(path) is None:
        if test:
            raise BadInput(f"{path} is no file of rows, so test={test!r} has no place; a data set brings its own test split")
        return from_rows(loaded(path, config), name=name, **options, **cut)
    text = [*columns, *(c for form in FORMS for c in form), "input", *filter(None, [id])]
    given = {"train": frame_of(path, text)} | ({"test": frame_of(test, text)} if test else {})
    return from_rows(given, name=name, **options, **cut)


def from_rows(
    rows: Any,
    *,
    name: str = "data",
    columns: Sequence[str] = (),
    id: str = "",
    split: str = "",
    missing: Missing = "refuse",
    asked: bool = False,
    train: float = 0.7,
    validation: float = 0.15,
    seed: int = 0,
) -> Data:
    """Make dialogues of rows.

    Args:
        rows: a sequence of mappings, a pandas frame, a `datasets.Dataset`, or any of these by split; at least train.
        name: how tables call it.
        columns: as in `dialogues`, like all that follow.
        id: a column that identifies each row.
        split: a column that says train, validation (or val) or test.
        missing: rows that lack something are refused, or dropped.
        asked: whether answers are yet to be written.
        train: share to train on, where nothing says what is train.
        validation: share to choose on.
        seed: of the cut.

    Raises:
        BadInput: as in `dialogues`.
    """
    given = _by_split(rows, name)
    present = {part: _names(found, name) for part, found in given.items()}
    if not len(given["train"]):
        raise BadInput(f"{name if len(given) == 1 or not any(map(len, given.values())) else f'{name}/train'} holds no rows")
    form = form_of(present["train"], columns, name, asked)
    wanted = [*form, *filter(None, (id, split))]
    if len(set(wanted)) < len(wanted):
        raise BadInput(f"{name}: a column is named twice among {', '.join(wanted)}; expected one use of each")
    for part, found in present.items():
        lacking = next((c for c in wanted if c not in found), None)
        if lacking is not None:
            raise BadInput(f"{name}/{part} has no column {lacking!r}; its columns are {', '.join(map(repr, found))}")
    whole = {c: [v for found in given.values() for v in _column(found, c)] for c in wanted}
    size = len(whole[form[0]])
    origin = _said(whole[split], len(given), name, split) if split else [part for part, found in given.items() for _ in range(len(found))]
    read, lacks = dialogues_in({c: whole[c] for c in form}, name, missing, asked)
    kept = [i for i, dialogue in enumerate(read) if dialogue is not None]
    if not kept:
        raise BadInput(f"{name} has no row left to learn from: each lacks something; the first {next(iter(lacks))}")
    ids = _ids(whole[id], name, id) if id else torch.arange(size)
    table = Dialogues({"dialogue": [read[i] for i in kept], "id": ids[torch.tensor(kept)]}, name, lacks)
    splits: dict[str, Source] = {}
    for part in ("train", "validation", "test"):
        own = [place for place, i in enumerate(kept) if origin[i] == part]
        if own:  # a split whose rows were all dropped is cut anew
            splits[part] = table.rows(torch.tensor(own), f"{name}/{part}")
    prepared = {"kind": "dialogues", "columns": list(form)}
    if asked:
        return Data(**(splits if "train" in splits else {"train": table}), name=name, prepared=prepared)
    return completed(splits, name=name, train=train, validation=validation, seed=seed, rare="keep", prepared=prepared)


def as_dialogues(source: Source) -> Dialogues:
    """The dialogues of a source: they themselves, or those in the columns of a table.

    Raises:
        BadInput: a source of anything else.
    """
    if isinstance(source, Dialogues):
        return source
    if not isinstance(source, Table):
        raise BadInput(f"{source.name} is a {type(source).__name__}; expected dialogues, or a table with messages, a prompt or text")
    form = form_of(list(source.columns), (), source.name)
    read, _ = dialogues_in({c: list(source.columns[c]) for c in form}, source.name)
    return Dialogues({"dialogue": read, "id": source.ids()}, source.name)


def holds_dialogues(data: Data) -> bool:
    """Whether these are dialogues, for a language model."""
    return isinstance(data.train, Dialogues)


def _by_split(rows: Any, name: str) -> dict[str, Any]:
    if is_hf(rows):
        return parts_of(rows, name)
    if not isinstance(rows, Mapping):
        return {"train": rows}
    if any(c in rows for form in FORMS for c in form) or "train" not in rows:
        raise BadInput(f"{name} is given as a mapping of {', '.join(map(repr, rows))}; expected rows, or rows by split, train among them")
    unknown = [s for s in rows if s not in SPLITS]
    if unknown:
        raise BadInput(f"{name} has the splits {', '.join(map(repr, rows))}; expected train, validation and test")
    return {SPLITS[s]: found for s, found in rows.items()}


def _names(rows: Any, name: str) -> list[str]:
    if is_hf(rows):
        return list(rows.column_names)
    if _is_frame(rows):
        return list(map(str, rows.columns))
    if not isinstance(rows, Sequence) or isinstance(rows, str) or not all(isinstance(r, Mapping) for r in rows):
        raise BadInput(f"{name} is given as {type(rows).__name__}; expected a list of rows, each a mapping from column to value")
    return list(dict.fromkeys(str(c) for row in rows for c in row))


def _column(rows: Any, column: str) -> list[Any]:
    if is_hf(rows):
        return list(rows[column])
    return rows[column].tolist() if _is_frame(rows) else [row.get(column) for row in rows]


def _is_frame(rows: Any) -> bool:
    return type(rows).__module__.partition(".")[0] == "pandas"


def _said(values: Sequence[Any], given: int, name: str, split: str) -> list[str]:
    if given > 1:
        raise BadInput(f"{name}: column {split!r} says what is test, and so does a second file or split; give one of the two")
    said = [str(v).strip().lower() for v in values]
    odd = next((s for s in said if s not in SPLITS), None)
    if odd is not None:
        raise BadInput(f"column {split!r} of {name} says {printable(odd)[:40]!r}; expected train, validation or test")
    return [SPLITS[s] for s in said]


def _ids(values: Sequence[Any], name: str, column: str) -> Tensor:
    said = [str(v) for v in values]
    if len(set(said)) < len(said) or any(v is None or v != v for v in values):
        raise BadInput(f"column {column!r} of {name} does not tell its rows apart; ids must be there and distinct")
    return torch.tensor([derive("id", s) for s in said])


def _some(column: Any, positions: Tensor) -> Any:
    return column[positions] if isinstance(column, Tensor) else [column[i] for i in positions.tolist()]
