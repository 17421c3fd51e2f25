"""What is measured of language models, against loops in SciPy; the bench of bytes."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.special
import scipy.stats
import torch
from torch import nn

from tutelage import Data, Model, Table
from tutelage.evaluation import Predictions
from tutelage.reproductions.harness.benches import WINDOWS, python_sources
from tutelage.reproductions.harness.design import Made
from tutelage.reproductions.harness.language import in_bits

N, T, V = 19, 5, 7


class Said(nn.Module):
    """Says the same of a position, whatever is read there."""

    def __init__(self, logits_NTV: torch.Tensor) -> None:
        super().__init__()
        self.logits_NTV = logits_NTV

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        return self.logits_NTV[input_ids[:, 0]]


def test_numbers_equal_those_of_a_loop_over_tokens(rng):
    """A mean of means, a token that has no label, or the other direction would pass for a result."""
    student, teacher = 2 * torch.randn(2, N, T, V, generator=rng, dtype=torch.float64)
    y = torch.randint(0, V, (N, T), generator=rng)
    y[0], y[5, 2:] = -100, -100
    rows = []
    for n in range(N):
        for t in range(T):
            if y[n, t] != -100:
                q, p = (scipy.special.softmax(z[n, t].numpy()) for z in (student, teacher))
                rows.append([-np.log2(q[y[n, t]]), scipy.stats.entropy(q), scipy.stats.entropy(p, q), scipy.stats.entropy(q, p)])
    data = Data(test := Table({"input_ids": torch.arange(N).unsqueeze(1).expand(N, T), "y": y}, "told"), None, test)
    models = [Model(Said(each)) for each in (student, teacher)]
    found = in_bits(Made(models[0], data, Predictions(student, y, None), None, models[1]))
    assert list(found) == ["bits", "entropy", "forward kl", "reverse kl"]
    assert list(found.values()) == pytest.approx(np.mean(rows, 0).tolist(), rel=1e-9)
    alone = in_bits(Made(models[0], data, Predictions(student, y, None), None, None))
    assert alone == {k: found[k] for k in ("bits", "entropy")}


def test_the_bench_is_the_same_for_all_seeds():
    """So that a teacher that is made once has seen no window that anyone is measured on."""
    data, other = python_sources(0), python_sources(1)
    assert data.fingerprint() == other.fingerprint()
    assert len(data.test) == WINDOWS
    assert data.validation is None
    assert not set(data.train.ids().tolist()) & set(data.test.ids().tolist())
    assert data.test.labels().shape == (WINDOWS, 128)
