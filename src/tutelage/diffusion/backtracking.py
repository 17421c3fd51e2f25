"""Backtracking: a teacher that walks back, snapshot by snapshot, the way on which it was spoilt."""

from __future__ import annotations

from tutelage.errors import BadInput
from tutelage.signals import Model
from tutelage.state import Clock, Controller
from tutelage.training.trajectory import Trajectory


class Backtracking(Controller):
    """Puts a snapshot of a trajectory into a model before each step: the last but one at first, then earlier ones, at last the teacher.

    Its value is the number of the snapshot, 0 for the teacher. Name it in `Stage(parts=[...])`, beside ``trajectory.reader()``.

    Args:
        target: the model whose weights are changed.
        teacher: whose weights it has from the end of the walk on.
        trajectory: of one stage, which began at the teacher.
        walk: share of the stage's updates that are spent on snapshots, evenly, in [0, 1]; the teacher has the rest.

    Raises:
        BadInput: a share outside [0, 1].

    Source: Zhang et al., "Distribution Backtracking Builds A Faster Convergence Trajectory for Diffusion Distillation", 2024, algorithm 2.
    """

    def __init__(self, target: Model, teacher: Model, trajectory: Trajectory, walk: float) -> None:
        if not 0 <= walk <= 1:
            raise BadInput(f"walk={walk}: expected a share of the updates, in [0, 1]")
        self.walk = walk
        self._of = lambda: (target, teacher, trajectory)  # hidden from the walk over what a stage trains
        self._now: int | None = None

    def node(self, step: int, steps: int, snapshots: int) -> int:
        """Which snapshot is the target at a step; 0 is the teacher.

        Args:
            step: updates done.
            steps: of the stage.
            snapshots: of the trajectory, the first one included.
        """
        walked = int(self.walk * steps)
        nodes = snapshots - 2  # neither the teacher, nor the last, where the fake denoiser begins
        return max(0, nodes - step * nodes // walked) if step < walked and nodes > 0 else 0

    def begin(self, clock: Clock) -> None:
        """Change the weights where it is time."""
        target, teacher, trajectory = self._of()
        now = self.node(clock.step, clock.steps, len(trajectory))
        if now != self._now:
            target.module.load_state_dict(teacher.module.state_dict() if now == 0 else trajectory[now])
            self._now = now
        self.value = float(now)

    def close(self) -> None:
        """The stage is over: another one begins anew."""
        super().close()
        self._now = None
