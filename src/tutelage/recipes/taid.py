"""Shing et al., "TAID: Temporally Adaptive Interpolated Distillation for Efficient Knowledge Transfer in Language Models", ICLR 2025."""

from __future__ import annotations

from typing import Literal

from tutelage.data import Data
from tutelage.objectives import LossDriven, Match, interpolated_target
from tutelage.recipes import Paper, recipe
from tutelage.signals import Model
from tutelage.teachers import Teacher
from tutelage.training import Fit, Learner, Plan, Stage

PAPER = Paper(
    "TAID: Temporally Adaptive Interpolated Distillation for Efficient Knowledge Transfer in Language Models",
    authors="Shing et al.",
    year=2025,
    url="https://arxiv.org/abs/2501.16937",
    claim="MT-Bench, Phi-3-mini (3.8B) to TinyLlama (1.1B): above forward and reverse KL, GKD, DistiLLM and adaptive KL; and unlike with "
    "KL, a larger teacher (Pythia, 410M to 6.9B) makes a better student.",
)

TERM = "taid"


@recipe(paper=PAPER, matches="logits", language=True, tune={"start": (0.0, 0.8), "alpha": (5e-4, 5e-2, "log")})
def taid(
    teacher: Teacher,
    student: Model,
    data: Data,
    *,
    start: float = 0.4,
    end: float = 1.0,
    alpha: float = 5e-4,
    beta: float = 0.99,
    reduction: Literal["token", "sequence"] = "token",
    fit: Fit = Fit(epochs=3),
) -> Plan:
    """Train the student on a target that begins near its own distribution and moves to the teacher's, faster while the loss falls.

    Loss: CE(r, q), r = softmax((1 - t) z + t z'), z the student's logits, constant there, z' the teacher's, q the student's distribution.
    t rises from start to end, never behind a straight line: after each step by alpha * sigmoid(m) * (1 - t), m being the running mean of
    the loss's relative fall. The loss is the cross entropy, as in the authors' code: it has the gradient of KL(r || q), but does not fall
    to 0 where r is near q, where relative changes of the KL would be noise.

    Args:
        teacher: a frozen model over the same vocabulary, or over the same classes; it must show all of them.
        student: the model to train.
        data: samples, tokens or others.
        start: t at the first step, in [0, 1]; the wider the gap to the teacher, the lower.
        end: t at the last step, from start to 1.
        alpha: largest part of the way to 1 that a step adds; 0 leaves the straight line, the paper's schedule without adaptation.
        beta: inertia of the running mean, in [0, 1).
        reduction: mean over tokens, or over sequences, each by the mean of its tokens.
        fit: duration and optimizer.

    Raises:
        BadInput: start, end, alpha or beta outside their range.

    Cost: one pass of the teacher a step, no extra parameters: what plain distillation costs.
    Data: labels not needed.
    Default: start 0.4, alpha and beta are the paper's for a teacher of 3.8B and a student of 1.1B (start 0.2 for a teacher of 7B);
        duration and optimizer are ours. The paper's runs have some 16,000 updates. In fewer than 4,000 its alpha adds less a step than
        the straight line does, and t is that line: raise alpha as updates become fewer, 8 / updates being the paper's pace.
    Relations: with start = end = 1 it has the gradient of `lm-kd`, forward at temperature 1. The authors' code moves t at each evaluation,
        too, and on each process apart; here after training steps only, by the mean over all processes.
    """
    t = LossDriven(TERM, start=start, end=end, alpha=alpha, beta=beta)
    loss = Match("logits", by=interpolated_target(t, "cross-entropy"), name=TERM, over=reduction)
    return Plan([Stage("distil", Learner(student, loss, teacher), fit, data.train)], student)
