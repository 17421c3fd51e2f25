"""A differentiable inner loop: SGD on a net whose parameters are one vector, with the way back to whatever the inner losses depend on.

Shapes: P number of parameters of the net.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.func import functional_call

from tutelage.errors import BadInput
from tutelage.randomness import seeded
from tutelage.signals import Batch, Model

InnerLoss: TypeAlias = "Callable[..., Tensor]"
"""`(parameters_P, number of the inner step, *others) -> scalar`."""


@dataclass(frozen=True)
class Layout:
    """How a net's trainable parameters lie in one vector, in the order of `named_parameters`.

    Args:
        names: of the parameters.
        shapes: of the parameters.
    """

    names: Sequence[str]
    shapes: Sequence[torch.Size]

    @staticmethod
    def of(module: nn.Module) -> Layout:
        """The layout of a module."""
        found = dict(module.named_parameters())
        return Layout(list(found), [p.shape for p in found.values()])

    def flat(self, named: Mapping[str, Tensor]) -> Tensor:
        """Parameters by name as one vector (P,); what else is named is left out.

        Raises:
            BadInput: a parameter is missing or has another shape.
        """
        for name, shape in zip(self.names, self.shapes, strict=True):
            if name not in named or named[name].shape != shape:
                found = f"of shape {tuple(named[name].shape)}" if name in named else "missing"
                raise BadInput(f"parameter {name!r} of shape {tuple(shape)} is {found}; expected the parameters of the same net")
        return torch.cat([named[name].reshape(-1) for name in self.names])

    def named(self, flat_P: Tensor) -> dict[str, Tensor]:
        """The parts of a vector by the parameters' names, as views."""
        parts = flat_P.split([shape.numel() for shape in self.shapes])  # its backward is one cat, that of slices is a zero vector each
        return {name: part.view(shape) for name, part, shape in zip(self.names, parts, self.shapes, strict=True)}


def logits_with(model: Model, layout: Layout, flat_P: Tensor, batch: Batch) -> Tensor:
    """The logits of a net with other parameters; its own, and the statistics in its buffers, stay as they are.

    Args:
        model: the net; runs in the mode it is in.
        layout: how its parameters lie in the vector.
        flat_P: the parameters, (P,).
        batch: what it looks at.
    """
    module = model.module
    buffers = {name: b.detach().clone() for name, b in module.named_buffers()}
    given = model.inputs(batch)
    arguments: tuple[Any, ...] = () if isinstance(given, Mapping) else tuple(given)
    words = dict(given) if isinstance(given, Mapping) else {}
    return model.logits(functional_call(module, {**layout.named(flat_P), **buffers}, arguments, words))


def unrolled_sgd(
    loss: InnerLoss,
    start_P: Tensor,
    lr: Tensor | float,
    steps: int,
    *,
    others: Sequence[Tensor] = (),
    momentum: float = 0.0,
    keep: Sequence[int] = (),
    segment: int | None = None,
    seed: int = 0,
) -> list[Tensor]:
    """SGD whose result is differentiable in where it starts, in the learning rate, and in what the inner losses depend on.

    velocity <- momentum * velocity + gradient; parameters <- parameters - lr * velocity.

    Args:
        loss: `(parameters_P, number of the inner step, *others) -> scalar`; depends on nothing else that wants a gradient.
        start_P: first parameters, (P,).
        lr: learning rate.
        steps: inner updates, >= 0.
        others: what the losses depend on: images, their labels.
        momentum: in [0, 1).
        keep: numbers of updates after which the parameters are given as well, each in [0, steps].
        segment: keep the graph of so many updates at a time: the backward pass computes each segment once more. Memory falls from that of
            `steps` updates to that of `segment`, and a vector of parameters (two with momentum) for each segment; about sqrt(steps) is the
            least. Values are the same bits. None keeps all. With it there are no gradients of gradients.
        seed: of what the net draws (dropout), apart from running generators.

    Returns:
        The parameters at each number in `keep`, and the last.

    Raises:
        BadInput: an argument outside its range.
    """
    if steps < 0 or not 0 <= momentum < 1 or (segment is not None and segment < 1) or not all(0 <= k <= steps for k in keep):
        raise BadInput(
            f"unrolled_sgd(steps={steps}, momentum={momentum}, keep={list(keep)}, segment={segment}): expected steps from 0, momentum in "
            "[0, 1), numbers to keep from 0 to steps, and segments from 1"
        )
    rate = torch.as_tensor(lr, dtype=start_P.dtype, device=start_P.device)
    cuts = sorted({0, steps, *keep, *range(0, steps, segment or max(steps, 1))})
    at: dict[int, Tensor] = {0: start_P}
    velocity_P = torch.zeros_like(start_P) if momentum else start_P.new_zeros(0)
    now_P = start_P
    for first, last in itertools.pairwise(cuts):
        piece = _Piece(loss, first, last, momentum, seed)
        if segment is None:
            now_P, velocity_P = piece(now_P, velocity_P, rate, *others)
        else:
            now_P, velocity_P = _Again.apply(piece, now_P, velocity_P, rate, *others)
        at[last] = now_P
    return [at[k] for k in (*keep, steps)]


