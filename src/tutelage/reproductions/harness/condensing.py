"""The bench of condensed sets: digits, one image a class, and what nets of two kinds learn from it from scratch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from tutelage.data import Data, Source, representatives
from tutelage.data.condensation import Choice, class_labels, inputs_of
from tutelage.data.digits import digits
from tutelage.evaluation import measure, predict
from tutelage.jobs import models
from tutelage.jobs.studies import RATES
from tutelage.objectives import CrossEntropy
from tutelage.randomness import derive
from tutelage.recipes import recipe
from tutelage.recipes.alone import alone
from tutelage.reproductions.harness.design import Arm, Made
from tutelage.signals import Model
from tutelage.training import Fit, Learner, Plan, Run, RunOptions, Stage, train
from tutelage.training.condensed import Condensed

NET, OTHER = "cnn:width=8", "mlp:width=32"
PER_CLASS, NETS = 1, 3
STUDY = Fit(steps=300, optimizer="sgd", lr=0.05, momentum=0.9, weight_decay=0.0005)
SHORT: Mapping[str, Any] = {"per_class": PER_CLASS, "inner": {"steps": 10}, "condense_fit": {"steps": 200}, "fit": {"steps": STUDY.steps}}
BENCH = (
    "Digits of 8x8, 899 to study, cut anew for each seed, one image a class to condense to. Net: three convolutions of width 8; unseen "
    "while condensing: an MLP of width 32. Condensing: five experts of ten epochs, 200 updates through 10 inner ones. "
)
JUDGED = (
    "Judged by three nets of each kind, from scratch, with 300 updates each; on every set each kind takes the best of three learning "
    "rates by the validation samples. The learning rate of the images was chosen once for all, on a seed that is not compared."
)


def studied(seed: int) -> Data:
    """A cut for each seed."""
    return digits(seed)


@recipe(matches="labels", needs_labels=True)
def chosen(student: Model, data: Data, *, how: str = "random", per_class: int = PER_CLASS, fit: Fit = STUDY) -> Plan:
    """Study real samples that were chosen; or, with how=all, all of them.

    Args:
        student: who studies.
        data: what is chosen from.
        how: random, k-means or all.
        per_class: samples of each class.
        fit: duration and optimizer.
    """
    source: Source = data.train
    if how != "all":
        way: Choice = "random" if how == "random" else "k-means"
        labels = class_labels(data.train, per_class, data.class_count())
        places = representatives(inputs_of(data.train)[1], labels, per_class, way, student.seed)
        source = data.train.rows(places, how)
    fit = replace(fit, batch_size=min(fit.batch_size, len(source)))
    return Plan([Stage("study", Learner(student, CrossEntropy()), fit, source)], student, also={"studied": source})


def taken(how: str) -> Arm:
    """An arm of samples that were chosen."""
    about = {"random": "real images, drawn", "k-means": "real images near the centres of clusters", "all": "all images"}[how]
    return Arm(about, NET, chosen, knobs={"how": how, "fit": {"steps": STUDY.steps}})


def measured(made: Made) -> dict[str, float]:
    """Mean accuracy of nets of each kind that learn from what the arm gave."""
    assert made.plan is not None
    also = made.plan.also
    condensed = also.get("condensed")
    source: Source = condensed.source() if isinstance(condensed, Condensed) else also["studied"]
    return {"accuracy": learned(NET, source, made), f"of an unseen {OTHER.partition(':')[0]}": learned(OTHER, source, made)}


def learned(spec: str, source: Source, made: Made) -> float:
    """Mean accuracy on test of nets that learn from a source, with the learning rate that is best on validation for the first."""
    data = made.data
    assert data.validation is not None
    assert data.test is not None

    def net(number: int, rate: float) -> Model:
        model = models.model_from(spec, "student", data=data, seed=derive("judge", made.product.seed, number) % 2**31)
        fit = replace(STUDY, lr=STUDY.lr * rate, batch_size=min(STUDY.batch_size, len(source)))
        plan = alone(model, replace(data, train=source), fit=fit)
        train(plan, Run(None, seed=model.seed, options=RunOptions(device="cpu", quiet=True)))
        return model

    tried = {rate: net(0, rate) for rate in RATES}
    best = max(tried, key=lambda rate: measure(predict(tried[rate], data.validation))["accuracy"])  # type: ignore[arg-type]
    nets = [tried[best], *(net(number, best) for number in range(1, NETS))]
    return sum(float(measure(predict(each, data.test))["accuracy"]) for each in nets) / NETS
