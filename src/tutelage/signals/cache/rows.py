"""Read some samples out of some shards: copies of rows of memory-mapped arrays, which costs less than any indexing that sorts them first.

Shapes: B batch, N samples of a shard, S positions of all of them one after the other, T positions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


class Rows:
    """A shard that is open.

    Args:
        tensors: by name.
    """

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        self.tensors = dict(tensors)
        self.arrays = {name: _array(tensor) for name, tensor in tensors.items()}
        self.lengths: list[int] = []
        self.starts: list[int] = []
        if "lengths" in tensors:
            lengths = tensors["lengths"].long()
            self.lengths, self.starts = lengths.tolist(), (lengths.cumsum(0) - lengths).tolist()


def _array(tensor: Tensor) -> NDArray[Any]:
    """The same memory; NumPy has no bfloat16, and for copying any type of that size will do."""
    array: NDArray[Any] = (tensor.view(torch.int16) if tensor.dtype == torch.bfloat16 else tensor).numpy()
    return array


def _tensor(array: NDArray[Any], dtype: torch.dtype) -> Tensor:
    found = torch.from_numpy(array)
    return found.view(dtype) if found.dtype != dtype else found


class Place:
    """Where the samples of a batch lie.

    Args:
        shards: of each sample; of no samples one shard, to say of what type nothing is.
        rows: of each sample, in its shard.
    """

    def __init__(self, shards: Sequence[Rows], rows: Sequence[int]) -> None:
        self.shards, self.rows = shards, rows
        self.one = all(shard is shards[0] for shard in shards)

    def read(self, name: str) -> Tensor:
        """A row of each sample, (B, ...), in memory of its own."""
        tensor = self.shards[0].tensors[name]
        if self.one:
            return tensor[torch.tensor(self.rows, dtype=torch.int64)]
        found = np.empty((len(self.rows), *tensor.shape[1:]), self.shards[0].arrays[name].dtype)
        for at, (shard, row) in enumerate(zip(self.shards, self.rows, strict=True)):
            found[at] = shard.arrays[name][row]
        return _tensor(found, tensor.dtype)

    def read_ragged(self, name: str, real_BT: Tensor) -> Tensor:
        """What was kept of each sample at some positions, as many as were kept, (B, T, ...); others are zeros."""
        tensor = self.shards[0].tensors[name]
        found = np.zeros((*real_BT.shape, *tensor.shape[1:]), self.shards[0].arrays[name].dtype)
        kept = [
            shard.arrays[name][shard.starts[row] : shard.starts[row] + length]
            for shard, row, length in zip(self.shards, self.rows, self.lengths(), strict=False)
        ]
        if kept:
            found[real_BT.numpy()] = np.concatenate(kept)
        return _tensor(found, tensor.dtype)

    def of_shards(self, name: str) -> Tensor:
        """What the shard of each sample has one of, (B, ...); (1, ...) where all samples are of one shard."""
        return torch.stack([shard.tensors[name] for shard in (self.shards[:1] if self.one else self.shards)])

    def first(self) -> Tensor:
        """The first positions of each ragged sample, as many as were kept, (B, T); T those of the longest."""
        lengths_B = torch.tensor(self.lengths(), dtype=torch.int64)
        return torch.arange(max(self.lengths(), default=0)) < lengths_B[:, None]

    def lengths(self) -> list[int]:
        """How many positions each ragged sample has."""
        return [shard.lengths[row] for shard, row in zip(self.shards, self.rows, strict=False)]
