"""From what a user names to data: `digits`, `csv:FILE:label=species`, `folder:PATH`, `file.py:function`, or objects made in Python."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch.utils.data import Dataset

from tutelage.data import BUILT_IN, Data, Indexed, Source, Table, from_datasets, is_hf, kind_of
from tutelage.data import LOCATED as TABLES
from tutelage.errors import BadInput, TutelageError, nearest
from tutelage.evaluation.language import is_language, tokens_of
from tutelage.jobs import specs
from tutelage.jobs.condensed import joined
from tutelage.language import Dialogues
from tutelage.language.located import lessons_in
from tutelage.usercode import function_in


def condensed_in(path: str, *, of: str = "") -> Data:
    """Load a condensed set, to study it in place of the data that it stands for.

    Args:
        path: the folder of the set, or of the run that made it.
        of: the data that it stands for, whose validation and test samples are measured on; default: those that were noted with it.

    Returns:
        Samples under labels, and the held-out samples of the other data.
    """
    return joined(path, of, data_from)


LOCATED: dict[str, Callable[..., Data]] = {**TABLES, "lessons": lessons_in, "condensed": condensed_in}
"""Kinds of data of the user's own: `kind:PATH`."""

EXPECTED = f"{', '.join(BUILT_IN)}, {', '.join(f'{k}:PATH' for k in LOCATED)}, or file.py:function"


def data_from(given: Any) -> Data:
    """Make the splits of a task.

    Args:
        given: a `Data`, a source, a torch or Hugging Face data set, a mapping of splits, or a spec.

    Raises:
        BadInput: nothing of the kind; names the nearest.
        MissingFile: a path that does not exist.
    """
    if isinstance(given, str):
        name, text = specs.divided(given, LOCATED)
        kind, _, path = name.partition(":")
        if ".py:" not in name and kind not in (*BUILT_IN, *LOCATED):
            raise BadInput(f"data {name!r} is not known{nearest(kind, [*BUILT_IN, *LOCATED])}; expected {EXPECTED}")
        options = specs.options_in(text, given)
        if ".py:" in name:
            made = data_from(called(function_in(name), name, options))
            return made if made.name != "data" else dataclasses.replace(made, name=given)
        if name in BUILT_IN:
            return called(BUILT_IN[name], name, options)
        if not path:
            raise BadInput(f"data {given!r} says nothing about where; expected {kind}:PATH")
        return called(LOCATED[kind], name, options, os.path.expanduser(path))
    if isinstance(given, Data):
        return given
    if isinstance(given, Source):
        return Data(given)
    if is_hf(given):
        return from_datasets(given, name="data")
    if isinstance(given, Dataset):
        return Data(Indexed(given, "train"))
    if isinstance(given, Mapping):
        unknown = set(given) - {"train", "validation", "test"}
        if unknown or "train" not in given:
            raise BadInput(f"data has splits {sorted(given)}; expected train, and validation and test where there are any")
        splits = {k: v if isinstance(v, Source) else Indexed(v, k) for k, v in given.items()}
        return Data(splits["train"], splits.get("validation"), splits.get("test"))
    raise BadInput(f"data must be a name, a Data, a Source or a torch data set, not {type(given).__name__}")


def called(function: Callable[..., Any], name: str, options: Mapping[str, str], *path: str) -> Any:
    """Call what makes data with options as text.

    Args:
        function: makes it.
        name: as the user wrote it.
        options: of the spec.
        path: of its own data.

    Raises:
        BadInput: an option that it does not take, or whatever it fails with.
    """
    chosen = specs.typed(options, function, f"data {name}")
    try:
        return function(*path, **chosen)
    except TutelageError:
        raise
    except Exception as error:
        raise BadInput(f"data {specs.write(name, chosen)} cannot be made: {type(error).__name__}: {error}") from error


def check(data: Data) -> None:
    """Refuse data that would teach nonsense: numbers that are not finite, labels that training lacks.

    Raises:
        BadInput: names the split, the column or class, and what to do.
    """
    for source in filter(None, (data.train, data.validation, data.test)):
        for key, column in source.columns.items() if isinstance(source, Table) else ():
            if isinstance(column, torch.Tensor) and column.is_floating_point() and not column.isfinite().all():
                bad = int((~column.isfinite()).flatten(1).any(1).sum()) if column.ndim > 1 else int((~column.isfinite()).sum())
                raise BadInput(f"column {key!r} of {source.name} is NaN or infinite in {bad} of {len(source)} samples; mend or drop them")
    if isinstance(data.train, Dialogues) or is_language(data.train):
        return
    known = data.train.labels()
    if known is None or known.is_floating_point() or known.ndim != 1:
        return
    for source in filter(None, (data.validation, data.test)):
        shown = source.labels()
        if shown is None or shown.shape[1:] != known.shape[1:]:
            continue
        new = sorted(set(shown.unique().tolist()) - set(known.unique().tolist()) - {-100})
        if new:
            called = repr(data.classes[new[0]]) if data.classes else str(new[0])
            raise BadInput(f"class {called} is in {source.name} but not in training; give samples of it, or leave it out")


def in_a_line(data: Data) -> str:
    """Splits, classes and their balance, in a line for the log."""
    found = described(data)
    sizes = ", ".join(f"{s['samples']:,} {split}" for split, s in found["splits"].items())
    if is_language(data.train):
        return f"{sizes}; {tokens_of(data.train):,} tokens to learn"
    classes = f"; {len(found['classes'])} classes" if found["classes"] else "; no labels"
    uneven = found["imbalance"] is not None and found["imbalance"] >= 1.5
    return f"{sizes}{classes}" + (f", the largest {found['imbalance']:.1f} times the smallest" if uneven else "")


def described(data: Data) -> dict[str, Any]:
    """What a data set holds, as plain values.

    Returns:
        `name`, `kind`, `columns` (name to shape or type), `classes`, `splits` (each with `samples` and, with labels, `counts` by class),
        `imbalance` (training samples of the largest class over those of the smallest that has any; None without labels), and a few
        `examples`.
    """
    language = is_language(data.train)
    count = None if language else data.class_count()
    named = list(data.classes) or [str(i) for i in range(count or 0)]
    splits: dict[str, Any] = {}
    for split in ("train", "validation", "test"):
        source: Source | None = getattr(data, split)
        if source is None:
            continue
        labels = None if language else source.labels()
        counts = None
        if labels is not None and labels.ndim == 1 and not labels.is_floating_point():
            counts = torch.bincount(labels[labels >= 0].long(), minlength=len(named)).tolist()
        splits[split] = {"samples": len(source), "counts": counts}
    counts = splits["train"]["counts"]
    first = data.train.batch(torch.arange(min(3, len(data.train))))
    columns = {k: str(tuple(v.shape[1:])) if isinstance(v, torch.Tensor) else type(v[0]).__name__ for k, v in first.items() if k != "id"}
    texts = [" ".join(t.split())[:110] for t in first["text"]] if kind_of(data.train) == "text" else []
    return {
        "name": data.name,
        "kind": kind_of(data.train),
        "columns": columns,
        "classes": named if counts else [],
        "splits": splits,
        "imbalance": max(counts) / min(c for c in counts if c) if counts and any(counts) else None,
        "examples": texts,
    }
