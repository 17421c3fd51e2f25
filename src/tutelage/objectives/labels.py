"""CrossEntropy: the student's logits against the labels. Shapes: B batch, T positions, V classes."""

from __future__ import annotations

import functools
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from tutelage.errors import BadInput, ShapeMismatch
from tutelage.objectives.deferred import BY_ROWS, by_rows, foretold
from tutelage.objectives.objective import Needs, Objective, Over, Term, fitting
from tutelage.signals import Batch, DeferredLogits, Signals, SparseLogits, Tap
from tutelage.signals.outputs import raised

IGNORED = -100
"""A label that does not count."""


def label_cross_entropy(logits_BV: Tensor, y: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """Cross entropy per row; 0 where the label is ignored.

    Args:
        logits_BV: (B, V) or (B, T, V).
        y: class numbers (B,) or (B, T), -100 being ignored; or rows that sum to 1, of the logits' shape.
        label_smoothing: share of the mass spread evenly over all classes, in [0, 1).

    Returns:
        (B,) or (B, T).

    Raises:
        ShapeMismatch: labels that would broadcast, or fit no row.
    """
    logits_BV = raised(logits_BV)
    _check_labels(logits_BV.shape, y)
    if y.is_floating_point():
        return F.cross_entropy(
            logits_BV.movedim(-1, 1), y.to(logits_BV.dtype).movedim(-1, 1), reduction="none", label_smoothing=label_smoothing
        )
    return F.cross_entropy(logits_BV.movedim(-1, 1), y.long(), reduction="none", ignore_index=IGNORED, label_smoothing=label_smoothing)


def _check_labels(shape: torch.Size, y: Tensor) -> None:
    if y.shape != (shape if y.is_floating_point() else shape[:-1]):
        raise ShapeMismatch(
            f"labels of shape {tuple(y.shape)} and type {y.dtype} do not fit logits of shape {tuple(shape)}; "
            "expected class numbers (B,), or rows that sum to 1 of the logits' shape"
        )


def labels_in(batch: Batch, name: str) -> Tensor:
    """The labels of a batch, for a term.

    Raises:
        BadInput: the batch has none.
    """
    y = batch.get("y")
    if y is None:
        raise BadInput(f"term {name!r} needs labels, but the batch has no column 'y'; its columns are {sorted(batch)}")
    return y


def label_mask(batch: Batch, name: str) -> Tensor | None:
    """What the batch masks and what its labels leave out, for a term; None where nothing is left out."""
    mask, y = batch.get("mask"), batch.get("y")
    if y is None:
        return mask
    if y.is_floating_point():
        return fitting(name, mask, y.shape[:-1])
    mask = fitting(name, mask, y.shape)
    labelled = y != IGNORED
    return labelled if mask is None else labelled * mask


def as_rows(y: Tensor, classes: int) -> Tensor:
    """Labels as rows that sum to 1: class numbers become one-hot rows, rows stay."""
    return y if y.is_floating_point() else F.one_hot(y.long(), classes)


class CrossEntropy(Objective):
    """Cross entropy with the labels in the batch's column `y`.

    Args:
        tap: where the logits are.
        label_smoothing: share of the mass spread evenly over the classes, in [0, 1).
        name: name of the term.
        over: what the mean of positions (B, T) runs over, as in `Match`; None means tokens.

    Raises:
        BadInput: label_smoothing outside [0, 1), an unknown `over`, or a batch without `y`.

    Relations: a Match by `soft_targets` with a teacher that is certain of the labels has the same value and gradient.
    """

    def __init__(
        self,
        tap: Tap = "logits",
        *,
        label_smoothing: float = 0.0,
        name: str = "labels",
        over: Literal["token", "sequence"] | None = None,
    ) -> None:
        super().__init__()
        if over not in (None, "token", "sequence"):
            raise BadInput(f"over={over!r}: expected 'token' or 'sequence'")
        if not 0 <= label_smoothing < 1:
            raise BadInput(f"CrossEntropy(label_smoothing={label_smoothing}): expected a share in [0, 1)")
        self.tap, self.label_smoothing, self.name, self.over = tap, label_smoothing, name, over

    def needs(self) -> Needs:
        """The student's logits; no teacher."""
        return Needs(frozenset({self.tap}))

    def mask(self, batch: Batch) -> Tensor | None:
        """What the batch masks and what its labels leave out."""
        return label_mask(batch, self.name)

    def terms(self, student: Signals, teacher: Signals | None, batch: Batch) -> list[Term]:
        """One term, over samples, or over tokens where the logits have positions."""
        y, own, mask = labels_in(batch, self.name), student[self.tap], self.mask(batch)
        over: Over = "sample" if own.ndim == 2 else self.over or "token"
        if isinstance(own, DeferredLogits):
            _check_labels(own.shape, y)
            fn = functools.partial(label_cross_entropy, label_smoothing=self.label_smoothing)
            return [Term(self.name, by_rows(fn, own, y, foretold(own, mask, over)), over, mask)]
        return [Term(self.name, label_cross_entropy(own, y, self.label_smoothing), over, mask)]

    def refuses(self, form: str) -> str | None:
        """It reads each row of the student's logits alone, so they may be deferred; it reads no teacher's."""
        return None if form in BY_ROWS else super().refuses(form)


class ConfidenceWeighted(Objective):
    """Cross entropy with the labels, each sample weighted by how sure the teacher is of its own choice.

    sum_s (w_s / sum_u w_u) CE(y_s, z_s), w_s the teacher's largest probability. The sums run over the
    micro-batch, so the term depends on it.
    The teacher says nothing about classes, even where its choice is wrong.

    Args:
        name: name of the term.

    Raises:
        BadInput: sparse logits of a teacher that do not tell its largest probability: drawn ones, or of another temperature than 1.

    Source: Furlanello et al., "Born-Again Neural Networks", 2018, section 3.2 (CWTM).
    Relations: equals `CrossEntropy` where the teacher is equally sure of all samples.
    """

    def __init__(self, *, name: str = "labels-by-confidence") -> None:
        super().__init__()
        self.name = name

    def needs(self) -> Needs:
        """Both sides' logits."""
        return Needs(frozenset({"logits"}), frozenset({"logits"}))

    def refuses(self, form: str) -> str | None:
        """Top-k keeps the likeliest class; among those that are drawn it may be missing."""
        if form in ("dense", "top-k"):
            return None
        if form == "deferred":
            return super().refuses(form)
        return f"{type(self).__name__} weighs by the largest probability, whose class may not have been kept"

    def terms(self, student: Signals, teacher: Signals | None, batch: Batch) -> list[Term]:
        """One term over the batch; ignored and masked samples weigh nothing."""
        if teacher is None:
            raise BadInput(f"term {self.name!r} weights by a teacher, but its learner has none; give Learner(..., teacher=...)")
        y = labels_in(batch, self.name)
        values_B = label_cross_entropy(student["logits"], y)
        if values_B.ndim != 1:
            raise ShapeMismatch(
                f"term {self.name!r} weights samples, but the logits have shape {tuple(student['logits'].shape)}; expected (B, V)"
            )
        weights_B = self._confidence(teacher["logits"]).to(values_B.dtype)
        mask_B = label_mask(batch, self.name)
        if mask_B is not None:
            weights_B = weights_B * mask_B.to(weights_B.dtype)
        return [Term(self.name, (weights_B * values_B).sum() / weights_B.sum().clamp(min=1e-12), "batch")]

    def _confidence(self, told: Tensor | SparseLogits) -> Tensor:
        """The largest probability of each row."""
        if not isinstance(told, SparseLogits):
            return raised(told).detach().softmax(-1).amax(-1)
        why = self.refuses(told.form)
        if why is not None:
            raise BadInput(f"term {self.name!r}: the teacher's logits are {told.form}, but {why}")
        if told.temperature != 1:
            raise BadInput(
                f"term {self.name!r} weights by probabilities at temperature 1, but the teacher's {told.form} logits were kept at "
                f"{told.temperature:g}; write the cache with --temperature 1, or keep all of the classes (--keep all)"
            )
        return told.log_probs.amax(-1).exp()
