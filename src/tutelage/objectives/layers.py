"""Layer by layer: hidden states, and attention scores, of a student against those of a teacher of its own shape, one value a sample.

Padding counts for nothing: a sample has the same value whatever it is padded to. Shapes: B batch, T tokens, D width, N heads.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor

from tutelage.errors import BadInput
from tutelage.objectives.objective import Needs, Objective, Term, alike
from tutelage.signals import Batch, Signals, Tap
from tutelage.signals.attention import Valid, scores


def _everywhere(batch: Batch) -> Tensor | None:
    return None


class _Layers(Objective):
    """Base: one term, a sum over layers."""

    def __init__(self, layers: Sequence[object], valid: Callable[[Batch], Tensor | None] | None, name: str) -> None:
        super().__init__()
        if not layers:
            raise BadInput(f"term {name!r} compares no layer; give at least one")
        self.name, self.valid = name, valid or _everywhere

    def gaps(self, student: Signals, teacher: Signals, valid_BT: Tensor | None) -> list[Tensor]:
        """Each layer's values, (B,)."""
        raise NotImplementedError

    def terms(self, student: Signals, teacher: Signals | None, batch: Batch) -> list[Term]:
        """One term: the sum over layers, one value a sample."""
        if teacher is None:
            raise BadInput(f"term {self.name!r} matches a teacher, but its learner has none; give Learner(..., teacher=...)")
        total = sum(self.gaps(student, teacher, self.valid(batch)))
        assert isinstance(total, Tensor)
        return [Term(self.name, total, mask=batch.get("mask") if getattr(batch.get("mask"), "ndim", 0) == 1 else None)]


class HiddenStates(_Layers):
    """Mean squared error of hidden states, summed over layers.

    Args:
        layers: (student's tap, teacher's tap) of each.
        valid: which tokens are no padding, `batch -> (B, T)`; None for all.
        name: of the term.

    Raises:
        BadInput: no layer.
        ShapeMismatch: the sides differ in shape.

    Source: Zhang et al., "TernaryBERT: Distillation-aware Ultra-low Bit BERT", 2020, eq. 7.
    Relations: of one layer without padding it is `Match(tap, by=mse())`.
    """

    def __init__(self, layers: Sequence[tuple[Tap, Tap]], *, valid: Valid | None = None, name: str = "hidden") -> None:
        super().__init__(layers, valid, name)
        self.layers = tuple(layers)

    def needs(self) -> Needs:
        """The layers' taps."""
        return Needs(frozenset(s for s, _ in self.layers), frozenset(t for _, t in self.layers))

    def gaps(self, student: Signals, teacher: Signals, valid_BT: Tensor | None) -> list[Tensor]:
        """Each layer's mean over the tokens that are none of padding."""
        found = []
        for own, goal in self.layers:
            s, t = alike(f"term {self.name!r} at {own}", student[own], teacher[goal].detach())
            gaps = (s - t).square().flatten(2).mean(2) if s.ndim > 2 else (s - t).square()
            found.append(_mean(gaps, valid_BT if s.ndim > 2 else None))
        return found


class AttentionScores(_Layers):
    """Mean squared error of attention scores before the softmax, summed over layers; queries and keys are read, scores made of them.

    Args:
        layers: (student's query, student's key, teacher's query, teacher's key) of each: taps that give (B, T, D).
        heads: of both sides.
        valid: which tokens are no padding, `batch -> (B, T)`; None for all. Scores from or to padding are left out.
        name: of the term.

    Raises:
        BadInput: no layer, or heads below 1.
        ShapeMismatch: the sides differ in shape.

    Source: Jiao et al., "TinyBERT: Distilling BERT for Natural Language Understanding", 2020, eq. 7. There padding is zeroed and counts in
        the mean, so that the value hangs on how far a batch is padded; here it does not count.
    """

    def __init__(
        self, layers: Sequence[tuple[Tap, Tap, Tap, Tap]], heads: int, *, valid: Valid | None = None, name: str = "scores"
    ) -> None:
        super().__init__(layers, valid, name)
        if heads < 1:
            raise BadInput(f"AttentionScores(heads={heads}): expected at least 1")
        self.layers, self.heads = tuple(layers), heads

    def needs(self) -> Needs:
        """The queries and keys."""
        return Needs(frozenset(p for layer in self.layers for p in layer[:2]), frozenset(p for layer in self.layers for p in layer[2:]))

    def gaps(self, student: Signals, teacher: Signals, valid_BT: Tensor | None) -> list[Tensor]:
        """Each layer's mean over heads and pairs of tokens."""
        found = []
        for query, key, its_query, its_key in self.layers:
            own = scores(student[query], student[key], self.heads)
            goal = scores(teacher[its_query].detach(), teacher[its_key].detach(), self.heads)
            s, t = alike(f"term {self.name!r} at {query}", own, goal)
            pairs = None if valid_BT is None else (valid_BT[:, :, None] & valid_BT[:, None]).flatten(1)
            found.append(_mean((s - t).square().mean(1).flatten(1), pairs))
        return found


def _mean(values_BX: Tensor, valid_BX: Tensor | None) -> Tensor:
    """Mean over the second dimension where valid, (B,)."""
    if valid_BX is None:
        return values_BX.mean(1)
    return values_BX.masked_fill(~valid_BX, 0.0).sum(1) / valid_BX.sum(1).clamp(min=1)
