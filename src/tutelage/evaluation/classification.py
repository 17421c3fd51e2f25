"""Measure a classifier on a source: accuracy, negative log-likelihood, agreement with a teacher. Shapes: N samples, V classes."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from tutelage.data import Source
from tutelage.signals import Model
from tutelage.signals.outputs import raised
from tutelage.teachers import Teacher


@dataclass(frozen=True)
class Predictions:
    """What a model says about a whole source.

    Args:
        logits: (N, V), in float32 or wider, on the CPU.
        labels: (N,), rows that sum to 1, or None.
    """

    logits: Tensor
    labels: Tensor | None


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
    rows, labels = [], []
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
    return Predictions(torch.cat(rows), torch.cat(labels) if labels else None)


def measure(predictions: Predictions, teacher: Predictions | None = None) -> dict[str, float]:
    """Numbers of a classifier.

    Args:
        predictions: what it says.
        teacher: what a teacher says of the same samples.

    Returns:
        `accuracy` and `nll` (nats a sample) where there are labels; `agreement` (share of samples with the teacher's choice) where there is
        a teacher.
    """
    from torchmetrics.functional.classification import multiclass_accuracy

    numbers: dict[str, float] = {}
    logits_NV, labels = predictions.logits, predictions.labels
    if labels is not None and logits_NV.ndim == 2:
        hard = _hard(labels)
        numbers["accuracy"] = float(multiclass_accuracy(logits_NV, hard, logits_NV.shape[1], average="micro", ignore_index=-100))
        numbers["nll"] = float(F.cross_entropy(logits_NV, labels if labels.is_floating_point() else labels.long()))
    if teacher is not None:
        numbers["agreement"] = float((logits_NV.argmax(-1) == teacher.logits.argmax(-1)).float().mean())
    return numbers


def difference(first: Predictions, second: Predictions) -> dict[str, float] | None:
    """How much more often the first model is right than the second, on the same samples.

    Returns:
        `accuracy`, the mean difference, and `low` and `high`, its 95 % interval over samples (normal, paired); it knows nothing of how
        other seeds would have ended. None without labels, or where the predictions are not one class a sample.
    """
    labels = first.labels
    if labels is None or first.logits.ndim != 2:
        return None
    hard = _hard(labels)
    kept = hard != -100
    right = [(each.logits.argmax(-1) == hard)[kept].double() for each in (first, second)]
    gaps = right[0] - right[1]
    mean, half = float(gaps.mean()), 1.96 * float(gaps.std(correction=0)) / math.sqrt(max(len(gaps), 1))
    return {"accuracy": mean, "low": mean - half, "high": mean + half}


def _hard(labels: Tensor) -> Tensor:
    return labels.argmax(-1) if labels.is_floating_point() else labels
