"""Order: which samples a step studies, as a function of (seed, position) alone, so that there is nothing to save.

Epochs follow each other without a gap: step s takes places s*B to (s+1)*B of the concatenated permutations, so each batch is full, an
epoch need not be a whole number of steps, and the batch of a step is the same for any number of processes and micro-batches.
"""

from __future__ import annotations

import torch
from torch import Tensor

from tutelage.errors import BadInput
from tutelage.randomness import generator


class Order:
    """The order of a stage's samples, and the view in which each is studied: the epoch, or the epoch mod so many views.

    Args:
        size: number of samples.
        batch_size: samples a step, over all processes.
        seed: of the run.
        stage: name of the stage; each stage has its own order.
        views: so many views of a sample are studied in turn; None means a new one each epoch.

    Raises:
        BadInput: a batch size or a number of views below 1.
    """

    def __init__(self, size: int, batch_size: int, seed: int, stage: str, views: int | None = None) -> None:
        if batch_size < 1:
            raise BadInput(f"batch_size={batch_size}: expected at least 1")
        if views is not None and views < 1:
            raise BadInput(f"views={views}: expected at least 1")
        self.size, self.batch_size, self.seed, self.stage, self.views = size, batch_size, seed, stage, views
        self._permutations: dict[int, Tensor] = {}

    def _permutation(self, epoch: int) -> Tensor:
        if epoch not in self._permutations:
            self._permutations = {e: p for e, p in self._permutations.items() if e >= epoch - 1}
            self._permutations[epoch] = torch.randperm(self.size, generator=generator("order", self.seed, self.stage, epoch))
        return self._permutations[epoch]

    def epoch(self, step: int) -> int:
        """The epoch of a step's first sample."""
        return step * self.batch_size // self.size

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        """Positions in the source, and the view number of each, both int64 (batch_size,)."""
        place, end = step * self.batch_size, (step + 1) * self.batch_size
        positions, views = [], []
        while place < end:
            epoch, offset = divmod(place, self.size)
            taken = self._permutation(epoch)[offset : offset + end - place]
            positions.append(taken)
            views.append(torch.full_like(taken, epoch if self.views is None else epoch % self.views))
            place += len(taken)
        return torch.cat(positions), torch.cat(views)
