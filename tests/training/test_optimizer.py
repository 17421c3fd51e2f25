"""Optimizers: groups by pattern, learning rates, the moving average in closed form."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tutelage.errors import BadInput
from tutelage.training import Fit
from tutelage.training.optimizer import Average, make_optimizer, set_lr


def parameters() -> dict[str, nn.Parameter]:
    return {n: nn.Parameter(torch.zeros(2)) for n in ("body.weight", "body.bias", "head.weight", "head.bias")}


def test_groups_take_the_first_pattern_that_fits_and_the_rest_keeps_the_knobs_of_the_fit():
    """Else a backbone that shall learn slowly is trained at the head's rate."""
    named = parameters()
    fit = Fit(steps=1, optimizer="sgd", lr=0.1, momentum=0.5, weight_decay=0.01)
    optimizer = make_optimizer(fit, named, {"*.bias": {"weight_decay": 0.0}, "head.*": {"lr": 1.0, "momentum": 0.0}})
    groups = [({id(p) for p in g["params"]}, g["lr"], g["weight_decay"], g["momentum"]) for g in optimizer.param_groups]
    ids = {n: id(p) for n, p in named.items()}
    assert groups == [
        ({ids["body.bias"], ids["head.bias"]}, 0.1, 0.0, 0.5),
        ({ids["head.weight"]}, 1.0, 0.01, 0.0),
        ({ids["body.weight"]}, 0.1, 0.01, 0.5),
    ]
    set_lr(optimizer, 0.5)
    set_lr(optimizer, 0.25)
    assert [g["lr"] for g in optimizer.param_groups] == [0.025, 0.25, 0.025]


@pytest.mark.parametrize(("name", "kind"), [("sgd", torch.optim.SGD), ("adam", torch.optim.Adam), ("adamw", torch.optim.AdamW)])
def test_each_name_makes_the_optimizer_it_says(name, kind):
    """Else weight decay is coupled where it should not be."""
    optimizer = make_optimizer(Fit(steps=1, optimizer=name, lr=0.3, weight_decay=0.2), parameters(), {})
    assert type(optimizer) is kind
    assert (optimizer.param_groups[0]["lr"], optimizer.param_groups[0]["weight_decay"]) == (0.3, 0.2)


@pytest.mark.parametrize(("groups", "said"), [({"neck.*": {"lr": 1.0}}, "neck"), ({"head.*": {"learning_rate": 1.0}}, "learning_rate")])
def test_a_pattern_that_fits_nothing_and_an_unknown_knob_are_refused(groups, said):
    """Else a misspelt pattern leaves the whole model at one rate."""
    with pytest.raises(BadInput, match=said):
        make_optimizer(Fit(steps=1), parameters(), groups)


def test_the_average_has_its_closed_form_and_swapping_twice_changes_nothing(rng):
    """Else the averaged student is not the one that papers report."""
    p = nn.Parameter(torch.randn(5, dtype=torch.float64, generator=rng))
    start, decay, seen = p.detach().clone(), 0.8, []
    average = Average({"p": p}, decay)
    for _ in range(6):
        with torch.no_grad():
            p.add_(torch.randn(5, dtype=torch.float64, generator=rng))
        seen.append(p.detach().clone())
        average.update()
    expected = decay**6 * start + sum((1 - decay) * decay ** (5 - i) * w for i, w in enumerate(seen))
    torch.testing.assert_close(average.mean["p"], expected)
    mean = average.mean["p"].clone()
    average.swap()
    assert torch.equal(p, mean)
    assert torch.equal(average.mean["p"], seen[-1])
    average.swap()
    assert torch.equal(p, seen[-1])
    assert torch.equal(average.mean["p"], mean)
