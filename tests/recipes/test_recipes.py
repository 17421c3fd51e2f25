"""The wiring of the recipes, held against independent computations; how recipes are found."""

from __future__ import annotations

import math
import subprocess
import sys

import pytest
import torch
from torch.nn import functional as F

from tutelage import Fit, Frozen, Model, Run, RunOptions, train
from tutelage.data import Data, Order, Table
from tutelage.errors import BadInput, MissingFile
from tutelage.randomness import seeded
from tutelage.recipes import load, recipe
from tutelage.recipes.alone import alone
from tutelage.recipes.born_again import born_again
from tutelage.recipes.fitnets import fitnets
from tutelage.recipes.hinton_kd import hinton_kd
from tutelage.recipes.ps_kd import ps_kd
from tutelage.training import Plan

FIT = Fit(steps=6, batch_size=5, optimizer="sgd", lr=0.1, momentum=0.0, weight_decay=0.0, schedule="constant")


def net(width: int = 4) -> torch.nn.Module:
    return torch.nn.Sequential(torch.nn.Linear(6, width), torch.nn.Tanh(), torch.nn.Linear(width, 3))


@pytest.fixture
def data() -> Data:
    made = torch.Generator().manual_seed(1)
    x, y = torch.randn(17, 6, generator=made), torch.randint(0, 3, (17,), generator=made)
    return Data(Table({"x": x, "y": y}), classes=("a", "b", "c"))


def go(plan: Plan) -> torch.nn.Module:
    train(plan, Run(options=RunOptions(quiet=True, share_every=0), seed=2))
    return plan.product.module


def by_hand(module, data, loss, steps=6, stage="distil", lr=0.1):
    """An independent loop: plain SGD on the same samples."""
    order = Order(len(data.train), 5, 2, stage)
    for step in range(steps):
        positions, _ = order.batch(step)
        batch = data.train.batch(positions)
        module.zero_grad()
        loss(module, batch, step).backward()
        with torch.no_grad():
            for p in module.parameters():
                if p.grad is not None:
                    p -= lr * p.grad
    return module


def same(ours, theirs):
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
def test_hinton_kd_equals_a_loop_that_writes_the_formula_out(data, alpha):
    """Guards weights, the factor T^2 and the batch mean; `reduction="mean"` would divide by the classes."""
    teacher, student = Model(net(8)), Model(lambda: net(), seed=1)
    expected = student.fresh(1).module

    def loss(module, batch, _):
        z, t = module(batch["x"]), teacher.module(batch["x"]).detach()
        kl = sum((p * (p.log() - q.log())).sum() for p, q in zip((t / 3).softmax(1), (z / 3).softmax(1), strict=True)) / len(z)
        return (1 - alpha) * F.nll_loss(z.log_softmax(1), batch["y"]) + alpha * 9 * kl

    ours = go(hinton_kd(Frozen(teacher), student, data, temperature=3.0, alpha=alpha, fit=FIT))
    same(ours, by_hand(expected, data, loss))


def test_hinton_kd_with_alpha_0_equals_training_alone(data):
    """The card's first limit: without the teacher's share there is no teacher."""
    teacher, student = Model(net(8)), Model(lambda: net(), seed=1)
    plain = alone(student.fresh(1), data, fit=FIT)
    plain = plain.map(lambda stage: type(stage)("distil", stage.learners, stage.fit, stage.data))
    ours = go(hinton_kd(Frozen(teacher), student, data, alpha=0.0, fit=FIT))
    for a, b in zip(ours.parameters(), go(plain).parameters(), strict=True):
        assert torch.equal(a, b)


def test_hinton_kd_with_alpha_0_never_runs_the_teacher(data):
    """A teacher that weighs nothing must cost nothing."""
    calls = []
    module = net(8)
    module.register_forward_hook(lambda *_: calls.append(1))
    go(hinton_kd(Frozen(Model(module)), Model(lambda: net()), data, alpha=0.0, fit=FIT))
    assert not calls


def test_hinton_kd_without_labels_asks_for_alpha_1(data):
    """The mend must be named before anything trains."""
    bare = Data(Table({"x": data.train.columns["x"]}))
    with pytest.raises(BadInput, match="alpha=1"):
        hinton_kd(Frozen(Model(net(8))), Model(net()), bare)
    go(hinton_kd(Frozen(Model(net(8))), Model(lambda: net()), bare, alpha=1.0, fit=FIT))


@pytest.mark.parametrize("alpha", [-0.1, 1.1])
def test_hinton_kd_refuses_a_share_outside_0_and_1(data, alpha):
    """A negative weight would train the student away from the labels."""
    with pytest.raises(BadInput, match="alpha"):
        hinton_kd(Frozen(Model(net(8))), Model(net()), data, alpha=alpha)


