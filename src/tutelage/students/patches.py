"""Patches: an image cut into squares, each a token. What the vision transformer and the mixer begin with."""

from __future__ import annotations

from torch import Tensor, nn

from tutelage.errors import BadInput


class Patches(nn.Module):
    """Cut images into squares and map each linearly to a token.

    Args:
        net: name of the network, for messages.
        channels: channels of the images.
        size: side of the images, in pixels.
        patch: side of a square, in pixels; it must divide `size`.
        width: numbers of a token.

    Raises:
        BadInput: a size below 1, or a patch that does not divide the image.
    """

    def __init__(self, net: str, channels: int, size: int, patch: int, width: int) -> None:
        super().__init__()
        if min(channels, size, patch, width) < 1:
            raise BadInput(f"{net}(channels={channels}, size={size}, patch={patch}, width={width}): sizes must be at least 1")
        if size % patch:
            fitting = [side for side in range(1, size) if size % side == 0]
            raise BadInput(
                f"{net}(size={size}, patch={patch}): the patch must divide the side of the image: {', '.join(map(str, fitting))}"
            )
        self.net, self.size = net, size
        self.count = (size // patch) ** 2
        self.project = nn.Conv2d(channels, width, patch, patch)
        # each token is a dense layer over its square: variance 1 / fan-in
        nn.init.normal_(self.project.weight, std=(channels * patch**2) ** -0.5)
        assert self.project.bias is not None
        nn.init.zeros_(self.project.bias)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Tokens (B, T, width), T squares row by row.

        Raises:
            BadInput: images of another side than `size`.
        """
        height, width = x_BCHW.shape[-2:]
        if (height, width) != (self.size, self.size):
            raise BadInput(f"{self.net} was built for images of {self.size}x{self.size} and got {height}x{width}; give it size=... to fit")
        return self.project(x_BCHW).flatten(2).transpose(1, 2)


def xavier(net: nn.Module) -> None:
    """Draw all linear layers as Glorot & Bengio (2010) do, biases zero, as both papers of patches do within their blocks."""
    for part in net.modules():
        if isinstance(part, nn.Linear):
            nn.init.xavier_uniform_(part.weight)
            if part.bias is not None:
                nn.init.zeros_(part.bias)
