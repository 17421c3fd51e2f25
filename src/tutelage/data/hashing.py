"""Random numbers by hashing: each is a function of (seed, purpose, id, view, index), so a sample's draws are the same in any batch.

A generator would have to be made anew for each sample; a hash of counters is computed for a whole batch at once, in integers, which
are the same on every machine. Shapes: B batch, N draws of a sample.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tutelage.errors import BadInput
from tutelage.randomness import derive

LOW, HALF = np.uint64(0xFFFFFFFF), np.uint64(32)
MULTIPLIERS = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
KEY_STEPS = 0x9E3779B9, 0xBB67AE85

Words = NDArray[np.uint64]


def philox(counter: tuple[Words, Words, Words, Words], key: tuple[int, int]) -> tuple[Words, Words, Words, Words]:
    """Philox-4x32-10: hash counters of four words under a key of two, element by element.

    Args:
        counter: four arrays that broadcast, of numbers below 2**32.
        key: two numbers below 2**32.

    Returns:
        Four arrays of numbers below 2**32, as if drawn uniformly and independently for each counter and key.

    Source: Salmon et al., "Parallel Random Numbers: As Easy as 1, 2, 3", 2011, section 4.3.
    """
    a, b, c, d = counter
    for turn in range(10):
        first, second = (np.uint64(k + turn * step & 0xFFFFFFFF) for k, step in zip(key, KEY_STEPS, strict=True))
        p, q = a * MULTIPLIERS[0], c * MULTIPLIERS[1]
        a, b, c, d = (q >> HALF) ^ b ^ first, q & LOW, (p >> HALF) ^ d ^ second, p & LOW
    return a, b, c, d


def _words(seed: int, ids_B: Tensor, views_B: Tensor, draws: int, purpose: str) -> Iterator[tuple[slice, NDArray[np.uint32]]]:
    """Some rows of the batch at a time, their random words of 32 bits, (rows, draws); arguments and errors as of `uniforms`."""
    if ids_B.dtype != torch.int64 or views_B.dtype != torch.int64 or ids_B.ndim != 1 or ids_B.shape != views_B.shape:
        raise BadInput(
            f"draws need ids and views, int64 of shape (B,), not {ids_B.dtype} {tuple(ids_B.shape)} "
            f"and {views_B.dtype} {tuple(views_B.shape)}"
        )
    if len(views_B) and not 0 <= int(views_B.min()) <= int(views_B.max()) < 2**32:
        raise BadInput(f"draws need views in [0, 2**32), not from {int(views_B.min())} to {int(views_B.max())}")
    hashed = derive("hashing", seed, purpose)
    key = hashed & 0xFFFFFFFF, hashed >> 32
    ids, views = (t.cpu().numpy().astype(np.uint64)[:, None] for t in (ids_B, views_B))  # a negative id wraps around
    blocks = np.arange(-(-draws // 4), dtype=np.uint64)[None]
    rows = max(1, 8192 // max(1, blocks.size))  # so few that all that is made of them stays in the processor's cache
    for start in range(0, len(ids), rows):
        part = slice(start, start + rows)
        four = philox((blocks, views[part], ids[part] & LOW, ids[part] >> HALF), key)
        found = np.stack([word.astype(np.uint32) for word in four], axis=2)
        yield part, found.reshape(len(found), -1)[:, :draws]


def uniforms(seed: int, ids_B: Tensor, views_B: Tensor, draws: int, purpose: str) -> Tensor:
    """Uniform draws for samples: number i of a sample is a function of (seed, purpose, id, view, i) and of nothing else.

    Args:
        seed: the run's.
        ids_B: stable ids of the samples, int64 (B,); negative ones too.
        views_B: view number of each sample, int64 (B,), in [0, 2**32).
        draws: how many numbers for each sample.
        purpose: what they are for; another purpose, other numbers.

    Returns:
        Numbers in [0, 1), multiples of 2**-32, float64 (B, draws); the same on every machine.

    Raises:
        BadInput: ids and views that are not int64 of one length, or a view out of range.
    """
    found = np.empty((len(ids_B), draws))
    for part, drawn in _words(seed, ids_B, views_B, draws, purpose):
        found[part] = drawn * 2.0**-32
    return torch.from_numpy(found)


def normals(seed: int, ids_B: Tensor, views_B: Tensor, draws: int, purpose: str) -> Tensor:
    """Standard normal draws for samples; arguments and errors as of `uniforms`.

    Returns:
        float32 (B, draws). The same in any batch; machines may differ in the last bit, since their logarithms do.

    Source: Box & Muller, "A Note on the Generation of Random Normal Deviates", 1958.
    """
    found = np.empty((len(ids_B), draws), dtype=np.float32)
    for part, drawn in _words(seed, ids_B, views_B, draws + draws % 2, purpose):
        # in NumPy, whose functions treat the end of an array like its middle; half a step up, since 0 has no logarithm
        first, second = ((drawn[:, i::2].astype(np.float32) + np.float32(0.5)) * np.float32(2.0**-32) for i in range(2))
        radius, angle = np.sqrt(np.float32(-2) * np.log(first)), np.float32(2 * np.pi) * second
        pairs = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=2)
        found[part] = pairs.reshape(len(pairs), -1)[:, :draws]
    return torch.from_numpy(found)
