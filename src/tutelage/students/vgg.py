"""VGG with batch norm: five stages of 3x3 convolutions with pooling between, made to fit small images."""

from __future__ import annotations

from torch import Tensor, nn

from tutelage.errors import BadInput
from tutelage.students.convolution import halvings, he_normal, normed
from tutelage.students.takes import takes

CONVOLUTIONS = {8: (1, 1, 1, 1, 1), 11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}
"""Convolutions of each stage, by depth: the paper's configurations A, B, D and E, and a smaller one. Depth counts three linear layers."""


class Vgg(nn.Module):
    """Five stages of convolutions, global average pooling, one linear layer; build it with `vgg`."""

    def __init__(self, channels: int, classes: int, width: int, convolutions: tuple[int, ...], pools: int) -> None:
        super().__init__()
        stages, taken = [], channels
        for i, count in enumerate(convolutions):
            given = width * min(2**i, 8)
            # a stage begins with the pooling, so that its output is what its last convolution made
            layers: list[nn.Module] = [nn.MaxPool2d(2)] if 0 < i <= pools else []
            layers += [normed(taken if j == 0 else given, given) for j in range(count)]
            stages.append(nn.Sequential(*layers))
            taken = given
        self.stages = nn.Sequential(*stages)
        self.head = nn.Linear(taken, classes)
        he_normal(self)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Logits (B, classes) of images (B, channels, H, W)."""
        return self.head(self.stages(x_BCHW).mean((2, 3)))


@takes("images")
def vgg(*, classes: int = 10, channels: int = 1, size: int = 8, depth: int = 8, width: int = 32) -> nn.Module:
    """A VGG with batch norm; global average pooling and one linear layer in place of the paper's three.

    The stages are parted by as many 2x2 poolings as the image bears with 2x2 left: four from 32x32 on, two at 8x8.

    Args:
        classes: number of classes.
        channels: channels of the images.
        size: side of the images; only decides on the number of poolings, other sides can be had.
        depth: 8, 11, 13, 16 or 19, counted as in the paper with its three linear layers; so two more than there are here.
        width: channels of the first stage, the paper's 64; doubled with each stage up to the fourth.

    Raises:
        BadInput: a size below 1, or a depth that is none of these.

    Source: Simonyan & Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition", 2015, table 1, A, B, D, E.
    """
    if min(classes, channels, size, width) < 1:
        raise BadInput(f"vgg(classes={classes}, channels={channels}, size={size}, width={width}): sizes must be at least 1")
    if depth not in CONVOLUTIONS:
        raise BadInput(f"vgg(depth={depth}): expected one of {', '.join(map(str, CONVOLUTIONS))}")
    return Vgg(channels, classes, width, CONVOLUTIONS[depth], halvings(size, most=4))
