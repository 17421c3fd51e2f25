"""Trackers: who is known, what they get from a single run, and that a broken one costs nothing but itself."""

from __future__ import annotations

import json

import pytest
import torch
from torch import nn

from tutelage.data import Table
from tutelage.errors import BadInput
from tutelage.objectives import CrossEntropy
from tutelage.signals import Model
from tutelage.training import Fit, Learner, Plan, Run, RunOptions, Stage, train
from tutelage.training.tracking import flat, tracker_names, tracking

pytest.importorskip("tensorboard")
tracking_room = pytest.importorskip("accelerate.tracking")


@pytest.fixture
def recorder(monkeypatch):
    """Stands in for TensorBoard: a tracker that keeps what it is given."""

    class Recorder(tracking_room.GeneralTracker):
        name = "tensorboard"
        requires_logging_directory = True
        tracker = None
        told: list = []  # noqa: RUF012
        broken: str | None = None

        def __init__(self, project, folder, **_):
            super().__init__()
            self.told.append(("made", project, str(folder)))

        def __getattribute__(self, name):
            if name == object.__getattribute__(self, "broken"):
                raise RuntimeError("the tracker is down")
            return super().__getattribute__(name)

        def start(self):
            self.told.append(("start",))

        def store_init_configuration(self, values):
            self.told.append(("config", dict(values)))

        def log(self, values, step=None):
            self.told.append(("log", step, dict(values)))

        def finish(self):
            self.told.append(("finish",))

    monkeypatch.setitem(tracking_room.LOGGER_TYPE_TO_CLASS, "tensorboard", Recorder)
    return Recorder


def plan_of(*names: str) -> Plan:
    draw = torch.Generator().manual_seed(0)
    data = Table({"x": torch.randn(20, 3, generator=draw), "y": torch.randint(5, (20,), generator=draw)})
    torch.manual_seed(0)
    model = Model(nn.Linear(3, 5))
    return Plan([Stage(name, Learner(model, CrossEntropy()), Fit(steps=5, batch_size=8), data) for name in names], model)


def go(folder, track=("tensorboard",), **settings):
    plan = plan_of("one", "two")
    options = RunOptions(device="cpu", quiet=True, log_every=2, share_every=3, track=track)
    train(plan, Run(folder, seed=4, options=options, **settings))
    return plan.product.module.state_dict(), [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_a_single_run_gives_each_line_to_the_trackers_it_was_asked_for(recorder, tmp_path):
    """Else the option does nothing where there is no job around the loop."""
    _, lines = go(tmp_path, watch=lambda model: {"accuracy": 0.5}, identity={"knobs": {"t": 2.0, "tap": None}})
    assert recorder.told[0] == ("made", "tutelage", str(tmp_path / "trackers"))
    assert [kind[0] for kind in recorder.told[1:3]] == ["start", "config"]
    assert recorder.told[2][1] == {"seed": 4, "knobs.t": 2.0, "knobs.tap": "null"}
    assert recorder.told[-1] == ("finish",)
    logged = recorder.told[3:-1]
    assert len(logged) == len(lines) > 6
    for (_, step, values), line in zip(logged, lines, strict=True):
        stage = line.pop("stage")
        assert step == line.pop("step") + (5 if stage == "two" else 0)
        wanted = {f"{stage}/epoch": line.pop("epoch")}
        wanted |= {f"{stage}/{group}/{name}": value for group, found in line.items() for name, value in found.items()}
        assert values == wanted


def test_tracking_changes_no_number_of_the_run(recorder, tmp_path):
    """Else whoever looks at a curve trains another student."""
    weights, lines = go(tmp_path / "tracked")
    bare, bare_lines = go(tmp_path / "bare", track=())
    assert lines == bare_lines
    assert all(torch.equal(weights[k], bare[k]) for k in weights)
    assert not (tmp_path / "bare" / "trackers").exists()


def test_a_tracker_that_fails_under_way_is_reported_once_and_the_run_goes_on(recorder, tmp_path, capsys):
    """Else a server that is down at night costs the night."""
    recorder.broken = "log"
    _, lines = go(tmp_path)
    assert lines[-1]["step"] == 5
    said = capsys.readouterr().err
    assert said.count("warning: tracking has failed") == said.count("\n") == 1
    assert recorder.told[-1] == ("finish",)


def test_a_tracker_that_cannot_start_is_bad_input(recorder, tmp_path):
    """Else the user learns at the end that nothing was tracked."""
    recorder.broken = "start"
    with pytest.raises(BadInput, match="--track tensorboard: cannot start: RuntimeError: the tracker is down"):
        go(tmp_path)
    assert not (tmp_path / "checkpoints").exists()


def test_trackers_end_when_the_run_fails(recorder):
    """Else a tracker's server shows a run that never stops."""
    from accelerate import Accelerator

    made = Accelerator(cpu=True, log_with=["tensorboard"], project_dir="nowhere")
    with pytest.raises(ZeroDivisionError), tracking(made, {"student": plan_of("one")}, {}):
        raise ZeroDivisionError
    assert recorder.told[-1] == ("finish",)


@pytest.mark.parametrize("given", ["tensorboard", " tensorboard,, tensorboard", ["tensorboard"], ("tensorboard", "tensorboard")])
def test_names_come_as_a_text_or_a_list_and_each_counts_once(given):
    """A tracker that is started twice logs twice."""
    assert tracker_names(given) == ("tensorboard",)
    assert RunOptions(track=given).track == ("tensorboard",)


@pytest.mark.parametrize("given", ["", (), [], " , "])
def test_no_name_is_no_tracker(given):
    """And nothing of it is imported."""
    assert tracker_names(given) == ()


def test_unknown_and_missing_trackers_are_told_apart(monkeypatch):
    """One is a slip of the pen, the other needs an installation."""
    monkeypatch.setattr(tracking_room, "get_available_trackers", list)
    with pytest.raises(BadInput, match=r"^--track tensorbord: no tracker .* nearest: 'tensorboard'; expected one of aim, comet_ml"):
        RunOptions(track="tensorbord")
    with pytest.raises(BadInput, match=r"^--track wandb: the package wandb is not installed; pip install wandb$"):
        RunOptions(track="wandb")
    with pytest.raises(BadInput, match="pip install comet-ml"):
        RunOptions(track="comet_ml")


def test_trackers_need_a_folder():
    """They have nowhere to write, and a run that keeps nothing has nothing to show."""
    with pytest.raises(BadInput, match="with a folder"):
        Run(options=RunOptions(track="tensorboard"))


def test_nested_settings_are_shown_flat():
    """Trackers know no nesting."""
    assert flat({"a": {"b": {"c": 1}, "d": 2}, "e": {}}, ".") == {"a.b.c": 1, "a.d": 2}
