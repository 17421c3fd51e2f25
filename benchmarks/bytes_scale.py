"""Bytes, and how much text there is: what drawn classes cost a student falls with the tokens that it is taught on, and with their number.

The students and their training are those of `bytes_students`.
"""

from __future__ import annotations

from typing import Any

import bytes_students
import rowcodes
import smollm2
from bytes_students import ALL, EPOCHS, MEASURED, SEEDS, drawn, plain, shared_out, trained
from tutelage.evaluation.seeds import interval, paired_interval

TITLE = "bytes, and how much text"
CLASSES = 49_152
TAUGHT = {50: (20,), 100: (20,), smollm2.TRAIN: (32, 64)}
"""Drawn classes, by windows of text."""
NOTE = (
    "As the students of `bytes_students`, {epochs} passes, {seeds} seeds: on a quarter and half of the text with 20 drawn classes, on all "
    "of it with more. Each is compared with a student that is taught by all classes on the same text."
)


def study(seeds: list[int]) -> dict[int, Any]:
    """By seed, windows and arm: what was measured."""
    found: dict[int, Any] = {seed: {} for seed in seeds}
    for windows, kept in TAUGHT.items():
        formats = {f"{k} drawn": (rowcodes.row_bytes(k, CLASSES), drawn(k)) for k in kept}
        for seed, each in trained(seeds, formats, windows).items():
            found[seed][windows] = each
    return found


def note() -> str:
    """How it was measured."""
    return NOTE.format(epochs=EPOCHS, seeds=SEEDS)


def rows() -> list[dict[str, Any]]:
    """One row an arm and amount of text: what was measured, and the difference to all classes with its interval."""
    found = shared_out(study)
    told = []
    for windows, kept in TAUGHT.items():
        for k in kept:
            row: dict[str, Any] = {"format": f"{k} drawn", "bytes": rowcodes.row_bytes(k, CLASSES), "tokens": windows * smollm2.POSITIONS}
            for at, what in enumerate(MEASURED):
                values, whole = ([found[seed][windows][arm][at] for seed in range(SEEDS)] for arm in (f"{k} drawn", ALL))
                row[what] = {"per_seed": values, **plain(interval(values)), "difference": plain(paired_interval(values, whole))}
            told.append(row)
    return told


def told(row: dict[str, Any]) -> str:
    """A row in one line."""
    return f"{row['tokens']:,} tokens, {bytes_students.told(row)}"
