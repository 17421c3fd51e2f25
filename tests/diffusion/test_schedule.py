"""Noise schedules against loops and closed forms."""

from __future__ import annotations

import math

import pytest
import torch

from tutelage.diffusion import NoiseSchedule, cosine, karras, linear, schedule
from tutelage.errors import BadInput


def test_the_linear_schedule_is_the_product_of_its_steps():
    """A loop over DDPM's variances."""
    made, kept = linear(1000), 1.0
    for t in range(1000):
        kept *= 1 - (1e-4 + (0.02 - 1e-4) * t / 999)
        if t in (0, 1, 500, 999):
            assert float(made.kept[t]) == pytest.approx(kept, rel=1e-10)


def test_the_cosine_schedule_is_a_cosine():
    made = cosine(1000)
    for t in (0, 10, 500, 900):
        exact = math.cos(((t + 1) / 1000 + 0.008) / 1.008 * math.pi / 2) ** 2 / math.cos(0.008 / 1.008 * math.pi / 2) ** 2
        assert float(made.kept[t]) == pytest.approx(exact, rel=1e-9)


@pytest.mark.parametrize("steps", [10, 100, 1000])
@pytest.mark.parametrize("make", [linear, cosine])
def test_the_end_is_noise_for_any_number_of_times(make, steps):
    """Else a model of fewer times would begin from images that still hold something."""
    made = make(steps)
    assert len(made) == steps
    assert float(made.kept[-1]) < 1e-3


def test_levels_multiply_samples_of_any_shape():
    made = linear(50)
    for shape in ((3,), (3, 2), (3, 1, 5, 7)):
        a, s = made.levels(torch.tensor([0, 20, 49]), torch.zeros(shape))
        assert a.dtype == torch.float32
        assert (a * torch.ones(shape)).shape == shape
        torch.testing.assert_close(a.square() + s.square(), torch.ones_like(a))
    x, noise = torch.randn(2, 3, 5, 7, dtype=torch.float64)
    t = torch.tensor([0, 20, 49])
    for row in range(3):
        kept = float(made.kept[t[row]])
        torch.testing.assert_close(made.noised(x, t, noise)[row], kept**0.5 * x[row] + (1 - kept) ** 0.5 * noise[row])


def test_signal_to_noise_in_three_ways():
    made = linear(100)
    torch.testing.assert_close(made.log_snr(), -2 * made.sigmas().log())
    assert bool((made.sigmas().diff() > 0).all())


def test_a_sampler_of_half_the_steps_asks_at_every_second_time():
    """What progressive distillation stands on."""
    made = linear(1000)
    for steps in (2, 8, 64, 1000):
        assert made.times(steps)[::2] == made.times(steps // 2)
        assert made.times(steps)[0] == 999
    assert made.times(1) == [999]
    assert made.times(1000) == list(range(999, -1, -1))


def test_the_time_of_a_noise_level_is_the_nearest():
    made = linear(1000)
    for t in (0, 400, 999):
        assert made.at_sigma(float(made.sigmas()[t]) * 1.0001) == t
    assert made.at_sigma(1e6) == 999


def test_karras_goes_from_high_to_low():
    levels = karras(5, 0.1, 10.0, rho=1.0)
    torch.testing.assert_close(levels, torch.linspace(10.0, 0.1, 5, dtype=torch.float64))
    assert float(karras(18)[0]) == pytest.approx(80.0)
    assert float(karras(18)[-1]) == pytest.approx(0.002)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (lambda: linear(1), "at least 2 times"),
        (lambda: linear(10).times(0), "1 to 10 steps"),
        (lambda: linear(10).times(11), "1 to 10 steps"),
        (lambda: linear(10).levels(torch.tensor([10]), torch.zeros(1)), "from 0 to 9"),
        (lambda: linear(10).levels(torch.tensor([0.5]), torch.zeros(1)), "whole numbers"),
        (lambda: linear(10).at_sigma(0), "above 0"),
        (lambda: schedule("cosin"), "did you mean 'cosine'|nearest: 'cosine'"),
        (lambda: NoiseSchedule(torch.tensor([0.5, 0.6])), "smaller than the one before"),
        (lambda: NoiseSchedule(torch.tensor([1.0, 0.6])), "in \\(0, 1\\)"),
    ],
)
def test_what_cannot_be_is_refused(asked, said):
    with pytest.raises(BadInput, match=said):
        asked()


def test_schedules_are_equal_where_their_numbers_are():
    """A student of another schedule than its teacher's is to be found out."""
    assert linear(10) == NoiseSchedule(linear(10).kept, "copied")
    assert linear(10) != cosine(10)
    assert linear(10) != linear(20)
    assert len({linear(10), linear(10)}) == 1
