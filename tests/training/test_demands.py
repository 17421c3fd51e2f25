"""What a plan asks of its teachers' logits is checked before anything trains, and what they can answer trains. Shapes: B=4, V=5."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from tutelage.data import Data, Table
from tutelage.errors import BadInput, ShapeMismatch
from tutelage.objectives import CrossEntropy, Match, Objective, jensen_shannon, mse, permuted_dark, soft_cross_entropy, soft_targets
from tutelage.recipes.born_again import born_again
from tutelage.recipes.fitnets import fitnets
from tutelage.recipes.hinton_kd import hinton_kd
from tutelage.recipes.ps_kd import ps_kd
from tutelage.signals import Model, Signals
from tutelage.signals.sparse import TAILS, sampled, top_k
from tutelage.state import linear_ramp
from tutelage.teachers import Frozen, Gives, PastSelf, Teacher
from tutelage.training import Fit, Learner, Plan, Run, RunOptions, Stage, train

V = 5
FIT = Fit(steps=3, batch_size=4)
OPTIONS = RunOptions(device="cpu", quiet=True)


class Kept(Teacher):
    """A teacher that shows its logits in a sparse form, and its taps as they are."""

    def __init__(self, model: Model, form: str, k: int = 2, temperature: float = 1.0, tail: str = "bucket") -> None:
        self.of, self.form, self.k, self.temperature, self.tail = Frozen(model), form, k, temperature, tail
        self.gives = Gives(forms=frozenset({form}), taps="any", new_inputs=False)
        self.name = "cache runs/kept"

    def signals(self, batch, taps, *, view=None):
        found = dict(self.of.signals(batch, taps, view=view))
        if "logits" in found:
            logits = found["logits"]
            if self.form == "top-k":
                found["logits"] = replace(top_k(logits, self.k, self.temperature), tail=self.tail)
            else:
                uniforms = (batch["id"].double() * 0.6180339887) % 1
                found["logits"] = sampled(logits, self.k, uniforms, self.temperature)
        return Signals(found)

    def models(self):
        return self.of.models()


@pytest.fixture
def data(rng):
    x, y = torch.randn(12, 3, generator=rng), torch.randint(V, (12,), generator=rng)
    table = Table({"x": x, "y": y})
    return Data(table, table, classes=tuple("abcde"), name="numbers")


def net(classes: int = V, seed: int = 0) -> Model:
    def build() -> nn.Module:
        return nn.Sequential(nn.Linear(3, 6), nn.Tanh(), nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, classes))

    return Model(build, name="net", seed=seed)


def weights(model: Model) -> list[torch.Tensor]:
    return [p.detach().clone() for p in model.module.parameters()]


def refused(said: str, loss: Objective, teacher: Teacher, data, error=BadInput) -> None:
    """A plan whose second stage cannot be answered raises before the first one has moved a bit."""
    student = net()
    first = Stage("first", Learner(student, CrossEntropy()), FIT, data.train)
    before = weights(student)
    with pytest.raises(error, match=said):
        train(Plan([first, Stage("distil", Learner(student, loss, teacher), FIT, data.train)], student), Run(options=OPTIONS))
    assert all(torch.equal(a, b) for a, b in zip(weights(student), before, strict=True))


@pytest.mark.parametrize("form", ["top-k", "sampled"])
def test_a_term_that_needs_all_classes_is_refused_with_stage_term_teacher_reason_and_way_out(data, form):
    """Else the kept classes are trained on as if they were all, or the first batch fails without names."""
    teacher = Kept(net(seed=1), form)
    reasons = {
        r"soft_targets\(reverse\) is KL\(student \|\| teacher\), which looks where the student puts its mass.*direction='forward'.*": Match(
            "logits", by=soft_targets(1.0, "reverse"), name="soft"
        ),
        "mse is computed from all classes": Match("logits", by=mse(), name="soft"),
        r"a bare function is given all classes \(a Distance can say that it accepts fewer\)": Match(
            "logits", by=lambda s, t: (s - t).sum(-1), name="soft"
        ),
        "its target puts the teacher's values for all classes in another order, and so needs all of them": Match(
            "logits", by=soft_cross_entropy(), target=permuted_dark(), name="soft"
        ),
        "Own reads all classes": own_objective().named("soft"),
    }
    for reason, loss in reasons.items():
        said = (
            f"stage 'distil': term 'soft' cannot read what cache runs/kept gives, {form} logits: {reason}; "
            r"give a teacher that shows all classes \(a cache: written with --keep all\)"
        )
        refused(said, CrossEntropy() + 0.5 * loss, teacher, data)


def own_objective() -> Objective:
    class Own(Match):
        refuses = Objective.refuses

    return Own("logits", by=soft_targets(1.0))


def test_a_term_is_only_asked_about_the_logits_where_it_reads_them(data):
    """A hint from features has nothing to do with the form of logits beside it."""
    student = net()
    loss = Match("1", by=mse()) + Match("logits", by=soft_targets(1.0))
    plan = Plan([Stage("distil", Learner(student, loss, Kept(net(seed=1), "top-k")), FIT, data.train)], student)
    before = weights(student)
    train(plan, Run(options=OPTIONS))
    assert not any(torch.equal(a, b) for a, b in zip(weights(student), before, strict=True))


def test_a_teacher_that_gives_no_logits_is_not_asked_for_them(data):
    """A past self shows probabilities; asked for logits it would fail at the first batch."""
    refused("term 'logits' reads the teacher's logits, but past self gives none", Match("logits", by=soft_targets(1.0)), PastSelf(V), data)


@pytest.mark.parametrize("form", ["top-k", "sampled"])
def test_temperatures_and_classes_that_do_not_fit_are_found_before_the_first_stage_trains(data, form):
    """Else hours are lost to a number."""
    teacher = Kept(net(seed=1), form)
    refused(r"kept at temperature 1, soft_targets\(forward\) asks for 4", Match("logits", by=soft_targets(4.0)), teacher, data)
    moving = Match("logits", by=jensen_shannon(0.5, linear_ramp(1.0, 4.0)))
    refused("kept at temperature 1 and cannot be read at another, but its temperature moves", moving, teacher, data)
    other = Kept(net(classes=7), form)
    refused(r"student has shape \(2, 5\).*\(2, 7\)", Match("logits", by=soft_targets(1.0)), other, data, ShapeMismatch)


def trained(make, teacher: Teacher, data) -> list[torch.Tensor]:
    plan = make(teacher, net(), data)
    train(plan, Run(options=OPTIONS))
    return weights(plan.product)


RECIPES = {
    "hinton-kd": lambda t, s, d: hinton_kd(t, s, d, temperature=3.0, fit=FIT),
    "hinton-kd, soft targets only": lambda t, s, d: hinton_kd(t, s, d, temperature=3.0, alpha=1.0, fit=FIT),
    "fitnets": lambda t, s, d: fitnets(t, s, d, hint="1", guided="1", temperature=3.0, hint_fit=FIT, fit=FIT),
    "ban": lambda t, s, d: born_again(t, s, d, generations=1, arm="ban", fit=FIT),
    "ban+l": lambda t, s, d: born_again(t, s, d, generations=1, arm="ban+l", fit=FIT),
}
EITHER = [("top-k", tail) for tail in TAILS] + [("sampled", "bucket")]


@pytest.mark.parametrize(("form", "tail"), EITHER, ids=[*TAILS, "sampled"])
@pytest.mark.parametrize("recipe", RECIPES)
def test_recipes_train_from_kept_classes_and_as_from_all_of_them_where_all_are_kept(data, recipe, form, tail):
    """The promise of a cache: the same recipe, another teacher."""
    at = 1.0 if recipe.startswith("ban") else 3.0
    dense = trained(RECIPES[recipe], Frozen(net(seed=1)), data)
    whole = trained(RECIPES[recipe], Kept(net(seed=1), form, V, at, tail), data)
    for a, b in zip(whole, dense, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
    part = trained(RECIPES[recipe], Kept(net(seed=1), form, 2, at, tail), data)
    assert not all(torch.allclose(a, b, rtol=1e-4, atol=1e-5) for a, b in zip(part, dense, strict=True))
    assert all(a.isfinite().all() for a in part)


def test_arms_that_weigh_by_confidence_take_top_k_and_those_that_permute_take_neither(data):
    """What an arm needs is decided by its loss, not by its recipe."""
    cwtm = lambda t, s, d: born_again(t, s, d, generations=1, arm="cwtm", fit=FIT)  # noqa: E731
    for a, b in zip(trained(cwtm, Kept(net(seed=1), "top-k"), data), trained(cwtm, Frozen(net(seed=1)), data), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
    with pytest.raises(BadInput, match="ConfidenceWeighted weighs by the largest probability, whose class may not have been kept"):
        trained(cwtm, Kept(net(seed=1), "sampled"), data)
    for form in ("top-k", "sampled"):
        with pytest.raises(BadInput, match=r"term 'permuted-targets' cannot read .* in another order"):
            trained(lambda t, s, d: born_again(t, s, d, generations=1, arm="dkpp", fit=FIT), Kept(net(seed=1), form), data)


def test_a_recipe_without_a_teacher_of_its_own_still_trains(data):
    """Its past self gives probabilities and no logits, and none are asked for."""
    student = net()
    before = weights(student)
    train(ps_kd(student, data, fit=FIT), Run(options=OPTIONS))
    assert not any(torch.equal(a, b) for a, b in zip(weights(student), before, strict=True))
