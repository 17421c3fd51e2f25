"""MLP-Mixer: one MLP over the tokens of each channel, one over the channels of each token, in turn. Shapes: B batch, T tokens, D width."""

from __future__ import annotations

from torch import Tensor, nn

from tutelage.errors import BadInput
from tutelage.students.patches import Patches, xavier
from tutelage.students.takes import takes


def _mlp(width: int, hidden: int, bias: bool) -> nn.Sequential:
    return nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width, bias=bias))


class Mixing(nn.Module):
    """An MLP across tokens and one across channels, each after a layer norm and beside a shortcut."""

    def __init__(self, tokens: int, width: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        # a bias here would add one number to all channels of a token, which every later layer norm takes away again
        self.across_tokens = _mlp(tokens, max(1, width // 2), bias=False)
        self.norm2 = nn.LayerNorm(width)
        self.across_channels = _mlp(width, 4 * width, bias=True)

    def forward(self, x_BTD: Tensor) -> Tensor:
        """Tokens (B, T, D)."""
        x_BTD = x_BTD + self.across_tokens(self.norm1(x_BTD).transpose(1, 2)).transpose(1, 2)
        return x_BTD + self.across_channels(self.norm2(x_BTD))


class Mixer(nn.Module):
    """Patches, mixing blocks, layer norm, the mean over tokens, one linear layer; build it with `mixer`."""

    def __init__(self, patches: Patches, classes: int, width: int, depth: int) -> None:
        super().__init__()
        self.patches = patches
        self.blocks = nn.Sequential(*(Mixing(patches.count, width) for _ in range(depth)))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, classes)
        xavier(self)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Logits (B, classes) of images (B, channels, size, size)."""
        return self.head(self.norm(self.blocks(self.patches(x_BCHW))).mean(1))


@takes("images")
def mixer(*, classes: int = 10, channels: int = 1, size: int = 8, patch: int = 4, width: int = 64, depth: int = 4) -> nn.Module:
    """A small MLP-Mixer; hidden units are half the width across tokens and four times the width across channels, as in the paper.

    Args:
        classes: number of classes.
        channels: channels of the images.
        size: side of the images, in pixels.
        patch: side of the square that is a token, in pixels; it must divide `size`.
        width: numbers of a token.
        depth: mixing blocks.

    Raises:
        BadInput: a size below 1, or a patch that does not divide the image.

    Source: Tolstikhin et al., "MLP-Mixer: An All-MLP Architecture for Vision", 2021, section 2 and table 1.
    """
    if min(classes, depth) < 1:
        raise BadInput(f"mixer(classes={classes}, depth={depth}): sizes must be at least 1")
    return Mixer(Patches("mixer", channels, size, patch, width), classes, width, depth)
