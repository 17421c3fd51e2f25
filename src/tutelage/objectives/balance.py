"""Balance between several teachers: temperatures that make them equally uncertain, weights that make their losses fall equally fast.

Shapes: B batch, V classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch

from tutelage.errors import BadInput, nearest
from tutelage.objectives.match import Distance, Match
from tutelage.objectives.objective import Term
from tutelage.objectives.temperature import check_temperature, tempered
from tutelage.signals import Batch, Signals
from tutelage.signals.deferred import dense
from tutelage.signals.outputs import raised
from tutelage.state import Clock, Controller, Record, State, value_of

LEAST = 0.01
"""A first loss below this share of the largest counts as that much, since what is relative to next to nothing means nothing."""


class Output(Controller):
    """One of the numbers that a controller of several holds: `balance["clean"]`. Read it wherever a number is accepted.

    Args:
        of: the controller.
        name: of the number.
    """

    def __init__(self, of: Several, name: str) -> None:
        self.of, self.name = of, name

    def begin(self, clock: Clock) -> None:
        """The number as the controller holds it at this step."""
        self.of.begin(clock)
        self.value = self.of.numbers[self.name]

    def __repr__(self) -> str:
        return f"{self.of!r}[{self.name!r}]"


class Several(Controller):
    """A controller of several numbers by name; each is handed out as a number of its own.

    Args:
        start: the numbers at a stage's first step.

    Raises:
        BadInput: fewer than two numbers.
    """

    def __init__(self, start: Mapping[str, float]) -> None:
        if len(start) < 2:
            raise BadInput(f"{type(self).__name__} holds {sorted(start) or 'nothing'}; expected at least two names")
        self.start = dict(start)
        self.numbers = dict(start)

    def __getitem__(self, name: str) -> Output:
        """One of the numbers.

        Raises:
            BadInput: no such name; names the nearest.
        """
        if name not in self.start:
            raise BadInput(f"{type(self).__name__} has no {name!r}{nearest(name, self.start)}; it has {', '.join(self.start)}")
        return Output(self, name)

    def begin(self, clock: Clock) -> None:
        """A stage's first step starts anew; at any other the numbers stay as they were left."""
        if clock.step == 0:
            self.restart()

    def restart(self) -> None:
        """Forget what was learned."""
        self.numbers = dict(self.start)

    def read(self, record: Record, names: Mapping[str, str]) -> dict[str, float] | None:
        """What a step gave under some names; None where a learner was left out of the step.

        Raises:
            BadInput: after the first step, a name that no term and no note has.
        """
        found = {**record.notes, **record.terms}
        missing = next((wanted for wanted in names.values() if wanted not in found), None)
        if missing is None:
            return {name: float(found[wanted]) for name, wanted in names.items()}
        if record.clock.step == 0:
            raise BadInput(f"{type(self).__name__} watches {missing!r}, which no term or note is named{nearest(missing, found)}")
        return None

    def state_dict(self) -> State:
        """The numbers."""
        return {f"number {name}": value for name, value in self.numbers.items()}

    def load_state_dict(self, state: State) -> None:
        """Take them back."""
        self.numbers = {name: float(state.get(f"number {name}", start)) for name, start in self.start.items()}


class EntropyBalance(Several):
    """Temperatures of two teachers, moved until both are equally uncertain.

    After each step, with H the mean entropy of each teacher's softened probabilities: T_a moves by -rate * sign(H_a / H_b - 1), T_b by
    -rate * sign(H_b / H_a - 1), within [low, high]. The surer teacher is softened, the less sure one sharpened.

    Args:
        first: name of a `WatchedMatch` that asks a teacher at `balance[first]`.
        second: name of the other.
        rate: of a step, >= 0; 0 leaves both temperatures at `start`.
        start: both temperatures at first.
        low: lowest temperature, > 0.
        high: highest.

    Raises:
        BadInput: a number outside its range; or, after the first step, no term of that name that notes an entropy.

    Source: Zhao et al., "Mitigating Accuracy-Robustness Trade-off via Balanced Multi-Teacher Adversarial Distillation", TPAMI 2024,
        section 3.3, and their code.
    """

    def __init__(self, first: str, second: str, *, rate: float = 1e-3, start: float = 1.0, low: float = 1.0, high: float = 10.0) -> None:
        if isinstance(rate, bool) or not 0 <= rate < float("inf"):
            raise BadInput(f"EntropyBalance(rate={rate}): expected a finite number of at least 0")
        if not 0 < low <= start <= high < float("inf"):
            raise BadInput(f"EntropyBalance(start={start}, low={low}, high={high}): expected 0 < low <= start <= high")
        super().__init__({first: start, second: start})
        self.first, self.second, self.rate, self.low, self.high = first, second, rate, low, high

    def update(self, record: Record) -> None:
        """Move both by what the step's entropies say."""
        found = self.read(record, {name: noted(name) for name in self.start})
        if found is None:
            return
        gap = found[self.first] - found[self.second]  # of the sign of their ratio less 1, and defined where one is 0
        way = self.rate * ((gap > 0) - (gap < 0))
        for name, move in ((self.first, -way), (self.second, way)):
            self.numbers[name] = min(self.high, max(self.low, self.numbers[name] + move))

    def __repr__(self) -> str:
        return f"EntropyBalance({self.first!r}, {self.second!r}, rate={self.rate})"


