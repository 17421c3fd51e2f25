"""Every draw is a function of (seed, purpose, where it happens), never of how many numbers were drawn before.

So no generator state is ever saved, a stage can be run again alone, and a resumed run equals an uninterrupted one.
"""

from __future__ import annotations

import contextlib
import hashlib
import random
from collections.abc import Iterator

import numpy as np
import torch


def derive(*parts: int | str | float) -> int:
    """Hash the parts into a seed in [0, 2**63): the same parts give the same seed on every machine."""
    digest = hashlib.blake2b("\x1f".join(map(str, parts)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def generator(*parts: int | str | float, device: str | torch.device = "cpu") -> torch.Generator:
    """Give a fresh generator seeded by `derive(*parts)`."""
    return torch.Generator(device=device).manual_seed(derive(*parts))


def seed_step(seed: int) -> None:
    """Seed torch's default generators, CPU and every initialised accelerator, for what a step draws itself (dropout)."""
    # generator.manual_seed, not torch.manual_seed: the latter takes a hundred times as long
    torch.default_generator.manual_seed(seed)
    if torch.cuda.is_initialized():
        for each in torch.cuda.default_generators:
            each.manual_seed(seed)


@contextlib.contextmanager
def seeded(*parts: int | str | float) -> Iterator[None]:
    """Run a block under seeds of its own (torch, NumPy, random) and leave the global generators as they were."""
    seed = derive(*parts)
    python, numpy = random.getstate(), np.random.get_state()
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        random.seed(seed)
        np.random.seed(seed % 2**32)
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)
