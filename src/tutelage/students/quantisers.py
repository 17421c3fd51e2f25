"""Fake quantisers: a tensor as few levels would give it, with gradients that pass straight through. Shapes: R rows, C columns.

A weight is codes times a scale, so that it can be packed: `coded` gives both. torchao has integer kernels and uniform fake quantisers, but
no ternary or binary ones, so these are ours, in a few lines of torch.
"""

from __future__ import annotations

from typing import Any, Literal, TypeAlias, get_args

import torch
from torch import Tensor

from tutelage.errors import BadInput

Levels: TypeAlias = Literal["ternary", "binary", "int4", "int8"]
"""Ternary: -s, 0, s; binary: -s, s; int4 and int8: 15 and 255 steps around 0."""
BITS: dict[str, int] = {"ternary": 2, "binary": 1, "int4": 4, "int8": 8}
CLIP = 2.5


def check_levels(levels: str) -> None:
    """Refuse levels that are not known.

    Raises:
        BadInput: names those that are.
    """
    if levels not in get_args(Levels):
        raise BadInput(f"levels={levels!r}: expected one of {', '.join(get_args(Levels))}")


class _StraightThrough(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, own: Tensor, instead: Tensor, clip: float | None) -> Tensor:
        ctx.clip = clip
        if clip is not None:
            ctx.save_for_backward(own)
        return instead.clone()

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        (grad,) = grads
        if ctx.clip is None:
            return grad, None, None
        (own,) = ctx.saved_tensors
        return grad * (own.abs() <= ctx.clip), None, None


def straight_through(own: Tensor, instead: Tensor, clip: float | None = None) -> Tensor:
    """A tensor in place of another, whose gradient goes to the other as it is.

    Args:
        own: gets the gradient.
        instead: is shown.
        clip: where |own| is above it, the gradient is zero; None for nowhere.

    Source: Bengio et al., "Estimating or Propagating Gradients Through Stochastic Neurons", 2013.
    """
    return _StraightThrough.apply(own, instead.detach(), clip)


def coded(weight: Tensor, levels: Levels, *, rows: bool = False) -> tuple[Tensor, Tensor]:
    """A weight as whole numbers and the scale that they are multiplied by.

    Args:
        weight: (R, C).
        levels: which numbers there are.
        rows: a scale for each row, rather than one for all.

    Returns:
        Codes, int8 (R, C), and the scale, (R, 1) or (1, 1), in the weight's precision. The scale of a weight that is zero everywhere is 0.

    Raises:
        BadInput: unknown levels.

    Source: ternary: Li & Liu, "Ternary Weight Networks", 2016, sections 2.1 and 2.2; binary: Rastegari et al., "XNOR-Net", 2016, eq. 6.
    """
    check_levels(levels)
    over = (-1,) if rows else tuple(range(weight.ndim))
    size = weight.detach().abs()
    if levels == "ternary":
        beyond = size > 0.7 * size.mean(over, keepdim=True)
        scale = (size * beyond).sum(over, keepdim=True) / beyond.sum(over, keepdim=True).clamp(min=1)
        return (weight.detach().sign() * beyond).to(torch.int8), scale
    if levels == "binary":
        return torch.where(weight.detach() < 0, -1, 1).to(torch.int8), size.mean(over, keepdim=True)
    return _steps(weight.detach(), 2 ** (BITS[levels] - 1) - 1, over)


def _steps(values: Tensor, most: int, over: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Whole numbers from -most to most, and their scale; where all values are 0, the scale is."""
    scale = values.abs().amax(over, keepdim=True) / most
    return (values / torch.where(scale > 0, scale, 1)).round().clamp(-most, most).to(torch.int8), scale


def quantised_weight(weight: Tensor, levels: Levels, *, rows: bool = False, clip: float | None = CLIP) -> Tensor:
    """A weight as its levels give it, with a straight-through gradient inside the clip; see `coded` and `straight_through`."""
    codes, scale = coded(weight, levels, rows=rows)
    return straight_through(weight, codes.to(weight.dtype) * scale, clip)


def quantised_activation(values: Tensor, bits: int = 8) -> Tensor:
    """Activations in so many bits, symmetric around 0, each vector of the last dimension by its own largest value.

    By vector, so that what a sample gives does not depend on the samples and the padding beside it.

    Args:
        values: (..., D).
        bits: 2 to 8.

    Raises:
        BadInput: bits outside their range.
    """
    if not 2 <= bits <= 8:
        raise BadInput(f"bits={bits}: expected 2 to 8")
    codes, scale = _steps(values.detach(), 2 ** (bits - 1) - 1, (-1,))
    return straight_through(values, codes.to(values.dtype) * scale)
