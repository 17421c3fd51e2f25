"""The main job from Python, on what users bring."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass

import pytest
import torch
from torch import nn
from torch.utils.data import Dataset

import hub_folders
import tutelage
from tutelage import Data, Fit, Model, RunOptions, Table
from tutelage.errors import BadInput, Mismatch
from tutelage.jobs.distill import distill
from tutelage.jobs.folder import free
from tutelage.jobs.models import model_from, sizes
from tutelage.jobs.sources import data_from
from tutelage.signals.model import load_weights

pytestmark = pytest.mark.usefixtures("no_page")
QUIET = RunOptions(quiet=True)


@dataclass
class Output:
    hidden: torch.Tensor
    logits: torch.Tensor


class TwoInputs(nn.Module):
    """Two named inputs and a dataclass out."""

    def __init__(self, width: int = 4) -> None:
        super().__init__()
        self.left, self.right, self.head = nn.Linear(3, width), nn.Linear(2, width), nn.Linear(width, 2)

    def forward(self, a: torch.Tensor, b: torch.Tensor) -> Output:
        hidden = self.left(a).relu() + self.right(b).relu()
        return Output(hidden, self.head(hidden))


@pytest.fixture
def pairs() -> Data:
    made = torch.Generator().manual_seed(0)
    a, b = torch.randn(24, 3, generator=made), torch.randn(24, 2, generator=made)
    whole = Table({"a": a, "b": b, "y": (a.sum(1) > 0).long()})
    return Data(whole, whole, whole, ("no", "yes"), "pairs")


def test_modules_with_several_inputs_and_a_dataclass_output_are_taught(pairs, tmp_path):
    """Any nn.Module: users do not rewrite their models for us."""
    teacher, student = TwoInputs(8), TwoInputs(2)
    before = {k: v.clone() for k, v in teacher.state_dict().items()}
    result = distill(teacher, student, pairs, out=tmp_path / "o", fit=Fit(steps=4, batch_size=5), options=QUIET)
    assert result.model.module is student
    assert all(torch.equal(v, before[k]) for k, v in teacher.state_dict().items())
    assert result.report["alone"]["updates"] == 4
    assert result.report["student"]["agreement"] <= 1


class TupleOut(nn.Module):
    """Gives logits and something else."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Linear(4, 2)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.net(x), x


class DictIn(nn.Module):
    """Takes keywords and gives a dictionary."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(4, 3), nn.LayerNorm(3), nn.Tanh(), nn.Linear(3, 2))

    def forward(self, **columns: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"hidden": columns["x"], "logits": self.net(columns["x"])}


class Shared(nn.Module):
    """One matrix used twice under two names."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.head = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 2)
        self.second.weight = self.first.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.second(self.first(x).relu()).relu())


def lazy() -> nn.Module:
    """Shapes come with the first batch."""
    return nn.Sequential(nn.LazyLinear(3), nn.ReLU(), nn.LazyLinear(2))


@pytest.mark.parametrize("make", [TupleOut, lambda: Model(DictIn, inputs=lambda b: {"x": b["x"]}), Shared, lambda: lazy, lazy])
def test_odd_models_are_taught_saved_and_read_again(make, tmp_path, rng):
    """Tuple out, dict in and out, no batch norm, shared weights, lazily built (as a function and as an instance)."""
    x = torch.randn(40, 4, generator=rng)
    whole = Table({"x": x, "y": (x[:, 0] > 0).long()})
    teacher = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    result = distill(
        teacher, make(), Data(whole, whole, whole, ("a", "b")), out=tmp_path / "o", fit=Fit(steps=3, batch_size=8), options=QUIET
    )
    assert {"accuracy", "agreement", "latency_ms", "flops"} <= set(result.report["student"])
    product = result.model
    said = product.observe(whole.batch(torch.arange(40)), {"logits"})["logits"]
    load_weights(product.module, tmp_path / "o" / "model" / "model.safetensors", "product")
    assert torch.equal(product.observe(whole.batch(torch.arange(40)), {"logits"})["logits"], said)


