"""Ensemble: several teachers that speak with one voice. Shapes: B batch, V classes, M teachers."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from typing import Literal

import torch
from torch.nn import functional as F

from tutelage.errors import BadInput, ShapeMismatch
from tutelage.signals import Batch, Model, Signals, Tap
from tutelage.signals.outputs import raised
from tutelage.teachers.teacher import Gives, Teacher


class Ensemble(Teacher):
    """The mean of several teachers' predictions.

    Args:
        members: at least one teacher; all over the same classes.
        mean: "probability" averages the softmax outputs at temperature 1 and gives their logarithm as logits;
            "logit" averages the logits, which is the normalised geometric mean of the probabilities.

    Raises:
        BadInput: no members, another `mean`, members that give no dense logits, or that know different views.

    Source: Hinton et al., 2015, section 2, names both means.
    Relations: with one member it equals that member, up to a constant per row in "probability".
    """

    def __init__(self, members: Sequence[Teacher], mean: Literal["probability", "logit"] = "probability") -> None:
        if not members:
            raise BadInput("an Ensemble needs at least one member")
        if mean not in ("probability", "logit"):
            raise BadInput(f"Ensemble(mean={mean!r}): expected 'probability' or 'logit'")
        sparse = next((m for m in members if "dense" not in m.gives.forms), None)
        if sparse is not None:
            raise BadInput(f"an Ensemble averages whole distributions, which its member {sparse.name} cannot give; use the model itself")
        views = {m.gives.views for m in members} - {None}
        if len(views) > 1:
            raise BadInput(f"the members of an Ensemble know different views of samples: {sorted((v.count, v.seed) for v in views if v)}")
        self.members, self.mean = list(members), mean
        self.name = "ensemble of " + ", ".join(m.name for m in self.members)
        self.gives = Gives(
            taps=frozenset(),
            new_inputs=all(m.gives.new_inputs for m in self.members),
            gradient=all(m.gives.gradient for m in self.members),
            views=next(iter(views), None),
        )

    def signals(self, batch: Batch, taps: Collection[Tap], *, view: str | None = None) -> Signals:
        """The members' mean logits; one pass a member.

        Raises:
            BadInput: another tap than the logits.
            ShapeMismatch: the members know different classes.
        """
        inner = [t for t in taps if t != "logits"]
        if inner:
            raise BadInput(f"{self.name} gives logits only, not {str(inner[0])!r}; use one member where features are matched")
        each = [raised(m.signals(batch, {"logits"}, view=view)["logits"]) for m in self.members]
        shapes = sorted({tuple(e.shape) for e in each})
        if len(shapes) > 1:
            raise ShapeMismatch(f"the members of {self.name} give logits of different shapes: {shapes}")
        stack_MBV = torch.stack(each)
        if self.mean == "logit":
            return Signals({"logits": stack_MBV.mean(0)})
        log_probabilities_MBV = F.log_softmax(stack_MBV, dim=-1)
        mean_BV = torch.logsumexp(log_probabilities_MBV, dim=0) - math.log(len(each))
        return Signals({"logits": mean_BV})

    def models(self) -> list[Model]:
        """The members' models."""
        return [model for member in self.members for model in member.models()]
