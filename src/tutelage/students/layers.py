"""Fewer layers: which blocks of a transformer a student keeps, and how the others are taken out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from tutelage.errors import BadInput


def kept_layers(layers: int | Sequence[int], there: int, name: str) -> list[int]:
    """Which blocks a student keeps.

    Args:
        layers: how many, spread evenly so that the first and the last are among them (a single one is the first); or which, from 0.
        there: how many the model has.
        name: how messages call it.

    Raises:
        BadInput: more than there are, none, one twice, or not in order.
    """
    if isinstance(layers, int) and not isinstance(layers, bool):
        if not 1 <= layers <= there:
            raise BadInput(f"{name}:layers={layers}: the model has {there} layers; expected 1 to {there}")
        return [round(i * (there - 1) / (layers - 1)) for i in range(layers)] if layers > 1 else [0]
    chosen = list(layers) if isinstance(layers, Sequence) and not isinstance(layers, str) else []
    whole = all(isinstance(i, int) and not isinstance(i, bool) and 0 <= i < there for i in chosen)
    if not chosen or not whole or sorted(set(chosen)) != chosen:
        raise BadInput(
            f"{name}:layers={layers}: expected how many layers to keep, or which, rising, from 0 to {there - 1}, as layers=[0,{there - 1}]"
        )
    return chosen


def cut(module: nn.Module, kept: Sequence[int]) -> None:
    """Take all other blocks out of a transformers model, in place; its config then speaks of those that are left.

    Raises:
        BadInput: it has no list of as many blocks as its config says.
    """
    config: Any = module.config.get_text_config()  # type: ignore[union-attr, operator]
    there = config.num_hidden_layers
    places = [name for name, part in module.named_modules() if isinstance(part, nn.ModuleList) and len(part) == there]
    if not places:
        raise BadInput(f"{type(module).__name__} has no list of {there} blocks to take some out of; give a student of its own")
    blocks = module.get_submodule(places[0])
    assert isinstance(blocks, nn.ModuleList)
    above, _, own = places[0].rpartition(".")
    left = nn.ModuleList([blocks[i] for i in kept])
    for number, block in enumerate(left):
        for part in block.modules():
            if isinstance(getattr(part, "layer_idx", None), int):
                part.layer_idx = number  # type: ignore[assignment]  # a cache finds a layer's keys by it
    setattr(module.get_submodule(above), own, left)
    for key, value in list(vars(config).items()):  # settings by layer, such as layer_types
        if isinstance(value, list) and len(value) == there:
            setattr(config, key, [value[i] for i in kept])
    config.num_hidden_layers = len(left)
