"""Wang et al., 2021: a small encoder that learns relations of tokens from a large one on plain text is worth more when it is fine-tuned."""

from __future__ import annotations

import csv
import functools
from collections.abc import Collection
from typing import Literal

import torch

from tutelage.data import Data, Source, Table
from tutelage.objectives import Match, mse, regressor
from tutelage.randomness import generator
from tutelage.recipes import recipe
from tutelage.recipes.alone import alone
from tutelage.recipes.minilmv2 import minilmv2
from tutelage.reproductions.harness import Arm, Difference, Reproduction, each_try
from tutelage.reproductions.harness.reuters import MINILM, reuters, rows
from tutelage.signals import Batch, Model, Signals, Tap
from tutelage.signals.attention import outline_of
from tutelage.students import hf
from tutelage.teachers import Frozen, Gives, Teacher
from tutelage.training import Fit, Learner, Plan, Stage, up_to

TOKENS, TEXTS, LABELLED = 24, 2_400, 200
STUDENT = (
    f"hf:{MINILM}:pretrained=false,num_hidden_layers=3,hidden_size=64,num_attention_heads=4,intermediate_size=256,max_length={TOKENS},"
    "hidden_dropout_prob=0.0,attention_probs_dropout_prob=0.0"
)
GENERAL, TASK = 300, 100
RATES = (1e-3, 3e-3)
CARE = {"batch_size": 32, "warmup": 0.1, "clip": 1.0}


@functools.cache
def corpus() -> Table:
    """Texts without labels, each of so many words that none is padded: training texts of 20 Newsgroups and Reuters R8, the same always."""
    csv.field_size_limit(10**9)
    long = sorted({text for name in ("20newsgroups-train", "reuters-r8-train") for text, _ in rows(name) if len(text.split()) >= TOKENS})
    chosen = torch.randperm(len(long), generator=generator("minilmv2-corpus", 0))[:TEXTS].sort().values
    return Table({"text": [long[i] for i in chosen.tolist()]}, "corpus")


def studied(seed: int) -> Data:
    """Reuters R8: a seed's own 200 labelled texts and 1,000 others to choose on; test is the set's own."""
    return reuters(seed, LABELLED, purpose="minilmv2-labelled")


class Remembered(Teacher):
    """A frozen model that is asked about each sample once; all samples must have as many tokens.

    Args:
        model: the model.
        source: all samples, their ids counted from 0.
    """

    def __init__(self, model: Model, source: Source) -> None:
        self.frozen, self.source, self.name = Frozen(model), source, model.name
        self.gives = Gives(taps="any", new_inputs=False)
        self._kept: dict[Tap, torch.Tensor] = {}

    def models(self) -> list[Model]:
        """The model."""
        return self.frozen.models()

    def signals(self, batch: Batch, taps: Collection[Tap], *, view: str | None = None) -> Signals:
        """What it said of these samples."""
        if not set(taps) <= set(self._kept):
            said = [self.frozen.signals(self.source.batch(at), taps) for at in torch.arange(len(self.source)).split(50)]
            self._kept = {tap: torch.cat([each[tap] for each in said]).half() for tap in taps}
        return Signals({tap: self._kept[tap][batch["id"]].float() for tap in taps})


@recipe(matches="relations of tokens, then labels", needs_labels=True)
def prepared(
    student: Model,
    data: Data,
    *,
    by: Literal["relations", "hidden states"] = "relations",
    general: Fit = Fit(steps=GENERAL),
    fit: Fit = Fit(steps=TASK),
) -> Plan:
    """Teach a student on plain text what MiniLM's last layer shows; then train it on labels.

    Args:
        student: a classifier without weights.
        data: few samples with labels.
        by: relations of queries, keys and values, by `minilmv2`; or the mean squared error of hidden states, through a linear map.
        general: duration and optimizer on plain text.
        fit: duration and optimizer on labels.
    """
    texts = corpus()
    teacher = Remembered(hf.hf(MINILM, kind="text", classes=(), count=None, max_length=TOKENS, encoder=True), texts)
    if by == "relations":
        first = minilmv2(teacher, student, Data(texts), fit=general).parts
    else:
        own, its = (outline_of(each).found.blocks[-1].path for each in (student, teacher.models()[0]))
        loss = Match(own, its, through=regressor(), by=mse(), name="hidden")
        first = [Stage("hidden states", Learner(student, loss, teacher, only=up_to(own)), general, texts)]
    return Plan([*first, *alone(student, data, fit=fit).parts], student)


def _arms() -> dict[str, Arm]:
    whole = {"fit": {"steps": GENERAL + TASK, **CARE}}
    parted = {"general": {"steps": GENERAL, **CARE}, "fit": {"steps": TASK, **CARE}}
    one, both = each_try(**{"fit.lr": RATES}), each_try(**{"fit.lr": RATES, "general.lr": RATES})
    return {
        "scratch": Arm("all updates on the labelled texts", STUDENT, "alone", knobs=whole, tries=one),
        "hidden": Arm("hidden states on plain text, then labels", STUDENT, prepared, knobs={"by": "hidden states", **parted}, tries=both),
        "relations": Arm("relations on plain text, then labels", STUDENT, prepared, knobs={"by": "relations", **parted}, tries=both),
    }


REPRODUCTION = Reproduction(
    claim="A small encoder of other width and heads that first learns a large one's relations of tokens on texts without labels is right "
    "more often, once it is trained on few labels, than one that spends as many updates on the labels, and than one that first learns the "
    "large one's hidden states.",
    bench="Teacher: all-MiniLM-L6-v2 (6 layers, width 384, 12 heads), its last layer. Students: 3 layers of width 64 with 4 heads, the "
    "same WordPieces, drawn weights. 300 updates of 32 of 2,400 texts of 20 Newsgroups and Reuters R8 without labels, the first 24 tokens "
    "of each; then 100 on 200 labelled texts of Reuters R8, cut anew by each seed. The 2,189 test texts are the set's own.",
    data=studied,
    arms=_arms(),
    predictions=[
        Difference("accuracy", "relations", "scratch", matters=0.005),
        Difference("accuracy", "relations", "hidden", matters=0.005),
    ],
    reported=("accuracy", "nll"),
    seeds=5,
    minutes=10,
)
