"""Zero-cost scores against loops and closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from tutelage.errors import BadInput
from tutelage.evaluation.zero_cost import LOWEST, PROXIES, gradient_norm, nwot, operations, parameters, snip, synflow
from tutelage.signals import Model
from tutelage.students import cnn, resnet, vit


def batch(rng, size=5):
    return {"x": torch.rand(size, 1, 8, 8, generator=rng) - 0.3, "y": torch.arange(size) % 3, "id": torch.arange(size)}


def two_layers():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 7, bias=False), nn.ReLU(), nn.Linear(7, 3, bias=False))


def test_size_and_operations_are_those_of_the_layers(rng):
    model = Model(two_layers)
    assert parameters(model, batch(rng)) == 64 * 7 + 7 * 3
    assert operations(model, batch(rng)) == 2 * (64 * 7 + 7 * 3)


def test_gradient_norm_and_snip_are_those_of_a_backward_pass(rng):
    model, given = Model(two_layers), batch(rng)
    net = Model(two_layers).module
    nn.functional.cross_entropy(net(given["x"]), given["y"]).backward()
    grads = [(p.detach(), p.grad) for p in net.parameters()]
    assert gradient_norm(model, given) == pytest.approx(math.sqrt(sum((g**2).sum().item() for _, g in grads)))
    assert snip(model, given) == pytest.approx(sum((p * g).abs().sum().item() for p, g in grads), rel=1e-5)


def test_synflow_of_linear_layers_is_their_number_times_the_flow(rng):
    """Each layer's sum of |w g| is the whole flow, 1^T |W2| |W1| 1: two layers, twice the flow."""
    model = Model(two_layers)
    first, _, second = model.module[1], model.module[2], model.module[3]
    flow = (second.weight.detach().abs().double() @ first.weight.detach().abs().double()).sum().item()
    before = first.weight.clone()
    assert synflow(model, batch(rng)) == pytest.approx(math.log(2 * flow))
    assert torch.equal(first.weight, before)
    assert first.weight.dtype == torch.float32


def test_nwot_counts_agreeing_units(rng):
    """The kernel by a loop over pairs of samples."""
    model, given = Model(two_layers), batch(rng)
    codes = (model.module[1](given["x"].flatten(1)) > 0).numpy()
    kernel = np.array([[sum(a == b) for b in codes] for a in codes], dtype=float)
    assert nwot(model, given) == pytest.approx(np.linalg.slogdet(kernel + 1e-3 * np.eye(5))[1])


def test_nwot_sees_activations_that_are_functions(rng):
    """The residual blocks call F.relu; hooks on modules would miss half of the net."""

    class Functional(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = two_layers()

        def forward(self, x):
            return self.layers[3](torch.relu(self.layers[1](x.flatten(1))))

    given = batch(rng)
    assert nwot(Model(Functional), given) == nwot(Model(two_layers), given)


@pytest.mark.parametrize("name", PROXIES)
@pytest.mark.parametrize("make", [lambda: resnet(depth=8, width=3, classes=3), lambda: cnn(width=3, classes=3), lambda: vit(classes=3)])
def test_all_scores_are_finite_repeat_and_leave_the_weights(name, make, rng):
    model, given = Model(make), batch(rng)
    before = [p.clone() for p in model.module.parameters()]
    first = PROXIES[name](model, given)
    assert math.isfinite(first)
    assert PROXIES[name](Model(make), given) == first
    assert all(torch.equal(p, was) for p, was in zip(model.module.parameters(), before, strict=True))


@pytest.mark.parametrize("name", PROXIES)
@pytest.mark.parametrize("fill", [0.0, math.nan, 1e38])
def test_a_broken_net_is_ranked_last_and_gives_no_nan(name, fill, rng):
    model, given = Model(two_layers), batch(rng)
    for p in model.module.parameters():
        nn.init.constant_(p, fill)
    found = PROXIES[name](model, given)
    assert math.isfinite(found)
    if name in ("grad-norm", "snip", "synflow") and math.isnan(fill):
        assert found == LOWEST


def test_equal_samples_keep_the_kernel_finite(rng):
    given = batch(rng)
    given["x"] = given["x"][:1].expand(5, -1, -1, -1)
    assert math.isfinite(nwot(Model(two_layers), given))


def test_scores_say_what_they_need(rng):
    unlabelled = {k: v for k, v in batch(rng).items() if k != "y"}
    with pytest.raises(BadInput, match="synflow, nwot, params or flops"):
        snip(Model(two_layers), unlabelled)
    with pytest.raises(BadInput, match="no activation"):
        nwot(Model(lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 3))), unlabelled)
    assert math.isfinite(synflow(Model(two_layers), unlabelled))
