"""Source: samples with stable ids that can be read in any order. Data: the splits of a task.

A Table holds whole columns in memory; Indexed reads sample by sample from a torch-style data set. Both give the same batch for the same
(positions, seed, view) in any process, so loader workers and resumed runs see what an uninterrupted run saw. Shapes: B batch.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset, default_collate

from tutelage.errors import BadInput
from tutelage.randomness import derive, seeded
from tutelage.signals import RESERVED, Batch

PROBED = 64
"""Samples whose views are compared, to find out whether anything is drawn for them."""


class Source:
    """Samples that can be read in any order.

    Attributes:
        name: how tables call it.
    """

    name: str = "data"

    def __len__(self) -> int:
        raise NotImplementedError

    def batch(self, positions: Tensor, *, seed: int = 0, views: Tensor | None = None) -> Batch:
        """Read samples.

        Args:
            positions: which, int64 (B,), each in [0, len).
            seed: the run's seed, for what is drawn for a sample (augmentation).
            views: view number of each sample, (B,); None means 0. What is drawn is a function of (seed, id, view).

        Returns:
            Columns, `id` among them.
        """
        raise NotImplementedError

    def labels(self) -> Tensor | None:
        """All labels, (N,) or rows that sum to 1; None where there are none."""
        raise NotImplementedError

    @property
    def labelled(self) -> bool:
        """Whether there are labels; cheaper than reading them where there are many."""
        return self.labels() is not None

    def fingerprint(self) -> str:
        """A hash that changes when the samples do."""
        raise NotImplementedError

    def ids(self) -> Tensor:
        """The ids of all samples, (N,); by default their positions."""
        return torch.arange(len(self))

    def varies(self) -> bool:
        """Whether anything is drawn for a sample, so that its views may differ; found out on some samples where a source does not say."""
        some = torch.arange(min(PROBED, len(self)))
        plain, *views = (self.batch(some, views=v) for v in (None, torch.zeros_like(some), torch.ones_like(some)))
        return any(not _same(plain[key], view[key]) for view in views for key in plain)

    def rows(self, positions: Tensor, name: str) -> Source:
        """Some of the samples, ids kept."""
        return Part(self, positions, name)

    def relabelled(self, labels: Tensor) -> Source:
        """The same samples under other labels, (N,)."""
        return Part(self, torch.arange(len(self)), self.name, labels)


class Part(Source):
    """Some of the samples of a source, ids kept.

    Args:
        whole: the source.
        positions: which of its samples, int64 (N,).
        name: how tables call it.
        labels: what the samples are labelled instead, (N,).
    """

    def __init__(self, whole: Source, positions: Tensor, name: str, labels: Tensor | None = None) -> None:
        self.whole, self.positions, self.name, self._labels = whole, positions, name, labels

    def __len__(self) -> int:
        return len(self.positions)

    def batch(self, positions: Tensor, *, seed: int = 0, views: Tensor | None = None) -> Batch:
        """Read from the whole."""
        read = self.whole.batch(self.positions[positions], seed=seed, views=views)
        return read if self._labels is None else {**read, "y": self._labels[positions]}

    def labels(self) -> Tensor | None:
        """Those of the chosen samples."""
        if self._labels is not None:
            return self._labels
        labels = self.whole.labels()
        return None if labels is None else labels[self.positions]

    def varies(self) -> bool:
        """Whether the whole does."""
        return self.whole.varies()

    def ids(self) -> Tensor:
        """Those of the chosen samples."""
        return self.whole.ids()[self.positions]

    def fingerprint(self) -> str:
        """Hash of the whole, the choice and the labels."""
        labels = None if self._labels is None else self._labels.tolist()
        return f"{derive('part', self.whole.fingerprint(), repr(self.positions.tolist()), repr(labels)):016x}"


class Table(Source):
    """Samples held in memory as columns.

    Args:
        columns: tensors or lists of one length; inputs under any name, labels as `y`, `id` made by counting where it is missing.
        name: how tables call it.

    Raises:
        BadInput: no columns, columns of different lengths, or ids that are not distinct integers.
    """

    def __init__(self, columns: Mapping[str, Tensor | Sequence[Any]], name: str = "data") -> None:
        lengths = {k: len(v) for k, v in columns.items()}
        if not columns or len(set(lengths.values())) != 1:
            raise BadInput(f"{name}: columns must have one common length; they have {lengths}")
        self.columns = dict(columns)
        self.name = name
        size = next(iter(lengths.values()))
        if size == 0:
            raise BadInput(f"{name} is empty; expected at least one sample")
        ids = self.columns.setdefault("id", torch.arange(size))
        if not isinstance(ids, Tensor) or ids.dtype != torch.int64 or ids.ndim != 1 or ids.unique().numel() != size:
            raise BadInput(f"{name}: column 'id' must be distinct int64 numbers, one a sample")

    def __len__(self) -> int:
        return len(self.columns["id"])

    def batch(self, positions: Tensor, *, seed: int = 0, views: Tensor | None = None) -> Batch:
        """Read rows; nothing is drawn."""
        return _chosen(self.columns, positions)

    def labels(self) -> Tensor | None:
        """The column `y`."""
        return _tensor(self.columns.get("y"))

    def varies(self) -> bool:
        """Nothing is drawn, but by a class of the user's own that reads in another way."""
        return type(self).batch is not Table.batch and super().varies()

    def ids(self) -> Tensor:
        """The column `id`."""
        return self.columns["id"]  # type: ignore[return-value]

    def rows(self, positions: Tensor, name: str) -> Table:
        """A table of some of the rows, ids kept."""
        return type(self)(_chosen(self.columns, positions), name)

    def relabelled(self, labels: Tensor) -> Table:
        """The same rows with another column `y`."""
        return type(self)({**self.columns, "y": labels}, self.name)

    def fingerprint(self) -> str:
        """Hash of all columns."""
        return self._fingerprint

    @functools.cached_property
    def _fingerprint(self) -> str:
        digest = hashlib.sha256()
        for key in sorted(self.columns):
            value = self.columns[key]
            if isinstance(value, Tensor):
                digest.update(f"{key}:{tuple(value.shape)}:{value.dtype}".encode())
                digest.update(value.cpu().contiguous().view(torch.uint8).numpy().tobytes())  # as bytes: NumPy has no bfloat16
            else:
                digest.update(f"{key}:{len(value)}:{list(value)!r}".encode())
        return digest.hexdigest()[:16]


