"""Dong, Li and Wei, 2023: an untrained student's likeness to its teacher tells how good it will be after distillation."""

from __future__ import annotations

from dataclasses import replace

import torch

from tutelage.data import Data
from tutelage.evaluation import measure
from tutelage.evaluation.diswot import diswot, look
from tutelage.evaluation.zero_cost import PROXIES
from tutelage.randomness import derive, generator
from tutelage.recipes import Paper
from tutelage.reproductions.harness import Arm, Made, Orders, Picks, Reproduction
from tutelage.reproductions.harness.benches import fm14

NETS = (
    ([1, 1, 2], [3, 3, 3]),
    ([2, 3, 1], [4, 8, 8]),
    ([1, 2, 2], [4, 6, 9]),
    ([2, 1, 2], [6, 12, 24]),
    ([2, 3, 1], [4, 4, 4]),
    ([3, 1, 3], [6, 9, 18]),
    ([2, 3, 2], [8, 16, 32]),
    ([1, 2, 1], [8, 16, 24]),
    ([1, 3, 1], [8, 16, 24]),
    ([2, 3, 1], [3, 6, 9]),
    ([1, 1, 1], [4, 6, 6]),
    ([1, 3, 2], [8, 16, 16]),
    ([3, 3, 1], [8, 16, 16]),
    ([2, 1, 2], [6, 12, 12]),
    ([2, 1, 1], [8, 12, 18]),
    ([3, 2, 1], [8, 8, 16]),
)
"""Blocks and widths of the stages: drawn once, before anything was trained, from 1 to 3 blocks a stage, 3 to 8 channels in the first,
and 1, 1.5 or 2 times as many in each other."""
BATCH = 128
SCORES = ("params", "flops", "grad-norm", "snip", "synflow", "nwot")


def named(blocks: list[int], widths: list[int]) -> str:
    """What an arm is called."""
    return f"{'-'.join(map(str, blocks))} of {'-'.join(map(str, widths))}"


ARMS = tuple(named(*each) for each in NETS)


def studied(seed: int) -> Data:
    """2,000 images, nothing to choose on."""
    return replace(fm14(seed, 2_000), validation=None)


def measured(made: Made) -> dict[str, float]:
    """Accuracy after distillation, and what each score said of the same net before: of the weights that it began with, on one batch."""
    found = {"accuracy": measure(made.shown, None)["accuracy"]}
    if made.plan is None or made.teacher is None:
        return found
    begun = made.product.seed
    positions = torch.randperm(len(made.data.train), generator=generator("diswot", begun))[:BATCH]
    batch = made.data.train.batch(positions)

    first = look(made.product.fresh(begun), batch)
    untrained = look(made.teacher.fresh(derive("diswot", "teacher", begun)), batch)
    trained = look(made.teacher, batch, training=False)
    ours = diswot(first, untrained)
    found |= {"diswot": ours["score"], "relation": ours["relation"], "semantic": ours["semantic"]}
    found["diswot, trained teacher"] = diswot(first, trained)["score"]
    return found | {name: PROXIES[name](made.product.fresh(begun), batch) for name in SCORES}


REPRODUCTION = Reproduction(
    claim="How alike the feature relations and class maps of an untrained student and its untrained teacher are on one batch orders small "
    "residual networks by their accuracy after distillation, better than their number of parameters and than scores that know no teacher, "
    "and also among nets of equal size; the student that it picks is better than one picked at random.",
    bench="Fashion-MNIST at 14x14. Teacher: a residual network of two blocks a stage, 8-16-32, trained on 20,000 images for 600 updates. "
    "Students: 16 residual networks of 1 to 3 blocks a stage and widths of their own, each distilled on 2,000 images for 120 updates at "
    "one learning rate. Scores are those of the weights that a training began with, on one batch of 128 images.",
    source=Paper(
        title="DisWOT: Student Architecture Search for Distillation WithOut Training",
        authors="Dong, Li and Wei",
        year=2023,
        url="https://arxiv.org/abs/2303.15678",
        claim="Similarity of class maps and of sample relations between an untrained student and the teacher predicts accuracy after "
        "distillation better than other zero-cost proxies, and searches at least 180 times faster than training does.",
    ),
    data=studied,
    measured=measured,
    fixtures={
        "teacher": Arm(
            "the teacher, on 20,000 images",
            student="resnet:blocks=[2,2,2],width=8",
            recipe="alone",
            knobs={"fit": {"steps": 600, "batch_size": 64, "lr": 5e-3}},
            data=lambda seed: fm14(seed, 20_000),
            seed=0,
        )
    },
    arms={
        named(blocks, widths): Arm(
            f"blocks {blocks}, widths {widths}",
            f"resnet:blocks={blocks},widths={widths}".replace(" ", ""),
            "hinton-kd",
            "teacher",
            knobs={"fit": {"steps": 120, "batch_size": 64, "lr": 5e-3}},
        )
        for blocks, widths in NETS
    },
    predictions=[
        Orders("accuracy", "diswot", ARMS, over=0.3),
        Orders("accuracy", "diswot", ARMS, than="params"),
        Orders("accuracy", "diswot", ARMS, than="flops"),
        Orders("accuracy", "diswot", ARMS, than="nwot"),
        Orders("accuracy", "diswot", ARMS, than="synflow"),
        Orders("accuracy", "diswot", ARMS, given="params"),
        Picks("accuracy", "diswot", ARMS, matters=0.005),
    ],
    reported=("accuracy", "diswot", "diswot, trained teacher", "params", "flops", "nwot", "synflow", "snip", "grad-norm"),
    seeds=5,
    minutes=6,
)