def test_the_baseline_of_an_instance_starts_from_its_first_weights(pairs, tmp_path):
    """The twin is copied before the student is taught, else it would be trained twice."""
    torch.manual_seed(0)
    student = TwoInputs(2)
    result = distill(TwoInputs(8), student, pairs, out=tmp_path / "o", alpha=0.0, fit=Fit(steps=4, batch_size=5), options=QUIET)
    # without the teacher's share both are trained alike, up to the order of the samples, which hangs on the stage's name
    assert result.report["alone"]["parameters"] == result.report["student"]["parameters"]
    assert result.report["alone"] != result.report["student"]


def test_a_torch_data_set_of_pairs_is_data(tmp_path):
    """What most users have at hand."""

    class Squares(Dataset):
        def __len__(self):
            return 13

        def __getitem__(self, i):
            return torch.full((4,), float(i)), i % 2

    net = lambda: nn.Linear(4, 2)  # noqa: E731
    result = distill(net(), net, Squares(), recipe="kd", out=tmp_path / "o", fit=Fit(steps=2, batch_size=3), options=QUIET)
    assert result.report["split"] == "train"
    assert result.report["samples"] == 13


@pytest.mark.parametrize("kind", ["hf", "run", "onnx"])
def test_data_without_labels_take_their_classes_from_the_teacher(kind, tmp_path):
    """No label column tells how many classes there are; the teacher knows, and a built-in student is made for as many."""
    (tmp_path / "t.csv").write_text("label,text\n" + "good,good film\nbad,dull book\nfine,not bad\n" * 12)
    (tmp_path / "bare.csv").write_text("text\n" + "good film\ndull book\nvery fine\n" * 12)
    if kind == "hf":
        teacher = f"hf:{hub_folders.bert(tmp_path / 'bert', head=3, labels=['bad', 'fine', 'good'])}"
    else:
        teacher = str(tmp_path / "first")
        distill(None, "bag:width=4", f"csv:{tmp_path}/t.csv", recipe="alone", fit={"steps": 3}, out=teacher, options=QUIET)
    if kind == "onnx":
        teacher = str(tutelage.export(teacher, to="onnx").folder)
    words = {"alpha": 1.0, "fit": {"steps": 3}, "out": tmp_path / "second", "options": QUIET}
    made = distill(teacher, "bag:width=2", f"csv:{tmp_path}/bare.csv:label=''", **words)
    assert made.report["classes"] == ["bad", "fine", "good"]
    assert made.model.module.head.out_features == 3
    assert "accuracy" not in made.report["student"]
    assert 0 <= made.report["student"]["agreement"] <= 1
    made = json.loads((tmp_path / "second/model/model.json").read_text())
    assert made["classes"] == ["bad", "fine", "good"]


def test_without_labels_there_is_no_baseline(pairs, tmp_path):
    """And the report says so by leaving it out."""
    bare = Data(Table({k: v for k, v in pairs.train.columns.items() if k not in ("y", "id")}), name="bare")
    result = distill(TwoInputs(8), TwoInputs(2), bare, alpha=1.0, out=tmp_path / "o", fit=Fit(steps=2, batch_size=3), options=QUIET)
    assert "alone" not in result.report
    assert "accuracy" not in result.report["student"]
    with pytest.raises(BadInput, match="needs labels"):
        distill(TwoInputs(8), TwoInputs(2), bare, recipe="fitnets", out=tmp_path / "p")


def test_a_teacher_that_has_weights_is_not_trained_again(tmp_path, timeless):
    """`--train-teacher` on a finished run would quietly change the teacher."""
    first = distill("cnn:width=2", "mlp:width=2", train_teacher=True, out=tmp_path / "a", fit={"steps": 1}, options=QUIET).report
    words = {"train_teacher": True, "out": tmp_path / "b", "fit": {"steps": 1}, "options": QUIET}
    again = distill(tmp_path / "a" / "teacher", "mlp:width=2", **words).report
    del first["teacher"]["updates"]  # it was trained there, not here
    assert timeless(again["teacher"]) == timeless(first["teacher"])
    assert not (tmp_path / "b" / "teacher").exists()


