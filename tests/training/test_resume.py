"""Resume: a run that is killed, in its own process and anywhere, and then resumed, equals one that was not, bit for bit."""

from __future__ import annotations

import multiprocessing
import random
import runpy
import signal
from pathlib import Path

import pytest

SCRIPT = str(Path(__file__).with_name("scenarios.py"))
scenarios = runpy.run_path(SCRIPT)
STEPS = {"hints": {"hint": 7, "joint": 9, "last": 6}, "turns": {"alternate": 8, "mutual": 8, "dream": 8}}


@pytest.fixture(scope="module")
def launch():
    """Runs a scenario in a fresh process, forked from a server that has only imported the libraries; gives the exit code."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["accelerate", "tutelage.training", "tutelage.recipes", "torch.utils.data"])

    def run(*args) -> int | None:
        process = context.Process(target=runpy.run_path, args=(SCRIPT, {"CHILD": args}, "__child__"))
        process.start()
        process.join(120)
        assert process.exitcode is not None
        return process.exitcode

    return run


def contents(folder: Path) -> dict[str, bytes]:
    """All that a finished run has left: metrics, and each stage's weights, objectives and parts."""
    assert not list((folder / "checkpoints").iterdir())
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    """Each scenario trained in one go."""
    from accelerate.state import AcceleratorState

    found = {}
    for name in scenarios["SCENARIOS"]:
        folder = tmp_path_factory.mktemp(name)
        scenarios["go"](name, str(folder))
        AcceleratorState._reset_state(reset_partial_state=True)
        found[name] = contents(folder)
    return found


@pytest.mark.parametrize("name", ["hints", "turns"])
def test_a_run_killed_at_a_step_of_each_stage_and_resumed_equals_one_that_was_not(name, launch, uninterrupted, tmp_path):
    """Else a spot instance that goes away changes the student."""
    chance = random.Random(f"kill {name}")
    for stage, steps in STEPS[name].items():
        for step in sorted(chance.sample(range(steps), 2)):
            assert launch(name, str(tmp_path), (stage, step, signal.SIGKILL)) == -signal.SIGKILL
    assert launch(name, str(tmp_path)) == 0
    assert contents(tmp_path) == uninterrupted[name]


@pytest.mark.parametrize("name", ["hints", "turns"])
def test_a_run_killed_while_it_writes_a_checkpoint_resumes_from_the_one_before(name, launch, uninterrupted, tmp_path):
    """Else a half-written checkpoint is read as a whole one."""
    chance = random.Random(f"write {name}")
    for _ in range(5):
        assert launch(name, str(tmp_path), None, chance.randint(1, 14)) in (0, -signal.SIGKILL)
    assert launch(name, str(tmp_path)) == 0
    assert contents(tmp_path) == uninterrupted[name]


@pytest.mark.parametrize("name", ["hints", "turns"])
def test_a_run_that_was_asked_to_stop_saves_says_so_by_its_exit_code_and_goes_on_to_the_same_end(name, launch, uninterrupted, tmp_path):
    """Else control-C costs everything since the last checkpoint, or leaves other numbers in the log."""
    stages = list(STEPS[name])
    assert launch(name, str(tmp_path), (stages[0], 3, signal.SIGINT)) == 130
    assert [p.name for p in (tmp_path / "checkpoints").glob("*-step-*")][-1:] == ["00-step-000000004"]
    assert launch(name, str(tmp_path), (stages[1], 4, signal.SIGTERM)) == 143
    assert launch(name, str(tmp_path), (stages[2], 0, signal.SIGTERM)) == 143
    assert launch(name, str(tmp_path)) == 0
    assert contents(tmp_path) == uninterrupted[name]
