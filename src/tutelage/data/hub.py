"""Hugging Face data sets: a name on the hub or a local folder, or objects made in Python."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tutelage.data.augment import augmented
from tutelage.data.frames import Missing, data_of
from tutelage.data.source import Data, Images, Source
from tutelage.data.split import SPLITS, Rare, completed
from tutelage.errors import BadInput, MissingFile, nearest
from tutelage.extras import needed


def hf(
    path: str,
    *,
    config: str = "",
    label: str = "",
    text: Sequence[str] = (),
    columns: Sequence[str] = (),
    size: int | None = None,
    classes: Sequence[str] = (),
    missing: Missing = "refuse",
    train: float = 0.7,
    validation: float = 0.15,
    seed: int = 0,
    rare: Rare = "refuse",
    augment: str = "",
) -> Data:
    """Load a Hugging Face data set: images with labels, or a table of text or numbers.

    Args:
        path: a folder that `save_to_disk` wrote, a folder of files, or a name on the hub.
        config: which configuration of it.
        label: the column that holds the class; by default the only one that names its classes, else "label".
        text: columns of text to read.
        columns: columns of numbers to read.
        size: side in pixels to which images are scaled and cut; needed where they differ.
        classes: as in `csv`, where the data set does not name them.
        missing: as in `csv`.
        train: share to train on, where the data set has one split.
        validation: share to choose on, where it has none.
        seed: of the cut.
        rare: as in `csv`.
        augment: changes of the training images, such as "flip,shift=2".

    Raises:
        MissingFile: a folder that is not there.
        BadInput: nothing of the kind on disk or on the hub, or columns that do not fit.
    """
    datasets = needed("datasets", "hf", f"hf:{path}")
    place = Path(path)
    try:
        if (place / "dataset_dict.json").is_file() or (place / "dataset_info.json").is_file():
            loaded = datasets.load_from_disk(str(place))
        elif place.is_dir() or not path.startswith((".", "/", "~")):
            loaded = datasets.load_dataset(str(place) if place.is_dir() else path, config or None)
        else:
            raise MissingFile(f"data folder {path!r} does not exist")
    except (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
        if isinstance(error, BadInput):
            raise
        raise BadInput(f"hf:{path} cannot be loaded: {' '.join(str(error).split())[:200]}") from None
    options: dict[str, Any] = {"label": label, "text": text, "columns": columns, "classes": classes, "missing": missing}
    cut: dict[str, Any] = {"train": train, "validation": validation, "seed": seed, "rare": rare}
    return augmented(from_datasets(loaded, name=place.name, size=size, **options, **cut), augment)


def is_hf(thing: Any) -> bool:
    """Whether this is a `datasets.Dataset`, or a mapping of them; imports nothing."""
    some = next(iter(thing.values()), None) if isinstance(thing, Mapping) else thing
    return type(some).__module__.partition(".")[0] == "datasets" and hasattr(some, "features")


def from_datasets(loaded: Any, *, name: str, label: str = "", size: int | None = None, classes: Sequence[str] = (), **options: Any) -> Data:
    """Make Data of a `datasets.Dataset` or `DatasetDict`; arguments as in `hf`.

    Raises:
        BadInput: splits without train, or columns that do not fit.
    """
    splits = dict(loaded) if isinstance(loaded, Mapping) else {"train": loaded}
    known = {SPLITS[s]: d for s, d in splits.items() if s in SPLITS}
    if "train" not in known:
        raise BadInput(f"{name} has the splits {', '.join(splits)}; expected train among them")
    features = known["train"].features
    named = [c for c, f in features.items() if hasattr(f, "names")]
    label = label or (named[0] if len(named) == 1 else "label")
    if label not in features:
        raise BadInput(
            f"{name} has no column {label!r}{nearest(label, features)}; its columns are {', '.join(features)}; give --data.label"
        )
    if label in named:
        classes = features[label].names
    pictures = [c for c, f in features.items() if type(f).__name__ == "Image"]
    if pictures and not options.get("text") and not options.get("columns"):
        cut = {k: v for k, v in options.items() if k not in ("text", "columns", "missing")}
        return _images(known, name, pictures[0], label, classes, size, cut)
    frames = {}
    for split, part in known.items():
        frame = part.to_pandas()
        if label in named:  # numbers stand for names
            frame[label] = [classes[i] if i >= 0 else None for i in frame[label]]
        frames[split] = frame
    return data_of(frames, name=name, label=label, classes=tuple(classes), **options)


def _images(
    splits: Mapping[str, Any], name: str, column: str, label: str, classes: Sequence[str], size: int | None, cut: Mapping[str, Any]
) -> Data:
    from PIL import Image, ImageOps

    made: dict[str, Source] = {}
    first, shape = 0, None
    for split, part in splits.items():
        read = []
        for image in part[column]:
            image = image.convert("L" if image.mode in ("1", "L") else "RGB")
            if size is not None:
                image = ImageOps.fit(image, (size, size), Image.Resampling.BILINEAR)
            array = np.asarray(image)
            shape = shape or array.shape
            if array.shape != shape:
                raise BadInput(f"images of {name} differ in size or colour ({shape} and {array.shape}); give --data.size PIXELS")
            read.append(torch.from_numpy(array.copy()))
        x = torch.stack(read)
        x = x.unsqueeze(1) if x.ndim == 3 else x.permute(0, 3, 1, 2).contiguous()
        ids = torch.arange(first, first + len(x))
        first += len(x)
        made[split] = Images({"x": x, "y": torch.tensor(part[label]), "id": ids}, f"{name}/{split}")
    return completed(made, classes=tuple(classes), name=name, **cut)
