"""Images in folders, one sub-folder a class, read through Pillow."""

from __future__ import annotations

import collections
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tutelage.data.augment import augmented
from tutelage.data.source import Data, Images, Source
from tutelage.data.split import SPLITS, Rare, completed
from tutelage.errors import BadInput, MissingFile
from tutelage.extras import needed
from tutelage.randomness import derive
from tutelage.signals import Batch

IN_MEMORY = 2**30
"""Bytes of decoded images up to which all are read at once; beyond, they are read batch by batch."""

LARGEST = 224
"""Longest side that is taken as it is, in pixels."""


def folder(
    path: str,
    *,
    size: int | None = None,
    colour: bool | None = None,
    train: float = 0.7,
    validation: float = 0.15,
    seed: int = 0,
    rare: Rare = "refuse",
    augment: str = "",
) -> Data:
    """Load images from a folder that holds one sub-folder a class, or train/, validation/ (or val/) and test/ that do.

    Args:
        path: the folder.
        size: side in pixels to which images are scaled (the shorter side) and cut (the middle); by default they are taken as they are
            where all are alike and at most 224 pixels large, and else scaled to 224 or the smallest short side.
        colour: three channels or one; by default three unless all images are grey.
        train: share to train on, where the folder is not split.
        validation: share to choose on; the rest is test.
        seed: of the cut.
        rare: a class with too few images for each split is refused, dropped or kept.
        augment: changes of the training images, such as "flip,shift=2".

    Returns:
        Images `x` of shape (N, C, H, W) in [0, 1], transparency laid on white; labels `y`; ids that hash the path below `path`, so they
        stay when files are added.

    Raises:
        MissingFile: no such folder.
        BadInput: no images, a file that is none, or a class that a split lacks.
    """
    root = Path(path)
    if not root.is_dir():
        raise MissingFile(f"data folder {path!r} does not exist")
    if size is not None and size < 1:
        raise BadInput(f"folder {path}: size={size}; expected at least 1 pixel")
    named = {SPLITS[d.name.lower()]: d for d in _folders(root) if d.name.lower() in SPLITS}
    places = named if "train" in named else {"train": root}
    classes = sorted({d.name for place in places.values() for d in _folders(place)})
    if len(classes) < 2:
        raise BadInput(f"data folder {path!r} has {len(classes)} sub-folders; expected one for each class, at least two")
    files = {split: [(f, classes.index(d.name)) for d in _folders(place) for f in _files(d)] for split, place in places.items()}
    empty = next((split for split, found in files.items() if not found), None)
    if empty:
        raise BadInput(f"data folder {str(places[empty])!r} holds no files in its sub-folders")
    every = [f for found in files.values() for f, _ in found]
    look = _Look.of(every, size, colour)
    name = root.resolve().name
    splits: dict[str, Source] = {}
    for split, found in files.items():
        ids = torch.tensor([derive("file", f.relative_to(root).as_posix()) for f, _ in found])
        y = torch.tensor([label for _, label in found])
        own = [f for f, _ in found]
        if look.bytes * len(every) <= IN_MEMORY:
            splits[split] = Images({"x": torch.stack([look.read(f) for f in own]), "y": y, "id": ids}, f"{name}/{split}")
        else:
            splits[split] = Files(own, y, ids, look, f"{name}/{split}")
    made = completed(splits, classes=classes, name=name, train=train, validation=validation, seed=seed, rare=rare)
    return augmented(made, augment)


def _folders(path: Path) -> list[Path]:
    return sorted(d for d in path.iterdir() if d.is_dir() and not d.name.startswith("."))


def _files(path: Path) -> list[Path]:
    return sorted(f for f in path.rglob("*") if f.is_file() and not f.name.startswith(".") and f.name != "Thumbs.db")


class _Look:
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
    def of(cls, files: list[Path], side: int | None, colour: bool | None) -> _Look:
        """Look at the head of each file, which also finds those that are no images."""
        sizes: collections.Counter[tuple[int, int]] = collections.Counter()
        grey = True
        for file in files:
            with _open(file) as image:
                sizes[image.size] += 1
                grey = grey and image.mode in ("1", "L", "LA", "I", "I;16", "F")
        width, height = next(iter(sizes))
        if side is None and (len(sizes) > 1 or max(width, height) > LARGEST):
            side = min(LARGEST, min(min(s) for s in sizes))
        if side is not None:
            height = width = side
        return cls(side, height, width, not grey if colour is None else colour)

    @property
    def bytes(self) -> int:
        """Of one image."""
        return self.height * self.width * (3 if self.colour else 1)

    def read(self, file: Path) -> Tensor:
        """An image as uint8 (C, H, W)."""
        from PIL import Image, ImageOps

        with _open(file) as opened:
            try:
                image = ImageOps.exif_transpose(opened)
                if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
                    image = image.convert("RGBA")
                    image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
                if image.mode in ("I", "I;16", "F"):
                    image = _eight_bits(image)
                image = image.convert("RGB" if self.colour else "L")
                if self.side is not None:
                    image = ImageOps.fit(image, (self.side, self.side), Image.Resampling.BILINEAR)
            except (OSError, ValueError, SyntaxError) as error:  # a file that is cut short shows here
                raise BadInput(f"{file} is a damaged image: {error}; mend it or take it out of the folder") from None
        if image.size != (self.width, self.height):
            raise BadInput(
                f"{file} is {image.size[0]}x{image.size[1]}, not {self.width}x{self.height} like the first; give --data.size PIXELS"
            )
        array = np.asarray(image)
        return torch.from_numpy(array.copy()).permute(2, 0, 1) if array.ndim == 3 else torch.from_numpy(array.copy()).unsqueeze(0)

    def __repr__(self) -> str:
        return f"{self.side}:{self.height}x{self.width}:{self.colour}"


def _eight_bits(image: Any) -> Any:
    from PIL import Image

    values = np.asarray(image).astype(np.float64)
    top = 65535.0 if values.max() > 255 else 255.0
    return Image.fromarray((values * (255.0 / top)).clip(0, 255).astype(np.uint8))


def _open(file: Path) -> Any:
    image = needed("PIL.Image", "images", "a folder of images")
    try:
        return image.open(file)
    except (OSError, ValueError, SyntaxError, image.DecompressionBombError):
        raise BadInput(f"{file} is no image that can be read; take it out of the folder, or mend it") from None


class Files(Source):
    """Images read from their files batch by batch, for sets that do not fit in memory; use it with loader workers."""

    def __init__(self, files: list[Path], labels: Tensor, ids: Tensor, look: _Look, name: str) -> None:
        self.files, self._labels, self._ids, self.look, self.name = files, labels, ids, look, name

    def __len__(self) -> int:
        return len(self.files)

    def batch(self, positions: Tensor, *, seed: int = 0, views: Tensor | None = None) -> Batch:
        """Read files."""
        x = torch.stack([self.look.read(self.files[i]) for i in positions.tolist()])
        return {"x": x.float().div_(255), "y": self._labels[positions], "id": self._ids[positions]}

    def labels(self) -> Tensor:
        """The number of each file's sub-folder."""
        return self._labels

    def ids(self) -> Tensor:
        """Hashes of the paths."""
        return self._ids

    def fingerprint(self) -> str:
        """Hash of paths, sizes in bytes and how they are read; contents are not read."""
        listed = [(i, f.stat().st_size) for i, f in zip(self._ids.tolist(), self.files, strict=True)]
        return f"{derive('files', repr(listed), repr(self._labels.tolist()), repr(self.look)):016x}"
