"""Each term's share of the gradient on the student: a term that weighs nothing is the commonest silent failure of distillation."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn


def gradient_shares(parts: Mapping[str, Tensor], parameters: Sequence[nn.Parameter]) -> dict[str, float]:
    """Compare the norms of the terms' gradients, without touching `.grad` or firing a hook.

    Args:
        parts: weighted means of the terms, by name, with their graph, which is kept.
        parameters: of the student.

    Returns:
        Each norm over the sum of all norms; empty where there is nothing to compare, or a norm is not finite.
    """
    terms = {name: part for name, part in parts.items() if part.requires_grad}
    if len(terms) < 2 or not parameters:
        return {}
    norms = []
    for part in terms.values():
        found = torch.autograd.grad(part, parameters, retain_graph=True, allow_unused=True)
        norms.append(torch.stack([g.float().norm() for g in found if g is not None] or [torch.zeros((), device=part.device)]).norm())
    values = torch.stack(norms)
    shares = (values / values.sum().clamp(min=1e-30)).tolist()
    return dict(zip(terms, shares, strict=True)) if all(map(math.isfinite, shares)) else {}
