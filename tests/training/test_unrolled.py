"""The differentiable inner loop against plain SGD, finite differences and itself with less memory. P parameters."""

from __future__ import annotations

import weakref

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from tutelage.errors import BadInput
from tutelage.signals import Model
from tutelage.training import Layout, distance_left, logits_with, unrolled_sgd

D = torch.float64


@pytest.fixture
def linear(rng):
    """A linear softmax model as a vector, with images and labels."""
    x_BF, y_B = torch.randn(4, 3, generator=rng, dtype=D), torch.tensor([0, 1, 2, 1])
    start_P = torch.randn(9, generator=rng, dtype=D)

    def loss(flat_P, number, x_BF):
        return F.cross_entropy(x_BF @ flat_P.view(3, 3), y_B)

    return loss, start_P, x_BF, torch.randn(9, generator=rng, dtype=D)


@pytest.mark.parametrize("momentum", [0.0, 0.7])
@pytest.mark.parametrize("segment", [None, 2])
def test_it_is_plain_sgd(linear, momentum, segment):
    loss, start_P, x_BF, _ = linear
    weight = start_P.clone().requires_grad_()
    sgd = torch.optim.SGD([weight], lr=0.3, momentum=momentum)
    seen = []
    for number in range(5):
        sgd.zero_grad()
        loss(weight, number, x_BF).backward()
        sgd.step()
        seen.append(weight.detach().clone())
    found = unrolled_sgd(loss, start_P, 0.3, 5, others=[x_BF], momentum=momentum, keep=(0, 1, 3), segment=segment)
    for one, other in zip(found, [start_P, seen[0], seen[2], seen[4]], strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("momentum", [0.0, 0.6])
@pytest.mark.parametrize("segment", [None, 1, 3])
def test_the_gradient_to_images_rate_and_start_is_that_of_finite_differences(linear, momentum, segment):
    loss, start_P, x_BF, target_P = linear

    def left(x_BF, rate, start_P):
        middle_P, end_P = unrolled_sgd(loss, start_P, rate, 4, others=[x_BF], momentum=momentum, keep=(2,), segment=segment)
        return distance_left(end_P, start_P, target_P) + 0.5 * distance_left(middle_P, start_P, target_P)

    given = (x_BF.clone().requires_grad_(), torch.tensor(0.2, dtype=D, requires_grad=True), start_P.clone().requires_grad_())
    assert torch.autograd.gradcheck(left, given)


def net_of(rng) -> tuple[Model, Layout, torch.Tensor, torch.Tensor, torch.Tensor]:
    """A convolution with batch norm and dropout, whose draws must be the same when a segment is computed again."""
    torch.manual_seed(5)
    net = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.Tanh(), nn.Dropout(0.3), nn.Flatten(), nn.Linear(48, 3)).to(D)
    layout = Layout.of(net)
    x_BCHW = torch.randn(6, 1, 6, 6, generator=rng, dtype=D)
    return Model(net), layout, layout.flat(dict(net.named_parameters())).detach(), x_BCHW, torch.tensor([0, 1, 2, 0, 1, 2])


@pytest.mark.parametrize("segment", [1, 2, 3, 6, 50])
def test_segments_give_the_same_bits_as_the_whole_graph(rng, segment):
    model, layout, start_P, x_BCHW, y_B = net_of(rng)
    target_P = start_P + 0.1

    def loss(flat_P, number, x_BCHW):
        return F.cross_entropy(logits_with(model, layout, flat_P, {"x": x_BCHW}), y_B)

    found = []
    for size in (None, segment):
        x, rate = x_BCHW.clone().requires_grad_(), torch.tensor(0.1, dtype=D, requires_grad=True)
        middle_P, end_P = unrolled_sgd(loss, start_P, rate, 6, others=[x], momentum=0.5, keep=(4,), segment=size, seed=3)
        total = distance_left(end_P, start_P, target_P) + distance_left(middle_P, start_P, target_P)
        total.backward()
        found.append((total.detach(), x.grad, rate.grad))
    assert torch.equal(found[0][0], found[1][0])
    torch.testing.assert_close(found[0][1], found[1][1], rtol=1e-12, atol=1e-15)
    torch.testing.assert_close(found[0][2], found[1][2], rtol=1e-12, atol=1e-15)


