"""What the convolutional students share: a convolution with its norm, its first weights, and how far a small image may shrink."""

from __future__ import annotations

from torch import nn


def normed(taken: int, given: int, kernel: int = 3, stride: int = 1, groups: int = 1) -> nn.Sequential:
    """A convolution without bias that keeps the side (or divides it by `stride`), batch norm, ReLU."""
    convolution = nn.Conv2d(taken, given, kernel, stride, padding=kernel // 2, groups=groups, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(given), nn.ReLU())


def he_normal(net: nn.Module) -> None:
    """Draw all convolutions from a normal distribution of variance 2 / fan-in.

    Source: He et al., "Delving Deep into Rectifiers", 2015, eq. 10.
    """
    for part in net.modules():
        if isinstance(part, nn.Conv2d):
            nn.init.kaiming_normal_(part.weight, nonlinearity="relu")


def halvings(size: int, most: int) -> int:
    """How often an image may be halved, at most `most` times, so that a 3x3 kernel still sees 2x2 numbers of it.

    On a single number, eight ninths of a kernel would see nothing but padding and never learn.
    """
    return max(0, min(most, size.bit_length() - 2))
