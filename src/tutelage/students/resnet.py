"""Residual networks for small images: three stages of basic blocks, each of half the side and twice the width of the last."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from tutelage.errors import BadInput
from tutelage.students.convolution import he_normal, normed
from tutelage.students.takes import takes


class Residual(nn.Module):
    """Two 3x3 convolutions beside a shortcut without parameters: strided identity, new channels zero (the paper's option A)."""

    def __init__(self, taken: int, given: int, stride: int) -> None:
        super().__init__()
        self.stride, self.added = stride, given - taken
        self.first = normed(taken, given, stride=stride)
        self.second = nn.Conv2d(given, given, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(given)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Features (B, given, H / stride, W / stride), rounded up."""
        shortcut = F.pad(x_BCHW[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.added))
        return F.relu(self.norm(self.second(self.first(x_BCHW))) + shortcut)


class ResNet(nn.Module):
    """A convolution, three stages of residual blocks, global average pooling, one linear layer; build it with `resnet`."""

    def __init__(self, channels: int, classes: int, width: int, blocks: int) -> None:
        super().__init__()
        self.stem = normed(channels, width)
        stages, taken = [], width
        for i in range(3):
            given = width * 2**i
            first = Residual(taken, given, stride=1 if i == 0 else 2)
            stages.append(nn.Sequential(first, *(Residual(given, given, stride=1) for _ in range(blocks - 1))))
            taken = given
        self.stages = nn.Sequential(*stages)
        self.head = nn.Linear(taken, classes)
        he_normal(self)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Logits (B, classes) of images (B, channels, H, W)."""
        return self.head(self.stages(self.stem(x_BCHW)).mean((2, 3)))


@takes("images")
def resnet(*, classes: int = 10, channels: int = 1, depth: int = 20, width: int = 16) -> nn.Module:
    """A residual network for small images, of 6n + 2 weighted layers.

    Shortcuts have no parameters: where the width grows they are strided and padded with zero channels.

    Args:
        classes: number of classes.
        channels: channels of the images.
        depth: weighted layers, 6n + 2: 8, 14, 20, 32, 44, 56, 110.
        width: channels of the first stage; the second and third have two and four times as many.

    Raises:
        BadInput: a size below 1, or a depth that is not 6n + 2.

    Source: He et al., "Deep Residual Learning for Image Recognition", 2016, section 4.2, shortcut option A.
    """
    if min(classes, channels, width) < 1:
        raise BadInput(f"resnet(classes={classes}, channels={channels}, width={width}): sizes must be at least 1")
    if depth < 8 or (depth - 2) % 6:
        raise BadInput(f"resnet(depth={depth}): expected 6n + 2 layers; nearest: {6 * max(1, round((depth - 2) / 6)) + 2}")
    return ResNet(channels, classes, width, (depth - 2) // 6)
