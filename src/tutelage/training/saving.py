"""Saver: what of a plan goes into checkpoints and stage results, and how it comes back."""

from __future__ import annotations

import json
import shutil
from collections.abc import Collection
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tutelage.errors import Mismatch, NotFinite, in_short
from tutelage.objectives import Objective
from tutelage.training import checkpoint
from tutelage.training.action import Action
from tutelage.training.opened import Opened
from tutelage.training.opening import open_stage
from tutelage.training.parts import stateful_parts
from tutelage.training.plan import Learner, Plan, Stage
from tutelage.training.run import Run


@dataclass
class Saved:
    """Where a stage stands: updates done, length of metrics.jsonl then, best validation accuracy so far, what the journal had gathered."""

    step: int = 0
    offset: int | None = None
    best: float = float("-inf")
    journal: dict[str, Any] = field(default_factory=dict)


class Saver:
    """Writes and reads one run's folder: `checkpoints/` while a stage runs, `stages/NN-name/` once it is done."""

    def __init__(self, run: Run, plan: Plan) -> None:
        self.run, self.plan = run, plan
        self.identity: dict[str, Any] = {}
        self._best: dict[str, dict[str, Tensor]] = {}

    def finished(self, index: int) -> bool:
        """Whether the result of a stage or action is there."""
        return self.run.folder is not None and self._result(index).is_dir()

    def take_finished(self, index: int) -> None:
        """Load a finished stage's models, parts, and the objectives that later stages go on with; or an action's result."""
        tensors, state = checkpoint.read(self._result(index))
        stage = self.plan.parts[index]
        checkpoint.compare_identity(state["identity"], self._plan_identity(), self._result(index))
        self._clear(index)
        if isinstance(stage, Action):
            stage.take({**tensors, **state["result"]})
            return
        after = [part for part in self.plan.parts[index + 1 :] if isinstance(part, Stage)]
        later = {id(m) for part in after for each in part.named.values() for m in _objectives(each)}
        shared = {name for name, each in stage.named.items() if any(id(m) in later for m in _objectives(each))}
        if shared:
            with open_stage(self.run, stage, index):  # the dry run builds the connectors that are loaded below
                pass
        self._load(stage, tensors, state, self._result(index), objectives=shared)

    def describe(self, opened: Opened) -> None:
        """Note what a checkpoint of this stage must agree with."""
        parameters = {name: list(p.shape) for name, p in opened.parameters.items()}
        self.identity = {**self._plan_identity(), "parameters": parameters}
        self._best = {}

    def _plan_identity(self) -> dict[str, Any]:
        stages = {f"{i:02d}-{part.name}": _part_identity(part) for i, part in enumerate(self.plan.parts)}
        limit = {} if self.run.limit is None else {"limit": self.run.limit}
        identity = {**self.run.identity, "seed": self.run.seed, **limit, "stages": stages}
        return json.loads(json.dumps(identity, default=str))  # as it comes back from a file

    def save(self, opened: Opened, now: Saved) -> None:
        """Write a checkpoint and delete the oldest."""
        folder = self._checkpoints()
        if folder is None:
            return
        self.share_buffers(opened)
        if self.run.rank == 0:
            tensors, state = self._gather(opened.stage, opened)
            state |= {**asdict(now), "identity": self.identity, "best": None if now.best == float("-inf") else now.best}
            checkpoint.write_atomically(folder / f"{opened.index:02d}-step-{now.step:09d}", tensors, state)
            checkpoint.prune(folder, opened.index)
        self.run.accelerator.wait_for_everyone()

    def restore(self, opened: Opened) -> Saved:
        """Take the newest checkpoint of the stage, if there is one.

        Raises:
            Mismatch: it belongs to another plan.
            DamagedCheckpoint: it cannot be read.
        """
        folder = self._checkpoints()
        found = None if folder is None else checkpoint.newest(folder, opened.index)
        if found is None:
            return Saved(offset=self._offset_before(opened.index))
        tensors, state = checkpoint.read(found)
        checkpoint.compare_identity(state["identity"], self.identity, found)
        self._load(opened.stage, tensors, state, found, opened=opened)
        best = state["best"]
        return Saved(state["step"], state["offset"], float("-inf") if best is None else best, state["journal"])

    def _offset_before(self, index: int) -> int:
        return 0 if index == 0 or self.run.folder is None else checkpoint.read(self._result(index - 1))[1]["offset"]

    def finish(self, opened: Opened, best: dict[str, bool], offset: int) -> None:
        """Load the best weights where they are wanted, write the stage's result, and delete its checkpoints.

        Args:
            opened: the stage.
            best: for each learner, whether its best weights are wanted.
            offset: length of metrics.jsonl.
        """
        folder = self._checkpoints()
        self.share_buffers(opened)
        self.run.accelerator.wait_for_everyone()
        for name in (n for n, wanted in best.items() if wanted):
            kept = self._best.get(name)
            if folder is not None and (folder / f"{opened.index:02d}-best-{name}").is_dir():
                kept, _ = checkpoint.read(folder / f"{opened.index:02d}-best-{name}")
            if kept is not None:
                _load_models(opened.learners[name], kept, name, "the best weights")
        if folder is None:
            return
        if self.run.rank == 0:
            tensors, state = self._gather(opened.stage, None)
            state |= {"identity": self._plan_identity(), "step": opened.steps, "offset": offset}
            checkpoint.write_atomically(self._result(opened.index), tensors, state)
        self._clear(opened.index)
        self.run.accelerator.wait_for_everyone()

    def keep(self, action: Action, index: int) -> None:
        """Write an action's result."""
        if self.run.folder is not None and self.run.rank == 0:
            tensors = {name: value for name, value in action.result.items() if isinstance(value, Tensor)}
            plain = {name: value for name, value in action.result.items() if name not in tensors}
            state = {"identity": self._plan_identity(), "offset": self._offset_before(index), "result": plain}
            checkpoint.write_atomically(self._result(index), tensors, state)
        self.run.accelerator.wait_for_everyone()

    def _clear(self, index: int) -> None:
        """Delete a finished stage's checkpoints; also asked for on resume, since a run may be killed right before."""
        folder = self._checkpoints()
        if self.run.rank == 0 and folder is not None:
            for old in folder.glob(f"{index:02d}-*"):
                shutil.rmtree(old, ignore_errors=True)
            for each in (folder, self._result(index).parent):
                checkpoint.sweep(each)

    def save_best(self, opened: Opened, name: str, step: int, value: float) -> None:
        """Keep the weights of a learner that has just been the best."""
        folder = self._checkpoints()
        tensors = _models_of(opened.learners[name], name)
        if folder is None:
            self._best[name] = {k: v.detach().clone() for k, v in tensors.items()}
        if folder is None or self.run.rank != 0:
            return
        checkpoint.write_atomically(folder / f"{opened.index:02d}-best-{name}", tensors, {"step": step, "worth": value})

    def check_finite(self, opened: Opened, step: int) -> None:
        """Refuse to save weights that are not finite.

        Raises:
            NotFinite: names a parameter.
        """
        every = opened.parameters
        flags = torch.stack([torch.isfinite(p.detach()).all() for p in every.values()])
        if not bool(flags.all()):
            bad = next(n for n, good in zip(every, flags.tolist(), strict=True) if not good).partition("/")[2]
            raise NotFinite(
                f"parameter {bad!r} became NaN or infinite before step {step} of stage {opened.stage.name!r}; "
                f"the last good checkpoint is kept{f' in {self.run.folder}' if self.run.folder else ''}. Try a lower lr or a clip"
            )

    def share_buffers(self, opened: Opened) -> None:
        """Let all processes take the first one's buffers (batch-norm statistics), before they are saved or evaluated with."""
        if self.run.ranks == 1:
            return
        for learner in opened.learners.values():
            for model in learner.models.values():
                for buffer in model.module.buffers():
                    torch.distributed.broadcast(buffer, 0)

    def _gather(self, stage: Stage, opened: Opened | None) -> tuple[dict[str, Tensor], dict[str, Any]]:
        tensors: dict[str, Tensor] = {}
        state: dict[str, Any] = {"parts": {}, "optimizers": {}}
        for name, learner in stage.named.items():
            tensors |= _models_of(learner, name)
            if isinstance(learner.loss, Objective):
                tensors |= {f"objective/{name}/{k}": v for k, v in learner.loss.state_dict().items()}
        for path, part in (stateful_parts(stage) if opened is None else opened.parts).items():
            found, rest = checkpoint.split_state(part.state_dict(), f"part/{path}")
            tensors |= found
            state["parts"][path] = rest
        if opened is not None:
            for name, optimizer in opened.optimizers.items():
                found, rest = checkpoint.optimizer_state(optimizer, f"optimizer/{name}")
                tensors |= found
                state["optimizers"][name] = rest
            for name, average in opened.averages.items():
                tensors |= {f"average/{name}/{k}": v for k, v in average.mean.items()}
            scaler = self.run.accelerator.scaler
            state["scaler"] = None if scaler is None else scaler.state_dict()
        return tensors, state

    def _load(
        self,
        stage: Stage,
        tensors: dict[str, Tensor],
        state: dict[str, Any],
        where: Path,
        opened: Opened | None = None,
        objectives: Collection[str] | None = None,
    ) -> None:
        for name, learner in stage.named.items():
            _load_models(learner, tensors, name, where)
            if isinstance(learner.loss, Objective) and (objectives is None or name in objectives):
                _fill(learner.loss, checkpoint.with_prefix(tensors, f"objective/{name}"), f"the objective of learner {name!r}", where)
        for path, part in (stateful_parts(stage) if opened is None else opened.parts).items():
            part.load_state_dict({**checkpoint.with_prefix(tensors, f"part/{path}"), **state["parts"].get(path, {})})
        if opened is None:
            return
        for name, optimizer in opened.optimizers.items():
            checkpoint.restore_optimizer(optimizer, checkpoint.with_prefix(tensors, f"optimizer/{name}"), state["optimizers"][name])
        for name, average in opened.averages.items():
            for key, value in checkpoint.with_prefix(tensors, f"average/{name}").items():
                average.mean[key].copy_(value)
        if state.get("scaler") and self.run.accelerator.scaler is not None:
            self.run.accelerator.scaler.load_state_dict(state["scaler"])

    def _checkpoints(self) -> Path | None:
        return None if self.run.folder is None else self.run.folder / "checkpoints"

    def _result(self, index: int) -> Path:
        assert self.run.folder is not None
        return self.run.folder / "stages" / f"{index:02d}-{self.plan.parts[index].name}"


