"""Measure a classifier on a source: how often it is right, class by class, how sure it is, and how far it follows a teacher.

Labels of -100 are no labels; rows of class probabilities count as their largest. Shapes: N samples, K those with a label, V classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from tutelage.data import Source
from tutelage.signals import Model
from tutelage.signals.outputs import raised
from tutelage.teachers import Teacher

NO_LABEL = -100
BINS = 15
"""Of confidence, all of one width, in the calibration error and the reliability diagram."""


@dataclass(frozen=True)
class Predictions:
    """What a model says about a whole source.

    Args:
        logits: (N, V), in float32 or wider, on the CPU.
        labels: (N,), rows that sum to 1, or None.
        ids: (N,), of the samples; None where they are no numbers.
    """

    logits: Tensor
    labels: Tensor | None
    ids: Tensor | None = None

    def hard(self) -> Tensor | None:
        """The label of each sample as a class number, (N,); None where there is none, or the logits are not one row a sample."""
        return None if self.labels is None or self.logits.ndim != 2 else class_numbers(self.labels)

    def choices(self) -> Tensor:
        """The class with the largest logit, (N,) or (N, T)."""
        return self.logits.argmax(-1)

    def probabilities(self) -> Tensor:
        """The softmax of the logits, in float64."""
        return self.logits.double().softmax(-1)


def predict(who: Model | Teacher, source: Source, *, device: torch.device | str = "cpu", batch_size: int = 256) -> Predictions:
    """Ask a model or teacher about every sample, in evaluation mode and without gradients.

    Args:
        who: the model or teacher; its models are moved to the device.
        source: the samples.
        device: where to compute.
        batch_size: samples a pass.
    """
    for model in who.models() if isinstance(who, Teacher) else [who]:
        model.module.to(device)
    rows, labels, ids = [], [], []
    # every position once, in order: what a model says of a sample must not depend on its neighbours in evaluation mode
    for positions in torch.arange(len(source)).split(batch_size):
        batch = source.batch(positions)
        placed = {k: v.to(device) if isinstance(v, Tensor) else v for k, v in batch.items()}
        if isinstance(who, Teacher):
            found = who.signals(placed, {"logits"})
        else:
            with who.mode(training=False), torch.no_grad():
                found = who.observe(placed, {"logits"})
        rows.append(raised(found["logits"].detach()).cpu())
        if "y" in batch:
            labels.append(torch.as_tensor(batch["y"]))
        if isinstance(batch["id"], Tensor):
            ids.append(batch["id"])
    return Predictions(torch.cat(rows), torch.cat(labels) if labels else None, torch.cat(ids) if ids else None)


def measure(predictions: Predictions, teacher: Predictions | None = None) -> dict[str, float]:
    """Numbers of a classifier.

    Args:
        predictions: what it says.
        teacher: what a teacher says of the same samples.

    Returns:
        Where there are labels: `accuracy`; `macro_f1`, the mean of the F1 of the classes that occur among labels or choices; `nll` (nats a
        sample); `ece`, the expected calibration error over 15 bins. Where there is a teacher: `agreement`, the share of samples on which
        both choose the same class.

    Source: the calibration error is that of Guo et al., "On Calibration of Modern Neural Networks", ICML 2017, section 2.
    """
    from torchmetrics.functional.classification import multiclass_accuracy, multiclass_calibration_error, multiclass_f1_score

    numbers: dict[str, float] = {}
    hard = predictions.hard()
    if hard is not None and predictions.labels is not None and (known := hard != NO_LABEL).any():
        logits_KV, hard_K, labels = predictions.logits[known], hard[known], predictions.labels[known]
        classes, choices_K = logits_KV.shape[1], logits_KV.argmax(-1)
        numbers["accuracy"] = float(multiclass_accuracy(choices_K, hard_K, classes, average="micro"))
        numbers["macro_f1"] = float(multiclass_f1_score(choices_K, hard_K, classes, average="macro"))
        numbers["nll"] = float(F.cross_entropy(logits_KV, labels if labels.is_floating_point() else labels.long()))
        # a confidence of exactly 1 would fall into a sixteenth bin of its own
        probabilities_KV = predictions.probabilities()[known].clamp(max=1 - 2**-24)
        numbers["ece"] = float(multiclass_calibration_error(probabilities_KV, hard_K, classes, n_bins=BINS, norm="l1"))
    if teacher is not None:
        numbers["agreement"] = float((predictions.choices() == teacher.choices()).float().mean())
    return numbers


def recalls(predictions: Predictions, classes: int) -> list[float | None]:
    """The share of each class's samples that are recognised, in [0, 1]; None for a class without samples.

    Args:
        predictions: with labels.
        classes: how many there are; at most the number of logits.
    """
    from torchmetrics.functional.classification import multiclass_recall

    hard = predictions.hard()
    if hard is None:
        return [None] * classes
    known = hard != NO_LABEL
    if not known.any():
        return [None] * classes
    found = multiclass_recall(predictions.choices()[known], hard[known], predictions.logits.shape[1], average="none").tolist()
    counts = torch.bincount(hard[known], minlength=classes).tolist()
    return [value if count else None for value, count in zip(found[:classes], counts, strict=False)]


def class_numbers(labels: Tensor) -> Tensor | None:
    """One class number a sample, (N,): of rows of class probabilities the largest; None for labels of another kind, such as tokens."""
    if labels.is_floating_point():
        return labels.argmax(-1) if labels.ndim == 2 else None
    return labels.long() if labels.ndim == 1 else None


def class_counts(labels: Tensor, classes: int) -> list[int] | None:
    """How many samples each class has, -100 left out; None where labels are not one class a sample."""
    hard = class_numbers(labels)
    return None if hard is None else torch.bincount(hard[hard != NO_LABEL], minlength=classes).tolist()[:classes]


def aurc(predictions: Predictions) -> float:
    """The area under the risk-coverage curve: how often a model errs on the samples that it is surest of, a mean over all shares of them.

    It is low where few errors are made and where those are made with the least confidence; a model that is as often right but orders its
    answers badly has more. Equal confidences count as if they were drawn in any order.

    Args:
        predictions: with at least one label.

    Returns:
        In [0, 1]; papers often print a thousand times that.

    Source: Geifman, Uziel & El-Yaniv, "Bias-Reduced Uncertainty Estimation for Deep Neural Classifiers", ICLR 2019, section 2.
    """
    confidence_K, right_K, _ = binned(predictions)
    order = confidence_K.argsort(descending=True)
    _, place_K = torch.unique_consecutive(confidence_K[order], return_inverse=True)
    size = torch.bincount(place_K)
    share = torch.bincount(place_K, weights=1 - right_K[order]) / size  # of errors among equally confident answers
    errors_K = share[place_K].cumsum(0)
    return float((errors_K / torch.arange(1, len(errors_K) + 1)).mean())


def reliability(predictions: Predictions) -> list[dict[str, Any]]:
    """How often a model is right when it is so sure: the bins of its calibration error, from confidence 0 to 1.

    Returns:
        For each bin `samples`, and their mean `accuracy` and `confidence`, None in an empty one; empty without labels.
    """
    hard = predictions.hard()
    if hard is None or not (hard != NO_LABEL).any():
        return []
    confidence_K, right_K, place_K = binned(predictions)
    samples = torch.bincount(place_K, minlength=BINS)
    sums = [torch.bincount(place_K, weights=each, minlength=BINS) / samples for each in (right_K, confidence_K)]
    rows = zip(samples.tolist(), *(each.tolist() for each in sums), strict=True)
    return [{"samples": n, "accuracy": a if n else None, "confidence": c if n else None} for n, a, c in rows]


def binned(predictions: Predictions) -> tuple[Tensor, Tensor, Tensor]:
    """How sure a model is of its choice, whether it is right (1 or 0), and the bin of that confidence, each (K,).

    Args:
        predictions: with at least one label.
    """
    hard = predictions.hard()
    assert hard is not None
    known = hard != NO_LABEL
    confidence_K, choice_K = predictions.probabilities()[known].max(-1)
    return confidence_K, (choice_K == hard[known]).double(), (confidence_K.float() * BINS).long().clamp(max=BINS - 1)


def confusion(first: Tensor, second: Tensor, classes: int) -> Tensor:
    """How often each pair of classes is chosen of one sample.

    Args:
        first: class numbers (N,); -100 is left out.
        second: class numbers (N,).
        classes: V, above each of them.

    Returns:
        Counts (V, V): rows by `first`, columns by `second`.
    """
    known = first != NO_LABEL
    return torch.bincount(first[known] * classes + second[known], minlength=classes * classes).reshape(classes, classes)
