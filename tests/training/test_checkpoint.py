"""Checkpoints: round trip, damage of any kind, other plans, what interrupted writes leave."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from tutelage.data import Table
from tutelage.errors import Interrupted, Mismatch, MissingFile
from tutelage.objectives import CrossEntropy, Match, mse, regressor
from tutelage.signals import Model
from tutelage.state import Stateful
from tutelage.teachers import Frozen
from tutelage.training import Fit, Learner, Plan, Run, RunOptions, Stage, checkpoint, train

OPTIONS = RunOptions(device="cpu", quiet=True, checkpoint_every=2, log_every=1)
FIT = Fit(steps=6, batch_size=4, lr=0.01)


class Stop(Stateful):
    """Asks the run to stop after a step, as a signal would."""

    def __init__(self, step: int | None) -> None:
        self.step = step

    def begin_stage(self, run) -> None:
        self.run = run

    def after_step(self, step) -> None:
        if step.clock.step == self.step:
            self.run.stop_signal = 15


def plan(stop: int | None = None, width: int = 6, fits=(FIT, FIT), own: Fit | None = None, every: int = 1, data: int = 12) -> Plan:
    draw = torch.Generator().manual_seed(1)
    source = Table({"x": torch.randn(data, 3, generator=draw), "y": torch.randint(5, (data,), generator=draw)})
    torch.manual_seed(3)
    student = Model(nn.Sequential(nn.Linear(3, width), nn.Tanh(), nn.Linear(width, 5)), name="pupil")
    teacher = Frozen(Model(nn.Sequential(nn.Linear(3, 7), nn.Tanh(), nn.Linear(7, 5))))
    hint = Match("0", through=regressor(), by=mse(), name="hint")
    first = Stage("first", Learner(student, hint, teacher), fits[0], source)
    learner = Learner(student, CrossEntropy() + hint, teacher, fit=own, every=every)
    return Plan([first, Stage("second", learner, fits[1], source, parts=[Stop(stop)])], student)


@pytest.fixture
def stopped(tmp_path):
    """A run that stopped in its second stage."""
    with pytest.raises(Interrupted, match=r"stopped at step 4 of 6 of stage 'second', and saved in .*--resume") as error:
        train(plan(3), Run(tmp_path, seed=1, options=OPTIONS, identity={"recipe": "mine", "data": ("a", 1)}))
    assert error.value.exit_code == 143
    return tmp_path


def resume(folder, made: Plan, seed: int = 1, **identity) -> None:
    train(made, Run(folder, seed=seed, options=OPTIONS, identity={"recipe": "mine", "data": ("a", 1), **identity}))


def test_tensors_and_numbers_come_back_exactly(tmp_path, rng):
    """Else a resumed run starts from rounded numbers."""
    table = torch.randn(4, 6, generator=rng)
    tensors = {
        "view": table[:, 1:3],
        "turned": table.t(),
        "same": table,
        "again": table,
        "scalar": torch.tensor(3.0, dtype=torch.float64),
        "half": table.bfloat16(),
        "count": torch.tensor(7),
        "flags": table > 0,
        "empty": torch.zeros(0, 3),
        "also empty": torch.zeros(0),
    }
    state = {"value": 0.1 + 0.2, "tiny": 5e-324, "big": 1e300, "none": None, "text": "ä", "list": [1, 2.5]}
    checkpoint.write_atomically(tmp_path / "c", tensors, state)
    found, back = checkpoint.read(tmp_path / "c")
    assert found.keys() == tensors.keys()
    assert all(torch.equal(found[k], tensors[k]) and found[k].dtype == tensors[k].dtype for k in tensors)
    assert back == {"format": checkpoint.FORMAT, **state}


@pytest.mark.parametrize("name", ["tensors.safetensors", "state.json", "checksums.json"])
@pytest.mark.parametrize("harm", ["truncated", "flipped", "missing", "empty"])
def test_a_damaged_checkpoint_is_an_error_and_the_one_before_can_be_used(name, harm, stopped):
    """Else a run goes on from garbage: a flipped bit in the weights is a legal number."""
    newest = max((stopped / "checkpoints").glob("*-step-*"))
    path = newest / name
    content = bytearray(path.read_bytes())
    if harm == "missing":
        path.unlink()
    else:
        if harm == "flipped":
            content[-9] ^= 1
        path.write_bytes({"truncated": content[:-5], "flipped": content, "empty": b""}[harm])
    with pytest.raises(checkpoint.DamagedCheckpoint, match=r"is damaged .*delete it to go on from the one before"):
        resume(stopped, plan())
    shutil.rmtree(newest)
    resume(stopped, plan())
    assert (stopped / "stages" / "01-second").is_dir()


def test_every_flipped_bit_of_the_weights_is_noticed(tmp_path, rng):
    """Else some damage passes."""
    checkpoint.write_atomically(tmp_path / "c", {"w": torch.randn(3, generator=rng)}, {"step": 1})
    path = tmp_path / "c" / "tensors.safetensors"
    whole = path.read_bytes()
    for place in range(len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :])
        with pytest.raises(checkpoint.DamagedCheckpoint):
            checkpoint.read(tmp_path / "c")


def test_another_format_and_a_missing_folder_are_named(tmp_path, monkeypatch):
    """Else an old run is read wrongly by a new version."""
    monkeypatch.setattr(checkpoint, "FORMAT", 0)
    checkpoint.write_atomically(tmp_path / "c", {}, {})
    monkeypatch.undo()
    with pytest.raises(checkpoint.DamagedCheckpoint, match="has format 0, this version reads 1"):
        checkpoint.read(tmp_path / "c")
    with pytest.raises(MissingFile, match="does not exist"):
        checkpoint.read(tmp_path / "d")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"seed": 2}, r"seed = 1, this run has 2"),
        ({"fits": (FIT, replace(FIT, ema=0.9))}, r"01-second fit ema = null, this run has 0.9"),
        ({"fits": (replace(FIT, lr=0.02), FIT)}, r"00-first fit lr = 0.01, this run has 0.02"),
        ({"own": replace(FIT, clip=1.0)}, r"01-second learners student fit"),
        ({"every": 2}, r"every = 1, this run has 2"),
        ({"data": 13}, r"samples = 12, this run has 13"),
        ({"identity": "yours"}, r'recipe = "mine", this run has "yours"'),
        ({"width": 7}, r"(?s)does not fit pupil.*torch.Size\(\[6, 3\]\).*torch.Size\(\[7, 3\]\)"),
    ],
)
def test_another_plan_is_refused_with_both_sides_named(changes, said, stopped):
    """Else two experiments are mixed into one student."""
    changes = dict(changes)
    seed = changes.pop("seed", 1)
    identity = {"recipe": changes.pop("identity")} if "identity" in changes else {}
    with pytest.raises(Mismatch, match=said):
        resume(stopped, plan(**changes), seed, **identity)


def test_other_shapes_in_the_stage_at_hand_are_refused(tmp_path):
    """Else the message is a page of tensor sizes."""
    made = plan(3)
    with pytest.raises(Interrupted):
        train(Plan(made.parts[1:], made.product), Run(tmp_path, options=OPTIONS))
    made = plan(width=8)
    with pytest.raises(Mismatch, match=r"parameters student/0.weight = \[6, 3\], this run has \[8, 3\]"):
        train(Plan(made.parts[1:], made.product), Run(tmp_path, options=OPTIONS))


def test_what_an_interrupted_write_left_is_ignored_and_swept(stopped):
    """Else half a checkpoint is taken for the newest."""
    for where in ("checkpoints", "stages"):
        shutil.copytree(next((stopped / where).iterdir()), stopped / where / ".01-step-000000005.123.tmp")
        (stopped / where / ".01-second.77.old").mkdir()
    resume(stopped, plan())
    assert sorted(p.name for p in (stopped / "stages").iterdir()) == ["00-first", "01-second"]
    assert not list((stopped / "checkpoints").iterdir())


def test_the_last_two_checkpoints_are_kept_with_bare_names_and_no_teacher(stopped):
    """Else the disk fills up, or a student can only be read through us."""
    found = sorted((stopped / "checkpoints").iterdir())
    assert [p.name for p in found] == ["01-step-000000002", "01-step-000000004"]
    names = set(load_file(found[-1] / "tensors.safetensors"))
    assert {n for n in names if n.startswith("model/")} == {
        f"model/student/model/{n}" for n in ("0.weight", "0.bias", "2.weight", "2.bias")
    }
    assert {n.split("/")[0] for n in names} == {"model", "objective", "optimizer"}
    state = json.loads((found[-1] / "state.json").read_text())
    assert {"identity", "step", "best", "offset", "parts", "optimizers"} <= set(state)


def test_a_finished_run_is_taken_from_its_folder_and_trains_nothing(stopped):
    """Else asking twice trains twice."""
    resume(stopped, plan())
    metrics = (stopped / "metrics.jsonl").read_bytes()
    again = plan()
    resume(stopped, again)
    assert (stopped / "metrics.jsonl").read_bytes() == metrics
    kept = load_file(stopped / "stages" / "01-second" / "tensors.safetensors")
    state = again.product.module.state_dict()
    assert all(torch.equal(state[k], kept[f"model/student/model/{k}"]) for k in state)
