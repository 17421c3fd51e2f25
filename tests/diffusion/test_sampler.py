"""Sampler: what is saved with a net, and what is drawn from it."""

from __future__ import annotations

import pytest
import torch

from gaussians import scaled
from tutelage.diffusion import Generator, Sampler, ddim, noise_of
from tutelage.errors import BadInput
from tutelage.signals import Model
from tutelage.students import unet


@pytest.fixture(scope="module")
def net():
    torch.manual_seed(0)
    made = unet(classes=3, size=4, width=4, levels=0, predicts="x0")
    for p in made.parameters():
        torch.nn.init.normal_(p, std=0.2)
    return Model(made)


SAMPLERS = [
    Sampler("ddim", 3),
    Sampler("ancestral", 3),
    Sampler("ddim", 2, guidance=2.0),
    Sampler("generator", times=(900, 300)),
    Sampler("consistency", times=(999, 500)),
]


@pytest.mark.parametrize("sampler", SAMPLERS, ids=lambda s: f"{s.how}-{s.evaluations}")
def test_an_image_is_a_function_of_its_seed_and_class(net, sampler):
    """Whoever is drawn beside it, in batches of any size."""
    labels = torch.tensor([0, 1, 2, 0, -1])
    whole = sampler.draw(net, range(5, 10), (1, 4, 4), labels)
    few = sampler.draw(net, range(5, 10), (1, 4, 4), labels, at_once=2)
    alone = sampler.draw(net, [7], (1, 4, 4), labels[2:3])
    torch.testing.assert_close(whole, few, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(whole[2:3], alone, rtol=1e-4, atol=1e-5)
    assert float(whole.min()) >= 0
    assert float(whole.max()) <= 1
    other = sampler.draw(net, [7], (1, 4, 4), torch.tensor([1]))
    assert not torch.equal(alone, other)


def test_what_is_saved_comes_back(net):
    for sampler in SAMPLERS:
        net.sampling = sampler.said()
        assert Sampler.of(net) == sampler
    net.sampling = {}
    assert Sampler.of(net) == Sampler("ddim", 50)
    net.sampling = {"how": "dream", "steps": 3}
    with pytest.raises(BadInput, match="cannot be 'dream'"):
        Sampler.of(net)
    net.sampling = {"speed": 3}
    with pytest.raises(BadInput, match="no way to draw images"):
        Sampler.of(net)


def test_images_are_those_of_the_samplers_brought_to_zero_one():
    denoiser = scaled(0.4)
    noise = noise_of([3, 4], (1, 2, 2))
    expected = (ddim(denoiser, noise, 5) / 2 + 0.5).clamp(0, 1)
    torch.testing.assert_close(Sampler("ddim", 5).draw(denoiser, [3, 4], (1, 2, 2)), expected)
    made = Generator(denoiser, (399,))([noise]) / 2 + 0.5
    torch.testing.assert_close(Sampler("generator", times=(399,)).draw(denoiser, [3, 4], (1, 2, 2)), made.clamp(0, 1).detach())
    assert Sampler("ddim", 5).draw(denoiser, [], (1, 2, 2)).shape == (0, 1, 2, 2)


def test_other_numbers_of_evaluations():
    assert Sampler("ddim", 50).within(4, 1000).steps == 4
    assert Sampler("consistency", times=(999,)).within(2, 1000).times == (999, 499)
    assert Sampler("generator", times=(900, 300)).within(1, 1000).times == (900,)
    with pytest.raises(BadInput, match="in 2 evaluations, not in 3"):
        Sampler("generator", times=(900, 300)).within(3, 1000)
    assert Sampler("ddim", 8, guidance=3.0).evaluations == 16
    for bad in ({"how": "generator"}, {"how": "generator", "times": (1, 2)}, {"steps": 0}):
        with pytest.raises(BadInput):
            Sampler(**bad)
