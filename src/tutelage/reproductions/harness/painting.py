"""The bench of generators: digits, a small denoiser as teacher, and what images are worth."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

from tutelage.data import Data
from tutelage.data.digits import digits
from tutelage.diffusion import Sampler
from tutelage.jobs.generators import Reference
from tutelage.reproductions.harness.design import Arm, Made

NET = "unet:width=24,levels=1"
FIT = {"steps": 800, "batch_size": 64, "lr": 2e-3, "ema": 0.99}
BENCH = (
    "Digits of 8x8 with their classes, 898 to study, one cut for all seeds. Net: a U-Net of width 24, two resolutions. "
    "Teacher: 800 updates of 64 images, one for all seeds. "
)
JUDGED = (
    "Judged by the Frechet distance of 629 images to the test images, on 32 features of a classifier that was trained on the validation "
    "images."
)
STEPS = (1, 2, 4)


def studied(seed: int) -> Data:
    """One cut for all seeds: the teacher's test images must be nobody's training images."""
    return digits(0)


def painter(**knobs: Any) -> Arm:
    """The teacher, one for all seeds."""
    options = knobs.pop("net", "")
    return Arm("the teacher", NET + options, "ddpm", knobs={"fit": FIT, **knobs}, seed=0)


def measured(*steps: int) -> Callable[[Made], Mapping[str, float]]:
    """Measure a model as it is drawn from, and with other numbers of evaluations.

    Args:
        steps: evaluations; the metric is called "distance in N". What a generator was not made for is left out.

    Returns:
        A function for `Reproduction.measured`; it also gives "distance", "recall" and "of its class", for the model's own sampler.
    """

    def found(made: Made) -> Mapping[str, float]:
        reference = _reference()
        sampler = Sampler.of(made.product)
        own = reference.compared(reference.drawn(made.product, sampler))
        numbers = {"distance": own["frechet"], "recall": own["recall"], "of its class": own["class_accuracy"]}
        for count in steps:
            if sampler.how == "generator" and count > len(sampler.times):
                continue
            other = sampler.within(count, 1000)
            numbers[f"distance in {count}"] = reference.compared(reference.drawn(made.product, other))["frechet"]
        return numbers

    return found


@functools.cache
def _reference() -> Reference:
    return Reference.of(studied(0), 0)
