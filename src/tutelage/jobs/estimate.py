"""What a plan will do and about how long it takes, before anything is built: the table of `--dry-run`.

Operations are counted on the meta device, which computes nothing and holds no weights; the machine's speed is taken from a small
convolution, forward and backward, so the time is rough: right to a factor of about three.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tutelage.data import Data
from tutelage.evaluation import forward_flops, size_of
from tutelage.signals import Model
from tutelage.training.memory import must_fit
from tutelage.training.plan import Plan

STEP_OVERHEAD = 1e-3
"""Seconds a step costs besides its arithmetic: the optimizer, the data, the launching of kernels."""


@dataclass(frozen=True)
class Row:
    """One stage in the table.

    Args:
        plan: "teacher", "baseline" or "student".
        stage: name of the stage.
        trains: what is updated.
        teacher: who is asked, and how deep.
        steps: updates.
        samples: samples studied, with repetition.
        seconds: estimated time; None where it cannot be told without building the model.
    """

    plan: str
    stage: str
    trains: str
    teacher: str
    steps: int
    samples: int
    seconds: float | None


def rows(plans: Mapping[str, Plan], data: Data) -> list[Row]:
    """Estimate each stage of each plan.

    Args:
        plans: by what they make, in the order in which they run.
        data: one sample's shape is read from it.
    """
    found = []
    for label, plan in plans.items():
        for cost in plan.cost():
            # what is no training, and what makes a view of a step, such as writing text, is code that only running it can tell of
            seconds: float | None = cost.steps * STEP_OVERHEAD if cost.steps and not cost.views else None
            for _, model, samples, _, trained in cost.passes:
                flops = flops_of(model, data)
                # backward costs twice the forward; a teacher's early stop is not counted, so its part is at most this
                seconds = None if flops is None or seconds is None else seconds + flops * samples * (3 if trained else 1) / speed()
            trains = ", ".join(sorted({m.name for _, m, _, _, t in cost.passes if t}))
            teacher = ", ".join(f"{who.name} at {', '.join(sorted(map(str, taps)))}" for who, taps in cost.asked) or "none"
            found.append(Row(label, cost.stage, trains, teacher, cost.steps, cost.samples, seconds))
    return found


def check_weights(models: Mapping[str, Model]) -> None:
    """Refuse a model whose weights alone do not fit into memory, before it is built. What a user's own file makes is not built for this.

    Args:
        models: by role.

    Raises:
        BadInput: names the role and both sizes; also what the constructor refuses.
    """
    for role, model in models.items():
        if model.built or model.spec is None or ".py:" in model.spec:
            continue
        skeleton = model.skeleton()
        if skeleton is not None:
            must_fit(size_of(skeleton)["bytes"], f"the {role} ({model.spec})", "take a smaller one")


def flops_of(model: Model, data: Data) -> float | None:
    """Operations of one pass over one sample, counted without building the model; None where that cannot be told."""
    skeleton = model.skeleton()
    if skeleton is None:
        return None
    batch = {k: v.to("meta") if isinstance(v, Tensor) else v for k, v in data.train.batch(torch.tensor([0, 0])).items()}
    try:
        arguments = model.inputs(batch, skeleton)
        mask = arguments.get("attention_mask") if isinstance(arguments, dict) else None
        if isinstance(arguments, dict) and mask is not None and mask.ndim == 2:
            del arguments["attention_mask"]  # models look into it, which cannot be done here; it changes no count
        return forward_flops(skeleton.eval(), arguments) / 2
    except (RuntimeError, NotImplementedError, TypeError, ValueError):
        return None  # a pass that looks at values cannot run on the meta device


@functools.cache
def speed() -> float:
    """Operations a second of a small convolution, forward and backward, on this machine: the fastest of passes in a tenth of a second."""
    layer = nn.Sequential(nn.Conv2d(16, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 16, 3, padding=1))
    x = torch.ones(64, 16, 8, 8)
    flops = forward_flops(layer, (x,)) * 3
    layer(x).sum().backward()
    start, least = time.perf_counter(), float("inf")
    while (begun := time.perf_counter()) - start < 0.1:
        layer(x).sum().backward()
        least = min(least, time.perf_counter() - begun)
    return flops / least
