"""Source: samples with stable ids that can be read in any order. Data: the splits of a task.

A Table holds whole columns in memory; Indexed reads sample by sample from a torch-style data set. Both give the same batch for the same
(positions, seed, view) in any process, so loader workers and resumed runs see what an uninterrupted run saw. Shapes: B batch.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset, default_collate

from tutelage.errors import BadInput
from tutelage.randomness import derive, seeded
from tutelage.signals import Batch


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

    def fingerprint(self) -> str:
        """A hash that changes when the samples do."""
        raise NotImplementedError


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
        return {k: v[positions] if isinstance(v, Tensor) else [v[i] for i in positions.tolist()] for k, v in self.columns.items()}

    def labels(self) -> Tensor | None:
        """The column `y`."""
        return _tensor(self.columns.get("y"))

    def rows(self, positions: Tensor, name: str) -> Table:
        """A table of some of the rows, ids kept."""
        return Table(dict(self.batch(positions)), name)

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

    def fingerprint(self) -> str:
        """Hash of the length, the labels and the first sample; reading everything would cost too much."""
        labels = self.labels()
        first = {k: torch.as_tensor(v).tolist() if not isinstance(v, str) else v for k, v in self._item(0, 0, 0).items()}
        return f"{derive('indexed', len(self), repr(None if labels is None else labels.tolist()), repr(sorted(first.items()))):016x}"


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

    Raises:
        BadInput: a label outside the classes.
    """

    train: Source
    validation: Source | None = None
    test: Source | None = None
    classes: Sequence[str] = ()
    name: str = "data"

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
        """Number of classes: those that are named, else what the training labels show; None without labels."""
        labels = self.train.labels()
        if self.classes or labels is None:
            return len(self.classes) or None
        return labels.shape[1] if labels.is_floating_point() else int(labels.max()) + 1

    def fingerprint(self) -> str:
        """A hash of all splits."""
        parts = [s.fingerprint() for s in (self.train, self.validation, self.test) if s is not None]
        return f"{self.name}-{derive(*parts):016x}"
