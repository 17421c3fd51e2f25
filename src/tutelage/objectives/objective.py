"""Objective: what the student has to match, as named terms; and the algebra that composes objectives.

A term keeps its values per sample or token, its mask, and what its mean runs over. The training loop consumes terms, never the scalar:
means must run over the whole optimizer step, whatever the number of micro-batches and processes, and each term is logged by name.
Objectives compose by `+` and `*`; calling one gives the scalar, for notebooks and tests.

Shapes: B batch, T positions.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NamedTuple, TypeAlias

import torch
from torch import Tensor, nn

from tutelage.errors import BadInput, ShapeMismatch
from tutelage.signals import Batch, Form, Signals, Tap
from tutelage.signals.outputs import raised
from tutelage.state import Controller, Number, value_of

Shapes: TypeAlias = Mapping[Tap, torch.Size]
Over: TypeAlias = Literal["sample", "token", "sequence", "batch"]

SAME = "same"
"""The teacher is asked in the view that the student is asked in."""

DENSE: frozenset[Form] = frozenset({"dense"})
"""What is read where nothing else is said."""


@dataclass(frozen=True)
class Needs:
    """The taps that an objective reads on each side, and in views by name; `teacher` is None where it asks no teacher. `members` are the
    taps of those teachers of a pool that are asked by name.
    """

    student: frozenset[Tap] = frozenset()
    teacher: frozenset[Tap] | None = None
    views: Mapping[str, Needs] = field(default_factory=dict)
    members: Mapping[str, frozenset[Tap]] = field(default_factory=dict)

    def __or__(self, other: Needs) -> Needs:
        teacher = None if self.teacher is None and other.teacher is None else (self.teacher or frozenset()) | (other.teacher or frozenset())
        views = {name: self.views.get(name, Needs()) | other.views.get(name, Needs()) for name in {**self.views, **other.views}}
        members = {
            name: self.members.get(name, frozenset()) | other.members.get(name, frozenset()) for name in {**self.members, **other.members}
        }
        return Needs(self.student | other.student, teacher, views, members)

    @property
    def anywhere(self) -> Needs:
        """What is read in whatever view."""
        found = Needs(self.student, self.teacher, members=self.members)
        for each in self.views.values():
            found = found | each.anywhere
        return found


class Seen(NamedTuple):
    """What student and teacher show of a view of the samples, and that view's batch."""

    student: Signals
    teacher: Signals | None
    batch: Batch


_DIMS: dict[Over, tuple[int, ...]] = {"batch": (0,), "sample": (1,), "token": (1, 2), "sequence": (2,)}


