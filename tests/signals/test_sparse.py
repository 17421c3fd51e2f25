"""Top-k and drawn classes against NumPy, their expectations on a fine grid of draws, and degenerate rows. Shapes: B=3, T=5, V=7, K=2."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.special
import torch

from tutelage.errors import BadInput, ShapeMismatch
from tutelage.signals import SparseLogits, sparse
from tutelage.signals.sparse import sampled, top_k

B, T, V, K = 3, 5, 7, 2
INF = float("inf")
ROWS = {
    "plain": [0.3, -1.2, 2.0, 0.9, -0.4, 1.1, -2.5],
    "peaked": [9.0, 1.0, 0.5, 0.0, -1.0, 0.2, 0.4],
    "one-hot": [0.0, 0.0, 1e4, 0.0, 0.0, 0.0, 0.0],
    "uniform": [0.0] * 7,
    "ties": [1.0, 0.0, 1.0, 0.0, 1.0, 0.0, 1.0],
    "impossible classes": [-INF, 0.5, -INF, 1.5, -INF, -INF, -INF],
    "huge": [1e4, -1e4, 9.999e3, 0.0, -5.0, 3.0, 1e3],
}
each_row = pytest.mark.parametrize("row", ROWS.values(), ids=ROWS.keys())


def randn(rng, *shape):
    return 2 * torch.randn(*shape, dtype=torch.float64, generator=rng)


def grid(n):
    """n uniform numbers, one in the middle of each n-th: their mean over anything stepwise is an integral, not a guess."""
    return (torch.arange(n, dtype=torch.float64) + 0.5) / n


def on_grid(row, k, n, temperature=1.0):
    return sampled(torch.tensor(row, dtype=torch.float64).expand(n, -1), k, grid(n), temperature)


def spread_over(drawn):
    """The weights (..., V) of drawn classes, 0 for those that are not kept."""
    return torch.zeros(drawn.shape, dtype=torch.float64).scatter_add_(-1, drawn.ids, drawn.log_weights.double().exp())


def drawn_by_loop(p, k, u):
    """One row: the likeliest are kept while each is its share of what is left; the others lie on a line that is cut at u, u + 1, ..."""
    order = np.argsort(-p, kind="stable")
    sure = 0
    while sure < k and p[order[sure]] * (k - sure) >= p[order[sure:]].sum():
        sure += 1
    threshold = p[order[sure:]].sum() / (k - sure) if sure < k else 0.0
    weights, at = {int(v): p[v] for v in order[:sure]}, 0.0
    for v in sorted(order[sure:]) if sure < k else []:
        end = at + p[v] / threshold
        if math.ceil(end - u) > math.ceil(at - u):
            weights[int(v)] = threshold
        at = end
    return weights, threshold


def likely(row, temperature=1.0):
    return scipy.special.softmax(np.array(row) / temperature)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
@pytest.mark.parametrize("shape", [(B, V), (B, T, V)], ids=["rows", "positions"])
def test_top_k_keeps_the_likeliest_classes_and_what_is_left_as_numpy_does(rng, shape, temperature):
    """A tail computed by subtraction, or at another temperature, would be a mass that nobody has."""
    logits = randn(rng, *shape)
    kept = top_k(logits, K, temperature)
    p = scipy.special.softmax(logits.numpy() / temperature, axis=-1)
    order = np.argsort(-p, axis=-1)
    assert (kept.form, kept.kept, kept.classes, kept.temperature, kept.shape) == ("top-k", K, V, temperature, shape)
    np.testing.assert_array_equal(kept.ids.numpy(), order[..., :K])
    np.testing.assert_allclose(kept.log_probs.numpy(), np.log(np.take_along_axis(p, order[..., :K], -1)))
    np.testing.assert_allclose(kept.rest.exp().numpy(), np.take_along_axis(p, order[..., K:], -1).sum(-1))


def test_the_tail_of_a_certain_teacher_is_not_lost_to_rounding():
    """1 minus the kept mass is 0 or noise in float32 where the tail is 1e-12."""
    kept = top_k(torch.tensor([[0.0, -30.0, -31.0]]), 1)
    assert kept.rest.item() == pytest.approx(math.log(math.exp(-30) + math.exp(-31)), rel=1e-6)


@each_row
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
def test_with_all_classes_kept_both_forms_are_the_distribution(row, dtype):
    """k = V must cost nothing: no tail, no draw."""
    logits = torch.tensor([row], dtype=dtype)
    tolerance = {"rtol": 2e-5 if dtype == torch.float32 else 1e-12, "atol": 1e-30}
    for kept in (top_k(logits, V), *(sampled(logits, V, torch.tensor([u], dtype=torch.float64)) for u in (0.0, 0.3, 1 - 2**-53))):
        assert kept.log_probs.dtype == kept.rest.dtype == dtype
        assert kept.ids[0].sort().values.tolist() == list(range(V))
        found = torch.zeros(1, V, dtype=dtype).scatter(-1, kept.ids, kept.log_weights.exp())
        np.testing.assert_allclose(found[0].numpy(), likely(row), **tolerance)
    assert top_k(logits, V).rest.item() == -INF


@each_row
@pytest.mark.parametrize("k", [1, 2, 3, 6, 7])
def test_drawn_classes_and_their_weights_equal_a_loop_over_classes(row, k):
    """The draw in closed form, class by class, for a grid of uniform numbers."""
    n = 101
    drawn = on_grid(row, k, n)
    for i, u in enumerate(grid(n).tolist()):
        weights, threshold = drawn_by_loop(likely(row), k, u)
        found = dict(zip(drawn.ids[i].tolist(), drawn.log_weights[i].exp().tolist(), strict=True))
        assert len(found) == k
        for v in range(V):  # classes of no weight fill up the row where there are fewer than k others
            assert found.get(v, 0.0) == pytest.approx(weights.get(v, 0.0), rel=1e-9, abs=1e-15), (u, v)
        if k < V:  # with all kept and equal, there is a threshold or there is none: the weights are the same
            assert drawn.rest[i].exp().item() == pytest.approx(threshold, rel=1e-9, abs=1e-15)


@each_row
@pytest.mark.parametrize("k", [1, 2, 3, 6, 7])
@pytest.mark.parametrize("temperature", [0.01, 1.0, 100.0])
def test_the_expectation_of_the_weights_is_the_distribution(row, k, temperature):
    """A class that is drawn too rarely for its weight is unlearned, one draw at a time. n points leave an error below 2 / n a class."""
    n = 4001
    weights = spread_over(on_grid(row, k, n, temperature))
    np.testing.assert_allclose(weights.sum(-1).numpy(), 1.0, rtol=1e-9)
    np.testing.assert_allclose(weights.mean(0).numpy(), likely(row, temperature), atol=2 / n)


@each_row
@pytest.mark.parametrize("k", [1, 2, 3, 6])
def test_a_class_is_kept_as_often_as_its_probability_over_the_threshold(row, k):
    """The inclusion probability min(1, p / threshold) is what the weight max(p, threshold) answers to."""
    n = 4001
    drawn = on_grid(row, k, n)
    threshold = drawn.rest[0].exp().item()
    often = (spread_over(drawn) > 0).double().mean(0).numpy()
    p = likely(row)
    expected = np.minimum(1.0, p / threshold) if threshold > 0 else (p > 0).astype(float)
    np.testing.assert_allclose(often, expected, atol=2 / n)


@pytest.mark.parametrize("k", [1, 3, 16, 40])
def test_no_class_is_drawn_twice_and_none_outside_the_row(rng, k):
    """A class kept twice would be scattered once and counted twice. Uniform rows are where rounding does it."""
    rows = torch.stack([torch.zeros(40), torch.arange(40) / 3 % 1, torch.randn(40, generator=rng), 20 * torch.randn(40, generator=rng)])
    for u in (0.0, 2.0**-24, 1 / 3, 0.5, 1 - 2.0**-24, 1 - 2.0**-53):
        ids = sampled(rows, k, torch.full((4,), u, dtype=torch.float64)).ids
        assert all(len(set(row)) == k and set(row) <= set(range(40)) for row in ids.tolist()), u


@pytest.mark.parametrize(("k", "least"), [(2, 1.3), (8, 4.0), (32, 20.0)])
def test_weights_vary_less_than_those_of_draws_with_replacement(k, least):
    """The reason for the form. K draws with replacement have the variance p (1 - p) / K a class; here it is p (threshold - p), or 0."""
    row = (-1.5 * torch.log(torch.arange(1, 301).double())).tolist()
    p = likely(row)
    drawn = on_grid(row, k, 8001)
    variance = spread_over(drawn).var(0, correction=0).sum().item()
    threshold = drawn.rest[0].exp().item()
    assert variance == pytest.approx((p * np.maximum(threshold - p, 0.0)).sum(), rel=2e-2)
    assert (p * (1 - p)).sum() / k / variance > least


@pytest.mark.parametrize("at_once", [1, 3 * V])
def test_some_rows_at_a_time_give_the_same_bits_as_all_at_once(rng, at_once, monkeypatch):
    """How many fit into a cache must not be seen in what is kept."""
    logits, uniforms = randn(rng, B, T, V), torch.rand(B, T, generator=rng)
    whole = [top_k(logits, K, 2.0), sampled(logits, K, uniforms, 2.0)]
    monkeypatch.setattr(sparse, "AT_ONCE", at_once)
    for one, other in zip([top_k(logits, K, 2.0), sampled(logits, K, uniforms, 2.0)], whole, strict=True):
        assert all(torch.equal(getattr(one, name), getattr(other, name)) for name in ("ids", "log_probs", "rest"))
    none = sampled(logits[:0], K, uniforms[:0])
    assert none.ids.shape == (0, T, K)
    assert none.shape == (0, T, V)


def test_rows_and_positions_are_drawn_each_by_its_own_number(rng):
    """A draw that leaked between positions would correlate the noise of neighbours."""
    logits, uniforms = randn(rng, B, T, V), torch.rand(B, T, generator=rng, dtype=torch.float64)
    drawn = sampled(logits, K, uniforms)
    assert (drawn.ids.shape, drawn.rest.shape, drawn.shape) == ((B, T, K), (B, T), (B, T, V))
    for b in range(B):
        for t in range(T):
            alone = sampled(logits[b, t][None], K, uniforms[b, t][None])
            assert torch.equal(alone.ids[0], drawn.ids[b, t])
            torch.testing.assert_close(alone.log_weights[0], drawn.log_weights[b, t])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=["fp16", "bf16"])
def test_half_precision_is_raised_and_float64_stays(rng, dtype):
    """A log-probability in bfloat16 has three digits."""
    logits = randn(rng, B, V)
    assert top_k(logits, K).log_probs.dtype == sampled(logits, K, torch.rand(B)).log_probs.dtype == torch.float64
    half = logits.to(dtype)
    assert top_k(half, K).log_probs.dtype == sampled(half, K, torch.rand(B)).rest.dtype == torch.float32
    torch.testing.assert_close(top_k(half, K).log_probs, top_k(half.float(), K).log_probs)


def test_weights_of_a_large_vocabulary_sum_to_one():
    """In float32 the sum over 50,000 classes about as likely is off by 1e-5, which every drawn gradient would carry."""
    drawn = sampled((torch.arange(50_000) % 3 * 0.5)[None], 16, torch.tensor([0.4]))
    assert drawn.log_weights.double().exp().sum().item() == pytest.approx(1.0, abs=1e-6)


def test_what_is_drawn_moves_and_has_no_gradient(rng):
    """It stands where a teacher's tensor would."""
    drawn = sampled(randn(rng, B, V), K, torch.rand(B))
    assert drawn.detach() is drawn
    assert not drawn.requires_grad
    moved = drawn.to("cpu")
    assert (moved.classes, moved.form, moved.temperature) == (V, "sampled", 1.0)
    assert torch.equal(moved.ids, drawn.ids)


