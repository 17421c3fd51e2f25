"""Augmentation of images: what is drawn for a sample is a function of (seed, id, view), whatever batch or process it is read in.

A recipe is a text such as "flip,shift=2,noise=0.02". Operations are applied in one order, that of `OPERATIONS`, and draw apart from
each other: one more of them leaves the draws of the others as they were. Shapes: B batch, C channels, H W space.
"""

from __future__ import annotations

import dataclasses
import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from tutelage.data.hashing import normals, uniforms
from tutelage.data.source import Data, Source
from tutelage.errors import BadInput, nearest
from tutelage.randomness import derive
from tutelage.signals import Batch


class Operation(NamedTuple):
    """What an operation's value may be.

    Args:
        unit: what the value counts; empty where there is none.
        highest: largest value; the smallest is 0, which changes nothing.
        whole: whether only whole numbers will do.
        exact: whether pixels are moved or zeroed but not computed with, so that images of any range and type will do.
    """

    unit: str
    highest: float = math.inf
    whole: bool = False
    exact: bool = False


OPERATIONS = {
    "flip": Operation("", whole=True, exact=True),
    "rotate": Operation("DEGREES", 180),
    "scale": Operation("SHARE", 0.9),
    "shift": Operation("PIXELS", whole=True, exact=True),
    "brightness": Operation("SHARE", 1),
    "contrast": Operation("SHARE", 1),
    "noise": Operation("DEVIATION", 1),
    "erase": Operation("PIXELS", whole=True, exact=True),
}

SYNTAX = ", ".join(f"{name}={operation.unit}" if operation.unit else name for name, operation in OPERATIONS.items())


def parse(recipe: str) -> dict[str, float]:
    """Read a recipe: values by operation, in the order in which they are applied; without those that change nothing.

    Raises:
        BadInput: an unknown operation, one given twice, or a value that it cannot have.
    """
    found: dict[str, float] = {}
    for part in recipe.split(","):
        name, equals, text = (piece.strip() for piece in part.partition("="))
        if name not in OPERATIONS:
            raise BadInput(f"augmentation {recipe!r}: {name!r} is not known{nearest(name, OPERATIONS)}; expected some of {SYNTAX}")
        if name in found:
            raise BadInput(f"augmentation {recipe!r} has {name} twice; expected it once")
        found[name] = _value(name, text, bool(equals))
    return {name: found[name] for name in OPERATIONS if found.get(name)}


def _value(name: str, text: str, given: bool) -> float:
    operation = OPERATIONS[name]
    if not operation.unit:
        if given:
            raise BadInput(f"augmentation {name}={text}: {name} takes no value")
        return 1
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and 0 <= value <= operation.highest and (value.is_integer() or not operation.whole)):
        kind = "a whole number" if operation.whole else "a number"
        upto = f" to {operation.highest:g}" if math.isfinite(operation.highest) else " on"
        raise BadInput(f"augmentation {name}={text}: expected {name}={operation.unit}, {kind} from 0{upto}")
    return int(value) if operation.whole else value


