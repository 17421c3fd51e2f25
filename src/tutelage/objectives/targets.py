"""Targets: what the teacher's side becomes before it is compared, for `Match(target=...)`.

Objects with visible fields rather than closures, so that a moving share is found, begun and saved. Shapes: B batch, V classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from tutelage.objectives.labels import as_rows
from tutelage.signals import Batch, Signals
from tutelage.state import Number, value_of


@dataclass(frozen=True)
class LabelMix:
    """A target between label and teacher; build it with `label_mix`."""

    share: Number

    def __call__(self, teacher: Signals, batch: Batch) -> Tensor:
        """(1 - share) * label + share * probabilities, of shape (B, V)."""
        told_BV = teacher["probabilities"]
        label_BV = as_rows(batch["y"], told_BV.shape[-1]).to(told_BV.dtype)
        # from the label towards the teacher: where the two are one, the label comes out to the last bit
        return torch.lerp(label_BV, told_BV, value_of(self.share))


def label_mix(share: Number) -> LabelMix:
    """A target for Match: a mixture of the label and the teacher's tap "probabilities".

    Args:
        share: of the teacher, in [0, 1]; a number or a controller.

    Source: Kim et al., 2021, eq. 3.
    """
    return LabelMix(share)


@dataclass(frozen=True)
class PermutedDark:
    """A target without the dark knowledge's order; build it with `permuted_dark`."""

    reason: ClassVar[str] = "puts the teacher's values for all classes in another order, and so needs all of them"

    def __call__(self, teacher: Signals, batch: Batch) -> Tensor:
        """Logits (B, V), each row's values shuffled among the classes that are not its largest."""
        logits_BV = teacher["logits"]
        first_B1 = logits_BV.argmax(-1, keepdim=True)
        # sort keys at random, the largest class's key below all: it stays in front, the others come in any order
        keys_BV = torch.rand(logits_BV.shape, device=logits_BV.device).scatter(-1, first_B1, -1.0)
        places_BV = keys_BV.argsort(-1)
        fixed_BV = torch.ones_like(keys_BV).scatter(-1, first_B1, 0.0).argsort(dim=-1, stable=True)
        return torch.empty_like(logits_BV).scatter(-1, fixed_BV, logits_BV.gather(-1, places_BV))


def permuted_dark() -> PermutedDark:
    """A target for Match: the teacher's logits with the classes other than its choice in a random order, drawn per sample and step.

    What is left is the teacher's confidence; which other classes it finds likely is not.

    Source: Furlanello et al., "Born-Again Neural Networks", 2018, section 3.2 (DKPP).
    Relations: with two classes nothing changes; the mean over permutations keeps the largest probability and spreads the rest evenly.
    """
    return PermutedDark()
