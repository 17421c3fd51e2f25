"""DeferredLogits: logits that are not there yet: the hidden states before a model's last layer, and that layer.

Over a large vocabulary the logits of a batch are the largest tensor of a training step by far, and a loss makes several of their size.
What is kept here is small; a loss makes the logits of some rows when it comes to them, and forgets them (`objectives/deferred.py`).

Shapes: B batch, T positions, D width, V vocabulary; "..." is (B,) or (B, T).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from tutelage.errors import BadInput, ShapeMismatch


@dataclass(frozen=True, eq=False)
class DeferredLogits:
    """Logits by the hidden states and the head that they are made from: softcap * tanh(scale * (hidden @ weight.T + bias) / softcap).

    Args:
        hidden: what the head is given, (..., D).
        weight: of the head, (V, D).
        bias: of the head, (V,), or None.
        scale: what the model multiplies its head's output by.
        softcap: bound that the model squeezes its logits under by a tanh, after the scale; None for no bound.
        precision: what the head computes in, where autocast says so; None for the precision of what it is given.

    Raises:
        ShapeMismatch: shapes that do not belong together.
        BadInput: a scale of 0, or a bound that is not above 0.

    Relations: `dense` gives the logits themselves, with the same gradients.
    """

    hidden: Tensor
    weight: Tensor
    bias: Tensor | None = None
    scale: float = 1.0
    softcap: float | None = None
    precision: torch.dtype | None = None

    def __post_init__(self) -> None:
        bias = None if self.bias is None else tuple(self.bias.shape)
        fits = self.hidden.ndim >= 2 and self.weight.ndim == 2 and self.hidden.shape[-1] == self.weight.shape[1]
        if not fits or bias not in (None, (len(self.weight),)):
            raise ShapeMismatch(
                f"deferred logits: hidden {tuple(self.hidden.shape)}, weight {tuple(self.weight.shape)}, bias {bias}; "
                "expected (..., D), (V, D) and (V,)"
            )
        if not self.scale or (self.softcap is not None and self.softcap <= 0):
            raise BadInput(f"deferred logits: scale={self.scale}, softcap={self.softcap}; expected a scale that is not 0, a bound above 0")

    @property
    def shape(self) -> torch.Size:
        """The shape of the dense logits, (..., V)."""
        return torch.Size((*self.hidden.shape[:-1], self.classes))

    @property
    def ndim(self) -> int:
        """Dimensions of the dense logits."""
        return self.hidden.ndim

    @property
    def classes(self) -> int:
        """Size of the vocabulary, V."""
        return self.weight.shape[0]

    @property
    def dtype(self) -> torch.dtype:
        """The precision of the dense logits."""
        return self.precision or torch.promote_types(self.hidden.dtype, self.weight.dtype)

    @property
    def device(self) -> torch.device:
        """Where they would be."""
        return self.hidden.device

    @property
    def requires_grad(self) -> bool:
        """Whether a gradient can go back from them."""
        return any(each.requires_grad for each in (self.hidden, self.weight, self.bias) if each is not None)

    def detach(self) -> DeferredLogits:
        """The same without a way back for gradients."""
        return self._each(Tensor.detach)

    def to(self, device: torch.device | str) -> DeferredLogits:
        """The same on a device."""
        return self._each(lambda tensor: tensor.to(device))

    def ready(self) -> DeferredLogits:
        """The same with everything in the precision that the head computes in, cast once for many rows."""
        return self._each(lambda tensor: tensor.to(self.dtype))

    def at(self, rows: Any) -> DeferredLogits:
        """Those at some rows only.

        Args:
            rows: an index of the dimensions before the last.
        """
        return replace(self, hidden=self.hidden[rows])

    def flat(self) -> DeferredLogits:
        """Those of all rows one after another, (R, V)."""
        return replace(self, hidden=self.hidden.flatten(0, -2))

    def shaped(self, product: Tensor) -> Tensor:
        """The logits from what the head alone gives."""
        logits = product if self.scale == 1 else product * self.scale
        return logits if self.softcap is None else self.softcap * torch.tanh(logits / self.softcap)

    def dense(self) -> Tensor:
        """The logits themselves, (..., V)."""
        with torch.autocast(self.device.type, enabled=False):
            own = self.ready()
            return self.shaped(F.linear(own.hidden, own.weight, own.bias))

    def _each(self, change: Any) -> DeferredLogits:
        bias = None if self.bias is None else change(self.bias)
        return replace(self, hidden=change(self.hidden), weight=change(self.weight), bias=bias)


def dense(logits: Any) -> Any:
    """Deferred logits made dense; all else as it is."""
    return logits.dense() if isinstance(logits, DeferredLogits) else logits
