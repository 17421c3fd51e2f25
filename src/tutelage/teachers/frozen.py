"""Frozen: one model that is not trained, in evaluation mode."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator

import torch
from torch import nn

from tutelage.signals import Batch, Model, Signals, Tap
from tutelage.teachers.teacher import Gives, Teacher


@contextlib.contextmanager
def _constant(module: nn.Module) -> Iterator[None]:
    wanted = [p for p in module.parameters() if p.requires_grad]
    try:
        for p in wanted:
            p.requires_grad_(False)
        yield
    finally:
        for p in wanted:
            p.requires_grad_(True)


class Frozen(Teacher):
    """One model as it is, in evaluation mode.

    Args:
        model: the handle; built when the first signals are asked for.
        gradient: let gradients pass through it to its inputs; its weights get none either way.
    """

    def __init__(self, model: Model, *, gradient: bool = False) -> None:
        self.model = model
        self.name = model.name
        self.gives = Gives(forms=frozenset({"dense", "deferred"}), taps="any", gradient=gradient)

    def signals(self, batch: Batch, taps: Collection[Tap], *, view: str | None = None) -> Signals:
        """One pass, as deep as the deepest tap, without gradients unless `gradient`."""
        # no_grad, not inference_mode: an inference tensor cannot be saved for backward by a loss or a connector
        with _constant(self.model.module) if self.gives.gradient else torch.no_grad():
            if self.model.evaluating:  # a stage has seen to it for all of its passes
                return self.model.observe(batch, taps)
            with self.model.mode(training=False):
                return self.model.observe(batch, taps)

    def models(self) -> list[Model]:
        """The model."""
        return [self.model]