@dataclass(frozen=True)
class _Piece:
    """Some inner updates in a row."""

    loss: InnerLoss
    first: int
    last: int
    momentum: float
    seed: int

    def __call__(self, now_P: Tensor, velocity_P: Tensor, rate: Tensor, *others: Tensor) -> tuple[Tensor, Tensor]:
        with torch.enable_grad():
            if not now_P.requires_grad:
                now_P = now_P.detach().requires_grad_()
            for number in range(self.first, self.last):
                with seeded("unrolled", self.seed, number):
                    value = self.loss(now_P, number, *others)
                (gradient_P,) = torch.autograd.grad(value, now_P, create_graph=True)
                if self.momentum:
                    velocity_P = self.momentum * velocity_P + gradient_P
                now_P = now_P - rate * (velocity_P if self.momentum else gradient_P)
        return now_P, velocity_P


class _Again(torch.autograd.Function):
    """A piece whose graph is dropped, and made once more on the way back."""

    @staticmethod
    def forward(ctx: Any, piece: _Piece, *given: Tensor) -> tuple[Tensor, Tensor]:
        ctx.piece = piece
        ctx.save_for_backward(*given)
        now_P, velocity_P = given[0].detach(), given[1].detach()
        for number in range(piece.first, piece.last):  # update by update, so that only one graph exists at a time
            one = _Piece(piece.loss, number, number + 1, piece.momentum, piece.seed)
            now_P, velocity_P = (each.detach() for each in one(now_P, velocity_P, *(g.detach() for g in given[2:])))
        return now_P, velocity_P

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *found: Tensor) -> tuple[Tensor | None, ...]:
        wanted = ctx.needs_input_grad[1:]
        given = [each.detach().requires_grad_(need) for each, need in zip(ctx.saved_tensors, wanted, strict=True)]
        made = ctx.piece(*given)
        pairs = [(m, f) for m, f in zip(made, found, strict=True) if m.requires_grad and m.numel()]
        inputs = [each for each, need in zip(given, wanted, strict=True) if need]
        outputs, vectors = zip(*pairs, strict=True)
        gradients = iter(torch.autograd.grad(outputs, inputs, vectors, allow_unused=True))
        return (None, *(next(gradients) if need else None for need in wanted))


def distance_left(end_P: Tensor, start_P: Tensor, target_P: Tensor) -> Tensor:
    """||end - target||^2 / ||start - target||^2: 1 where nothing moved, 0 on arrival; a scalar.

    The denominator makes early and late parts of a way comparable (Cazenavette et al., "Dataset Distillation by Matching Training
    Trajectories", CVPR 2022, eq. 2).

    Args:
        end_P: where the inner loop ended, (P,).
        start_P: where it started.
        target_P: where an expert was some time later.
    """
    scale = (start_P - target_P).square().sum().clamp_min(torch.finfo(end_P.dtype).tiny)
    return (end_P - target_P).square().sum() / scale
