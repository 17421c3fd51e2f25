"""The loss by which a language model is taught next tokens: a divergence of choice from its teacher, and a share of labels."""

from __future__ import annotations

from typing import Literal

from tutelage.data import Data
from tutelage.errors import BadInput
from tutelage.objectives import CrossEntropy, Distance, Match, Objective, jensen_shannon, skew_kl, soft_targets

TERMS = {"forward": "forward-kl", "reverse": "reverse-kl", "jsd": "jsd", "skew": "skew-kl", "skew-reverse": "skew-reverse-kl"}
"""What each divergence is called among the terms."""


def next_token_loss(
    recipe: str,
    data: Data,
    divergence: str,
    *,
    temperature: float = 1.0,
    beta: float = 0.5,
    skew: float = 0.1,
    alpha: float = 1.0,
    reduction: Literal["token", "sequence"] = "token",
) -> Objective:
    """(1 - alpha) * CE(labels) + alpha * T^2 * D; a part without weight is not computed.

    Args:
        recipe: how messages call the recipe.
        data: what is studied.
        divergence: one of TERMS.
        temperature: of D, for both sides.
        beta: of jsd, the teacher's share in the mixture.
        skew: of the skew ones, the share in the mixture of the side that is compared with it.
        alpha: share of the teacher's part, in [0, 1].
        reduction: mean over tokens, or over sequences.

    Raises:
        BadInput: alpha outside [0, 1], no labels where they count, or a divergence or number that is none.
    """
    if not 0 <= alpha <= 1:
        raise BadInput(f"{recipe}: alpha={alpha}; expected a share in [0, 1]")
    if alpha < 1 and not data.train.labelled:
        raise BadInput(f"{recipe}: {data.name} has no labels, which the share 1 - alpha of the loss needs; give alpha=1")
    if divergence not in TERMS:
        raise BadInput(f"{recipe}: divergence={divergence!r}; expected {', '.join(TERMS)}")
    match = Match("logits", by=_distance(divergence, temperature, beta, skew), name=TERMS[divergence], over=reduction)
    if alpha == 0:
        return 1.0 * CrossEntropy(over=reduction)
    if alpha == 1:
        return 1.0 * match
    return (1 - alpha) * CrossEntropy(over=reduction) + alpha * match


def _distance(divergence: str, temperature: float, beta: float, skew: float) -> Distance:
    if divergence == "forward":
        return soft_targets(temperature)
    if divergence == "reverse":
        return soft_targets(temperature, "reverse")
    if divergence == "jsd":
        return jensen_shannon(beta, temperature)
    return skew_kl(skew, "forward" if divergence == "skew" else "reverse", temperature)
