"""A model's own view of a table: which columns, in which order, and how scaled. Shapes: B batch, F features."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from tutelage.errors import BadInput
from tutelage.signals.signals import Batch


class Columns:
    """Turns rows into the numbers that one model was trained on.

    A column is `{"column": name, "mean": m, "spread": s}`, read as (value - m) / s, or `{"column": name, "words": [...]}`, which becomes a
    number a word, 1 for the word that is there; None in place of a word keeps its number at 0, since training did not show it. A missing
    number becomes 0, which is training's mean; a missing word is the word "missing".

    Args:
        columns: of the model, in order.
        given: those of the data that batches come from, where they were scaled by other means or stand in another order; None where they
            are the model's own.

    Raises:
        BadInput: the data lack a column of the model's.
    """

    def __init__(self, columns: Sequence[Mapping[str, Any]], given: Sequence[Mapping[str, Any]] | None = None) -> None:
        self.columns = [dict(c) for c in columns]
        self._places: list[int] = []
        self._factors: list[float] = []
        self._shifts: list[float] = []
        if given is not None and [dict(c) for c in given] != self.columns:
            self._match(given)

    def _match(self, given: Sequence[Mapping[str, Any]]) -> None:
        """For each of the model's numbers, where it stands in the data's and how it is scaled anew; place -1 where it is always 0."""
        places: dict[tuple[str, str | None], int] = {}
        for column in given:
            for word in column.get("words", [None]):
                places[column["column"], word] = len(places)
        known = {c["column"]: c for c in given}
        for column in self.columns:
            name = column["column"]
            if name not in known or ("words" in known[name]) != ("words" in column):
                kind = "words" if "words" in column else "numbers"
                raise BadInput(f"the model was trained on a column {name!r} of {kind}, which these data lack; they have {', '.join(known)}")
            if "words" in column:
                self._places += [-1 if word is None else places.get((name, word), -1) for word in column["words"]]
                self._factors += [1.0] * len(column["words"])
                self._shifts += [0.0] * len(column["words"])
            else:
                self._places.append(places[name, None])
                self._factors.append(known[name]["spread"] / column["spread"])
                self._shifts.append((known[name]["mean"] - column["mean"]) / column["spread"])

    @property
    def described(self) -> dict[str, Any]:
        """As plain values, from which `preprocessing.rebuilt` makes it again."""
        return {"kind": "table", "columns": self.columns}

    def of(self, rows: Sequence[Mapping[str, Any]]) -> Tensor:
        """The numbers of raw rows, each a mapping from column to value.

        Returns:
            float32 (B, F).

        Raises:
            BadInput: a value that is no number where one is expected.
        """
        made = []
        for row in rows:
            numbers: list[float] = []
            for column in self.columns:
                value = row.get(column["column"])
                if "words" in column:
                    said = "missing" if value is None else str(value)
                    numbers += [float(said == word) for word in column["words"]]
                    continue
                try:
                    number = math.nan if value is None else float(value)
                except (TypeError, ValueError):
                    raise BadInput(f"column {column['column']!r} holds {value!r}; expected a number") from None
                numbers.append(0.0 if math.isnan(number) else (number - column["mean"]) / column["spread"])
            made.append(numbers)
        return torch.tensor(made, dtype=torch.float32)

    def __call__(self, batch: Batch) -> tuple[Tensor]:
        """What the model is called with: the batch's `x` (B, F), in the model's own scale."""
        x_BF: Tensor = batch["x"]
        if not self._places:
            return (x_BF,)
        nothing_B1 = torch.zeros(len(x_BF), 1, dtype=torch.float64, device=x_BF.device)
        factors_F, shifts_F = (torch.tensor(v, dtype=torch.float64, device=x_BF.device) for v in (self._factors, self._shifts))
        scaled_BF = torch.cat([x_BF.double(), nothing_B1], 1)[:, self._places] * factors_F + shifts_F
        return (scaled_BF.to(x_BF.dtype),)


def rescaled(trained: Any, given: Mapping[str, Any], name: str) -> Columns | None:
    """What a model that was trained on one table needs to see another: numbers scaled as it knows them.

    Args:
        trained: what the model says of how its rows were prepared, see `Data.prepared`; from a file, so it may be anything.
        given: the same of the data at hand.
        name: how messages call the model.

    Returns:
        None where the two are alike, or one of them is no table.

    Raises:
        BadInput: what the model says is damaged, or the data lack a column.
    """
    if not isinstance(trained, Mapping) or trained.get("kind") != "table" or given.get("kind") != "table":
        return None
    if not are_columns(trained.get("columns")):
        raise BadInput(f"{name} is damaged: it does not say how its rows were made numbers")
    return None if trained["columns"] == given["columns"] else Columns(trained["columns"], given["columns"])


def are_columns(found: Any) -> bool:
    """Whether these are columns as `Columns` takes them; for what was read from a file."""

    def is_one(column: Any) -> bool:
        if not isinstance(column, dict) or not isinstance(column.get("column"), str):
            return False
        words, scale = column.get("words"), [column.get("mean"), column.get("spread")]
        return isinstance(words, list) or (all(isinstance(n, (int, float)) for n in scale) and column["spread"] != 0)

    return isinstance(found, list) and all(map(is_one, found))
