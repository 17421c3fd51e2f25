"""Trajectory: the way that a model takes while it trains, kept as snapshots on disk and read back one by one.

Snapshots are named by stage and step, so several stages (one expert each) may share a trajectory. What a resumed run writes again is the
same to the last bit, so a file is either there and right, or missing.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, overload

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from tutelage.errors import BadInput, MissingFile, nearest
from tutelage.state import State, Stateful
from tutelage.training.checkpoint import DamagedCheckpoint

Snapshot = dict[str, Tensor]
"""A model's parameters and buffers by bare name."""
Place = tuple[str, int]
"""Stage, and updates done in it."""


class Trajectory(Stateful, Sequence[Snapshot]):
    """Snapshots of a model: before a stage's first update (its statistics have then seen one batch), after each `every`-th, after the last.

    Below the run's folder in `trajectories/NAME/STAGE/STEP.safetensors`, written by the first process; in memory where a run has no
    folder. Checkpoints only list them. Name it in `Stage(parts=[...])` of each stage whose model it shall follow; a stage that merely
    reads it must hold it too (its loss, a teacher, its parts), which tells it where the run's folder is, and says so with
    ``trajectory.reader()``.

    Args:
        every: updates between two snapshots.
        learner: whose model is followed; None follows the stage's first.
        name: of its folder; two trajectories of a plan need two.

    Raises:
        BadInput: `every` below 1.
    """

    def __init__(self, every: int, learner: str | None = None, name: str = "trajectory") -> None:
        if every < 1:
            raise BadInput(f"Trajectory(every={every}): expected at least 1")
        self.every, self.learner, self.name = every, learner, name
        self._places: list[Place] = []
        self._folder: Path | None = None
        self._memory: dict[Place, Snapshot] = {}

    def begin_stage(self, run: Any) -> None:
        """Find out where snapshots are kept."""
        self._folder = None if run.folder is None else Path(run.folder) / "trajectories" / self.name

    def after_batch(self, step: Any) -> None:
        """Keep the model as it is before the first update."""
        if step.clock.step == 0 and step.turn == 0 and step.micro == 0:
            self._keep(step, 0)

    def after_step(self, step: Any) -> None:
        """Keep the model where it is time."""
        done = step.clock.step + 1
        if done % self.every == 0 or done == step.clock.steps:
            self._keep(step, done)

    @torch.no_grad()
    def _keep(self, step: Any, done: int) -> None:
        models = step.learners
        if self.learner is not None and self.learner not in models:
            raise BadInput(f"Trajectory(learner={self.learner!r}): there are {list(models)}{nearest(self.learner, models)}")
        model = models[next(iter(models)) if self.learner is None else self.learner]
        place = (step.clock.stage, done)
        if place not in self._places:
            self._places.append(place)
        if self._folder is None:
            self._memory[place] = {name: value.detach().cpu().clone() for name, value in model.module.state_dict().items()}
        elif step.rank == 0:
            found = {name: value.detach().cpu().contiguous() for name, value in model.module.state_dict().items()}
            seen: set[int] = set()
            for name, value in found.items():  # tied weights share storage, which the format refuses
                found[name] = value.clone() if value.data_ptr() in seen else value
                seen.add(value.data_ptr())
            _write(self._path(place), save(found))

    def _path(self, place: Place) -> Path:
        assert self._folder is not None
        return self._folder / place[0] / f"{place[1]:09d}.safetensors"

    @property
    def places(self) -> list[Place]:
        """The stage and the updates done of each snapshot, in the order in which they were taken."""
        return list(self._places)

    @property
    def stages(self) -> list[str]:
        """The stages that left snapshots, in their order."""
        return list(dict.fromkeys(stage for stage, _ in self._places))

    def __len__(self) -> int:
        return len(self._places)

    @overload
    def __getitem__(self, index: int) -> Snapshot: ...
    @overload
    def __getitem__(self, index: slice) -> TrajectoryPart: ...
    def __getitem__(self, index: int | slice) -> Snapshot | TrajectoryPart:
        """A snapshot, read now; or several, each read when it is asked for.

        Raises:
            MissingFile: it was deleted.
            DamagedCheckpoint: it cannot be read.
        """
        if isinstance(index, slice):
            return TrajectoryPart(self, self._places[index])
        return self.read(self._places[index])

    def of(self, stage: str) -> TrajectoryPart:
        """The snapshots of one stage, each read when it is asked for.

        Raises:
            BadInput: the stage left none.
        """
        found = [place for place in self._places if place[0] == stage]
        if not found:
            raise BadInput(f"stage {stage!r} left no snapshots; there are those of {self.stages or 'none'}{nearest(stage, self.stages)}")
        return TrajectoryPart(self, found)

    def segment(self, stage: str, start: int, length: int) -> TrajectoryPart:
        """`length` + 1 neighbouring snapshots of a stage, from its `start`-th on: where an inner loop starts, what it passes, where it
        shall arrive.

        Raises:
            BadInput: the stage has not so many.
        """
        path = self.of(stage)
        if not 0 <= start <= start + length < len(path):
            raise BadInput(f"stage {stage!r} left {len(path)} snapshots; there is no segment of {length} from {start} on")
        return path[start : start + length + 1]

    def read(self, place: Place) -> Snapshot:
        """The snapshot of a stage after so many updates.

        Raises:
            MissingFile: it was deleted, or never taken.
            DamagedCheckpoint: it cannot be read.
        """
        if self._folder is None:
            if place not in self._memory:
                raise MissingFile(f"there is no snapshot of stage {place[0]!r} after {place[1]} updates")
            return {name: value.clone() for name, value in self._memory[place].items()}
        path = self._path(place)
        try:
            return load(path.read_bytes())
        except FileNotFoundError:
            raise MissingFile(f"snapshot {path} is missing; delete the run's folder and begin again") from None
        except (OSError, SafetensorError) as error:
            raise DamagedCheckpoint(f"snapshot {path} is damaged ({error}); delete the run's folder and begin again") from None

    def reader(self) -> TrajectoryReader:
        """What a stage holds that only reads the trajectory: nothing is kept of its own models."""
        return TrajectoryReader(self)

    def clear(self) -> None:
        """Delete all snapshots, once nothing needs them any more."""
        self._memory.clear()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)

    def state_dict(self) -> State:
        """Which snapshots there are; what they hold stays where it is."""
        return {"places": json.dumps(self._places)}

    def load_state_dict(self, state: State) -> None:
        """Take back which snapshots there are."""
        self._places = [(str(stage), int(step)) for stage, step in json.loads(str(state["places"]))]


