"""Write: change what a module takes or gives while a student runs, by what its teacher showed on the same batch; the model is not edited.

A write is carried out by a hook of the student's `Watch`, at the module's first call in a pass. The hooks of a stage are installed once,
and `when` says at each step whether they do anything.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from torch import Tensor

from tutelage.errors import BadInput, ShapeMismatch
from tutelage.signals.outputs import first_tensor
from tutelage.signals.signals import Batch, Signals
from tutelage.signals.taps import LOGITS, Depth, Tap
from tutelage.state import Number, value_of


@dataclass(frozen=True)
class Seen:
    """What a write may look at.

    Args:
        teacher: what the teacher showed on the batch; None where nobody was asked.
        batch: its columns.
        student: what the student has shown in this pass so far, at the paths that the write `sees`; with a way back for gradients.
    """

    teacher: Signals | None
    batch: Batch
    student: Mapping[str, Tensor]


By: TypeAlias = "Tap | Callable[[Tensor, Seen], Tensor]"


@dataclass(frozen=True)
class Write:
    """Change what the module at a path takes or gives, in the passes that train its model and in no others.

    Args:
        path: module path in the student.
        by: the teacher's tap whose tensor is put there, or a function of (the student's own tensor, `Seen`) that gives what is.
        reads: the teacher's taps that a function looks at; they are asked for with those of the objective.
        sees: the student's paths that a function looks at, modules that run before this one.
        side: what the module gives, or what it takes: the first tensor of it.
        when: 0 turns it off; a controller turns it on and off while training.

    Raises:
        BadInput: another side, or a path that is none.

    Relations: a tap at a path that is written shows the student's own tensor, as it was before.
    """

    path: str
    by: By
    reads: Collection[Tap] = ()
    sees: Collection[str] = ()
    side: Literal["output", "input"] = "output"
    when: Number = 1.0

    def __post_init__(self) -> None:
        if self.side not in ("output", "input"):
            raise BadInput(f"Write(side={self.side!r}): expected 'output' or 'input'")
        if not isinstance(self.path, str) or self.path in ("", LOGITS):
            raise BadInput(f"Write(path={self.path!r}): expected the path of a module inside the student")
        for path in self.sees:
            if not isinstance(path, str) or path in ("", LOGITS):
                raise BadInput(f"Write(sees={path!r}): expected paths of modules inside the student")

    @property
    def taps(self) -> frozenset[Tap]:
        """The teacher's taps that it needs."""
        own = {self.by} if isinstance(self.by, (str, Depth)) else set()
        return frozenset(self.reads) | own

    @property
    def on(self) -> bool:
        """Whether it does anything now."""
        return value_of(self.when) != 0

    def made(self, own: Tensor, seen: Seen) -> Tensor:
        """What is put in place of the student's own tensor.

        Raises:
            BadInput: a teacher's tap, and no teacher.
            ShapeMismatch: it has another shape.
        """
        if isinstance(self.by, (str, Depth)):
            if seen.teacher is None:
                raise BadInput(
                    f"the write at {self.path!r} puts a teacher's tensor there, but nobody was asked; give Learner(..., teacher=...)"
                )
            new = seen.teacher[self.by]
        else:
            new = self.by(own, seen)
        if not isinstance(new, Tensor):
            raise BadInput(f"the write at {self.path!r} made a {type(new).__name__}; expected a tensor")
        if new.shape != own.shape:
            raise ShapeMismatch(
                f"the write at {self.path!r} puts {tuple(new.shape)} in place of {tuple(own.shape)}; expected the same shape: "
                "a teacher of the same width and number of tokens, or a function that makes it fit"
            )
        return new.to(own.dtype)


def detached(own: Tensor, seen: Seen) -> Tensor:
    """Leave the tensor as it is and stop gradients there: `Write(path, by=detached, side="input")`."""
    return own.detach()


def taps_of(writes: Collection[Write]) -> frozenset[Tap]:
    """The teacher's taps that writes need."""
    return frozenset(tap for write in writes for tap in write.taps)


def with_first(given: Any, new: Callable[[Tensor], Tensor], path: str) -> Any:
    """What a module took or gave, with its first tensor replaced.

    Args:
        given: a tensor, or a tuple, list, mapping or dataclass whose first tensor stands at any depth.
        new: makes the tensor in its place from it.
        path: for messages.

    Raises:
        BadInput: it holds no tensor.
    """
    if isinstance(given, Tensor):
        return new(given)
    if first_tensor(given) is not None:
        if isinstance(given, Mapping):
            key = next(k for k, v in given.items() if first_tensor(v) is not None)
            changed = with_first(given[key], new, path)
            return type(given)(**{**given, key: changed}) if dataclasses.is_dataclass(given) else type(given)({**given, key: changed})  # type: ignore[call-arg]
        if isinstance(given, (tuple, list)):
            place = next(i for i, v in enumerate(given) if first_tensor(v) is not None)
            parts = [with_first(v, new, path) if i == place else v for i, v in enumerate(given)]
            return type(given)(*parts) if hasattr(given, "_fields") else type(given)(parts)
        name = next(f.name for f in dataclasses.fields(given) if first_tensor(getattr(given, f.name)) is not None)
        return dataclasses.replace(given, **{name: with_first(getattr(given, name), new, path)})
    raise BadInput(f"the write at {path!r} found no tensor to change: its module took or gave a {type(given).__name__}")
