"""The journal: what stands in metrics.jsonl, shares of the gradient, warnings, silence."""

from __future__ import annotations

import json

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from tutelage.data import Order, Table
from tutelage.objectives import CrossEntropy, Match, Term, soft_targets
from tutelage.signals import Model
from tutelage.teachers import Frozen
from tutelage.training import Fit, Learner, Plan, Run, RunOptions, Stage, train


def setting():
    draw = torch.Generator().manual_seed(0)
    data = Table({"x": torch.randn(20, 3, generator=draw), "y": torch.randint(5, (20,), generator=draw)})
    torch.manual_seed(0)
    return data, nn.Sequential(nn.Linear(3, 6), nn.Dropout(0.2), nn.Linear(6, 5)), nn.Linear(3, 5)


def go(folder, fit=None, weight: float = 0.5, **options):
    data, student, teacher = setting()
    loss = CrossEntropy() + weight * Match("logits", by=soft_targets(2.0), name="soft")
    fit = fit or Fit(steps=10, batch_size=8, optimizer="sgd", lr=0.1)
    plan = Plan([Stage("s", Learner(student, loss, Frozen(Model(teacher))), fit, data)], Model(student))
    train(plan, Run(folder, seed=4, options=RunOptions(**{"device": "cpu", "quiet": True, **options})))
    return student, [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_lines_hold_stage_step_epoch_terms_and_learning_rate(tmp_path):
    """Else a report cannot be made from the folder."""
    _, lines = go(tmp_path, log_every=4, share_every=0)
    assert [(line["stage"], line["step"], line["epoch"]) for line in lines] == [("s", 4, 1), ("s", 8, 2), ("s", 10, 3)]
    assert all(set(line) == {"stage", "step", "epoch", "terms", "lr"} for line in lines)
    assert all(set(line["terms"]) == {"labels", "soft"} for line in lines)
    fit = Fit(steps=10)
    assert [line["lr"]["student"] for line in lines] == pytest.approx([0.1 * fit.factor(s, 10) for s in (3, 7, 9)])


@pytest.mark.parametrize("micro_batch", [None, 3])
def test_logged_values_are_the_mean_of_each_interval(micro_batch, tmp_path):
    """Else a curve shows single batches, or counts micro-batches twice."""
    data, student, _ = setting()
    student[1].p = 0.0
    model, seen = Model(student), {}

    def loss(step):
        logits = step.signals(model, {"logits"})["logits"]
        values = F.cross_entropy(logits, step.batch["y"], reduction="none")
        seen.setdefault(step.clock.step, []).append(values.detach())
        return [Term("ce", values)]

    options = RunOptions(device="cpu", quiet=True, log_every=3, micro_batch=micro_batch)
    train(Plan([Stage("s", Learner(model, loss), Fit(steps=8, batch_size=8), data)], model), Run(tmp_path, options=options))
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    means = [torch.cat(seen[s]).double().mean().item() for s in range(8)]
    expected = [sum(means[:3]) / 3, sum(means[3:6]) / 3, sum(means[6:]) / 2]
    assert [line["terms"]["ce"] for line in lines] == pytest.approx(expected, rel=1e-6)


def test_shares_are_the_norms_of_each_terms_gradient_on_the_student(tmp_path):
    """Else the warning about a term that weighs nothing cannot be trusted."""
    data, student, teacher = setting()
    student[1].p = 0.0
    rows = Order(20, 8, 4, "s").batch(0)[0]
    x, y = data.columns["x"][rows], data.columns["y"][rows]
    norms = []
    for number in (0, 1):
        logits = student(x)
        kl = F.kl_div(F.log_softmax(logits / 2, 1), F.softmax(teacher(x) / 2, 1), reduction="batchmean") * 4
        grads = torch.autograd.grad([F.cross_entropy(logits, y), 0.5 * kl][number], list(student.parameters()))
        norms.append(torch.cat([g.flatten() for g in grads]).norm().item())
    loss = CrossEntropy() + 0.5 * Match("logits", by=soft_targets(2.0), name="soft")
    plan = Plan([Stage("s", Learner(student, loss, Frozen(Model(teacher))), Fit(steps=1, batch_size=8), data)], Model(student))
    train(plan, Run(tmp_path, seed=4, options=RunOptions(device="cpu", quiet=True)))
    shares = json.loads((tmp_path / "metrics.jsonl").read_text())["shares"]
    assert shares == pytest.approx({"labels": norms[0] / sum(norms), "soft": norms[1] / sum(norms)}, rel=1e-5)


@pytest.mark.parametrize("micro_batch", [None, 3])
def test_sampling_shares_does_not_change_the_run(micro_batch, tmp_path):
    """Else looking at a run makes it another."""
    left = []
    for every in (0, 1):
        student, lines = go(tmp_path / str(every), share_every=every, log_every=1, micro_batch=micro_batch)
        left.append((student.state_dict(), [line["terms"] for line in lines]))
        assert all(("shares" in line) == bool(every) for line in lines)
        assert all(sum(line["shares"].values()) == pytest.approx(1.0) for line in lines if every)
    assert left[0][1] == left[1][1]
    assert all(torch.equal(left[0][0][k], left[1][0][k]) for k in left[0][0])


def test_each_learner_has_its_shares(tmp_path):
    """Else the second learner's shares hide the first's."""
    data, student, teacher = setting()
    loss = [CrossEntropy() + Match("logits", by=soft_targets(2.0), name="soft") for _ in range(2)]
    learners = {n: Learner(m, part, Frozen(Model(teacher))) for n, m, part in zip("ab", (student, nn.Linear(3, 5)), loss, strict=True)}
    train(Plan([Stage("s", learners, Fit(steps=1), data)], Model(student)), Run(tmp_path, options=RunOptions(device="cpu", quiet=True)))
    line = json.loads((tmp_path / "metrics.jsonl").read_text())
    assert set(line["shares"]) == set(line["terms"]) == {"a/labels", "a/soft", "b/labels", "b/soft"}


@pytest.mark.parametrize(("steps", "warned"), [(4, 0), (5, 1), (12, 1)])
def test_a_term_below_one_per_cent_is_warned_about_after_three_samples_once(steps, warned, tmp_path, capsys):
    """Else a distillation without a teacher goes unnoticed, or the warning floods the log."""
    go(tmp_path, Fit(steps=steps, batch_size=8), weight=1e-5, quiet=False, share_every=2)
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.count("warning: term 'soft' has had less than 1% of the gradient") == warned
    assert "'labels'" not in said.err


def test_quiet_prints_nothing(tmp_path, capsys):
    """Else a script that reads our output breaks."""
    go(tmp_path, weight=1e-5, share_every=1, log_every=1)
    said = capsys.readouterr()
    assert said.out == said.err == ""
