"""A MobileNet for small images: convolutions split into one that looks at each channel alone and one that mixes channels."""

from __future__ import annotations

import math

from torch import Tensor, nn

from tutelage.errors import BadInput
from tutelage.students.convolution import halvings, he_normal, normed
from tutelage.students.takes import takes


class Depthwise(nn.Module):
    """A convolution, stages of depthwise separable ones, global average pooling, one linear layer; build it with `depthwise`."""

    def __init__(self, channels: int, classes: int, widths: list[int], counts: list[int], strided: int) -> None:
        super().__init__()
        taken = widths[0]
        self.stem = normed(channels, taken)
        stages = []
        for i, (given, count) in enumerate(zip(widths[1:], counts, strict=True)):
            blocks = []
            for j in range(count):
                stride = 2 if j == 0 and 0 < i <= strided else 1
                blocks.append(nn.Sequential(normed(taken, taken, stride=stride, groups=taken), normed(taken, given, kernel=1)))
                taken = given
            stages.append(nn.Sequential(*blocks))
        self.stages = nn.Sequential(*stages)
        self.head = nn.Linear(taken, classes)
        he_normal(self)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Logits (B, classes) of images (B, channels, H, W)."""
        return self.head(self.stages(self.stem(x_BCHW)).mean((2, 3)))


@takes("images")
def depthwise(*, classes: int = 10, channels: int = 1, size: int = 8, depth: int = 8, multiplier: float = 0.5) -> nn.Module:
    """A network of depthwise separable convolutions, MobileNet's without what shrinks large images first.

    The stem keeps the side; the four later stages halve it as often as the image bears with 2x2 left: four times from 32x32 on, twice
    at 8x8.

    Args:
        classes: number of classes.
        channels: channels of the images.
        size: side of the images; only decides how often it is halved, other sides can be had.
        depth: separable convolutions, at least 8; those beyond 8 stand in the fourth stage. The paper's net has 13, its shallow one 8.
        multiplier: factor on the widths 32 (stem), 64, 128, 256, 512 and 1024, rounded to at least 1; the paper's alpha.

    Raises:
        BadInput: a size below 1, a depth below 8, or a multiplier that is not positive.

    Source: Howard et al., "MobileNets", 2017, table 1 (layers), section 3.3 (multiplier), table 5 (the shallow net).
    """
    if min(classes, channels, size) < 1 or depth < 8 or not 0 < multiplier < math.inf:
        raise BadInput(
            f"depthwise(classes={classes}, channels={channels}, size={size}, depth={depth}, multiplier={multiplier}): "
            "sizes must be at least 1, depth at least 8, multiplier positive"
        )
    widths = [max(1, round(multiplier * width)) for width in (32, 64, 128, 256, 512, 1024)]
    return Depthwise(channels, classes, widths, [1, 2, 2, depth - 7, 2], halvings(size, most=4))
