"""Trajectories: snapshots of a model on its way, on disk, and what a resumed run finds of them."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tutelage.data import Table
from tutelage.errors import BadInput, Interrupted, MissingFile
from tutelage.objectives import CrossEntropy
from tutelage.signals import Model
from tutelage.state import Stateful
from tutelage.training import Fit, Learner, Plan, Run, RunOptions, Stage, Trajectory, train
from tutelage.training.checkpoint import DamagedCheckpoint

QUIET = RunOptions(device="cpu", quiet=True, share_every=0, checkpoint_every=2)
FIT = Fit(steps=7, batch_size=3, optimizer="sgd", lr=0.1)


class Stopped(Stateful):
    """Wishes to stop after so many steps of a stage."""

    def __init__(self, at: int) -> None:
        self.at = at

    def begin_stage(self, run):
        self.run = run

    def after_step(self, step):
        if step.clock.step + 1 == self.at and step.clock.stage == "second":
            self.run.stop_signal = 15


def table() -> Table:
    made = torch.Generator().manual_seed(3)
    return Table({"x": torch.randn(10, 3, generator=made), "y": torch.randint(4, (10,), generator=made)})


def plan_of(trajectory: Trajectory, *others: Stateful) -> tuple[Plan, list[Model]]:
    models = [Model(lambda: nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)), seed=k) for k in (1, 2)]
    stages = [
        Stage(name, Learner(m, CrossEntropy()), FIT, table(), parts=[trajectory, *others])
        for name, m in zip(("first", "second"), models, strict=True)
    ]
    return Plan(stages, models[-1]), models


def equal(one, other) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


@pytest.mark.parametrize("folder", [True, False])
def test_snapshots_are_taken_before_the_first_update_after_each_nth_and_after_the_last(tmp_path, folder):
    path = Trajectory(every=3)
    plan, models = plan_of(path)
    start = {k: v.clone() for k, v in models[0].module.named_parameters()}
    train(plan, Run(tmp_path / "run" if folder else None, options=QUIET))
    assert path.places == [(stage, step) for stage in ("first", "second") for step in (0, 3, 6, 7)]
    assert path.stages == ["first", "second"]
    assert len(path) == 8
    assert equal({k: v for k, v in path[0].items() if k in start}, start)
    assert equal(path[3], models[0].module.state_dict())
    assert equal(path.of("second")[-1], models[1].module.state_dict())
    assert equal(path[-1], path.read(("second", 7)))
    assert [equal(a, b) for a, b in zip(reversed(path.of("first")), [path[3], path[2], path[1], path[0]], strict=True)] == [True] * 4
    assert (tmp_path / "run" / "trajectories" / "trajectory" / "first" / "000000003.safetensors").is_file() == folder


def test_a_snapshot_is_what_a_shorter_training_ends_with(tmp_path):
    path = Trajectory(every=2)
    plan, _ = plan_of(path)
    train(plan, Run(tmp_path, options=QUIET))
    short = Model(lambda: nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)), seed=1)
    stage = Stage("first", Learner(short, CrossEntropy()), FIT, table())
    train(Plan([stage], short), Run(None, options=QUIET, limit=4))
    assert equal(path[2], short.module.state_dict())


def test_a_resumed_run_goes_on_with_the_trajectory(tmp_path):
    whole = Trajectory(every=2)
    train(plan_of(whole)[0], Run(tmp_path / "whole", options=QUIET))
    cut = Trajectory(every=2)
    with pytest.raises(Interrupted):
        train(plan_of(cut, Stopped(5))[0], Run(tmp_path / "cut", options=QUIET))
    again = Trajectory(every=2)
    train(plan_of(again, Stopped(-1))[0], Run(tmp_path / "cut", options=QUIET))
    assert again.places == whole.places
    assert all(equal(a, b) for a, b in zip(again, whole, strict=True))


def test_a_stage_that_reads_keeps_nothing_of_its_own_models(tmp_path):
    path = Trajectory(every=7)
    model = Model(lambda: nn.Linear(3, 4), seed=1)
    first = Stage("first", Learner(model, CrossEntropy()), FIT, table(), parts=[path])
    other = Model(lambda: nn.Linear(3, 4), seed=2)
    second = Stage("second", Learner(other, CrossEntropy()), FIT, table(), parts=[path.reader()])
    train(Plan([first, second], other), Run(tmp_path, options=QUIET))
    assert path.stages == ["first"]


def test_segments_are_neighbours_and_read_when_they_are_asked_for(tmp_path):
    path = Trajectory(every=2)
    plan, _ = plan_of(path)
    train(plan, Run(tmp_path, options=QUIET))
    part = path.segment("second", 1, 2)
    assert part.places == [("second", 2), ("second", 4), ("second", 6)]
    assert equal(part[1], path.of("second")[2])
    with pytest.raises(BadInput, match="5 snapshots; there is no segment of 3 from 2"):
        path.segment("second", 2, 3)
    with pytest.raises(BadInput, match="nearest: 'second'"):
        path.of("secnd")


def test_what_is_missing_or_damaged_is_named(tmp_path):
    path = Trajectory(every=7)
    plan, _ = plan_of(path)
    train(plan, Run(tmp_path, options=QUIET))
    file = tmp_path / "trajectories" / "trajectory" / "first" / "000000000.safetensors"
    file.write_bytes(file.read_bytes()[:50])
    with pytest.raises(DamagedCheckpoint, match="is damaged"):
        path[0]
    path.clear()
    with pytest.raises(MissingFile, match="is missing"):
        path[0]


def test_a_learner_that_is_not_there_is_refused():
    plan, _ = plan_of(Trajectory(every=1, learner="teacher"))
    with pytest.raises(BadInput, match="there are"):
        train(plan, Run(None, options=QUIET))
    with pytest.raises(BadInput, match="at least 1"):
        Trajectory(every=0)
