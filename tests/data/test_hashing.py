"""Random numbers by hashing: Philox as published, draws that belong to a sample, and their distributions. Shapes: B batch."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tutelage.data import hashing
from tutelage.data.hashing import normals, philox, uniforms
from tutelage.errors import BadInput
from tutelage.randomness import derive

FULL = 2**32 - 1
int64s = st.integers(-(2**63), 2**63 - 1)


def one(*numbers):
    return tuple(np.array([n], dtype=np.uint64) for n in numbers)


def ids(*numbers):
    return torch.tensor(numbers, dtype=torch.int64)


def by_hand(counter, key):
    """Philox-4x32-10 in Python's own numbers, one counter at a time."""
    (a, b, c, d), (k, m) = counter, key
    for _ in range(10):
        p, q = 0xD2511F53 * a, 0xCD9E8D57 * c
        a, b, c, d = (q // 2**32) ^ b ^ k, q % 2**32, (p // 2**32) ^ d ^ m, p % 2**32
        k, m = (k + 0x9E3779B9) % 2**32, (m + 0xBB67AE85) % 2**32
    return a, b, c, d


@pytest.mark.parametrize(
    ("counter", "key", "expected"),
    [
        ((0, 0, 0, 0), (0, 0), "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
        ((FULL,) * 4, (FULL,) * 2, "408f276d 41c83b0e a20bc7c6 6d5451fd"),
        ((0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344), (0xA4093822, 0x299F31D0), "d16cfe09 94fdcceb 5001e420 24126ea1"),
    ],
    ids=["zeros", "ones", "pi"],
)
def test_philox_gives_the_known_answers_of_its_authors(counter, key, expected):
    """A hash that is almost Philox has none of its tests behind it."""
    assert " ".join(f"{int(word[0]):08x}" for word in philox(one(*counter), key)) == expected


@settings(deadline=None, max_examples=40)
@given(st.tuples(*[st.integers(0, FULL)] * 4), st.tuples(*[st.integers(0, FULL)] * 2))
def test_philox_equals_a_loop_in_exact_integers(counter, key):
    """Arithmetic of 64 bits must not overflow anywhere."""
    assert tuple(int(word[0]) for word in philox(one(*counter), key)) == by_hand(counter, key)


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**40), int64s, st.integers(0, FULL), st.integers(0, 30), st.sampled_from(["a", "flip", "ü"]))
def test_a_draw_is_the_hash_of_seed_purpose_id_view_and_index(seed, sample, view, index, purpose):
    """Written out for one number, negative ids and those beyond 32 bits among them."""
    hashed, wrapped = derive("hashing", seed, purpose), sample % 2**64
    word = by_hand((index // 4, view, wrapped % 2**32, wrapped // 2**32), (hashed % 2**32, hashed // 2**32))[index % 4]
    assert uniforms(seed, ids(sample), ids(view), index + 1, purpose)[0, index].item() == word / 2**32


def test_some_draws_stay_what_they_are():
    """A change here would make a resumed run, and numbers in reports, differ from one version to the next."""
    found = uniforms(7, ids(0, -1, 2**40), ids(0, 3, 1), 2, "example")
    expected = [[0.6387182325, 0.9582880852], [0.9715986692, 0.7109534638], [0.6719719672, 0.3188142856]]
    np.testing.assert_allclose(found, expected, atol=1e-9)


@settings(deadline=None, max_examples=40)
@given(st.data(), st.lists(int64s, min_size=1, max_size=9), st.integers(1, 9), st.sampled_from([uniforms, normals]))
def test_draws_do_not_depend_on_the_rest_of_the_batch(data, numbers, draws, function):
    """Nor on order, nor on how many draws are asked for; to the last bit, or a resumed run ends elsewhere."""
    views = data.draw(st.lists(st.integers(0, FULL), min_size=len(numbers), max_size=len(numbers)))
    whole = function(3, ids(*numbers), ids(*views), draws, "test")
    order = data.draw(st.permutations(range(len(numbers))))
    assert torch.equal(function(3, ids(*numbers)[order], ids(*views)[order], draws, "test"), whole[order])
    for i, (number, view) in enumerate(zip(numbers, views, strict=True)):
        assert torch.equal(function(3, ids(number), ids(view), draws + 3, "test")[0, :draws], whole[i])


@pytest.mark.parametrize("function", [uniforms, normals])
def test_a_large_batch_is_made_of_its_samples(function):
    """It is computed some rows at a time."""
    whole = function(1, torch.arange(40), torch.arange(40) % 3, 2001, "test")
    assert whole.shape == (40, 2001)
    for i in (0, 15, 16, 17, 39):
        assert torch.equal(function(1, ids(i), ids(i % 3), 2001, "test")[0], whole[i])


@pytest.mark.parametrize("function", [uniforms, normals])
def test_draws_change_with_each_argument(function):
    """Two purposes with the same numbers would always flip what they erase."""
    variants = [
        function(seed, ids(sample), ids(view), 3, purpose)
        for seed in (0, 1)
        for sample in (5, 6, -6, 5 + 2**32, 5 - 2**63)
        for view in (0, 1, FULL)
        for purpose in ("a", "b")
    ]
    flat = torch.cat(variants).flatten()
    assert flat.unique().numel() == flat.numel() == 2 * 5 * 3 * 2 * 3


@pytest.mark.parametrize(
    ("function", "dtype", "shape"), [(uniforms, torch.float64, "uniform"), (normals, torch.float32, "norm")], ids=["uniforms", "normals"]
)
def test_draws_have_their_distribution_along_each_axis(function, dtype, shape):
    """Over ids, views, indices and seeds, each with the others fixed: training meets all four."""
    n = 2000
    constant, counting = torch.zeros(n, dtype=torch.int64), torch.arange(n)
    samples = {
        "ids": function(0, counting, constant, 1, "test")[:, 0],
        "views": function(0, constant, counting, 1, "test")[:, 0],
        "indices": function(0, ids(0), ids(0), n, "test")[0],
        "seeds": torch.cat([function(seed, ids(0), ids(0), 1, "test")[0] for seed in range(n)]),
    }
    for axis, sample in samples.items():
        assert sample.dtype == dtype
        assert scipy.stats.kstest(sample.numpy(), shape).pvalue > 0.01, axis
        neighbours = scipy.stats.spearmanr(sample[1:], sample[:-1]).statistic
        assert abs(neighbours) < 3.5 / n**0.5, axis
    for first in samples:
        for second in samples:
            if first < second:
                assert abs(scipy.stats.spearmanr(samples[first], samples[second]).statistic) < 3.5 / n**0.5, (first, second)


def test_pairs_of_draws_fill_the_square_evenly():
    """Place of a square: its row must say nothing about its column."""
    pairs = uniforms(0, torch.arange(6400), torch.zeros(6400, dtype=torch.int64), 2, "place").numpy()
    assert pairs.min() >= 0
    assert pairs.max() < 1
    counts = np.histogram2d(*pairs.T, bins=8, range=[[0, 1]] * 2)[0]
    assert scipy.stats.chisquare(counts.ravel()).pvalue > 0.01


def test_normals_are_those_of_box_and_muller():
    """In float64 from the same words."""
    u = uniforms(2, torch.arange(5), torch.zeros(5, dtype=torch.int64), 8, "test").numpy() + 0.5 / 2**32
    radius = np.sqrt(-2 * np.log(u[:, 0::2]))
    expected = np.stack([radius * np.cos(2 * np.pi * u[:, 1::2]), radius * np.sin(2 * np.pi * u[:, 1::2])], axis=2).reshape(5, 8)
    found = normals(2, torch.arange(5), torch.zeros(5, dtype=torch.int64), 7, "test")
    np.testing.assert_allclose(found, expected[:, :7], atol=1e-5)


@pytest.mark.parametrize("word", [0, 1, FULL])
def test_the_ends_of_the_range_stay_in_it(monkeypatch, word):
    """Once in four thousand million draws, an infinite pixel or an index one too far."""
    monkeypatch.setattr(hashing, "philox", lambda counter, key: (np.full((1, 1), word, dtype=np.uint64),) * 4)
    assert 0 <= uniforms(0, ids(0), ids(0), 1, "test") < 1
    assert (uniforms(0, ids(0), ids(0), 1, "test") * 5).long() == (0 if word < 2 else 4)
    assert normals(0, ids(0), ids(0), 4, "test").isfinite().all()


def test_no_samples_and_no_draws_are_an_empty_tensor():
    """The last slice of a small batch may be empty."""
    none = torch.zeros(0, dtype=torch.int64)
    assert uniforms(0, none, none, 3, "test").shape == normals(0, none, none, 3, "test").shape == (0, 3)
    assert uniforms(0, ids(1), ids(0), 0, "test").shape == normals(0, ids(1), ids(0), 0, "test").shape == (1, 0)


@pytest.mark.parametrize(
    ("numbers", "views", "message"),
    [
        (torch.zeros(2), ids(0, 0), "float32"),
        (ids(0, 0), torch.zeros(2, dtype=torch.int32), "int32"),
        (ids(0, 0), ids(0), r"\(2,\) and .* \(1,\)"),
        (ids(0).view(1, 1), ids(0).view(1, 1), r"\(1, 1\)"),
        (ids(0, 1), ids(0, -1), r"views in \[0, 2\*\*32\), not from -1 to 0"),
        (ids(0), ids(2**32), "not from 4294967296"),
    ],
)
def test_ids_and_views_that_cannot_be_are_refused(numbers, views, message):
    """A view that wraps around would repeat the first."""
    for function in (uniforms, normals):
        with pytest.raises(BadInput, match=message):
            function(0, numbers, views, 1, "test")
