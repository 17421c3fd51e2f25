"""Residual networks for small images: stages of basic blocks, each of half the side and, by default, twice the width of the last."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from tutelage.errors import BadInput
from tutelage.students.convolution import he_normal, normed
from tutelage.students.takes import takes

MOST_STAGES, MOST_BLOCKS, WIDEST = 8, 1000, 1 << 24
"""Beyond these no net can be built."""


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
    """A convolution, stages of residual blocks, global average pooling, one linear layer; build it with `resnet`."""

    def __init__(self, channels: int, classes: int, widths: Sequence[int], blocks: Sequence[int]) -> None:
        super().__init__()
        self.stem = normed(channels, widths[0])
        stages, taken = [], widths[0]
        for i, (given, count) in enumerate(zip(widths, blocks, strict=True)):
            first = Residual(taken, given, stride=1 if i == 0 else 2)
            stages.append(nn.Sequential(first, *(Residual(given, given, stride=1) for _ in range(count - 1))))
            taken = given
        self.stages = nn.Sequential(*stages)
        self.head = nn.Linear(taken, classes)
        he_normal(self)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Logits (B, classes) of images (B, channels, H, W)."""
        return self.head(self.stages(self.stem(x_BCHW)).mean((2, 3)))


@takes("images")
def resnet(
    *,
    classes: int = 10,
    channels: int = 1,
    depth: int = 20,
    width: int = 16,
    blocks: Sequence[int] | None = None,
    widths: Sequence[int] | None = None,
) -> nn.Module:
    """A residual network for small images, of 6n + 2 weighted layers, or with stages of any depth and width.

    Shortcuts have no parameters: where the width grows they are strided and padded with zero channels.

    Args:
        classes: number of classes.
        channels: channels of the images.
        depth: weighted layers, 6n + 2: 8, 14, 20, 32, 44, 56, 110.
        width: channels of the first stage; the others have two, four, ... times as many.
        blocks: residual blocks of each stage, instead of what `depth` makes of three: [1, 3, 5].
        widths: channels of each stage, none narrower than the one before, instead of what `width` makes of them: [8, 12, 24].

    Raises:
        BadInput: a size below 1, a depth that is not 6n + 2, other numbers of widths than of stages, or a width that falls.

    Source: He et al., "Deep Residual Learning for Image Recognition", 2016, section 4.2, shortcut option A. Stages of unequal depth are
        the search space S0 of Dong et al., "DisWOT", 2023.
    """
    if min(classes, channels, width) < 1:
        raise BadInput(f"resnet(classes={classes}, channels={channels}, width={width}): sizes must be at least 1")
    if blocks is None:
        if depth < 8 or (depth - 2) % 6:
            raise BadInput(f"resnet(depth={depth}): expected 6n + 2 layers; nearest: {6 * max(1, round((depth - 2) / 6)) + 2}")
        blocks = [(depth - 2) // 6] * 3
    elif not _whole(blocks, MOST_BLOCKS):
        raise BadInput(f"resnet(blocks={blocks!r}): expected blocks of each stage, at least 1, at most {MOST_BLOCKS}, such as [1, 3, 5]")
    if widths is None:
        widths = [width * 2**i for i in range(len(blocks))]
    elif not _whole(widths, WIDEST) or len(widths) != len(blocks) or sorted(widths) != list(widths):
        raise BadInput(
            f"resnet(widths={widths!r}): expected {len(blocks)} widths, at least 1, none below the one before, such as [8, 12, 24]"
        )
    return ResNet(channels, classes, widths, blocks)


def _whole(values: Sequence[int], most: int) -> bool:
    """Whether these are a few sizes."""
    listed = isinstance(values, (list, tuple)) and 1 <= len(values) <= MOST_STAGES
    return listed and all(isinstance(v, int) and not isinstance(v, bool) and 1 <= v <= most for v in values)