def test_segments_hold_less_memory(rng):
    model, layout, start_P, x_BCHW, y_B = net_of(rng)

    def loss(flat_P, number, x_BCHW):
        return F.cross_entropy(logits_with(model, layout, flat_P, {"x": x_BCHW}), y_B)

    def kept(segment) -> int:
        alive = weakref.WeakSet()

        class Held:
            def __init__(self, tensor):
                self.tensor = tensor.detach()  # an output that is saved with its graph would hold itself

        def pack(tensor):
            alive.add(held := Held(tensor))
            return held

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda held: held.tensor):
            result = unrolled_sgd(loss, start_P, 0.1, 16, others=[x_BCHW.clone().requires_grad_()], segment=segment)
        storages = {held.tensor.untyped_storage().data_ptr(): held.tensor.untyped_storage().nbytes() for held in alive}
        assert result[0].requires_grad
        return sum(storages.values())

    # what the graph holds when the loop is over: of the segments only their starts
    assert kept(4) < kept(None) / 5


def test_no_gradient_and_no_statistic_reaches_the_net_itself(rng):
    model, layout, start_P, x_BCHW, y_B = net_of(rng)
    before = {k: v.clone() for k, v in model.module.state_dict().items()}
    x = x_BCHW.clone().requires_grad_()
    (end_P,) = unrolled_sgd(lambda p, _, x: F.cross_entropy(logits_with(model, layout, p, {"x": x}), y_B), start_P, 0.1, 2, others=[x])
    end_P.sum().backward()
    assert all(torch.equal(v, before[k]) for k, v in model.module.state_dict().items())
    assert all(p.grad is None for p in model.module.parameters())


def test_the_distance_left_is_one_at_rest_and_zero_on_arrival(linear):
    loss, start_P, x_BF, target_P = linear
    (rest_P,) = unrolled_sgd(loss, start_P, 0.0, 3, others=[x_BF])
    assert distance_left(rest_P, start_P, target_P) == 1
    assert distance_left(target_P, start_P, target_P) == 0
    (end_P,) = unrolled_sgd(loss, start_P, 0.4, 3, others=[x_BF])
    assert distance_left(end_P, start_P, end_P) == 0
    torch.testing.assert_close(distance_left(3 * end_P, 3 * start_P, 3 * target_P), distance_left(end_P, start_P, target_P))
    assert distance_left(start_P, start_P, start_P).isfinite()


def test_a_layout_is_the_parameters_of_a_net_there_and_back(rng):
    model, layout, start_P, *_ = net_of(rng)
    own = dict(model.module.named_parameters())
    assert all(torch.equal(part, own[name]) for name, part in layout.named(start_P).items())
    assert torch.equal(layout.flat(model.module.state_dict()), start_P)  # buffers are left out
    with pytest.raises(BadInput, match="is missing; expected the parameters"):
        layout.flat({})
    with pytest.raises(BadInput, match="of shape"):
        layout.flat({**own, "0.bias": torch.zeros(4)})


def test_no_steps_leave_the_start_and_nonsense_is_refused(linear):
    loss, start_P, x_BF, _ = linear
    assert torch.equal(unrolled_sgd(loss, start_P, 0.1, 0, others=[x_BF])[-1], start_P)
    for wrong in ({"momentum": 1.0}, {"segment": 0}, {"keep": (4,)}):
        with pytest.raises(BadInput, match="unrolled_sgd"):
            unrolled_sgd(loss, start_P, 0.1, 3, others=[x_BF], **wrong)
