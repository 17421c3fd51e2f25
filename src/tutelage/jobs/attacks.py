"""Attacks that a user names, and what models are worth under them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch

from tutelage.attacks import Attack, fgsm, pgd
from tutelage.data import Source, kind_of
from tutelage.errors import BadInput, nearest
from tutelage.evaluation import Predictions, Referee, robustness, under_attack
from tutelage.jobs import specs
from tutelage.signals import Model
from tutelage.teachers import Teacher

JUDGED = 1_000
"""Samples on which a report measures models under attack."""
STEPS = 20
"""Of PGD in a report: more than training takes, so that a student that has only learned to mislead a short search is found out."""


def square(*, eps: float, steps: int = 100) -> Referee:
    """The Square attack, which sees scores only; from the Adversarial Robustness Toolbox."""
    return Referee("square", eps, steps)


def apgd(*, eps: float, steps: int = 100) -> Referee:
    """AutoPGD on the cross entropy, from the Adversarial Robustness Toolbox."""
    return Referee("apgd", eps, steps)


KINDS: Mapping[str, Callable[..., Attack | Referee]] = {"pgd": pgd, "fgsm": fgsm, "apgd": apgd, "square": square}


def attack_from(given: Any) -> Attack | Referee:
    """Make an attack.

    Args:
        given: an `Attack` or `Referee`, or a spec: "pgd:eps=0.1,steps=20", and likewise fgsm, apgd and square.

    Raises:
        BadInput: nothing of the kind; names the nearest. Or a value outside its range, or no eps.
    """
    if isinstance(given, (Attack, Referee)):
        return given
    if not isinstance(given, str):
        raise BadInput(f"attack: expected a name such as pgd:eps=0.1, or an Attack, not {type(given).__name__}")
    name, text = specs.divided(given)
    if name not in KINDS:
        raise BadInput(f"attack {name!r} is not known{nearest(name, KINDS)}; expected {', '.join(KINDS)}, such as pgd:eps=0.1,steps=20")
    options = specs.typed(specs.options_in(text, given), KINDS[name], name)
    if "eps" not in options:
        raise BadInput(f"attack {given!r} does not say how far images may be changed; give {name}:eps=0.1, in units of images in [0, 1]")
    return KINDS[name](**options)


def attacked(
    models: Mapping[str, Model | Teacher],
    shown: Mapping[str, Predictions],
    source: Source,
    attack: Attack | Referee,
    device: torch.device,
    seed: int = 0,
) -> tuple[dict[str, dict[str, float]], list[str]]:
    """Measure models under attack.

    Args:
        models: by name; those that are no single model are left out.
        shown: what each says of the samples as they are.
        source: the samples.
        attack: how.
        device: where to compute.
        seed: of the starts.

    Returns:
        By name `robust_accuracy` and `weighted_robust_accuracy`; and what could not be attacked, in sentences.

    Raises:
        BadInput: samples that cannot be attacked, or a model that gives no gradient.
    """
    kind = kind_of(source)
    if kind != "images":
        raise BadInput(f"an attack changes images, but {source.name} holds {kind or 'samples of another kind'}")
    found, notes = {}, []
    for name, each in models.items():
        if isinstance(each, Model):
            found[name] = robustness(shown[name], under_attack(each, source, attack, seed=seed, device=device))
        else:
            notes.append(f"{name} is not attacked: it is no single model.")
    return found, notes


def judge_of(attack: Attack) -> Attack:
    """The attack by which a report judges what was trained under another: against the labels, of more steps."""
    steps = max(STEPS, attack.steps)
    return replace(attack, steps=steps, step=None, start="uniform", against="labels")
