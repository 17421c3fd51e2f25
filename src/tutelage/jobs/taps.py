"""taps: where a model's signals can be read, and which places of two models match by depth."""

from __future__ import annotations

from typing import Any

import torch

from tutelage.jobs import models, sources
from tutelage.signals import Depth, Model, Trace


def taps(model: Any, data: Any = "digits", trust_code: bool = False) -> tuple[Model, Trace]:
    """Trace a model on two samples.

    Args:
        model: a spec, run folder, module or Model.
        data: whose samples it is run on.
        trust_code: let a run folder name a .py file whose code then runs.

    Returns:
        The handle, and its modules in the order in which they finish.
    """
    studied = sources.data_from(data)
    handle = models.model_from(model, "model", data=studied, seed=0, trust_code=trust_code)
    batch = studied.train.batch(torch.arange(min(2, len(studied.train))))
    handle.materialize(batch)
    return handle, handle.trace(batch)


def matching(first: Trace, second: Trace, shares: tuple[float, ...] = (0.25, 0.5, 0.75)) -> list[tuple[float, str, str]]:
    """The pairs of paths that `Depth(share)` stands for in two models: what a recipe matches when no tap is named."""
    return [(share, first.resolve(Depth(share)), second.resolve(Depth(share))) for share in shares]
