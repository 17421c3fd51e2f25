"""Tables in files: CSV, JSON lines and Parquet, read through pandas."""

from __future__ import annotations

import gzip
import inspect
import json
import re
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tutelage.data.frames import Missing, data_of
from tutelage.data.source import Data
from tutelage.data.split import Rare
from tutelage.errors import BadInput, MissingFile, in_short
from tutelage.extras import needed

NOTHING = ("", "NA", "N/A", "n/a", "#N/A", "<NA>", "NaN", "nan", "NULL", "null", "None")
"""What stands in a CSV file for a missing value; in a column that is named as text or id, only an empty cell does."""


def csv(
    path: str,
    *,
    label: str = "label",
    text: Sequence[str] = (),
    columns: Sequence[str] = (),
    id: str = "",
    split: str = "",
    test: str = "",
    classes: Sequence[str] = (),
    missing: Missing = "refuse",
    train: float = 0.7,
    validation: float = 0.15,
    seed: int = 0,
    rare: Rare = "refuse",
    separator: str | None = None,
) -> Data:
    """Load a table from a CSV file (tabs in .tsv and .tab).

    Args:
        path: the file, with a line of column names; columns without a name are left out.
        label: the column that holds the class; '' for none.
        text: columns of text to read; two are a pair for models that take pairs.
        columns: columns of numbers (or of few distinct words, which become one column a word) to read.
            By default, all columns but the others named here: as text where there is text only, else as numbers.
        id: a column that identifies each row; by default the row's number.
        split: a column that says train, validation (or val) or test.
        test: a second file, to test on.
        classes: the classes in the order of the label numbers; by default sorted.
        missing: rows with missing values are refused, dropped, or filled (numbers by the training mean, text by nothing). A row without a
            label is never filled; a split that is dropped whole is cut anew.
        train: share to train on, where nothing says what is train.
        validation: share to choose on; the rest is test.
        seed: of the cut.
        rare: a class with too few rows for each split is refused, dropped or kept.
        separator: between cells; by default a comma, or a tab in .tsv and .tab.

    Returns:
        Column `text` (and `text_pair`) of strings, or `x` (N, F), numbers standardised by training's mean and deviation; `y`.

    Raises:
        MissingFile: no such file.
        BadInput: a damaged file, a column that is not there, missing or infinite values, too many classes.
    """
    given = {k: v for k, v in locals().items() if k not in ("path", "test", "separator")}
    if separator == "\\t":
        separator = "\t"
    if separator is not None and len(separator) != 1:
        raise BadInput(f"separator={separator!r}; expected one character")

    def read(file: Path) -> Any:
        return _csv(file, separator or ("\t" if file.name.removesuffix(".gz").endswith((".tsv", ".tab")) else ","), [*text, id])

    return _load("csv", read, path, test, **given)


def _same_options(form: str, described: str, read: Callable[[Path], Any]) -> Callable[..., Data]:
    def load(path: str, *, test: str = "", **options: Any) -> Data:
        return _load(form, read, path, test, **options)

    signature = inspect.signature(csv)
    load.__signature__ = signature.replace(parameters=[p for n, p in signature.parameters.items() if n != "separator"])  # type: ignore[attr-defined]
    load.__doc__ = re.sub(r" *separator: .*\n", "", csv.__doc__ or "").replace("a CSV file (tabs in .tsv and .tab)", described)
    load.__doc__ = load.__doc__.replace("the file, with a line of column names; columns without a name are left out.", "the file.")
    load.__name__ = load.__qualname__ = form
    return load


def _load(form: str, read: Callable[[Path], Any], path: str, test: str, **options: Any) -> Data:
    frames = {"train": _frame(form, read, path)}
    if test:
        frames["test"] = _frame(form, read, test)
    return data_of(frames, name=Path(path.removesuffix(".gz")).stem, **options)


