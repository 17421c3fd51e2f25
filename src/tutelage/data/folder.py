"""Images in folders, one sub-folder a class."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from tutelage.data.augment import augmented
from tutelage.data.pictures import Look, fit_in_memory, source_of
from tutelage.data.source import Data, Source
from tutelage.data.split import SPLITS, Rare, completed
from tutelage.errors import BadInput, MissingFile
from tutelage.randomness import derive

LITTER = ("Thumbs.db", "desktop.ini", "__MACOSX")
"""What systems leave in folders; it is passed over like names that begin with a dot."""


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
        raise MissingFile(f"data folder {path!r} {'is a file' if root.exists() else 'does not exist'}; expected a folder of images")
    places = _places(root)
    classes = sorted({d.name for place in places.values() for d in _folders(place)})
    if len(classes) < 2:
        raise BadInput(f"data folder {path!r} has {len(classes)} sub-folders; expected one for each class, at least two")
    files = {split: [(f, classes.index(d.name)) for d in _folders(place) for f in _files(d)] for split, place in places.items()}
    empty = next((split for split, found in files.items() if not found), None)
    if empty:
        raise BadInput(f"data folder {str(places[empty])!r} holds no files in its sub-folders")
    every = [f for found in files.values() for f, _ in found]
    look = Look.of(every, size, colour)
    name = root.resolve().name
    splits: dict[str, Source] = {}
    for split, found in files.items():
        ids = torch.tensor([derive("file", f.relative_to(root).as_posix()) for f, _ in found])
        y = torch.tensor([label for _, label in found])
        own = [f for f, _ in found]
        splits[split] = source_of(own, y, ids, look, f"{name}/{split}", at_once=fit_in_memory(len(every), look))
    cut: dict[str, Any] = {"train": train, "validation": validation, "seed": seed, "rare": rare}
    made = completed(splits, classes=classes, name=name, prepared=look.prepared, **cut)
    return augmented(made, augment)


def _places(root: Path) -> dict[str, Path]:
    """Where each split is: in sub-folders of their names, or all in the root."""
    named: dict[str, Path] = {}
    for place in _folders(root):
        split = SPLITS.get(place.name.lower())
        if split in named:
            raise BadInput(f"data folder {str(root)!r} holds both {named[split].name} and {place.name}, two names for {split}; keep one")
        if split:
            named[split] = place
    if "train" in named and _folders(named["train"]):
        return named
    if len(named) > 1 and len(named) == len(_folders(root)):
        found = ", ".join(d.name for d in named.values())
        raise BadInput(f"data folder {str(root)!r} holds {found}; expected one sub-folder a class, or train with one a class in it")
    return {"train": root}  # a class may be called train


def _kept(path: Path) -> bool:
    return not path.name.startswith(".") and path.name not in LITTER


def _folders(path: Path) -> list[Path]:
    return sorted(d for d in path.iterdir() if d.is_dir() and _kept(d))


def _files(path: Path) -> list[Path]:
    """All files below, in any depth, each folder's in the order of their names."""
    here = sorted(f for f in path.iterdir() if _kept(f))
    return [f for f in here if f.is_file()] + [f for d in here if d.is_dir() for f in _files(d)]
