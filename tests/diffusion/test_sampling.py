"""Samplers on distributions whose exact denoiser is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.integrate import quad

from tutelage.diffusion import GaussianMixture, ancestral, ddim, jump, linear, noise_of
from tutelage.diffusion.parametrization import Prediction
from tutelage.errors import BadInput

SCHEDULE = linear(1000)


def gaussian(deviation: float = 0.6, mean: float = 0.0) -> GaussianMixture:
    return GaussianMixture(SCHEDULE, torch.tensor([[mean]], dtype=torch.float64), torch.tensor([deviation], dtype=torch.float64))


def pair() -> GaussianMixture:
    means = torch.tensor([[-1.0, 0.5], [1.0, 0.0], [0.0, -1.0]], dtype=torch.float64)
    return GaussianMixture(SCHEDULE, means, torch.tensor([0.1, 0.2, 0.3]).double(), torch.tensor([1.0, 2.0, 1.0]).double())


def test_the_oracle_is_the_mean_over_the_posterior():
    """By numerical integration over x, in one dimension and with two components."""
    mixture = GaussianMixture(
        SCHEDULE, torch.tensor([[-1.0], [2.0]]).double(), torch.tensor([0.3, 0.5]).double(), torch.tensor([1.0, 3.0]).double()
    )
    for t, x_t in ((100, 0.3), (400, -0.7), (900, 1.1)):
        a, s = (float(each) for each in SCHEDULE.levels(torch.tensor([t]), torch.zeros(1, dtype=torch.float64)))

        def joint(x, a=a, s=s, x_t=x_t):
            prior = sum(w / c * np.exp(-((x - m) ** 2) / 2 / c**2) for w, m, c in ((0.25, -1.0, 0.3), (0.75, 2.0, 0.5)))
            return prior * np.exp(-((x_t - a * x) ** 2) / 2 / s**2)

        exact = quad(lambda x, f=joint: x * f(x), -8, 8, limit=400, points=[-1, 2])[0] / quad(joint, -8, 8, limit=400, points=[-1, 2])[0]
        said = mixture(torch.tensor([[x_t]]).double(), torch.tensor([t]))
        assert float(said.x0) == pytest.approx(exact, rel=1e-6)
        assert float(a * said.x0 + s * said.eps) == pytest.approx(x_t)


def test_a_class_of_the_oracle_is_its_component_alone():
    mixture, t = pair(), torch.tensor([500, 500, 500])
    x_t = torch.randn(3, 2, dtype=torch.float64)
    alone = GaussianMixture(SCHEDULE, mixture.means_KD[1:2], mixture.deviations_K[1:2])
    torch.testing.assert_close(mixture(x_t, t, torch.ones(3, dtype=torch.int64)).x0, alone(x_t, t).x0)
    torch.testing.assert_close(mixture(x_t, t, -torch.ones(3, dtype=torch.int64)).x0, mixture(x_t, t).x0)


def test_ddim_of_many_steps_maps_noise_to_the_data(rng):
    """N(0, 1) becomes N(m, c^2): the flow of a Gaussian is linear."""
    noise = torch.randn(4_000, 1, generator=rng, dtype=torch.float64)
    for deviation, mean in ((0.6, 0.0), (0.2, 1.0)):
        found = ddim(gaussian(deviation, mean), noise, 1000)
        assert float(found.std() / noise.std()) == pytest.approx(deviation, rel=0.01)
        assert float(found.mean() - deviation * noise.mean()) == pytest.approx(mean, abs=0.01)
        assert np.corrcoef(found[:, 0], noise[:, 0])[0, 1] == pytest.approx(1)


def test_one_step_of_ddim_is_what_the_denoiser_says_of_noise(rng):
    noise = torch.randn(5, 2, generator=rng, dtype=torch.float64)
    torch.testing.assert_close(ddim(pair(), noise, 1), pair()(noise, torch.full((5,), 999)).x0)


def test_both_samplers_find_the_components_in_their_shares(rng):
    seeds = range(400)
    noise = noise_of(seeds, (2,), dtype=torch.float64)
    for found in (ddim(pair(), noise, 500), ancestral(pair(), noise, 200, seeds)):
        nearest = torch.cdist(found, pair().means_KD).argmin(1)
        shares = torch.bincount(nearest, minlength=3) / len(found)
        torch.testing.assert_close(shares, torch.tensor([0.25, 0.5, 0.25]), atol=0.08, rtol=0)
        for k, deviation in enumerate((0.1, 0.2)):
            assert float(found[nearest == k].std(0).mean()) == pytest.approx(deviation, rel=0.2)


def test_the_ancestral_step_is_the_posterior_of_the_chain():
    """Mean and variance of q(x_u | x_t, x_0) by conditioning the joint Gaussian of x_u and x_t, in NumPy."""
    schedule = SCHEDULE
    t, u = schedule.times(10)[3:5]
    x0, x_t = 0.8, -0.4
    kept_t, kept_u = float(schedule.kept[t]), float(schedule.kept[u])
    step = kept_t / kept_u
    covariance = np.array([[1 - kept_u, step**0.5 * (1 - kept_u)], [step**0.5 * (1 - kept_u), 1 - kept_t]])
    mean = kept_u**0.5 * x0 + covariance[0, 1] / covariance[1, 1] * (x_t - kept_t**0.5 * x0)
    variance = covariance[0, 0] - covariance[0, 1] ** 2 / covariance[1, 1]

    class Fixed:
        """Says the same image always; two of its steps are looked at."""

        def __init__(self) -> None:
            self.schedule, self.given = schedule, []

        def __call__(self, x, t_B, label_B=None):
            self.given.append(x)
            return Prediction(torch.full_like(x, x0), x)

    fixed, count = Fixed(), 4_000
    ancestral(fixed, noise_of(range(count), (1,), dtype=torch.float64), 10, range(count))
    before, after = fixed.given[3], fixed.given[4]
    own = covariance[0, 1] / covariance[1, 1]
    rest = after - (kept_u**0.5 * x0 + own * (before - kept_t**0.5 * x0))
    assert abs(float(rest.mean())) < 4 * (variance / count) ** 0.5
    assert float(rest.var()) == pytest.approx(variance, rel=0.1)
    assert mean == pytest.approx(kept_u**0.5 * x0 + own * (x_t - kept_t**0.5 * x0))


def test_an_image_does_not_depend_on_its_neighbours():
    """A grid of sixteen and the third of it alone."""
    seeds = list(range(16))
    noise, alone = noise_of(seeds, (2,)).double(), noise_of(seeds[2:3], (2,)).double()
    for whole, part in (
        (ddim(pair(), noise, 7), ddim(pair(), alone, 7)),
        (ancestral(pair(), noise, 7, seeds), ancestral(pair(), alone, 7, [2])),
    ):
        torch.testing.assert_close(whole[2:3], part, rtol=0, atol=1e-12)


def test_a_jump_to_minus_one_is_the_image(rng):
    x0, eps = torch.randn(2, 3, 4, generator=rng)
    gone = jump(SCHEDULE, Prediction(x0, eps), torch.tensor([-1, 0, 500]))
    assert torch.equal(gone[0], x0[0])
    a, s = SCHEDULE.levels(torch.tensor([500]), x0[2:])
    torch.testing.assert_close(gone[2:], a * x0[2:] + s * eps[2:])


def test_each_evaluation_is_told():
    told = []
    ddim(pair(), torch.zeros(1, 2).double(), 5, told=told.append)
    assert told == [1, 2, 3, 4, 5]


def test_bad_numbers_are_refused():
    with pytest.raises(BadInput, match="expected one for each"):
        ancestral(pair(), torch.zeros(2, 2).double(), 5, [1])
    with pytest.raises(BadInput, match="steps"):
        ddim(pair(), torch.zeros(2, 2).double(), 1001)
    with pytest.raises(BadInput, match="deviation above 0"):
        GaussianMixture(SCHEDULE, torch.zeros(2, 1), torch.tensor([1.0, 0.0]))
