"""From pandas frames to Data: which column is the label, which are text, which numbers. Shapes: N rows, F features."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from tutelage.data.source import Data, Source, Table
from tutelage.data.split import SPLITS, Rare, completed
from tutelage.errors import BadInput, nearest
from tutelage.randomness import derive

Missing = Literal["refuse", "drop", "fill"]
"""What becomes of rows with missing values."""

WORDS = 50
"""A column of at most so many distinct words, beside columns of numbers, is read as a category."""


def data_of(
    frames: Mapping[str, Any],
    *,
    name: str,
    label: str = "label",
    text: Sequence[str] = (),
    columns: Sequence[str] = (),
    id: str = "",
    split: str = "",
    classes: Sequence[str] = (),
    missing: Missing = "refuse",
    train: float = 0.7,
    validation: float = 0.15,
    seed: int = 0,
    rare: Rare = "refuse",
) -> Data:
    """Make Data from frames by split; arguments as in `csv`.

    Raises:
        BadInput: a column that is not there, missing or infinite values, labels that are no classes, ids that are not distinct.
    """
    import pandas as pd

    if missing not in ("refuse", "drop", "fill"):
        raise BadInput(f"{name}: missing={missing!r}; expected refuse, drop or fill")
    _one_role([*filter(None, (label, id, split)), *text, *columns], name)
    for part, frame in frames.items():
        _known([*filter(None, (label, *text, *columns, id, split))], frame, name if part == "train" else f"{name}/{part}")
    whole = pd.concat(list(frames.values()), ignore_index=True)
    origin = _said(frames, split, name) if split else np.repeat(np.array(list(frames), dtype=object), [len(f) for f in frames.values()])
    words, numbers = _kinds(whole, name, [*filter(None, (label, id, split))], text, columns)
    for part, frame in frames.items():
        _known([*words, *numbers], frame, name if part == "train" else f"{name}/{part}")
    used = [*([label] if label else []), *words, *numbers]
    whole = whole.assign(**{c: _simple(whole[c], name) for c in used})
    absent = whole[used].isna()
    if label:
        absent[label] |= whole[label].astype(str).str.strip() == ""
    if missing == "drop":
        keep_N = ~absent.any(axis=1).to_numpy()
    else:
        refuse_missing(absent[[label] if label else []] if missing == "fill" else absent, name, missing)
        keep_N = np.ones(len(whole), dtype=bool)
    if not keep_N.any():
        raise BadInput(f"{name} has no row without missing values; fill them with --data.missing fill, or name fewer columns to read")
    ids = _ids(whole[id], name) if id else torch.arange(len(whole))
    whole, origin, ids = whole[keep_N], origin[keep_N], ids[torch.from_numpy(keep_N)]
    made: dict[str, Any] = {"id": ids}
    if label:
        made["y"], classes = classes_of(whole[label], name, classes)
    if words:
        made |= _texts(whole, words)
    prepared: dict[str, Any] = {"kind": "text", "columns": words}
    if numbers:
        made["x"], columns_read = _features(whole, numbers, name)
        prepared = {"kind": "table", "columns": columns_read}
    table = Table(made, name)
    splits: dict[str, Source] = {}
    for part in ("train", "validation", "test"):
        if (origin == part).any():  # a split whose rows were all dropped is cut anew
            splits[part] = table.rows(torch.from_numpy((origin == part).nonzero()[0]), f"{name}/{part}")
    cut: dict[str, Any] = {"train": train, "validation": validation, "seed": seed, "rare": rare if label else "keep"}
    data = completed(splits, classes=classes if label else (), name=name, prepared=prepared, **cut)
    return _standardised(data) if numbers else data


def _one_role(named: Sequence[str], name: str) -> None:
    double = next((c for c in named if list(named).count(c) > 1), None)
    if double is not None:
        raise BadInput(f"column {double!r} of {name} is named twice; expected one use of it: as label, id, split, text or number")


def _known(wanted: Sequence[str], frame: Any, name: str) -> None:
    present = list(frame.columns)
    if len(set(present)) < len(present):
        raise BadInput(f"{name} has two columns called {next(c for c in present if present.count(c) > 1)!r}; rename one")
    for column in wanted:
        if column not in present:
            shown = ", ".join(map(repr, present[:12])) + (", ..." if len(present) > 12 else "")
            hint = " (name the label column with --data.label COLUMN, or '' where there is none)" if column == "label" else ""
            raise BadInput(f"{name} has no column {column!r}{nearest(column, present)}; its columns are {shown}{hint}")


def _said(frames: Mapping[str, Any], split: str, name: str) -> np.ndarray:
    """The split of each row, as a column says it."""
    if len(frames) > 1:
        raise BadInput(f"{name}: column {split!r} says what is test, and so does a second file or split; give one of the two")
    said = frames["train"][split].astype(object).where(frames["train"][split].notna(), "").astype(str).str.strip().str.lower()
    odd = sorted(set(said) - set(SPLITS))
    if odd:
        raise BadInput(f"column {split!r} of {name} says {odd[0]!r}; expected train, validation or test")
    return said.map(SPLITS).to_numpy(dtype=object)


def _is_number(column: Any) -> bool:
    from pandas.api.types import is_numeric_dtype

    return bool(is_numeric_dtype(column))


def _simple(column: Any, name: str) -> Any:
    """The column, exact decimals as floats; nested values are refused."""
    if column.dtype != object:
        return column
    kinds = set(map(type, column))
    nested = next((k for k in (list, dict, tuple, set, np.ndarray, bytes) if k in kinds), None)
    if nested:
        raise BadInput(
            f"column {column.name!r} of {name} holds values of type {nested.__name__}; expected text or numbers: "
            "name the columns to read with --data.text or --data.columns"
        )
    return column.astype("float64") if Decimal in kinds and not kinds & {str, bool} else column


def _kinds(frame: Any, name: str, taken: Sequence[str], text: Sequence[str], columns: Sequence[str]) -> tuple[list[str], list[str]]:
    """The columns to read as text, and those to read as numbers or categories."""
    if text and columns:
        raise BadInput(f"{name}: give columns of text (--data.text) or of numbers (--data.columns), not both")
    if text:
        return list(text), []
    left = list(columns) or [c for c in frame.columns if c not in taken]
    if not left:
        raise BadInput(f"{name} has no column left to read{' besides ' if taken else ''}{', '.join(map(repr, taken))}")
    strings = [c for c in left if not _is_number(_simple(frame[c], name))]
    if columns or len(strings) < len(left):
        counts = {c: frame[c].astype(str).nunique() for c in strings}
        many = [c for c in strings if counts[c] > WORDS]
        if many:
            raise BadInput(
                f"column {many[0]!r} of {name} holds {counts[many[0]]} distinct strings beside columns of numbers; "
                f"name what to read: --data.text {many[0]!r}, or --data.columns NUMBERS"
            )
        return [], left
    return left, []


def refuse_missing(absent: Any, name: str, missing: Missing) -> None:
    """Raise where a frame of truth values says that something is absent; `missing` as chosen tells what else could be done."""
    found = absent.sum()
    column = next((c for c in found.index if found[c]), None)
    if column is not None:
        mend = "drop such rows with --data.missing drop" + ("" if missing == "fill" else ", or fill them with --data.missing fill")
        raise BadInput(f"column {column!r} of {name} lacks {int(found[column])} of {len(absent)} values; {mend}")


def _ids(column: Any, name: str) -> Tensor:
    values = column.astype(str).tolist()
    if len(set(values)) < len(values) or column.isna().any():
        raise BadInput(f"column {column.name!r} of {name} does not tell its rows apart; ids must be there and distinct")
    return torch.tensor([derive("id", v) for v in values])


def classes_of(column: Any, name: str, classes: Sequence[str] = ()) -> tuple[Tensor, tuple[str, ...]]:
    """The class number of each row, and the names of the classes.

    Args:
        column: labels as a pandas series: names, whole numbers or truth values, none of them missing.
        name: what messages call the data.
        classes: names in the order of the numbers; by default sorted, numbers by size.

    Raises:
        BadInput: one class only, fractions, more classes than could be learnt, or a label that is none of `classes`.
    """
    from pandas.api.types import is_bool_dtype

    whole = _is_number(column) and not is_bool_dtype(column)
    if whole and not (column % 1 == 0).all():
        raise BadInput(f"column {column.name!r} of {name} holds fractions; expected classes: names or whole numbers")
    values = column.astype("int64").tolist() if whole else [str(v).strip() for v in column]
    found = sorted(set(values))
    names = [str(v) for v in found]
    if len(found) < 2:
        raise BadInput(f"column {column.name!r} of {name} holds one class only, {names[0]!r}; expected at least two")
    if classes:
        odd = [n for n in names if n not in classes]
        if odd:
            raise BadInput(f"column {column.name!r} of {name} holds {odd[0]!r}, which is none of the classes {', '.join(classes)}")
        if len(set(classes)) < len(classes):
            raise BadInput(f"{name}: the classes {', '.join(classes)} are not distinct")
        names = list(classes)
    elif len(found) > max(2, len(values) // 2):
        raise BadInput(f"column {column.name!r} of {name} holds {len(found)} distinct values in {len(values)} rows; expected classes")
    number = {n: i for i, n in enumerate(names)}
    return torch.tensor([number[str(v)] for v in values]), tuple(names)


def _texts(frame: Any, words: Sequence[str]) -> dict[str, list[str]]:
    read = [frame[c].astype(object).where(frame[c].notna(), "").astype(str).tolist() for c in words]
    if len(read) == 2:
        return {"text": read[0], "text_pair": read[1]}
    return {"text": [" ".join(parts) for parts in zip(*read, strict=True)]}


def _features(frame: Any, numbers: Sequence[str], name: str) -> tuple[Tensor, list[dict[str, Any]]]:
    """Numbers first, then a column for each word of each category, in double; and the columns in that order, as `Columns` has them."""
    plain: list[np.ndarray] = []
    marks: list[np.ndarray] = []
    read: list[dict[str, Any]] = []
    worded: list[dict[str, Any]] = []
    for column in numbers:
        values = frame[column]
        if _is_number(values):
            array = values.to_numpy(dtype=np.float64, na_value=np.nan)
            if np.isinf(array).any():
                raise BadInput(f"column {column!r} of {name} holds infinite values; mend the file, or leave it out with --data.columns")
            plain.append(array)
            read.append({"column": column})
        else:
            said = values.astype(object).where(values.notna(), "missing").astype(str)
            words = sorted(set(said))
            marks += [(said == word).to_numpy().astype(np.float64) for word in words]
            worded.append({"column": column, "words": words})
    return torch.from_numpy(np.stack([*plain, *marks], 1)), [*read, *worded]


def _standardised(data: Data) -> Data:
    """Scale the plain numbers by training's mean and deviation, and put the mean where a value is missing.

    A column that is constant in training is only centred. A word that training lacks is marked nowhere: nothing is learnt about it.
    """
    columns = data.prepared["columns"]
    plain = sum("words" not in c for c in columns)
    splits = {s: getattr(data, s) for s in ("train", "validation", "test")}
    x_NF = splits["train"].columns["x"][:, :plain]
    top_F = x_NF.nan_to_num(nan=-torch.inf).amax(0).nan_to_num(neginf=0.0)
    mean_F = top_F + (x_NF - top_F).nanmean(0).nan_to_num(0.0)  # exact for a constant, whose deviation would else be rounding
    spread_F = (x_NF - mean_F).square().nanmean(0).sqrt().nan_to_num(0.0)
    spread_F = torch.where(spread_F > 0, spread_F, torch.ones_like(spread_F))
    seen_F = splits["train"].columns["x"][:, plain:].any(0)

    def scaled(table: Table) -> Table:
        x_NF: Tensor = table.columns["x"]  # type: ignore[assignment]
        numbers_NF = ((x_NF[:, :plain] - mean_F) / spread_F).nan_to_num(0.0)
        return Table({**table.columns, "x": torch.cat([numbers_NF, x_NF[:, plain:] * seen_F], 1).float()}, table.name)

    train, validation, test = map(scaled, splits.values())
    scales, seen = zip(columns, mean_F.tolist(), spread_F.tolist(), strict=False), iter(seen_F.tolist())
    numbers = [{**column, "mean": mean, "spread": spread} for column, mean, spread in scales]
    worded = [{**column, "words": [word if next(seen) else None for word in column["words"]]} for column in columns[plain:]]
    prepared = {**data.prepared, "columns": [*numbers, *worded]}
    return dataclasses.replace(data, train=train, validation=validation, test=test, prepared=prepared)
