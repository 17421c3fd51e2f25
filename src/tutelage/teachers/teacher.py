"""Teacher: anything that gives Signals for a batch, and Gives: what it says of itself, checked before anything trains."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

from tutelage.signals import Batch, Model, Signals, Tap
from tutelage.state import Stateful


@dataclass(frozen=True)
class Views:
    """The views of samples that a teacher knows, or that a run studies in turn.

    Args:
        count: augmented views of each sample, besides the plain one; a step's view number is its epoch mod this. 0: plain samples only.
        seed: of what is drawn for them.
    """

    count: int
    seed: int


@dataclass(frozen=True)
class Gives:
    """What a teacher can give.

    Args:
        forms: forms of logits: "dense", "top-k", "sampled"; "deferred" where its signals are those of its models' passes, so that it gives
            deferred ones while they do (`Model.deferring`); none where it gives features only.
        taps: module paths it can show besides its logits, or "any".
        new_inputs: whether it can answer on inputs that are not in the data set (attacked, mixed, generated).
        gradient: whether a student may be trained through it.
        views: the only views of samples that it can answer on; None where it answers on any.
    """

    forms: frozenset[str] = frozenset({"dense"})
    taps: frozenset[str] | Literal["any"] = frozenset()
    new_inputs: bool = True
    gradient: bool = False
    views: Views | None = None


class Teacher(Stateful):
    """Who teaches. It is never part of what is trained: not broadcast, not saved, not optimized.

    Attributes:
        gives: what it can give.
        name: how tables and messages call it.
    """

    gives: Gives = Gives()
    name: str = "teacher"

    def signals(self, batch: Batch, taps: Collection[Tap], *, view: str | None = None) -> Signals:
        """What the teacher shows on a batch.

        Args:
            batch: columns with ids and inputs.
            taps: what is wanted; checked against `gives` when a stage opens.
            view: name of the view of the batch, None for the plain samples.
        """
        raise NotImplementedError

    def models(self) -> list[Model]:
        """The models behind it: to place on a device, to count passes, to forget what was remembered of those that a stage updates."""
        return []
