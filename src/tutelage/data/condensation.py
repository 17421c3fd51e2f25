"""A data set that is trained, or chosen, in place of a larger one: k samples a class, where they begin, and how they are kept.

Shapes: N samples, F features, K samples a class, C classes.
"""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from tutelage.data.source import Data, Source, Table, kind_of
from tutelage.errors import BadInput, MissingFile
from tutelage.extras import needed
from tutelage.randomness import derive, generator
from tutelage.signals import RESERVED

FORMAT = 1
FILE = "condensed.safetensors"
Choice: TypeAlias = Literal["random", "k-means", "herding"]
CHOICES: tuple[Choice, ...] = ("random", "k-means", "herding")


class SyntheticSet(nn.Module):
    """Samples that are parameters, under fixed labels, and the learning rate that nets shall study them with.

    Args:
        shape: of a sample.
        labels: of the samples, int64 (N,).
        lr: first learning rate, > 0.
        name: of the inputs' column.

    Attributes:
        x: the samples, `(N, *shape)`; zeros until `start` says where they begin.
        lr: the learning rate, a scalar; trained like the samples.
        y: the labels, (N,).

    Raises:
        BadInput: no labels, or a learning rate that is not above 0.
    """

    y: Tensor

    def __init__(self, shape: tuple[int, ...], labels: Tensor, lr: float = 0.01, name: str = "x") -> None:
        super().__init__()
        if labels.ndim != 1 or not len(labels) or not 0 < lr < math.inf:
            raise BadInput(f"SyntheticSet(labels of shape {tuple(labels.shape)}, lr={lr}): expected labels (N,), and lr above 0")
        self.column = name
        self.x = nn.Parameter(torch.zeros(len(labels), *shape))
        self.lr = nn.Parameter(torch.tensor(float(lr)))
        self.register_buffer("y", labels.long().clone())

    @torch.no_grad()
    def start(self, x: Tensor) -> None:
        """Begin with these samples, `(N, *shape)`.

        Raises:
            BadInput: other shapes than those of the set.
        """
        if x.shape != self.x.shape:
            raise BadInput(f"a set of samples of shape {tuple(self.x.shape)} cannot begin with {tuple(x.shape)}")
        self.x.copy_(x)

    def batch(self, x: Tensor, positions: Tensor | None = None) -> dict[str, Tensor]:
        """What a net is called with, for samples `x` in place of the set's own: those at some positions, by default all."""
        return {self.column: x} if positions is None else {self.column: x[positions]}

    def source(self, name: str = "condensed") -> Table:
        """The samples as they are now, to be studied."""
        return Table({self.column: self.x.detach().cpu().clone(), "y": self.y.cpu().clone()}, name)


def inputs_of(source: Source) -> tuple[str, Tensor]:
    """The name of the one column of inputs, and all of it as numbers, (N, ...).

    Raises:
        BadInput: text, tokens, or several columns.
    """
    if kind_of(source) not in ("images", "numbers"):
        columns = [k for k in source.batch(torch.tensor([0])) if k not in RESERVED]
        raise BadInput(
            f"{source.name} has the columns {columns}, of which no samples can be condensed; expected one column of images or "
            "of rows of numbers"
        )
    read = source.batch(torch.arange(len(source)))
    name = next(k for k in read if k not in RESERVED)
    return name, read[name]


def class_labels(source: Source, per_class: int, classes: int | None = None) -> Tensor:
    """The labels of a source that can be condensed to so many samples a class, int64 (N,).

    Raises:
        BadInput: no labels, labels that are no class numbers, or a class with fewer samples.
    """
    labels = source.labels()
    if labels is None:
        raise BadInput(f"{source.name} has no labels, so it has no classes to condense; give labelled data")
    if labels.ndim != 1 or labels.is_floating_point():
        raise BadInput(f"the labels of {source.name} are no class numbers; expected one whole number a sample")
    if per_class < 1:
        raise BadInput(f"per_class={per_class}: expected at least 1")
    counts = torch.bincount(labels[labels >= 0], minlength=classes or 0)
    few = int(counts.argmin()) if len(counts) else 0
    if not len(counts) or counts[few] < per_class:
        had = int(counts[few]) if len(counts) else 0
        raise BadInput(f"class {few} of {source.name} has {had} samples, fewer than per_class={per_class}; ask for fewer")
    return labels


