"""A condensed set as data: what was trained or chosen is studied, what is held out comes from the data that it stands for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch

from tutelage.data import Data
from tutelage.data.condensation import condensed, read
from tutelage.errors import BadInput


def joined(path: str, of: str, made: Callable[[str], Data]) -> Data:
    """A condensed set with the validation and test samples of the data that it was condensed from.

    Args:
        path: the folder of the set, or of the run that made it.
        of: spec of those data; empty takes the one that was noted with the set, unless it names code.
        made: loads data by their spec.

    Raises:
        MissingFile: there is no such set.
        BadInput: the set is damaged, or the data have other classes or samples of another shape.
    """
    studied = condensed(path)
    noted = read(path)[1].get("source")
    if not of and isinstance(noted, str) and ".py:" not in noted and not noted.startswith("condensed:"):
        of = noted
    if not of:
        return studied
    if of.startswith("condensed:"):
        raise BadInput(f"of={of!r} is itself condensed; give the data that {path} stands for")
    whole = made(of)
    if list(whole.classes) != list(studied.classes):
        raise BadInput(
            f"{of} has {len(whole.classes)} classes, others than the {len(studied.classes)} classes of the condensed set in {path}; "
            "give the data that it was condensed from"
        )
    ours, theirs = studied.train.batch(torch.tensor([0])), whole.train.batch(torch.tensor([0]))
    for name, column in ours.items():
        if name != "id" and (name not in theirs or theirs[name].shape != column.shape):
            raise BadInput(
                f"column {name!r} of {of} is not shaped as in the condensed set in {path}; give the data that it was condensed from"
            )
    return replace(studied, validation=whole.validation, test=whole.test)
