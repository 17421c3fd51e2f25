"""The search for the change that an attack asks for, by a model's gradient on its inputs.

Shapes: B batch, C channels, H W space, V classes."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from tutelage.attacks.attack import NEAR, Attack
from tutelage.errors import BadInput
from tutelage.randomness import generator
from tutelage.signals import RESERVED, Batch, Model
from tutelage.signals.outputs import raised

IGNORED = -100


def images_in(batch: Batch) -> str:
    """The name of the column that holds a batch's images.

    Args:
        batch: with one column of inputs, floating point (B, C, H, W) in [0, 1].

    Raises:
        BadInput: the samples are no images, or their values leave [0, 1].
    """
    columns = {name: value for name, value in batch.items() if name not in RESERVED}
    name, x_BCHW = next(iter(columns.items()), ("", None))
    if len(columns) != 1 or not isinstance(x_BCHW, Tensor) or x_BCHW.ndim != 4 or not x_BCHW.is_floating_point():
        raise BadInput(
            f"an attack changes images, one column of floating point (B, C, H, W), but the samples have {', '.join(sorted(columns))}; "
            "text, tokens and tables have no small changes of this kind"
        )
    if not x_BCHW.is_meta and x_BCHW.numel():
        low, high = (float(end) for end in x_BCHW.detach().aminmax())
        if not (low >= 0 and high <= 1):
            raise BadInput(
                f"an attack keeps images in [0, 1], but these go from {low:.3g} to {high:.3g}; give them as they are, divided by 255, and "
                "leave the normalisation to the model: Model(..., inputs=ImageInputs(mean=..., std=...))"
            )
    return name


def search(
    attack: Attack, model: Model, batch: Batch, goal: Tensor, seeds: Sequence[int], *, column: str | None = None, turn: int = 0
) -> Tensor:
    """Images within the attack's ball around those of a batch, on which the model's loss is larger.

    The model is asked in evaluation mode, so that batch statistics stay, and no gradient reaches its weights. Each image is searched for
    by itself: what is found does not depend on its neighbours.

    Args:
        attack: how.
        model: who is attacked; its own preprocessing is part of it.
        batch: with images in [0, 1].
        goal: what the model should say: class numbers (B,), -100 for none, or rows of probabilities (B, V).
        seeds: of each image's starts.
        column: name of the images' column, where it is known to hold images.
        turn: added to the number of each restart, for another start.

    Returns:
        The images, (B, C, H, W), without a way back for gradients.

    Raises:
        BadInput: no images in [0, 1], or a model that gives no gradient on its inputs, or not one row of logits a sample.
    """
    name = images_in(batch) if column is None else column
    x_BCHW = batch[name].detach()
    if attack.eps == 0:
        return x_BCHW
    best_BCHW, highest_B = x_BCHW, None
    with torch.enable_grad(), contextlib.nullcontext() if model.evaluating else model.mode(training=False):
        for number in range(attack.restarts):
            found_BCHW = _clipped(x_BCHW + _start(attack, x_BCHW, seeds, turn + number))
            for _ in range(attack.steps):
                asked_BCHW = found_BCHW.detach().requires_grad_()
                loss_B = _losses(model, {**batch, name: asked_BCHW}, goal)
                if not loss_B.requires_grad:
                    raise BadInput(
                        f"{model.name} gives no gradient on its inputs, which an attack needs; attack the net that it was made from"
                    )
                (slope_BCHW,) = torch.autograd.grad(loss_B.sum(), asked_BCHW)
                found_BCHW = _moved(attack, x_BCHW, asked_BCHW.detach(), slope_BCHW)
            if attack.restarts == 1:
                return found_BCHW
            with torch.no_grad():
                loss_B = _losses(model, {**batch, name: found_BCHW}, goal)
            better_B = torch.ones_like(loss_B, dtype=torch.bool) if highest_B is None else loss_B > highest_B
            best_BCHW = torch.where(better_B[:, None, None, None], found_BCHW, best_BCHW)
            highest_B = loss_B if highest_B is None else torch.maximum(loss_B, highest_B)
    return best_BCHW


def _losses(model: Model, batch: Batch, goal: Tensor) -> Tensor:
    """Cross entropy with the goal, (B,); against rows of probabilities it differs from the divergence by what does not move."""
    logits_BV = raised(model.observe(batch, {"logits"})["logits"])
    if logits_BV.ndim != 2:
        raise BadInput(f"{model.name} gives logits of shape {tuple(logits_BV.shape)}; an attack needs one row a sample")
    if goal.is_floating_point():
        return -(goal.to(logits_BV.dtype) * F.log_softmax(logits_BV, dim=-1)).sum(-1)
    return F.cross_entropy(logits_BV, goal.long(), reduction="none", ignore_index=IGNORED)


def _start(attack: Attack, x_BCHW: Tensor, seeds: Sequence[int], number: int) -> Tensor:
    """The change that a search begins with, drawn on the CPU for each image by itself."""
    if attack.start == "none":
        return torch.zeros_like(x_BCHW)
    rows = []
    for seed in seeds:
        drawn = generator("attack", seed, number)
        shape = x_BCHW.shape[1:]
        if attack.start == "near":
            rows.append(torch.randn(shape, generator=drawn) * NEAR)
        elif attack.norm == "linf":
            rows.append((2 * torch.rand(shape, generator=drawn) - 1) * attack.eps)
        else:
            way = torch.randn(shape, generator=drawn)
            share = torch.rand((), generator=drawn, dtype=torch.float64) ** (1 / way.numel())  # uniform in volume
            rows.append(way / way.norm() * (attack.eps * float(share)))
    return _projected(attack, torch.stack(rows).to(x_BCHW)) if rows else torch.zeros_like(x_BCHW)


def _moved(attack: Attack, x_BCHW: Tensor, found_BCHW: Tensor, slope_BCHW: Tensor) -> Tensor:
    if attack.norm == "linf":
        way_BCHW = slope_BCHW.sign()
    else:
        way_BCHW = slope_BCHW / _lengths(slope_BCHW).clamp(min=torch.finfo(slope_BCHW.dtype).tiny)
    # an image in [0, 1] is within the ball still when its change is cut to [0, 1], which only makes each value's change smaller
    return _clipped(x_BCHW + _projected(attack, found_BCHW + attack.length * way_BCHW - x_BCHW))


def _projected(attack: Attack, change_BCHW: Tensor) -> Tensor:
    if attack.norm == "linf":
        return change_BCHW.clamp(-attack.eps, attack.eps)
    least = max(attack.eps, torch.finfo(change_BCHW.dtype).tiny)
    return change_BCHW * (attack.eps / _lengths(change_BCHW).clamp(min=least))


def _lengths(change_BCHW: Tensor) -> Tensor:
    return change_BCHW.flatten(1).norm(dim=1)[:, None, None, None]


def _clipped(x_BCHW: Tensor) -> Tensor:
    return x_BCHW.clamp(0, 1)
