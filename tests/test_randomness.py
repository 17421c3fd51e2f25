"""Randomness: draws are functions of their purpose and leave the global generators alone."""

from __future__ import annotations

import hashlib
import random

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tutelage.randomness import derive, generator, seed_step, seeded


def globals_now():
    """A fingerprint of all three global generators."""
    return torch.get_rng_state().tolist(), repr(np.random.get_state()), random.getstate()


def draws():
    return torch.rand(3).tolist(), np.random.rand(3).tolist(), [random.random() for _ in range(3)]


@given(st.lists(st.integers() | st.text(max_size=5) | st.floats(allow_nan=False), max_size=4))
def test_a_derived_seed_fits_every_generator(parts):
    """torch takes up to 64 bits, but a negative or larger seed fails at the one unlucky stage name."""
    seed = derive(*parts)
    assert 0 <= seed < 2**63
    torch.Generator().manual_seed(seed)


def test_a_derived_seed_is_a_hash_of_its_parts_in_order():
    """Python's own `hash` differs from process to process; a resumed run would draw anew."""
    digest = hashlib.blake2b(b"order\x1f0\x1fhint", digest_size=8).digest()
    assert derive("order", 0, "hint") == int.from_bytes(digest, "little") // 2
    assert len({derive("a", 1), derive(1, "a"), derive("a", 2), derive("a1"), derive("a"), derive()}) == 6


def test_generators_of_one_purpose_agree_and_of_two_differ():
    """Two purposes on one stream are correlated: dropout would follow the order of the samples."""
    first, again, other = (torch.rand(5, generator=generator("noise", seed)) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_a_seeded_block_draws_the_same_whatever_came_before():
    """A stage that is run again alone must draw what it drew in the whole run."""
    with seeded("purpose", 3):
        first = draws()
    torch.rand(7), np.random.rand(7), random.random()
    with seeded("purpose", 3):
        again = draws()
    with seeded("purpose", 4):
        other = draws()
    assert first == again
    assert all(a != b for a, b in zip(first, other, strict=True))


def test_a_seeded_block_leaves_the_global_generators_as_they_were():
    """A library that moves the user's generators changes what the user draws next."""
    before = globals_now()
    with seeded("purpose"):
        draws()
        with seeded("inner"):
            draws()
    assert globals_now() == before


def test_a_seeded_block_that_fails_restores_the_generators_too():
    """The error may be caught, and the run go on."""
    before = globals_now()

    @seeded("purpose")
    def failing():
        draws()
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        failing()
    assert globals_now() == before


def test_seeding_a_step_equals_a_manual_seed():
    """Dropout in a step must be what `torch.manual_seed` would give, only sooner."""
    with seeded("outside"):
        seed_step(11)
        first = torch.rand(5)
        torch.manual_seed(11)
        assert torch.equal(first, torch.rand(5))
