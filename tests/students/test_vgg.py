"""VGG: the paper's configurations, and poolings that fit the image."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import nn

from tutelage.errors import BadInput
from tutelage.students import vgg

LINEAR = 7 * 7 * 512 * 4096 + 4096 + 4096 * 4096 + 4096 + 4096 * 1000 + 1000
"""Parameters of the paper's three linear layers on images of 224x224."""

PAPER = {
    11: [64, 128, 256, 256, 512, 512, 512, 512],
    13: [64, 64, 128, 128, 256, 256, 512, 512, 512, 512],
    16: [64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512],
    19: [64, 64, 128, 128, 256, 256, 256, 256, 512, 512, 512, 512, 512, 512, 512, 512],
}


def kinds(net, kind):
    return [m for m in net.modules() if isinstance(m, kind)]


@pytest.mark.parametrize(("depth", "millions"), [(11, 133), (13, 133), (16, 138), (19, 144)])
def test_convolutions_and_the_papers_linear_layers_have_the_parameters_of_its_table_2(depth, millions):
    """The convolutions are the paper's; only its linear layers are not here."""
    with torch.device("meta"):
        net = vgg(depth=depth, width=64, channels=3, size=64)
    widths = [c.out_channels for c in kinds(net, nn.Conv2d)]
    assert widths == PAPER[depth]
    convolutions = sum(c.weight.numel() + c.out_channels for c in kinds(net, nn.Conv2d))  # the paper's have a bias, ours a norm
    assert round((convolutions + LINEAR) / 1e6) == millions


@pytest.mark.parametrize(("width", "channels", "classes"), [(5, 1, 7), (64, 3, 10)])
def test_the_smallest_has_the_parameters_that_it_should(width, channels, classes):
    """One convolution a stage."""
    widths = [channels, width, 2 * width, 4 * width, 8 * width, 8 * width]
    convolutions = sum(9 * a * b + 2 * b for a, b in itertools.pairwise(widths))
    with torch.device("meta"):
        net = vgg(depth=8, width=width, channels=channels, classes=classes)
    assert sum(p.numel() for p in net.parameters()) == convolutions + 8 * width * classes + classes


@pytest.mark.parametrize(
    ("size", "sides"), [(8, [8, 4, 2, 2, 2]), (28, [28, 14, 7, 3, 3]), (32, [32, 16, 8, 4, 2]), (64, [64, 32, 16, 8, 4])]
)
def test_the_image_is_halved_between_stages_as_long_as_two_by_two_are_left(rng, size, sides):
    """Kernels over a single number would learn at their centre only."""
    net, x = vgg(width=1, size=size), torch.rand(2, 1, size, size, generator=rng)
    found = []
    for stage in net.stages:
        x = stage(x)
        found.append(x.shape[-1])
    assert found == sides


@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_tiny_images_are_not_halved_away(rng, size):
    """A side of 0 is an error from deep inside."""
    assert vgg(width=1, size=size)(torch.rand(2, 1, size, size, generator=rng)).shape == (2, 10)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"depth": 12}, "8, 11, 13, 16, 19"),
        ({"width": 0}, "at least 1"),
        ({"size": 0}, "at least 1"),
        ({"classes": 0}, "at least 1"),
        ({"channels": 0}, "at least 1"),
    ],
)
def test_sizes_that_cannot_be_are_refused(bad, message):
    """There is no configuration of twelve layers."""
    with pytest.raises(BadInput, match=message):
        vgg(**bad)
