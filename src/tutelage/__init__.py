"""Tutelage: knowledge distillation in its widest sense. `tutelage.distill(teacher, student, data)` is the main job."""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

_WHERE = {
    "cache": "tutelage.jobs.cache",
    "compare": "tutelage.jobs.compare",
    "condense": "tutelage.jobs.condense",
    "distill": "tutelage.jobs.distill",
    "evaluate": "tutelage.jobs.evaluate",
    "export": "tutelage.jobs.export",
    "generate": "tutelage.jobs.generate",
    "sample": "tutelage.jobs.sample",
    "search": "tutelage.jobs.search",
    "reproduce": "tutelage.reproductions.harness.reproduce",
    "CrossEntropy": "tutelage.objectives",
    "Match": "tutelage.objectives",
    "Objective": "tutelage.objectives",
    "cosine": "tutelage.objectives",
    "grid_conv": "tutelage.objectives",
    "jensen_shannon": "tutelage.objectives",
    "mse": "tutelage.objectives",
    "regressor": "tutelage.objectives",
    "soft_cross_entropy": "tutelage.objectives",
    "soft_targets": "tutelage.objectives",
    "valid_conv": "tutelage.objectives",
    "Ensemble": "tutelage.teachers",
    "Frozen": "tutelage.teachers",
    "Depth": "tutelage.signals",
    "ImageInputs": "tutelage.signals.images",
    "Model": "tutelage.signals",
    "Signals": "tutelage.signals",
    "Data": "tutelage.data",
    "Indexed": "tutelage.data",
    "Table": "tutelage.data",
    "Fit": "tutelage.training",
    "Learner": "tutelage.training",
    "Action": "tutelage.training",
    "Plan": "tutelage.training",
    "Run": "tutelage.training",
    "RunOptions": "tutelage.training",
    "Stage": "tutelage.training",
    "train": "tutelage.training",
    "up_to": "tutelage.training",
    "linear_ramp": "tutelage.state",
    "Paper": "tutelage.recipes",
    "recipe": "tutelage.recipes",
    "TutelageError": "tutelage.errors",
}

__all__ = ["__version__", *_WHERE]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used, so that `import tutelage` and `--help` stay light."""
    if name not in _WHERE:
        raise AttributeError(f"module 'tutelage' has no attribute {name!r}")
    return getattr(importlib.import_module(_WHERE[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
