"""The depthwise separable network: MobileNet's sizes, and strides that fit the image."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tutelage.errors import BadInput
from tutelage.students import depthwise


def count(net):
    return sum(p.numel() for p in net.parameters())


def counted(depth, multiplier, channels, classes):
    """A kernel a channel, a matrix between channels, a norm after each."""
    widths = [64, 128, 128, 256, 256, *[512] * (depth - 7), 1024, 1024]
    taken = round(32 * multiplier)
    total = 9 * channels * taken + 2 * taken
    for width in widths:
        given = round(width * multiplier)
        total += 9 * taken + 2 * taken + taken * given + 2 * given
        taken = given
    return total + taken * classes + classes


@pytest.mark.parametrize(
    ("depth", "multiplier", "millions"), [(13, 1.0, 4.2), (13, 0.75, 2.6), (13, 0.5, 1.3), (13, 0.25, 0.5), (8, 1.0, 2.9)]
)
def test_the_parameters_are_those_of_tables_5_and_6(depth, multiplier, millions):
    """Strides do not change them."""
    with torch.device("meta"):
        net = depthwise(depth=depth, multiplier=multiplier, channels=3, classes=1000)
    assert count(net) == counted(depth, multiplier, 3, 1000)
    assert count(net) / 1e6 == pytest.approx(millions, abs=0.051)


@pytest.mark.parametrize(("depth", "multiplier", "channels", "classes"), [(8, 0.25, 1, 7), (10, 0.1, 2, 3)])
def test_other_sizes_have_the_parameters_that_they_should(depth, multiplier, channels, classes):
    """The knobs must reach every layer."""
    net = depthwise(depth=depth, multiplier=multiplier, channels=channels, classes=classes)
    assert count(net) == counted(depth, multiplier, channels, classes)


def test_the_smallest_multiplier_leaves_one_channel(rng):
    """A layer of no channels is an error from deep inside."""
    assert depthwise(multiplier=1e-9)(torch.rand(2, 1, 8, 8, generator=rng)).shape == (2, 10)


def test_a_channel_is_looked_at_alone_before_channels_are_mixed():
    """That is what makes it cheap."""
    block = depthwise().stages[1][0]
    look, mix = (m for m in block.modules() if isinstance(m, nn.Conv2d))
    assert (look.kernel_size, look.groups) == ((3, 3), look.in_channels)
    assert (mix.kernel_size, mix.groups) == ((1, 1), 1)


@pytest.mark.parametrize(
    ("size", "sides"), [(8, [8, 4, 2, 2, 2]), (28, [28, 14, 7, 4, 4]), (32, [32, 16, 8, 4, 2]), (64, [64, 32, 16, 8, 4])]
)
def test_the_image_is_halved_as_long_as_two_by_two_are_left(rng, size, sides):
    """Kernels over a single number would learn at their centre only."""
    net, x = depthwise(multiplier=0.03, size=size), torch.rand(2, 1, size, size, generator=rng)
    x, found = net.stem(x), []
    for stage in net.stages:
        x = stage(x)
        found.append(x.shape[-1])
    assert found == sides


@pytest.mark.parametrize(
    "bad",
    [
        {"depth": 7},
        {"multiplier": 0},
        {"multiplier": float("nan")},
        {"multiplier": float("inf")},
        {"size": 0},
        {"classes": 0},
        {"channels": 0},
    ],
)
def test_sizes_that_cannot_be_are_refused(bad):
    """The paper's shallow net has eight separable convolutions; fewer would drop a stage."""
    with pytest.raises(BadInput, match="depth at least 8, multiplier positive"):
        depthwise(**bad)
