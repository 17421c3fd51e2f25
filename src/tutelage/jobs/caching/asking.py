"""Asking the teacher: always in batches of one shape, so that what it says of a sample is to the last bit what a student would hear.

Shapes: B batch, T positions, V classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from tutelage.data import Source
from tutelage.data.hashing import uniforms
from tutelage.errors import BadInput, ShapeMismatch
from tutelage.signals import Batch, Model
from tutelage.signals.cache import PLAIN, KeptSplit, Shard
from tutelage.signals.taps import LOGITS
from tutelage.teachers import Frozen
from tutelage.training import Run

HALF = torch.finfo(torch.float16).max


@dataclass(frozen=True)
class Asked:
    """What the teacher showed of some samples.

    Args:
        ids: of the samples, int64 (B,).
        signals: dense logits under "logits", the others by the names of the taps.
        batch: what it was asked, the samples that filled it up included.
    """

    ids: Tensor
    signals: dict[str, Tensor]
    batch: Batch

    @property
    def mask(self) -> Tensor | None:
        """Which positions are real, bool or 0 and 1 (B, T); None where the samples do not say."""
        mask = self.batch.get("mask")
        return mask[: len(self.ids)] if isinstance(mask, Tensor) and mask.ndim == 2 else None


class Asker:
    """Asks a teacher, frozen and in evaluation mode, in the precision and on the device of a run.

    Args:
        model: the teacher.
        run: where to compute.
        batch_size: samples a pass; where fewer are left, some of them are asked about twice.
        seed: of the views, and of what is drawn for sampled logits.
    """

    def __init__(self, model: Model, run: Run, batch_size: int, seed: int) -> None:
        self.model, self.run, self.batch_size, self.seed = model, run, batch_size, seed
        self.teacher = Frozen(model)
        self._lengths: dict[int, int] = {}

    def ask(self, source: Source, positions_B: Tensor, view: int, taps: Mapping[str, str], logits: bool = True) -> Asked:
        """Ask about some samples.

        Args:
            source: where they are.
            positions_B: which, at most `batch_size`.
            view: in which view; see `PLAIN`.
            taps: paths by the names under which their signals are given.
            logits: whether they are wanted.

        Raises:
            BadInput: ids that are no int64 numbers.
            ShapeMismatch: a signal that has no row for each sample.
        """
        count = len(positions_B)
        filled_B = positions_B[torch.arange(self.batch_size) % count]
        if view == PLAIN:
            batch = source.batch(filled_B)
        else:
            batch = source.batch(filled_B, seed=self.seed, views=torch.full_like(filled_B, view))
        ids_B = batch["id"]
        if not isinstance(ids_B, Tensor) or ids_B.dtype != torch.int64:
            raise BadInput(f"the ids of {source.name} are no int64 numbers, by which a cache could keep its samples")
        with self.run.autocast():
            seen = self.teacher.signals(self.run.place(batch), {*taps.values(), *([LOGITS] if logits else [])})
        named = {name: seen[path] for name, path in taps.items()} | ({LOGITS: seen[LOGITS]} if logits else {})
        for name, signal in named.items():
            if signal.ndim < 1 or signal.shape[0] != self.batch_size:
                raise ShapeMismatch(
                    f"the teacher's signal at {name!r} has shape {tuple(signal.shape)} for {self.batch_size} samples; "
                    "a cache keeps a row for each sample"
                )
        return Asked(ids_B[:count], {name: signal[:count] for name, signal in named.items()}, batch)

    def add(self, shard: Shard, source: Source, positions_B: Tensor, view: int, taps: Mapping[str, str]) -> Asked:
        """Ask about a batch, and add to a shard what it keeps of that.

        Raises:
            BadInput: a number that is not finite, or too large for the precision.
            ShapeMismatch: a signal of another shape than in the first batch.
        """
        kept = shard.kept
        asked = self.ask(source, positions_B, view, {name: taps[name] for name in kept.taps}, kept.logits is not None)
        halved = [name for name, tap in kept.taps.items() if tap.precision == "float16"]
        halved += [LOGITS] if kept.logits is not None and (kept.logits.form, kept.logits.precision) == ("dense", "float16") else []
        by_position = [name for name, tap in kept.taps.items() if tap.positions]
        by_position += [LOGITS] if kept.logits is not None and kept.logits.positions else []
        for name in halved:
            highest = asked.signals[name].abs().max()
            if HALF < highest < torch.inf:  # what is infinite already gets a message of its own
                raise BadInput(f"the teacher's signal at {name!r} reaches {highest:g}, more than float16 holds; expected bfloat16 or full")
        for name in by_position if not kept.ragged else ():
            length = asked.signals[name].shape[1]
            before = self._lengths.setdefault(id(source), length)
            if length != before:
                raise ShapeMismatch(
                    f"the teacher's signal at {name!r} has {length} positions a sample in this batch, {before} in another one; "
                    "samples of different lengths need a column 'mask' of shape (B, T) that says which positions are real"
                )
        device = self.run.device
        drawn, mask = self._uniforms(asked, view, kept), asked.mask if kept.ragged else None
        shard.add(
            asked.ids,
            asked.signals,
            uniforms=None if drawn is None else drawn.to(device),
            mask_BT=None if mask is None else mask.to(device),
        )
        return asked

    def _uniforms(self, asked: Asked, view: int, kept: KeptSplit) -> Tensor | None:
        """The draws of sampled logits, one a row: (B,) or (B, T); None for other forms."""
        if kept.logits is None or kept.logits.form != "sampled":
            return None
        rows = asked.signals[LOGITS].shape[1] if kept.logits.positions else 1
        views_B = torch.full_like(asked.ids, view + 1)
        drawn = uniforms(self.seed, asked.ids, views_B, rows, "sampled logits")
        return drawn if kept.logits.positions else drawn[:, 0]
