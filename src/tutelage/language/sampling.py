"""How the next token is chosen from a model's logits. Shapes: B rows, V vocabulary."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from tutelage.errors import BadInput


@dataclass(frozen=True)
class Sampling:
    """How tokens are drawn.

    Args:
        tokens: most new tokens of a response, at least 1.
        temperature: divides the logits, >= 0; at 0 the likeliest token is taken, the first of equals.
        top_k: draw from so many likeliest tokens only, and what is as likely as the last of them; 0 for all.
        top_p: draw from the fewest likeliest tokens whose probability adds up to so much, in (0, 1].

    Raises:
        BadInput: a number outside its range.
    """

    tokens: int = 64
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0

    def __post_init__(self) -> None:
        rules = {
            "tokens": (_whole(self.tokens) and self.tokens >= 1, "a whole number, at least 1"),
            "temperature": (_number(self.temperature) and self.temperature >= 0, "a finite number, at least 0"),
            "top_k": (_whole(self.top_k) and self.top_k >= 0, "a whole number, at least 1, or 0 for all tokens"),
            "top_p": (_number(self.top_p) and 0 < self.top_p <= 1, "a number in (0, 1]"),
        }
        for name, (holds, expected) in rules.items():
            if not holds:
                raise BadInput(f"sampling: {name}={getattr(self, name)!r}; expected {expected}")


def probabilities(logits_BV: Tensor, sampling: Sampling) -> Tensor:
    """What each token is drawn with, float64 (B, V): first the temperature, then top_k, then top_p; greedy gives a single 1.

    Source: top_p: Holtzman et al., "The Curious Case of Neural Text Degeneration", ICLR 2020, section 3.1; top_k: Fan et al.,
        "Hierarchical Neural Story Generation", ACL 2018, section 5.1.
    """
    logits_BV = logits_BV.double()
    if sampling.temperature == 0:
        return torch.zeros_like(logits_BV).scatter_(1, logits_BV.argmax(1, keepdim=True), 1.0)
    # of very low temperatures only differences may be divided, or all would become infinite
    logits_BV = (logits_BV - logits_BV.amax(1, keepdim=True)) / sampling.temperature
    if 0 < sampling.top_k < logits_BV.shape[1]:
        least_B1 = logits_BV.topk(sampling.top_k, dim=1).values[:, -1:]
        logits_BV = logits_BV.masked_fill(logits_BV < least_B1, -torch.inf)
    kept_BV = logits_BV.softmax(1)
    if sampling.top_p < 1:
        sorted_BV, order_BV = kept_BV.sort(dim=1, descending=True, stable=True)
        before_BV = sorted_BV.cumsum(1) - sorted_BV
        sorted_BV = sorted_BV.masked_fill(before_BV >= sampling.top_p, 0.0)
        kept_BV = torch.zeros_like(kept_BV).scatter_(1, order_BV, sorted_BV)
    return kept_BV / kept_BV.sum(1, keepdim=True)


def drawn(probabilities_BV: Tensor, uniform_B: Tensor) -> Tensor:
    """One token of each row, int64 (B,): where a uniform number of [0, 1) falls among the probabilities laid end to end.

    A token without probability is never drawn, whatever rounding does at the ends.
    """
    ends_BV = probabilities_BV.cumsum(1)
    whole_B1 = ends_BV[:, -1:].contiguous()
    found_B1 = torch.searchsorted(ends_BV, uniform_B[:, None].to(ends_BV) * whole_B1, right=True)
    last_B1 = torch.searchsorted(ends_BV, whole_B1)
    return torch.minimum(found_B1, last_B1)[:, 0]


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
