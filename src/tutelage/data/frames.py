"""From pandas frames to Data: which column is the label, which are text, which numbers. Shapes: N rows, F features."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
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
    frames = _by_column(frames, split, name)
    whole = pd.concat(list(frames.values()), ignore_index=True)
    origin = np.repeat(np.array(list(frames), dtype=object), [len(f) for f in frames.values()])
    _known([*([label] if label else []), *text, *columns, *([id] if id else [])], whole, name)
    words, numbers = _kinds(whole, name, [c for c in (label, id, split) if c], text, columns)
    used = [*([label] if label else []), *words, *numbers]
    absent = whole[used].isna()
    if missing == "drop":
        keep = ~absent.any(axis=1)
    else:
        _refuse_missing(absent[[label]] if label and missing == "fill" else absent, name, missing)
        keep = pd.Series(True, index=whole.index)
    if not keep.any():
        raise BadInput(f"{name} has no row without missing values; fill them with --data.missing fill")
    ids = _ids(whole[id], name, id) if id else torch.arange(len(whole))
    whole, origin, ids = whole[keep], origin[keep.to_numpy()], ids[torch.tensor(keep.tolist())]
    made: dict[str, Any] = {"id": ids}
    if label:
        made["y"], classes = _classes(whole[label], name, label, classes)
    if words:
        made |= _texts(whole, words)
    plain = 0
    if numbers:
        made["x"], plain = _features(whole, numbers, name)
    splits: dict[str, Source] = {s: Table(made, name).rows(torch.from_numpy((origin == s).nonzero()[0]), f"{name}/{s}") for s in frames}
    data = completed(
        splits, classes=classes if label else (), name=name, train=train, validation=validation, seed=seed, rare=rare if label else "keep"
    )
    return _standardised(data, plain) if numbers else data


def _by_column(frames: Mapping[str, Any], split: str, name: str) -> dict[str, Any]:
    if not split:
        return dict(frames)
    whole = frames["train"]
    _known([split], whole, name)
    said = whole[split].astype(str).str.strip().str.lower()
    odd = sorted(set(said) - set(SPLITS))
    if odd:
        raise BadInput(f"column {split!r} of {name} says {odd[0]!r}; expected train, validation or test")
    return {s: whole[(said.map(SPLITS) == s).to_numpy()] for s in ("train", "validation", "test") if (said.map(SPLITS) == s).any()}


def _known(wanted: Sequence[str], frame: Any, name: str) -> None:
    for column in wanted:
        if column not in frame.columns:
            shown = ", ".join(map(repr, list(frame.columns)[:12])) + (", ..." if len(frame.columns) > 12 else "")
            hint = " (name the label column with --data.label COLUMN, or '' where there is none)" if column == "label" else ""
            raise BadInput(f"{name} has no column {column!r}{nearest(column, frame.columns)}; its columns are {shown}{hint}")
    double = [c for c in set(wanted) if list(frame.columns).count(c) > 1]
    if double:
        raise BadInput(f"{name} has two columns called {double[0]!r}; rename one")


def _is_number(column: Any) -> bool:
    from pandas.api.types import is_numeric_dtype

    return bool(is_numeric_dtype(column))


def _kinds(frame: Any, name: str, taken: Sequence[str], text: Sequence[str], columns: Sequence[str]) -> tuple[list[str], list[str]]:
    """The columns to read as text, and those to read as numbers or categories."""
    if text and columns:
        raise BadInput(f"{name}: give columns of text (--data.text) or of numbers (--data.columns), not both")
    if text:
        return list(text), []
    left = list(columns) or [c for c in frame.columns if c not in taken]
    if not left:
        raise BadInput(f"{name} has no column left to read besides {', '.join(map(repr, taken))}")
    strings = [c for c in left if not _is_number(frame[c])]
    if columns or len(strings) < len(left):
        many = [c for c in strings if frame[c].astype(str).nunique() > WORDS]
        if many:
            raise BadInput(
                f"column {many[0]!r} of {name} holds {frame[many[0]].astype(str).nunique()} distinct strings beside columns of numbers; "
                f"name what to read: --data.text {many[0]!r}, or --data.columns NUMBERS"
            )
        return [], left
    return left, []


def _refuse_missing(absent: Any, name: str, missing: Missing) -> None:
    found = absent.sum()
    column = next((c for c in found.index if found[c]), None)
    if column is not None:
        mend = "drop such rows with --data.missing drop" + ("" if missing == "fill" else ", or fill them with --data.missing fill")
        raise BadInput(f"column {column!r} of {name} lacks {int(found[column])} of {len(absent)} values; {mend}")


def _ids(column: Any, name: str, title: str) -> Tensor:
    values = column.astype(str).tolist()
    if len(set(values)) < len(values):
        raise BadInput(f"column {title!r} of {name} does not tell its rows apart; ids must be distinct")
    return torch.tensor([derive("id", v) for v in values])


def _classes(column: Any, name: str, title: str, classes: Sequence[str]) -> tuple[Tensor, tuple[str, ...]]:
    if _is_number(column) and not (column % 1 == 0).all():
        raise BadInput(f"column {title!r} of {name} holds fractions; expected classes: names or whole numbers")
    values = column.astype("int64").tolist() if _is_number(column) else [str(v).strip() for v in column]
    found = sorted(set(values))
    if len(found) < 2:
        raise BadInput(f"column {title!r} of {name} holds one class only, {found[0]!r}; expected at least two")
    if len(found) > max(2, len(values) // 2):
        raise BadInput(f"column {title!r} of {name} holds {len(found)} distinct values in {len(values)} rows; expected classes")
    names = [str(v) for v in found]
    if classes:
        odd = [n for n in names if n not in classes]
        if odd:
            raise BadInput(f"column {title!r} of {name} holds {odd[0]!r}, which is none of the classes {', '.join(classes)}")
        names = list(classes)
    number = {n: i for i, n in enumerate(names)}
    return torch.tensor([number[str(v)] for v in values]), tuple(names)


def _texts(frame: Any, words: Sequence[str]) -> dict[str, list[str]]:
    read = [frame[c].fillna("").astype(str).tolist() for c in words]
    if len(read) == 2:
        return {"text": read[0], "text_pair": read[1]}
    return {"text": [" ".join(parts) for parts in zip(*read, strict=True)]}


def _features(frame: Any, numbers: Sequence[str], name: str) -> tuple[Tensor, int]:
    """Numbers first, then a column for each word of each category; and how many of the columns are plain numbers."""
    plain, marks = [], []
    for column in numbers:
        values = frame[column]
        if _is_number(values):
            array = values.to_numpy(dtype=np.float64, na_value=np.nan)
            if np.isinf(array).any():
                raise BadInput(f"column {column!r} of {name} holds infinite values; mend the file, or leave it out with --data.columns")
            plain.append(torch.from_numpy(array.copy()))
        else:
            said = values.astype(object).where(values.notna(), "missing").astype(str)
            marks += [torch.from_numpy((said == word).to_numpy().astype(np.float64)) for word in sorted(set(said))]
    return torch.stack([*plain, *marks], 1).float(), len(plain)


def _standardised(data: Data, plain: int) -> Data:
    """Scale the plain numbers by training's mean and deviation, and put the mean where a value is missing."""
    splits = {s: getattr(data, s) for s in ("train", "validation", "test")}
    x_NF = splits["train"].columns["x"][:, :plain].double()
    mean_F = x_NF.nanmean(0).nan_to_num(0.0)
    spread_F = (x_NF - mean_F).square().nanmean(0).sqrt().nan_to_num(0.0)
    spread_F = torch.where(spread_F > 0, spread_F, torch.ones_like(spread_F))

    def scaled(table: Table) -> Table:
        x = table.columns["x"].clone()  # type: ignore[union-attr]
        x[:, :plain] = ((x[:, :plain].double() - mean_F) / spread_F).nan_to_num(0.0).float()
        return Table({**table.columns, "x": x}, table.name)

    train, validation, test = map(scaled, splits.values())
    return dataclasses.replace(data, train=train, validation=validation, test=test)
