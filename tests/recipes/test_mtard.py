"""MTARD's wiring: against a loop by hand, in its limits, from the command line by roles, and what it refuses."""

from __future__ import annotations

import json
import math

import pytest
import torch
import yaml
from torch import nn
from torch.nn import functional as F

from tutelage import Fit, Frozen, Model, Run, RunOptions, distill, train
from tutelage.attacks import Attack
from tutelage.cli.main import main
from tutelage.data import Data, Order, Table
from tutelage.errors import BadInput
from tutelage.evaluation import predict
from tutelage.jobs import models
from tutelage.recipes.hinton_kd import hinton_kd
from tutelage.recipes.mtard import mtard
from tutelage.teachers import Gives, Teacher
from tutelage.training import rehearse
from tutelage.training.parts import stateful_parts

SIZE, FIT = 24, Fit(steps=6, batch_size=8, optimizer="sgd", lr=0.3, momentum=0.0, weight_decay=0.0, schedule="constant")
STILL = Attack(0.1, steps=2, step=0.07, start="none")


def pictures(labelled: bool = True) -> Data:
    made = torch.Generator().manual_seed(0)
    x = torch.rand(SIZE, 1, 4, 4, generator=made)
    columns = {"x": x, "y": (x.mean((1, 2, 3)) * 7.4).long() % 3}
    return Data(Table(columns if labelled else {"x": x}), classes=("a", "b", "c"), name="pictures")


def net(scale: float = 1.0, seed: int = 0) -> Model:
    def make() -> nn.Module:
        made = nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.Tanh(), nn.Linear(8, 3))
        made[3].weight.data.mul_(scale)
        return made

    return Model(make, seed=seed)


def go(plan, micro_batch=None):
    train(plan, Run(None, seed=2, options=RunOptions(device="cpu", quiet=True, share_every=0, micro_batch=micro_batch)))
    return [p.detach() for p in plan.product.module.parameters()]


def numbers(plan) -> dict[str, dict[str, float]]:
    return {type(part).__name__: part.numbers for part in stateful_parts(plan.stages[0]).values() if hasattr(part, "numbers")}


@pytest.mark.parametrize("micro_batch", [None, 4])
def test_it_equals_a_loop_by_hand(micro_batch):
    """Which teacher sees what, at which temperature, against which attack, in which balance, and when each moves."""
    data, clean, robust, twin = pictures(), net(8.0, 1), net(1.0, 2), net(1.0, 3)
    order, module = Order(SIZE, FIT.batch_size, 2, "adversarial"), twin.module
    heat, share, first = {"clean": 1.0, "robust": 1.0}, {"clean": 0.5, "robust": 0.5}, None
    for step in range(FIT.steps):
        batch = data.train.batch(order.batch(step)[0])
        x = found = batch["x"]
        for _ in range(2):
            asked = found.clone().requires_grad_()
            (slope,) = torch.autograd.grad(F.cross_entropy(module(asked), batch["y"]), asked)
            found = (x + (found + 0.07 * slope.sign() - x).clamp(-0.1, 0.1)).clamp(0, 1)
        losses, entropies = {}, {}
        for name, teacher, seen in (("clean", clean, x), ("robust", robust, found)):
            p = (teacher.module(seen).detach() / heat[name]).softmax(-1)
            entropies[name] = float(-(p * p.log()).sum(-1).mean())
            losses[name] = F.kl_div(module(seen).log_softmax(-1), p, reduction="batchmean")
        module.zero_grad()
        (share["clean"] * losses["clean"] + share["robust"] * losses["robust"]).backward()
        with torch.no_grad():
            for p in module.parameters():
                p.sub_(0.3 * p.grad)
        now = {name: float(each.detach()) for name, each in losses.items()}
        first = first or now
        relative = {name: now[name] / first[name] for name in now}
        share = {name: w - 0.2 * (w - relative[name] / sum(relative.values())) for name, w in share.items()}
        sign = math.copysign(0.3, entropies["clean"] - entropies["robust"])
        heat = {"clean": min(10, max(1, heat["clean"] - sign)), "robust": min(10, max(1, heat["robust"] + sign))}
    rates = {"temperature_rate": 0.3, "balance_rate": 0.2}
    plan = mtard(Frozen(clean), Frozen(robust), net(1.0, 3), data, attack=STILL, fit=FIT, **rates)
    for p, q in zip(go(plan, micro_batch), module.parameters(), strict=True):
        torch.testing.assert_close(p, q.detach(), rtol=1e-4, atol=1e-5)
    assert numbers(plan)["EntropyBalance"] == pytest.approx(heat, abs=1e-6)
    assert numbers(plan)["LossBalance"] == pytest.approx(share, abs=1e-5)
    assert heat["clean"] > 2


