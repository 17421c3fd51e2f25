"""Wide residual networks: shallow and wide, with norm and ReLU before each convolution."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from tutelage.errors import BadInput
from tutelage.students.convolution import he_normal
from tutelage.students.takes import takes


class PreActivated(nn.Module):
    """Norm, ReLU, 3x3 convolution, twice, with dropout between; the shortcut is a 1x1 convolution where the width changes."""

    def __init__(self, taken: int, given: int, stride: int, dropout: float) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(taken)
        self.conv1 = nn.Conv2d(taken, given, 3, stride, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(given)
        self.dropout = nn.Dropout(dropout)
        self.conv2 = nn.Conv2d(given, given, 3, padding=1, bias=False)
        self.shortcut = None if taken == given else nn.Conv2d(taken, given, 1, stride, bias=False)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Features (B, given, H / stride, W / stride), rounded up; neither normed nor rectified, as the next block begins with that."""
        active = F.relu(self.norm1(x_BCHW))
        inner = self.conv2(self.dropout(F.relu(self.norm2(self.conv1(active)))))
        return inner + (x_BCHW if self.shortcut is None else self.shortcut(active))


class WideResNet(nn.Module):
    """A convolution, three stages of pre-activated blocks, norm and ReLU, global average pooling, one linear layer; see `wide_resnet`."""

    def __init__(self, channels: int, classes: int, widen: int, blocks: int, dropout: float) -> None:
        super().__init__()
        self.stem = nn.Conv2d(channels, 16, 3, padding=1, bias=False)
        stages, taken = [], 16
        for i in range(3):
            given = 16 * widen * 2**i
            first = PreActivated(taken, given, 1 if i == 0 else 2, dropout)
            stages.append(nn.Sequential(first, *(PreActivated(given, given, 1, dropout) for _ in range(blocks - 1))))
            taken = given
        self.stages = nn.Sequential(*stages)
        self.norm = nn.BatchNorm2d(taken)
        self.head = nn.Linear(taken, classes)
        he_normal(self)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Logits (B, classes) of images (B, channels, H, W)."""
        return self.head(F.relu(self.norm(self.stages(self.stem(x_BCHW)))).mean((2, 3)))


@takes("images")
def wide_resnet(*, classes: int = 10, channels: int = 1, depth: int = 16, widen: int = 2, dropout: float = 0.0) -> nn.Module:
    """A wide residual network, WRN-depth-widen, of 6n + 4 convolutions.

    Args:
        classes: number of classes.
        channels: channels of the images.
        depth: convolutions, 6n + 4: 10, 16, 22, 28, 40. Counted as in the paper, with one 1x1 shortcut a stage.
        widen: factor on the widths 16, 32, 64 of the three stages.
        dropout: share of features left out between the two convolutions of a block while training, in [0, 1).

    Raises:
        BadInput: a size below 1, a depth that is not 6n + 4, or a dropout outside [0, 1).

    Source: Zagoruyko & Komodakis, "Wide Residual Networks", 2016, table 1.
    """
    if min(classes, channels, widen) < 1 or not 0 <= dropout < 1:
        raise BadInput(
            f"wide_resnet(classes={classes}, channels={channels}, widen={widen}, dropout={dropout}): "
            "sizes must be at least 1, dropout in [0, 1)"
        )
    if depth < 10 or (depth - 4) % 6:
        raise BadInput(f"wide_resnet(depth={depth}): expected 6n + 4 layers; nearest: {6 * max(1, round((depth - 4) / 6)) + 4}")
    return WideResNet(channels, classes, widen, (depth - 4) // 6, dropout)