class Indexed(Source):
    """A torch-style data set, `dataset[i] -> (input, label)` or a mapping of columns.

    Random transforms inside the data set become a function of (seed, position, view): torch, NumPy and `random` are seeded for each
    sample.

    Args:
        dataset: has `__len__` and `__getitem__`.
        name: how tables call it.
        labels: all labels, where they are known without reading each sample; otherwise read once from the samples.

    Raises:
        BadInput: it is empty, or an item is neither a pair nor a mapping.
    """

    def __init__(self, dataset: Dataset[Any], name: str = "data", labels: Tensor | None = None) -> None:
        self.dataset, self.name, self._labels = dataset, name, labels
        if not hasattr(dataset, "__len__") or not hasattr(dataset, "__getitem__"):
            raise BadInput(f"{name} must be read by index: a {type(dataset).__name__} lacks __len__ or __getitem__")
        if len(self) == 0:
            raise BadInput(f"{name} is empty; expected at least one sample")

    def __len__(self) -> int:
        return len(self.dataset)  # type: ignore[arg-type]

    def _item(self, position: int, seed: int, view: int) -> dict[str, Any]:
        with seeded("sample", seed, position, view):
            item = self.dataset[position]
        if isinstance(item, Mapping):
            columns = dict(item)
        elif isinstance(item, (tuple, list)) and len(item) == 2:
            columns = {"x": item[0], "y": item[1]}
        else:
            raise BadInput(f"sample {position} of {self.name} is a {type(item).__name__}; expected (input, label) or a mapping of columns")
        columns.setdefault("id", position)
        return columns

    def batch(self, positions: Tensor, *, seed: int = 0, views: Tensor | None = None) -> Batch:
        """Read samples one by one and stack them."""
        numbers = [0] * len(positions) if views is None else views.tolist()
        return default_collate([self._item(p, seed, v) for p, v in zip(positions.tolist(), numbers, strict=True)])

    def labels(self) -> Tensor | None:
        """The labels given, or read from the samples once."""
        if self._labels is None:
            first = self._item(0, 0, 0)
            if "y" not in first:
                return None
            self._labels = torch.stack([torch.as_tensor(self._item(i, 0, 0)["y"]) for i in range(len(self))])
        return self._labels

    def ids(self) -> Tensor:
        """The samples' own, read from them once, or their positions."""
        return self._ids

    @functools.cached_property
    def _ids(self) -> Tensor:
        if not self._names_its_samples():
            return torch.arange(len(self))
        return torch.tensor([int(self._item(i, 0, 0)["id"]) for i in range(len(self))])

    def _names_its_samples(self) -> bool:
        with seeded("sample", 0, 0, 0):
            first = self.dataset[0]
        return isinstance(first, Mapping) and "id" in first

    def fingerprint(self) -> str:
        """Hash of the length, the labels and the first sample; reading everything would cost too much."""
        labels = self.labels()
        first = {k: torch.as_tensor(v).tolist() if not isinstance(v, str) else v for k, v in self._item(0, 0, 0).items()}
        return f"{derive('indexed', len(self), repr(None if labels is None else labels.tolist()), repr(sorted(first.items()))):016x}"