def test_one_teacher_for_both_and_no_reach_is_plain_distillation():
    """L_adv is L_nat: the weights stay at a half, the temperatures equal."""
    plan = mtard(Frozen(net(4.0, 1)), Frozen(net(4.0, 1)), net(1.0, 3), pictures(), attack=Attack(0.0), fit=FIT)
    plain = hinton_kd(Frozen(net(4.0, 1)), net(1.0, 3), pictures(), temperature=1.0, alpha=1.0, fit=FIT)
    plain = type(plain)([type(s)("adversarial", s.learners, s.fit, s.data) for s in plain.stages], plain.product)
    for p, q in zip(go(plan), go(plain), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-5, atol=1e-6)
    found = numbers(plan)
    assert found["LossBalance"] == pytest.approx({"clean": 0.5, "robust": 0.5})
    assert found["EntropyBalance"]["clean"] == found["EntropyBalance"]["robust"]


def test_teachers_that_are_attacked_or_not_are_not_mixed_up():
    """Exchanged, they teach another student."""
    one, other = (Frozen(net(6.0, seed)) for seed in (1, 2))
    first, second = (go(mtard(a, b, net(1.0, 3), pictures(), attack=STILL, fit=FIT)) for a, b in ((one, other), (other, one)))
    assert any(not torch.equal(p, q) for p, q in zip(first, second, strict=True))


def test_without_labels_the_attack_is_against_a_teacher_or_the_student_itself():
    for against in ("self", "teacher"):
        attack = Attack(0.1, steps=2, start="near", against=against)
        go(mtard(Frozen(net(1.0, 1)), Frozen(net(1.0, 2)), net(1.0, 3), pictures(labelled=False), attack=attack, fit=FIT))
    with pytest.raises(BadInput, match=r"pictures has no labels, which the attack is against; give attack\.against=self or teacher"):
        mtard(Frozen(net()), Frozen(net()), net(), pictures(labelled=False))


class Known(Teacher):
    """A teacher that knows the samples and nothing else, such as a cache."""

    name = "cache runs/kept"
    gives = Gives(new_inputs=False)

    def signals(self, batch, taps, *, view=None):
        return Frozen(net()).signals(batch, taps)


def test_the_clean_teacher_may_be_a_cache_and_the_robust_one_not():
    run = Run(None, options=RunOptions(device="cpu", quiet=True))
    rehearse(run, mtard(Known(), Frozen(net(1.0, 2)), net(1.0, 3), pictures(), attack=STILL, fit=FIT))
    with pytest.raises(BadInput, match=r"view 'attacked' asks the teacher \(cache runs/kept\) about new inputs"):
        rehearse(run, mtard(Frozen(net(1.0, 2)), Known(), net(1.0, 3), pictures(), attack=STILL, fit=FIT))


WORDS = ["--recipe", "mtard", "--fit.steps", "3", "--fit.batch_size", "16", "--attack.eps", "0.05", "--attack.steps", "2", "--quiet"]


def test_the_command_line_takes_both_teachers_by_role_and_trains_each_for_its_own(tmp_path, no_page):
    """The robust one is trained under the recipe's attack; report, config and a second run know both by name."""
    out = tmp_path / "run"
    schooling = ["--train-teacher", "--teacher_fit.steps", "4", "--teacher_fit.batch_size", "16"]
    pair = ["--clean", "mlp:width=8", "--robust", "mlp:width=6", "--student", "mlp:width=4"]
    assert main(["distill", *WORDS, *pair, *schooling, "--out", str(out)]) == 0
    report = json.loads((out / "report.json").read_text())
    assert report["teachers"] == ["clean", "robust"]
    assert set(report["models"]) == {"clean", "robust", "alone", "student"}
    logged = [[json.loads(line) for line in (out / f"teacher-{n}" / "metrics.jsonl").read_text().splitlines()] for n in (1, 2)]
    assert all(any("terms" in line for line in lines) for lines in logged)
    config = yaml.safe_load((out / "config.yaml").read_text())
    assert (config["clean"], config["robust"], config["attack"]["eps"]) == ("mlp:width=8", "mlp:width=6", 0.05)
    again = ["--clean", str(out / "teacher-1"), "--robust", str(out / "teacher-2"), "--student", "mlp:width=4"]
    assert main(["distill", *WORDS, *again, "--no-baseline", "--out", str(tmp_path / "again")]) == 0
    assert main(["distill", "--resume", str(tmp_path / "again"), "--quiet"]) == 0


