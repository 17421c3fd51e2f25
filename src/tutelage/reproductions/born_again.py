"""Furlanello et al., 2018: a student of its teacher's own architecture beats it, and the generations together beat the last of them."""

from __future__ import annotations

from tutelage.data import Data
from tutelage.objectives import CrossEntropy
from tutelage.randomness import derive
from tutelage.recipes import recipe
from tutelage.reproductions.harness import Arm, Difference, Reproduction
from tutelage.reproductions.harness.benches import fm14
from tutelage.signals import Model
from tutelage.teachers import Ensemble, Frozen
from tutelage.training import Fit, Learner, Plan, Stage

NET = "cnn:width=16,depth=3,pools=2"
FIT = {"fit": {"steps": 1_560, "lr": 3e-2}}
ONE = {**FIT, "generations": 1}


def studied(seed: int) -> Data:
    """What all generations study."""
    return fm14(seed, 5_000)


@recipe(matches="labels", needs_labels=True)
def independent(student: Model, data: Data, *, members: int = 3, fit: Fit = Fit(epochs=30)) -> Plan:
    """Nets that are trained on the labels alone and know nothing of each other, and their ensemble.

    Args:
        student: the architecture of all.
        data: samples with labels.
        members: how many.
        fit: duration and optimizer of each.
    """
    made = [student.fresh(seed=derive("member", student.seed, number)) for number in range(members)]
    stages = [Stage(f"member-{n}", Learner(each, CrossEntropy()), fit, data.train) for n, each in enumerate(made)]
    return Plan(stages, made[-1], also={"ensemble": Ensemble([Frozen(each) for each in made])})


REPRODUCTION = Reproduction(
    claim="A net taught by a trained net of its own architecture beats it by more than 0.3 points, and three generations together beat "
    "the last of them.",
    bench="Fashion-MNIST at 14x14, 5,000 images. All nets: three convolutions, 16-32-64, 1,560 updates each with one learning rate, which "
    "was chosen for the net trained on labels alone. Each seed cuts its own images.",
    data=studied,
    fixtures={"generation 0": Arm("generation 0, on the labels alone", NET, "alone", knobs=FIT)},
    arms={
        "generation 0": Arm("the net on the labels alone", fixture="generation 0"),
        "one generation": Arm("taught by generation 0, and by the labels", NET, "born-again", "generation 0", knobs=ONE),
        "three generations": Arm("the third such generation", NET, "born-again", "generation 0", knobs=FIT),
        "teacher only": Arm("taught by generation 0, without labels", NET, "born-again", "generation 0", knobs={**ONE, "arm": "ban"}),
        "weighted labels": Arm(
            "labels weighted by generation 0's confidence", NET, "born-again", "generation 0", knobs={**ONE, "arm": "cwtm"}
        ),
        "permuted": Arm("generation 0's other classes permuted", NET, "born-again", "generation 0", knobs={**ONE, "arm": "dkpp"}),
        "three strangers": Arm("the last of three nets on the labels alone, and their ensemble", NET, independent, knobs=FIT),
    },
    predictions=[
        Difference("accuracy", "one generation", "generation 0", over=0.003),
        Difference("ensemble accuracy", "three generations", "three generations", than="accuracy", matters=0.003),
    ],
    reported=("accuracy", "ensemble accuracy", "nll", "ece"),
    seeds=10,
    minutes=15,
)
