"""A few short sequences of tokens with what follows them, and small language models: what recipes for sequences are tested on.

Shapes: T=6, V=11.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from tutelage import Fit, Model, Run, RunOptions, train
from tutelage.data import Data, Table
from tutelage.students import gpt
from tutelage.training import Plan

T, V, SIZE, BATCH = 6, 11, 13, 4
FIT = Fit(steps=5, batch_size=BATCH, optimizer="sgd", lr=0.5, momentum=0.0, weight_decay=0.0, schedule="constant")


def net(width: int = 8) -> torch.nn.Module:
    return gpt(classes=V, width=width, depth=1, heads=2, context=T)


def columns(labels: bool = True) -> dict[str, torch.Tensor]:
    """Sequences of 1 to 6 tokens."""
    made = torch.Generator().manual_seed(2)
    ids = torch.randint(0, V, (SIZE, T + 1), generator=made)
    mask = torch.arange(T) < torch.randint(1, T + 1, (SIZE, 1), generator=made)
    found = {"input_ids": ids[:, :-1], "mask": mask}
    return {**found, "y": torch.where(mask, ids[:, 1:], -100)} if labels else found


def texts(labels: bool = True) -> Data:
    return Data(Table(columns(labels)), classes=[str(v) for v in range(V)] if labels else ())


def sharp(seed: int = 3) -> Model:
    """A teacher with opinions, more than its first weights give it."""
    model = Model(lambda: net(12), seed=seed)
    with torch.no_grad():
        model.module.head.weight *= 3
    return model


def go(plan: Plan, folder: Path | None = None, **options: Any) -> tuple[torch.nn.Module, list[dict[str, float]]]:
    """Train, and give the product and the terms of each step."""
    lines: list[Any] = []
    settings = RunOptions(**{"quiet": True, "share_every": 0, "log_every": 1, **options})
    train(plan, Run(folder, options=settings, seed=2, track=lines.append))
    return plan.product.module, [line["terms"] for line in lines if "terms" in line]


def mean(values: torch.Tensor, mask: torch.Tensor, reduction: str) -> torch.Tensor:
    """Over tokens, or over sequences."""
    if reduction == "token":
        return (values * mask).sum() / mask.sum()
    return ((values * mask).sum(1) / mask.sum(1)).mean()


def descend(module: torch.nn.Module, loss: torch.Tensor) -> None:
    """One update as FIT makes it."""
    module.zero_grad()
    loss.backward()
    with torch.no_grad():
        for p in module.parameters():
            p -= 0.5 * p.grad
