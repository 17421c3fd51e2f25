"""A small vision transformer. Shapes: B batch, C channels, H W space, T tokens, D width, N heads."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tutelage.errors import BadInput
from tutelage.students.patches import Patches, xavier
from tutelage.students.takes import takes


class Attention(nn.Module):
    """Multi-head self-attention; query, key and value are modules of their own, so that taps find them.

    Keys have no bias: it would add the same to all scores of a query, which the softmax takes away again.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width, bias=False)
        self.value = nn.Linear(width, width)
        self.project = nn.Linear(width, width)

    def forward(self, x_BTD: Tensor) -> Tensor:
        """What the tokens take from each other, (B, T, D)."""
        q, k, v = (part(x_BTD).unflatten(2, (self.heads, -1)).transpose(1, 2) for part in (self.query, self.key, self.value))
        seen_BNTD = F.scaled_dot_product_attention(q, k, v)
        return self.project(seen_BNTD.transpose(1, 2).flatten(2))


class Encoder(nn.Module):
    """Attention and an MLP, each after a layer norm and beside a shortcut."""

    def __init__(self, width: int, heads: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attention = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Dropout(dropout), nn.Linear(hidden, width))
        self.dropout = nn.Dropout(dropout)

    def forward(self, x_BTD: Tensor) -> Tensor:
        """Tokens (B, T, D)."""
        x_BTD = x_BTD + self.dropout(self.attention(self.norm1(x_BTD)))
        return x_BTD + self.dropout(self.mlp(self.norm2(x_BTD)))


class Vit(nn.Module):
    """Patches with learned positions, encoder blocks, layer norm, the mean over tokens, one linear layer; build it with `vit`."""

    def __init__(self, patches: Patches, classes: int, width: int, depth: int, heads: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.patches = patches
        self.positions = nn.Parameter(torch.empty(1, patches.count, width))
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.Sequential(*(Encoder(width, heads, hidden, dropout) for _ in range(depth)))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, classes)
        xavier(self)
        nn.init.normal_(self.positions, std=0.02)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Logits (B, classes) of images (B, channels, size, size)."""
        x_BTD = self.dropout(self.patches(x_BCHW) + self.positions)
        return self.head(self.norm(self.blocks(x_BTD)).mean(1))


@takes("images")
def vit(
    *,
    classes: int = 10,
    channels: int = 1,
    size: int = 8,
    patch: int = 4,
    width: int = 64,
    depth: int = 4,
    heads: int = 4,
    mlp_ratio: float = 2.0,
    dropout: float = 0.0,
) -> nn.Module:
    """A small vision transformer: pre-norm blocks, learned positions, the mean over tokens in place of a class token.

    The mean was chosen since every token then stands for its square of the image, so that taps can be compared with feature maps.

    Args:
        classes: number of classes.
        channels: channels of the images.
        size: side of the images, in pixels.
        patch: side of the square that is a token, in pixels; it must divide `size`.
        width: numbers of a token.
        depth: encoder blocks.
        heads: attention heads; they must divide `width`.
        mlp_ratio: hidden units of a block's MLP, as a factor on `width`; the paper's is 4.
        dropout: share left out after positions, attention and the layers of MLPs while training, in [0, 1).

    Raises:
        BadInput: a size below 1, a patch that does not divide the image, heads that do not divide the width, a dropout outside [0, 1).

    Source: Dosovitskiy et al., "An Image Is Worth 16x16 Words", 2021, section 3.1; the mean over tokens from Beyer et al., "Better Plain
        ViT Baselines for ImageNet-1k", 2022.
    """
    hidden = int(width * mlp_ratio)
    if min(classes, depth, heads, hidden) < 1 or not 0 <= dropout < 1:
        raise BadInput(
            f"vit(classes={classes}, depth={depth}, heads={heads}, mlp_ratio={mlp_ratio}, dropout={dropout}): "
            "sizes must be at least 1, dropout in [0, 1)"
        )
    if width % heads:
        raise BadInput(
            f"vit(width={width}, heads={heads}): the heads must divide the width; nearest width: {width // heads * heads or heads}"
        )
    return Vit(Patches("vit", channels, size, patch, width), classes, width, depth, heads, hidden, dropout)