def test_fitnets_first_stage_moves_only_what_lies_below_the_guided_layer(data):
    """The paper's stage 1 leaves the upper half as it was drawn, bit for bit."""
    student = Model(lambda: net(), seed=1)
    before = student.fresh(1).module
    plan = fitnets(Frozen(Model(net(8))), student, data, hint="1", guided="1", hint_fit=FIT, fit=FIT)
    go(Plan([plan.parts[0]], student))
    after = student.module
    assert not torch.equal(after[0].weight, before[0].weight)
    assert torch.equal(after[2].weight, before[2].weight)
    assert torch.equal(after[2].bias, before[2].bias)
    assert all(p.grad is None for p in after.parameters())


def test_fitnets_first_stage_equals_a_loop_that_regresses_the_hint(data):
    """Guards tap, connector and mean of the hint loss."""
    teacher, student = Model(net(8)), Model(lambda: net(), seed=1)
    expected = student.fresh(1).module
    with seeded("connector", 2, "hint", "hint"):
        regressor = torch.nn.Linear(4, 8)
    both = torch.nn.ModuleList([expected, regressor])

    def loss(_, batch, step):
        return ((regressor(expected[:2](batch["x"])) - teacher.module[:2](batch["x"]).detach()) ** 2).mean()

    plan = fitnets(Frozen(teacher), student, data, hint="1", guided="1", hint_fit=FIT, fit=FIT)
    ours = go(Plan([plan.parts[0]], student))
    by_hand(both, data, loss, stage="hint")
    same(ours, expected)


def test_fitnets_second_stage_equals_a_loop_with_the_falling_weight(data):
    """Guards the ramp 4 -> 1 and the soft part without a factor T^2."""
    teacher, student = Model(net(8)), Model(lambda: net(), seed=1)
    expected = student.fresh(1).module

    def loss(module, batch, step):
        z, t = module(batch["x"]), teacher.module(batch["x"]).detach()
        weight = 4 + (1 - 4) * step / 5
        soft = -((t / 3).softmax(1) * (z / 3).log_softmax(1)).sum(1).mean()
        return F.cross_entropy(z, batch["y"]) + weight * soft

    plan = fitnets(Frozen(teacher), student, data, hint="1", guided="1", hint_fit=FIT, fit=FIT)
    ours = go(Plan([plan.parts[1]], student))
    same(ours, by_hand(expected, data, loss))


def test_fitnets_second_stage_has_the_gradient_of_hinton_kd_when_the_weight_is_constant(data):
    """The card: they differ by the teacher's entropy, a constant, and by the weights."""
    teacher = Frozen(Model(net(8)))
    student = Model(net())
    batch = data.train.batch(torch.arange(5))
    signals, shown = student.observe(batch, {"logits"}), teacher.signals(batch, {"logits"})
    fit = fitnets(teacher, student, data, hint="1", guided="1").parts[1].named["student"].loss
    hinton = hinton_kd(teacher, student, data, temperature=3.0, alpha=0.5).parts[0].named["student"].loss
    ramp = fit.parts[1].weight
    ramp.open()
    # CE + w CE(p, q) against 0.5 CE + 0.5 * 9 * KL: the same up to the factor 2 where w = 9
    ramp.value = 9.0
    parameters = list(student.module.parameters())
    ours = torch.autograd.grad(fit(signals, shown, batch), parameters, retain_graph=True)
    theirs = torch.autograd.grad(hinton(signals, shown, batch), parameters)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, 2 * b, rtol=1e-4, atol=1e-6)


def test_alone_starts_at_the_entropy_of_a_fair_guess(data):
    """A wrong label column or reduction would start elsewhere than log(classes)."""
    flat = Model(lambda: torch.nn.Sequential(torch.nn.Linear(6, 3)))
    for p in flat.module.parameters():
        torch.nn.init.zeros_(p)
    loss = alone(flat, data).parts[0].named["student"].loss
    batch = data.train.batch(torch.arange(17))
    assert loss(flat.observe(batch, {"logits"}), None, batch).item() == pytest.approx(math.log(3))


@pytest.mark.parametrize(("alpha", "steps"), [(0.0, 9), (0.8, 3)])
def test_ps_kd_without_a_past_equals_training_alone_bit_for_bit(data, alpha, steps):
    """The card: alpha 0, or a single epoch, in which the past is the label."""
    fit = Fit(steps=steps, batch_size=5, optimizer="sgd", lr=0.1)
    ours = go(ps_kd(Model(lambda: net(), seed=1), data, alpha=alpha, fit=fit))
    plain = go(alone(Model(lambda: net(), seed=1), data, fit=fit))
    for a, b in zip(ours.parameters(), plain.parameters(), strict=True):
        assert torch.equal(a, b)


