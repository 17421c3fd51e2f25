"""Consistency: where flows end, and when there is nothing to learn."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from gaussians import Exact, moment, reach, scaled
from tutelage.diffusion import Denoiser, Follower, Generator, boundary, consistency, consistent, pseudo_huber
from tutelage.errors import BadInput
from tutelage.signals import Model

C = 0.6
TIMES = torch.arange(1000)


def perfect() -> Denoiser:
    """A net whose consistent answers are where the flow of N(0, C^2) ends: C x_t / R_t."""
    skip, out = (each.flatten() for each in boundary(TIMES, torch.zeros(1000, 1).double()))
    return scaled((C / reach(C, TIMES) - skip) / out)


def images(count=64):
    draws = torch.Generator().manual_seed(1)
    return lambda step: (C * torch.randn(count, 1, generator=draws, dtype=torch.float64), None)


def test_where_nothing_is_noised_an_answer_is_what_was_given(rng):
    x = torch.randn(4, 3, generator=rng, dtype=torch.float64)
    skip, out = boundary(torch.full((4,), -1), x)
    assert torch.equal(skip, torch.ones(4, 1).double())
    assert torch.equal(out, torch.zeros(4, 1).double())
    skip, out = (each.flatten() for each in boundary(torch.tensor([0, 9, 999]), x[:3]))
    for i, t in enumerate((0, 9, 999)):
        scaled_time = 10.0 * (t + 1)
        assert float(skip[i]) == pytest.approx(0.25 / (scaled_time**2 + 0.25))
        assert float(out[i]) == pytest.approx(scaled_time / (scaled_time**2 + 0.25) ** 0.5)


def test_the_flows_own_ends_leave_nothing_to_learn():
    """With small steps of the teacher the exact map has no loss, another one has; and gradients reach only the student."""
    student = perfect()
    losses = {}
    for steps in (10, 50, 1000):
        loss = consistency(student, perfect(), Exact(C), steps=steps, huber=1e-3, images=images())
        losses[steps] = loss(moment())[0].values.mean().item()
    assert losses[1000] < losses[50] < losses[10]
    assert losses[1000] < 1e-5
    wrong, target = scaled(0.3), scaled(0.3)
    values = consistency(wrong, target, Exact(C), steps=50, images=images())(moment())[0].values
    assert values.mean().item() > 10 * losses[50]
    values.sum().backward()
    assert wrong.model.module.rate.grad is not None
    assert target.model.module.rate.grad is None


def test_at_the_end_of_the_grid_the_goal_is_the_teachers_image():
    """With one time on the grid the student is simply shown the image that the teacher sees."""
    student, target = scaled(0.5), scaled(100.0)
    step = moment(3)
    x = C * torch.randn(8, 1, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    values = consistency(student, target, Exact(C), steps=1, huber=0.0, images=lambda _: (x, None))(step)[0].values
    noise = torch.randn(x.shape, generator=step.rng("consistency-noise"), dtype=x.dtype)
    t_B = torch.full((8,), 999)
    x_t = Exact(C).schedule.noised(x, t_B, noise)
    seen = Exact(C)(x_t, t_B).x0
    torch.testing.assert_close(values, (consistent(student, x_t, t_B) - seen).abs().flatten(1).mean(1))


def test_the_distance_is_between_a_square_and_an_absolute_value(rng):
    error = torch.randn(5, 7, generator=rng, dtype=torch.float64)
    torch.testing.assert_close(pseudo_huber(error, 0.0), error.abs().mean(1))
    wide = 1e4
    torch.testing.assert_close(pseudo_huber(error, wide) * 2 * wide, error.square().mean(1), rtol=1e-4, atol=1e-6)
    x = torch.randn(2, 3, generator=rng, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda e: pseudo_huber(e, 0.1), x)
    with pytest.raises(BadInput, match="huber=-1"):
        consistency(scaled(1.0), scaled(1.0), Exact(C), huber=-1)


def test_a_consistent_generator_lands_on_the_data(rng):
    made = Generator(perfect(), (999, 500), consistent=True)
    noise = torch.randn(2, 20_000, 1, generator=rng, dtype=torch.float64)
    one, two = made([noise[0]]).detach(), made(list(noise)).detach()
    assert float(one.std()) == pytest.approx(C, rel=0.02)
    assert float(two.std()) == pytest.approx(C, rel=0.02)


def test_a_follower_is_a_moving_average_and_comes_back():
    ours, theirs = (Model(nn.BatchNorm1d(2), name=name) for name in ("average", "student"))
    follower = Follower(ours, theirs, 0.75)
    expected = torch.ones(2)
    for value in (3.0, -1.0, 2.0):
        nn.init.constant_(theirs.module.weight, value)
        theirs.module.running_mean.fill_(value)
        follower.after_step(None)
        expected = 0.75 * expected + 0.25 * value
    torch.testing.assert_close(ours.module.weight.detach(), expected)
    assert torch.equal(ours.module.running_mean, torch.full((2,), 2.0))
    kept = {name: value.clone() for name, value in follower.state_dict().items()}
    nn.init.zeros_(ours.module.weight)
    follower.load_state_dict(kept)
    torch.testing.assert_close(ours.module.weight.detach(), expected)
    with pytest.raises(BadInput, match="decay=1"):
        Follower(ours, theirs, 1.0)
