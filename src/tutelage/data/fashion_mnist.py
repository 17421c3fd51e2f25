"""Fashion-MNIST: 60,000 and 10,000 grey images of 28x28, ten classes of clothing, from the four files in IDX form."""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from tutelage.data.augment import augmented
from tutelage.data.source import Data, Images, Source, Table
from tutelage.data.split import completed, stratified
from tutelage.errors import BadInput, MissingFile

DEBIAN = Path("/usr/share/datasets/fashion-mnist")
"""Where the package `dataset-fashion-mnist` puts the files."""

CLASSES = ("T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot")


def fashion_mnist(folder: str = str(DEBIAN), samples: int | None = None, validation: float = 0.1, seed: int = 0, augment: str = "") -> Data:
    """Load Fashion-MNIST with its own test set; validation is cut from training by class.

    Args:
        folder: holds train-images-idx3-ubyte, train-labels-idx1-ubyte and the same two of t10k, plain or with .gz.
        samples: take only so many training images (validation's among them) and a sixth as many test images, by class; null for all.
        validation: share of the training images to choose on.
        seed: of the draws, apart from the run's seed.
        augment: changes of the training images, such as "flip,shift=2".

    Returns:
        Images `x` of shape (N, 1, 28, 28) in [0, 1], labels `y`; ids count through training, then test.

    Raises:
        MissingFile: a file is missing; says how to get it.
        BadInput: a file is damaged, or `samples` is too small.

    Source: Xiao, Rasul & Vollgraf, "Fashion-MNIST", 2017, https://arxiv.org/abs/1708.07747.
    """
    place = Path(folder)
    read = {split: (_idx(place, f"{stem}-images-idx3-ubyte", 3), _idx(place, f"{stem}-labels-idx1-ubyte", 1)) for split, stem in STEMS}
    tables: dict[str, Source] = {}
    first = 0
    for split, (images, labels) in read.items():
        if len(images) != len(labels):
            raise BadInput(f"{folder}: {len(images)} {split} images but {len(labels)} labels")
        columns = {"x": images.unsqueeze(1), "y": labels.long(), "id": torch.arange(first, first + len(labels))}
        first += len(labels)
        table: Table = Images(columns, f"fashion-mnist/{split}")
        if samples is not None:
            wanted = samples if split == "train" else max(samples // 6, len(CLASSES))
            if not len(CLASSES) * 2 <= wanted <= len(labels) and split == "train":
                raise BadInput(f"fashion-mnist: samples={samples}; expected {len(CLASSES) * 2} to {len(labels)}")
            if wanted < len(labels):
                share = wanted / len(labels)
                table = table.rows(stratified(columns["y"], [share, 1 - share], seed)[0], table.name)
        tables[split] = table
    made = completed(tables, classes=CLASSES, name="fashion-mnist", validation=validation, seed=seed, prepared=PREPARED)
    return augmented(made, augment)


PREPARED = {"kind": "images", "channels": 1, "height": 28, "width": 28, "divided_by": 255}
STEMS = (("train", "train"), ("test", "t10k"))


def _idx(folder: Path, stem: str, dimensions: int) -> Tensor:
    """Read one IDX file of bytes: a magic number, the sizes, the values."""
    path = next((p for p in (folder / f"{stem}.gz", folder / stem) if p.is_file()), None)
    if path is None:
        raise MissingFile(
            f"fashion-mnist: {folder / stem} (or .gz) does not exist; install Debian's package dataset-fashion-mnist, "
            "or give the folder that holds the four IDX files: --data.folder PATH"
        )
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        zeros, kind, rank, *shape = struct.unpack_from(f">HBB{dimensions}I", content)
        values = np.frombuffer(content, np.uint8, offset=4 + 4 * dimensions)
        if (zeros, kind, rank) != (0, 8, dimensions) or values.size != math.prod(shape):
            raise ValueError("sizes differ")
    except (OSError, EOFError, ValueError, struct.error, zlib.error) as error:
        raise BadInput(f"{path} is damaged or no IDX file of bytes: {error}") from None
    return torch.from_numpy(values.reshape(shape).copy())
