"""Order and Slices: every sample once an epoch, the same batch for any number of processes and micro-batches."""

from __future__ import annotations

import random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tutelage.data import Order
from tutelage.data.loader import Slices
from tutelage.errors import BadInput

sizes, batch_sizes = st.integers(1, 40), st.integers(1, 50)


def places(order, steps):
    """All (position, view) pairs of some steps, in order."""
    found = []
    for step in range(steps):
        positions, views = order.batch(step)
        found += zip(positions.tolist(), views.tolist(), strict=True)
    return found


@settings(deadline=None, max_examples=60)
@given(sizes, batch_sizes, st.integers(0, 5))
def test_each_epoch_visits_each_sample_exactly_once(size, batch_size, seed):
    """Dropped last batches lose samples for ever; padded ones count some twice."""
    order = Order(size, batch_size, seed, "s")
    found = places(order, -(-3 * size // batch_size))
    for epoch in range(3):
        part = found[epoch * size : (epoch + 1) * size]
        assert sorted(p for p, _ in part) == list(range(size))
        assert {v for _, v in part} == {epoch}


@settings(deadline=None, max_examples=60)
@given(sizes, batch_sizes, st.integers(0, 30))
def test_every_batch_is_full_and_int64(size, batch_size, step):
    """A small last batch has a noisier gradient at the full learning rate; an empty one gives NaN."""
    order = Order(size, batch_size, 0, "s")
    positions, views = order.batch(step)
    assert positions.shape == views.shape == (batch_size,)
    assert positions.dtype == views.dtype == torch.int64
    assert order.epoch(step) == views[0]


@settings(deadline=None, max_examples=40)
@given(sizes, batch_sizes, st.randoms(use_true_random=False))
def test_a_batch_is_a_function_of_seed_stage_and_step_and_not_of_history(size, batch_size, shuffler):
    """A resumed run begins anywhere, also before what another one has read."""
    steps = list(range(12))
    straight = {s: Order(size, batch_size, 7, "s").batch(s) for s in steps}
    shuffler.shuffle(steps)
    torch.rand(shuffler.randint(1, 5))
    jumping = Order(size, batch_size, 7, "s")
    for step in steps:
        for found, expected in zip(jumping.batch(step), straight[step], strict=True):
            assert torch.equal(found, expected)


def test_stages_seeds_and_epochs_have_orders_of_their_own():
    """The same order in each epoch lets momentum learn it; in each stage, repeats the last stage's mistakes."""
    orders = [Order(30, 30, 0, "hint"), Order(30, 30, 0, "distil"), Order(30, 30, 1, "hint")]
    seen = [tuple(o.batch(step)[0].tolist()) for o in orders for step in range(3)]
    assert len(set(seen)) == 9


def test_reading_an_order_leaves_the_global_generators_alone():
    """What the user draws next must not depend on our shuffling."""
    before = torch.get_rng_state(), random.getstate()
    places(Order(7, 3, 0, "s"), 9)
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1] == random.getstate()


@pytest.mark.parametrize("batch_size", [0, -1])
def test_a_batch_size_below_one_is_refused(batch_size):
    """A stage of empty steps would end at once, with an untrained student."""
    with pytest.raises(BadInput, match="at least 1"):
        Order(7, batch_size, 0, "s")


@settings(deadline=None, max_examples=120)
@given(st.data(), sizes, batch_sizes, st.integers(0, 10))
def test_the_slices_of_all_ranks_and_micro_batches_are_the_global_batch(data, size, batch_size, step):
    """Two processes or accumulation must study the very same samples, in the same views, or curves differ."""
    ranks = data.draw(st.integers(1, batch_size))
    micro_batch = data.draw(st.none() | st.integers(1, batch_size))
    order = Order(size, batch_size, 0, "s")
    found = []
    for rank in range(ranks):
        slices = Slices(order, rank, ranks, micro_batch)
        cuts = slices.of(step)
        assert 1 <= len(cuts) <= slices.parts
        for positions, views in cuts:
            assert len(positions) > 0
            assert micro_batch is None or len(positions) <= micro_batch
            found += zip(positions.tolist(), views.tolist(), strict=True)
    positions, views = order.batch(step)
    assert found == list(zip(positions.tolist(), views.tolist(), strict=True))


@pytest.mark.parametrize(("batch_size", "ranks"), [(8, 2), (7, 2), (11, 3)])
def test_ranks_share_the_batch_as_evenly_as_it_goes(batch_size, ranks):
    """The slowest process sets the pace."""
    order = Order(50, batch_size, 0, "s")
    shares = [len(Slices(order, rank, ranks).of(0)[0][0]) for rank in range(ranks)]
    assert sum(shares) == batch_size
    assert max(shares) - min(shares) <= 1
