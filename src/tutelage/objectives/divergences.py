"""The Jensen-Shannon divergence class by class, from log-probabilities: finite, with a finite gradient, also where either side is 0."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from tutelage.errors import BadInput
from tutelage.state import Controller, Number

FLOOR = -1e4
"""A log-probability below which the probability is 0 in every precision; it stands for all that are lower, -inf included."""

CEILING = 50.0
"""Log-odds above which e^x log(1 + e^-x) is 1 in every precision."""

PIECE = 1 << 22
"""Numbers in the piece of a side that is worked on at once. Small enough for an allocator to keep the memory, large enough for a GPU."""


def check_beta(where: str, beta: Number) -> None:
    """Refuse a share of the teacher in the mixture that is not within (0, 1).

    Raises:
        BadInput: it is not.
    """
    if isinstance(beta, Controller):
        return
    if isinstance(beta, bool) or not isinstance(beta, (int, float)) or not 0 < beta < 1:
        raise BadInput(f"{where}(beta={beta}): expected the teacher's share in the mixture, between 0 and 1, both excluded")


def js_terms(log_p: Tensor, log_q: Tensor, beta: float) -> Tensor:
    """What each class adds to the divergence: beta p log(p / m) + (1 - beta) q log(q / m), m = beta p + (1 - beta) q; never negative.

    Written with the log-odds x that the class came from q rather than p, so that m is never formed.
    """
    log_p, log_q = log_p.clamp(min=FLOOR), log_q.clamp(min=FLOOR)
    x = log_q - log_p + math.log((1 - beta) / beta)
    of_p = log_p.exp() * (F.logsigmoid(-x) - math.log(beta))
    of_q = log_q.exp() * (F.logsigmoid(x) - math.log1p(-beta))
    return beta * of_p + (1 - beta) * of_q


def in_pieces(rows: Callable[..., Tensor], *sides: Tensor) -> Tensor:
    """A function of rows that needs many tensors over all classes, some rows at a time; they are made again for the gradient, not held.

    Args:
        rows: (R, V) and other tensors of R rows to R values, each from its own row.
        sides: (B, V) or (B, T, V), and others with the same dimensions but the last.

    Returns:
        (B,) or (B, T).
    """
    first = sides[0]
    if first.numel() <= PIECE:
        return rows(*sides)
    size = max(PIECE // first.shape[-1], 1)
    pieces = zip(*(side.flatten(0, -2).split(size) for side in sides), strict=True)
    found = [checkpoint(rows, *piece, use_reentrant=False, preserve_rng_state=False) for piece in pieces]
    return torch.cat(found).reshape(first.shape[:-1])


def js_sampled(log_weights: Tensor, log_p: Tensor, log_q: Tensor, beta: float) -> Tensor:
    """The divergence estimated from classes that were drawn by p, whose weights have p as their expectation, summed over them.

    A sum over classes of p_v f(q_v / p_v) is estimated without bias by the sum of w_v f(q_v / p_v). Taken as it is, f grows in
    proportion to q / p, and one drawn class that the student finds likely and the teacher does not would outweigh all others. That
    growth is linear, and the sum of q over all classes is known to be 1; so it is taken out of f and added as the constant that it is:

    (1 - beta) log(1 / (1 - beta)) + sum of w [beta log(p / m) + (1 - beta) (q / p) log((1 - beta) q / m)]

    What is left grows with log(q / p) only, its gradient is bounded by the weights', and classes with p = 0 are accounted for exactly.
    """
    counts = log_weights > -torch.inf
    x = torch.where(counts, log_q, 0.0) - torch.where(counts, log_p, 0.0) + math.log((1 - beta) / beta)
    x = x.clamp(min=FLOOR)
    held = x.clamp(max=CEILING)
    each = math.log(beta) - F.logsigmoid(-x) - held.exp() * F.logsigmoid(held)
    weighed = torch.where(counts, log_weights.exp() * each, 0.0)
    return -(1 - beta) * math.log1p(-beta) - beta * weighed.sum(-1)
