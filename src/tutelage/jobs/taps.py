"""taps: where a model's signals can be read, and which places of two models match by depth."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from tutelage.data import Data
from tutelage.errors import BadInput, TutelageError
from tutelage.jobs import models, sources
from tutelage.jobs.cached import Handle
from tutelage.jobs.estimate import check_weights
from tutelage.jobs.tokenizers import with_tokenizer
from tutelage.signals import Depth, Model, Trace
from tutelage.teachers import Cached


def taps(model: Any, data: Any = "digits", trust_code: bool = False) -> tuple[Model, Trace]:
    """Trace a model on two samples.

    Args:
        model: a spec, run folder, module or Model.
        data: whose samples it is run on.
        trust_code: let a run folder name a .py file whose code then runs.

    Returns:
        The handle, and its modules in the order in which they finish.
    """
    studied = sources.data_from(with_tokenizer(data, model))
    handle = models.model_from(model, "model", data=studied, seed=0, trust_code=trust_code)
    check_weights({"model": handle})
    return handle, traced(handle, "model", studied)


def traced(model: Model, role: str, data: Data) -> Trace:
    """Trace a model on two samples of the training data.

    Raises:
        BadInput: it cannot be run on them, with what it said.
    """
    batch = data.train.batch(torch.arange(min(2, len(data.train))))
    try:
        model.materialize(batch)
        return model.trace(batch)
    except TutelageError:
        raise
    except Exception as error:
        said = f"{type(error).__name__}: {error}"
        raise BadInput(f"the {role} ({model.spec or model.name}) cannot be run on samples of {data.name}: {said}") from error


def check_classes(handles: Mapping[str, Handle], data: Data) -> None:
    """Refuse a classifier that does not know the classes of the data, before another one is trained for long.

    Args:
        handles: by role.
        data: tells how many classes there are.

    Raises:
        BadInput: a model gives too few logits, or cannot be run on samples of the data.
    """
    classes = models.sizes(data).get("classes")
    for role, model in handles.items():
        if isinstance(model, Cached):
            kept = model.kept.logits
            shape = torch.Size((1, kept.classes)) if kept is not None and not kept.positions else None
        else:
            shape = traced(model, role, data).logits
        _know_all(role, model.name, shape, classes, data)


def _know_all(role: str, name: str, shape: torch.Size | None, classes: int | None, data: Data) -> None:
    if classes is not None and shape is not None and len(shape) == 2 and shape[1] < classes:
        raise BadInput(f"the {role} ({name}) gives {shape[1]} logits, but {data.name} has {classes} classes; it must know them all")


def matching(first: Trace, second: Trace, shares: tuple[float, ...] = (0.25, 0.5, 0.75)) -> list[tuple[float, str, str]]:
    """The pairs of paths that `Depth(share)` stands for in two models: what a recipe matches when no tap is named."""
    return [(share, first.resolve(Depth(share)), second.resolve(Depth(share))) for share in shares]
