"""Divergences between a student's logits and a teacher's sparse logits: KL, cross entropy, Jensen-Shannon.

Of the student they need the log-probabilities of the kept classes and of all others together, which one V-wide pass gives; all else is K
wide (but for one case, see `sparse_jsd`). Computed in log-space in float32 or wider, summed over classes, left per row: (B, V) gives (B,),
(B, T, V) gives (B, T).
What is made of the classes that were left out is the choice of the target, `SparseLogits.tail`.

Shapes: B batch, T positions, V classes or vocabulary, K kept classes, R rows, C columns: the K kept classes and one for all others.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from tutelage.errors import ShapeMismatch
from tutelage.objectives.divergences import check_beta, in_pieces, js_sampled, js_terms
from tutelage.objectives.temperature import check_kept, check_temperature, renormalized
from tutelage.signals import SparseLogits
from tutelage.signals.outputs import raised


def sparse_kl(student_BV: Tensor, teacher: SparseLogits, temperature: float = 1.0) -> Tensor:
    """KL(teacher || student) at a temperature, times temperature squared, per row.

    Top-k by its tail: "bucket" compares K + 1 classes, the last being all others; it is never more than the dense KL, which it nears as K
    grows. "renormalize" compares the teacher's distribution among the kept classes with the student's among all. "spread" compares
    with a teacher that finds the others equally likely. Sampled: sum of w (log p - log q), whose expectation over the draw is the dense
    KL, and whose gradient's is the dense gradient; a single row's value may be negative.

    Args:
        student_BV: logits (B, V) or (B, T, V).
        teacher: sparse logits of the same shape.
        temperature: divides the student's logits, > 0; the one that the teacher's were kept at. Any other is exact only where the kept
            classes share all of the mass ("renormalize", or K = V), and allowed there.

    Returns:
        temperature^2 * KL, of shape (B,) or (B, T). With K = V the dense value and gradient.

    Raises:
        BadInput: the teacher's logits cannot be read at this temperature.
        ShapeMismatch: the shapes differ.
    """
    columns = _columns("sparse_kl", student_BV, teacher, temperature)
    return _over_counted(columns, columns.log_p, columns.log_q) * temperature**2


def sparse_cross_entropy(student_BV: Tensor, teacher: SparseLogits, temperature: float = 1.0, scaled: bool = True) -> Tensor:
    """Cross entropy of the student's tempered distribution under the teacher's, per row: `sparse_kl` plus the teacher's entropy.

    Args:
        student_BV: logits (B, V) or (B, T, V).
        teacher: sparse logits of the same shape.
        temperature: as in `sparse_kl`.
        scaled: multiply by temperature squared.

    Raises:
        BadInput: the teacher's logits cannot be read at this temperature.
        ShapeMismatch: the shapes differ.
    """
    columns = _columns("sparse_cross_entropy", student_BV, teacher, temperature)
    rows = _over_counted(columns, torch.zeros_like(columns.log_q), columns.log_q)
    return rows * temperature**2 if scaled else rows


def sparse_jsd(student_BV: Tensor, teacher: SparseLogits, beta: float = 0.5, temperature: float = 1.0) -> Tensor:
    """Generalised Jensen-Shannon divergence at a temperature, times temperature squared, per row: see `jensen_shannon`.

    Top-k by its tail as in `sparse_kl`; of the three, "spread" is the one that works on all classes of both sides, since its mixture has
    another value in each, and costs what the dense form does. Sampled: see `js_sampled`; unbiased in value and gradient, and a single row
    may be negative.

    Args:
        student_BV: logits (B, V) or (B, T, V).
        teacher: sparse logits of the same shape.
        beta: the teacher's share in the mixture, in (0, 1).
        temperature: as in `sparse_kl`.

    Raises:
        BadInput: beta outside (0, 1), or the teacher's logits cannot be read at this temperature.
        ShapeMismatch: the shapes differ.
    """
    check_beta("sparse_jsd", beta)
    if _spread(teacher):
        student_BV = _checked("sparse_jsd", student_BV, teacher, temperature)

        def spread_rows(student_RV: Tensor, ids_RK: Tensor, log_p_RK: Tensor, each_R1: Tensor) -> Tensor:
            log_p_RV = each_R1.expand(student_RV.shape).scatter(-1, ids_RK, log_p_RK)
            return js_terms(log_p_RV, F.log_softmax(student_RV / temperature, dim=-1), beta).sum(-1)

        log_p_BK = teacher.log_probs.to(student_BV.dtype)
        rows = in_pieces(spread_rows, student_BV, teacher.ids, log_p_BK, _log_each(teacher, student_BV.dtype))
    else:
        columns = _columns("sparse_jsd", student_BV, teacher, temperature)
        if teacher.form == "sampled":
            rows = js_sampled(columns.log_weights, columns.log_p, columns.log_q, beta)
        else:
            rows = js_terms(columns.log_p, columns.log_q, beta).sum(-1)
    return rows * temperature**2


class _Columns(NamedTuple):
    """Both sides class by class, and what each counts in a sum over classes: (B, C), of drawn classes (B, K)."""

    log_weights: Tensor
    log_p: Tensor
    log_q: Tensor


def _columns(where: str, student_BV: Tensor, teacher: SparseLogits, temperature: float) -> _Columns:
    student_BV = _checked(where, student_BV, teacher, temperature)
    log_p_BK, rest_B1 = teacher.log_probs.to(student_BV.dtype), teacher.rest.to(student_BV.dtype).unsqueeze(-1)
    spread = _spread(teacher)
    own_BK, others_B, mean_B = _Parted.apply(student_BV, teacher.ids, temperature, spread)
    own_BC = torch.cat([own_BK, others_B.unsqueeze(-1)], dim=-1)
    log_q_BC = F.log_softmax(own_BC, dim=-1)
    if teacher.form == "sampled":
        return _Columns(teacher.log_weights.to(log_p_BK), log_p_BK, log_q_BC[..., :-1])
    if renormalized(teacher):
        log_p_BK = F.log_softmax(log_p_BK * (teacher.temperature / temperature), dim=-1)
        rest_B1 = torch.full_like(rest_B1, -torch.inf)
    log_p_BC = torch.cat([log_p_BK, rest_B1], dim=-1)
    if not spread:
        return _Columns(log_p_BC, log_p_BC, log_q_BC)
    # equal probabilities need no more of the student than the mean of its log-probabilities
    mean_log_q_B1 = (mean_B - own_BC.logsumexp(-1)).unsqueeze(-1)
    each_B1 = _log_each(teacher, student_BV.dtype)
    return _Columns(log_p_BC, torch.cat([log_p_BK, each_B1], dim=-1), torch.cat([log_q_BC[..., :-1], mean_log_q_B1], dim=-1))


def _over_counted(columns: _Columns, first_BC: Tensor, second_BC: Tensor) -> Tensor:
    """The weighted sum of differences over the columns with a weight: 0 times infinity is 0 here, as in the definition of KL."""
    weights_BC = columns.log_weights.exp()
    counts_BC = weights_BC > 0
    return (weights_BC * (torch.where(counts_BC, first_BC, 0.0) - torch.where(counts_BC, second_BC, 0.0))).sum(-1)


def _checked(where: str, student_BV: Tensor, teacher: SparseLogits, temperature: float) -> Tensor:
    """The student's logits in the precision of the comparison."""
    check_temperature(where, temperature)
    if student_BV.shape != teacher.shape or student_BV.ndim < 2:
        raise ShapeMismatch(
            f"{where}: student has shape {tuple(student_BV.shape)}, the teacher's {teacher.form} logits {tuple(teacher.shape)} "
            f"(by {teacher.kept} classes); expected the same, at least (B, 1); logits must be over the same classes"
        )
    check_kept(where, temperature, teacher)
    student_BV = raised(student_BV)
    return student_BV.to(torch.promote_types(student_BV.dtype, teacher.log_probs.dtype))


