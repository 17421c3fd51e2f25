"""Action: a part of a plan that is no training, done once between stages."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, TypeAlias

from torch import Tensor

from tutelage.errors import BadInput, Mismatch, in_short
from tutelage.signals import Model

if TYPE_CHECKING:
    from tutelage.training.run import Run

Values: TypeAlias = "Mapping[str, Tensor | float | int | str | bool]"


class Action:
    """A part of a plan that is no training: generate, mine, select, fit a normaliser, search. Done once; a resumed run takes its result.

    Args:
        name: unique in the plan.
        run: does the work: `run -> result`, tensors and plain values by name. Every process calls it, and must come to the same result.
            What it draws it draws by names and the run's seed; files of its own it keeps below the run's folder.

    Raises:
        BadInput: the result is asked for before the work is done.
    """

    def __init__(self, name: str, run: Callable[[Run], Values]) -> None:
        self.name, self.run = name, run
        self._result: Values | None = None

    @property
    def done(self) -> bool:
        """Whether the result is there."""
        return self._result is not None

    @property
    def result(self) -> Values:
        """What it gave, for stages after it that read it when they open: ``Stage(data=lambda: chosen(action.result))``."""
        if self._result is None:
            raise BadInput(
                f"the result of the action {self.name!r} was asked for before it was done; a stage after it may read it when it opens"
            )
        return self._result

    def take(self, result: Values) -> None:
        """Take the result of the work.

        Raises:
            BadInput: something in it is neither a tensor nor a plain value.
        """
        for key, value in result.items():
            if not isinstance(value, (Tensor, float, int, str)):
                raise BadInput(f"the action {self.name!r} gave {key!r} of {type(value).__name__}; expected tensors, numbers and texts")
        self._result = dict(result)


class SameWeights(Action):
    """A student takes the weights of another model of its shape, as they are when the plan comes to it; a resumed run takes them again.

    Args:
        student: takes them.
        of: gives them; its parameters and buffers have the student's names and shapes.
        name: of the action.

    Raises:
        Mismatch: when it is done: names or shapes differ.
    """

    def __init__(self, student: Model, of: Model, name: str = "same-weights") -> None:
        super().__init__(name, lambda run: {key: value.detach().cpu().clone() for key, value in of.module.state_dict().items()})
        self.student, self.of = student, of

    def take(self, result: Values) -> None:
        """Put the weights into the student."""
        super().take(result)
        try:
            self.student.module.load_state_dict({key: value for key, value in result.items() if isinstance(value, Tensor)})
        except RuntimeError as error:
            raise Mismatch(f"the weights of {self.of.name} do not fit {self.student.name}: {in_short(error, 300)}") from None
