"""What is measured of language models, against loops in SciPy; the bench of bytes."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.special
import scipy.stats
import torch
from torch import nn

from tutelage import Data, Model, Table
from tutelage.evaluation import Predictions, predict
from tutelage.language.generation import prompts_in
from tutelage.reproductions.harness.benches import ANSWER, ANSWERS, PROMPT, WINDOWS, python_prompts, python_sources
from tutelage.reproductions.harness.design import Made
from tutelage.reproductions.harness.language import freely, in_bits
from tutelage.students import gpt

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


def test_windows_with_prompts_count_what_follows_them():
    """A prompt that counted would be taught as given text in every arm, the on-policy one included."""
    data = python_prompts(0, samples=50)
    assert (len(data.train), len(data.test)) == (50, ANSWERS)
    batch = data.train.batch(torch.arange(7))
    whole = data.train.columns["window"][:7].long()
    assert batch["input_ids"].shape == (7, PROMPT + ANSWER - 1)
    assert batch["mask"].sum(1).tolist() == [ANSWER] * 7
    assert torch.equal(batch["y"][batch["mask"]].reshape(7, -1), whole[:, PROMPT:])
    assert (batch["y"][~batch["mask"]] == -100).all()
    assert torch.equal(torch.stack(prompts_in(batch)), whole[:, :PROMPT])
    assert torch.equal(data.train.labels()[:7], batch["y"])
    assert python_prompts(3, samples=50).fingerprint() == data.fingerprint() != python_prompts(3).fingerprint()
    given = {tuple(row.tolist()) for row in python_sources(0).test.columns["window"][:, :PROMPT]}
    assert not given & {tuple(row.tolist()) for row in data.train.columns["window"][:, :PROMPT]}


def test_own_text_is_measured_beside_the_given():
    """The gap is a difference of the same divergence in two places; a model has none to itself."""
    whole = python_prompts(0, samples=50)
    data = Data(whole.train, None, whole.test.rows(torch.arange(6), "test"), whole.classes)
    student, teacher = (Model(lambda: gpt(width=8, depth=1, heads=2, context=64), seed=s) for s in (1, 2))
    made = Made(student, data, predict(student, data.test), None, teacher)
    found = freely(made)
    assert {k: found[k] for k in in_bits(made)} == in_bits(made)
    assert found["gap"] == pytest.approx(found["own forward kl"] - found["forward kl"])
    assert found["own forward kl"] > 0.1
    assert freely(made) == found
    same = freely(Made(student, data, predict(student, data.test), None, student))
    assert [same[k] for k in ("gap", "own forward kl", "own reverse kl", "sequence kl")] == pytest.approx([0] * 4, abs=1e-6)
    assert freely(Made(student, data, predict(student, data.test), None, None)).keys() == {"bits", "entropy"}
