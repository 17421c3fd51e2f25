"""Weights of few bits as they are stored: whole numbers packed into bytes, beside their scales. Shapes: R rows, C columns.

What is read back is codes times scale; quantised again it is the same codes and, but for rounding, the same scale, so a packed student says
what it said before.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from tutelage.errors import BadInput, Mismatch, in_short
from tutelage.students.quantised import QuantisedEmbedding, QuantisedLinear
from tutelage.students.quantisers import BITS, Levels, coded

CODES, SCALE = ".codes", ".scale"
"""What is added to a weight's name."""


def pack(codes: Tensor, levels: Levels) -> Tensor:
    """Codes in so many bits each, the first in the lowest bits of the first byte; uint8, as many bytes as are needed.

    Args:
        codes: int8, of any shape; ternary -1 to 1, binary -1 or 1, int4 -7 to 7, int8 -127 to 127.
        levels: which.
    """
    bits = BITS[levels]
    numbers = (codes.flatten().int() + 1) // 2 if levels == "binary" else codes.flatten().int() + _most(levels)
    each = 8 // bits
    padded = torch.cat([numbers, numbers.new_zeros(-len(numbers) % each)]).view(-1, each)
    return (padded << (bits * torch.arange(each))).sum(1).to(torch.uint8)


def unpack(packed: Tensor, levels: Levels, shape: torch.Size) -> Tensor:
    """The codes again, int8 of a shape.

    Raises:
        BadInput: too few or too many bytes for the shape.
    """
    bits, count = BITS[levels], math.prod(shape)
    each = 8 // bits
    if packed.dtype != torch.uint8 or packed.shape != (-(-count // each),):
        raise BadInput(f"packed weights of {tuple(packed.shape)} bytes do not hold {tuple(shape)} numbers of {bits} bits")
    numbers = (packed.int()[:, None] >> (bits * torch.arange(each))).flatten()[:count] & (2**bits - 1)
    codes = 2 * numbers - 1 if levels == "binary" else numbers - _most(levels)
    return codes.to(torch.int8).view(shape)


def _most(levels: Levels) -> int:
    return 1 if levels == "ternary" else 2 ** (BITS[levels] - 1) - 1


def packed(module: nn.Module, levels: Levels) -> dict[str, Tensor]:
    """A student's tensors, with the codes and the scale of each weight of few bits in its place.

    Args:
        module: what `quantise` made.
        levels: of its weights.
    """
    found = {name: value.detach().cpu().clone().contiguous() for name, value in module.state_dict().items()}
    for path, part in module.named_modules():
        if isinstance(part, (QuantisedLinear, QuantisedEmbedding)):
            name = f"{path}.weight"
            codes, scale = coded(found.pop(name), levels, rows=isinstance(part, QuantisedEmbedding))
            found |= {name + CODES: pack(codes, levels), name + SCALE: scale}
    return found


def write_packed(module: nn.Module, levels: Levels, file: Path) -> None:
    """Write a student's tensors, packed, as safetensors."""
    save_file(packed(module, levels), file)


def read_packed(module: nn.Module, levels: Levels, file: Path) -> nn.Module:
    """Give a net, of full precision, the weights that a packed file holds; in place.

    Args:
        module: of the student's architecture, before `quantise`.
        levels: of the weights.
        file: what `write_packed` wrote.

    Raises:
        BadInput: it cannot be read.
        Mismatch: it is another net's.
    """
    try:
        tensors = load_file(file)
    except (OSError, SafetensorError) as error:
        raise BadInput(f"{file} is damaged ({in_short(error, 200)}); export it again") from None
    try:
        module.load_state_dict(unpacked(tensors, levels, {name: value.shape for name, value in module.state_dict().items()}))
    except RuntimeError as error:
        raise Mismatch(f"{file} holds the weights of another net: {in_short(error, 300)}") from None
    return module


def unpacked(tensors: Mapping[str, Tensor], levels: Levels, shapes: Mapping[str, torch.Size]) -> dict[str, Tensor]:
    """Tensors by their own names, those of few bits as codes times scale.

    Args:
        tensors: as `packed` gives them.
        levels: of the weights.
        shapes: of the tensors that are wanted, by name.
    """
    found = {name: value for name, value in tensors.items() if not name.endswith((CODES, SCALE))}
    for name, value in tensors.items():
        plain = name.removesuffix(CODES)
        if plain != name and plain in shapes and plain + SCALE in tensors:
            scale = tensors[plain + SCALE]
            found[plain] = unpack(value, levels, shapes[plain]).to(scale.dtype) * scale
    return found