def _spread(teacher: SparseLogits) -> bool:
    return teacher.form == "top-k" and teacher.tail == "spread" and not renormalized(teacher)


def _log_each(teacher: SparseLogits, dtype: torch.dtype) -> Tensor:
    """The log-probability (B, 1) of each class that was left out, where they are equally likely."""
    return (teacher.rest.to(dtype) - math.log(teacher.classes - teacher.kept)).unsqueeze(-1)


class _Parted(torch.autograd.Function):
    """A row's tempered logits at the kept classes, the log of the sum of the exponentials of all others, and on demand their mean.

    Written out because autograd would hold, and write, four V-wide tensors; this holds the logits themselves and writes their gradient.
    """

    @staticmethod
    def forward(ctx: Any, logits_BV: Tensor, ids_BK: Tensor, temperature: float, mean: bool) -> tuple[Tensor, Tensor, Tensor | None]:
        scaled_BV = logits_BV / temperature
        kept_BK = scaled_BV.gather(-1, ids_BK)
        others = max(logits_BV.shape[-1] - ids_BK.shape[-1], 1)
        mean_B = scaled_BV.scatter_(-1, ids_BK, 0.0).sum(-1) / others if mean else None
        scaled_BV.scatter_(-1, ids_BK, -torch.inf)
        top_B1 = scaled_BV.amax(-1, keepdim=True)
        top_B1 = torch.where(top_B1 == -torch.inf, 0.0, top_B1)  # no others, or none that is possible
        others_B = scaled_BV.sub_(top_B1).exp_().sum(-1).log() + top_B1.squeeze(-1)
        ctx.save_for_backward(logits_BV, ids_BK, others_B)
        ctx.temperature, ctx.others = temperature, others
        return kept_BK, others_B, mean_B

    @staticmethod
    def backward(ctx: Any, of_kept_BK: Tensor, of_others_B: Tensor, of_mean_B: Tensor | None) -> tuple[Tensor, None, None, None]:
        logits_BV, ids_BK, others_B = ctx.saved_tensors
        base_B1 = torch.where(others_B == -torch.inf, 0.0, others_B).unsqueeze(-1)
        scale_B1 = (of_others_B / ctx.temperature).unsqueeze(-1)
        if torch.is_grad_enabled():  # a second derivative is wanted: the same, one tensor after another
            gradient_BV = (logits_BV / ctx.temperature - base_B1).scatter(-1, ids_BK, -torch.inf).exp() * scale_B1
        else:
            gradient_BV = (logits_BV / ctx.temperature).sub_(base_B1).exp_().mul_(scale_B1)
        if of_mean_B is not None:
            gradient_BV.add_((of_mean_B / (ctx.others * ctx.temperature)).unsqueeze(-1))
        return gradient_BV.scatter_(-1, ids_BK, of_kept_BK / ctx.temperature), None, None, None