class LossBalance(Several):
    """Weights of several losses that sum to 1, moved so that all fall at the same relative speed.

    After each step, with l each loss over its value at the first step: w moves by -rate * (w - l / sum of all l). What has fallen less has
    the larger share, and gets the larger weight. The first losses are taken once, and are saved with the run.

    Args:
        names: of the terms; each is multiplied by `balance[name]`.
        rate: share of the way that a step goes, in [0, 1]; 0 leaves the weights at their start.
        start: weight of each at first, by name, summing to 1; None gives all the same.

    Raises:
        BadInput: a rate outside [0, 1], weights that are no shares of 1; or, after the first step, no term of that name.

    Source: Zhao et al., "Enhanced Accuracy and Robustness via Multi-Teacher Adversarial Distillation", ECCV 2022, section 3.3; the
        balance of relative losses is that of GradNorm (Chen et al., 2018).
    """

    def __init__(self, *names: str, rate: float = 0.025, start: Mapping[str, float] | None = None) -> None:
        if isinstance(rate, bool) or not 0 <= rate <= 1:
            raise BadInput(f"LossBalance(rate={rate}): expected a share of the way, in [0, 1]")
        if len(set(names)) < len(names):
            raise BadInput(f"LossBalance{names}: expected each name once")
        given = dict(start) if start is not None else dict.fromkeys(names, 1 / max(len(names), 1))
        if set(given) != set(names) or min(given.values(), default=0) < 0 or abs(sum(given.values()) - 1) > 1e-6:
            raise BadInput(f"LossBalance(start={given}): expected a weight of at least 0 for each of {', '.join(names)}, summing to 1")
        super().__init__({name: given[name] for name in names})
        self.rate = rate
        self.first: dict[str, float] | None = None

    def restart(self) -> None:
        """Forget the first losses, too."""
        super().restart()
        self.first = None

    def update(self, record: Record) -> None:
        """Take the first losses, and move the weights."""
        found = self.read(record, {name: name for name in self.start})
        if found is None:
            return
        if self.first is None:
            self.first = found
        floor = LEAST * max(self.first.values())
        if floor <= 0:
            return  # there was nothing to fall
        relative = {name: max(found[name], 0.0) / max(self.first[name], floor) for name in found}
        total = sum(relative.values())
        if total <= 0:
            return
        moved = {name: weight - self.rate * (weight - relative[name] / total) for name, weight in self.numbers.items()}
        whole = sum(moved.values())  # 1 but for rounding
        self.numbers = {name: max(weight, 0.0) / whole for name, weight in moved.items()}

    def state_dict(self) -> State:
        """The weights and the first losses."""
        return {**super().state_dict(), **{f"first {name}": value for name, value in (self.first or {}).items()}}

    def load_state_dict(self, state: State) -> None:
        """Take them back."""
        super().load_state_dict(state)
        taken = {name: float(state[f"first {name}"]) for name in self.start if f"first {name}" in state}
        self.first = taken or None

    def __repr__(self) -> str:
        return f"LossBalance({', '.join(map(repr, self.start))}, rate={self.rate})"


class WatchedMatch(Match):
    """A match of logits that also notes how uncertain the teacher is: the mean entropy, in nats, of its softened probabilities.

    Args:
        by: a distance with a knob "temperature", at which the teacher is softened, such as `soft_targets`.
        name: of the term; the note is "entropy of NAME".

    Raises:
        BadInput: a distance without a temperature.

    Relations: the term is that of `Match("logits", by=by)`; `EntropyBalance` reads the note.
    """

    def __init__(self, *, by: Distance, name: str) -> None:
        if not isinstance(by, Distance) or "temperature" not in by.knobs:
            raise BadInput(f"WatchedMatch({name!r}): expected a distance with a temperature, such as soft_targets(4.0)")
        super().__init__("logits", by=by, name=name)

    def terms(self, student: Signals, teacher: Signals | None, batch: Batch) -> list[Term]:
        """The term of the match, with the note."""
        terms = super().terms(student, teacher, batch)
        assert teacher is not None
        assert isinstance(self.by, Distance)
        temperature = value_of(self.by.knobs["temperature"])
        check_temperature(f"WatchedMatch({self.name!r})", temperature)
        soft_BV = tempered(raised(dense(teacher["logits"])).detach(), temperature).softmax(-1)
        entropy = torch.special.entr(soft_BV).sum(-1).mean()
        return [replace(term, notes={**term.notes, noted(self.name): entropy}) for term in terms]

    def refuses(self, form: str) -> str | None:
        """Why it cannot read a form of logits; None where it can."""
        if form != "dense":
            return "its note is the entropy of all classes"
        return super().refuses(form)


def noted(name: str) -> str:
    """Under which a term's entropy is noted."""
    return f"entropy of {name}"
