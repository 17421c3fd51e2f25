"""Signals: what one model showed on one batch, tap by tap. Batch: what it was asked.

Dense logits are a bare tensor, so plain maths needs no unwrapping; a teacher may give `SparseLogits` instead, and where a pass is asked for
them, logits are `DeferredLogits`. Shapes: B batch.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

from torch import Tensor

from tutelage.errors import UnknownTap, nearest
from tutelage.signals.deferred import DeferredLogits
from tutelage.signals.sparse import SparseLogits
from tutelage.signals.taps import Tap

Batch: TypeAlias = Mapping[str, Any]
"""Columns of a batch. Always `id`, int64 of shape (B,): all that is cached, weighted or resumed is keyed by it."""

RESERVED = frozenset({"id", "y", "mask", "weight", "domain", "view"})
"""Columns that speak about samples and are never a model's input."""


class Signals(Mapping[Tap, Any]):
    """What one model showed on one batch.

    Args:
        values: what was seen at each tap that was asked for: a tensor; at "logits" also `DeferredLogits`, of a teacher also `SparseLogits`.
        present_B: rows this model was asked about, bool of shape (B,); None means all of them.
        views: what was seen in other views of the samples, by name, for objectives that look there; see `objectives.Seen`.
        members: what the teachers of a pool showed that were asked by name.
    """

    __slots__ = ("members", "present_B", "values_by_tap", "views")

    def __init__(
        self,
        values: Mapping[Tap, Tensor | SparseLogits | DeferredLogits],
        present_B: Tensor | None = None,
        views: Mapping[str, Any] | None = None,
        members: Mapping[str, Signals] | None = None,
    ) -> None:
        self.values_by_tap = dict(values)
        self.present_B = present_B
        self.views: Mapping[str, Any] = views or {}
        self.members: Mapping[str, Signals] = members or {}

    def __getitem__(self, tap: Tap) -> Any:
        try:
            return self.values_by_tap[tap]
        except KeyError:
            known = [str(t) for t in self.values_by_tap]
            raise UnknownTap(f"no signal at tap {str(tap)!r} was asked for; there are {known}{nearest(str(tap), known)}") from None

    def __iter__(self) -> Iterator[Tap]:
        return iter(self.values_by_tap)

    def __len__(self) -> int:
        return len(self.values_by_tap)

    def __repr__(self) -> str:
        return f"Signals({ {str(t): tuple(v.shape) for t, v in self.values_by_tap.items()} })"

    def detach(self) -> Signals:
        """The same signals without a way back for gradients."""
        return Signals({t: v.detach() for t, v in self.values_by_tap.items()}, self.present_B)
