"""Read tensors out of what a module gives or takes: a tensor, a tuple, a dict, a dataclass."""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from tutelage.errors import BadInput
from tutelage.signals.signals import RESERVED, Batch


def first_tensor(output: Any) -> Tensor | None:
    """The first tensor in an output: itself, or depth-first in a tuple, list, mapping or dataclass; None where there is none."""
    if isinstance(output, Tensor):
        return output
    if isinstance(output, Mapping):
        parts: Any = output.values()
    elif isinstance(output, (tuple, list)):
        parts = output
    elif dataclasses.is_dataclass(output) and not isinstance(output, type):
        parts = (getattr(output, f.name) for f in dataclasses.fields(output))
    else:
        return None
    return next((t for t in map(first_tensor, parts) if t is not None), None)


def logits_of(output: Any, model_name: str) -> Tensor:
    """Find the logits in a model's output: a tensor, `.logits`, `["logits"]`, or the first tensor of a tuple.

    Raises:
        BadInput: none of these; asks for `Model(..., logits=function)`.
    """
    found = output
    if isinstance(output, Mapping):
        found = output.get("logits")
    elif not isinstance(output, Tensor):
        found = getattr(output, "logits", None)
        if found is None and isinstance(output, (tuple, list)):
            found = first_tensor(output)
    if not isinstance(found, Tensor):
        raise BadInput(
            f"the output of {model_name} is a {type(output).__name__} without logits; expected a tensor, a tuple that begins with one, "
            "or a dict or dataclass with 'logits'; otherwise give Model(..., logits=lambda output: ...)"
        )
    return found


def inputs_of(batch: Batch, module: nn.Module, model_name: str) -> tuple[Any, ...] | dict[str, Any]:
    """Choose what a model is called with: the only input column as its one argument, or several by the names of its arguments.

    Raises:
        BadInput: no input column, or a required argument that no column has.
    """
    columns = {k: v for k, v in batch.items() if k not in RESERVED}
    if len(columns) == 1:
        return (next(iter(columns.values())),)
    if not columns:
        raise BadInput(f"the batch has no input column for {model_name}: its columns are {sorted(batch)}")
    parameters = _parameters(getattr(module.forward, "__func__", module.forward))
    if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return columns
    taken = {name: columns[name] for name in parameters if name in columns}
    required = [n for n, p in parameters.items() if p.default is p.empty and p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    missing = [n for n in required if n not in taken]
    if missing or not taken:
        raise BadInput(
            f"{model_name} takes {list(parameters)} but the batch has {sorted(columns)}; "
            f"missing: {missing}; name the columns alike or give Model(..., inputs=lambda batch: ...)"
        )
    return taken


@functools.lru_cache(maxsize=256)
def _parameters(forward: Any) -> Mapping[str, inspect.Parameter]:
    """A forward's parameters; reading a signature takes longer than a small layer."""
    return {n: p for n, p in inspect.signature(forward).parameters.items() if n != "self"}


def raised(tensor: Tensor) -> Tensor:
    """Raise half precision to float32; float32 and float64 stay."""
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor
