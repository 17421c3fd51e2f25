"""Tables in files: CSV, JSON lines and Parquet, read through pandas."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tutelage.data.frames import Missing, data_of
from tutelage.data.source import Data
from tutelage.data.split import Rare
from tutelage.errors import BadInput, MissingFile
from tutelage.extras import needed


def _load(
    form: str,
    path: str,
    test: str,
    separator: str | None,
    **options: Any,
) -> Data:
    frames = {"train": _frame(form, path, separator)}
    if test:
        frames["test"] = _frame(form, test, separator)
    return data_of(frames, name=Path(path).stem, **options)


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
        path: the file, with a line of column names.
        label: the column that holds the class; '' for none.
        text: columns of text to read; two are a pair for models that take pairs.
        columns: columns of numbers (or of few distinct words, which become one column a word) to read.
            By default, all columns but the others named here: as text where there is text only, else as numbers.
        id: a column that identifies each row; by default the row's number.
        split: a column that says train, validation (or val) or test.
        test: a second file, to test on.
        classes: the classes in the order of the label numbers; by default sorted.
        missing: rows with missing values are refused, dropped, or filled (numbers by the training mean, text by nothing).
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
    return _load("csv", path, test, separator, **given)


def _same_options(form: str, described: str) -> Callable[..., Data]:
    @functools.wraps(csv)
    def load(path: str, *, test: str = "", **options: Any) -> Data:
        return _load(form, path, test, None, **options)

    load.__name__ = load.__qualname__ = form
    load.__doc__ = (csv.__doc__ or "").replace("a CSV file (tabs in .tsv and .tab)", described)
    return load


jsonl = _same_options("jsonl", "a file of JSON lines")
parquet = _same_options("parquet", "a Parquet file")


def _frame(form: str, path: str, separator: str | None) -> Any:
    pandas = needed("pandas", "tables", f"a {form} file")
    file = Path(path)
    if not file.is_file():
        raise MissingFile(f"data file {path!r} does not exist{' (it is a folder)' if file.is_dir() else ''}")
    if file.stat().st_size == 0:
        raise BadInput(f"data file {path!r} is empty")
    try:
        if form == "csv":
            tabs = file.suffix in (".tsv", ".tab")
            frame = pandas.read_csv(file, sep=separator or ("\t" if tabs else ","), encoding="utf-8-sig")
        elif form == "jsonl":
            frame = pandas.read_json(file, lines=True, dtype=False)
        else:
            needed("pyarrow", "tables", "a parquet file")
            frame = pandas.read_parquet(file, engine="pyarrow")
    except (ValueError, OSError, pandas.errors.ParserError) as error:  # pyarrow's errors are of these
        raise BadInput(f"data file {path!r} is no {form} that can be read: {' '.join(str(error).split())[:200]}") from None
    if not len(frame):
        raise BadInput(f"data file {path!r} has column names but no rows")
    frame.columns = [str(c).strip() for c in frame.columns]
    return frame
