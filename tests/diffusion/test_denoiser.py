"""Denoisers: what a net's output means, classes, guidance, and schedules that do not fit."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tutelage.diffusion import cosine, linear
from tutelage.diffusion.denoiser import Denoiser, same_noise
from tutelage.diffusion.parametrization import edm_input, read
from tutelage.errors import BadInput
from tutelage.signals import Model
from tutelage.students.unet import unet


class Net(nn.Module):
    """Says its class number times the image, plus the time."""

    classes = 4

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones((), dtype=torch.float64))

    def forward(self, x, t, label):
        return self.scale * (label.to(x).view(-1, 1) * x + t.to(x).view(-1, 1) / 1000)


@pytest.fixture
def asked(rng):
    return torch.randn(3, 5, generator=rng, dtype=torch.float64), torch.tensor([0, 300, 999])


@pytest.mark.parametrize("kind", ["eps", "x0", "v", "edm"])
def test_the_output_is_read_by_its_kind(kind, asked):
    x_t, t = asked
    a, s = linear().levels(t, x_t)
    net, label = Net(), torch.tensor([0, 1, 3])
    said = Denoiser(Model(net), kind=kind)(x_t, t, label)
    own = net(edm_input(x_t, a, s) if kind == "edm" else x_t, t, label)
    torch.testing.assert_close(said.x0, read(kind, own, x_t, a, s).x0)


def test_no_class_is_the_number_behind_the_last(asked):
    x_t, t = asked
    denoiser = Denoiser(Model(Net()))
    without = denoiser(x_t, t)
    torch.testing.assert_close(without.eps, Net()(x_t, t, torch.full((3,), 4)))
    torch.testing.assert_close(denoiser(x_t, t, torch.full((3,), -1)).eps, without.eps)


def test_guidance_goes_on_from_none_through_the_class(asked):
    """0 is unconditional, 1 conditional, 2 as far again; in eps, x0 and score alike, which are affine in the output."""
    x_t, t = asked
    label = torch.tensor([0, 2, 3])
    plain, own = Denoiser(Model(Net()))(x_t, t), Denoiser(Model(Net()))(x_t, t, label)
    for w in (0.0, 1.0, 2.5):
        for kind in ("eps", "v", "edm"):
            plain, own = (Denoiser(Model(Net()), kind=kind)(x_t, t, each) for each in (None, label))
            found = Denoiser(Model(Net()), kind=kind, guidance=w)(x_t, t, label)
            torch.testing.assert_close(found.x0, plain.x0 + w * (own.x0 - plain.x0))
            torch.testing.assert_close(found.eps, plain.eps + w * (own.eps - plain.eps))


def test_a_net_says_what_it_is():
    """So that a run's folder is enough to sample from it."""
    denoiser = Denoiser(Model(lambda: unet(predicts="v", noise="cosine", times=50, classes=7, width=4)))
    assert (denoiser.kind, denoiser.classes) == ("v", 7)
    assert denoiser.schedule == cosine(50)


def test_gradients_reach_what_it_was_given_and_the_model(asked):
    x_t, t = asked
    model = Model(Net())
    x_t.requires_grad_()
    Denoiser(model, guidance=2.0)(x_t, t, torch.tensor([0, 1, 2])).x0.sum().backward()
    assert x_t.grad is not None
    assert model.module.scale.grad is not None


def test_what_does_not_fit_is_refused(asked):
    x_t, t = asked
    with pytest.raises(BadInput, match="knows 4 classes, but was asked for class number 4"):
        Denoiser(Model(Net()))(x_t, t, torch.tensor([0, 1, 4]))
    with pytest.raises(BadInput, match="knows no classes"):
        Denoiser(Model(Net()), classes=0, guidance=2.0)(x_t, t)
    with pytest.raises(BadInput, match="'eps'"):
        Denoiser(Model(Net()), kind="epsilon")
    with pytest.raises(BadInput, match="predicts 'nois'"):
        _ = Denoiser(Model(lambda: unet(predicts="nois"))).kind
    with pytest.raises(BadInput, match="cosine of 1000"):
        same_noise(Denoiser(Model(Net(), name="teacher")), Denoiser(Model(Net()), noise=cosine()))
    assert same_noise(Denoiser(Model(Net())), Denoiser(Model(Net()), noise=linear())) == linear()
