"""Budgets: what may be written, and what cannot be met is said at once."""

from __future__ import annotations

import pytest
import torch

from tutelage.data import digits
from tutelage.errors import BadInput
from tutelage.evaluation import size_of
from tutelage.jobs.searching.budget import Budget, Costs, budget_in
from tutelage.students import cnn
from tutelage.students.space import Space

SPACE = Space({"width": (8, 2, 5), "depth": (3, 2)}, "cnn:width={width},depth={depth}", "mine")


def costs(budget, space=SPACE):
    return Costs(space, digits(), budget_in(budget), torch.device("cpu"))


@pytest.mark.parametrize(
    ("text", "limits"),
    [
        (None, {}),
        ("params=100k", {"params": 1e5}),
        ("params = 1.5M , flops=2g", {"params": 1.5e6, "flops": 2e9}),
        ("latency=5", {"latency": 5.0}),
        ("latency=500us,params=3", {"latency": 0.5, "params": 3.0}),
        ("latency=0.2s", {"latency": 200.0}),
        ({"params": 5}, {"params": 5.0}),
    ],
)
def test_budgets_are_read(text, limits):
    assert budget_in(text) == Budget(pytest.approx(limits))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no kind of cost"),
        ("parms=3", "nearest: 'params'"),
        ("params", "no number of parameters above 0; expected such as params=100k"),
        ("params=-3", "above 0"),
        ("params=nan", "above 0"),
        ("params=5ms", "above 0"),
        ("latency=5k", "such as latency=5ms"),
        ("params=1e400", "above 0"),
        ("flops=2Q", "such as flops=2M"),
        ("params=3,params=4", "twice"),
    ],
)
def test_what_is_no_budget_says_what_is(text, message):
    with pytest.raises(BadInput, match=message):
        budget_in(text)


def test_costs_are_those_of_the_net_that_is_built():
    """A budget that counts another net lets the student grow."""
    found = costs("latency=1s").of({"width": 5, "depth": 2})
    assert found["params"] == size_of(cnn(width=5, depth=2))["parameters"]
    assert found["flops"] > found["params"]
    assert 0 < found["latency"] < 1000


def test_the_cheapest_is_found_whatever_the_order_of_values():
    looked = costs(f"params={size_of(cnn(width=2, depth=2))['parameters']}")
    assert looked.cheapest() == {"width": 2, "depth": 2}
    assert looked.within({"width": 2, "depth": 2})
    assert not looked.within({"width": 2, "depth": 3})


@pytest.mark.parametrize("budget", ["params=10", "flops=10", "params=1M,flops=10", "latency=1e-9"])
def test_a_budget_that_nothing_meets_is_said_with_the_cheapest(budget):
    with pytest.raises(BadInput, match=r"no net of mine was found within the budget .*the cheapest, cnn:width=\d,depth=\d, has [\d,.e+]+"):
        costs(budget).cheapest()


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("cmn:width={width}", "names a net that cannot be used: candidate 'cmn' is not known; nearest: 'cnn'"),
        ("cnn:width={width},size=3", "no option 'size'"),
        ("bag:width={width}", "takes text"),
        ("cnn:width={width},pools=9", "pools below depth"),
    ],
)
def test_nets_that_cannot_be_are_named_with_their_space(spec, message):
    with pytest.raises(BadInput, match=message):
        costs("params=1k", Space({"width": (2, 3)}, spec, "mine")).cheapest()
