"""Residual networks: the paper's sizes, and shortcuts without parameters."""

from __future__ import annotations

import pytest
import torch

from tutelage.errors import BadInput
from tutelage.students import resnet
from tutelage.students.resnet import Residual


def count(net):
    return sum(p.numel() for p in net.parameters())


def counted(depth, width, channels, classes):
    """Convolutions 9 * in * out and norms 2 * out, block by block."""
    n, total = (depth - 2) // 6, 9 * channels * width + 2 * width
    taken = width
    for given in (width, 2 * width, 4 * width):
        for _ in range(n):
            total += 9 * taken * given + 9 * given * given + 4 * given
            taken = given
    return total + taken * classes + classes


@pytest.mark.parametrize(("depth", "millions"), [(20, "0.27"), (32, "0.46"), (44, "0.66"), (56, "0.85"), (110, "1.7")])
def test_the_parameters_are_those_of_table_6(depth, millions):
    """Projections in the shortcuts would give 0.86M at 56 layers."""
    net = resnet(depth=depth, channels=3)
    assert count(net) == counted(depth, 16, 3, 10)
    assert f"{count(net) / 1e6:.{len(millions.split('.')[1])}f}" == millions


@pytest.mark.parametrize(("depth", "width", "channels", "classes"), [(8, 5, 1, 7), (14, 3, 2, 2)])
def test_other_sizes_have_the_parameters_that_they_should(depth, width, channels, classes):
    """The knobs must reach every layer."""
    net = resnet(depth=depth, width=width, channels=channels, classes=classes)
    assert count(net) == counted(depth, width, channels, classes)
    assert sum(isinstance(m, torch.nn.Conv2d | torch.nn.Linear) for m in net.modules()) == depth


def test_the_shortcut_is_the_strided_image_with_zero_channels_behind(rng):
    """A block whose own branch is silent must hand on what it got."""
    block, x = Residual(3, 5, stride=2).eval(), torch.rand(2, 3, 7, 8, generator=rng)
    torch.nn.init.zeros_(block.second.weight)
    found = block(x)
    assert found.shape == (2, 5, 4, 4)
    torch.testing.assert_close(found[:, :3], x[:, :, ::2, ::2])
    assert (found[:, 3:] == 0).all()


def test_each_stage_halves_the_side_and_doubles_the_width(rng):
    """32, 16, 8 in the paper."""
    net, x = resnet(depth=8, width=3), torch.rand(2, 1, 12, 12, generator=rng)
    shapes = []
    x = net.stem(x)
    for stage in net.stages:
        x = stage(x)
        shapes.append(tuple(x.shape[1:]))
    assert shapes == [(3, 12, 12), (6, 6, 6), (12, 3, 3)]


def test_the_first_weights_have_the_variance_of_he_et_al():
    """Half the variance in each of 110 layers is nothing at the end."""
    net = resnet(depth=20, width=32)
    for part in (net.stages[1][1].second, net.stages[2][0].second):
        fan_in = part.weight[0].numel()
        assert part.weight.var().item() == pytest.approx(2 / fan_in, rel=0.05)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"depth": 18}, r"6n \+ 2 layers; nearest: 20"),
        ({"depth": 2}, "nearest: 8"),
        ({"depth": 9}, "nearest: 8"),
        ({"depth": -4}, "nearest: 8"),
        ({"width": 0}, "at least 1"),
        ({"classes": 0}, "at least 1"),
        ({"channels": 0}, "at least 1"),
    ],
)
def test_sizes_that_cannot_be_are_refused(bad, message):
    """Depth 18 is a net for large images, with other blocks."""
    with pytest.raises(BadInput, match=message):
        resnet(**bad)


def test_stages_may_have_depths_and_widths_of_their_own(rng):
    """What a search over stages names must be the net that is built."""
    net = resnet(blocks=[1, 3, 2], widths=[3, 3, 7], classes=5)
    assert [len(stage) for stage in net.stages] == [1, 3, 2]
    assert [stage[-1].norm.num_features for stage in net.stages] == [3, 3, 7]
    assert net(torch.rand(2, 1, 8, 8, generator=rng)).shape == (2, 5)
    assert count(net) == count(resnet(blocks=(1, 3, 2), widths=(3, 3, 7), classes=5, depth=56))


def test_equal_stages_are_the_net_of_that_depth():
    """Depth 14 is two blocks a stage; the same seed must give the same net."""
    nets = []
    for options in ({"depth": 14, "width": 4}, {"blocks": [2, 2, 2], "width": 4}, {"blocks": [2, 2, 2], "widths": [4, 8, 16]}):
        torch.manual_seed(0)
        nets.append(resnet(**options).state_dict())
    for other in nets[1:]:
        assert all(torch.equal(v, other[k]) for k, v in nets[0].items())


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"blocks": []}, "blocks of each stage"),
        ({"blocks": [1, 0, 2]}, "at least 1"),
        ({"blocks": [1, 2.5]}, "blocks of each stage"),
        ({"blocks": 3}, "blocks of each stage"),
        ({"blocks": "123"}, "blocks of each stage"),
        ({"blocks": [1, True]}, "blocks of each stage"),
        ({"blocks": [1] * 9}, "blocks of each stage"),
        ({"blocks": [10**9] * 3}, "at most 1000"),
        ({"widths": [4, 8]}, "expected 3 widths"),
        ({"widths": [4, 8, 6]}, "none below the one before"),
        ({"blocks": [1], "widths": [10**9]}, "expected 1 widths"),
    ],
)
def test_stages_that_cannot_be_are_refused(bad, message):
    """A shortcut that loses channels would cut features off without a word."""
    with pytest.raises(BadInput, match=message):
        resnet(**bad)
