"""Scores of an untrained net from one batch, in a moment: cheap guesses of how good it would be. Higher is better.

They are what a search is held against: a score that is slower than these must order nets better. None needs a teacher.

Shapes: B samples, N all units that an activation sees of one sample.
"""

from __future__ import annotations

import copy
import math
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from tutelage.errors import BadInput
from tutelage.evaluation.cost import forward_flops, size_of
from tutelage.randomness import seeded
from tutelage.signals import Batch, Model

LOWEST = -sys.float_info.max
"""What a net gets whose score is not a number."""
ACTIVATIONS = frozenset({"relu", "relu_", "gelu", "silu", "silu_", "leaky_relu", "hardtanh", "hardswish", "elu", "clamp_min"})
"""Functions whose sign of input tells which half of it a unit is in."""


def parameters(model: Model, batch: Batch) -> float:
    """How many parameters it has: the plainest guess."""
    return float(size_of(model.module)["parameters"])


def operations(model: Model, batch: Batch) -> float:
    """Floating-point operations of one sample."""
    one = {k: v[:1] for k, v in batch.items()}
    with model.mode(training=False):
        return float(forward_flops(model.module, model.inputs(one)))


def gradient_norm(model: Model, batch: Batch) -> float:
    """The length of the gradient of the cross-entropy, over all parameters.

    Source: Abdelfattah et al., "Zero-Cost Proxies for Lightweight NAS", 2021, section 3.1.
    """
    return _number(math.sqrt(sum(float(g.double().square().sum()) for _, g in _gradients(model, batch))))


def snip(model: Model, batch: Batch) -> float:
    """How much the loss hangs on its weights: the sum of |weight x gradient| over all parameters.

    Source: Lee, Ajanthan and Torr, "SNIP", 2019, summed over a net as in Abdelfattah et al., 2021.
    """
    return _number(sum(float((p.detach() * g).double().abs().sum()) for p, g in _gradients(model, batch)))


def synflow(model: Model, batch: Batch) -> float:
    """How much flows through: log of the sum of |weight x gradient| where all weights are positive and the input is 1.

    Computed in float64, in evaluation mode, in which the norms of a fresh net do nothing. Needs no data but their shape.

    Source: Tanaka et al., "Pruning neural networks without any data by iteratively conserving synaptic flow", 2020. The logarithm, which
        changes no order, keeps deep nets in range.
    """
    given = model.inputs({k: v[:1] for k, v in batch.items()})
    ones = {k: _ones(v) for k, v in given.items()} if isinstance(given, dict) else tuple(map(_ones, given))
    net = copy.deepcopy(model.module).double().eval()
    with torch.no_grad():
        for tensor in net.parameters():
            tensor.abs_()
    with torch.enable_grad():
        output = model.logits(net(**ones) if isinstance(ones, dict) else net(*ones))
        learned = [p for p in net.parameters() if p.requires_grad]
        found = torch.autograd.grad(output.sum(), learned, allow_unused=True)
    total = sum(float((p.detach() * g).abs().sum()) for p, g in zip(learned, found, strict=True) if g is not None)
    return _number(math.log(total) if total > 0 else math.nan)


def nwot(model: Model, batch: Batch) -> float:
    """How differently it treats the samples: log-determinant of the kernel of their activation patterns.

    K_ij counts the units that samples i and j have on the same side of zero, over all activations. Two samples that no unit tells apart
    make K singular; a thousandth of a unit on the diagonal keeps the logarithm finite.

    Source: Mellor et al., "Neural Architecture Search without Training", 2021, eq. 2; activations that are no ReLU count alike.
    """
    kernel_BB: Tensor | None = None
    with seeded("nwot"), model.mode(training=True), torch.no_grad(), _watching() as seen:
        arguments = model.inputs(batch)
        _ = model.module(**arguments) if isinstance(arguments, dict) else model.module(*arguments)
    size = len(next(v for v in batch.values() if isinstance(v, Tensor)))
    for codes in seen:
        if len(codes) != size:
            continue
        on_BN = codes.flatten(1).float()  # counts below 2^24 are exact
        count_B = on_BN.sum(1)
        same_BB = (2 * on_BN @ on_BN.T - count_B - count_B.unsqueeze(1) + on_BN.shape[1]).double()
        kernel_BB = same_BB if kernel_BB is None else kernel_BB + same_BB
    if kernel_BB is None:
        raise BadInput(f"{model.name} has no activation of a known kind, so nwot cannot tell its samples apart; choose another score")
    return _number(float(torch.linalg.slogdet(kernel_BB + 1e-3 * torch.eye(size, dtype=torch.float64)).logabsdet))


PROXIES: dict[str, Callable[[Model, Batch], float]] = {
    "params": parameters,
    "flops": operations,
    "grad-norm": gradient_norm,
    "snip": snip,
    "synflow": synflow,
    "nwot": nwot,
}
"""Scores by the name that `tutelage search --score` knows."""


class _Signs(TorchDispatchMode):
    """Keeps the sign of what each activation is given, whether it is a module or a function."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Tensor] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func._schema.name.rpartition("::")[2] in ACTIVATIONS and args[0].ndim > 1:
            self.seen.append(args[0] > 0)
        return func(*args, **(kwargs or {}))


@contextmanager
def _watching() -> Iterator[list[Tensor]]:
    mode = _Signs()
    with mode:
        yield mode.seen


def _gradients(model: Model, batch: Batch) -> list[tuple[nn.Parameter, Tensor]]:
    labels = batch.get("y")
    if not isinstance(labels, Tensor):
        raise BadInput(
            f"{model.name} has no loss on samples without labels; choose a score that needs none: synflow, nwot, params or flops"
        )
    learned = [p for p in model.module.parameters() if p.requires_grad]
    arguments = model.inputs(batch)
    with seeded("gradients"), model.mode(training=True), torch.enable_grad():
        logits = model.logits(model.module(**arguments) if isinstance(arguments, dict) else model.module(*arguments))
        found = torch.autograd.grad(F.cross_entropy(logits.float(), labels), learned, allow_unused=True)
    return [(p, g) for p, g in zip(learned, found, strict=True) if g is not None]


def _ones(value: Any) -> Any:
    return torch.ones_like(value, dtype=torch.float64) if isinstance(value, Tensor) and value.is_floating_point() else value


def _number(value: float) -> float:
    return value if math.isfinite(value) else LOWEST
