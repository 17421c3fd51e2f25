"""Predictions in all forms: round trips, closed forms, and the formulas of the papers in a loop."""

from __future__ import annotations

import pytest
import torch

from tutelage.diffusion import linear
from tutelage.diffusion.parametrization import KINDS, SIGMA_DATA, edm_input, edm_scales, read, target
from tutelage.errors import BadInput

B, C, H, W = 3, 2, 5, 7


@pytest.fixture
def drawn(rng):
    x0, eps = torch.randn(2, B, C, H, W, generator=rng, dtype=torch.float64)
    t = torch.tensor([0, 300, 999])
    made = linear(1000)
    a, s = made.levels(t, x0)
    return x0, eps, a, s, made.noised(x0, t, eps)


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_perfect_net_gives_is_read_as_image_and_noise(kind, drawn):
    x0, eps, a, s, x_t = drawn
    said = read(kind, target(kind, x0, eps, a, s), x_t, a, s)
    torch.testing.assert_close(said.x0, x0)
    torch.testing.assert_close(said.eps, eps)


@pytest.mark.parametrize("kind", KINDS)
def test_image_and_noise_always_make_up_what_was_given(kind, drawn, rng):
    """Whatever the net said: a x0 + s eps = x_t, or DDIM would leave the path."""
    _, _, a, s, x_t = drawn
    said = read(kind, torch.randn(x_t.shape, generator=rng, dtype=torch.float64), x_t, a, s)
    torch.testing.assert_close(a * said.x0 + s * said.eps, x_t)


def test_the_score_of_a_gaussian(drawn):
    """For data of deviation c the density of x_t is normal with variance a^2 c^2 + s^2."""
    _, _, a, s, x_t = drawn
    c = 1.7
    variance = (a * c).square() + s.square()
    said = read("x0", a * c**2 / variance * x_t, x_t, a, s)
    torch.testing.assert_close(said.score(s), -x_t / variance)


def test_edm_scales_are_those_of_its_table():
    """In Karras et al.'s own variables, one sample at a time."""
    a, s = torch.tensor([0.9, 0.1], dtype=torch.float64), torch.tensor([0.19**0.5, 0.99**0.5], dtype=torch.float64)
    skip, out = edm_scales(a, s)
    for i in range(2):
        sigma = float(s[i] / a[i])
        both = sigma**2 + SIGMA_DATA**2
        assert float(skip[i] * a[i]) == pytest.approx(SIGMA_DATA**2 / both)
        assert float(out[i]) == pytest.approx(sigma * SIGMA_DATA / both**0.5)
        assert float(edm_input(torch.ones(2, dtype=torch.float64), a, s)[i]) == pytest.approx(1 / float(a[i]) / both**0.5)


def test_edm_gives_its_net_inputs_and_targets_of_deviation_one(rng):
    """What its scales are for, at every noise level."""
    x0 = SIGMA_DATA * torch.randn(20_000, generator=rng, dtype=torch.float64)
    eps = torch.randn(20_000, generator=rng, dtype=torch.float64)
    made = linear(1000)
    for t in (5, 300, 900):
        a, s = made.levels(torch.full((20_000,), t), x0)
        assert float(edm_input(a * x0 + s * eps, a, s).std()) == pytest.approx(1, abs=0.02)
        assert float(target("edm", x0, eps, a, s).std()) == pytest.approx(1, abs=0.02)


def test_what_cannot_be_is_refused(drawn):
    x0, eps, a, s, x_t = drawn
    with pytest.raises(BadInput, match="expected the same shape"):
        read("eps", x_t[:, :1], x_t, a, s)
    for function in (lambda: read("epz", x_t, x_t, a, s), lambda: target("epz", x0, eps, a, s)):
        with pytest.raises(BadInput, match="'eps'"):
            function()
