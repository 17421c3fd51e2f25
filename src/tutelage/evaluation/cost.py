"""What a model costs: parameters, bytes, floating-point operations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn


def size_of(module: nn.Module) -> dict[str, int]:
    """Count a module's parameters (tied ones once) and the bytes of its parameters and buffers."""
    parameters = list(module.parameters())
    size = sum(p.numel() * p.element_size() for p in parameters) + sum(b.numel() * b.element_size() for b in module.buffers())
    return {"parameters": sum(p.numel() for p in parameters), "bytes": size}


def forward_flops(module: nn.Module, arguments: tuple[Any, ...] | Mapping[str, Any]) -> int:
    """Floating-point operations of one forward pass, by torch's counter (multiplications and additions of matrix products).

    Works on the meta device, where nothing is computed.
    """
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter, torch.no_grad():
        if isinstance(arguments, Mapping):
            module(**arguments)
        else:
            module(*arguments)
    return int(counter.get_total_flops())
