"""What is measured of language models, against loops in SciPy; the bench of bytes."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.special
import scipy.stats
import torch

from tutelage.reproductions.harness.benches import WINDOWS, python_sources
from tutelage.reproductions.harness.language import AT_ONCE, measured

N, T, V = AT_ONCE + 3, 5, 7


def test_numbers_equal_those_of_a_loop_over_tokens(rng):
    """A mean of means, a token that has no label, or the other direction would pass for a result."""
    student, teacher = 2 * torch.randn(2, N, T, V, generator=rng)
    y = torch.randint(0, V, (N, T), generator=rng)
    y[0], y[5, 2:] = -100, -100
    rows = []
    for n in range(N):
        for t in range(T):
            if y[n, t] != -100:
                q, p = (scipy.special.softmax(z[n, t].double().numpy()) for z in (student, teacher))
                rows.append([-np.log2(q[y[n, t]]), scipy.stats.entropy(q), scipy.stats.entropy(p, q), scipy.stats.entropy(q, p)])
    found = measured(student, y, teacher)
    assert list(found) == ["bits", "entropy", "forward kl", "reverse kl"]
    assert list(found.values()) == pytest.approx(np.mean(rows, 0).tolist(), rel=1e-9)
    alone = measured(student, y, None)
    assert alone == {k: found[k] for k in ("bits", "entropy")}


def test_a_model_that_is_sure_has_no_entropy_and_finite_numbers():
    """0 times minus infinity."""
    sure = torch.full((1, 2, 3), -torch.inf)
    sure[..., 1] = 0.0
    found = measured(sure, torch.ones(1, 2), torch.zeros(1, 2, 3))
    assert (found["bits"], found["entropy"]) == (0.0, 0.0)
    assert found["reverse kl"] == pytest.approx(np.log(3))


def test_the_bench_is_the_same_for_all_seeds():
    """So that a teacher that is made once has seen no window that anyone is measured on."""
    data, other = python_sources(0), python_sources(1)
    assert data.fingerprint() == other.fingerprint()
    assert len(data.test) == WINDOWS
    assert data.validation is None
    assert not set(data.train.ids().tolist()) & set(data.test.ids().tolist())
    assert data.test.labels().shape == (WINDOWS, 128)
