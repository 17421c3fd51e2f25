"""Distillation of a language model by its teacher's next-token distributions on given text, with the divergence as a knob."""

from __future__ import annotations

from typing import Literal

from tutelage.data import Data
from tutelage.errors import BadInput
from tutelage.objectives import CrossEntropy, Distance, Match, Objective, jensen_shannon, skew_kl, soft_targets
from tutelage.recipes import Paper, recipe
from tutelage.signals import Model
from tutelage.teachers import Teacher
from tutelage.training import Fit, Learner, Plan, Stage

PAPER = Paper(
    "DistiLLM: Towards Streamlined Distillation for Large Language Models",
    authors="Ko et al.",
    year=2024,
    url="https://arxiv.org/abs/2402.03898",
    claim="Instruction following, GPT-2 XL and others to small students: skew KLs serve better than KL, reverse KL and JSD; with its own "
    "way of sampling from the student up to 4.3 times as fast as other recent methods.",
)

TERMS = {"forward": "forward-kl", "reverse": "reverse-kl", "jsd": "jsd", "skew": "skew-kl", "skew-reverse": "skew-reverse-kl"}
"""What each divergence is called among the terms."""


@recipe(paper=PAPER, matches="logits", language=True, tune={"temperature": (1.0, 4.0, "log"), "alpha": (0.5, 1.0)})
def lm_kd(
    teacher: Teacher,
    student: Model,
    data: Data,
    *,
    divergence: Literal["forward", "reverse", "jsd", "skew", "skew-reverse"] = "forward",
    temperature: float = 1.0,
    beta: float = 0.5,
    skew: float = 0.1,
    alpha: float = 1.0,
    reduction: Literal["token", "sequence"] = "token",
    fit: Fit = Fit(epochs=3),
) -> Plan:
    """Train a language model on what its teacher expects as the next token, position by position, by a divergence of choice.

    Loss: (1 - alpha) * CE(labels) + alpha * T^2 * D, D being KL(p || q), KL(q || p), the Jensen-Shannon divergence, KL(p || skew p +
    (1 - skew) q) or KL(q || (1 - skew) p + skew q); p the teacher's distribution at temperature T, q the student's. The mean runs over the
    tokens that count, or over sequences, each by the mean of its tokens. Of a classifier, samples stand in for tokens.

    Args:
        teacher: a frozen model over the same vocabulary, or over the same classes.
        student: the model to train.
        data: samples; labels, where they count, are the token that follows each position, -100 where none counts.
        divergence: forward covers all that the teacher expects; reverse seeks what it expects most; jsd and the skew ones lie between, and
            are bounded.
        temperature: softens both sides' probabilities, > 0.
        beta: of jsd, the teacher's share in the mixture, between 0 and 1; near 0 it acts as forward, near 1 as reverse.
        skew: of the skew ones, the share in the mixture of the side that is compared with it, in [0, 1).
        alpha: share of the teacher's part in the loss, in [0, 1].
        reduction: token, or sequence, which gives short sequences the weight of long ones.
        fit: duration and optimizer.

    Raises:
        BadInput: alpha outside [0, 1], no labels where they count, or a divergence or number that is none.

    Cost: one pass of the teacher a step, no extra parameters.
    Data: labels only for the part 1 - alpha.
    Default: forward, temperature 1 and no labels are what work on language models calls supervised distillation; beta is the middle, skew
        DistiLLM's. Reverse and jsd are slow from first weights: train a student on the text first.
    Relations: forward is `hinton-kd` with another default. The divergences: Agarwal et al., "On-Policy Distillation of Language Models",
        2024, for the first three; of DistiLLM this has the losses, not the sampling from the student. `taid` moves its target instead.
    """
    if not 0 <= alpha <= 1:
        raise BadInput(f"lm-kd: alpha={alpha}; expected a share in [0, 1]")
    if alpha < 1 and not data.train.labelled:
        raise BadInput(f"lm-kd: {data.name} has no labels, which the share 1 - alpha of the loss needs; give alpha=1")
    by = _distance(divergence, temperature, beta, skew)
    match = Match("logits", by=by, name=TERMS[divergence], over=reduction)
    loss: Objective
    if alpha == 0:
        loss = 1.0 * CrossEntropy(over=reduction)
    elif alpha == 1:
        loss = 1.0 * match
    else:
        loss = (1 - alpha) * CrossEntropy(over=reduction) + alpha * match
    return Plan([Stage("distil", Learner(student, loss, teacher), fit, data.train)], student)


def _distance(divergence: str, temperature: float, beta: float, skew: float) -> Distance:
    if divergence == "forward":
        return soft_targets(temperature)
    if divergence == "reverse":
        return soft_targets(temperature, "reverse")
    if divergence == "jsd":
        return jensen_shannon(beta, temperature)
    if divergence == "skew":
        return skew_kl(skew, "forward", temperature)
    if divergence == "skew-reverse":
        return skew_kl(skew, "reverse", temperature)
    raise BadInput(f"lm-kd: divergence={divergence!r}; expected {', '.join(TERMS)}")
