"""The vision transformer: the paper's sizes, patches, attention against a loop, and sizes that do not divide."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tutelage.errors import BadInput
from tutelage.students import vit
from tutelage.students.vit import Attention


def count(net):
    return sum(p.numel() for p in net.parameters())


def counted(classes, channels, size, patch, width, depth, mlp_ratio):
    """Patches and positions; per block two norms, attention (no bias on keys), MLP; a norm and the head."""
    hidden = int(width * mlp_ratio)
    block = 4 * width + 4 * width**2 + 3 * width + 2 * width * hidden + hidden + width
    ends = channels * patch**2 * width + width + (size // patch) ** 2 * width + 2 * width + width * classes + classes
    return ends + depth * block


@pytest.mark.parametrize(("width", "depth", "heads", "millions"), [(768, 12, 12, 86), (1024, 24, 16, 307), (1280, 32, 16, 632)])
def test_the_parameters_are_those_of_table_1(width, depth, heads, millions):
    """Base, Large and Huge; to a percent, as the paper does not say what it counts of the head."""
    size, patch = (224, 14) if width == 1280 else (224, 16)
    options = {"classes": 1000, "channels": 3, "size": size, "patch": patch, "width": width, "depth": depth, "mlp_ratio": 4.0}
    with torch.device("meta"):
        net = vit(heads=heads, **options)
    assert count(net) == counted(**options)
    assert count(net) / 1e6 == pytest.approx(millions, rel=0.01)


@pytest.mark.parametrize(("size", "patch", "width", "mlp_ratio"), [(8, 2, 12, 1.5), (28, 4, 8, 2), (9, 9, 4, 0.25)])
def test_other_sizes_have_the_parameters_that_they_should(size, patch, width, mlp_ratio):
    """The knobs must reach every layer."""
    net = vit(classes=7, channels=2, size=size, patch=patch, width=width, depth=3, mlp_ratio=mlp_ratio)
    assert count(net) == counted(7, 2, size, patch, width, 3, mlp_ratio)


def test_attention_equals_a_loop_over_heads_and_tokens(rng):
    """A swapped axis between heads and tokens trains, a little worse."""
    attention, x = Attention(6, 3).double(), torch.randn(2, 5, 6, generator=rng, dtype=torch.float64)
    q, k, v = attention.query(x), attention.key(x), attention.value(x)
    seen = torch.zeros_like(x)
    for b in range(2):
        for head in range(3):
            own = slice(2 * head, 2 * head + 2)
            for t in range(5):
                weights = torch.softmax(torch.stack([q[b, t, own] @ k[b, s, own] for s in range(5)]) / 2**0.5, 0)
                seen[b, t, own] = sum(weights[s] * v[b, s, own] for s in range(5))
    torch.testing.assert_close(attention(x), attention.project(seen))


def test_tokens_stand_for_squares_row_by_row(rng):
    """Taps of tokens are compared with feature maps."""
    net, x = vit(size=8, patch=4, width=8, channels=2), torch.rand(1, 2, 8, 8, generator=rng)
    tokens = net.patches(x)
    weight, bias = net.patches.project.weight, net.patches.project.bias
    for i, (row, column) in enumerate([(0, 0), (0, 4), (4, 0), (4, 4)]):
        square = x[0, :, row : row + 4, column : column + 4]
        torch.testing.assert_close(tokens[0, i], (weight * square).sum((1, 2, 3)) + bias)


def test_positions_tell_tokens_apart_and_nothing_else_does(rng):
    """Without them the net could not see where anything is."""
    net, x = vit(size=8, patch=4, width=8).eval(), torch.rand(1, 1, 8, 8, generator=rng)
    turned = x.roll(4, 3)  # squares change places
    assert not torch.allclose(net(x), net(turned))
    nn.init.zeros_(net.positions)
    torch.testing.assert_close(net(x), net(turned))


def test_dropout_leaves_numbers_out_while_training_only(rng):
    """After positions, attention, and both layers of an MLP."""
    net, x = vit(depth=2, width=8, dropout=0.3), torch.rand(2, 1, 8, 8, generator=rng)
    assert [m.p for m in net.modules() if isinstance(m, nn.Dropout)] == [0.3] * 5
    assert not torch.equal(net(x), net(x))
    net.eval()
    assert torch.equal(net(x), net(x))


@pytest.mark.parametrize("shape", [(2, 1, 12, 12), (2, 1, 8, 12), (2, 1, 9, 9)])
def test_images_of_another_size_are_refused(rng, shape):
    """A convolution would cut off what is left over, and one position be added to all tokens."""
    with pytest.raises(BadInput, match=f"vit was built for images of 8x8 and got {shape[2]}x{shape[3]}; give it size="):
        vit(patch=8, heads=1, width=4)(torch.rand(shape, generator=rng))


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"size": 30}, "the patch must divide the side of the image: 1, 2, 3, 5, 6, 10, 15"),
        ({"size": 8, "patch": 16}, "must divide"),
        ({"width": 30}, "heads must divide the width; nearest width: 28"),
        ({"width": 3}, "nearest width: 4"),
        ({"patch": 0}, "at least 1"),
        ({"size": 0}, "at least 1"),
        ({"width": 0}, "at least 1"),
        ({"depth": 0}, "at least 1"),
        ({"heads": 0}, "at least 1"),
        ({"mlp_ratio": 0.0}, "at least 1"),
        ({"classes": 0}, "at least 1"),
        ({"channels": 0}, "at least 1"),
        ({"dropout": 1.0}, r"dropout in \[0, 1\)"),
        ({"dropout": float("nan")}, r"dropout in \[0, 1\)"),
    ],
)
def test_sizes_that_cannot_be_are_refused(bad, message):
    """With the sizes that can."""
    with pytest.raises(BadInput, match=message):
        vit(**bad)
