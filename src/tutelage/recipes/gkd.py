"""Agarwal et al., "On-Policy Distillation of Language Models: Learning from Self-Generated Mistakes", ICLR 2024."""

from __future__ import annotations

from typing import Literal

import torch

from tutelage.data import Data
from tutelage.errors import BadInput
from tutelage.language import Lessons
from tutelage.language.generation import prompts_in
from tutelage.language.next_token import next_token_loss
from tutelage.language.on_policy import own_text
from tutelage.language.sampling import Sampling
from tutelage.recipes import Paper, recipe
from tutelage.signals import Model
from tutelage.teachers import Teacher
from tutelage.training import Fit, Learner, Plan, Stage

PAPER = Paper(
    "On-Policy Distillation of Language Models: Learning from Self-Generated Mistakes",
    authors="Agarwal et al.",
    year=2024,
    url="https://arxiv.org/abs/2306.13649",
    claim="T5-XL to smaller T5s, averaged over students: what on-policy distillation gains over the student is 2.1 times (summarization), "
    "1.7 times (translation) and 1.9 times (arithmetic) what the baselines of distillation gain.",
)

TEXT = "text"
"""Name of the view."""


@recipe(paper=PAPER, matches="logits", language=True, tune={"on_policy": (0.0, 1.0), "beta": (0.1, 0.9)})
def gkd(
    teacher: Teacher,
    student: Model,
    data: Data,
    *,
    on_policy: float = 0.5,
    divergence: Literal["forward", "reverse", "jsd"] = "jsd",
    beta: float = 0.5,
    temperature: float = 1.0,
    alpha: float = 1.0,
    tokens: int = 64,
    prompt: int = 32,
    sampling_temperature: float = 1.0,
    top_k: int = 0,
    top_p: float = 1.0,
    reduction: Literal["token", "sequence"] = "token",
    fit: Fit = Fit(epochs=3),
) -> Plan:
    """Train a language model on text that it wrote itself, position by position as its teacher would have gone on.

    At each step, with probability `on_policy`, the student writes on from the prompts of the batch, and the loss is alpha * T^2 * D on
    what it wrote; else it is (1 - alpha) * CE(labels) + alpha * T^2 * D on the given text. D is KL(p || q), KL(q || p), or
    beta KL(p || m) + (1 - beta) KL(q || m) with m = beta p + (1 - beta) q; p the teacher's distribution at temperature T, q the
    student's. No gradient passes through the writing.

    Args:
        teacher: a frozen model over the same vocabulary; it is asked about text that no one has seen before, so no cache will do.
        student: the model to train.
        data: dialogues, whose prompts the student answers, or running text, whose beginnings it goes on from; not packed into windows.
        on_policy: share of the steps that study the student's own text, in [0, 1] (the paper's lambda); 0 is `lm-kd`.
        divergence: forward covers all that the teacher expects; reverse seeks what it expects most; jsd lies between, and is bounded.
        beta: of jsd, the teacher's share in the mixture, between 0 and 1; near 0 it acts as forward, near 1 as reverse.
        temperature: of D, softens both sides' probabilities, > 0; it does not touch the writing.
        alpha: share of the teacher's part in the loss on given text, in [0, 1].
        tokens: most that the student writes after a prompt; it ends earlier with an end of text, or where its context ends.
        prompt: tokens of running text that it is given.
        sampling_temperature: of the writing, >= 0; at 0 it takes the likeliest token. It does not touch the loss.
        top_k: write with so many likeliest tokens only; 0 for all.
        top_p: write with the fewest likeliest tokens whose probability adds up to so much, in (0, 1].
        reduction: mean over tokens, or over sequences, each by the mean of its tokens.
        fit: duration and optimizer.

    Raises:
        BadInput: a share or number outside its range, a cached teacher, or data that are no text with prompts.

    Cost: one pass of the teacher a step; a step on its own text takes besides as many passes of the student as it writes tokens,
        short ones where the model keeps what it computed before.
    Data: labels only for the part 1 - alpha; of a dialogue only the prompt on the student's own text.
    Default: on_policy 0.5 and beta 0.5 are among the paper's; it begins with a student that was trained on the task before. On what a
        student writes from first weights there is little to learn.
    Relations: on_policy=0 is `lm-kd`, bit for bit, and of any data; on_policy=0.5 with forward is ImitKD (Lin et al., 2020) with
        distributions for labels. `seqkd` studies what the teacher writes.
    """
    loss = next_token_loss("gkd", data, divergence, temperature=temperature, beta=beta, alpha=alpha, reduction=reduction)
    sampling = Sampling(tokens, sampling_temperature, top_k, top_p)
    stop = data.train.stop if isinstance(data.train, Lessons) else ()
    view = own_text(on_policy, sampling, prompt=prompt, stop=stop, vocabulary=data.prepared.get("vocabulary"), labels=False)
    if on_policy == 0:
        return Plan([Stage("distil", Learner(student, loss, teacher), fit, data.train)], student)
    if alpha == 0:
        raise BadInput("gkd: alpha=0 leaves nothing to be learnt from what the student writes; give it a share, or on_policy=0")
    if not teacher.gives.new_inputs:
        raise BadInput(
            f"gkd: the teacher ({teacher.name}) cannot be asked about text that the student writes; give the model itself, or on_policy=0"
        )
    prompts_in(data.train.batch(torch.tensor([0])), prompt)
    return Plan([Stage("distil", Learner(student, loss.on(TEXT), teacher, views={TEXT: view}), fit, data.train)], student)