def _frame(form: str, read: Callable[[Path], Any], path: str) -> Any:
    needed("pandas", "tables", f"a {form} file")
    file = Path(path)
    if file.is_dir():
        raise MissingFile(f"data file {path!r} is a folder; expected a {form} file")
    if not file.is_file():
        raise MissingFile(f"data file {path!r} does not exist")
    try:
        if file.stat().st_size == 0:
            raise ValueError("it is empty")
        frame = read(file)
    except (ValueError, OSError, EOFError, zlib.error, NotImplementedError) as error:  # the parsers' own errors are of these
        if isinstance(error, BadInput):
            raise
        raise BadInput(f"data file {path!r} is no {form} that can be read: {in_short(error)}") from None
    if not len(frame):
        raise BadInput(f"data file {path!r} holds no rows")
    frame.columns = [str(c).strip() for c in frame.columns]
    return frame


def _csv(file: Path, separator: str, literal: Sequence[str]) -> Any:
    import pandas

    how: dict[str, Any] = {"sep": separator, "encoding": "utf-8-sig", "keep_default_na": False}
    names = pandas.read_csv(file, header=None, nrows=1, dtype=str, **how).iloc[0].str.strip().tolist()
    double = next((n for n in names if n and names.count(n) > 1), None)
    if double:  # pandas would rename it, and a second label would be read as a number
        raise ValueError(f"it has two columns called {double!r}; rename one")
    unnamed = [f"\0{i}" for i, n in enumerate(names) if not n]
    names = [n or f"\0{i}" for i, n in enumerate(names)]
    nothing = {n: [""] if n in literal else NOTHING for n in names}
    types = {n: str for n in literal if n in names}
    frame = pandas.read_csv(file, header=0, names=names, na_values=nothing, dtype=types, low_memory=False, **how)
    if not isinstance(frame.index, pandas.RangeIndex):  # pandas takes cells beyond the names for an index
        raise ValueError(f"its rows have more cells than the {len(names)} column names")
    return frame.drop(columns=unnamed)


def _jsonl(file: Path) -> Any:
    import pandas

    rows = []
    with gzip.open(file, "rt", encoding="utf-8-sig") if file.suffix == ".gz" else file.open(encoding="utf-8-sig") as lines:
        for number, line in enumerate(lines, 1):
            if line.strip():
                try:
                    rows.append(json.loads(line))
                except json.JSONDecodeError as error:
                    raise ValueError(f"line {number}: {error.msg} at character {error.pos + 1}") from None
                if not isinstance(rows[-1], dict):
                    raise ValueError(f"line {number} is no mapping of columns to values")
    return pandas.DataFrame(rows)


def _parquet(file: Path) -> Any:
    import pandas

    needed("pyarrow", "tables", "a parquet file")
    frame = pandas.read_parquet(file, engine="pyarrow")
    return frame.reset_index([n for n in frame.index.names if n is not None])


jsonl = _same_options("jsonl", "a file of JSON lines", _jsonl)
parquet = _same_options("parquet", "a Parquet file", _parquet)

FORMS = {".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "jsonl", ".parquet": "parquet", ".csv": "csv", ".tsv": "csv", ".tab": "csv"}
"""What the ending of a file's name says that it holds; `.gz` may follow."""


def form_of(path: str) -> str | None:
    """Which form the name of a file tells: csv, jsonl or parquet; None for anything else."""
    return FORMS.get(Path(path.removesuffix(".gz")).suffix)


def frame_of(path: str, text: Sequence[str] = ()) -> Any:
    """The table in a file, whose form its name tells, as a pandas frame.

    Args:
        path: the file.
        text: columns of text, where it has them; there "NA" and the like are words, in CSV.

    Raises:
        MissingFile: no such file.
        BadInput: a name that tells no form, or a damaged or empty file.
    """
    form = form_of(path)
    if form is None:
        raise BadInput(f"the name of {path!r} does not tell what it holds; expected one that ends with {', '.join(FORMS)}")
    separator = "," if Path(path.removesuffix(".gz")).suffix == ".csv" else "\t"
    readers = {"csv": lambda file: _csv(file, separator, text), "jsonl": _jsonl, "parquet": _parquet}
    return _frame(form, readers[form], path)