def test_all_generations_are_kept_and_their_ensemble_is_measured(tmp_path):
    """Each generation is a run folder's worth of model that can teach again."""
    words = {"recipe": "born-again", "generations": 2, "fit": {"steps": 3}, "out": tmp_path / "o", "options": QUIET}
    report = distill("cnn:width=2", "cnn:width=3", train_teacher=True, teacher_fit=Fit(steps=2), **words).report
    assert set(report["ensemble"]) == {"accuracy", "macro_f1", "nll", "ece", "agreement", "members", "mean"}
    assert report["ensemble"]["members"] == ["generation-1", "generation-2"]
    kept = [model_from(tmp_path / "o/also" / f"generation-{n}", "teacher", data=data_from("digits"), seed=0).module for n in (1, 2)]
    product = model_from(tmp_path / "o", "teacher", data=data_from("digits"), seed=0).module
    assert torch.equal(kept[1].head.weight, product.head.weight)
    assert not torch.equal(kept[0].head.weight, product.head.weight)


def test_a_recipe_function_and_an_unknown_knob(pairs):
    """Python users pass the function itself; a misspelt knob is not swallowed by **settings."""
    from tutelage.recipes.hinton_kd import hinton_kd

    assert distill(TwoInputs(8), TwoInputs(2), pairs, recipe=hinton_kd, dry_run=True).rows
    with pytest.raises(BadInput, match="nearest: 'temperature'"):
        distill(TwoInputs(8), TwoInputs(2), pairs, temprature=3)
    with pytest.raises(BadInput, match="nearest: 'batch_size'"):
        distill(TwoInputs(8), TwoInputs(2), pairs, fit={"batchsize": 3})


def test_a_mapping_for_a_fit_changes_only_what_it_names(pairs):
    """`steps` in it replaces the default's epochs."""
    rows = distill(TwoInputs(8), TwoInputs(2), pairs, fit={"steps": 11, "batch_size": 3}, dry_run=True).rows
    assert {row.steps for row in rows} == {11}
    assert {row.samples for row in rows} == {33}


def test_a_model_that_cannot_be_counted_has_an_unknown_time(pairs):
    """An honest gap in the table, not a crash."""

    class Stubborn(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(3, 2)

        def forward(self, a, b):
            return self.layer(a) if a.sum().item() > 0 else self.layer(-a)

    rows = distill(TwoInputs(8), Stubborn, pairs, dry_run=True).rows
    assert rows[-1].seconds is None


def test_sizes_come_from_the_data(pairs):
    """`cnn` without options fits what it is taught on."""
    assert sizes(data_from("digits")) == {"classes": 10, "inputs": 64, "channels": 1, "size": 8}
    assert sizes(pairs) == {"classes": 2}
    handle = model_from("mlp:width=3", "student", data=data_from("digits"), seed=1)
    assert handle.spec == "mlp:classes=10,inputs=64,width=3"
    assert not handle.built
    assert handle.module(torch.zeros(2, 1, 8, 8)).shape == (2, 10)


@pytest.mark.parametrize("bad", [3, None, {"test": []}, {"train": [1], "dev": [1]}])
def test_data_that_is_none_is_refused(bad):
    """Before anything is built."""
    with pytest.raises(BadInput):
        data_from(bad)


def test_default_folders_are_numbered(tmp_path):
    """Two runs of one recipe do not meet."""
    assert free(tmp_path / "kd") == tmp_path / "kd"
    (tmp_path / "kd").mkdir()
    (tmp_path / "kd-2").mkdir()
    assert free(tmp_path / "kd") == tmp_path / "kd-3"


def test_public_names_resolve_and_a_wrong_one_is_an_attribute_error():
    """The lazy front door has no broken promise."""
    for name in tutelage.__all__:
        assert getattr(tutelage, name) is not None
    assert set(tutelage.__all__) <= set(dir(tutelage))
    with pytest.raises(AttributeError, match="nothing"):
        _ = tutelage.nothing
    assert isinstance(Model(nn.Linear(1, 1)), tutelage.Model)
    assert dataclasses.is_dataclass(tutelage.Fit)


def test_a_resumption_with_other_data_leaves_the_splits_of_the_run(tmp_path):
    """splits.json says what the run was begun with; the refusal comes from its checkpoints."""
    fit, out = Fit(steps=2), tmp_path / "o"
    go = {"recipe": "alone", "out": out, "fit": fit, "options": QUIET}
    distill(student="mlp:width=2", data="digits", **go)
    before = (out / "splits.json").read_bytes()
    with pytest.raises(Mismatch):
        distill(student="mlp:width=2", data="digits:seed=1", resume=True, **go)
    assert (out / "splits.json").read_bytes() == before