def representatives(features: Tensor, labels: Tensor, per_class: int, how: Choice = "k-means", seed: int = 0) -> Tensor:
    """Choose real samples that stand for their classes.

    Args:
        features: what is compared, such as logits of a trained net or the samples themselves, (N, ...).
        labels: class numbers, int64 (N,); negative ones are passed over.
        per_class: samples of each class, K >= 1.
        how: "k-means" clusters each class and takes the sample nearest to each centre; "herding" takes, one after the other, the sample
            that brings the mean of the chosen nearest to the mean of the class; "random" draws.
        seed: of the draws.

    Returns:
        Positions (C * K,), distinct, class by class.

    Raises:
        BadInput: a class with fewer samples, features that are not finite, or an unknown way.

    Source: herding: Welling, "Herding Dynamical Weights to Learn", ICML 2009; k-means on an expert's logits: Shen et al., "Efficient
    Dataset Distillation through Alignment with Smooth and High-Quality Expert Trajectories", 2023, as its start.
    """
    if how not in CHOICES:
        raise BadInput(f"representatives(how={how!r}): expected {', '.join(CHOICES)}")
    if len(features) != len(labels) or not features.isfinite().all():
        raise BadInput(f"representatives of {len(labels)} labels: expected as many features, all finite; there are {len(features)}")
    flat_NF = features.detach().double().flatten(1).cpu()
    chosen = []
    for label in labels[labels >= 0].unique().tolist():
        places = (labels == label).nonzero()[:, 0].cpu()
        if per_class < 1 or len(places) < per_class:
            raise BadInput(f"class {label} has {len(places)} samples; per_class={per_class} asks for more, or for none")
        if how == "random":
            found = torch.randperm(len(places), generator=generator("representatives", seed, label))[:per_class]
        elif how == "herding":
            found = _herded(flat_NF[places], per_class)
        else:
            found = _nearest_to_centres(flat_NF[places], per_class, derive("representatives", seed, label) % 2**32)
        chosen.append(places[found])
    return torch.cat(chosen)


def _herded(flat_NF: Tensor, count: int) -> Tensor:
    mean_F, total_F = flat_NF.mean(0), torch.zeros_like(flat_NF[0])
    taken: list[int] = []
    for number in range(1, count + 1):
        apart_N = ((total_F + flat_NF) / number - mean_F).square().sum(1)
        apart_N[taken] = math.inf
        taken.append(int(apart_N.argmin()))
        total_F = total_F + flat_NF[taken[-1]]
    return torch.tensor(taken)


def _nearest_to_centres(flat_NF: Tensor, count: int, seed: int) -> Tensor:
    from sklearn.cluster import KMeans

    distinct = len(np.unique(flat_NF.numpy(), axis=0))
    made = KMeans(min(count, distinct), n_init=3, random_state=seed).fit(flat_NF.numpy())
    centres = torch.from_numpy(made.cluster_centers_)
    order = np.argsort(-np.bincount(made.labels_, minlength=len(centres)), kind="stable")  # the largest cluster comes first
    apart_KN = torch.cdist(centres[torch.from_numpy(order)], flat_NF)
    taken: list[int] = []
    for number in range(count):  # fewer distinct samples than asked for: further ones near the same centres
        apart_N = apart_KN[number % len(centres)].clone()
        apart_N[taken] = math.inf
        taken.append(int(apart_N.argmin()))
    return torch.tensor(taken)


