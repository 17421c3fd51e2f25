"""How alike two classifiers look before training: DisWOT's similarity of relations and of class maps, on one batch.

A student is scored without being trained, by what its fresh weights show beside what its teacher shows: which samples its features hold
for similar, and how its classifier would move for each class. See `zero_cost` for scores that need no teacher.

Shapes: B samples, K classes, C channels, D all numbers of a sample's features.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tutelage.errors import BadInput, ShapeMismatch
from tutelage.randomness import seeded
from tutelage.signals import Batch, Model
from tutelage.signals.taps import LOGITS

Form = Literal["classes", "channels"]


@dataclass(frozen=True)
class Look:
    """What a classifier shows on one batch.

    Args:
        features: before the pooling, (B, ...); without a pooling, what the last layer but one gives.
        gradient: of the cross-entropy by the classifier's weights, (K, C): what Grad-CAM weighs channels with.
    """

    features: Tensor
    gradient: Tensor


def relations(features: Tensor) -> Tensor:
    """Which samples are alike: the Gram matrix of a batch's features, its rows of length 1.

    Args:
        features: (B, ...), flattened.

    Returns:
        (B, B) in float64. A row of zeros stays one; no scale of the features changes anything.
    """
    return _rows(_bounded(features.flatten(1)))


def class_maps(gradient_KC: Tensor, form: Form = "classes") -> Tensor:
    """Which classes, or which channels, the classifier's gradient holds for alike; rows of length 1.

    Args:
        gradient_KC: of the cross-entropy by the classifier's weights.
        form: "classes": (K, K), the Gram matrix of classes, whatever the width. "channels": (K, C, C), for each class the outer product of
            its channels, as in the authors' code.
    """
    bounded_KC = _bounded(gradient_KC)
    return _rows(bounded_KC) if form == "classes" else _rows(bounded_KC.unsqueeze(-1))


def relation_similarity(student: Tensor, teacher: Tensor) -> Tensor:
    """M_r = -|| G_T - G_S ||^2 / B^2, with `relations` G: how alike two nets hold the same samples.

    Args:
        student: features (B, ...).
        teacher: features (B, ...), of any other width and size.

    Returns:
        A number from -4 / B to 0. Where a side is not finite, it is the lowest.

    Raises:
        ShapeMismatch: other numbers of samples.

    Source: Dong, Li and Wei, "DisWOT: Student Architecture Search for Distillation WithOut Training", 2023, section 3.2.
    Relations: the loss of similarity-preserving distillation (Tung and Mori, 2019), negated, on untrained nets. It does not change when
        all features are scaled or turned, or when the samples are put in another order.
    """
    if len(student) != len(teacher):
        raise ShapeMismatch(f"relation_similarity: the student shows {len(student)} samples, the teacher {len(teacher)}; expected the same")
    return _similarity(relations(student), relations(teacher), len(student) ** 2, len(student), (student, teacher))


def semantic_similarity(student_KC: Tensor, teacher_KC: Tensor, form: Form = "classes") -> Tensor:
    """M_s = -|| E_T - E_S ||^2 / N, with `class_maps` E: how alike two classifiers would move for their classes.

    Args:
        student_KC: gradient of the classifier's weights.
        teacher_KC: the same of the teacher; of any width in the form "classes".
        form: see `class_maps`. N is K^2 for "classes" and C K for "channels".

    Returns:
        A number from -4 / K, or for "channels" -4, to 0. Where a side is not finite, it is the lowest.

    Raises:
        ShapeMismatch: other classes, or, where channels are compared, another width.

    Source: Dong, Li and Wei, 2023, section 3.1. The authors' code compares channels, which asks for equal widths; their text compares maps
        of classes, which the form "classes" does for nets of any width.
    """
    if student_KC.ndim != 2 or teacher_KC.ndim != 2 or len(student_KC) != len(teacher_KC):
        shapes = f"{tuple(student_KC.shape)} and {tuple(teacher_KC.shape)}"
        raise ShapeMismatch(f"semantic_similarity: classifiers of {shapes}; expected (classes, channels) with the same classes")
    if form == "channels" and student_KC.shape != teacher_KC.shape:
        raise ShapeMismatch(
            f"semantic_similarity: {student_KC.shape[1]} and {teacher_KC.shape[1]} channels; "
            "channels are compared at equal width only, use form='classes'"
        )
    classes, channels = student_KC.shape
    count, rows = (classes**2, classes) if form == "classes" else (classes * channels, classes * channels)
    return _similarity(class_maps(student_KC, form), class_maps(teacher_KC, form), count, rows, (student_KC, teacher_KC))


def diswot(student: Look, teacher: Look) -> dict[str, float]:
    """The score of an untrained student: semantic similarity plus relation similarity, higher is better.

    Args:
        student: what it shows.
        teacher: what the teacher shows on the same batch.

    Returns:
        `score`, `semantic` and `relation`.

    Source: Dong, Li and Wei, 2023, eq. 5.
    """
    semantic = float(semantic_similarity(student.gradient, teacher.gradient))
    relation = float(relation_similarity(student.features, teacher.features))
    return {"score": semantic + relation, "semantic": semantic, "relation": relation}


def look(model: Model, batch: Batch, *, training: bool = True) -> Look:
    """Run one batch through a classifier and see what DisWOT compares.

    Args:
        model: images, or whatever ends in a linear layer of one row a class; its weights stay as they are.
        batch: with labels `y`.
        training: whether norms use the statistics of the batch, as those of untrained nets must; running statistics then move.

    Raises:
        BadInput: no labels, or no linear classifier that makes the logits.
    """
    labels = batch.get("y")
    if not isinstance(labels, Tensor) or labels.ndim != 1 or labels.is_floating_point():
        raise BadInput(f"{model.name} can only be looked at on samples with one class each; expected labels 'y' of whole numbers")
    features, classifier = _places(model, batch)
    weight = model.module.get_submodule(classifier).weight
    assert isinstance(weight, nn.Parameter)
    with seeded("look", model.name), model.mode(training=training), _only(model.module, weight), torch.enable_grad():
        shown = model.observe(batch, {features, LOGITS})
        logits, seen = shown[LOGITS], shown[features]
        assert isinstance(logits, Tensor)
        assert isinstance(seen, Tensor)
        (gradient_KC,) = torch.autograd.grad(F.cross_entropy(logits.float(), labels), weight)
    return Look(seen.detach(), gradient_KC.detach())


def _places(model: Model, batch: Batch) -> tuple[str, str]:
    """The paths of the features and of the classifier."""
    trace = model.trace(batch)
    if trace.logits is None or len(trace.logits) != 2:
        raise BadInput(f"{model.name} is no classifier of samples: expected logits of (samples, classes)")
    count, classes = trace.logits
    ends = [i for i, v in enumerate(trace.visits) if v.leaf and v.weighted and v.kind == "Linear" and v.shape == trace.logits]
    if not ends:
        raise BadInput(
            f"{model.name} has no classifier weights: no linear layer gives its {classes} logits; "
            "expected a net that ends in one, such as resnet, cnn or vit"
        )
    before = [v for v in trace.visits[: ends[-1]] if v.path and v.shape is not None and len(v.shape) > 1 and v.shape[0] == count]
    if not before:
        raise BadInput(f"{model.name} has no layer before its classifier, so there are no features to compare")
    unpooled = [v for v in before if v.shape is not None and len(v.shape) > 2]
    return (unpooled or before)[-1].path, trace.visits[ends[-1]].path


@contextlib.contextmanager
def _only(module: nn.Module, weight: nn.Parameter) -> Iterator[None]:
    """Let one weight alone have a gradient, so that no graph is kept for the others."""
    before = [(p, p.requires_grad) for p in module.parameters()]
    for p, _ in before:
        p.requires_grad_(p is weight)
    try:
        yield
    finally:
        for p, was in before:
            p.requires_grad_(was)


def _bounded(values: Tensor) -> Tensor:
    """In float64 and at most 1, so that no product overflows."""
    values = values.detach().double()
    return values / values.abs().amax().clamp_min(torch.finfo(torch.float64).tiny) if values.numel() else values


def _rows(values: Tensor) -> Tensor:
    """The Gram matrix with rows of length 1; a row of zeros stays one."""
    gram = values @ values.mT
    return gram / gram.norm(dim=-1, keepdim=True).clamp_min(torch.finfo(torch.float64).tiny)


def _similarity(ours: Tensor, theirs: Tensor, count: int, rows: int, given: tuple[Tensor, Tensor]) -> Tensor:
    if not all(bool(each.isfinite().all()) for each in given):
        return torch.tensor(-4.0 * rows / count, dtype=torch.float64)
    return -(ours - theirs).square().sum() / max(count, 1)
