"""What moves while training and is saved with the run: Stateful parts, Controllers, the Clock.

A Controller is a number that moves. It is accepted wherever a coefficient, a temperature or a margin is, as a visible field of
the objective, distance or teacher that reads it; that is how a stage finds it, begins it, saves it and restores it. A controller
hidden in a closure is never begun, and reading it is an error.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from torch import Tensor

from tutelage.errors import BadInput
from tutelage.randomness import derive

State: TypeAlias = dict[str, "Tensor | int | float | str"]


@dataclass(frozen=True)
class Clock:
    """Where in a stage a step stands.

    Args:
        stage: name of the stage.
        step: updates done before this one, counted from 0.
        steps: updates of the whole stage.
        epoch: passes over the data begun before this step's first sample, counted from 0.
        epochs: passes over the data that the stage amounts to; not always whole; 0 where there is no data.
        seed: the run's seed.
    """

    stage: str
    step: int
    steps: int
    epoch: int
    epochs: float
    seed: int

    @property
    def progress(self) -> float:
        """Share of the stage's updates done before this one, in [0, 1)."""
        return self.step / max(self.steps, 1)


@dataclass(frozen=True)
class Record:
    """What a step gave: each term's mean over the whole step and the notes of the losses, averaged over processes."""

    clock: Clock
    terms: Mapping[str, Tensor]
    notes: Mapping[str, Tensor]


class Stateful:
    """Base of what has state that a run must not lose; every method defaults to nothing."""

    def begin_stage(self, run: Any) -> None:
        """Before the first step of each stage that owns this part, also when a run is resumed in that stage.

        Also called when the stage is only rehearsed, so it must not matter that it is called again.
        """

    def after_batch(self, step: Any) -> None:
        """After each micro-batch's backward, with the step and its signals."""

    def after_step(self, step: Any) -> None:
        """After the optimizers have stepped."""

    def after_epoch(self, step: Any) -> None:
        """After the last step that began in an epoch."""

    def state_dict(self) -> State:
        """What has to be saved: a flat dict of tensors, numbers and strings."""
        return {}

    def load_state_dict(self, state: State) -> None:
        """Take back what `state_dict` gave."""


class Controller(Stateful):
    """A number that moves while training. Subclasses set `value` in `begin` (schedules) or in `update` (feedback).

    Raises:
        BadInput: read outside a stage that owns it (it was never begun, so its value would be stale).
    """

    _value: float | None = None
    _begun: bool = False

    @property
    def value(self) -> float:
        """The number as it is at this step."""
        if self._value is None or not self._begun:
            raise BadInput(
                f"{type(self).__name__} was read in a stage that does not own it, so its value is stale; "
                "make it a visible field of the objective, distance or teacher that reads it, or list it in Stage(parts=...)"
            )
        return self._value

    @value.setter
    def value(self, value: float) -> None:
        self._value = value

    def begin(self, clock: Clock) -> None:
        """Before a step's forward pass: where a schedule sets its value."""

    def update(self, record: Record) -> None:
        """After a training step: where feedback moves the value."""

    def open(self) -> None:
        """The stage that owns this controller has begun."""
        self._begun = True

    def close(self) -> None:
        """The stage that owns this controller is over."""
        self._begun = False

    def state_dict(self) -> State:
        """The value; feedback controllers with more state extend this."""
        return {} if self._value is None else {"value": self._value}

    def load_state_dict(self, state: State) -> None:
        """Take back the value."""
        if "value" in state:
            self._value = float(state["value"])


Number: TypeAlias = float | Controller


def value_of(number: Number) -> float:
    """The number as it is now: a float itself, or what its controller holds."""
    return number.value if isinstance(number, Controller) else number


class LinearRamp(Controller):
    """Moves on a straight line over a stage; build it with `linear_ramp`."""

    def __init__(self, start: float, end: float, over: float) -> None:
        self.start, self.end, self.over = start, end, over

    def begin(self, clock: Clock) -> None:
        """Value = start + (end - start) * min(1, step / (over * (steps - 1)))."""
        span = self.over * max(clock.steps - 1, 1)
        self.value = self.start + (self.end - self.start) * min(1.0, clock.step / span)

    def __repr__(self) -> str:
        return f"linear_ramp({self.start}, {self.end}, over={self.over})"


class PerEpoch(Controller):
    """Changes once an epoch; build it with `per_epoch`."""

    def __init__(self, function: Callable[[int, float], float]) -> None:
        self.function = function

    def begin(self, clock: Clock) -> None:
        """Value = function(epoch, epochs)."""
        self.value = float(self.function(clock.epoch, clock.epochs))


def per_epoch(function: Callable[[int, float], float]) -> PerEpoch:
    """A number that is a function of the epoch.

    Args:
        function: `(epoch, epochs) -> value`; the epoch of a step's first sample, counted from 0, and the passes that the stage amounts to.

    Returns:
        A controller.
    """
    return PerEpoch(function)


def linear_ramp(start: float, end: float, over: float = 1.0) -> LinearRamp:
    """A number that goes in a straight line from `start` at a stage's first step to `end`, and stays there.

    Args:
        start: value at the first step.
        end: value from the share `over` of the stage's steps on.
        over: share of the stage's steps the way takes, in (0, 1].

    Returns:
        A controller; use it wherever a coefficient, temperature or margin is accepted.

    Raises:
        BadInput: `over` outside (0, 1].
    """
    if not 0 < over <= 1:
        raise BadInput(f"linear_ramp(over={over}): expected a share of the stage's steps in (0, 1]")
    return LinearRamp(start, end, over)


class During(Controller):
    """1 in some steps of a stage, else 0; build it with `during`."""

    def __init__(self, first: int, after: int) -> None:
        self.first, self.after = first, after

    def begin(self, clock: Clock) -> None:
        """Value = 1 where first <= step < after, else 0."""
        self.value = float(self.first <= clock.step < self.after)

    def __repr__(self) -> str:
        return f"during({self.first}, {self.after})"


class Drawn(Controller):
    """1 in the steps in which its number is drawn, else 0; build it with `drawn`."""

    def __init__(self, number: int, of: int, name: str) -> None:
        self.number, self.of, self.name = number, of, name

    def begin(self, clock: Clock) -> None:
        """Value = 1 where the number that is drawn for this step is its own, else 0."""
        self.value = float(derive(self.name, clock.seed, clock.stage, clock.step) % self.of == self.number)

    def __repr__(self) -> str:
        return f"drawn({self.number}, of={self.of})"


def during(first: int, after: int) -> During:
    """A number that is 1 in a stage's steps from `first` up to the one before `after`, and 0 in the others: `Write(when=...)`.

    Raises:
        BadInput: a first step below 0, or an end before it.
    """
    if not 0 <= first <= after:
        raise BadInput(f"during({first}, {after}): expected 0 <= first <= after")
    return During(first, after)


def drawn(number: int, of: int, name: str = "drawn") -> Drawn:
    """A number that is 1 in the steps in which `number` is drawn among 0 ... of - 1, and 0 in the others.

    All that are made with one `of` and `name` look at one draw, a function of the run's seed and the step: exactly one of them is 1.

    Raises:
        BadInput: a number that cannot be drawn.
    """
    if not 0 <= number < of:
        raise BadInput(f"drawn({number}, of={of}): expected a number from 0 to {of - 1}")
    return Drawn(number, of, name)
