"""SparseLogits: a teacher's distribution by some of its classes, and what is known of the others; made from dense logits.

Two forms, one layout. "top-k" keeps the K likeliest classes and the probability of all others together. "sampled" keeps K distinct
classes that are drawn so that the expectation of their weights is the whole distribution: what is linear in the teacher's probabilities
(a cross entropy, a KL, their gradients) is then right on average, the tail included.

Shapes: B batch, T positions, V classes or vocabulary, K kept classes; "..." is (B,) or (B, T).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from tutelage.errors import BadInput, ShapeMismatch

Form: TypeAlias = Literal["dense", "top-k", "sampled", "deferred"]
"""Of logits: all classes; the likeliest; some that were drawn; hidden states and a head."""

Tail: TypeAlias = Literal["bucket", "renormalize", "spread"]
"""What is made of the classes that top-k left out. "bucket": they are one class. "renormalize": the teacher gives them nothing and the
kept ones share all. "spread": each of them is equally likely."""

TAILS = ("bucket", "renormalize", "spread")

EDGE = 1e-6
"""How near to 0 or 1 a uniform number may come, where draws are decided by sums that are rounded."""

AT_ONCE = 1 << 19
"""Logits that are looked at at once on a CPU: they and what is made of them in double precision stay in its cache."""


@dataclass(frozen=True)
class SparseLogits:
    """A distribution over V classes by K of them.

    Args:
        form: "top-k" or "sampled".
        ids: the kept classes, int64 (..., K), distinct within a row.
        log_probs: their log-probabilities, float32 or float64 (..., K).
        rest: (...), as `log_probs`. Of top-k the log of the probability of all other classes, -inf where K = V. Of sampled the log of the
            threshold: a kept class that is less likely than it stands for others too, and weighs as much as it.
        classes: V.
        temperature: what the logits were divided by.
        tail: how objectives read top-k; see `Tail`.

    Raises:
        BadInput: an unknown form or tail.
        ShapeMismatch: shapes that do not belong together.
    """

    form: Literal["top-k", "sampled"]
    ids: Tensor
    log_probs: Tensor
    rest: Tensor
    classes: int
    temperature: float = 1.0
    tail: Tail = "bucket"

    def __post_init__(self) -> None:
        if self.form not in ("top-k", "sampled"):
            raise BadInput(f"SparseLogits(form={self.form!r}): expected 'top-k' or 'sampled'")
        if self.tail not in TAILS:
            raise BadInput(f"tail={self.tail!r}: expected {', '.join(TAILS)}")
        if self.ids.shape != self.log_probs.shape or self.rest.shape != self.ids.shape[:-1]:
            raise ShapeMismatch(
                f"sparse logits: ids {tuple(self.ids.shape)}, log_probs {tuple(self.log_probs.shape)}, rest {tuple(self.rest.shape)}; "
                "expected (..., K), (..., K) and (...)"
            )

    @property
    def shape(self) -> torch.Size:
        """The shape of the dense logits, (..., V)."""
        return torch.Size((*self.ids.shape[:-1], self.classes))

    @property
    def kept(self) -> int:
        """How many classes a row keeps, K."""
        return self.ids.shape[-1]

    @property
    def log_weights(self) -> Tensor:
        """What each kept class weighs in a sum over classes, as a logarithm: its probability, or the threshold where it was drawn."""
        return self.log_probs if self.form == "top-k" else torch.maximum(self.log_probs, self.rest.unsqueeze(-1))

    @property
    def requires_grad(self) -> bool:
        """Never: they are a teacher's."""
        return False

    def detach(self) -> SparseLogits:
        """Itself."""
        return self

    def to(self, device: torch.device | str) -> SparseLogits:
        """The same on a device."""
        moved = {name: getattr(self, name).to(device) for name in ("ids", "log_probs", "rest")}
        return replace(self, **moved)


def top_k(logits: Tensor, k: int, temperature: float = 1.0) -> SparseLogits:
    """The K likeliest classes of each row, likeliest first.

    Args:
        logits: (..., V).
        k: how many, 1 to V.
        temperature: divides the logits, > 0.

    Raises:
        BadInput: k or the temperature is out of range.
    """
    _check(logits, k, temperature)
    ids, log_probs, rest = _some_rows_at_a_time(_likeliest, logits, None, k, temperature)
    return SparseLogits("top-k", ids, log_probs, rest, logits.shape[-1], temperature)