def _objectives(learner: Learner) -> list[nn.Module]:
    """A learner's objective and all those inside it, which another stage may share."""
    return [m for m in learner.loss.modules() if isinstance(m, Objective)] if isinstance(learner.loss, Objective) else []


def _models_of(learner: Learner, name: str) -> dict[str, Tensor]:
    return {f"model/{name}/{label}/{k}": v for label, model in learner.models.items() for k, v in model.module.state_dict().items()}


def _load_models(learner: Learner, tensors: dict[str, Tensor], name: str, where: Path | str) -> None:
    for label, model in learner.models.items():
        _fill(model.module, checkpoint.with_prefix(tensors, f"model/{name}/{label}"), model.name, where)


def _fill(module: nn.Module, tensors: dict[str, Tensor], name: str, where: Path | str) -> None:
    try:
        module.load_state_dict(tensors)
    except RuntimeError as error:
        raise Mismatch(f"{where} does not fit {name}: {in_short(error, 300)}") from None


def _part_identity(stage: Stage | Action) -> dict[str, Any]:
    if isinstance(stage, Action):
        return {"action": stage.name}
    learners = {
        name: {
            "every": each.every,
            "repeat": each.repeat,
            "fit": each.fit and asdict(each.fit),
            "groups": {k: dict(v) for k, v in each.groups.items()},
        }
        for name, each in stage.named.items()
    }
    return {"fit": asdict(stage.fit), "learners": learners, "order": stage.turns, "samples": stage.size()}
