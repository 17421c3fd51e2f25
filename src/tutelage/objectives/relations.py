"""Relations between tokens: how alike the queries, keys or values of one layer find each pair of tokens, student against teacher.

A layer's heads are laid side by side and cut anew into any number of relation heads, so that neither widths nor heads of the two sides need
to fit. Shapes: B batch, T tokens, D width of queries, N relation heads, R rows of tokens at a time, H width of a relation head.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tutelage.errors import BadInput, ShapeMismatch
from tutelage.objectives.objective import Needs, Objective, Term
from tutelage.signals import Batch, Signals, Tap
from tutelage.signals.attention import Transformer, Valid
from tutelage.signals.outputs import raised

AT_ONCE = 1 << 20
"""Similarities of a side that are in memory at a time, B * N * R * T; of longer texts fewer heads, then fewer rows."""


@dataclass(frozen=True)
class Projected:
    """The queries, keys or values of all heads at a tap.

    Args:
        tap: gives (B, T, D).
        shared: by how many heads of queries each head there is looked at; they are repeated so often, which gives D times as many numbers.
        width: of a head; needed where `shared` is above 1.
    """

    tap: Tap
    shared: int = 1
    width: int | None = None

    def of(self, signals: Signals) -> Tensor:
        """(B, T, D), in float32 or wider."""
        read_BTD = raised(signals[self.tap])
        if self.shared == 1:
            return read_BTD
        assert self.width is not None
        return read_BTD.unflatten(-1, (-1, self.width)).repeat_interleave(self.shared, dim=2).flatten(2)


def projected(found: Transformer, layer: int, which: str, width: int | None = None) -> Projected:
    """Where a layer's queries, keys or values are read.

    Args:
        found: the transformer.
        layer: which, counted from 1.
        which: "query", "key" or "value".
        width: of a head, where several heads of queries share one of keys and values.
    """
    block = found.blocks[layer - 1]
    return Projected(getattr(block, which), 1 if which == "query" else found.shared, width)


class Relation(Objective):
    """Cross-relations of tokens: KL(teacher's || student's) of softmax(X Y^T / sqrt(H)), row by row, one value a sample.

    A sample's value is the mean over its relation heads and its true tokens; padding is neither a row nor seen by one, so that it changes
    nothing. The similarities, N times T squared numbers a sample, are made a part at a time and never kept for the way back.

    Args:
        student: X and Y of the student, each a tap or a `Projected`: twice the queries gives query-query relations, queries and keys what
            attention looks at.
        teacher: X and Y of the teacher.
        heads: relation heads N; they must divide the width of each side.
        valid: which tokens are no padding, `batch -> (B, T)`; None for all.
        name: of the term.

    Raises:
        BadInput: heads below 1, or that do not divide a side's width.
        ShapeMismatch: the sides have different numbers of tokens.

    Source: Wang et al., "MiniLMv2: Multi-Head Self-Attention Relation Distillation for Compressing Pretrained Transformers", 2021, eq. 5-7.
    Relations: with queries and keys of sides that have N heads themselves it is the attention transfer of MiniLM (Wang et al., 2020,
        eq. 3), and of values its value relation.

    Example:
        >>> loss = Relation(("q", "q"), ("layer.5.q", "layer.5.q"), heads=12, name="query-query")
    """

    def __init__(
        self,
        student: tuple[Tap | Projected, Tap | Projected],
        teacher: tuple[Tap | Projected, Tap | Projected],
        *,
        heads: int,
        valid: Valid | None = None,
        name: str = "relation",
    ) -> None:
        super().__init__()
        if not isinstance(heads, int) or heads < 1:
            raise BadInput(f"term {name!r} has {heads!r} relation heads; expected at least 1")
        self.student, self.teacher = _both(student), _both(teacher)
        self.heads, self.valid, self.name = heads, valid, name

    def needs(self) -> Needs:
        """X and Y on both sides."""
        return Needs(frozenset(each.tap for each in self.student), frozenset(each.tap for each in self.teacher))

    def terms(self, student: Signals, teacher: Signals | None, batch: Batch) -> list[Term]:
        """One term, one value a sample."""
        if teacher is None:
            raise BadInput(f"term {self.name!r} matches a teacher, but its learner has none; give Learner(..., teacher=...)")
        own, goal = [each.of(student) for each in self.student], [each.of(teacher).detach() for each in self.teacher]
        shapes = {side: (*xs[0].shape[:-1],) for side, xs in (("student", own), ("teacher", goal))}
        if any(x.ndim != 3 or x.shape != xs[0].shape for xs in (own, goal) for x in xs) or shapes["student"] != shapes["teacher"]:
            said = " and ".join(str(tuple(x.shape)) for x in (own[0], goal[0]))
            raise ShapeMismatch(
                f"term {self.name!r}: student and teacher have projections of shape {said}; expected (B, T, D) over the same tokens"
            )
        for side, xs in (("student", own), ("teacher", goal)):
            if xs[0].shape[-1] % self.heads:
                raise BadInput(
                    f"term {self.name!r}: {self.heads} relation heads do not divide the {side}'s width {xs[0].shape[-1]}; "
                    f"give a number that divides both {own[0].shape[-1]} and {goal[0].shape[-1]}"
                )
        valid_BT = self.valid(batch) if self.valid is not None else None
        if valid_BT is not None and valid_BT.shape != own[0].shape[:2]:
            raise ShapeMismatch(
                f"term {self.name!r}: the mask of tokens is {tuple(valid_BT.shape)}, the projections {tuple(own[0].shape)}; "
                "expected the same samples and tokens"
            )
        mask = batch.get("mask") if getattr(batch.get("mask"), "ndim", 0) == 1 else None
        return [Term(self.name, relation_kl(own[0], own[1], goal[0], goal[1], self.heads, valid_BT), mask=mask)]


def relation_kl(x_BTD: Tensor, y_BTD: Tensor, goal_x_BTD: Tensor, goal_y_BTD: Tensor, heads: int, valid_BT: Tensor | None = None) -> Tensor:
    """The value of each sample, (B,), of `Relation`; with a gradient with respect to x and y, but no second one.

    Args:
        x_BTD: rows of the student's relations.
        y_BTD: what they look at.
        goal_x_BTD: the teacher's rows; its width may differ.
        goal_y_BTD: what they look at.
        heads: relation heads.
        valid_BT: tokens that are no padding; None for all.
    """
    return _RelationKL.apply(x_BTD, y_BTD, goal_x_BTD, goal_y_BTD, heads, valid_BT)


class _RelationKL(torch.autograd.Function):
    """A sample's value hangs on that sample alone, so its gradient is found on the way there, while a part's similarities are at hand."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor, goal_x: Tensor, goal_y: Tensor, heads: int, valid_BT: Tensor | None) -> Tensor:
        wanted = ctx.needs_input_grad[0] or ctx.needs_input_grad[1]
        own = [_split(each, heads) for each in (x, y)]
        goal = [_split(each, heads).to(own[0].dtype) for each in (goal_x, goal_y)]
        batch, _, tokens, width = own[0].shape
        scale, goal_scale = width**-0.5, goal[0].shape[-1] ** -0.5
        if valid_BT is None:
            valid_BT = torch.ones(batch, tokens, dtype=torch.bool, device=x.device)
        # each row's share of its sample's value
        share_BT = valid_BT / (heads * valid_BT.sum(1, keepdim=True).clamp(min=1)).to(own[0].dtype)
        hidden_B11T = ~valid_BT[:, None, None]
        values_B = torch.zeros(batch, dtype=own[0].dtype, device=x.device)
        slopes = [torch.zeros_like(each) for each in own] if wanted else []
        for part, rows in _parts(batch, heads, tokens):
            logs = _log_relations(own[0][:, part, rows], own[1][:, part], scale, hidden_B11T)
            told = _log_relations(goal[0][:, part, rows], goal[1][:, part], goal_scale, hidden_B11T)
            share = share_BT[:, None, rows, None]
            p = told.exp()
            values_B += ((p * (told - logs)).masked_fill(hidden_B11T, 0.0) * share).sum((1, 2, 3))
            if wanted:
                slope = (logs.exp() - p) * share * scale
                slopes[0][:, part, rows] += slope @ own[1][:, part]
                slopes[1][:, part] += slope.mT @ own[0][:, part, rows]
        ctx.save_for_backward(*(_joined(each) for each in slopes))
        return values_B

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient_B: Tensor) -> tuple[Tensor | None, ...]:
        found = [gradient_B[:, None, None] * each for each in ctx.saved_tensors] or [None, None]
        return found[0], found[1], None, None, None, None


