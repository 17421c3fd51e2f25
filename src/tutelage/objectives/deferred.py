"""Values and gradients of deferred logits, some rows at a time, so that nothing as wide as the vocabulary is made for all rows at once.

A row's gradient hangs on no other row. So each row's gradient is taken at once, while its logits are there, and brought back through the
head to its hidden state; when the backward pass comes, all that is left is to multiply by what each row turns out to weigh. The head's own
gradient is a sum over rows, weighted by what they weigh: it is summed by the weights that the mask and the mean foretell, which are right
up to one factor; where they are not, the logits are made again. The head is thus asked as often as in the dense form.

Rows that are masked are left out before the head.

Shapes: R rows, D width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from tutelage.errors import ShapeMismatch
from tutelage.signals import DeferredLogits, Form, SparseLogits

BY_ROWS: frozenset[Form] = frozenset({"dense", "deferred"})
"""The forms that are read by what needs all classes, but no other rows than the one that it is about."""

NUMBERS = 1 << 22
"""Logits of a side that are made at once, as far as the next allows it."""

LEAST = 256
"""Rows whose logits are made at once, at least: with fewer, reading the head and its gradient takes longer than multiplying by them."""

AT_ONCE = {"cpu": 1 << 18}
"""Logits of a side that are compared at once, by device: what a distance makes of them fits into a processor's cache. Elsewhere `WIDE`."""

WIDE = 1 << 22

FEW = 16.0
"""Roundings by which two numbers that are meant to be equal may differ."""

LAST_TIME = getattr(torch._C._autograd, "_get_current_graph_task_keep_graph", None)
"""Whether the backward pass at hand keeps its graph. Not promised by torch: where a release lacks it, it is taken to."""

Rows = Callable[..., Tensor]


def by_rows(fn: Rows, student: DeferredLogits, target: Any, weights: Tensor | None = None) -> Tensor:
    """The values of a function that looks at each row alone.

    Args:
        fn: (student (R, V), target (R, ...)) to values (R,); it may hold numbers, but no tensor that wants a gradient.
        student: (..., V).
        target: a tensor, `SparseLogits` or `DeferredLogits` whose first dimensions are those of the student; it gets no gradient.
        weights: what the values will weigh in the mean, (...), up to a common factor, bool or numbers; where 0, a row is not looked at
            and its value is 0. None: all alike. Where they turn out otherwise, the backward pass takes longer, and is right all the same.

    Returns:
        (...), as the dense form gives them.

    Raises:
        ShapeMismatch: the target has other rows than the student.
    """
    lead = student.shape[:-1]
    if target.shape[: len(lead)] != lead:
        raise ShapeMismatch(f"deferred logits have rows {tuple(lead)}, the target is {tuple(target.shape)}; expected the same rows")
    wide = _wide(student)
    own, weights_R, places_R = student.flat(), None, None
    if weights is not None:
        places_R = weights.detach().flatten().nonzero().squeeze(-1)
        if len(places_R) < lead.numel():
            own = own.at(places_R)
        else:
            places_R = None
        if weights.dtype != torch.bool:
            weights_R = _some(weights.detach().flatten().to(wide), places_R)
    learns = torch.is_grad_enabled() and student.requires_grad
    if not len(own.hidden):
        # all values of the dense form are masked: 0, with a gradient of 0
        parts = [part.flatten()[:0].sum() for part in (student.hidden, student.weight, student.bias) if part is not None and learns]
        return torch.zeros(lead, dtype=wide, device=student.device) + sum(parts)
    work = _Work(fn, own.detach(), _flat(target, len(lead)), places_R, weights_R)
    values_R = _ByRows.apply(own.hidden, own.weight, own.bias, work) if learns else _walk(work)[0]
    if places_R is not None:
        values_R = values_R.new_zeros(lead.numel()).index_copy(0, places_R, values_R)
    return values_R.reshape(lead)


