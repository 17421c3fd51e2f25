"""Wide residual networks: the paper's sizes, pre-activation, and dropout between the convolutions."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from tutelage.errors import BadInput
from tutelage.students import wide_resnet
from tutelage.students.wide_resnet import PreActivated


def count(net):
    return sum(p.numel() for p in net.parameters())


def counted(depth, widen, channels, classes):
    """Convolutions, norms of what goes into them, and a 1x1 shortcut where the width changes."""
    n, total, taken = (depth - 4) // 6, 9 * channels * 16, 16
    for given in (16 * widen, 32 * widen, 64 * widen):
        for _ in range(n):
            total += 2 * taken + 9 * taken * given + 2 * given + 9 * given * given + (taken * given if taken != given else 0)
            taken = given
    return total + 2 * taken + taken * classes + classes


@pytest.mark.parametrize(
    ("depth", "widen", "millions"),
    [(16, 2, 0.69), (40, 1, 0.6), (40, 2, 2.2), (16, 4, 2.7), (40, 4, 8.9), (16, 8, 11.0), (22, 8, 17.2), (28, 10, 36.5)],
)
def test_the_parameters_are_those_of_the_paper(depth, widen, millions):
    """Counted without memory, since the largest has 36 million; WRN-16-2 as distillation papers give it."""
    with torch.device("meta"):
        net = wide_resnet(depth=depth, widen=widen, channels=3)
    assert count(net) == counted(depth, widen, 3, 10)
    assert count(net) / 1e6 == pytest.approx(millions, abs=0.051)  # 8.95 is 8.9 in the paper


@pytest.mark.parametrize(("channels", "classes"), [(1, 7), (2, 3)])
def test_other_ends_have_the_parameters_that_they_should(channels, classes):
    """The first and the last layer are the data's."""
    assert count(wide_resnet(depth=10, widen=1, channels=channels, classes=classes)) == counted(10, 1, channels, classes)


def test_a_block_that_keeps_its_width_hands_on_what_it_got(rng):
    """The shortcut of equal width bypasses norm and ReLU, or negative numbers would be lost at every block."""
    block, x = PreActivated(3, 3, 1, 0.0), torch.randn(2, 3, 5, 5, generator=rng)
    nn.init.zeros_(block.conv2.weight)
    assert torch.equal(block(x), x)


def test_a_block_that_changes_width_projects_the_active_input(rng):
    """The projection sees what the first convolution sees."""
    block, x = PreActivated(3, 5, 2, 0.0).eval(), torch.randn(2, 3, 6, 6, generator=rng)
    nn.init.zeros_(block.conv2.weight)
    active = F.relu(x / (1 + block.norm1.eps) ** 0.5)
    torch.testing.assert_close(block(x), F.conv2d(active, block.shortcut.weight, stride=2))


def test_dropout_leaves_features_out_while_training_only(rng):
    """And in every block."""
    net, x = wide_resnet(depth=10, widen=1, dropout=0.3), torch.rand(4, 1, 8, 8, generator=rng)
    assert [m.p for m in net.modules() if isinstance(m, nn.Dropout)] == [0.3] * 3
    assert not torch.equal(net(x), net(x))
    net.eval()
    assert torch.equal(net(x), net(x))


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"depth": 20}, r"6n \+ 4 layers; nearest: (16|22)"),
        ({"depth": 4}, "nearest: 10"),
        ({"depth": 27}, "nearest: 28"),
        ({"widen": 0}, "at least 1"),
        ({"classes": 0}, "at least 1"),
        ({"channels": 0}, "at least 1"),
        ({"dropout": 1.0}, r"\[0, 1\)"),
        ({"dropout": float("nan")}, r"\[0, 1\)"),
    ],
)
def test_sizes_that_cannot_be_are_refused(bad, message):
    """A depth between two nets is none of them."""
    with pytest.raises(BadInput, match=message):
        wide_resnet(**bad)
