"""Hugging Face data sets: a name on the hub or a local folder, or objects made in Python."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from tutelage.data.augment import augmented
from tutelage.data.frames import Missing, classes_of, data_of, refuse_missing
from tutelage.data.pictures import Look, fit_in_memory, source_of
from tutelage.data.source import Data, Source
from tutelage.data.split import SPLITS, Rare, completed
from tutelage.errors import BadInput, MissingFile, TutelageError, in_short, nearest
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
        size: side in pixels to which images are scaled and cut; by default as in `folder`.
        classes: as in `csv`, where the data set does not name them.
        missing: as in `csv`; the label -1 counts as missing, and a split without any label is cut anew when such rows are dropped.
        train: share to train on, where the data set has one split.
        validation: share to choose on, where it has none.
        seed: of the cut.
        rare: as in `csv`.
        augment: changes of the training images, such as "flip,shift=2".

    Raises:
        MissingFile: a folder that is not there.
        BadInput: nothing of the kind on disk or on the hub, or columns that do not fit.
    """
    options: dict[str, Any] = {"label": label, "text": text, "columns": columns, "classes": classes, "missing": missing}
    cut: dict[str, Any] = {"train": train, "validation": validation, "seed": seed, "rare": rare}
    return augmented(from_datasets(loaded(path, config), name=Path(path).name, size=size, **options, **cut), augment)


def loaded(path: str, config: str = "") -> Any:
    """The data set of a folder, or of a name on the hub, by split where it has some.

    Raises:
        MissingFile: a folder that is not there.
        BadInput: nothing of the kind.
    """
    datasets = needed("datasets", "hf", f"hf:{path}")
    place = Path(path)
    try:
        if (place / "dataset_dict.json").is_file() or (place / "dataset_info.json").is_file():
            return datasets.load_from_disk(str(place))
        if place.is_dir() or not path.startswith((".", "/", "~")):
            return datasets.load_dataset(str(place) if place.is_dir() else path, config or None)
        raise MissingFile(f"data folder {path!r} does not exist")
    except (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
        if isinstance(error, TutelageError):
            raise
        raise BadInput(f"hf:{path} cannot be loaded: {in_short(error)}") from None


def is_hf(thing: Any) -> bool:
    """Whether this is a `datasets.Dataset`, or a mapping of them; imports nothing."""
    some = next(iter(thing.values()), None) if isinstance(thing, Mapping) else thing
    return type(some).__module__.partition(".")[0] == "datasets" and hasattr(some, "features")


def parts_of(given: Any, name: str) -> dict[str, Any]:
    """The splits of a `datasets.Dataset` or `DatasetDict` under our names for them.

    Raises:
        BadInput: no train among them, or a stream.
    """
    splits = dict(given) if isinstance(given, Mapping) else {"train": given}
    known = {SPLITS[s.lower()]: d for s, d in splits.items() if s.lower() in SPLITS}
    if "train" not in known:
        raise BadInput(f"{name} has the splits {', '.join(splits)}; expected train among them")
    if not all(hasattr(part, "to_pandas") and hasattr(part, "__len__") for part in known.values()):
        raise BadInput(f"{name} is a stream, which has no order to shuffle; load it without streaming=True")
    return known


def from_datasets(
    given: Any,
    *,
    name: str,
    label: str = "",
    text: Sequence[str] = (),
    columns: Sequence[str] = (),
    size: int | None = None,
    classes: Sequence[str] = (),
    **options: Any,
) -> Data:
    """Make Data of a `datasets.Dataset` or `DatasetDict`; arguments as in `hf`.

    Raises:
        BadInput: splits without train, a stream, or columns that do not fit.
    """
    known = parts_of(given, name)
    features = known["train"].features
    named = [c for c, f in features.items() if hasattr(f, "names")]
    label = label or (named[0] if len(named) == 1 else "label")
    read = [*text, *columns]
    for split, part in known.items():
        for column in (label, *read):
            if column not in part.features:
                mend = "; name the one with the class: --data.label COLUMN" if column == label else ""
                has = f"{name}/{split} has no column {column!r}{nearest(column, part.features)}"
                raise BadInput(f"{has}; its columns are {', '.join(part.features)}{mend}")
    if label in named:
        classes = features[label].names
    pictures = [c for c, f in features.items() if type(f).__name__ == "Image"]
    if pictures and not read:
        return _images(known, name, pictures[0], label, tuple(classes), size, **options)
    frames = {}
    for split, part in known.items():
        frame = (part.select_columns([c for c in part.features if c in (label, *read)]) if read else part).to_pandas()
        frames[split] = frame.assign(**{label: _said(frame[label], part.features[label])})
    return data_of(frames, name=name, label=label, text=text, columns=columns, classes=tuple(classes), **options)


def _said(column: Any, feature: Any) -> Any:
    """Labels as a pandas series: names where the feature has them, None where there is none (-1, as the hub has it)."""
    if not hasattr(feature, "names"):
        return column
    return column.map(lambda i: feature.names[int(i)] if i == i and i is not None and i >= 0 else None).astype(object)


def _images(
    splits: Mapping[str, Any],
    name: str,
    column: str,
    label: str,
    classes: Sequence[str],
    size: int | None,
    missing: Missing = "refuse",
    **cut: Any,
) -> Data:
    import pandas

    said = {s: _said(part.select_columns([label]).to_pandas()[label], part.features[label]) for s, part in splits.items()}
    whole = pandas.concat(list(said.values()), ignore_index=True)
    labelled = whole.notna()
    if missing != "drop":
        refuse_missing((~labelled).to_frame(), name, "fill")
    y, classes = classes_of(whole[labelled], name, classes)
    files = {}
    for split, part in splits.items():
        some = said[split].notna().to_numpy().nonzero()[0]
        if len(some):  # a split without a label is cut anew
            files[split] = _encoded(part if len(some) == len(part) else part.select(some), column)
    look = Look.of(itertools.chain(*files.values()), size)
    ids = torch.from_numpy(labelled.to_numpy().nonzero()[0])
    made: dict[str, Source] = {}
    at_once, first = fit_in_memory(len(ids), look), 0
    for split, own in files.items():
        rows = slice(first, first + len(own))
        first += len(own)
        made[split] = source_of(own, y[rows], ids[rows], look, f"{name}/{split}", at_once=at_once)
    return completed(made, classes=tuple(classes), name=name, prepared=look.prepared, **cut)


def _encoded(part: Any, column: str) -> Any:
    """A column of images as it is stored, to be read by index."""
    import datasets

    return part.with_format(None).cast_column(column, datasets.Image(decode=False))[column]