def test_the_robust_teacher_is_trained_as_pgd_at_trains(tmp_path, no_page):
    """With the attack of the recipe, the weights are those of a run of `pgd-at` under the same seed."""
    from tutelage.recipes.pgd_at import pgd_at

    attack, fit = Attack(0.05, steps=2), Fit(steps=4, batch_size=16)
    quiet = RunOptions(device="cpu", quiet=True)
    found = {"clean": "mlp:width=8", "robust": "mlp:width=6", "student": "mlp:width=4"}
    distill(
        recipe="mtard",
        attack=attack,
        teacher_fit=fit,
        train_teacher=True,
        baseline=False,
        fit=FIT,
        out=tmp_path / "o",
        options=quiet,
        **found,
    )
    from tutelage.jobs.sources import data_from
    from tutelage.randomness import derive

    data = data_from("digits")
    twin = models.model_from("mlp:width=6", "robust", data=data, seed=derive("weights", 0, "robust"))
    train(pgd_at(twin, data, attack=attack, fit=fit), Run(None, seed=0, options=quiet))
    kept = models.model_from(str(tmp_path / "o" / "teacher-2"), "robust", data=data, seed=0)
    torch.testing.assert_close(predict(kept, data.test).logits, predict(twin, data.test).logits)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--clean", "mlp", "--student", "mlp"], "recipe mtard needs a robust: give --robust MODEL_OR_RUN"),
        (["--robust", "mlp", "--student", "mlp"], "recipe mtard needs a clean: give --clean MODEL_OR_RUN"),
        (
            ["--teacher", "mlp", "--clean", "mlp", "--robust", "mlp", "--student", "mlp"],
            "recipe mtard takes no teacher; it takes clean, robust, student",
        ),
        (["--clean", "mlp", "--robust", "mlp", "--student", "mlp"], "has no weights trained for these classes"),
        (["--clean", "mlp", "--robust", "mlp", "--student", "mlp", "--train-teacher", "--balance-rate", "2"], "rate=2.0"),
        (["--clean", "mlp", "--robust", "mlp", "--student", "mlp", "--train-teacher", "--temperature-rate", "-1"], "rate=-1.0"),
        (
            ["--clean", "mlp", "--robust", "mlp", "--student", "mlp", "--train-teacher", "--attack.eps", "nan"],
            "--attack.eps: expected a number",
        ),
        (
            ["--clean", "mlp:classes=4", "--robust", "mlp", "--student", "mlp", "--train-teacher"],
            "gives 4 logits, but digits has 10 classes",
        ),
    ],
)
def test_bad_words_are_answered_in_a_sentence(words, said, tmp_path, capsys):
    assert main(["distill", *WORDS, *words, "--out", str(tmp_path / "run")]) != 0
    assert said in capsys.readouterr().err


def test_a_dry_run_shows_both_teachers(capsys, tmp_path):
    words = ["--clean", "mlp:width=8", "--robust", "mlp:width=6", "--student", "mlp:width=4", "--train-teacher", "--dry-run"]
    assert main(["distill", *WORDS, *words]) == 0
    shown = capsys.readouterr().out
    for word in ("teacher-1", "teacher-2", "adversarial"):
        assert word in shown


def test_text_and_tables_are_refused(tmp_path):
    table = Data(Table({"x": torch.rand(8, 5), "y": torch.arange(8) % 2}), name="rows")
    with pytest.raises(BadInput, match="mtard attacks images, but rows holds numbers"):
        mtard(Frozen(net()), Frozen(net()), net(), table)