@pytest.mark.parametrize("k", [0, -1, V + 1])
def test_a_number_of_classes_that_there_are_not_is_refused(k):
    """topk would say so in another language."""
    for make in (lambda: top_k(torch.zeros(B, V), k), lambda: sampled(torch.zeros(B, V), k, torch.rand(B))):
        with pytest.raises(BadInput, match="1 to 7"):
            make()


@pytest.mark.parametrize("temperature", [0.0, -1.0, math.inf, math.nan])
def test_a_temperature_that_is_no_positive_number_is_refused(temperature):
    """It would give rows of NaN."""
    with pytest.raises(BadInput, match="positive finite"):
        top_k(torch.zeros(B, V), K, temperature)


def test_parts_that_do_not_belong_together_are_refused():
    """A tail of shape (B, 1) would broadcast."""
    ids, log_probs = torch.zeros(B, K, dtype=torch.int64), torch.zeros(B, K)
    for given in ((ids, log_probs[:, :1], torch.zeros(B)), (ids, log_probs, torch.zeros(B, 1))):
        with pytest.raises(ShapeMismatch, match="sparse logits"):
            SparseLogits("top-k", *given, V)
    with pytest.raises(BadInput, match="'top-k' or 'sampled'"):
        SparseLogits("dense", ids, log_probs, torch.zeros(B), V)
    with pytest.raises(BadInput, match="bucket, renormalize, spread"):
        SparseLogits("top-k", ids, log_probs, torch.zeros(B), V, tail="drop")
