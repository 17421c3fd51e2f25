"""Several sources as one, read one after the other."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from tutelage.data.source import Source
from tutelage.randomness import derive
from tutelage.signals import Batch


class Joined(Source):
    """The samples of several sources, in order. Their ids are kept where they are distinct, else samples are counted anew.

    Where one source gives longer rows of positions than another, the shorter ones are filled up: with 0, which is False in a mask, and
    labels with -100.

    Args:
        sources: at least one, with the same columns.
        name: how tables call it.
    """

    def __init__(self, sources: Sequence[Source], name: str) -> None:
        self.sources, self.name = list(sources), name
        self.ends = torch.tensor([len(s) for s in self.sources]).cumsum(0)
        ids = torch.cat([s.ids() for s in self.sources])
        self._ids = ids if len(ids.unique()) == len(ids) else torch.arange(len(ids))

    def __len__(self) -> int:
        return int(self.ends[-1])

    def batch(self, positions: Tensor, *, seed: int = 0, views: Tensor | None = None) -> Batch:
        """Read from each source its part, and put the samples into the order that was asked for."""
        which = torch.searchsorted(self.ends, positions, right=True)
        begins = self.ends - torch.tensor([len(s) for s in self.sources])
        parts: list[Batch] = []
        places: list[Tensor] = []
        for number in which.unique().tolist():
            own = (which == number).nonzero()[:, 0]
            seen = None if views is None else views[own]
            parts.append(self.sources[number].batch(positions[own] - begins[number], seed=seed, views=seen))
            places.append(own)
        back = torch.cat(places).argsort()
        joined: dict[str, object] = {}
        for key in parts[0]:
            values = [part[key] for part in parts]
            if isinstance(values[0], Tensor):
                joined[key] = torch.cat(_as_long(values, key))[back]
            else:
                flat = [item for value in values for item in value]
                joined[key] = [flat[i] for i in back.tolist()]
        return {**joined, "id": self._ids[positions]}

    def labels(self) -> Tensor | None:
        """Those of all sources; None where one has none."""
        found = [s.labels() for s in self.sources]
        known = [labels for labels in found if labels is not None]
        return torch.cat(_as_long(known, "y")) if len(known) == len(found) else None

    def varies(self) -> bool:
        """Whether one of the sources does."""
        return any(source.varies() for source in self.sources)

    def ids(self) -> Tensor:
        """Those of all sources, or counted."""
        return self._ids

    def fingerprint(self) -> str:
        """Hash of all sources."""
        return f"{derive('joined', *(s.fingerprint() for s in self.sources)):016x}"


def _as_long(columns: Sequence[Tensor], key: str) -> list[Tensor]:
    """Columns (B, T, ...) that differ in T, each filled up to the longest; others as they are."""
    longest = max((column.shape[1] for column in columns if column.ndim > 1), default=0)
    return [
        column
        if column.ndim < 2 or column.shape[1] == longest
        else F.pad(column, (*[0, 0] * (column.ndim - 2), 0, longest - column.shape[1]), value=-100 if key == "y" else 0)
        for column in columns
    ]