def _both(pair: tuple[Tap | Projected, Tap | Projected]) -> tuple[Projected, Projected]:
    one, other = (each if isinstance(each, Projected) else Projected(each) for each in pair)
    return one, other


def _split(x_BTD: Tensor, heads: int) -> Tensor:
    """(B, N, T, H)."""
    return x_BTD.unflatten(-1, (heads, -1)).transpose(1, 2)


def _joined(x_BNTH: Tensor) -> Tensor:
    return x_BNTH.transpose(1, 2).flatten(2)


def _log_relations(x_BNRH: Tensor, y_BNTH: Tensor, scale: float, hidden_B11T: Tensor) -> Tensor:
    """(B, N, R, T), over tokens that are not hidden; those have a number far below any other."""
    return (x_BNRH @ y_BNTH.mT * scale).masked_fill(hidden_B11T, torch.finfo(x_BNRH.dtype).min / 2).log_softmax(-1)


def _parts(batch: int, heads: int, tokens: int) -> Iterator[tuple[slice, slice]]:
    """Which heads and which rows are looked at together."""
    rows = max(1, min(tokens, AT_ONCE // max(1, batch * tokens)))
    together = max(1, min(heads, AT_ONCE // max(1, batch * tokens * tokens))) if rows == tokens else 1
    for first in range(0, heads, together):
        for row in range(0, tokens, rows):
            yield slice(first, first + together), slice(row, row + rows)