class TrajectoryPart(Sequence[Snapshot]):
    """Some snapshots of a trajectory, each read when it is asked for.

    Args:
        trajectory: holds them.
        places: which.
    """

    def __init__(self, trajectory: Trajectory, places: Sequence[Place]) -> None:
        self.trajectory, self.places = trajectory, list(places)

    def __len__(self) -> int:
        return len(self.places)

    @overload
    def __getitem__(self, index: int) -> Snapshot: ...
    @overload
    def __getitem__(self, index: slice) -> TrajectoryPart: ...
    def __getitem__(self, index: int | slice) -> Snapshot | TrajectoryPart:
        if isinstance(index, slice):
            return TrajectoryPart(self.trajectory, self.places[index])
        return self.trajectory.read(self.places[index])

    def __reversed__(self) -> Iterator[Snapshot]:
        return (self.trajectory.read(place) for place in reversed(self.places))


class TrajectoryReader(Stateful):
    """A stage's hold on a trajectory that it only reads; `reader.trajectory` is the thing itself.

    Args:
        trajectory: what is read.
    """

    def __init__(self, trajectory: Trajectory) -> None:
        self._of = lambda: trajectory  # hidden from the walk, which would let the trajectory follow this stage's models

    @property
    def trajectory(self) -> Trajectory:
        """What is read."""
        return self._of()

    def begin_stage(self, run: Any) -> None:
        """Tell the trajectory where the run's folder is."""
        self.trajectory.begin_stage(run)


def _write(path: Path, content: bytes) -> None:
    """Write a file, all or nothing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with beside.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)
