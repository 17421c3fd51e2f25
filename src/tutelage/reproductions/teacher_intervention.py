"""Kim et al., 2023: a ternary transformer that sees its teacher's attention for its first updates is better after a short training."""

from __future__ import annotations

from tutelage.data import Data
from tutelage.data.digits import digits
from tutelage.reproductions.harness import Arm, Difference, Reproduction, Trend, each_try

NET = "vit:width=64,depth=4,patch=2"
UPDATES = (100, 200, 400)
RATES = each_try(**{"fit.lr": (3e-4, 1e-3, 3e-3)})


def studied(seed: int) -> Data:
    """What teacher and students study: half of the digits."""
    return digits(seed)


def _arms() -> dict[str, Arm]:
    arms = {"teacher": Arm("the teacher as it is, in full precision", fixture="teacher")}
    for updates in UPDATES:
        for schedule, about in (("none", "by itself"), ("gradual", "at first with the teacher's attention")):
            arms[f"{schedule}, {updates}"] = Arm(
                f"ternary weights, {updates} updates {about}",
                NET,
                "teacher-intervention",
                "teacher",
                knobs={"schedule": schedule, "steps": updates // 5, "fit": {"steps": updates, "epochs": None, "batch_size": 32}},
                tries=RATES,
                unequal="compared with the arm of equally many updates",
            )
    return arms


REPRODUCTION = Reproduction(
    claim="After a short training a vision transformer of ternary weights and 8-bit activations is right more often if its first updates "
    "were made with its teacher's attention, and the more so the shorter the training.",
    bench="Digits of 8x8, half of them to study. Teacher: a ViT of 4 blocks of width 64 over patches of 2x2, 1,000 updates. Students: the "
    "teacher's weights made ternary, 100, 200 and 400 updates, the first fifth of them with interventions. Each seed cuts its own digits "
    "and trains its own teacher.",
    data=studied,
    fixtures={"teacher": Arm("the teacher", NET, "alone", knobs={"fit": {"steps": 1_000, "lr": 1e-3, "warmup": 0.1}})},
    arms=_arms(),
    predictions=[
        Difference("accuracy", "gradual, 100", "none, 100", matters=0.005),
        Trend(
            "accuracy",
            tuple(f"gradual, {n}" for n in reversed(UPDATES)),
            tuple(f"none, {n}" for n in reversed(UPDATES)),
            levels=tuple(-float(n) for n in reversed(UPDATES)),
            matters=0.005,
        ),
    ],
    seeds=8,
    minutes=10,
)
