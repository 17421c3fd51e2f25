"""What `python benchmarks recipes` has measured of each recipe, in words: its cost over plain knowledge distillation."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

FILE = Path(__file__).parent.parent / "benchmarks" / "results" / "recipes.json"
PLAIN = "hinton-kd"
"""The recipe that the others are compared with."""

Row = Mapping[str, Any]


def measured(name: str, file: Path = FILE) -> dict[str, Row]:
    """A recipe's rows by what they are of: "update", "training", "memory"; none where it was not measured."""
    rows = json.loads(file.read_text())["rows"] if file.is_file() else []
    return {row["of"]: row for row in rows if row["recipe"] == name}


def brief(name: str, file: Path = FILE) -> str:
    """What a whole training costs, in a few words."""
    if name == PLAIN:
        return "plain KD, whose cost is 1"
    rows = measured(name, file)
    return f"costs {rows['training']['ratio']['median']:.2f} times plain KD" if rows else "cost not yet measured"


def sentence(name: str, file: Path = FILE) -> str:
    """What an update, a whole training and its memory cost, with the spread; links to the table, seen from a recipe's page."""
    table = "[measured](../benchmarks.md)"
    if name == PLAIN:
        return f"1, by definition: it is the plain distillation that the other methods are {table} against."
    rows = measured(name, file)
    if not rows:
        return "Not yet measured."
    whole = rows["training"]
    counts = f"{whole['updates'] / whole['reference_updates']:.3g} times the updates" if _more(whole) else "as many updates"
    return (
        f"An update takes {_spread(rows['update'])} times the time of one of [{PLAIN}]({PLAIN}.md), a whole training at the default knobs, "
        f"with {counts}, {_spread(whole)} times; the peak of its memory is {rows['memory']['ratio']['median']:.2f} times as high. "
        f"Medians and quartiles as {table} on one small pair; another pair has other ratios."
    )


def _more(row: Row) -> bool:
    return bool(row["updates"] != row["reference_updates"])


def _spread(row: Row) -> str:
    ratio = row["ratio"]
    return f"{ratio['median']:.2f} ({ratio['lower_quartile']:.2f} to {ratio['upper_quartile']:.2f})"
