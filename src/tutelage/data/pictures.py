"""Images through Pillow: files become bytes of one shape, at once or batch by batch. Shapes: C channels, H W space, B batch, N samples."""

from __future__ import annotations

import collections
import io
import struct
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tutelage.data.source import Images, Source
from tutelage.errors import BadInput
from tutelage.extras import needed
from tutelage.randomness import derive
from tutelage.signals import Batch

IN_MEMORY = 2**30
"""Bytes of decoded images up to which all are read at once; beyond, they are read batch by batch."""

LARGEST = 224
"""Longest side that is taken as it is, in pixels."""

GREY = ("1", "L", "LA", "La", "I", "F")
"""Pillow's modes without colour, apart from what stands behind a semicolon."""

SIDEWAYS = (5, 6, 7, 8)
"""Values of EXIF's orientation under which width and height change places."""

PROGRAMS = ("EPS",)
"""Formats that Pillow gives to another program (PostScript to Ghostscript), which would run what stands in the file."""

UNREADABLE = (OSError, ValueError, SyntaxError, EOFError, struct.error)
"""What Pillow raises on a damaged file."""

File = Path | Mapping[str, Any]
"""An image file: where it is, or `bytes` (and `path`, which names it), as Hugging Face data sets hold it."""


class Look:
    """How files become images of one shape.

    Args:
        side: scale the shorter side to this and cut the middle; None takes images as they are.
        height: of what is read.
        width: of what is read.
        colour: three channels or one.
    """

    def __init__(self, side: int | None, height: int, width: int, colour: bool) -> None:
        self.side, self.height, self.width, self.colour = side, height, width, colour

    @classmethod
    def of(cls, files: Iterable[File], side: int | None = None, colour: bool | None = None) -> Look:
        """Look at the head of each file, which also finds those that are no images.

        Args:
            files: all of them, at least one.
            side: as asked for; by default none where all are alike and at most 224 pixels large, else 224 or the smallest short side.
            colour: as asked for; by default three channels unless all images are grey.

        Raises:
            BadInput: a file that is no image, or a side below 1.
        """
        if side is not None and side < 1:
            raise BadInput(f"size={side}; expected at least 1 pixel")
        sizes: collections.Counter[tuple[int, int]] = collections.Counter()
        grey = True
        for file in files:
            with _open(file) as image:
                sizes[image.size[::-1] if _lies_on_its_side(image, file) else image.size] += 1
                grey = grey and image.mode.partition(";")[0] in GREY
        width, height = next(iter(sizes))
        if side is None and (len(sizes) > 1 or max(width, height) > LARGEST):
            side = min(LARGEST, min(min(s) for s in sizes))
        if side is not None:
            height = width = side
        return cls(side, height, width, not grey if colour is None else colour)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of one image, (C, H, W)."""
        return (3 if self.colour else 1, self.height, self.width)

    @property
    def prepared(self) -> dict[str, Any]:
        """How files become images, as plain values."""
        channels, height, width = self.shape
        return {"kind": "images", "channels": channels, "height": height, "width": width, "side": self.side, "divided_by": 255}

    def read(self, file: File) -> np.ndarray:
        """An image as uint8 (C, H, W), turned as its camera was held, transparency laid on white.

        Raises:
            BadInput: a damaged file, or one of another size than the first where none is asked for.
        """
        from PIL import Image, ImageOps

        with _open(_whole(file)) as image:
            try:
                if self.side is not None:
                    image.draft(None, (2 * self.side, 2 * self.side))  # a large JPEG is decoded at a half, a quarter or an eighth
                ImageOps.exif_transpose(image, in_place=True)
                if image.mode.startswith(("I", "F")):
                    image = _eight_bits(image, file)
                if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
                    image = image.convert("RGBA")
                    image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
                wanted = "RGB" if self.colour else "L"
                image = image if image.mode == wanted else image.convert(wanted)
                if self.side is not None:
                    image = ImageOps.fit(image, (self.side, self.side), Image.Resampling.BILINEAR)
                pixels = np.array(image)
            except UNREADABLE as error:  # a file that is cut short shows here
                raise error if isinstance(error, BadInput) else _damaged(file, error) from None
        if pixels.shape[:2] != (self.height, self.width):
            height, width = pixels.shape[:2]
            raise BadInput(f"{_called(file)} is {width}x{height}, not {self.width}x{self.height} like the first; give --data.size PIXELS")
        return np.ascontiguousarray(pixels.reshape(self.height, self.width, -1).transpose(2, 0, 1))

    def __repr__(self) -> str:
        return f"{self.side}:{self.height}x{self.width}:{self.colour}"


def _called(file: File) -> str:
    return str(file) if isinstance(file, Path) else f"image {(file or {}).get('path') or '(without a name)'}"


def _damaged(file: File, error: Exception) -> BadInput:
    return BadInput(f"{_called(file)} is a damaged image: {error}; mend it or take it out of the data")


def _lies_on_its_side(image: Any, file: File) -> bool:
    if image.format == "PNG" and "exif" not in image.info:  # Pillow would decode it to look behind the pixels
        return False
    try:
        return image.getexif().get(0x0112) in SIDEWAYS
    except UNREADABLE as error:
        raise _damaged(file, error) from None


def _whole(file: File) -> File:
    """The file read at once: decoders read it in small pieces, which is slow on some file systems."""
    return {"bytes": file.read_bytes(), "path": str(file)} if isinstance(file, Path) else file


def _open(file: File) -> Any:
    image = needed("PIL.Image", "images", "an image")
    image.init()
    formats = [name for name in image.ID if name not in PROGRAMS]
    try:
        if isinstance(file, Path):
            return image.open(file, formats=formats)
        if not file or (file["bytes"] is None and not file["path"]):
            raise ValueError("there is nothing")
        return image.open(file["path"] if file["bytes"] is None else io.BytesIO(file["bytes"]), formats=formats)
    except (*UNREADABLE, image.DecompressionBombError):
        raise BadInput(f"{_called(file)} is no image that can be read; take it out of the data, or mend it") from None


def _eight_bits(image: Any, file: File) -> Any:
    """From 16 bits a pixel (which some formats give as 32) to 8."""
    from PIL import Image

    values = np.asarray(image)
    if image.mode == "F" or values.min() < 0 or values.max() > 65535:
        raise BadInput(f"{_called(file)} holds numbers other than 8 or 16 bits a pixel; save it as 8 bits")
    return Image.fromarray(((values.astype(np.uint32) * 2 + 257) // 514).astype(np.uint8))


class Files(Source):
    """Images read from their files batch by batch, for sets that do not fit in memory; use it with loader workers.

    Args:
        files: read by index.
        labels: class of each, (N,).
        ids: of each, (N,).
        look: how they are read.
        name: how tables call it.
    """

    def __init__(self, files: Sequence[File], labels: Tensor, ids: Tensor, look: Look, name: str) -> None:
        self.files, self._labels, self._ids, self.look, self.name = files, labels, ids, look, name

    def __len__(self) -> int:
        return len(self._ids)

    def batch(self, positions: Tensor, *, seed: int = 0, views: Tensor | None = None) -> Batch:
        """Read files."""
        x_BCHW = np.stack([self.look.read(self.files[i]) for i in positions.tolist()])
        return {"x": torch.from_numpy(x_BCHW).float().div_(255), "y": self._labels[positions], "id": self._ids[positions]}

    def labels(self) -> Tensor:
        """As given."""
        return self._labels

    def varies(self) -> bool:
        """Nothing is drawn."""
        return False

    def ids(self) -> Tensor:
        """As given."""
        return self._ids

    def fingerprint(self) -> str:
        """Hash of ids, labels, how images are read, and file sizes or (without paths) the first image; more would cost too much."""
        about = [f.stat().st_size for f in self.files] if isinstance(self.files, list) else self.look.read(self.files[0]).tolist()
        return f"{derive('files', repr(self._ids.tolist()), repr(self._labels.tolist()), repr(about), repr(self.look)):016x}"


def source_of(files: Sequence[File], labels: Tensor, ids: Tensor, look: Look, name: str, *, at_once: bool) -> Source:
    """Images read now, or file by file when they are asked for.

    Args:
        files: the image files, N.
        labels: class of each, (N,).
        ids: of each, (N,).
        look: how they are read.
        name: how tables call it.
        at_once: read them now.
    """
    if not at_once:
        return Files(files, labels, ids, look, name)
    x_NCHW = np.zeros((len(labels), *look.shape), dtype=np.uint8)
    for place, file in enumerate(files):
        x_NCHW[place] = look.read(file)
    return Images({"x": torch.from_numpy(x_NCHW), "y": labels, "id": ids}, name)


def fit_in_memory(count: int, look: Look) -> bool:
    """Whether so many images are read at once."""
    channels, height, width = look.shape
    return count * channels * height * width <= IN_MEMORY
