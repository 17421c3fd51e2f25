"""Match: which tap of the student against which tap of the teacher, through which connector, by which distance.

The workhorse: most feature distillation is a Match with another connector or distance. A Distance is a function with its knobs visible,
so that moving knobs are found, begun and saved. Shapes: B batch, T positions.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from torch import Tensor, nn

from tutelage.errors import BadInput, ShapeMismatch
from tutelage.objectives.connectors import Connector
from tutelage.objectives.deferred import by_rows, foretold
from tutelage.objectives.objective import DENSE, Needs, Objective, Over, Shapes, Term, check_alike, fitting
from tutelage.objectives.temperature import check_kept
from tutelage.signals import Batch, DeferredLogits, Form, Signals, SparseLogits, Tap
from tutelage.signals.deferred import dense
from tutelage.signals.outputs import raised
from tutelage.state import Number, value_of

ConnectorFactory: TypeAlias = Callable[[Any, Any], nn.Module]

ALL_FORMS: frozenset[Form] = frozenset({"dense", "deferred", "top-k", "sampled"})


@dataclass(frozen=True)
class Distance:
    """A function of (student, target) with its knobs visible.

    Args:
        fn: `(student, target, **knobs) -> values` of shape (B,), (B, T), or () where it cannot be taken apart by sample.
        knobs: its coefficients; a controller among them moves while training. One named "temperature" divides logits.
        accepts: forms of the teacher's logits that it can read; of sparse ones `fn` gets the `SparseLogits` themselves. "deferred" says
            that a row's value, (B,) or (B, T), hangs on that row alone: of deferred logits `fn` is shown some rows at a time, dense (R, V).
        name: how tables call it.
        reason: why it cannot read other forms, to follow the name in a sentence.

    Raises:
        BadInput: called with sparse logits of a form that it does not accept, or of another temperature than its own.
    """

    fn: Callable[..., Tensor]
    knobs: Mapping[str, Number] = field(default_factory=dict)
    accepts: frozenset[Form] = DENSE
    name: str = "distance"
    reason: str = "is computed from all classes"

    def __call__(
        self, student: Tensor | DeferredLogits, target: Tensor | SparseLogits | DeferredLogits, weights: Tensor | None = None
    ) -> Tensor:
        """The values for one batch, with the knobs as they are now.

        Args:
            student: a tensor, or deferred logits.
            target: of the same shape.
            weights: of deferred logits, what each row's value will weigh in the mean, up to a common factor; where 0, the value is 0. None:
                all alike.
        """
        if isinstance(target, SparseLogits):
            why = self.refuses(target.form)
            if why:
                raise BadInput(f"the teacher's logits are {target.form}, but {why}")
            if "temperature" in self.knobs:
                check_kept(self.name, self.knobs["temperature"], target)
        fn = functools.partial(self.fn, **{k: value_of(v) for k, v in self.knobs.items()})
        if isinstance(student, DeferredLogits) and "deferred" in self.accepts:
            check_alike("logits", student.shape, target.shape)
            return by_rows(fn, student, target, weights)
        return fn(dense(student), dense(target))

    def refuses(self, form: str) -> str | None:
        """Why it cannot read a form of logits; None where it can."""
        return None if form in self.accepts else f"{self.name} {self.reason}"


_OVER: dict[int, Over] = {0: "batch", 1: "sample", 2: "token"}


class Match(Objective):
    """Match one tap of the student against one tap of the teacher.

    Args:
        tap: the student's tap: a module path, `"logits"`, or a `Depth`.
        teacher_tap: the teacher's tap; None means the same as the student's.
        by: a `Distance`, or a bare function `(student, target) -> values` of shape (B,), (B, T) or ().
        through: a factory `(from_shape, to_shape) -> nn.Module`, called once by a dry run when a stage opens. The objective owns the
            module; it is trained with the student and saved beside it.
        side: whose tensor goes through the connector: the student's, to the teacher's shape, or the other way round.
        target: rewrites the teacher's side, `(teacher signals, batch) -> Tensor`, instead of reading `teacher_tap` plainly. It is given
            sparse logits only where it has an attribute `accepts` that names their form; an attribute `reason` says why not.
        name: name of the term; default: the student's tap.
        over: what the mean of values per token (B, T) runs over: all tokens alike, or sequences, each by the mean of its tokens. None
            means tokens. Values per sample are averaged over samples, whatever it says.

    Raises:
        ShapeMismatch: the distance gives something else than (), (B,) or (B, T).

    Relations: the teacher's side never gets a gradient. A mask in the batch applies where it has the shape of the values; one of
        samples (B,) also to values per token.

    Example:
        >>> loss = Match("logits", by=soft_targets(temperature=4.0))
        >>> hint = Match(Depth(0.5), through=regressor(), by=mse())
    """

    def __init__(
        self,
        tap: Tap,
        teacher_tap: Tap | None = None,
        *,
        by: Distance | Callable[[Tensor, Tensor], Tensor],
        through: ConnectorFactory | None = None,
        side: Literal["student", "teacher"] = "student",
        target: Callable[[Signals, Batch], Tensor] | None = None,
        name: str | None = None,
        over: Literal["token", "sequence"] | None = None,
    ) -> None:
        super().__init__()
        if over not in (None, "token", "sequence"):
            raise BadInput(f"over={over!r}: expected 'token' or 'sequence'")
        if side not in ("student", "teacher"):
            raise BadInput(f"side={side!r}: expected 'student' or 'teacher'")
        self.tap = tap
        self.teacher_tap: Tap = tap if teacher_tap is None else teacher_tap
        self.by, self.through, self.side, self.target = by, through, side, target
        self.name, self.over = name or str(tap), over
        self.connector: nn.Module | None = None

    def needs(self) -> Needs:
        """One tap on each side."""
        return Needs(frozenset({self.tap}), frozenset({self.teacher_tap}))

    def build(self, student: Shapes, teacher: Shapes) -> None:
        """Make the connector from the two shapes, once."""
        if self.through is not None and self.connector is None:
            own, goal = student[self.tap], teacher[self.teacher_tap]
            self.connector = self.through(own, goal) if self.side == "student" else self.through(goal, own)

    def terms(self, student: Signals, teacher: Signals | None, batch: Batch) -> list[Term]:
        """One term: the distance between the two sides."""
        if teacher is None:
            raise BadInput(f"term {self.name!r} matches a teacher, but its learner has none; give Learner(..., teacher=...)")
        own, goal = student[self.tap], self._goal(teacher, batch)
        over: Over = self.over or "token"
        if isinstance(own, DeferredLogits) and self._unread("deferred") is None:
            assert isinstance(self.by, Distance)
            mask = fitting(self.name, self.mask(batch), own.shape[:-1])
            values = self.by(own, goal, foretold(own, mask, over))
            return [Term(self.name, values, over if values.ndim == 2 else "sample", mask)]
        own, goal = raised(dense(own)), dense(goal)
        if self.through is not None:
            own, goal = self._connected(own, goal)
        values = self.by(own, goal)
        if values.ndim not in _OVER or (values.ndim and values.shape[0] != own.shape[0]):
            raise ShapeMismatch(
                f"the distance of term {self.name!r} gave {tuple(values.shape)} for a batch of {own.shape[0]}; "
                "expected (B,), (B, T), or () where it cannot be taken apart"
            )
        over = over if values.ndim == 2 else _OVER[values.ndim]
        return [Term(self.name, values, over, fitting(self.name, self.mask(batch), values.shape))]

    def refuses(self, form: str) -> str | None:
        """Why the target, or else the connector or the distance, cannot read a form of logits; None where it can."""
        if self.target is None:
            return self._unread(form)
        return self._untaken(form) or (self._unread(form) if form == "deferred" else None)

    def _untaken(self, form: str) -> str | None:
        if form in getattr(self.target, "accepts", DENSE):
            return None
        return f"its target {getattr(self.target, 'reason', 'is made of all classes')}"

    def _unread(self, form: str) -> str | None:
        if form in DENSE:
            return None
        if self.through is not None:
            return "its connector takes all classes"
        if not isinstance(self.by, Distance):
            return "a bare function is given all classes (a Distance can say that it accepts fewer)"
        return self.by.refuses(form)

    def _goal(self, teacher: Signals, batch: Batch) -> Any:
        """The teacher's side, without a way back for gradients."""
        if self.target is None:
            goal = teacher[self.teacher_tap]
        else:
            self._check_form(teacher.get(self.teacher_tap), self._untaken)
            goal = self.target(Signals({tap: dense(each) for tap, each in teacher.items()}), batch)
        self._check_form(goal, self._unread)
        return (raised(goal) if isinstance(goal, Tensor) else goal).detach()

    def _check_form(self, told: Any, refuses: Callable[[str], str | None]) -> None:
        why = refuses(told.form) if isinstance(told, SparseLogits) else None
        if why is not None:
            raise BadInput(f"term {self.name!r}: the teacher's logits are {told.form}, but {why}")

    def _connected(self, own: Tensor, goal: Tensor) -> tuple[Tensor, Tensor]:
        if self.connector is None:
            raise BadInput(f"the connector of term {self.name!r} is not built yet; call build(student_shapes, teacher_shapes) first")
        moved, kept = (own, goal) if self.side == "student" else (goal, own)
        moved, kept = self.connector(moved), self.connector.target(kept) if isinstance(self.connector, Connector) else kept
        return (moved, kept) if self.side == "student" else (kept, moved)