def keep(folder: Path, synthetic: SyntheticSet, data: Data, about: Mapping[str, Any] | None = None) -> None:
    """Write a condensed set: its tensors, what its labels mean, and its images as PNGs, one a sample and all in a grid.

    Args:
        folder: replaced, once all is written, where it exists.
        synthetic: the set.
        data: what it was condensed from.
        about: more to note, as plain values; "source" may hold the spec of the data.
    """
    beside = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir(parents=True)
    x, y = synthetic.x.detach().cpu().contiguous(), synthetic.y.cpu().contiguous()
    save_file({synthetic.column: x, "y": y, "lr": synthetic.lr.detach().cpu()}, beside / FILE)
    described = {"format": FORMAT, "column": synthetic.column, "classes": list(data.classes), "prepared": dict(data.prepared)}
    (beside / "condensed.json").write_text(json.dumps({**described, "of": data.name, **(about or {})}, indent=1))
    if x.ndim == 4 and x.shape[1] in (1, 3):
        image = needed("PIL.Image", "images", "writing images")
        (beside / "images").mkdir()
        seen: dict[int, int] = {}
        for picture, label in zip(_bytes(x), y.tolist(), strict=True):
            seen[label] = number = seen.get(label, -1) + 1
            image.fromarray(picture).save(beside / "images" / f"{label:03d}-{number:03d}.png")
        image.fromarray(grid(x, y, columns=upright(y))).save(beside / "grid.png")
    shutil.rmtree(folder, ignore_errors=True)
    beside.rename(folder)


def upright(y: Tensor) -> bool:
    """Whether a picture of the set has a column for each class: where there are more classes than samples of each."""
    counts = torch.bincount(y)
    return int((counts > 0).sum()) > int(counts.max())


def grid(x: Tensor, y: Tensor, gap: int = 1, *, columns: bool = False) -> np.ndarray:
    """All images in one, a row for each class, white between them; bytes (height, width) or (height, width, 3).

    Args:
        x: images in [0, 1], (N, C, H, W) with one channel or three.
        y: their labels, (N,).
        gap: pixels between two.
        columns: a column for each class instead.
    """
    rows = [np.flatnonzero(y.numpy() == label) for label in y.unique().tolist()]
    pictures = _bytes(x)
    height, width = x.shape[2] + gap, x.shape[3] + gap
    down, across = (max(map(len, rows)), len(rows)) if columns else (len(rows), max(map(len, rows)))
    whole = np.full((down * height + gap, across * width + gap, *pictures.shape[3:]), 255, np.uint8)
    for number, row in enumerate(rows):
        for other, place in enumerate(row):
            at, beside = (other, number) if columns else (number, other)
            top, left = at * height + gap, beside * width + gap
            whole[top : top + x.shape[2], left : left + x.shape[3]] = pictures[place]
    return whole


def _bytes(x: Tensor) -> np.ndarray:
    """Images as bytes, (N, H, W) or (N, H, W, 3); what lies outside [0, 1] is cut."""
    found: np.ndarray = (x.detach().float().cpu().clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).numpy()
    return found[..., 0] if found.shape[3] == 1 else found


def condensed(path: str) -> Data:
    """Load a condensed set: training samples and nothing else.

    Args:
        path: the folder, or the folder of the run that made it.

    Raises:
        MissingFile: it holds no condensed set.
        BadInput: it is damaged.
    """
    synthetic, about = read(path)
    classes, prepared = about.get("classes", ()), about.get("prepared", {})
    return Data(synthetic.source("train"), classes=tuple(classes), name=f"condensed {about.get('of', 'data')}", prepared=prepared)


def read(path: str | Path) -> tuple[SyntheticSet, dict[str, Any]]:
    """Read a condensed set, and what was noted with it.

    Raises:
        MissingFile: it holds no condensed set.
        BadInput: it is damaged.
    """
    root = Path(path)
    folder = next((f for f in (root, root / "condensed", root / "also" / "condensed") if (f / FILE).is_file()), None)
    if folder is None:
        raise MissingFile(f"{str(path)!r} holds no condensed set: {FILE} is missing; give a folder that `tutelage condense` wrote")
    try:
        tensors = load_file(folder / FILE)
        about = json.loads((folder / "condensed.json").read_text())
        if about["format"] != FORMAT:
            raise ValueError(f"format {about['format']}, this version reads {FORMAT}")
        x, y, lr = tensors[about["column"]], tensors["y"], float(tensors["lr"])
        if len(x) != len(y) or not x.isfinite().all():
            raise ValueError("its samples are no finite numbers, or not as many as its labels")
        made = SyntheticSet(tuple(x.shape[1:]), y, lr, about["column"])
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise BadInput(f"the condensed set in {folder} is damaged: {error}") from None
    made.start(x)
    return made, about
