"""What a model costs: parameters, bytes, floating-point operations, and the time that a pass takes.

Times are compared, not absolute: all models are timed in turns, so that whatever else the processor does at a moment meets all of them.
"""

from __future__ import annotations

import contextlib
import platform
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tutelage.data import Source
from tutelage.signals import Batch, Model

BATCHES = (1, 64)
"""Samples a pass that are timed: one question at a time, and many at once."""
ROUNDS = 100
SECONDS = 1.0
"""A batch size is timed for at most so many rounds, and about so long; each model has one pass a round."""


def size_of(module: nn.Module) -> dict[str, int]:
    """Count a module's parameters (tied ones once) and the bytes of its parameters and buffers.

    A module whose numbers are not torch's says them itself, in an attribute `size`.
    """
    if not any(True for _ in module.parameters()) and isinstance(own := getattr(module, "size", None), dict):
        return own
    parameters = list(module.parameters())
    size = sum(p.numel() * p.element_size() for p in parameters) + sum(b.numel() * b.element_size() for b in module.buffers())
    return {"parameters": sum(p.numel() for p in parameters), "bytes": size}


def forward_flops(module: nn.Module, arguments: tuple[Any, ...] | Mapping[str, Any]) -> int:
    """Floating-point operations of one forward pass, by torch's counter (multiplications and additions of matrix products).

    Works on the meta device, where nothing is computed.
    """
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter, torch.no_grad():
        _call(module, arguments)
    return int(counter.get_total_flops())


def costs(
    models: Mapping[str, Model], source: Source, *, device: torch.device | str = "cpu", batches: tuple[int, ...] = BATCHES
) -> dict[str, dict[str, Any]]:
    """Count and time one forward pass of each model, in evaluation mode, on real samples that are already on the device.

    Args:
        models: by name.
        source: where samples come from; repeated where it has fewer than are wanted.
        device: where to compute; the models are moved there.
        batches: samples a pass that are timed; the last is the one of the throughput.

    Returns:
        By name: `flops` of one sample; `latency_ms`, for "batch_1" and "batch_64" (as `batches` says) the `median`, `p95` and `least` of a
        pass in milliseconds; `throughput`, samples a second in the last of them, and of language data `tokens_a_second`, without padding.
        None for what a model cannot do, such as a pass over a single sample.
    """
    found: dict[str, dict[str, Any]] = {name: {"flops": None, "latency_ms": {}, "throughput": None} for name in models}
    with contextlib.ExitStack() as stack, torch.no_grad():
        for model in models.values():
            model.module.to(device)
            stack.enter_context(model.mode(training=False))
        for size in batches:
            batch = source.batch(torch.arange(size) % len(source))
            placed = {k: v.to(device) if isinstance(v, Tensor) else v for k, v in batch.items()}
            ready: dict[str, tuple[nn.Module, Any]] = {}
            for name, model in models.items():
                with contextlib.suppress(Exception):  # whatever a user's model raises: what it cannot do stays unknown
                    ready[name] = model.module, model.inputs(placed)
                    if size == 1:
                        found[name]["flops"] = forward_flops(*ready[name]) or None  # 0 where torch is not what computes
            times = _in_turns(ready, torch.device(device))
            for name in models:
                found[name]["latency_ms"][f"batch_{size}"] = _summary(times[name]) if times.get(name) else None
    read = _tokens(batch)
    for each in found.values():
        many = each["latency_ms"][f"batch_{batches[-1]}"]
        each["throughput"] = None if many is None else batches[-1] / many["median"] * 1e3
        if read:
            each["tokens_a_second"] = None if many is None else read / many["median"] * 1e3
    return found


def _tokens(batch: Batch) -> int:
    """How many tokens a batch of language data holds; 0 of other data."""
    tokens, attended = batch.get("input_ids"), batch.get("attention_mask")
    if not isinstance(tokens, Tensor):
        return 0
    return int(attended.sum()) if isinstance(attended, Tensor) else tokens.numel()


def _in_turns(ready: Mapping[str, tuple[nn.Module, Any]], device: torch.device) -> dict[str, list[float]]:
    """Seconds of each pass by name, after passes that are not counted; a model that fails has none."""
    times: dict[str, list[float]] = {}
    for name, (module, arguments) in ready.items():
        with contextlib.suppress(Exception):
            first = _timed(module, arguments, device)
            for _ in range(2 if first < SECONDS / 4 else 0):
                _timed(module, arguments, device)
            times[name] = []
    start, rounds = time.perf_counter(), 0
    while times and rounds < ROUNDS and (rounds < 3 or time.perf_counter() - start < SECONDS):
        # in both directions by turns: who comes after whom makes a difference to caches
        for name in list(times)[:: 1 if rounds % 2 == 0 else -1]:
            times[name].append(_timed(*ready[name], device))
        rounds += 1
    return times


def _timed(module: nn.Module, arguments: Any, device: torch.device) -> float:
    if device.type != "cpu":
        torch.accelerator.synchronize(device)
    start = time.perf_counter()
    _call(module, arguments)
    if device.type != "cpu":
        torch.accelerator.synchronize(device)
    return time.perf_counter() - start


def _summary(seconds: list[float]) -> dict[str, float]:
    values = torch.tensor(seconds, dtype=torch.float64) * 1e3
    return {"median": float(values.quantile(0.5)), "p95": float(values.quantile(0.95)), "least": float(values.min())}


def _call(module: nn.Module, arguments: tuple[Any, ...] | Mapping[str, Any]) -> Any:
    return module(**arguments) if isinstance(arguments, Mapping) else module(*arguments)


def processor(device: torch.device | str = "cpu") -> str:
    """The name of what computes on a device, as far as it is known."""
    if torch.device(device).type == "cuda":
        return torch.cuda.get_device_name(device)
    info = Path("/proc/cpuinfo")  # platform knows a processor's name only on some systems
    for line in info.read_text().splitlines() if info.is_file() else ():
        if line.startswith("model name"):
            return " ".join(line.partition(":")[2].split())
    return platform.processor() or platform.machine()
