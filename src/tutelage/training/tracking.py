"""Tracking: what a job writes to metrics.jsonl goes to experiment trackers, too: TensorBoard, Weights & Biases, MLflow, ...

Accelerate starts them and talks to them. Steps count the updates of the whole job, all plans one after the other, so that they only rise:
some trackers drop what comes with an earlier step. A resumed run goes on at the same count. Nothing of the run depends on a tracker: one
that fails under way is reported once and left out from then on.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

from tutelage.errors import BadInput, nearest

if TYPE_CHECKING:
    from accelerate import Accelerator

    from tutelage.training.plan import Plan

Track: TypeAlias = Callable[[Mapping[str, Any]], None]
"""Takes a line of metrics.jsonl."""

PROJECT = "tutelage"


def tracker_names(given: str | Iterable[str]) -> tuple[str, ...]:
    """The trackers that were asked for.

    Args:
        given: names, or one text with commas between them; each is taken once.

    Raises:
        BadInput: Accelerate knows no such tracker (names the nearest), or its package is not installed.
    """
    listed = given.split(",") if isinstance(given, str) else given
    names = tuple(dict.fromkeys(str(each).strip() for each in listed if str(each).strip()))
    if not names:
        return ()
    from accelerate.tracking import LOGGER_TYPE_TO_CLASS, get_available_trackers
    from accelerate.utils import LoggerType

    for name in names:
        if name not in LOGGER_TYPE_TO_CLASS:
            raise BadInput(
                f"--track {name}: no tracker of this name is known{nearest(name, LOGGER_TYPE_TO_CLASS)}; "
                f"expected one of {', '.join(LOGGER_TYPE_TO_CLASS)}"
            )
        if name in LoggerType.list() and name not in map(str, get_available_trackers()):
            raise BadInput(f"--track {name}: the package {name} is not installed; pip install {name.replace('_', '-')}")
    return names


@contextlib.contextmanager
def tracking(accelerator: Accelerator, plans: Mapping[str, Plan], settings: Mapping[str, Any]) -> Iterator[Tracking]:
    """Start the accelerator's trackers, and end them whatever happens; does nothing where it has none.

    Args:
        accelerator: as `make_accelerator` made it.
        plans: by what they make, in the order in which they run; an empty name adds nothing to the names of values.
        settings: shown as the run's configuration, nested mappings flattened.

    Raises:
        BadInput: a tracker cannot start.
    """
    begun = Tracking(accelerator, plans)
    try:
        if accelerator.log_with:
            begun.start(settings)
        yield begun
    finally:
        begun.finish()


class Tracking:
    """The trackers of one job while it runs; made by `tracking`.

    Args:
        accelerator: what starts them and talks to them.
        plans: by what they make, in the order in which they run.
    """

    def __init__(self, accelerator: Accelerator, plans: Mapping[str, Plan]) -> None:
        self.accelerator = accelerator
        self.begins: dict[tuple[str, str], int] = {}
        self.updates = 0
        for label, plan in plans.items():
            for stage in plan.stages:
                self.begins[label, stage.name] = self.updates
                self.updates += stage.updates()

    def start(self, settings: Mapping[str, Any]) -> None:
        """Start all trackers.

        Raises:
            BadInput: one of them cannot start.
        """
        try:
            self.accelerator.init_trackers(PROJECT, config={name: _shown(value) for name, value in flat(settings, ".").items()})
        except Exception as error:
            begun, self.accelerator.trackers = self.accelerator.trackers, []
            for each in begun:
                with contextlib.suppress(Exception):  # it may not have begun at all
                    each.finish()
            names = ",".join(map(str, self.accelerator.log_with))
            raise BadInput(f"--track {names}: cannot start: {type(error).__name__}: {error}") from error

    def of(self, label: str) -> Track:
        """What takes the lines of a plan's metrics.jsonl."""

        def take(line: Mapping[str, Any]) -> None:
            head = "/".join(filter(None, (label, line["stage"])))
            values = {f"{head}/{k}": v for k, v in flat(line, "/").items() if k not in ("stage", "step")}
            self.log(values, self.begins[label, line["stage"]] + line["step"])

        return take

    def last(self, report: Mapping[str, Any]) -> None:
        """Give the numbers of a report that belong to a model or a comparison, at the job's last step."""
        groups = {k: v for k, v in report.items() if isinstance(v, Mapping)}
        self.log({f"report/{k}": v for k, v in flat(groups, "/").items()}, self.updates)

    def log(self, values: Mapping[str, Any], step: int) -> None:
        """Give numbers at a step of the job; what is no number is left out."""
        numbers = {k: v for k, v in values.items() if isinstance(v, (int, float)) and not isinstance(v, bool)}
        try:
            self.accelerator.log(numbers, step=step)
        except Exception as error:
            print(f"warning: tracking has failed and ends here ({type(error).__name__}: {error}); the run goes on", file=sys.stderr)
            self.finish()

    def finish(self) -> None:
        """End all trackers."""
        # not end_training: it would also take down the group of processes, and a script may go on to its next job
        trackers, self.accelerator.trackers = self.accelerator.trackers, []
        for each in trackers:
            try:
                each.finish()
            except Exception as error:
                print(f"warning: tracker {each.name} did not end well ({type(error).__name__}: {error})", file=sys.stderr)


def flat(values: Mapping[str, Any], between: str) -> dict[str, Any]:
    """Nested mappings as one, the keys of each path joined."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            found |= {f"{name}{between}{rest}": each for rest, each in flat(value, between).items()}
        else:
            found[str(name)] = value
    return found


def _shown(value: Any) -> bool | int | float | str:
    """A setting as trackers take it: they know no null and no lists."""
    if isinstance(value, (bool, int, float, str)):
        return value
    return ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else "null" if value is None else str(value)