class Images(Table):
    """Images in memory as bytes: column `x` is uint8 (N, C, H, W), and float32 in [0, 1] in what is read."""

    def batch(self, positions: Tensor, *, seed: int = 0, views: Tensor | None = None) -> Batch:
        """Read rows."""
        read = _chosen(self.columns, positions)
        return {**read, "x": read["x"].float().div_(255)}

    def varies(self) -> bool:
        """Nothing is drawn."""
        return False


def kind_of(source: Source) -> str | None:
    """What the samples are: "images" (one column `x` of (C, H, W)), "numbers" (one of (F,)), "text" (a column `text` of strings),
    "tokens" (a column `input_ids` of (T,)), or None for anything else.
    """
    columns = {k: v for k, v in source.batch(torch.tensor([0])).items() if k not in RESERVED}
    if "text" in columns and isinstance(columns["text"], list):
        return "text"
    tokens = columns.get("input_ids")
    if isinstance(tokens, Tensor) and tokens.ndim == 2 and not tokens.is_floating_point():
        return "tokens"
    only = next(iter(columns.values())) if len(columns) == 1 else None
    if not isinstance(only, Tensor):
        return None
    return {4: "images", 2: "numbers"}.get(only.ndim) if only.is_floating_point() else None


def _chosen(columns: Mapping[str, Any], positions: Tensor) -> dict[str, Any]:
    return {k: v[positions] if isinstance(v, Tensor) else [v[i] for i in positions.tolist()] for k, v in columns.items()}


def _same(one: Any, other: Any) -> bool:
    return torch.equal(one, other) if isinstance(one, Tensor) and isinstance(other, Tensor) else bool(one == other)


def _tensor(labels: Any) -> Tensor | None:
    return labels if labels is None or isinstance(labels, Tensor) else torch.as_tensor(labels)


@dataclass(frozen=True)
class Data:
    """The splits of a task. Training sees `train`, selection `validation`; `test` is for the last number only.

    Args:
        train: what the student studies.
        validation: what choices are made on; None where there is none.
        test: what is reported.
        classes: names of the classes, in the order of the label numbers; empty for other tasks.
        name: how tables call it.
        prepared: how raw rows or files became these columns, as plain values with a `kind`: what a model needs to know that is to be used
            on new ones.

    Raises:
        BadInput: a label outside the classes.
    """

    train: Source
    validation: Source | None = None
    test: Source | None = None
    classes: Sequence[str] = ()
    name: str = "data"
    prepared: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for split, source in (("train", self.train), ("validation", self.validation), ("test", self.test)):
            labels = source.labels() if source is not None and self.classes else None
            if labels is None or labels.is_floating_point():
                continue
            wrong = labels[(labels != -100) & ((labels < 0) | (labels >= len(self.classes)))]
            if len(wrong):
                raise BadInput(
                    f"{split} of {self.name} has the label {int(wrong[0])}, but there are {len(self.classes)} classes, counted from 0"
                )

    def class_count(self) -> int | None:
        """Number of classes: those that are named, else what the training labels show; None without labels or where they are numbers. Of
        lessons, the size of the vocabulary.
        """
        if "vocabulary" in self.prepared:
            return int(self.prepared["vocabulary"])
        labels = self.train.labels()
        if self.classes or labels is None:
            return len(self.classes) or None
        if labels.is_floating_point():
            return labels.shape[1] if labels.ndim == 2 else None
        return int(labels.max()) + 1

    def fingerprint(self) -> str:
        """A hash of all splits."""
        parts = [s.fingerprint() for s in (self.train, self.validation, self.test) if s is not None]
        return f"{self.name}-{derive(*parts):016x}"
