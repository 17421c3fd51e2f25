"""Taps: the places in a model where signals are read, by module path, by relative depth, or `"logits"`.

A tap at a path is the output of that module at its first call in the pass. `Depth(0.5)` is relative: it is resolved on a trace of the
model, the modules in the order in which they finish on a real batch. Depth is counted in weighted layers (modules that own a
parameter of two or more dimensions), so that activations, normalisations and containers do not shift it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch

from tutelage.errors import BadInput, UnknownTap, nearest


@dataclass(frozen=True)
class Depth:
    """A tap at a share of a model's depth, resolved when a stage opens.

    Args:
        share: in (0, 1]; 0.5 is the block that ends when half of the weighted layers have run.

    Raises:
        BadInput: `share` outside (0, 1].
    """

    share: float

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            raise BadInput(f"Depth({self.share}): expected a share of the model's depth in (0, 1]")

    def __str__(self) -> str:
        return f"depth-{self.share:g}"


Tap: TypeAlias = str | Depth

LOGITS = "logits"


@dataclass(frozen=True)
class Visit:
    """One module's first call in a pass.

    Args:
        path: module path.
        kind: name of the module's class.
        shape: shape of its (first) output tensor; None where it gives no tensor.
        layers: weighted layers that have finished, this one included.
        weighted: whether the module itself is a weighted layer.
        leaf: whether it has no children.
        block: whether a model's depth may be counted at it: a direct child of the model, or an element of a list of modules (`ModuleList`,
            `Sequential`) that lies inside no other element, lists of lists apart.
        calls: how often it was called in the pass.
    """

    path: str
    kind: str
    shape: torch.Size | None
    layers: int
    weighted: bool
    leaf: bool
    block: bool = True
    calls: int = 1


@dataclass(frozen=True)
class Trace:
    """A model's modules in the order in which they first finish, on one batch."""

    visits: tuple[Visit, ...]
    logits: torch.Size | None = None

    @property
    def layers(self) -> int:
        """How many weighted layers ran."""
        return max((v.layers for v in self.visits), default=0)

    def depth(self, path: str) -> float:
        """Share of the weighted layers that have run when the module at `path` finishes."""
        return next(v.layers for v in self.visits if v.path == path) / max(self.layers, 1)

    def resolve(self, depth: Depth) -> str:
        """Find the path at a relative depth.

        The blocks of a model are tried first (the elements of its lists of modules, its direct children), and all modules where no block
        ends within a quarter of the depth. Among those that finish after the nearest number of weighted layers, the outermost is taken;
        in a flat sequence the last one that keeps the weighted layer's shape: the activation, not the pooling.

        Raises:
            BadInput: no module of the model gives a tensor.
        """
        tensors = [v for v in self.visits if v.shape is not None and v.path]
        if not any(v.layers > 0 for v in tensors):
            raise BadInput(f"{depth} cannot be resolved: no weighted layer of the model gives a tensor; name a module path instead")
        # the last count is the classifier itself unless depth 1 is asked for
        wanted = depth.share * self.layers
        best: tuple[float, list[Visit]] | None = None
        for among in ([v for v in tensors if v.block], tensors):
            counts = {v.layers for v in among if v.layers > 0}
            inner = {c for c in counts if c < self.layers} if depth.share < 1 else counts
            if not (inner or counts):
                continue
            count = min(inner or counts, key=lambda c: (abs(c - wanted), c))
            gap = abs(count - wanted)
            if best is None or gap < best[0]:
                best = gap, [v for v in among if v.layers == count]
            if gap <= max(1.0, self.layers / 4):
                break
        assert best is not None
        return self._outermost(best[1])

    @staticmethod
    def _outermost(group: Sequence[Visit]) -> str:
        layer = next((v for v in group if v.weighted), group[0])
        assert layer.shape is not None
        same_rank = [v for v in group if v.shape is not None and len(v.shape) == len(layer.shape)]
        level = min(v.path.count(".") for v in same_rank)
        outer = [v for v in same_rank if v.path.count(".") == level]
        unchanged = [v for v in outer if v.shape == layer.shape]
        return (unchanged or outer)[-1].path


def check_path(module: torch.nn.Module, path: str, model_name: str) -> torch.nn.Module:
    """Find the module at a path.

    Raises:
        UnknownTap: there is no such module; names the nearest path.
    """
    try:
        if path:
            return module.get_submodule(path)
    except AttributeError:
        pass
    paths = [name for name, _ in module.named_modules() if name]
    raise UnknownTap(f"tap {path!r} is not in {model_name}{nearest(path, [*paths, LOGITS])}. List all with: tutelage taps MODEL")