def foretold(logits: DeferredLogits, mask: Tensor | None, over: str) -> Tensor | None:
    """What the mean of a term will make each value weigh, up to a common factor.

    Args:
        logits: whose rows the values are of.
        mask: of the term, of the shape of its values.
        over: what the mean runs over; see `objective.Term`.
    """
    if mask is None or over != "sequence" or mask.ndim != 2:
        return mask
    weights_BT = mask.to(_wide(logits))
    return weights_BT / weights_BT.sum(1, keepdim=True).clamp(min=torch.finfo(weights_BT.dtype).tiny)


def _wide(logits: DeferredLogits) -> torch.dtype:
    """The precision of values and sums."""
    return torch.promote_types(logits.dtype, torch.float32)


@dataclass(frozen=True)
class _Work:
    """The rows to be worked on, without a way back for gradients.

    Args:
        fn: gives the values of some rows.
        own: (R, V).
        target: all rows, those that are left out among them.
        places: where in the target the rows are; None: it has no others.
        weights: what is foretold of each row's weight; None: all alike.
    """

    fn: Rows
    own: DeferredLogits
    target: Any
    places: Tensor | None
    weights: Tensor | None


def _flat(target: Any, lead: int) -> Any:
    """A target with its rows one after another."""
    if isinstance(target, SparseLogits):
        return replace(target, **{name: getattr(target, name).flatten(0, lead - 1) for name in ("ids", "log_probs", "rest")})
    target = target.detach()
    return target.flat() if isinstance(target, DeferredLogits) else target.flatten(0, lead - 1)


def _some(target: Any, rows: Any) -> Any:
    """Some rows of a target, all for None; deferred ones are made now."""
    if rows is None:
        return target
    if isinstance(target, SparseLogits):
        return replace(target, **{name: getattr(target, name)[rows] for name in ("ids", "log_probs", "rest")})
    return target.at(rows).dense() if isinstance(target, DeferredLogits) else target[rows]


@dataclass
class _Sums:
    """Gradients: on hidden states row by row, and on the head summed over rows; None where none is wanted. In float32 or wider."""

    hidden: Tensor | None
    weight: Tensor | None
    bias: Tensor | None

    def add(self, rows: slice, of_made_RV: Tensor, own: DeferredLogits, weights_R: Tensor | None) -> None:
        """Bring the gradient on what the head gave for some rows back through it."""
        hidden_RD, plain = own.hidden[rows], own.dtype == _wide(own)
        if self.hidden is not None:
            if plain:
                torch.mm(of_made_RV, own.weight, out=self.hidden[rows])
            else:
                self.hidden[rows] = of_made_RV @ own.weight
        if self.weight is not None:
            if weights_R is not None:
                hidden_RD = hidden_RD * weights_R[rows].to(hidden_RD.dtype).unsqueeze(-1)
            if not plain:
                self.weight += of_made_RV.t() @ hidden_RD
            elif rows.start:
                self.weight.addmm_(of_made_RV.t(), hidden_RD)
            else:
                torch.mm(of_made_RV.t(), hidden_RD, out=self.weight)
        if self.bias is not None:
            wide_RV = of_made_RV.to(self.bias.dtype)
            self.bias += wide_RV.sum(0) if weights_R is None else weights_R[rows].to(wide_RV.dtype) @ wide_RV