class Augmented(Source):
    """A source whose images are augmented where views are asked for, as training does; evaluation asks for none and gets plain samples.

    Args:
        source: samples with images `x`, (C, H, W) each; in [0, 1] unless the recipe only moves and zeroes pixels.
        recipe: operations with commas between:
            `flip`: left and right change places, for half of the views;
            `rotate=DEGREES`: by up to so many, either way;
            `scale=SHARE`: larger or smaller by up to so much, 0.1 from 0.9 to 1.1 times; with `rotate` in one bilinear interpolation;
            `shift=PIXELS`: by up to so many in each direction, exactly, as padding and cropping does;
            `brightness=SHARE`: all numbers times 1 plus or minus up to so much;
            `contrast=SHARE`: the same for the distances from the image's mean;
            `noise=DEVIATION`: independent normal noise;
            `erase=PIXELS`: a square of that side becomes 0; its centre is any pixel, so that it may reach over the edge.
            What comes in from outside is 0. After operations that compute, numbers are cut to [0, 1].

    Raises:
        BadInput: a recipe that cannot be read, samples that are no such images, or a shift or square that is too large for them.

    Source: `erase` is Cutout, DeVries & Taylor, "Improved Regularization of Convolutional Neural Networks with Cutout", 2017.
    """

    def __init__(self, source: Source, recipe: str) -> None:
        self.source, self.operations = source, parse(recipe)
        self.name = source.name
        self.exact = all(OPERATIONS[name].exact for name in self.operations)
        self._check(source.batch(torch.tensor([0])))

    def _check(self, sample: Batch) -> None:
        x = sample.get("x")
        if not isinstance(x, Tensor) or x.ndim != 4:
            given = f"'x' of shape {tuple(x.shape[1:])}" if isinstance(x, Tensor) else f"columns {sorted(sample)}"
            raise BadInput(f"{self.name} cannot be augmented: expected images 'x' of shape (C, H, W), not {given}")
        if not self.exact and not (x.is_floating_point() and x.min() >= 0 and x.max() <= 1):
            raise BadInput(
                f"{self.name} cannot be augmented by {', '.join(self.operations)}: expected floating-point images in [0, 1], not "
                f"{str(x.dtype).removeprefix('torch.')} from {x.min().item():g} to {x.max().item():g}; scale them first"
            )
        side = min(x.shape[2:])
        for name in ("shift", "erase"):
            if self.operations.get(name, 0) >= side:
                raise BadInput(f"augmentation {name}={self.operations[name]} leaves nothing of images of {x.shape[2]}x{x.shape[3]}")

    def __len__(self) -> int:
        return len(self.source)

    def batch(self, positions: Tensor, *, seed: int = 0, views: Tensor | None = None) -> Batch:
        """Read samples; augment them as (seed, id, view) says, or not at all where `views` is None."""
        batch = self.source.batch(positions, seed=seed, views=views)
        return batch if views is None else {**batch, "x": self._augmented(batch["x"], batch["id"], seed, views)}

    def _augmented(self, x_BCHW: Tensor, ids_B: Tensor, seed: int, views_B: Tensor) -> Tensor:
        values, given = self.operations, x_BCHW.dtype

        def draw(name: str, draws: int = 1) -> Tensor:
            return uniforms(seed, ids_B, views_B, draws, f"augment {name}")

        def around(middle: float, name: str) -> Tensor:
            return middle + (2 * draw(name)[:, 0] - 1) * values.get(name, 0)

        height, width = x_BCHW.shape[2:]
        if not self.exact:
            x_BCHW = x_BCHW.float()
        if "flip" in values:
            x_BCHW = flipped(x_BCHW, draw("flip")[:, 0] < 0.5)
        if "rotate" in values or "scale" in values:
            x_BCHW = turned(x_BCHW, around(0, "rotate"), around(1, "scale"))
        if "shift" in values:
            most = int(values["shift"])
            x_BCHW = shifted(x_BCHW, (draw("shift", 2) * (2 * most + 1)).long() - most)
        if "brightness" in values:
            x_BCHW = x_BCHW * _each(around(1, "brightness"))
        if "contrast" in values:
            x_BCHW = contrasted(x_BCHW, around(1, "contrast"))
        if "noise" in values:
            drawn = normals(seed, ids_B, views_B, math.prod(x_BCHW.shape[1:]), "augment noise")
            x_BCHW = x_BCHW + values["noise"] * drawn.view_as(x_BCHW)
        if "erase" in values:
            x_BCHW = erased(x_BCHW, (draw("erase", 2) * torch.tensor([height, width])).long(), int(values["erase"]))
        return x_BCHW if self.exact else x_BCHW.clamp(0, 1).to(given)

    def varies(self) -> bool:
        """Whether the recipe changes anything, or the source draws itself."""
        return bool(self.operations) or self.source.varies()

    def ids(self) -> Tensor:
        """Those of the source."""
        return self.source.ids()

    def labels(self) -> Tensor | None:
        """Those of the source; no operation changes them."""
        return self.source.labels()

    def fingerprint(self) -> str:
        """A hash of the source's and the recipe; the same for recipes that do the same."""
        recipe = ",".join(f"{name}={value}" for name, value in self.operations.items())
        return f"{derive('augmented', self.source.fingerprint(), recipe):016x}"