def sampled(logits: Tensor, k: int, uniforms: Tensor, temperature: float = 1.0) -> SparseLogits:
    """K distinct classes of each row, drawn so that the weights' expectation is the row's distribution.

    A class is kept with the probability min(1, p / threshold), the threshold being such that K are kept, and then weighs
    max(p, threshold). The likely classes are thus kept as they are; of the others few are kept, and stand for all. The weights of a row
    sum to 1. Drawn systematically: one uniform number a row decides.

    Args:
        logits: (..., V).
        k: how many, 1 to V.
        uniforms: in [0, 1), one a row, (...).
        temperature: divides the logits, > 0.

    Raises:
        BadInput: k or the temperature is out of range.

    Source: the weights are those of Horvitz & Thompson, 1952; fixed-size sampling with the threshold is Cohen et al., "Efficient Stream
        Sampling for Variance-Optimal Estimation of Subset Sums", 2011. Anshumann et al., "Sparse Logit Sampling", 2025, draw with
        replacement and keep counts; this has less variance for as many ids.
    """
    _check(logits, k, temperature)
    ids, log_probs, rest = _some_rows_at_a_time(_drawn, logits, uniforms, k, temperature)
    dtype = torch.float64 if logits.dtype == torch.float64 else torch.float32
    return SparseLogits("sampled", ids, log_probs.to(dtype), rest.to(dtype), logits.shape[-1], temperature)


def _some_rows_at_a_time(
    kept: Callable[..., tuple[Tensor, ...]], logits: Tensor, uniforms: Tensor | None, k: int, temperature: float
) -> tuple[Tensor, ...]:
    """What is kept of each row, from a few rows at a time: no row hangs on another, and what is made of few stays in a processor's cache.

    Returns:
        ids and log_probs (..., K), and rest (...).
    """
    lead, classes = logits.shape[:-1], logits.shape[-1]
    size = max(1, AT_ONCE // classes) if logits.device.type == "cpu" else max(1, lead.numel())
    logits_RV = logits.reshape(-1, classes)
    uniforms_R = logits_RV[:, 0] if uniforms is None else uniforms.reshape(-1)  # of the likeliest nothing is drawn
    rows = [slice(start, start + size) for start in range(0, max(1, len(logits_RV)), size)]
    pieces = [kept(logits_RV[each], uniforms_R[each], k, temperature) for each in rows]
    ids, log_probs, rest = (torch.cat(each) for each in zip(*pieces, strict=True))
    return ids.reshape(*lead, k), log_probs.reshape(*lead, k), rest.reshape(lead)


def _likeliest(logits: Tensor, _: Tensor, k: int, temperature: float) -> tuple[Tensor, ...]:
    log_probs_V = _log_probabilities(logits, temperature)
    kept = log_probs_V.topk(k, dim=-1)
    return kept.indices, kept.values, _left_over(log_probs_V, kept.indices)


def _drawn(logits: Tensor, uniforms: Tensor, k: int, temperature: float) -> tuple[Tensor, ...]:
    log_probs_V = _log_probabilities(logits.double(), temperature)
    first = log_probs_V.topk(k, dim=-1)
    p_K = first.values.exp()
    # what is left after the s likeliest have been taken for sure, s = 0 .. K-1
    left_K = p_K.flip(-1).cumsum(-1).flip(-1) + _left_over(log_probs_V, first.indices).exp().unsqueeze(-1)
    places_K = torch.arange(k, device=logits.device)
    open_K = p_K * (k - places_K) < left_K
    sure_1 = torch.where(open_K.any(-1), open_K.int().argmax(-1), k).unsqueeze(-1)
    at = sure_1.clamp(max=k - 1)
    threshold_1 = torch.where(sure_1 < k, left_K.gather(-1, at) / (k - at), 0.0)
    # the classes that are not sure lie side by side on a line, each as long as it is likely to be kept; one point in each unit keeps one
    unsure_V = (log_probs_V.exp() / threshold_1).nan_to_num(0.0, posinf=0.0)
    unsure_V.scatter_(-1, first.indices, torch.where(places_K < sure_1, 0.0, unsure_V.gather(-1, first.indices)))
    ends_V = unsure_V.cumsum(-1)
    # where classes are as long as the unit, rounding at its ends would keep one class twice and its neighbour never
    points_K = uniforms.unsqueeze(-1).to(ends_V).clamp(EDGE, 1 - EDGE) + places_K - sure_1
    last_1 = (ends_V < ends_V[..., -1:]).sum(-1, keepdim=True)
    drawn_K = torch.searchsorted(ends_V, points_K.clamp(min=0).contiguous(), right=True).minimum(last_1)
    ids_K = torch.where(places_K < sure_1, first.indices, drawn_K)
    return ids_K, log_probs_V.gather(-1, ids_K), threshold_1.squeeze(-1).log()


def _check(logits: Tensor, k: int, temperature: float) -> None:
    if not 1 <= k <= logits.shape[-1]:
        raise BadInput(f"{k} classes cannot be kept of {logits.shape[-1]}; expected 1 to {logits.shape[-1]}")
    if not 0 < temperature < float("inf"):
        raise BadInput(f"temperature={temperature}: expected a positive finite number")


def _log_probabilities(logits: Tensor, temperature: float) -> Tensor:
    wide = logits if logits.dtype == torch.float64 else logits.float()
    return torch.log_softmax(wide / temperature, dim=-1)


def _left_over(log_probs_V: Tensor, ids_K: Tensor) -> Tensor:
    """Log of the probability of the classes that are not among the ids, summed rather than subtracted; -inf where there are none."""
    return log_probs_V.scatter(-1, ids_K, -torch.inf).logsumexp(-1)
