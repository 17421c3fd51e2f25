"""Fit: how long and how hard, the one bundle of optimiser knobs."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from tutelage.errors import BadInput
from tutelage.training.null import refuse_null

MOST = 1e30
"""Largest learning rate and the like: optimizers hand them to float32, where they must not overflow."""


@dataclass(frozen=True)
class Fit:
    """How long and how hard to train.

    Args:
        epochs: passes over the data, > 0; need not be whole. Give this or `steps`.
        steps: optimizer updates, >= 1.
        batch_size: samples an update, over all processes and micro-batches.
        optimizer: sgd (with momentum), adam or adamw.
        lr: peak learning rate, > 0.
        momentum: of sgd, in [0, 1).
        weight_decay: >= 0; decoupled in adamw.
        schedule: of the learning rate after warmup: constant; cosine or linear down to 0; steps: a tenth at 5/8, 6/8 and 7/8 of the way.
        warmup: share of the updates over which the learning rate rises from 0, in [0, 1).
        clip: largest norm of each learner's gradient, > 0; null for no limit.
        ema: decay of an exponential moving average of the weights, in (0, 1); the average is what the stage leaves. Null for none.
        keep: leave the last weights, or those that are best on validation: of classifiers by accuracy, of language models by nats.
        measure_every: updates between measurements on validation; null measures after each epoch.

    Raises:
        BadInput: a value outside its range, or both or neither of epochs and steps.
    """

    epochs: float | None = None
    steps: int | None = None
    batch_size: int = 64
    optimizer: Literal["sgd", "adam", "adamw"] = "adamw"
    lr: float = 1e-3
    momentum: float = 0.9
    weight_decay: float = 0.01
    schedule: Literal["constant", "cosine", "linear", "steps"] = "cosine"
    warmup: float = 0.0
    clip: float | None = None
    ema: float | None = None
    keep: Literal["last", "best"] = "last"
    measure_every: int | None = None

    def __post_init__(self) -> None:
        refuse_null(self)
        if (self.epochs is None) == (self.steps is None):
            raise BadInput(f"Fit(epochs={self.epochs}, steps={self.steps}): give exactly one of the two")
        rules = {
            "epochs": (self.epochs is None or 0 < self.epochs < math.inf, "a finite number above 0"),
            "steps": (self.steps is None or self.steps >= 1, "at least 1"),
            "batch_size": (self.batch_size >= 1, "at least 1"),
            "lr": (0 < self.lr <= MOST, f"a number above 0, at most {MOST:g}"),
            "momentum": (0 <= self.momentum < 1, "a number in [0, 1)"),
            "weight_decay": (0 <= self.weight_decay <= MOST, f"a number from 0 to {MOST:g}"),
            "warmup": (0 <= self.warmup < 1, "a share in [0, 1)"),
            "clip": (self.clip is None or 0 < self.clip <= MOST, f"a number above 0, at most {MOST:g}, or null"),
            "ema": (self.ema is None or 0 < self.ema < 1, "a decay in (0, 1), or null"),
            "measure_every": (self.measure_every is None or self.measure_every >= 1, "at least 1, or null"),
            "optimizer": (self.optimizer in ("sgd", "adam", "adamw"), "sgd, adam or adamw"),
            "schedule": (self.schedule in ("constant", "cosine", "linear", "steps"), "constant, cosine, linear or steps"),
            "keep": (self.keep in ("last", "best"), "last or best"),
        }
        for name, (holds, expected) in rules.items():
            if not holds:
                raise BadInput(f"Fit({name}={getattr(self, name)}): expected {expected}")

    def updates(self, size: int | None) -> int:
        """Optimizer updates on a data set.

        Args:
            size: number of samples; None where a stage has no data.

        Raises:
            BadInput: epochs of no data, or too many to count.
        """
        if self.steps is not None:
            return self.steps
        if size is None:
            raise BadInput(f"Fit(epochs={self.epochs}) means nothing without data; give steps instead")
        assert self.epochs is not None
        updates = self.epochs * size / self.batch_size
        if updates == math.inf:
            raise BadInput(f"Fit(epochs={self.epochs}) is more than can be counted")
        return max(1, round(updates))

    def measurements(self, steps: int, size: int | None) -> float:
        """How often something is measured on validation in so many updates on so many samples; a part of an epoch counts as a part."""
        if self.measure_every is not None:
            return steps / self.measure_every
        return steps * self.batch_size / size if size else 0.0

    def factor(self, step: int, steps: int) -> float:
        """What the learning rate is multiplied by at a step, in [0, 1]; a closed form, so that no schedule is saved."""
        rise = round(self.warmup * steps)
        if step < rise:
            return (step + 1) / (rise + 1)
        done = (step - rise) / max(steps - rise, 1)
        if self.schedule == "cosine":
            return 0.5 * (1 + math.cos(math.pi * done))
        if self.schedule == "linear":
            return 1 - done
        if self.schedule == "steps":
            return 0.1 ** sum(done >= at for at in (5 / 8, 6 / 8, 7 / 8))
        return 1.0
