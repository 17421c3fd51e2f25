"""The mixer: the paper's sizes, and what mixes with what."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tutelage.errors import BadInput
from tutelage.students import mixer
from tutelage.students.mixer import Mixing


def count(net):
    return sum(p.numel() for p in net.parameters())


def counted(classes, channels, size, patch, width, depth):
    """Patches; per block two norms and two MLPs; a norm and the head."""
    tokens = (size // patch) ** 2
    across_tokens = 2 * tokens * (width // 2) + width // 2  # the last bias would change nothing
    across_channels = 2 * width * 4 * width + 4 * width + width
    ends = channels * patch**2 * width + width + 2 * width + width * classes + classes
    return ends + depth * (4 * width + across_tokens + across_channels)


@pytest.mark.parametrize(
    ("patch", "width", "depth", "millions"), [(32, 512, 8, 19), (16, 512, 8, 18), (32, 768, 12, 60), (16, 768, 12, 59), (16, 1024, 24, 207)]
)
def test_the_parameters_are_those_of_table_1(patch, width, depth, millions):
    """Small, Base and Large; the paper leaves the head out."""
    with torch.device("meta"):
        net = mixer(classes=1000, channels=3, size=224, patch=patch, width=width, depth=depth)
    assert count(net) == counted(1000, 3, 224, patch, width, depth)
    assert round((count(net) - 1000 * (width + 1)) / 1e6) == millions


@pytest.mark.parametrize(("size", "patch", "width"), [(8, 2, 12), (28, 4, 8), (9, 3, 4)])
def test_other_sizes_have_the_parameters_that_they_should(size, patch, width):
    """The knobs must reach every layer."""
    assert count(mixer(classes=7, channels=2, size=size, patch=patch, width=width, depth=3)) == counted(7, 2, size, patch, width, 3)


def test_one_mlp_mixes_tokens_of_a_channel_and_the_other_channels_of_a_token(rng):
    """With the other one silent, nothing crosses the other axis."""
    for silent, crossed in (("across_channels", True), ("across_tokens", False)):
        block, x = Mixing(tokens=5, width=6), torch.randn(1, 5, 6, generator=rng)
        block.norm1, block.norm2 = nn.Identity(), nn.Identity()  # a norm over channels would mix them
        nn.init.zeros_(getattr(block, silent)[2].weight)
        if silent == "across_channels":
            nn.init.zeros_(block.across_channels[2].bias)
        nudged = x.clone()
        nudged[0, 1, 2] += 1
        moved = (block(nudged) - block(x)).abs()[0] > 1e-7
        assert moved[:, 2].all() == crossed
        assert moved[1].all() != crossed
        elsewhere = moved.clone()
        elsewhere[:, 2] = False
        elsewhere[1] = False
        assert not elsewhere.any()


def test_images_of_another_size_are_refused(rng):
    """The MLP across tokens knows how many there are."""
    with pytest.raises(BadInput, match="mixer was built for images of 8x8 and got 16x16"):
        mixer()(torch.rand(2, 1, 16, 16, generator=rng))


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"size": 10}, "the patch must divide the side of the image: 1, 2, 5"),
        ({"patch": 0}, "at least 1"),
        ({"size": 0}, "at least 1"),
        ({"width": 0}, "at least 1"),
        ({"depth": 0}, "at least 1"),
        ({"classes": 0}, "at least 1"),
        ({"channels": 0}, "at least 1"),
    ],
)
def test_sizes_that_cannot_be_are_refused(bad, message):
    """With the sizes that can."""
    with pytest.raises(BadInput, match=message):
        mixer(**bad)
