"""Kim et al., "Teacher Intervention: Improving Convergence of Quantization Aware Training for Ultra-Low Precision Transformers", 2023.

Published at EACL 2023.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from torch import Tensor

from tutelage.data import Data
from tutelage.errors import BadInput
from tutelage.objectives import Match, Objective, soft_cross_entropy
from tutelage.objectives.layers import AttentionScores, HiddenStates
from tutelage.recipes import Paper, recipe
from tutelage.signals import Model, Write, detached
from tutelage.signals.attention import Block, Transformer, Valid, context, scores, transformer_of, valid_tokens
from tutelage.signals.writes import Seen
from tutelage.state import Controller, drawn, during
from tutelage.students.quantised import is_quantised, quantised
from tutelage.students.quantisers import Levels
from tutelage.teachers import Teacher
from tutelage.training import Fit, Learner, Plan, SameWeights, Stage

PAPER = Paper(
    "Teacher Intervention: Improving Convergence of Quantization Aware Training for Ultra-Low Precision Transformers",
    authors="Kim et al.",
    year=2023,
    url="https://arxiv.org/abs/2302.11812",
    claim="BERT with ternary weights and 8-bit activations on GLUE: more accurate than TernaryBERT after equally many updates, and as "
    "accurate in up to a 12.5th of its time.",
)

SCHEDULES = ("gradual", "inverted", "stochastic", "none")


@recipe(paper=PAPER, matches="logits, hidden states, attention")
def teacher_intervention(
    teacher: Teacher,
    student: Model,
    data: Data,
    *,
    levels: Levels = "ternary",
    schedule: Literal["gradual", "inverted", "stochastic", "none"] = "gradual",
    steps: int = 60,
    fit: Fit = Fit(epochs=3, batch_size=32, lr=1e-4, schedule="linear", warmup=0.1),
) -> Plan:
    """Train a copy of the teacher at few bits, at first with the teacher's attention in place of its own.

    The student begins with the teacher's weights. Loss, in both stages, without labels: CE(teacher, student) + sum over layers of MSE of
    hidden states, of attention scores, and of what the layer norm after the attention gives. Stage "intervene": what comes out of each
    attention is the teacher's (its output projection's output), then its context is (what the heads see), then its map (probabilities,
    over the student's values); inputs of query, key and value maps pass no gradient on. Stage "train": the student by itself. The two
    together take the updates of `fit`, of which `steps` at most a half; each has the whole learning rate schedule.

    Args:
        teacher: a trained transformer in full precision, itself and no cache: bert, roberta, electra, distilbert, vit, or our own vit.
        student: the same architecture; `ternary:SPEC` and the like keep their levels.
        data: samples; labels are not looked at.
        levels: of the weights: ternary, binary, int4 or int8.
        schedule: gradual: a sixth of `steps` outputs, a sixth contexts, the rest maps; inverted: thirds, maps, contexts, outputs;
            stochastic: one of the three drawn at each step; none: no first stage.
        steps: updates of the first stage.
        fit: duration of both stages together, and optimizer.

    Raises:
        BadInput: a student of another architecture than the teacher's, a cache for a teacher, a model in which attention is not found, an
            unknown schedule, or steps below 1.

    Cost: one pass of the teacher a step, for student and losses together.
    Data: labels are not needed.
    Default: 60 steps and the losses are the paper's; the optimizer's numbers are ours (the paper: 2e-5). Activations are in 8 bits by their
        own largest value, token by token, where the paper clips at 2.5 and takes the batch's; attention probabilities stay in full
        precision, since fused kernels do not show them.
    Relations: schedule="none" is TernaryBERT (Zhang et al., 2020), which the report compares with at equally many updates.
    """
    if schedule not in SCHEDULES:
        raise BadInput(f"teacher-intervention: schedule={schedule!r}; expected one of {', '.join(SCHEDULES)}")
    if steps < 1:
        raise BadInput(f"teacher-intervention: steps={steps}; expected at least 1")
    given = teacher.models()
    if len(given) != 1 or teacher.gives.taps != "any":
        raise BadInput(
            f"teacher-intervention: the teacher ({teacher.name}) must be one model, whose layers are read at each step; give it itself"
        )
    pupil = student if is_quantised(student) else quantised(student, levels)
    found = _alike(given[0], student)
    loss = _loss(found, valid_tokens(pupil))
    total = fit.updates(len(data.train))
    first = 0 if schedule == "none" else min(steps, total // 2)
    parts: list[Stage | SameWeights] = [SameWeights(pupil, given[0])]
    if first:
        writes = _writes(found, schedule, first, valid_tokens(pupil))
        parts.append(Stage("intervene", Learner(pupil, loss, teacher, writes=writes), replace(fit, epochs=None, steps=first), data.train))
    rest = replace(fit, epochs=None, steps=total - first)
    parts.append(Stage("train", Learner(pupil, loss, teacher), rest, data.train))
    if not first:
        return Plan(parts, pupil)
    twin = pupil.copy()
    plain = Stage("train", Learner(twin, _loss(found, valid_tokens(twin)), teacher), replace(fit, epochs=None, steps=total), data.train)
    return Plan(parts, pupil, baseline=Plan([SameWeights(twin, given[0]), plain], twin))


def _alike(teacher: Model, student: Model) -> Transformer:
    """Where attention lives in both."""
    one, other = ((m.skeleton() or m.module) for m in (teacher, student))
    shapes = [{name: tuple(value.shape) for name, value in net.state_dict().items()} for net in (one, other)]
    found = transformer_of(one, f"the teacher ({teacher.name})")
    if shapes[0] != shapes[1] or found != transformer_of(other, f"the student ({student.name})"):
        raise BadInput(
            f"teacher-intervention: the student ({student.spec or student.name}) begins with the teacher's weights, but it is another "
            f"architecture than the teacher ({teacher.spec or teacher.name}); give the same one"
        )
    return found


def _loss(found: Transformer, valid: Valid) -> Objective:
    hidden = [(path, path) for path in (found.embedding, *(b.path for b in found.blocks))]
    attention = [(b.normed, b.normed) for b in found.blocks]
    pairs = [(b.query, b.key, b.query, b.key) for b in found.blocks]
    return (
        Match("logits", by=soft_cross_entropy(), name="soft-targets")
        + HiddenStates(hidden, valid=valid)
        + AttentionScores(pairs, found.heads, valid=valid)
        + HiddenStates(attention, valid=valid, name="attention")
    )


def _phases(schedule: str, steps: int) -> tuple[Controller, Controller, Controller]:
    """When outputs, contexts and maps are the teacher's."""
    if schedule == "stochastic":
        return drawn(0, 3, "intervention"), drawn(1, 3, "intervention"), drawn(2, 3, "intervention")
    if schedule == "inverted":
        return during(2 * steps // 3, steps), during(steps // 3, 2 * steps // 3), during(0, steps // 3)
    return during(0, steps // 6), during(steps // 6, steps // 3), during(steps // 3, steps)


def _writes(found: Transformer, schedule: str, steps: int, valid: Valid) -> Sequence[Write]:
    output, seen, attended = _phases(schedule, steps)
    writes = []
    for block in found.blocks:
        shown = _Context(block, found.heads, valid, mapped=False)
        mapped = _Context(block, found.heads, valid, mapped=True)
        taps = [block.query, block.key]
        writes += [
            Write(block.output, by=block.output, when=output),
            Write(block.output, by=shown, reads=[*taps, block.value], side="input", when=seen),
            Write(block.output, by=mapped, reads=taps, sees=[block.value], side="input", when=attended),
        ]
        writes += [Write(path, by=detached, side="input") for path in (block.query, block.key, block.value)]
    return writes


@dataclass(frozen=True)
class _Context:
    """What the heads see through the teacher's map: its own values, or (mapped) the student's."""

    block: Block
    heads: int
    valid: Valid
    mapped: bool

    def __call__(self, own: Tensor, seen: Seen) -> Tensor:
        assert seen.teacher is not None
        told = scores(seen.teacher[self.block.query], seen.teacher[self.block.key], self.heads)
        value = seen.student[self.block.value] if self.mapped else seen.teacher[self.block.value]
        return context(told, value, self.valid(seen.batch))
