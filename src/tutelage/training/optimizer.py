"""Optimizers from a Fit, learning rates as a function of the step, and the moving average of weights."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from tutelage.errors import BadInput
from tutelage.training.fit import Fit


def make_optimizer(fit: Fit, parameters: Mapping[str, nn.Parameter], groups: Mapping[str, Mapping[str, float]]) -> torch.optim.Optimizer:
    """Build the optimizer of a learner.

    Args:
        fit: its knobs.
        parameters: what it updates, by name.
        groups: by shell pattern over the names, what differs: "lr", "weight_decay", "momentum". The first pattern that fits a name holds.

    Raises:
        BadInput: a pattern that fits no name, or an unknown knob.
    """
    left = dict(parameters)
    made: list[dict[str, Any]] = []
    for pattern, knobs in groups.items():
        unknown = sorted(set(knobs) - {"lr", "weight_decay", "momentum"})
        if unknown:
            raise BadInput(f"groups[{pattern!r}] sets {unknown[0]!r}; expected lr, weight_decay or momentum")
        names = fnmatch.filter(left, pattern)
        if not names:
            raise BadInput(f"groups[{pattern!r}] fits no trained parameter; they are named like {next(iter(parameters))!r}")
        made.append({"params": [left.pop(n) for n in names], **knobs})
    if left:
        made.append({"params": list(left.values())})
    if fit.optimizer == "sgd":
        optimizer: torch.optim.Optimizer = torch.optim.SGD(made, lr=fit.lr, momentum=fit.momentum, weight_decay=fit.weight_decay)
    elif fit.optimizer == "adam":
        optimizer = torch.optim.Adam(made, lr=fit.lr, weight_decay=fit.weight_decay)
    else:
        optimizer = torch.optim.AdamW(made, lr=fit.lr, weight_decay=fit.weight_decay)
    for group in optimizer.param_groups:
        group["initial_lr"] = group["lr"]
    return optimizer


def set_lr(optimizer: torch.optim.Optimizer, factor: float) -> None:
    """Set each group's learning rate to its peak times a factor."""
    for group in optimizer.param_groups:
        group["lr"] = group["initial_lr"] * factor


class Average:
    """An exponential moving average of parameters.

    Args:
        parameters: what is averaged, by name.
        decay: share of the old average that is kept at each update, in (0, 1).
    """

    def __init__(self, parameters: Mapping[str, nn.Parameter], decay: float) -> None:
        self.live = dict(parameters)
        self.decay = decay
        self.mean: dict[str, Tensor] = {name: p.detach().clone() for name, p in parameters.items()}

    @torch.no_grad()
    def update(self) -> None:
        """Average <- decay * average + (1 - decay) * weights."""
        torch._foreach_lerp_(list(self.mean.values()), [p.detach() for p in self.live.values()], 1 - self.decay)

    @torch.no_grad()
    def swap(self) -> None:
        """Exchange the weights and their average; twice is as before."""
        for name, p in self.live.items():
            kept = p.detach().clone()
            p.copy_(self.mean[name])
            self.mean[name].copy_(kept)
