"""Wang et al., "MiniLMv2: Multi-Head Self-Attention Relation Distillation for Compressing Pretrained Transformers", 2021."""

from __future__ import annotations

import math

from tutelage.data import Data
from tutelage.errors import BadInput
from tutelage.objectives import Objective
from tutelage.objectives.relations import Relation, projected
from tutelage.recipes import Paper, recipe
from tutelage.signals import Model
from tutelage.signals.attention import Outline, outline_of, same_tokens
from tutelage.teachers import Teacher
from tutelage.training import Fit, Learner, Plan, Stage, up_to

PAPER = Paper(
    "MiniLMv2: Multi-Head Self-Attention Relation Distillation for Compressing Pretrained Transformers",
    authors="Wang et al.",
    year=2021,
    url="https://arxiv.org/abs/2012.15828",
    claim="6 layers of width 768 from BERT-base, at twice its speed, are better on average over GLUE and SQuAD 2.0 than DistilBERT, "
    "TinyBERT and MiniLM of that size.",
)
PAIRS = {"query": ("query", "query"), "key": ("key", "key"), "value": ("value", "value"), "attention": ("query", "key")}


@recipe(paper=PAPER, matches="relations of tokens", general=True)
def minilmv2(
    teacher: Teacher,
    student: Model,
    data: Data,
    *,
    layer: int | None = None,
    onto: int | None = None,
    heads: int | None = None,
    query: float = 1.0,
    key: float = 1.0,
    value: float = 1.0,
    attention: float = 0.0,
    fit: Fit = Fit(epochs=10, lr=6e-4, warmup=0.01, clip=1.0),
) -> Plan:
    """Teach a small encoder how alike one layer of a large one finds each pair of tokens, on text or images without labels.

    Loss: the sum over queries, keys and values of their weight times KL(teacher || student) of softmax(X X^T / sqrt(width)), row by row,
    where X are the projections of a layer, cut into relation heads. No projection is needed, whatever the widths and heads of the two.

    Args:
        teacher: a frozen transformer, of a type whose attention is known; texts are split as the student splits them.
        student: the transformer to train. What lies above its layer's queries, keys and values is not trained, the head neither.
        data: samples; labels are not looked at.
        layer: of the teacher, counted from 1; default: the last, of deep ones (above 12 layers) that at 7/8.
        onto: layer of the student; default: the last.
        heads: relation heads; they must divide the width of both; default: the most that do and leave the teacher 16 numbers or more a
            head.
        query: weight of the relations among queries, >= 0.
        key: of those among keys.
        value: of those among values.
        attention: of those between queries and keys, which are attention itself; with value alone, these two are MiniLM of 2020.
        fit: duration and optimizer.

    Cost: one pass of the teacher a step, up to its layer; similarities of all pairs of tokens in each relation head, not kept.
    Data: no labels needed.
    Default: learning rate, weight decay and weights are the paper's, its 48 relation heads for a width of 768 and 64 for 1024 too, and
        layer 21 of BERT-large's 24; of RoBERTa-large it takes 19. Duration and batch size are ours (the paper: 400,000 updates of 256).
    Relations: `attention` and `value` alone are MiniLM of 2020. Where teacher and student are one model the loss is 0. What comes out is
        fine-tuned by `alone`, or by `hinton-kd` from a fine-tuned teacher.
    """
    weights = {"query": query, "key": key, "value": value, "attention": attention}
    for name, weight in weights.items():
        if not 0 <= weight < math.inf:
            raise BadInput(f"minilmv2({name}={weight}): expected a weight of at least 0")
    if not any(weights.values()):
        raise BadInput("minilmv2: all weights are 0, so that there is nothing to learn; give one of query, key and value above 0")
    models = teacher.models()
    if len(models) != 1:
        raise BadInput(f"minilmv2 reads its teacher's projections as it runs, and {teacher.name} is no single model; give the model itself")
    its, own = outline_of(models[0]), outline_of(student)
    depth = len(its.found.blocks)
    at = _layer("layer", layer, depth, models[0].name, depth if depth <= 12 else round(depth * 7 / 8))
    to = _layer("onto", onto, len(own.found.blocks), student.name, len(own.found.blocks))
    cut = _heads(heads, its, own)
    valid = same_tokens(student, models[0])
    parts: list[Objective] = []
    for name, weight in weights.items():
        if weight:
            here, there = ([projected(side.found, n, which, side.head) for which in PAIRS[name]] for side, n in ((own, to), (its, at)))
            parts.append(weight * Relation((here[0], here[1]), (there[0], there[1]), heads=cut, valid=valid, name=name))
    loss = sum(parts[1:], parts[0])
    below = up_to(*sorted(str(tap) for tap in loss.needs().student))
    return Plan([Stage("relations", Learner(student, loss, teacher, only=below), fit, data.train)], student)


def _layer(knob: str, given: int | None, depth: int, name: str, default: int) -> int:
    if given is None:
        return default
    if not isinstance(given, int) or not 1 <= given <= depth:
        raise BadInput(f"minilmv2({knob}={given}): {name} has {depth} layers, counted from 1")
    return given


def _heads(given: int | None, its: Outline, own: Outline) -> int:
    both = math.gcd(its.width, own.width)
    if given is None:
        return max(n for n in range(1, max(1, its.width // 16) + 1) if both % n == 0)
    if not isinstance(given, int) or given < 1 or both % given:
        raise BadInput(
            f"minilmv2(heads={given}): relation heads must divide the width of the teacher's queries, {its.width}, and the student's, "
            f"{own.width}; {', '.join(str(n) for n in range(1, both + 1) if both % n == 0)} do"
        )
    return given
