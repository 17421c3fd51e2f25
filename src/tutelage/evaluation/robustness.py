"""What a classifier is worth under attack: its predictions on attacked samples, by our own search or a referee's. Shapes: B samples."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from tutelage.attacks import Attack, images_in, search
from tutelage.data import Source
from tutelage.errors import BadInput
from tutelage.evaluation.classification import NO_LABEL, Predictions, class_numbers
from tutelage.extras import needed
from tutelage.randomness import derive, seeded
from tutelage.signals import Batch, Model
from tutelage.signals.outputs import raised

SMALLEST = 6
"""Side of images that squares still have a place in."""


@dataclass(frozen=True)
class Referee:
    """An attack that another package carries out (the Adversarial Robustness Toolbox), so that ours need not be trusted.

    Args:
        kind: "square" sees scores only, so no masked gradient deceives it; "apgd" is projected gradient ascent that chooses its steps.
        eps: radius of the linf ball, > 0.
        steps: queries of "square", or gradient steps of "apgd".

    Raises:
        BadInput: a value outside its range, or the package is missing.

    Source: Andriushchenko et al., "Square Attack", ECCV 2020; Croce & Hein, "Reliable evaluation of adversarial robustness with an ensemble
        of diverse parameter-free attacks", ICML 2020.
    """

    kind: Literal["square", "apgd"]
    eps: float
    steps: int = 100

    def __post_init__(self) -> None:
        if self.kind not in ("square", "apgd"):
            raise BadInput(f"attack: {self.kind!r} is not known; expected square or apgd")
        if isinstance(self.eps, bool) or not isinstance(self.eps, (int, float)) or not 0 < self.eps <= 1:
            raise BadInput(f"attack: {self.kind} with eps={self.eps}; expected a number above 0, at most 1")
        if isinstance(self.steps, bool) or not isinstance(self.steps, int) or self.steps < 1:
            raise BadInput(f"attack: {self.kind} with steps={self.steps}; expected a whole number of at least 1")
        needed("art.attacks.evasion", "robust", f"the attack {self.kind}")

    @property
    def named(self) -> str:
        """In a few words."""
        return {"square": "Square", "apgd": "AutoPGD"}[self.kind] + f"-{self.steps}, linf {self.eps:.4g}"


def under_attack(
    model: Model, source: Source, attack: Attack | Referee, *, seed: int = 0, device: torch.device | str = "cpu", batch_size: int = 256
) -> Predictions:
    """What a model says of each sample under an attack on it.

    Args:
        model: who is attacked, in evaluation mode; moved to the device.
        source: images in [0, 1] with labels, which the attack is against; those without a label are left as they are.
        attack: ours, or a referee's.
        seed: of the starts, with each sample's id.
        device: where to compute.
        batch_size: samples a pass.

    Returns:
        Predictions as `predict` gives them, on the attacked images.

    Raises:
        BadInput: samples that are no images in [0, 1] or have no labels, an attack against a teacher or the model itself, or a model that
            gives no gradient where one is needed.
    """
    if isinstance(attack, Attack) and attack.against != "labels":
        raise BadInput(f"attack: against={attack.against}; what a model is worth is measured against the labels")
    model.module.to(device)
    rows, labels, ids = [], [], []
    for positions in torch.arange(len(source)).split(batch_size):
        batch: Batch = {k: v.to(device) if isinstance(v, Tensor) else v for k, v in source.batch(positions).items()}
        hard_B = class_numbers(torch.as_tensor(batch["y"])) if "y" in batch else None
        if hard_B is None:
            raise BadInput(f"{source.name} has no labels, one class a sample, which an attack is against")
        with model.mode(training=False):
            if isinstance(attack, Attack):
                seeds = [derive("robustness", seed, number) for number in batch["id"].tolist()]
                column = images_in(batch)
                changed = search(attack, model, batch, hard_B, seeds, column=column)
                changed = torch.where((hard_B != NO_LABEL)[:, None, None, None], changed, batch[column])
            else:
                column = images_in(batch)
                changed = _refereed(attack, model, batch, column, hard_B, seed)
            with torch.no_grad():
                rows.append(raised(model.observe({**batch, column: changed}, {"logits"})["logits"]).cpu())
        labels.append(torch.as_tensor(source.batch(positions)["y"]))
        ids.append(batch["id"].cpu())
    return Predictions(torch.cat(rows), torch.cat(labels), torch.cat(ids))


def robustness(plain: Predictions, attacked: Predictions) -> dict[str, float]:
    """How often a classifier is right under attack, and the mean of that and of how often it is right without.

    Args:
        plain: what it says of the samples as they are.
        attacked: what it says of them under attack.

    Returns:
        `robust_accuracy`, and `weighted_robust_accuracy` = (accuracy + robust_accuracy) / 2; empty without labels.

    Source: the mean is the W-Robust of Gürel et al., "Knowledge Enhanced Machine Learning Pipeline against Diverse Adversarial Attacks",
        ICML 2021, with equal weights.
    """
    hard = plain.hard()
    if hard is None or not (known := hard != NO_LABEL).any():
        return {}
    right, robust = (float((each.choices()[known] == hard[known]).double().mean()) for each in (plain, attacked))
    return {"robust_accuracy": robust, "weighted_robust_accuracy": (right + robust) / 2}


class _Shown(nn.Module):
    """A model as a plain function of images, with the other columns of a batch held."""

    def __init__(self, model: Model, batch: Batch, column: str) -> None:
        super().__init__()
        self.inner = model.module
        self._show = (model, batch, column)

    def forward(self, x: Tensor) -> Tensor:
        """The logits."""
        model, batch, column = self._show
        return raised(model.observe({**batch, column: x}, {"logits"})["logits"])


def _refereed(attack: Referee, model: Model, batch: Batch, column: str, hard_B: Tensor, seed: int) -> Tensor:
    evasion = needed("art.attacks.evasion", "robust", f"the attack {attack.kind}")
    estimators = needed("art.estimators.classification", "robust", f"the attack {attack.kind}")
    x = batch[column]
    if attack.kind == "square" and min(x.shape[2:]) < SMALLEST:
        raise BadInput(f"the attack square needs images of at least {SMALLEST}x{SMALLEST}, not {x.shape[2]}x{x.shape[3]}; take apgd")
    changed = x.clone()
    flags = {p: p.requires_grad for p in model.module.parameters()}
    with seeded("referee", seed, int(batch["id"][0])), torch.enable_grad():
        with torch.no_grad():
            logits = model.observe(batch, {"logits"})["logits"]
        right = (logits.argmax(-1) == hard_B).nonzero()[:, 0]  # the others are lost already
        if len(right):
            some: dict[str, Any] = {k: v[right] if isinstance(v, Tensor) and len(v) == len(x) else v for k, v in batch.items()}
            shown = estimators.PyTorchClassifier(
                _Shown(model, some, column).eval(),
                loss=nn.CrossEntropyLoss(),
                input_shape=tuple(x.shape[1:]),
                nb_classes=logits.shape[1],
                clip_values=(0.0, 1.0),
                device_type="gpu" if x.device.type == "cuda" else "cpu",
            )
            size, options = len(right), {"norm": "inf", "eps": attack.eps, "batch_size": len(right), "verbose": False}
            if attack.kind == "square":
                search_by = evasion.SquareAttack(shown, max_iter=attack.steps, **options)
            else:
                search_by = evasion.AutoProjectedGradientDescent(
                    shown, max_iter=attack.steps, eps_step=2 * attack.eps, nb_random_init=1, loss_type=None, **options
                )
            made = search_by.generate(some[column].cpu().numpy(), hard_B[right].cpu().numpy())
            changed[right] = torch.from_numpy(made[:size]).to(x)
    for p, flag in flags.items():
        p.requires_grad_(flag)
        p.grad = None
    return changed
