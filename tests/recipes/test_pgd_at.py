"""Adversarial training: against loops by hand, in its limits, from the command line, and what it refuses."""

from __future__ import annotations

import pytest
import torch
import yaml
from torch import nn
from torch.nn import functional as F

from tutelage import Fit, Model, Run, RunOptions, train
from tutelage.attacks import Attack, pgd
from tutelage.cli.main import main
from tutelage.data import Data, Order, Table
from tutelage.errors import BadInput
from tutelage.evaluation import measure, predict, under_attack
from tutelage.recipes.alone import alone
from tutelage.recipes.pgd_at import pgd_at

SIZE, FIT = 24, Fit(steps=4, batch_size=8, optimizer="sgd", lr=0.1, momentum=0.0, weight_decay=0.0, schedule="constant")


def pictures(count: int = SIZE) -> Data:
    made = torch.Generator().manual_seed(0)
    x = torch.rand(count, 1, 4, 4, generator=made)
    return Data(Table({"x": x, "y": (x.mean((1, 2, 3)) * 7.4).long() % 3}), classes=("a", "b", "c"), name="pictures")


def net() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.Tanh(), nn.Linear(8, 3))


def go(plan):
    train(plan, Run(None, seed=2, options=RunOptions(device="cpu", quiet=True, share_every=0)))
    return [p.detach() for p in plan.product.module.parameters()]


def by_hand(loss):
    """A loop of plain PyTorch over the batches of a run."""
    data, student = pictures(), Model(net, seed=1)
    order, module = Order(SIZE, FIT.batch_size, 2, "train"), student.module
    for step in range(FIT.steps):
        batch = data.train.batch(order.batch(step)[0])
        module.zero_grad()
        loss(module, batch["x"], batch["y"]).backward()
        with torch.no_grad():
            for p in module.parameters():
                p.sub_(0.1 * p.grad)
    return [p.detach() for p in module.parameters()]


def test_it_equals_a_loop_by_hand():
    """Guards whose gradient, whose sign, which ball: two steps of FGSM's kind from the image itself."""

    def loss(module, x, y):
        found = x
        for _ in range(2):
            asked = found.clone().requires_grad_()
            (slope,) = torch.autograd.grad(F.cross_entropy(module(asked), y), asked)
            found = (x + (found + 0.07 * slope.sign() - x).clamp(-0.1, 0.1)).clamp(0, 1)
        return F.cross_entropy(module(found), y)

    ours = go(pgd_at(Model(net, seed=1), pictures(), attack=Attack(0.1, steps=2, step=0.07, start="none"), fit=FIT))
    for p, q in zip(ours, by_hand(loss), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-5, atol=1e-6)


def test_without_reach_it_is_training_alone():
    """The stated relation, bit for bit."""
    plain = go(alone(Model(net, seed=1), pictures(), fit=FIT))
    assert all(
        torch.equal(p, q) for p, q in zip(go(pgd_at(Model(net, seed=1), pictures(), attack=Attack(0.0), fit=FIT)), plain, strict=True)
    )


def test_trades_without_reach_is_training_alone_and_with_it_is_steadier():
    """KL(p || p) is 0 and has no gradient; with reach the student says less else of attacked images."""
    plain = go(alone(Model(net, seed=1), pictures(), fit=FIT))
    still = go(pgd_at(Model(net, seed=1), pictures(), attack=Attack(0.0, start="near"), trades=3.0, fit=FIT))
    for p, q in zip(still, plain, strict=True):
        torch.testing.assert_close(p, q, rtol=1e-5, atol=1e-6)
    data, fit = pictures(), Fit(steps=60, batch_size=8, lr=3e-2)
    attack, moved = Attack(0.1, steps=3, start="near"), []
    for make in (lambda s: alone(s, data, fit=fit), lambda s: pgd_at(s, data, attack=attack, trades=6.0, fit=fit)):
        student = Model(net, seed=1)
        go(make(student))
        here, there = predict(student, data.train), under_attack(student, data.train, pgd(eps=0.1))
        moved.append(float(F.kl_div(there.logits.log_softmax(-1), here.logits.log_softmax(-1), reduction="batchmean", log_target=True)))
    assert moved[1] < 0.5 * moved[0]


def test_it_withstands_what_training_alone_does_not():
    """The point of it, one pixel carries the class strongly, many others weakly."""
    made = torch.Generator().manual_seed(0)
    y = torch.randint(2, (200,), generator=made)
    x = torch.rand(200, 1, 4, 4, generator=made) * 0.1 + 0.45
    x[:, 0, 0, 0] = 0.5 + 0.3 * (2 * y - 1)
    x[:, 0, 1:] += 0.05 * (2 * y - 1)[:, None, None]
    data = Data(Table({"x": x, "y": y}), classes=("a", "b"))
    fit, found = Fit(steps=150, batch_size=50, lr=3e-2), []
    for make in (alone, lambda s, d, fit: pgd_at(s, d, attack=Attack(0.1, steps=5), fit=fit)):
        student = Model(lambda: nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 2)), seed=1)
        go(make(student, data, fit=fit))
        found.append(measure(under_attack(student, data.train, pgd(eps=0.1)))["accuracy"])
    assert found[1] > 0.9
    assert found[0] < found[1] - 0.2


def test_the_command_line_sets_the_attack(tmp_path, no_page):
    """--attack.eps and --attack.steps reach the plan and the config, and a run resumes with them."""
    words = ["distill", "--recipe", "pgd-at", "--student", "mlp:width=4", "--fit.steps", "2", "--no-baseline", "--quiet"]
    words += ["--attack.eps", "0.05", "--attack.steps", "2", "--attack.start", "near", "--out", str(tmp_path / "run")]
    assert main(words) == 0
    config = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    assert config["attack"] == {**vars(Attack()), "eps": 0.05, "steps": 2, "start": "near"}
    assert config["fit"]["steps"] == 2
    assert main(["distill", "--resume", str(tmp_path / "run"), "--quiet"]) == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--attack.eps", "-1"], "eps=-1.0; expected a finite number of at least 0"),
        (["--attack.epsilon", "1"], "attack.epsilon is not known"),
        (["--attack.norm", "l1"], "expected one of 'linf', 'l2'"),
        (["--attack.against", "teacher"], "there is no teacher"),
        (["--trades", "-1"], "trades=-1.0; expected a finite number of at least 0"),
        (["--teacher", "cnn"], "takes no teacher"),
    ],
)
def test_bad_words_are_answered_in_a_sentence(words, said, tmp_path, capsys):
    given = ["distill", "--recipe", "pgd-at", "--student", "mlp:width=4", "--fit.steps", "2", "--out", str(tmp_path / "run"), *words]
    assert main(given) != 0
    assert said in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_what_is_no_image_is_refused():
    table = Data(Table({"x": torch.rand(8, 5), "y": torch.arange(8) % 2}), name="rows")
    with pytest.raises(BadInput, match="pgd-at attacks images, but rows holds numbers"):
        pgd_at(Model(net), table)
    with pytest.raises(BadInput, match=r"keeps images in \[0, 1\]"):
        go(pgd_at(Model(net), Data(Table({"x": torch.randn(8, 1, 4, 4), "y": torch.arange(8) % 2})), fit=FIT))
