"""Reduction: means over the whole step whatever the micro-batches; what cannot be counted beforehand is refused."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from torch import nn

from tutelage.data import Table
from tutelage.errors import BadInput
from tutelage.objectives import CrossEntropy, Match, Objective, Term, mse, regressor
from tutelage.signals import Model
from tutelage.teachers import Frozen
from tutelage.training import Fit, Learner, Plan, Run, RunOptions, Stage, train

FIT = Fit(steps=5, batch_size=8, optimizer="sgd", lr=0.1, clip=1.0)


def sequences(mask: str = "tokens") -> Table:
    draw = torch.Generator().manual_seed(0)
    length = torch.randint(0, 7, (19,), generator=draw)
    keep = torch.arange(7)[None] < length[:, None]
    columns = {"x": torch.randn(19, 7, 3, generator=draw), "y": torch.where(keep, torch.randint(5, (19, 7), generator=draw), -100)}
    if mask == "tokens":
        columns["mask"] = keep
    if mask == "weights":
        columns["mask"] = keep * torch.rand(19, 7, generator=draw)
    if mask == "samples":
        columns["mask"] = length > 2
    return Table(columns)


def net() -> nn.Sequential:
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(3, 6), nn.Tanh(), nn.Linear(6, 5))


class As(Objective):
    """Another objective's only term, changed."""

    def __init__(self, of: Objective, name: str, **changes) -> None:
        super().__init__()
        self.of, self.name, self.changes = of, name, changes

    def needs(self):
        return self.of.needs()

    def build(self, student, teacher):
        self.of.build(student, teacher)

    def mask(self, batch):
        return self.of.mask(batch)

    def terms(self, student, teacher, batch):
        (term,) = self.of.terms(student, teacher, batch)
        if self.changes.get("over") == "sample":
            term = replace(term, values=term.values.sum(1), mask=None)
        return [replace(term, name=self.name, **self.changes)]