def _each(number_B: Tensor) -> Tensor:
    return number_B.float()[:, None, None, None]


def flipped(x_BCHW: Tensor, which_B: Tensor) -> Tensor:
    """Swap left and right in the images where `which_B`, bool (B,), says so."""
    return torch.where(which_B[:, None, None, None], x_BCHW.flip(3), x_BCHW)


def shifted(x_BCHW: Tensor, by_B2: Tensor) -> Tensor:
    """Move each image down and to the right by whole pixels, int64 (B, 2); what comes in is 0."""
    (down_B1, right_B1), (height, width) = by_B2.split(1, dim=1), x_BCHW.shape[2:]
    row_BH, column_BW = torch.arange(height)[None] - down_B1, torch.arange(width)[None] - right_B1
    known = ((row_BH >= 0) & (row_BH < height))[:, :, None] & ((column_BW >= 0) & (column_BW < width))[:, None]
    place = row_BH.clamp(0, height - 1)[:, :, None] * width + column_BW.clamp(0, width - 1)[:, None]
    moved = x_BCHW.flatten(2).gather(2, place.flatten(1)[:, None].expand(-1, x_BCHW.shape[1], -1)).view_as(x_BCHW)
    return moved.masked_fill(~known[:, None], 0)


def turned(x_BCHW: Tensor, degrees_B: Tensor, zoom_B: Tensor) -> Tensor:
    """Turn each image about its centre, counter-clockwise, and enlarge it: one bilinear interpolation; outside is 0.

    Args:
        x_BCHW: images, floating point.
        degrees_B: angle of each.
        zoom_B: factor of each; above 1 enlarges.
    """
    height, width = x_BCHW.shape[2:]
    # number by number and operation by operation: vectorised sines and products of matrices may differ in the last bit from batch to batch
    radians = [math.radians(angle) for angle in degrees_B.tolist()]
    cos, sin = (
        torch.tensor([f(r) / z for r, z in zip(radians, zoom_B.tolist(), strict=True)])[:, None, None] for f in (math.cos, math.sin)
    )
    down = (torch.arange(height) - (height - 1) / 2)[None, :, None]
    right = (torch.arange(width) - (width - 1) / 2)[None, None, :]
    places = torch.stack([(cos * right - sin * down) * (2 / width), (sin * right + cos * down) * (2 / height)], dim=3)
    return F.grid_sample(x_BCHW, places.to(x_BCHW.dtype), mode="bilinear", padding_mode="zeros", align_corners=False)


def contrasted(x_BCHW: Tensor, factor_B: Tensor) -> Tensor:
    """Multiply each image's distances from its mean over channels and space."""
    # the mean in NumPy, which adds up each row alike in any batch and with any number of threads
    mean = torch.from_numpy(x_BCHW.contiguous().view(len(x_BCHW), -1).numpy().mean(axis=1))[:, None, None, None]
    return mean + (x_BCHW - mean) * _each(factor_B)


def erased(x_BCHW: Tensor, centres_B2: Tensor, side: int) -> Tensor:
    """Set a square in each image to 0.

    Args:
        x_BCHW: images.
        centres_B2: row and column of each square's centre, int64; of an even side, the pixel below and right of the centre.
        side: of the square, in pixels; what reaches over the edge is left out.
    """
    within = []
    for axis, length in enumerate(x_BCHW.shape[2:]):
        offset = torch.arange(length)[None] - (centres_B2[:, axis, None] - side // 2)
        within.append((offset >= 0) & (offset < side))
    return x_BCHW.masked_fill((within[0][:, :, None] & within[1][:, None, :])[:, None], 0)


def augmented(data: Data, recipe: str) -> Data:
    """The same data with augmented training images; the data themselves where the recipe is empty.

    Raises:
        BadInput: as `Augmented` does.
    """
    return dataclasses.replace(data, train=Augmented(data.train, recipe)) if recipe else data
