"""Built-in students: shapes, options, and sizes that cannot be."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tutelage.errors import BadInput
from tutelage.students import cnn, mlp

B = 3


def kinds(net, kind):
    return [m for m in net.modules() if isinstance(m, kind)]


@pytest.mark.parametrize("norm", [True, False])
@pytest.mark.parametrize(("depth", "pools"), [(1, 0), (2, 1), (3, 2), (4, 1), (5, 3), (7, 0)])
@pytest.mark.parametrize(("channels", "classes"), [(1, 7), (3, 2)])
def test_cnn_gives_logits_and_has_the_layers_it_was_asked_for(rng, channels, classes, depth, pools, norm):
    """Width doubles after each pooling; a block too many is another student than the one in the table."""
    net = cnn(classes=classes, channels=channels, width=5, depth=depth, pools=pools, norm=norm)
    assert net(torch.randn(B, channels, 8, 8, generator=rng)).shape == (B, classes)
    convolutions = kinds(net, nn.Conv2d)
    assert len(convolutions) == depth
    assert len(kinds(net, nn.MaxPool2d)) == pools
    assert len(kinds(net, nn.BatchNorm2d)) == (depth if norm else 0)
    assert all((c.bias is None) == norm for c in convolutions)
    assert (convolutions[0].out_channels, convolutions[-1].out_channels) == (5, 5 * 2**pools)
    width = 5
    for block in net.blocks:
        assert block[0].out_channels == width
        width *= 2 if isinstance(block[-1], nn.MaxPool2d) else 1


@pytest.mark.parametrize("size", [(8, 8), (11, 13), (28, 28)])
def test_cnn_takes_images_of_any_size(rng, size):
    """Global average pooling makes the head independent of the image."""
    assert cnn(width=2)(torch.randn(B, 1, *size, generator=rng)).shape == (B, 10)


@pytest.mark.parametrize("bad", [{"classes": 0}, {"channels": 0}, {"width": 0}, {"depth": 0}, {"pools": -1}, {"depth": 2, "pools": 2}])
def test_cnn_refuses_sizes_that_cannot_be(bad):
    """Torch builds a layer of no channels without complaint."""
    with pytest.raises(BadInput, match="cnn"):
        cnn(**bad)


@pytest.mark.parametrize("dropout", [0.0, 0.25])
@pytest.mark.parametrize("depth", [1, 3])
def test_mlp_gives_logits_over_flattened_inputs(rng, depth, dropout):
    """Images and vectors alike."""
    net = mlp(classes=7, inputs=30, width=11, depth=depth, dropout=dropout)
    assert net(torch.randn(B, 30, generator=rng)).shape == net(torch.randn(B, 2, 3, 5, generator=rng)).shape == (B, 7)
    assert [(m.in_features, m.out_features) for m in kinds(net, nn.Linear)] == [(30, 11), *[(11, 11)] * (depth - 1), (11, 7)]
    assert [m.p for m in kinds(net, nn.Dropout)] == ([dropout] * depth if dropout else [])


@pytest.mark.parametrize(
    "bad", [{"classes": 0}, {"inputs": 0}, {"width": 0}, {"depth": 0}, {"dropout": 1.0}, {"dropout": -0.1}, {"dropout": float("nan")}]
)
def test_mlp_refuses_sizes_that_cannot_be(bad):
    """A dropout of 1 leaves nothing to learn from."""
    with pytest.raises(BadInput, match="mlp"):
        mlp(**bad)


@pytest.mark.parametrize("make", [lambda: cnn(width=4), lambda: mlp(inputs=64)], ids=["cnn", "mlp"])
def test_every_parameter_of_a_student_gets_a_gradient(rng, make):
    """A layer that is built and not called is dead weight in the file and in the table."""
    net = make()
    net(torch.randn(B, 1, 8, 8, generator=rng)).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in net.parameters())