def go(folder, micro_batch, data, loss):
    student = net()
    if isinstance(loss, Objective):
        learner = Learner(student, loss, Frozen(Model(nn.Sequential(nn.Linear(3, 9), nn.Tanh(), nn.Linear(9, 5)))))
    else:
        learner = Learner(student, lambda step: loss(step, student))
    options = RunOptions(device="cpu", quiet=True, micro_batch=micro_batch, log_every=1)
    train(Plan([Stage("s", learner, FIT, data)], Model(student)), Run(folder, options=options))
    lines = [json.loads(line)["terms"] for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return student.state_dict(), lines


def all_kinds() -> Objective:
    return (
        CrossEntropy()
        + As(CrossEntropy(), "by-sequence", over="sequence")
        + As(CrossEntropy(), "by-sample", over="sample")
        + Match("1", through=regressor(), by=mse(), name="hint")
    )


@pytest.mark.parametrize("mask", ["tokens", "weights", "samples", "none"])
@pytest.mark.parametrize("micro_batch", [4, 3, 1, 8])
def test_micro_batches_change_neither_the_loss_nor_the_student(mask, micro_batch, tmp_path):
    """Else short sequences weigh more where memory is short."""
    left = []
    for size in (None, micro_batch):
        torch.manual_seed(2)
        left.append(go(tmp_path / str(size), size, sequences(mask), all_kinds()))
    for a, b in zip(left[0][1], left[1][1], strict=True):
        assert a == pytest.approx(b, rel=1e-5, abs=1e-6)
    for k in left[0][0]:
        torch.testing.assert_close(left[0][0][k], left[1][0][k], rtol=1e-5, atol=1e-6)


def test_the_loss_of_a_step_is_the_mean_over_all_unmasked_tokens(tmp_path):
    """Else it is a mean of means, whatever the docstring says."""
    data = sequences()
    student = net()
    from tutelage.data import Order

    rows = Order(19, 8, 0, "s").batch(0)[0]
    x, y = data.columns["x"][rows], data.columns["y"][rows]
    expected = nn.functional.cross_entropy(student(x).flatten(0, 1), y.flatten()).item()
    _, lines = go(tmp_path, 3, data, CrossEntropy())
    assert lines[0]["labels"] == pytest.approx(expected, rel=1e-5)


def test_a_batch_term_is_the_mean_over_micro_batches(tmp_path):
    """Else the same relation weighs more the more micro-batches there are."""

    def one(student_signal, target):
        return (student_signal * 0).sum() + 1.0

    _, lines = go(tmp_path, 3, sequences(), CrossEntropy() + Match("logits", by=one, name="one"))
    assert [line["one"] for line in lines] == pytest.approx([1.0] * 5)


def test_a_step_that_is_all_masked_gives_zero_and_not_nan(tmp_path):
    """Else one empty batch ends the run."""
    draw = torch.Generator().manual_seed(0)
    data = Table({"x": torch.randn(8, 7, 3, generator=draw), "y": torch.full((8, 7), -100)})
    before = net().state_dict()
    for micro_batch in (None, 3):
        after, lines = go(tmp_path / str(micro_batch), micro_batch, data, CrossEntropy())
        assert [line["labels"] for line in lines] == [0.0] * 5
        assert all(torch.isfinite(v).all() for v in after.values())
        assert after.keys() == before.keys()


def test_a_mask_that_the_batch_does_not_show_cannot_be_accumulated(tmp_path):
    """Else each micro-batch is divided by another count, and nothing says so."""

    class Hidden(Objective):
        name = "hidden"

        def needs(self):
            return CrossEntropy().needs()

        def terms(self, student, teacher, batch):
            values = student["logits"].square().mean(2)
            return [Term("hidden", values, "token", values > values.median())]

    go(tmp_path / "whole", None, sequences("none"), Hidden())
    with pytest.raises(BadInput, match=r"term 'hidden' .* not known before the passes. Put its mask into the batch, or run without"):
        go(tmp_path / "parts", 3, sequences("none"), Hidden())


@pytest.mark.parametrize(
    ("kind", "refused"),
    [("rows", False), ("batch", False), ("masked", True), ("tokens", True), ("half", True)],
)
def test_terms_of_a_loss_function_accumulate_where_their_count_is_plain(kind, refused, tmp_path):
    """Else a function's mean over something else is divided by the number of samples."""

    def loss(step, student):
        values_BT = step.signals("student", {"logits"})["logits"].square().mean(2)
        made = {
            "rows": lambda: Term("t", values_BT.mean(1)),
            "batch": lambda: Term("t", values_BT.mean(), "batch"),
            "masked": lambda: Term("t", values_BT, "token", step.batch["mask"]),
            "tokens": lambda: Term("t", values_BT, "token"),
            "half": lambda: Term("t", values_BT.mean(1)[: len(values_BT) // 2]),
        }
        return [made[kind]()]

    whole = go(tmp_path / "whole", None, sequences(), loss)
    if refused:
        with pytest.raises(BadInput, match="run without micro_batch"):
            go(tmp_path / "parts", 4, sequences(), loss)
    else:
        parts = go(tmp_path / "parts", 4, sequences(), loss)
        for a, b in zip(whole[1], parts[1], strict=True):
            assert a == pytest.approx(b, rel=1e-5)


def test_sequences_whose_length_changes_between_batches_are_noticed_at_any_step(tmp_path):
    """Else a token mean without a mask is divided by the first batch's length for the rest of the run."""
    student = Model(net(), inputs=lambda batch: (batch["x"][:, : 7 if 0 in batch["id"] else 4],))
    teacher = Model(nn.Linear(3, 6), inputs=lambda batch: (batch["x"][:, : 7 if 0 in batch["id"] else 4],))
    learner = Learner(student, Match("1", "logits", by=mse()), Frozen(teacher))
    options = RunOptions(device="cpu", quiet=True, micro_batch=4)
    data = Table({"x": sequences().columns["x"]})
    with pytest.raises(BadInput, match="not known before the passes"):
        train(Plan([Stage("s", learner, FIT, data)], student), Run(options=options))
