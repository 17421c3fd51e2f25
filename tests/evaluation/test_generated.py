"""Distances of sets of features against closed forms, SciPy and loops."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.linalg
import torch

from tutelage.errors import BadInput, ShapeMismatch
from tutelage.evaluation.generated import frechet_distance, kernel_distance, precision_recall

R, G, F = 53, 37, 5


@pytest.fixture
def features(rng):
    real = torch.randn(R, F, generator=rng, dtype=torch.float64)
    return real, 0.7 * torch.randn(G, F, generator=rng, dtype=torch.float64) @ torch.randn(F, F, generator=rng).double() + 0.3


def test_the_frechet_distance_is_that_of_the_formula(features):
    """With SciPy's square root of a matrix."""
    real, made = (each.numpy() for each in features)
    ours, theirs = np.cov(real, rowvar=False), np.cov(made, rowvar=False)
    root = scipy.linalg.sqrtm(ours @ theirs).real
    exact = ((real.mean(0) - made.mean(0)) ** 2).sum() + np.trace(ours + theirs - 2 * root)
    assert frechet_distance(*features) == pytest.approx(exact, rel=1e-6)


def test_two_gaussians_on_a_line_have_a_closed_form():
    """(m - n)^2 + (c - d)^2, for samples with exactly these moments."""
    x = torch.linspace(-1, 1, 101, dtype=torch.float64)
    x = ((x - x.mean()) / x.std())[:, None]
    assert frechet_distance(2 + 3 * x, 5 + 0.5 * x) == pytest.approx(9 + 6.25)


def test_features_that_are_all_alike_or_fewer_samples_than_features(features):
    """Covariances without an inverse: square roots still exist."""
    real, made = features
    assert frechet_distance(real, real) == pytest.approx(0, abs=1e-9)
    still = torch.zeros(4, F)
    assert frechet_distance(real, still) == pytest.approx(float(real.mean(0).square().sum() + real.var(0).sum()))
    assert frechet_distance(made[:3], made[:3]) == pytest.approx(0, abs=1e-9)


def test_turning_and_shifting_all_features_changes_no_distance(features, rng):
    real, made = features
    turn = torch.linalg.qr(torch.randn(F, F, generator=rng, dtype=torch.float64))[0]
    assert frechet_distance(real @ turn + 4, made @ turn + 4) == pytest.approx(frechet_distance(real, made))
    assert precision_recall(real @ turn + 4, made @ turn + 4) == precision_recall(real, made)


def test_the_kernel_distance_is_a_sum_over_pairs(features):
    real, made = (each.numpy() for each in features)

    def k(x, y):
        return (x @ y / F + 1) ** 3

    own = sum(k(real[i], real[j]) for i in range(R) for j in range(R) if i != j) / (R * (R - 1))
    theirs = sum(k(made[i], made[j]) for i in range(G) for j in range(G) if i != j) / (G * (G - 1))
    cross = sum(k(a, b) for a in real for b in made) / (R * G)
    assert kernel_distance(*features) == pytest.approx(own + theirs - 2 * cross)


def test_the_kernel_distance_is_not_biased_by_few_samples():
    """Its mean over many draws of one source is 0; the Frechet distance's is not."""
    draws = torch.Generator().manual_seed(3)
    pairs = [torch.randn(2, 8, 3, generator=draws).unbind() for _ in range(400)]
    kernels = torch.tensor([kernel_distance(*pair) for pair in pairs], dtype=torch.float64)
    assert abs(float(kernels.mean())) < 4 * float(kernels.std()) / 20
    assert min(frechet_distance(*pair) for pair in pairs) > 0


def test_precision_and_recall_by_a_loop(features):
    real, made = (each.numpy() for each in features)
    for k in (1, 3):

        def share(of, among, k=k):
            reach = [sorted(np.linalg.norm(a - b) for b in among)[k] for a in among]
            return np.mean([any(np.linalg.norm(x - a) <= r for a, r in zip(among, reach, strict=True)) for x in of])

        assert precision_recall(*features, neighbours=k) == pytest.approx((share(made, real), share(real, made)))


def test_one_mode_of_two_is_precise_and_recalls_half():
    """What the Frechet distance alone does not tell apart from blur."""
    draws = torch.Generator().manual_seed(0)
    modes = torch.randn(200, 2, generator=draws) * 0.1 + torch.tensor([[-5.0, 0], [5.0, 0]]).repeat(100, 1)
    one = torch.randn(200, 2, generator=draws) * 0.1 + torch.tensor([5.0, 0])
    precision, recall = precision_recall(modes, one)
    assert precision > 0.9
    assert 0.4 < recall <= 0.5
    assert precision_recall(modes, modes) == (1, 1)
    assert precision_recall(modes, modes + 100) == (0, 0)


@pytest.mark.parametrize("function", [frechet_distance, kernel_distance, precision_recall])
def test_what_cannot_be_compared_is_refused(function):
    good = torch.randn(9, 3)
    with pytest.raises(ShapeMismatch, match="alike"):
        function(good, torch.randn(9, 4))
    with pytest.raises(BadInput, match="two of each"):
        function(good, good[:1])
    with pytest.raises(BadInput, match="not finite"):
        function(good, torch.full((9, 3), float("nan")))
    with pytest.raises(BadInput, match="need more samples"):
        precision_recall(good, good, neighbours=9)
