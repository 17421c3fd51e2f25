"""How good an untrained net seems: by a named score, on batches and first weights that are the same for all candidates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch

from tutelage.data import Data
from tutelage.errors import BadInput, nearest
from tutelage.evaluation.diswot import Look, diswot, look
from tutelage.evaluation.zero_cost import PROXIES
from tutelage.randomness import derive, generator
from tutelage.signals import Batch, Model

DISWOT = "diswot"
SCORES = (DISWOT, *PROXIES, "random")
Weights = Literal["fresh", "trained"]


@dataclass(frozen=True)
class Scorer:
    """Scores nets.

    Args:
        name: of the score.
        data: batches come from its training split.
        teacher: of diswot.
        teacher_weights: "fresh": the teacher is scored against with new weights, as the authors' code does; "trained": with its own.
        batch_size: samples of a batch.
        batches: over how many a score is averaged, each with first weights of its own.
        seed: of batches and weights.
        device: where to compute.

    Raises:
        BadInput: another score, diswot without a teacher, or a teacher that cannot be looked at.
    """

    name: str
    data: Data
    teacher: Model | None
    teacher_weights: Weights
    batch_size: int
    batches: int
    seed: int
    device: torch.device

    def __post_init__(self) -> None:
        check(self.name, self.teacher is not None)
        object.__setattr__(self, "_batches", [self._batch(i) for i in range(self.batches)])
        object.__setattr__(self, "_looks", [self._taught(i) for i in range(self.batches)] if self.name == DISWOT else [])

    def seed_of(self, number: int) -> int:
        """What the first weights of a net are drawn from, for one of the batches."""
        return derive("search", "weights", self.seed, number)

    def __call__(self, model: Model, spec: str) -> dict[str, float]:
        """The score of a net, higher is better, and its parts where it has any: means over the batches.

        Args:
            model: can be built anew.
            spec: of it; a random score is drawn from it.
        """
        if self.name == "random":
            return {"score": derive("search", "random", self.seed, spec) / 2.0**63}
        found: list[dict[str, float]] = []
        for number, batch in enumerate(self._batches):  # type: ignore[attr-defined]
            fresh = model.fresh(self.seed_of(number))
            fresh.module.to(self.device)
            if self.name == DISWOT:
                found.append(diswot(look(fresh, batch), self._looks[number]))  # type: ignore[attr-defined]
            else:
                found.append({"score": PROXIES[self.name](fresh, batch)})
        return {key: sum(each[key] for each in found) / len(found) for key in found[0]}

    def _batch(self, number: int) -> Batch:
        order = torch.randperm(len(self.data.train), generator=generator("search", "batch", self.seed, number))
        found = dict(self.data.train.batch(order[: self.batch_size].sort().values))
        if "y" not in found and self.teacher is not None:
            with torch.no_grad(), self.teacher.mode(training=False):
                shown = self.teacher.observe(found, {"logits"})["logits"]
                assert isinstance(shown, torch.Tensor)
                found["y"] = shown.argmax(-1)
        return {k: v.to(self.device) if isinstance(v, torch.Tensor) else v for k, v in found.items()}

    def _taught(self, number: int) -> Look:
        assert self.teacher is not None
        batch = self._batches[number]  # type: ignore[attr-defined]
        if self.teacher_weights == "trained":
            own = self.teacher.copy()
            own.module.to(self.device)
            return look(own, batch, training=False)
        fresh = self.teacher.fresh(derive("search", "teacher", self.seed, number))
        fresh.module.to(self.device)
        return look(fresh, batch)


def check(name: str, taught: bool) -> None:
    """Refuse a score that is not there, or that lacks its teacher.

    Raises:
        BadInput: says which, and what would do.
    """
    if name not in SCORES:
        raise BadInput(f"score {name!r} is not known{nearest(name, SCORES)}; expected one of {', '.join(SCORES)}")
    if name == DISWOT and not taught:
        raise BadInput(f"diswot compares with a teacher; give --teacher MODEL_OR_RUN, or another --score: {', '.join(PROXIES)}")
