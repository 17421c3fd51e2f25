"""Read the batches of a stage, in this process or ahead of time in loader workers; what is read is the same."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from tutelage.data.order import Order
from tutelage.data.source import Source
from tutelage.errors import TutelageError
from tutelage.randomness import seeded
from tutelage.signals import Batch


class Slices:
    """Which part of each step's batch one process reads, cut into micro-batches.

    Args:
        order: the stage's order.
        rank: this process.
        ranks: number of processes.
        micro_batch: largest number of samples in one pass; None means no limit.
    """

    def __init__(self, order: Order, rank: int = 0, ranks: int = 1, micro_batch: int | None = None) -> None:
        self.order, self.rank, self.ranks = order, rank, ranks
        share = -(-order.batch_size // ranks)
        self.parts = 1 if micro_batch is None else max(1, -(-share // micro_batch))

    def of(self, step: int) -> list[tuple[Tensor, Tensor]]:
        """(positions, views) of each micro-batch of this process at a step."""
        positions, views = self.order.batch(step)
        own = slice(len(positions) * self.rank // self.ranks, len(positions) * (self.rank + 1) // self.ranks)
        if self.parts == 1:
            return [(positions[own], views[own])]
        cut = zip(positions[own].tensor_split(self.parts), views[own].tensor_split(self.parts), strict=True)
        return [(p, v) for p, v in cut if len(p)]


class _Steps(Dataset[Any]):
    def __init__(self, source: Source, slices: Slices, seed: int, start: int, stop: int) -> None:
        self.source, self.slices, self.seed, self.start, self.stop = source, slices, seed, start, stop

    def __len__(self) -> int:
        return self.stop - self.start

    def __getitem__(self, index: int) -> list[Batch] | TutelageError:
        try:
            return self._read(index)
        except TutelageError as error:
            return error  # raised by who asked: a worker would put its whole traceback into the message

    def _read(self, index: int) -> list[Batch]:
        return [{**self.source.batch(p, seed=self.seed, views=v), "view": v} for p, v in self.slices.of(self.start + index)]


def _raised(read: list[Batch] | TutelageError) -> list[Batch]:
    if isinstance(read, TutelageError):
        raise read
    return read


def batches(source: Source, slices: Slices, *, seed: int, start: int, stop: int, workers: int = 0) -> Iterator[list[Batch]]:
    """Give each step's micro-batches from `start` on, with the view number of each sample as column `view`.

    Args:
        source: the samples.
        slices: what this process reads.
        seed: of what is drawn for a sample.
        start: first step.
        stop: step to end before.
        workers: processes that read ahead; 0 reads here.
    """
    steps = _Steps(source, slices, seed, start, stop)
    if workers == 0:
        yield from (_raised(steps[i]) for i in range(len(steps)))
        return
    with seeded("loader"):  # the loader draws a base seed from the global generator when it starts
        loader = iter(DataLoader(steps, batch_size=None, num_workers=workers, pin_memory=torch.cuda.is_available()))
    try:
        yield from map(_raised, loader)
    except Exception as error:
        # the worker's traceback is in the message; the loader's own keeps the workers alive, to be waited for at some later collection
        raise error.with_traceback(None) from None
    finally:
        del loader  # ends the workers
