"""TAID: a target between the student's own distribution and the teacher's, and the controller that moves it towards the teacher.

Shapes: B batch, T positions, V classes or vocabulary, R rows of any of them.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from tutelage.errors import BadInput, nearest
from tutelage.objectives.deferred import BY_ROWS
from tutelage.objectives.divergences import FLOOR, in_pieces
from tutelage.objectives.match import Distance
from tutelage.objectives.objective import alike
from tutelage.state import Clock, Controller, Number, Record, State

VALUES = ("kl", "cross-entropy")
TINY = 1e-15
"""Keeps the relative change finite after a loss of 0."""


def interpolated_divergence(student_BV: Tensor, teacher_BV: Tensor, t: float, value: str = "kl") -> Tensor:
    """Divergence of the student from a target between the two, per row: see `interpolated_target`."""
    _check_place("interpolated_divergence", t)
    student_BV, teacher_BV = alike("logits", student_BV, teacher_BV)

    def rows(student_RV: Tensor, teacher_RV: Tensor) -> Tensor:
        # log-probabilities are logits, too; a floor under them keeps classes that a side rules out from giving 0 times infinity
        log_q_RV, log_p_RV = (F.log_softmax(side, dim=-1).clamp(min=FLOOR) for side in (student_RV, teacher_RV))
        log_target_RV = F.log_softmax(torch.lerp(log_q_RV.detach(), log_p_RV, t), dim=-1)
        if value == "cross-entropy":
            return -(log_target_RV.exp() * log_q_RV).sum(-1)
        return F.kl_div(log_q_RV, log_target_RV, reduction="none", log_target=True).sum(-1)

    return in_pieces(rows, student_BV, teacher_BV)


def interpolated_target(t: Number, value: Literal["kl", "cross-entropy"] = "kl") -> Distance:
    """TAID's divergence: from the student to a target whose logits lie between its own and the teacher's.

    sum_v r_v (log r_v - log q_v), r = softmax((1 - t) z + t z'), z the student's logits, taken for constants here, z' the teacher's, q the
    softmax of z. The gradient on the student's logits is q - r, whatever the value: 0 at t = 0, that of the forward KL at t = 1.

    Args:
        t: how far the target is from the student, in [0, 1]; a number or a controller.
        value: "kl", or "cross-entropy", which leaves the target's entropy in: what the authors' code returns and their controller reads.
            The gradient is the same.

    Returns:
        A distance, per row: (B, V) gives (B,), (B, T, V) gives (B, T). It needs all classes of the teacher.

    Raises:
        BadInput: t outside [0, 1], or an unknown value.
        ShapeMismatch: the sides differ in shape.

    Source: Shing et al., "TAID: Temporally Adaptive Interpolated Distillation for Efficient Knowledge Transfer in Language Models", 2025,
        section 3.1.
    Relations: at t = 1 it is `soft_targets` forward at temperature 1, or `soft_cross_entropy`. The logits are mixed here, the probabilities
        in `skew_kl`: another target, unless one side is all of it.
    """
    if not isinstance(t, Controller):
        _check_place("interpolated_target", t)
    if value not in VALUES:
        raise BadInput(f"interpolated_target(value={value!r}): expected 'kl' or 'cross-entropy'")

    def fn(student_BV: Tensor, teacher_BV: Tensor, t: float) -> Tensor:
        return interpolated_divergence(student_BV, teacher_BV, t, value)

    return Distance(fn, {"t": t}, BY_ROWS, name="interpolated_target", reason="mixes the logits of all classes")


def _check_place(where: str, t: float) -> None:
    if isinstance(t, bool) or not isinstance(t, (int, float)) or not 0 <= t <= 1:
        raise BadInput(f"{where}(t={t}): expected how far from the student to the teacher, in [0, 1]")


class LossDriven(Controller):
    """A number that rises from `start` to `end`, the faster the more a loss falls, and never behind a straight line.

    After step n of N with the loss J_n, from the second step on: c = (J_(n-1) - J_n) / J_(n-1); m = beta m + (1 - beta) c;
    value = min(end, max(start + (end - start) n / N, value + alpha sigmoid(m) (1 - value))). A step sees what the one before it has left,
    so the straight line is met one step late. The loss is read after training steps only, as a mean over the whole step and all
    processes, and is the same on all of them; its last value and m are saved with the run.

    Args:
        watch: name of the term, or of the note, whose value is read; "learner/term" where a stage has several learners.
        start: first value, in [0, 1].
        end: last value, from `start` to 1.
        alpha: largest part of the way to 1 that a step adds, in [0, 1]; 0 leaves the straight line.
        beta: inertia of m, in [0, 1).

    Raises:
        BadInput: a number outside its range; or, when the stage has begun, no term or note of that name.

    Source: Shing et al., 2025, section 3.2 and their code. There each evaluation moves the value, too, and each process has its own.
    """

    def __init__(self, watch: str, start: float = 0.4, end: float = 1.0, alpha: float = 5e-4, beta: float = 0.99) -> None:
        if not 0 <= start <= end <= 1:
            raise BadInput(f"LossDriven(start={start}, end={end}): expected 0 <= start <= end <= 1")
        if not (0 <= alpha <= 1 and 0 <= beta < 1):
            raise BadInput(f"LossDriven(alpha={alpha}, beta={beta}): expected alpha in [0, 1] and beta in [0, 1)")
        self.watch, self.start, self.end, self.alpha, self.beta = watch, start, end, alpha, beta
        self.last: float | None = None
        self.momentum = 0.0

    def begin(self, clock: Clock) -> None:
        """A stage's first step starts anew; at any other the value stays as it was left."""
        if clock.step == 0:
            self.value, self.last, self.momentum = self.start, None, 0.0

    def update(self, record: Record) -> None:
        """Move on by what the step's loss says."""
        found = {**record.notes, **record.terms}
        if self.watch not in found:
            if record.clock.step == 0:  # later a learner may have been left out of a step
                raise BadInput(f"LossDriven watches {self.watch!r}, which no term is named{nearest(self.watch, found)}")
            return
        loss, last, self.last = float(found[self.watch]), self.last, float(found[self.watch])
        if last is None:
            return
        self.momentum = self.beta * self.momentum + (1 - self.beta) * (last - loss) / (last + TINY)
        gain = self.alpha * 0.5 * (1 + math.tanh(self.momentum / 2)) * (1 - self.value)  # the sigmoid, without overflow
        line = self.start + (self.end - self.start) * record.clock.progress
        self.value = min(self.end, max(line, self.value + gain))

    def state_dict(self) -> State:
        """The value, the last loss and the momentum."""
        known: State = {} if self.last is None else {"last": self.last}
        return {**super().state_dict(), **known, "momentum": self.momentum}

    def load_state_dict(self, state: State) -> None:
        """Take them back."""
        super().load_state_dict(state)
        self.last = float(state["last"]) if "last" in state else None
        self.momentum = float(state.get("momentum", 0.0))

    def __repr__(self) -> str:
        return f"LossDriven({self.watch!r}, {self.start}, {self.end}, alpha={self.alpha}, beta={self.beta})"
