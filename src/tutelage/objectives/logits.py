"""Distances between output distributions: temperature KL in either direction, soft cross entropy, Jensen-Shannon.

All are computed in log-space in float32 or wider, summed over classes, and left per row: (B, V) gives (B,), (B, T, V) gives (B, T).
The teacher's side may be sparse where a distance says that it accepts it; the maths of that is in `sparse.py`.
Shapes: B batch, T positions, V classes or vocabulary, R rows of any of them.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor
from torch.nn import functional as F

from tutelage.errors import BadInput
from tutelage.objectives.deferred import BY_ROWS
from tutelage.objectives.divergences import check_beta, in_pieces, js_terms
from tutelage.objectives.match import ALL_FORMS, Distance
from tutelage.objectives.objective import alike
from tutelage.objectives.sparse import sparse_cross_entropy, sparse_jsd, sparse_kl
from tutelage.objectives.temperature import check_temperature, tempered
from tutelage.signals import SparseLogits
from tutelage.state import Number


def kl_divergence(
    student_BV: Tensor,
    teacher_BV: Tensor,
    temperature: float = 1.0,
    direction: str = "forward",
    student_temperature: float | None = None,
) -> Tensor:
    """Temperature KL between two sets of logits, times temperature squared, per row.

    Args:
        student_BV: logits (B, V) or (B, T, V).
        teacher_BV: logits of the same shape.
        temperature: divides both sides' logits, > 0.
        direction: "forward" is KL(teacher || student), "reverse" KL(student || teacher).
        student_temperature: divides the student's logits instead, and is what is squared.

    Returns:
        temperature^2 * KL, of shape (B,) or (B, T).

    Raises:
        ShapeMismatch: the shapes differ.
    """
    check_temperature("kl_divergence", temperature)
    own = temperature if student_temperature is None else student_temperature
    student_BV, teacher_BV = alike("logits", student_BV, teacher_BV)
    log_student_BV = F.log_softmax(tempered(student_BV, own), dim=-1)
    log_teacher_BV = F.log_softmax(tempered(teacher_BV, temperature), dim=-1)
    if direction == "reverse":
        log_student_BV, log_teacher_BV = log_teacher_BV, log_student_BV
    # log-targets: a probability that underflows to 0 contributes 0, not NaN
    return F.kl_div(log_student_BV, log_teacher_BV, reduction="none", log_target=True).sum(-1) * own**2


def soft_ce(student_BV: Tensor, teacher_BV: Tensor, temperature: float = 1.0, scaled: bool = True) -> Tensor:
    """Cross entropy of the student's tempered distribution under the teacher's, per row: see `soft_cross_entropy`."""
    check_temperature("soft_ce", temperature)
    student_BV, teacher_BV = alike("logits", student_BV, teacher_BV)
    probabilities_BV = F.softmax(tempered(teacher_BV, temperature), dim=-1)
    rows = -(probabilities_BV * F.log_softmax(tempered(student_BV, temperature), dim=-1)).sum(-1)
    return rows * temperature**2 if scaled else rows


def js_divergence(student_BV: Tensor, teacher_BV: Tensor, beta: float = 0.5, temperature: float = 1.0) -> Tensor:
    """Generalised Jensen-Shannon divergence of two sets of logits, times temperature squared, per row: see `jensen_shannon`."""
    check_temperature("js_divergence", temperature)
    check_beta("js_divergence", beta)
    student_BV, teacher_BV = alike("logits", student_BV, teacher_BV)

    def rows(student_RV: Tensor, teacher_RV: Tensor) -> Tensor:
        return js_terms(
            F.log_softmax(tempered(teacher_RV, temperature), dim=-1), F.log_softmax(tempered(student_RV, temperature), dim=-1), beta
        ).sum(-1)

    return in_pieces(rows, student_BV, teacher_BV) * temperature**2


REVERSE_LOOKS_ELSEWHERE = (
    "is KL(student || teacher), which looks where the student puts its mass, and there the teacher may have kept nothing "
    "(direction='forward' looks where the teacher's is)"
)


def soft_targets(
    temperature: Number = 4.0, direction: Literal["forward", "reverse"] = "forward", student_temperature: Number | None = None
) -> Distance:
    """Hinton's soft targets: KL between the distributions at a temperature, times temperature squared.

    T^2 * sum_v p_v (log p_v - log q_v), p the teacher's and q the student's softmax at temperature T; "reverse" swaps p and q. The factor
    T^2 keeps the gradient's size about the same when T changes: the gradient on the student's logits is T (q - p).

    Args:
        temperature: > 0; the same for both sides; a number or a controller.
        direction: "forward" covers all of the teacher's mass, "reverse" seeks its modes.
        student_temperature: > 0, of the student's side alone, which then is what is squared; the teacher's sparse logits cannot be read.

    Returns:
        A distance: (B, V) against (B, V) gives (B,); with positions, (B, T). Half precision is raised, float64 stays. "forward" accepts
        sparse logits of a teacher, see `sparse_kl`, at the temperature that they were kept at; "reverse" needs all classes.

    Raises:
        BadInput: temperature not a positive finite number, or one that the teacher's sparse logits cannot be read at.
        ShapeMismatch: the sides differ in shape; they must share the classes.

    Source: Hinton, Vinyals, Dean, "Distilling the Knowledge in a Neural Network", 2015, section 2.
    Relations: as T grows it tends to half the mean squared difference of the centred logits (their section 2.1); forward equals
        `soft_cross_entropy` minus the teacher's entropy, with the same gradient.
    Example:
        >>> loss = 0.1 * CrossEntropy() + 0.9 * Match("logits", by=soft_targets(4.0))
    """
    check_temperature("soft_targets", temperature)
    if direction not in ("forward", "reverse"):
        raise BadInput(f"soft_targets(direction={direction!r}): expected 'forward' or 'reverse'")
    if student_temperature is not None:
        check_temperature("soft_targets", student_temperature)
        apart = {"temperature": temperature, "student_temperature": student_temperature}

        def split(student_BV: Tensor, teacher_BV: Tensor, temperature: float, student_temperature: float) -> Tensor:
            return kl_divergence(student_BV, teacher_BV, temperature, direction, student_temperature)

        return Distance(split, apart, BY_ROWS, f"soft_targets({direction})", "has a temperature for each side, which takes all classes")

    def fn(student_BV: Tensor, teacher_BV: Tensor | SparseLogits, temperature: float) -> Tensor:
        if isinstance(teacher_BV, SparseLogits):
            return sparse_kl(student_BV, teacher_BV, temperature)
        return kl_divergence(student_BV, teacher_BV, temperature, direction)

    accepts, reason = (ALL_FORMS, "") if direction == "forward" else (BY_ROWS, REVERSE_LOOKS_ELSEWHERE)
    return Distance(fn, {"temperature": temperature}, accepts, f"soft_targets({direction})", reason)


def soft_cross_entropy(temperature: Number = 1.0, scaled: bool = True) -> Distance:
    """Cross entropy with the teacher's softened distribution as target: -sum_v p_v log q_v, at a temperature.

    Args:
        temperature: > 0, the same for both sides; a number or a controller.
        scaled: multiply by temperature squared, as `soft_targets` does; False is the plain form that some papers use.

    Returns:
        A distance, per row: (B, V) gives (B,), (B, T, V) gives (B, T). It accepts sparse logits of a teacher, see `sparse_cross_entropy`,
        at the temperature that they were kept at.

    Raises:
        BadInput: temperature not a positive finite number, or one that the teacher's sparse logits cannot be read at.
        ShapeMismatch: the sides differ in shape.

    Source: Hinton et al., 2015, section 2; the unscaled form: Romero et al., "FitNets", 2015, eq. 2.
    Relations: equals `CrossEntropy` on the teacher's choice as the teacher becomes certain; its minimum is the teacher's entropy, not 0.
    """
    check_temperature("soft_cross_entropy", temperature)

    def fn(student_BV: Tensor, teacher_BV: Tensor | SparseLogits, temperature: float) -> Tensor:
        if isinstance(teacher_BV, SparseLogits):
            return sparse_cross_entropy(student_BV, teacher_BV, temperature, scaled)
        return soft_ce(student_BV, teacher_BV, temperature, scaled)

    return Distance(fn, {"temperature": temperature}, ALL_FORMS, "soft_cross_entropy")


def jensen_shannon(beta: Number = 0.5, temperature: Number = 1.0) -> Distance:
    """Generalised Jensen-Shannon divergence: how far teacher and student are from their mixture, times temperature squared.

    T^2 * [beta KL(p || m) + (1 - beta) KL(q || m)], m = beta p + (1 - beta) q; p the teacher's softmax at temperature T, q the student's.
    Unlike either KL it is bounded, also where one side gives nothing to what the other expects.

    Args:
        beta: the teacher's share in the mixture, between 0 and 1, both excluded; a number or a controller.
        temperature: > 0, the same for both sides; a number or a controller.

    Returns:
        A distance, per row: (B, V) gives (B,), (B, T, V) gives (B, T). It accepts sparse logits of a teacher, see `sparse_jsd`, at the
        temperature that they were kept at.

    Raises:
        BadInput: beta or temperature out of range, or a temperature that the teacher's sparse logits cannot be read at.
        ShapeMismatch: the sides differ in shape.

    Source: Agarwal et al., "On-Policy Distillation of Language Models: Learning from Self-Generated Mistakes", 2024, section 2; the mixture
        is Lin, "Divergence Measures Based on the Shannon Entropy", 1991, section 4.
    Relations: at T = 1 at most -beta log(beta) - (1 - beta) log(1 - beta), which is log 2 at beta = 1/2, where it is symmetric. Divided by
        beta it tends to the forward KL as beta goes to 0, divided by 1 - beta to the reverse KL as beta goes to 1: so its gradient
        vanishes with beta or 1 - beta, and the weight of the term has to make up for it. The paper takes KL itself at either end.
    """
    check_beta("jensen_shannon", beta)
    check_temperature("jensen_shannon", temperature)

    def fn(student_BV: Tensor, teacher_BV: Tensor | SparseLogits, beta: float, temperature: float) -> Tensor:
        if isinstance(teacher_BV, SparseLogits):
            return sparse_jsd(student_BV, teacher_BV, beta, temperature)
        return js_divergence(student_BV, teacher_BV, beta, temperature)

    return Distance(fn, {"beta": beta, "temperature": temperature}, ALL_FORMS, "jensen_shannon")


def probability_cross_entropy() -> Distance:
    """Cross entropy of the student's distribution under target probabilities: -sum_v p_v log q_v, without a temperature.

    Returns:
        A distance, per row: logits (B, V) against probabilities (B, V) gives (B,). The target is not checked to sum to 1.

    Raises:
        ShapeMismatch: the sides differ in shape.

    Relations: equals `CrossEntropy` where the target is one-hot, and `soft_cross_entropy` at temperature 1 where it is a softmax.
    """

    def fn(student_BV: Tensor, target_BV: Tensor) -> Tensor:
        student_BV, target_BV = alike("probabilities", student_BV, target_BV)
        return -(target_BV * F.log_softmax(student_BV, dim=-1)).sum(-1)

    return Distance(fn, accepts=BY_ROWS, name="probability_cross_entropy")