def _walk(work: _Work, wanted: tuple[bool, ...] = (), of_values_R: Tensor | None = None) -> tuple[Tensor, _Sums]:
    """Go over all rows, a piece at a time.

    Args:
        work: the rows.
        wanted: whether the hidden states, the weight and the bias are to get gradients; none where it is empty.
        of_values_R: the gradient on the values; None: 1 for each row, and what is foretold of its weight for the head.

    Returns:
        The values (R,) and the gradients.
    """
    with torch.no_grad(), torch.autocast(work.own.device.type, enabled=False):
        own = work.own.ready()
        told = work.target.ready() if isinstance(work.target, DeferredLogits) else work.target
        parts = zip((own.hidden, own.weight, own.bias), wanted or (False,) * 3, strict=True)
        sums = _Sums(*(torch.zeros_like(part, dtype=_wide(own)) if want and part is not None else None for part, want in parts))

        def piece(rows: slice) -> Iterator[Tensor]:
            given = _some(told, rows if work.places is None else work.places[rows])
            made_RV = F.linear(own.hidden[rows], own.weight, own.bias)
            for few in _slices(len(made_RV), AT_ONCE.get(own.device.type, WIDE) // own.classes):
                logits_RV, given_R = made_RV[few].detach(), _some(given, few)
                if not any(wanted):
                    yield _each(work.fn(own.shaped(logits_RV), given_R), logits_RV)
                    continue
                with torch.enable_grad():
                    values_R = _each(work.fn(own.shaped(logits_RV.requires_grad_()), given_R), logits_RV)
                on_values_R = torch.ones_like(values_R) if of_values_R is None else of_values_R[rows][few]
                made_RV[few] = torch.autograd.grad(values_R, logits_RV, on_values_R)[0]  # the logits are needed no more
                yield values_R.detach()
            if any(wanted):
                sums.add(rows, made_RV, own, work.weights if of_values_R is None else None)

        pieces = _slices(len(own.hidden), max(NUMBERS // own.classes, LEAST))
        return torch.cat([values_R for rows in pieces for values_R in piece(rows)]), sums


def _slices(count: int, size: int) -> list[slice]:
    size = max(size, 1)
    return [slice(start, min(start + size, count)) for start in range(0, count, size)]


def _each(values: Tensor, made_RV: Tensor) -> Tensor:
    if values.shape != made_RV.shape[:1]:
        raise ShapeMismatch(f"a distance gave {tuple(values.shape)} for logits {tuple(made_RV.shape)}; expected a value for each row")
    return values


class _ByRows(torch.autograd.Function):
    """Values (R,) of hidden states (R, D) and a head, with their gradients taken while the logits are there."""

    @staticmethod
    def forward(ctx: Any, hidden_RD: Tensor, weight_VD: Tensor, bias_V: Tensor | None, work: _Work) -> Tensor:
        ctx.work, ctx.wanted = work, tuple(ctx.needs_input_grad[:3])
        ctx.save_for_backward(hidden_RD, weight_VD, bias_V)
        # in float16 small gradients are lost where the loss has not been scaled, which it will be only later
        values_R, ctx.sums = _walk(work) if work.own.dtype == torch.float16 else _walk(work, ctx.wanted)
        ctx.told = work.own.dtype != torch.float16
        return values_R

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_values_R: Tensor) -> tuple[Tensor | None, ...]:
        inputs = ctx.saved_tensors  # asked for, since that fails where one was changed meanwhile
        factor = _factor(of_values_R, ctx.work.weights) if ctx.told and any(ctx.wanted[1:]) else None
        if not ctx.told or (any(ctx.wanted[1:]) and factor is None):
            found = _walk(ctx.work, ctx.wanted, of_values_R)[1]
        else:
            last = LAST_TIME is not None and not LAST_TIME()

            def times(gradient: Tensor | None, by: Tensor | None) -> Tensor | None:
                if gradient is None or by is None:
                    return None
                return gradient.mul_(by) if last else gradient * by  # a second copy of the head's gradient only where one more will come

            sums = ctx.sums
            found = _Sums(times(sums.hidden, of_values_R.unsqueeze(-1)), times(sums.weight, factor), times(sums.bias, factor))
            if last:
                ctx.sums = None
        parts = zip((found.hidden, found.weight, found.bias), inputs, strict=True)
        return (*(None if gradient is None else gradient.to(part.dtype) for gradient, part in parts), None)


def _factor(of_values_R: Tensor, weights_R: Tensor | None) -> Tensor | None:
    """What all rows' weights were foretold without; None where they turn out to be others."""
    weights_R = torch.ones_like(of_values_R) if weights_R is None else weights_R.to(of_values_R.dtype)
    largest = weights_R.argmax()
    factor = of_values_R[largest] / weights_R[largest]
    expected_R = factor * weights_R
    near = (of_values_R - expected_R).abs() <= FEW * torch.finfo(of_values_R.dtype).eps * expected_R.abs()
    return factor if bool(near.all()) else None
