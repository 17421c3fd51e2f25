"""Equal budgets: every recipe's stages together take as many updates, or as long, as was allowed."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tutelage.errors import BadInput
from tutelage.jobs.comparison.budget import Speed, probe, scaled, updates_of
from tutelage.jobs.comparison.contenders import contenders
from tutelage.jobs.sources import data_from
from tutelage.training import Fit

ROLES = {"teacher": "cnn:width=2,depth=2", "student": "cnn:width=2,depth=2"}


@pytest.fixture(scope="module")
def found() -> dict:
    """All recipes that are listed, on the digits."""
    return {each.name: each for each in contenders(None, ROLES, data_from("digits"), 0, False)[0]}


@pytest.mark.parametrize("amount", [3, 10, 100, 1000, 10**12])
@pytest.mark.parametrize("name", ["alone", "hinton-kd", "fitnets", "born-again", "ps-kd"])
def test_all_stages_together_keep_the_budget(name, amount, found):
    """Born-again would otherwise train three times as long as the others."""
    each = found[name]
    knobs = scaled(each.knobs, each.plan, 899, amount)
    spent = updates_of(each.plan(knobs))
    assert spent == amount - amount % (3 if name == "born-again" else 1)
    assert {n: k for n, k in knobs.items() if not isinstance(k, Fit)} == {n: k for n, k in each.knobs.items() if not isinstance(k, Fit)}


def test_stages_keep_their_proportion_and_all_else_of_their_fits(found):
    """A hint stage that is a quarter of the method stays one."""
    each = found["fitnets"]
    lr = {**each.knobs, "hint_fit": replace(each.knobs["hint_fit"], lr=0.5, optimizer="sgd")}
    knobs = scaled(lr, each.plan, 899, 1000)
    assert (knobs["hint_fit"].steps, knobs["fit"].steps) == (250, 750)
    assert (knobs["hint_fit"].lr, knobs["hint_fit"].optimizer, knobs["hint_fit"].epochs) == (0.5, "sgd", None)


def test_a_budget_that_is_too_small_is_refused(found):
    """Three generations take three updates at least."""
    with pytest.raises(BadInput, match="shortest training costs 3, more than the budget of 2"):
        scaled(found["born-again"].knobs, found["born-again"].plan, 899, 2)


def test_a_recipe_without_a_fit_is_refused(found):
    """Nothing would say how to lengthen it."""
    with pytest.raises(BadInput, match="no knob of the kind Fit"):
        scaled({"temperature": 4.0}, found["alone"].plan, 899, 100)


def test_time_is_shared_by_speed(found):
    """With an update of the hint stage ten times as fast, the stages keep the proportion of their updates, not of their times."""
    each = found["fitnets"]
    speed = Speed({"hint": 0.01, "distil": 0.1}, validation=1.0)
    knobs = scaled(each.knobs, each.plan, 899, 100.0, speed.seconds)
    plan = each.plan(knobs)
    hint, distil = (part.updates() for part in plan.parts)
    size = len(each.data.train)
    by_hand = 0.01 * hint + 0.1 * distil + (hint + distil) * 64 / size * 1.0
    assert speed.seconds(plan) == pytest.approx(by_hand)
    assert 99.8 < by_hand <= 100.0
    assert distil / hint == pytest.approx(3, rel=0.01)


def test_a_probe_times_each_stage(tmp_path, found):
    """Where minutes are given, the number of updates comes from it."""
    each = found["fitnets"]
    numbers = probe(tmp_path / "fitnets", recipe="fitnets", roles=ROLES, data="digits", knobs=each.plain(each.knobs), seed=0)
    assert set(numbers["stages"]) == {"hint", "distil"}
    assert all(0 < seconds < 5 for seconds in (*numbers["stages"].values(), numbers["validation"]))
    assert not list(tmp_path.iterdir())
