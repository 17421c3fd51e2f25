"""Intervals of numbers that are no shares: macro F1, nats a sample and calibration error, by drawing the samples anew.

All of these are functions of sums over samples (hits of a class, choices of a class, gaps in a bin of confidence), so a draw is a column
of weights, and many draws are one product of a sparse matrix with them. All models see the same draws, so that their differences are
paired. Shapes: K samples with a label, V classes, R draws, S sums.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.nn import functional as F

from tutelage.evaluation.classification import BINS, NO_LABEL, Predictions, binned
from tutelage.evaluation.intervals import LEVEL
from tutelage.randomness import derive, generator

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

DRAWS = 1000
NUMBERS = 2**22
"""Weights that are held at once."""


@dataclass(frozen=True)
class Drawn:
    """What a model's numbers become when the samples are drawn anew.

    Args:
        macro_f1: (R + 1,); the first is that of the samples as they are, in all three.
        nll: (R + 1,).
        ece: (R + 1,).
        calibrated: what the calibration error of these samples would be if the model were calibrated, (R,).
    """

    macro_f1: np.ndarray
    nll: np.ndarray
    ece: np.ndarray
    calibrated: np.ndarray


def draw(shown: Mapping[str, Predictions], *, seed: int, draws: int = DRAWS) -> dict[str, Drawn]:
    """Draw the labelled samples anew, as many with replacement, and measure all models on each draw.

    Args:
        shown: what the models say of the same samples, one row of finite logits for each; at least one has a label.
        seed: draw r is a function of (seed, r).
        draws: R.

    Source: Efron, "Bootstrap Methods: Another Look at the Jackknife", Annals of Statistics 7, 1979.
    """
    any_one = next(iter(shown.values()))
    hard = any_one.hard()
    assert hard is not None
    known = hard != NO_LABEL
    label_K = hard[known].numpy()
    classes = max(each.logits.shape[1] for each in shown.values())
    counted = _counting(label_K, classes)
    parts = {name: _parts(each, known, label_K, classes) for name, each in shown.items()}
    found: dict[str, list[np.ndarray]] = {name: [] for name in shown}
    for weights_KR in _weights(len(label_K), seed, draws):
        labels_VR = counted @ weights_KR
        for name, each in parts.items():
            found[name].append(_numbers(each @ weights_KR, labels_VR, len(label_K)))
    whole = {name: np.concatenate(each, axis=1) for name, each in found.items()}
    return {name: Drawn(f1, nll, ece, _calibrated(shown[name], seed, draws)) for name, (f1, nll, ece) in whole.items()}


def interval(drawn: np.ndarray, level: float = LEVEL) -> tuple[float, float]:
    """The interval of a number, or of a difference of two, from its draws: the percentiles of them.

    Holds the true value about as often as it says for macro F1 (0.92 to 0.97 of the time on 50 samples and more, simulated) and for nats
    that are not too uneven; where few samples make up most of the nats, it is too narrow, as any interval is that has seen few of them.

    Args:
        drawn: (R + 1,), the first is left out.
        level: how often it should hold the true value.
    """
    low, high = np.quantile(drawn[1:], [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def calibration_interval(drawn: Drawn, level: float = LEVEL) -> tuple[float, float]:
    """The interval of a calibration error. It holds the measured error, and 0 where the model may well be calibrated.

    An error that is a sum of absolute gaps is too large on few samples, and larger still on samples drawn anew: the percentiles of a
    calibrated model's draws never hold 0 (simulated). So the draws are mirrored at the measured error, or moved down by twice their
    distance from it, whichever reaches further up; and the low end is 0 as long as the error is one that a calibrated model could show.
    So it holds the true error 0.87 to 1 of the time at a level of 0.95 (simulated on 100 to 5000 samples).

    Args:
        drawn: of one model.
        level: how often it should hold the true error.
    """
    error, (low, high) = float(drawn.ece[0]), interval(drawn.ece, level)
    above = float(drawn.ece[1:].mean()) - error
    may_be_calibrated = error <= float(np.quantile(drawn.calibrated, (1 + level) / 2))
    lower = 0.0 if may_be_calibrated else max(0.0, 2 * error - high)
    return min(lower, error), max(high - 2 * above, 2 * error - low, error)


def _weights(samples: int, seed: int, draws: int) -> Any:
    """How often each sample is in a draw, (K, some of R); the very first column takes each once."""
    at_once = max(1, NUMBERS // samples)
    columns = [np.ones(samples)]
    for number in range(draws):
        if len(columns) == at_once:
            yield np.stack(columns, axis=1)
            columns = []
        drawn = torch.randint(samples, (samples,), generator=generator("bootstrap", seed, number))
        columns.append(np.bincount(drawn.numpy(), minlength=samples).astype(np.float64))
    yield np.stack(columns, axis=1)


def _counting(place_K: np.ndarray, places: int, values_K: np.ndarray | None = None) -> csr_matrix:
    """The matrix (places, K) that sums values (or counts samples) by place."""
    from scipy.sparse import csr_matrix

    values = np.ones(len(place_K)) if values_K is None else values_K
    return csr_matrix((values, (place_K, np.arange(len(place_K)))), shape=(places, len(place_K)))


def _parts(said: Predictions, known: torch.Tensor, label_K: np.ndarray, classes: int) -> csr_matrix:
    """The sums of one model: choices by class, hits by class, nats, gaps by bin; (V + V + 1 + bins, K)."""
    from scipy.sparse import vstack

    assert said.labels is not None
    logits, labels = said.logits[known].double(), said.labels[known]
    choice_K = said.choices()[known].numpy()
    nats_K = F.cross_entropy(logits, labels.double() if labels.is_floating_point() else labels.long(), reduction="none").numpy()
    confidence_K, right_K, place_K = (each.numpy() for each in binned(said))
    return vstack(
        [
            _counting(choice_K, classes),
            _counting(label_K, classes, (choice_K == label_K).astype(np.float64)),
            _counting(np.zeros(len(label_K), dtype=np.int64), 1, nats_K),
            _counting(place_K, BINS, right_K - confidence_K),
        ],
        format="csr",
    )


def _numbers(sums_SR: np.ndarray, labels_VR: np.ndarray, samples: int) -> np.ndarray:
    """Macro F1, nats a sample and calibration error of each draw, (3, R)."""
    classes = len(labels_VR)
    choices_VR, hits_VR, nats_R, gaps_R = np.split(sums_SR, [classes, 2 * classes, 2 * classes + 1])
    both_VR = choices_VR + labels_VR
    occurs = both_VR > 0
    each_VR = np.divide(2 * hits_VR, both_VR, out=np.zeros_like(both_VR), where=occurs)
    return np.stack([each_VR.sum(0) / occurs.sum(0), nats_R[0] / samples, np.abs(gaps_R).sum(0) / samples])


def _calibrated(said: Predictions, seed: int, draws: int) -> np.ndarray:
    """Calibration errors of a model that is right exactly as often as it says, (R,); the sum of a bin is taken as normal."""
    confidence_K, _, place_K = (each.numpy() for each in binned(said))
    spread = np.sqrt(np.bincount(place_K, weights=confidence_K * (1 - confidence_K), minlength=BINS))
    noise = np.random.default_rng(derive("calibrated", seed)).standard_normal((draws, BINS))
    return np.abs(noise * spread).sum(1) / len(confidence_K)
