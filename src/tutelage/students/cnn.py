"""A plain convolutional classifier for small images: blocks of convolution, batch norm and ReLU, pooling where it says so."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from tutelage.errors import BadInput
from tutelage.students.convolution import he_normal
from tutelage.students.takes import takes


class Cnn(nn.Module):
    """Convolution blocks, global average pooling, one linear layer; build it with `cnn`."""

    def __init__(self, channels: int, classes: int, width: int, depth: int, pools: int, norm: bool, grow: int) -> None:
        super().__init__()
        blocks: list[nn.Module] = []
        taken = channels
        for i in range(depth):
            given = width * grow ** (i * (pools + 1) // depth)
            layers: list[nn.Module] = [nn.Conv2d(taken, given, 3, padding=1, bias=not norm)]
            if norm:
                layers.append(nn.BatchNorm2d(given))
            layers.append(nn.ReLU())
            if (i + 1) * (pools + 1) // depth > i * (pools + 1) // depth and i + 1 < depth:
                layers.append(nn.MaxPool2d(2))
            blocks.append(nn.Sequential(*layers))
            taken = given
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Linear(taken, classes)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Logits (B, classes) of images (B, channels, H, W)."""
        return self.head(self.blocks(x_BCHW).mean((2, 3)))


@takes("images")
def cnn(
    *,
    classes: int = 10,
    channels: int = 1,
    width: int = 32,
    depth: int = 4,
    pools: int = 1,
    norm: bool = True,
    grow: int = 2,
    init: Literal["torch", "he"] = "torch",
) -> nn.Module:
    """A plain convolutional classifier for images from 8x8.

    Args:
        classes: number of classes.
        channels: channels of the images.
        width: channels of the first block.
        depth: number of 3x3 convolutions.
        pools: number of 2x2 poolings, below `depth`.
        norm: batch norm after each convolution.
        grow: how many times as wide it is after each pooling.
        init: first weights of the convolutions: torch's own, or he, of variance 2 / fan-in, with which a deep net without batch norm keeps
            the size of its signals.

    Raises:
        BadInput: a size below 1, no block left after a pooling, or unknown first weights.
    """
    if min(classes, channels, width, depth, grow) < 1 or not 0 <= pools < depth:
        raise BadInput(f"cnn(width={width}, depth={depth}, pools={pools}, grow={grow}): sizes must be at least 1, and pools below depth")
    if init not in ("torch", "he"):
        raise BadInput(f"cnn(init={init!r}): expected torch or he")
    made = Cnn(channels, classes, width, depth, pools, norm, grow)
    if init == "he":
        he_normal(made)
    return made