@dataclass
class Term:
    """One named part of a loss, before its reduction.

    Args:
        name: unique in a learner.
        values: (B,), (B, T) or (), before the reduction.
        over: what the mean runs over: samples, tokens, sequences (mean of each sequence's token mean), or the micro-batch as a whole
            ("batch": `values` is () and cannot be taken apart, so it depends on the micro-batch).
        mask: of the shape of `values`, bool or weights >= 0; what it leaves out neither counts nor weighs.
        weight: coefficient of the mean in the loss.
        notes: detached numbers for controllers and metrics.
    """

    name: str
    values: Tensor
    over: Over = "sample"
    mask: Tensor | None = None
    weight: float | Tensor = 1.0
    notes: Mapping[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        dims = _DIMS[self.over]
        if self.values.ndim not in dims:
            raise ShapeMismatch(
                f"term {self.name!r} has values of shape {tuple(self.values.shape)}; a mean over {self.over!r} takes {dims} dimensions"
            )
        if self.mask is not None and self.mask.shape != self.values.shape:
            raise ShapeMismatch(
                f"term {self.name!r} has values of shape {tuple(self.values.shape)} but a mask of {tuple(self.mask.shape)}; expected alike"
            )


def sum_of(term: Term) -> Tensor:
    """Sum of a term's unmasked values; masked ones do not enter, even where they are NaN or infinite."""
    values = term.values
    if term.over == "batch":
        return values
    if term.mask is None:
        return values.mean(1).sum() if term.over == "sequence" else values.sum()
    if term.mask.dtype == torch.bool:  # the common case, in as few small operations as will do
        kept = torch.where(term.mask, values, 0.0)
    else:
        kept = torch.where(term.mask != 0, values * term.mask.to(values.dtype), 0.0)
    if term.over == "sequence":
        return (kept.sum(1) / term.mask.to(values.dtype).sum(1).clamp(min=torch.finfo(values.dtype).tiny)).sum()
    return kept.sum()


def count_of(term: Term) -> Tensor | float:
    """What `sum_of` is divided by for the mean: samples, unmasked tokens, or sequences with an unmasked token."""
    if term.over == "batch":
        return 1.0
    if term.mask is None:
        return float(term.values.shape[0] if term.over == "sequence" else term.values.numel())
    if term.over == "sequence":
        return term.mask.bool().any(1).sum()
    return term.mask.sum() if term.mask.dtype == torch.bool else term.mask.to(term.values.dtype).sum()


def safe_count(count: Tensor | float) -> Tensor | float:
    """A count that can be divided by: 1 in place of 0, so that what is masked altogether gives 0 and not NaN."""
    if not isinstance(count, Tensor):
        return count or 1.0
    # a count below one only comes from weights, which may well sum to less
    return torch.where(count > 0, count, 1.0) if count.is_floating_point() else count.clamp(min=1)


def mean_of(term: Term) -> Tensor:
    """The mean of a term on its own batch; 0, with a gradient of 0, where all is masked."""
    return sum_of(term) / safe_count(count_of(term))


class Objective(nn.Module):
    """What the student has to match. Write `terms`, and `needs`, `refuses` and `build` where the defaults do not fit.

    Attributes:
        name: name of the term, for leaves.
        view: name of the view of the samples that a leaf looks at; None for the samples as they are.
        teacher_view: name of the view in which a leaf's teacher is asked.
        member: name of the teacher that a leaf asks, where the learner has a pool of them.
    """

    name: str = "objective"
    view: str | None = None
    teacher_view: str | None = None
    member: str | None = None

    def needs(self) -> Needs:
        """The taps that are read on each side."""
        raise NotImplementedError(f"{type(self).__name__} must say which taps it needs")

    def refuses(self, form: str) -> str | None:
        """Why it cannot read a form of the teacher's logits, as a clause; None where it can. By default it reads dense ones only."""
        return None if form in DENSE else f"{type(self).__name__} reads all classes"

    def build(self, student: Shapes, teacher: Shapes) -> None:
        """Make trainable parts that depend on shapes; called at the start of each stage, so it must be idempotent."""

    def mask(self, batch: Batch) -> Tensor | None:
        """The mask of the terms, as far as the batch alone decides it; needed to count before the passes when micro-batches are used."""
        return batch.get("mask")

    def terms(self, student: Signals, teacher: Signals | None, batch: Batch) -> list[Term]:
        """The named terms on a batch."""
        raise NotImplementedError(f"{type(self).__name__} must give terms")

    def leaves(self) -> Iterator[Objective]:
        """The objectives that give terms, in order."""
        yield self

    def forward(self, student: Signals | Mapping[Tap, Tensor], teacher: Signals | Mapping[Tap, Tensor] | None, batch: Batch) -> Tensor:
        """The weighted sum of the terms' means on this batch."""
        student = student if isinstance(student, Signals) else Signals(student)
        teacher = teacher if teacher is None or isinstance(teacher, Signals) else Signals(teacher)
        total: Any = 0.0
        for term in self.terms(student, teacher, batch):
            total = total + term.weight * mean_of(term)
        return total

    def named(self, name: str) -> Objective:
        """The same objective with its term under another name."""
        return Named(self, name)

    def on(self, view: str | None = None, *, teacher: str | None = None, teacher_view: str | None = SAME) -> Objective:
        """The same objective elsewhere: on a view of the samples, such as attacked or generated ones, or with one of several teachers.

        Args:
            view: `Learner(views={view: ...})` makes it; None for the samples as they are.
            teacher: who is asked, by its name in the learner's `Pool`.
            teacher_view: in which view the teacher is asked: the student's, another one by name, or None for the samples as they are.

        Raises:
            BadInput: nothing is said, or something that the objective says already.
        """
        from tutelage.objectives.routed import Routed

        return Routed(self, view, teacher, teacher_view)

    def __add__(self, other: Objective) -> Objective:
        return Sum([*self._addends(), *other._addends()]) if isinstance(other, Objective) else NotImplemented

    def __radd__(self, other: Any) -> Objective:
        # `sum([...])` starts from 0
        return self if other == 0 else NotImplemented

    def __rmul__(self, weight: Number) -> Objective:
        return Weighted(self, weight) if isinstance(weight, (int, float, Controller)) else NotImplemented

    __mul__ = __rmul__

    def _addends(self) -> list[Objective]:
        return [self]


class Sum(Objective):
    """Objectives side by side; the names of their terms must differ."""

    def __init__(self, parts: list[Objective]) -> None:
        super().__init__()
        self.parts = nn.ModuleList(parts)
        names = [leaf.name for leaf in self.leaves()]
        twice = sorted({n for n in names if names.count(n) > 1})
        if twice:
            raise BadInput(f"two terms are named {twice[0]!r}; tell them apart with .named('...')")

    def _addends(self) -> list[Objective]:
        return list(self._objectives())

    def _objectives(self) -> Iterator[Objective]:
        for part in self.parts:
            assert isinstance(part, Objective)
            yield part

    def needs(self) -> Needs:
        """The union of what the parts read."""
        found = Needs()
        for part in self._objectives():
            found = found | part.needs()
        return found

    def refuses(self, form: str) -> str | None:
        """Why the first part that cannot read a form of logits cannot."""
        return next((why for part in self._objectives() if (why := part.refuses(form))), None)

    def build(self, student: Shapes, teacher: Shapes) -> None:
        """Build each part."""
        for part in self._objectives():
            part.build(student, teacher)

    def terms(self, student: Signals, teacher: Signals | None, batch: Batch) -> list[Term]:
        """The terms of all parts."""
        return [term for part in self._objectives() for term in part.terms(student, teacher, batch)]

    def leaves(self) -> Iterator[Objective]:
        """The leaves of all parts."""
        for part in self._objectives():
            yield from part.leaves()


class Around(Objective):
    """An objective that changes the terms of one other."""

    def __init__(self, of: Objective) -> None:
        super().__init__()
        self.of = of

    def needs(self) -> Needs:
        """What the inner objective reads."""
        return self.of.needs()

    def refuses(self, form: str) -> str | None:
        """Why the inner objective cannot read a form of logits."""
        return self.of.refuses(form)

    def build(self, student: Shapes, teacher: Shapes) -> None:
        """Build the inner objective."""
        self.of.build(student, teacher)

    def mask(self, batch: Batch) -> Tensor | None:
        """The inner objective's mask."""
        return self.of.mask(batch)

    def leaves(self) -> Iterator[Objective]:
        """The inner leaves."""
        yield from self.of.leaves()


class Weighted(Around):
    """A coefficient, fixed or moving, times an objective."""

    def __init__(self, of: Objective, weight: Number) -> None:
        super().__init__(of)
        if not isinstance(weight, Controller) and not torch.isfinite(torch.tensor(float(weight))):
            raise BadInput(f"weight {weight} of {of.name!r} is not finite")
        self.weight = weight

    def terms(self, student: Signals, teacher: Signals | None, batch: Batch) -> list[Term]:
        """The inner terms, their weights multiplied."""
        weight = value_of(self.weight)
        terms = self.of.terms(student, teacher, batch)
        for term in terms:  # made for this call alone
            term.weight = weight * term.weight
        return terms


class Named(Around):
    """An objective whose only term has another name."""

    def __init__(self, of: Objective, name: str) -> None:
        super().__init__(of)
        if len(list(of.leaves())) != 1:
            raise BadInput(
                f"only an objective with one term can be named; name the parts of the sum before adding them (asked for {name!r})"
            )
        self.name = name
        leaf = next(iter(of.leaves()))
        self.view, self.teacher_view, self.member = leaf.view, leaf.teacher_view, leaf.member

    def terms(self, student: Signals, teacher: Signals | None, batch: Batch) -> list[Term]:
        """The inner term under the new name."""
        return [replace(term, name=self.name) for term in self.of.terms(student, teacher, batch)]

    def leaves(self) -> Iterator[Objective]:
        """Itself, since the name is its own."""
        yield self


def fitting(name: str, mask: Tensor | None, shape: torch.Size) -> Tensor | None:
    """Bring a batch's mask to the shape of a term's values.

    A mask of samples (B,) leaves out all tokens of a sample, (B, T). A mask of tokens says nothing about values per sample, and none says
    anything about values that cannot be taken apart: None.

    Raises:
        ShapeMismatch: the mask fits neither way.
    """
    if mask is None or mask.shape == shape:
        return mask
    if mask.ndim > len(shape):
        return None
    if mask.ndim == 1 and mask.shape == shape[:1]:
        return mask.reshape(-1, *([1] * (len(shape) - 1))).expand(shape)
    raise ShapeMismatch(
        f"term {name!r} has values of shape {tuple(shape)} but the batch a mask of {tuple(mask.shape)}; expected alike, or (B,)"
    )


def alike(what: str, student: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Check that two sides can be compared, and give both in their common precision, float32 or wider.

    Raises:
        ShapeMismatch: the shapes differ, or there is nothing behind the batch dimension; a silent broadcast would train on nonsense.
    """
    check_alike(what, student.shape, target.shape)
    student, target = raised(student), raised(target)
    dtype = torch.promote_types(student.dtype, target.dtype)
    return student.to(dtype), target.to(dtype)


def check_alike(what: str, student: torch.Size, target: torch.Size) -> None:
    """Refuse shapes that cannot be compared; see `alike`.

    Raises:
        ShapeMismatch: they differ, or have less than two dimensions.
    """
    if student != target or len(student) < 2:
        raise ShapeMismatch(
            f"{what}: student has shape {tuple(student)}, teacher {tuple(target)}; expected the same, at least (B, 1); "
            "logits must be over the same classes, features can be connected through=regressor()"
        )
