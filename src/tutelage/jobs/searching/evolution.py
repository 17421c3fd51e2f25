"""Evolution over a declared space: what to try next, from what was found so far.

What is asked is a function of the seed, of how many were asked before, and of what was told: so a search that was stopped goes on as if it
had not been, from its journal alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch

from tutelage.randomness import generator
from tutelage.students.space import Candidate, Space

ATTEMPTS = 200
"""Draws for one question; a space in which twice as many in a row are known counts as used up."""


@dataclass
class Evolution:
    """Aging evolution: the last `population` nets are alive; one of the best `parents` of them is changed, and the oldest dies.

    Args:
        space: what is chosen from.
        seed: of all draws.
        population: nets drawn at random before anything is bred, and alive at a time.
        parents: how many of the best may breed.
        cross: share of the children that have two parents before they are changed.

    Source: Real et al., "Regularized Evolution for Image Classifier Architecture Search", 2019; parents by rank as DisWOT's search does it.
    """

    space: Space
    seed: int
    population: int = 20
    parents: int = 5
    cross: float = 0.25
    told: list[tuple[Candidate, float]] = field(default_factory=list)

    def ask(self, new: Callable[[Candidate], bool], within: Callable[[Candidate], bool], start: Candidate) -> Candidate | None:
        """The next candidate.

        What is drawn or bred and costs too much is taken back to `start`, one choice after the other in random order, until it fits: where
        few candidates fit, drawing until one does would take longer than scoring it.

        Args:
            new: whether a candidate has not been asked before.
            within: whether it is within the budget.
            start: one that is.

        Returns:
            None where nothing that was tried is new.
        """
        number = len(self.told)
        if number == 0 and new(start):
            return start
        alive = sorted(self.told[-self.population :], key=lambda pair: -pair[1])[: self.parents] if number >= self.population else []
        known = [start, *(candidate for candidate, _ in self.told)]
        for attempt in range(2 * ATTEMPTS):
            draw = generator("search", self.seed, number, attempt)
            if attempt >= ATTEMPTS:  # little is left: look beside what was found
                found = self._changed(known[_drawn(len(known), draw)], draw)
            elif alive:
                found = self._bred([candidate for candidate, _ in alive], draw)
            else:
                found = self.space.sample(draw)
            found = self._repaired(found, within, start, draw)
            if new(found):
                return found
        return None

    def tell(self, candidate: Mapping[str, object], score: float) -> None:
        """What a candidate was found to be worth."""
        self.told.append((dict(candidate), score))  # type: ignore[arg-type]

    def _bred(self, parents: Sequence[Candidate], draw: torch.Generator) -> Candidate:
        first = parents[_drawn(len(parents), draw)]
        if float(torch.rand((), generator=draw)) < self.cross:
            first = self.space.cross(first, parents[_drawn(len(parents), draw)], draw)
        return self._changed(first, draw)

    @staticmethod
    def _repaired(candidate: Candidate, within: Callable[[Candidate], bool], start: Candidate, draw: torch.Generator) -> Candidate:
        """The candidate, or what is left of it within the budget."""
        found, keys = dict(candidate), list(start)
        for place in torch.randperm(len(keys), generator=draw).tolist():
            if within(found):
                break
            found[keys[place]] = start[keys[place]]
        return found

    def _changed(self, candidate: Candidate, draw: torch.Generator) -> Candidate:
        """One change, now and then several: a space of few fits has islands."""
        found = self.space.mutate(candidate, draw)
        while float(torch.rand((), generator=draw)) < 0.3:
            found = self.space.mutate(found, draw)
        return found


def _drawn(count: int, draw: torch.Generator) -> int:
    return int(torch.randint(count, (), generator=draw))
