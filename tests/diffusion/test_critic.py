"""The critic: who is judged by what, and where gradients go."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from gaussians import moment, scaled
from tutelage.diffusion import Adversary, Critic, Denoiser
from tutelage.errors import BadInput
from tutelage.signals import Model
from tutelage.students import unet


def denoiser() -> Denoiser:
    torch.manual_seed(0)
    made = unet(classes=3, size=4, width=4, levels=0)
    for p in made.parameters():
        torch.nn.init.normal_(p, std=0.2)
    return Denoiser(Model(made))


def test_a_critic_looks_at_means_and_deviations(rng):
    """So it does not mind where something is."""
    critic = Critic(3).double()
    x = torch.randn(4, 3, 2, 5, generator=rng, dtype=torch.float64)
    moved = x.flatten(2)[:, :, torch.randperm(10, generator=rng)].view_as(x)
    torch.testing.assert_close(critic(x), critic(moved))
    assert critic(x).shape == (4,)
    assert torch.autograd.gradcheck(critic, x.requires_grad_())


def test_both_sides_are_the_formulas_and_pull_in_opposite_ways(rng):
    adversary = Adversary(denoiser())
    x, y = torch.randn(2, 6, 1, 4, 4, generator=rng)
    labels = torch.tensor([0, 1, 2, 0, 1, 2])
    step = moment(1)
    found = adversary.judging(lambda _: (x, labels), lambda _: (y, labels), 0.3)(step)[0]
    expected = F.softplus(adversary.says(step, x, labels, "critic-made")) + F.softplus(-adversary.says(step, y, labels, "critic-real"))
    torch.testing.assert_close(found.values, expected)
    assert found.weight == 0.3
    made = x.clone().requires_grad_()
    term = adversary.misleading(step, made, labels, 0.2)
    torch.testing.assert_close(term.values, F.softplus(-adversary.says(step, x, labels, "adversarial")))
    term.values.sum().backward()
    assert float(made.grad.abs().sum()) > 0
    # a step along the gradient makes the critic more sure that it is real
    nearer = adversary.misleading(step, (made - 0.05 * made.grad).detach(), labels, 0.2).values
    assert float(nearer.detach().mean()) < float(term.values.detach().mean())


def test_a_net_must_show_its_features():
    with pytest.raises(BadInput, match=r"innermost features.*adversarial=0"):
        Adversary(scaled(1.0))
