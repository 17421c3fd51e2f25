"""Find the Stateful parts of a stage: what is begun, told of each step, saved and restored, by its path in the plan."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor, nn

from tutelage.data import Source
from tutelage.objectives import Distance, Objective
from tutelage.signals import Model
from tutelage.state import Stateful
from tutelage.training.plan import Stage


def walk(thing: Any, path: str = "", seen: set[int] | None = None) -> Iterator[tuple[str, Stateful]]:
    """Find the Stateful parts in learners, objectives, distances, teachers and containers, each once, with its path."""
    seen = set() if seen is None else seen
    if id(thing) in seen or isinstance(thing, (str, int, float, Tensor, Model, Source)):
        return
    seen.add(id(thing))
    if isinstance(thing, Stateful):
        yield path, thing
    if isinstance(thing, Mapping):
        inner = {str(k): v for k, v in thing.items()}
    elif isinstance(thing, (list, tuple)):
        inner = {str(i): v for i, v in enumerate(thing)}
    elif isinstance(thing, Objective):
        inner = {**{k: v for k, v in vars(thing).items() if not k.startswith("_")}, **thing._modules}
    elif isinstance(thing, nn.ModuleList):
        inner = dict(thing.named_children())
    elif isinstance(thing, nn.Module):
        return
    elif isinstance(thing, Distance) or (dataclasses.is_dataclass(thing) and not isinstance(thing, type)):
        inner = {f.name: getattr(thing, f.name) for f in dataclasses.fields(thing)}
    elif isinstance(thing, Stateful):
        inner = dict(vars(thing))
    else:
        return
    for name, value in inner.items():
        yield from walk(value, f"{path}.{name}" if path else name, seen)


def stateful_parts(stage: Stage) -> dict[str, Stateful]:
    """All Stateful parts of a stage by path."""
    return dict(walk({"learners": stage.named, "parts": list(stage.parts)}))