def test_ps_kd_equals_a_loop_with_a_table_by_id(data):
    """Guards the schedule, the visit that is stored, and the key of the table."""
    student = Model(lambda: net(), seed=1)
    expected = student.fresh(1).module
    table = torch.eye(3)[data.train.columns["y"]]
    steps, size = 13, len(data.train)

    def loss(module, batch, step):
        z = module(batch["x"])
        share = 0.8 * min(1.0, (step * 5 // size + 1) / (steps * 5 / size))
        target = (1 - share) * torch.eye(3)[batch["y"]] + share * table[batch["id"]]
        table[batch["id"]] = z.detach().softmax(1)
        return -(target * z.log_softmax(1)).sum(1).mean()

    fit = Fit(steps=steps, batch_size=5, optimizer="sgd", lr=0.1, momentum=0.0, weight_decay=0.0, schedule="constant")
    same(go(ps_kd(student, data, fit=fit)), by_hand(expected, data, loss, steps=steps, stage="train"))


@pytest.mark.parametrize("arm", ["ban", "ban+l", "cwtm", "dkpp"])
def test_born_again_trains_each_generation_from_new_weights_on_the_one_before(data, arm):
    """Fresh weights of another seed, and a teacher that stays as it ended."""
    teacher, student = Model(net(4)), Model(lambda: net(), seed=1)
    plan = born_again(Frozen(teacher), student, data, generations=2, arm=arm, fit=FIT)
    first, second = plan.also["generation-1"], plan.also["generation-2"]
    assert plan.product is second
    assert not student.built
    drawn = [m.fresh(m.seed).module[0].weight.clone() for m in (first, second)]
    assert not torch.equal(*drawn)
    train(Plan([plan.parts[0]], first), Run(options=RunOptions(quiet=True, share_every=0), seed=2))
    ended = [p.clone() for p in first.module.parameters()]
    assert not torch.equal(first.module[0].weight, drawn[0])
    go(Plan([plan.parts[1]], second))
    assert all(torch.equal(a, b) for a, b in zip(ended, first.module.parameters(), strict=True))
    batch = data.train.batch(torch.arange(5))
    mean = torch.stack([m.module(batch["x"]).softmax(1) for m in (first, second)]).mean(0)
    torch.testing.assert_close(plan.also["ensemble"].signals(batch, {"logits"})["logits"].exp(), mean)


def test_born_again_ban_has_the_gradient_of_hinton_kd_without_labels(data):
    """Its relation to a neighbour: alpha 1 and temperature 1."""
    teacher, student = Frozen(Model(net(8))), Model(lambda: net(), seed=1)
    plan = born_again(teacher, student, data, generations=1, arm="ban", fit=FIT)
    twin = plan.product.fresh(plan.product.seed)
    kd = hinton_kd(teacher, twin, data, temperature=1.0, alpha=1.0, fit=FIT)
    kd = kd.map(lambda stage: type(stage)("generation-1", stage.learners, stage.fit, stage.data))
    same(go(plan), go(kd))


def test_born_again_refuses_an_unknown_arm_and_no_generation(data):
    """Before anything is built."""
    for wrong in ({"arm": "bam"}, {"generations": 0}):
        with pytest.raises(BadInput, match=next(iter(wrong))):
            born_again(Frozen(Model(net(8))), Model(lambda: net()), data, **wrong)


def test_born_again_asks_for_a_function_where_an_instance_was_given(data):
    """Only a function can build the next generation."""
    with pytest.raises(BadInput, match="give a function that makes it"):
        born_again(Frozen(Model(net(8))), Model(net()), data)


def test_a_recipe_without_a_default_for_a_knob_is_refused():
    """`compare` runs all recipes unattended, so each knob needs a default that works."""
    with pytest.raises(BadInput, match="'temperature' needs a default"):

        @recipe(matches="logits")
        def broken(student, data, *, temperature):
            pass


def test_names_aliases_and_files_find_their_recipe(tmp_path):
    """A user's own method must be as easy to name as ours."""
    assert load("kd") is load("hinton-kd") is load("hinton_kd") is hinton_kd
    file = tmp_path / "mine.py"
    file.write_text(
        "from tutelage import recipe\n\n"
        "@recipe(matches='labels')\ndef mine(student, data, *, weight: float = 1.0):\n    pass\n\ndef plain(x):\n    pass\n"
    )
    assert load(f"{file}:mine").__name__ == "mine"
    with pytest.raises(BadInput, match="not a recipe"):
        load(f"{file}:plain")
    with pytest.raises(BadInput, match="nearest: 'mine'"):
        load(f"{file}:mime")
    with pytest.raises(MissingFile, match="does not exist"):
        load("nowhere.py:mine")
    with pytest.raises(BadInput, match="nearest: 'fitnets'"):
        load("fitnet")
    file.write_text("1/0")
    (tmp_path / "other.py").write_text("1/0")
    with pytest.raises(BadInput, match="ZeroDivisionError"):
        load(f"{tmp_path / 'other.py'}:mine")


def test_listing_recipes_imports_none_of_them():
    """Help must not load what it lists."""
    code = (
        "import sys; from tutelage.recipes import listing; listing(); print([m for m in sys.modules if m.startswith('tutelage.recipes.')])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
