"""Which token is drawn, against NumPy and SciPy."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.special
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tutelage.errors import BadInput
from tutelage.language.sampling import Sampling, drawn, probabilities

B, V = 5, 11


def by_hand(logits, temperature, top_k, top_p):
    """One row at a time, token by token from the likeliest on."""
    rows = []
    for row in logits.astype(np.float64):
        p = scipy.special.softmax(row / temperature)
        order = np.argsort(-row, kind="stable")
        if top_k:
            kept = {v for v in range(len(row)) if row[v] >= row[order[min(top_k, len(row)) - 1]]}
            p = np.array([p[v] if v in kept else 0.0 for v in range(len(row))])
            p /= p.sum()
        mass, kept = 0.0, set()
        for v in order:
            if mass >= top_p:
                break
            kept.add(v)
            mass += p[v]
        p = np.array([p[v] if v in kept else 0.0 for v in range(len(row))])
        rows.append(p / p.sum())
    return np.stack(rows)


@pytest.mark.parametrize("temperature", [0.3, 1.0, 2.5])
@pytest.mark.parametrize(("top_k", "top_p"), [(0, 1.0), (3, 1.0), (0, 0.6), (4, 0.7), (1, 0.2), (50, 0.999)])
def test_probabilities_equal_those_of_a_loop(temperature, top_k, top_p, rng):
    """A wrong order of the two cuts, or a nucleus that lacks its last token, changes what a student is taught on."""
    logits = 2 * torch.randn(B, V, generator=rng)
    found = probabilities(logits, Sampling(temperature=temperature, top_k=top_k, top_p=top_p))
    np.testing.assert_allclose(found.numpy(), by_hand(logits.numpy(), temperature, top_k, top_p), rtol=1e-6, atol=1e-12)


def test_equals_that_are_cut_by_top_k_all_stay():
    """Which of two equal tokens is kept must not depend on how torch sorts."""
    found = probabilities(torch.tensor([[1.0, 3.0, 1.0, 0.0]]), Sampling(top_k=2))
    assert (found > 0).tolist() == [[True, True, True, False]]


def test_as_the_temperature_falls_it_becomes_greedy(rng):
    logits = torch.randn(B, V, generator=rng)
    greedy = probabilities(logits, Sampling(temperature=0.0))
    torch.testing.assert_close(probabilities(logits, Sampling(temperature=1e-9)), greedy)
    assert torch.equal(greedy.argmax(1), logits.argmax(1))
    torch.testing.assert_close(probabilities(logits, Sampling(temperature=1e9)), torch.full((B, V), 1 / V, dtype=torch.float64))


def test_extreme_logits_stay_finite():
    logits = torch.tensor([[1e4, -1e4, 0.0], [-torch.inf, 2.0, 2.0]])
    found = probabilities(logits, Sampling(temperature=1e-3))
    torch.testing.assert_close(found, torch.tensor([[1.0, 0, 0], [0, 0.5, 0.5]], dtype=torch.float64))


@settings(max_examples=200, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=9).filter(lambda p: sum(p) > 0), st.floats(0, 1, exclude_max=True))
def test_only_what_has_a_probability_is_drawn(shares, u):
    """Rounding at the ends must not bring a token that was cut away."""
    p = torch.tensor([shares], dtype=torch.float64)
    p = p / p.sum()
    token = int(drawn(p, torch.tensor([u], dtype=torch.float64)))
    assert p[0, token] > 0
    ends = p.cumsum(1)[0]
    assert u * float(ends[-1]) <= float(ends[token])
    assert token == 0 or u * float(ends[-1]) >= float(ends[token - 1])


def test_draws_have_the_stated_distribution():
    p = torch.tensor([[0.5, 0.0, 0.2, 0.3]], dtype=torch.float64).expand(20_000, -1)
    u = torch.rand(20_000, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    counts = torch.bincount(drawn(p, u), minlength=4)
    assert counts[1] == 0
    assert scipy.stats.chisquare(counts[[0, 2, 3]].numpy(), 20_000 * np.array([0.5, 0.2, 0.3])).pvalue > 0.001


@pytest.mark.parametrize(
    "bad",
    [
        {"tokens": 0},
        {"tokens": 2.0},
        {"temperature": -1},
        {"temperature": math.nan},
        {"top_k": -1},
        {"top_k": True},
        {"top_p": 0},
        {"top_p": 1.5},
    ],
)
def test_numbers_that_are_none_are_refused(bad):
    with pytest.raises(BadInput, match=f"sampling: {next(iter(bad))}="):
        Sampling(**bad)
