"""What `python benchmarks recipes` has measured of each recipe, in words: its cost over plain knowledge distillation."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

FILE = Path(__file__).parent.parent / "benchmarks" / "results" / "recipes.json"
PLAIN = "hinton-kd"
"""The recipe that the others are compared with."""
DENOISER = "ddpm"
"""The recipe that those are compared with whose models draw images."""
REFERENCES = {PLAIN: "plain KD", DENOISER: "training a denoiser"}

Row = Mapping[str, Any]


def measured(name: str, file: Path = FILE) -> dict[str, Row]:
    """A recipe's rows by what they are of: "update", "training", "memory"; none where it was not measured."""
    rows = json.loads(file.read_text())["rows"] if file.is_file() else []
    return {row["of"]: row for row in rows if row["recipe"] == name}


def brief(name: str, file: Path = FILE) -> str:
    """What a whole training costs, in a few words."""
    if name in REFERENCES:
        return f"{REFERENCES[name]}, whose cost is 1"
    rows = measured(name, file)
    if not rows:
        return "cost not yet measured"
    whole = rows["training"]
    return f"costs {whole['ratio']['median']:.2f} times {REFERENCES[whole['against']]}"


def sentence(name: str, file: Path = FILE) -> str:
    """What an update, a whole training and its memory cost, with the spread; links to the table, seen from a recipe's page."""
    table = "[measured](../benchmarks.md)"
    if name == PLAIN:
        return f"1, by definition: it is the plain distillation that the other methods are {table} against."
    if name == DENOISER:
        return f"1, by definition: it is the plain training of a denoiser that methods of generators are {table} against."
    rows = measured(name, file)
    if not rows:
        return "Not yet measured."
    whole = rows["training"]
    plain = whole["against"]
    counts = f"{whole['updates'] / whole['reference_updates']:.3g} times the updates" if _more(whole) else "as many updates"
    return (
        f"An update takes {_spread(rows['update'])} times the time of one of [{plain}]({plain}.md), a whole training at the default knobs, "
        f"with {counts}, {_spread(whole)} times; the peak of its memory is {rows['memory']['ratio']['median']:.2f} times as high. "
        f"Medians and quartiles as {table} on one small pair; another pair has other ratios."
    )


def _more(row: Row) -> bool:
    return bool(row["updates"] != row["reference_updates"])


def _spread(row: Row) -> str:
    ratio = row["ratio"]
    return f"{ratio['median']:.2f} ({ratio['lower_quartile']:.2f} to {ratio['upper_quartile']:.2f})"
