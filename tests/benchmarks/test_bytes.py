"""Bytes: the arithmetic of codes, sizes and divergences, against what is counted and summed another way; no language model is needed."""

from __future__ import annotations

import importlib
import math

import pytest
import torch
from torch.nn import functional as F

import bytes_students as students
import rowcodes
from tutelage.signals.cache.about import KeptLogits
from tutelage.signals.cache.codes import pack, unpack
from tutelage.signals.sparse import sampled, top_k

measures = importlib.import_module("bytes")  # under a name that hides nothing built in
N, V, K = 5, 131, 7


@pytest.fixture
def log_probs(rng):
    """Rows of a distribution with a tail."""
    return torch.log_softmax(2.5 * torch.randn(N, V, dtype=torch.float64, generator=rng), -1)


@pytest.fixture
def rng():
    """A seeded generator."""
    return torch.Generator().manual_seed(0)


def dense(sparse, tail):
    """A distribution over all classes, made a class at a time; `tail` gives each class's part of the left-over mass."""
    made = torch.zeros(N, V, dtype=torch.float64)
    for row in range(N):
        own = sparse.ids[row].tolist()
        others = [v for v in range(V) if v not in own]
        whole = sum(tail[v] for v in others)
        for v in others:
            made[row, v] = math.exp(sparse.rest[row]) * tail[v] / whole
        for v, log_prob in zip(own, sparse.log_probs[row].tolist(), strict=True):
            made[row, v] = math.exp(log_prob)
    return made


def divergence(log_probs, made):
    """KL by its definition."""
    return F.kl_div(made.log(), log_probs, log_target=True, reduction="none").sum(-1)


def test_kl_of_a_reconstruction_is_that_of_the_distribution_it_stands_for(log_probs, rng):
    """The table takes sums of rows apart instead of building each reconstruction; a term that is lost would flatter a format."""
    share = torch.softmax(torch.randn(V, dtype=torch.float64, generator=rng), -1)
    sums, sparse = measures.Sums.of(log_probs, share.log()), top_k(log_probs, K)
    even = divergence(log_probs, dense(sparse, [1.0] * V))
    torch.testing.assert_close(measures.spread_kl(sums, sparse), even)
    torch.testing.assert_close(measures.frequent_kl(sums, sparse, share), divergence(log_probs, dense(sparse, share.tolist())))
    assert even.min() > 0.01  # the test can fail


@pytest.mark.parametrize("form", ["top-k", "sampled"])
def test_the_squared_error_is_over_all_classes_those_not_kept_too(log_probs, rng, form):
    """What is not kept has weight 0, and its probability is the error."""
    sparse = top_k(log_probs, K) if form == "top-k" else sampled(log_probs, K, torch.rand(N, generator=rng))
    weights = torch.zeros_like(log_probs).scatter(-1, sparse.ids, sparse.log_weights.exp())
    sums = measures.Sums.of(log_probs, log_probs[0])
    torch.testing.assert_close(measures.squared_error(sums, sparse, sparse.log_weights), ((weights - log_probs.exp()) ** 2).sum(-1))


def test_the_squared_error_of_counts_is_what_many_draws_have(log_probs, rng):
    """(1 - sum p^2) / draws, and the distinct classes of so many draws, are reckoned; here they are drawn."""
    p, draws = log_probs[0].exp(), 12
    counts = torch.stack([torch.bincount(torch.multinomial(p, draws, True, generator=rng), minlength=V) for _ in range(4000)])
    error = ((counts / draws - p) ** 2).sum(-1).mean()
    assert float(error) == pytest.approx(float((1 - (p * p).sum()) / draws), rel=0.03)
    distinct = float((counts > 0).double().sum(-1).mean())
    reckoned = measures._distinct(torch.log1p(-p).unsqueeze(0), draws)
    assert reckoned == pytest.approx(distinct, rel=0.02)
    assert measures.draws_for(log_probs[:1], reckoned - 1e-6) == draws
    assert measures.draws_for(log_probs[:1], reckoned + 1e-6) == draws + 1


def test_what_is_drawn_has_a_smaller_error_than_counts_with_as_many_classes(log_probs, rng):
    """The reason for drawing without replacement."""
    sums = measures.Sums.of(log_probs, log_probs[0])
    draws = measures.draws_for(log_probs, K)
    ours = [sampled(log_probs, K, torch.rand(N, generator=rng)) for _ in range(300)]
    mean = torch.stack([measures.squared_error(sums, each, each.log_weights) for each in ours]).mean()
    assert float(mean) < float(((1 - sums.squares) / draws).mean())


@pytest.mark.parametrize("bits", [4, 5, 6, 8])
def test_a_code_is_a_whole_number_of_steps_and_off_by_half_a_step_at_most(bits, rng):
    """As many codes as the bits tell apart, and no more."""
    log_probs = -20 * torch.rand(1000, dtype=torch.float64, generator=rng)
    read = rowcodes.rounded(log_probs, bits)
    codes = -read / rowcodes.step_of(bits)
    assert torch.equal(codes, codes.round())
    assert codes.min() >= 0
    assert codes.max() == 2**bits - 1
    near = log_probs > -16 + rowcodes.step_of(bits) / 2
    assert (read - log_probs)[near].abs().max() <= rowcodes.step_of(bits) / 2 + 1e-12
    assert torch.equal(read[log_probs < -16], torch.full_like(read[log_probs < -16], -16 + rowcodes.step_of(bits)))


@pytest.mark.parametrize("form", ["top-k", "sampled"])
@pytest.mark.parametrize("bits", [4, 8, 16])
def test_weights_of_a_row_sum_to_one_after_rounding_too(log_probs, rng, form, bits):
    """A teacher's distribution that sums to something else teaches the student a wrong scale."""
    sparse = top_k(log_probs, K) if form == "top-k" else sampled(log_probs, K, torch.rand(N, generator=rng))
    read = rowcodes.kept(sparse, bits)
    total = read.log_weights.exp().sum(-1) + (read.rest.exp() if form == "top-k" else 0)
    torch.testing.assert_close(total, torch.ones(N, dtype=torch.float64))
    assert torch.equal(read.ids, sparse.ids)
    assert (read.log_probs - sparse.log_probs).abs().max() < (0.01 if bits == 16 else 2 * rowcodes.step_of(bits))


@pytest.mark.parametrize("form", ["top-k", "sampled"])
@pytest.mark.parametrize(("bits", "precision"), [(8, "8-bit"), (16, "float16")])
def test_what_is_studied_is_what_a_cache_gives(log_probs, rng, form, bits, precision):
    """Of as many bytes, too: else the page is about another format."""
    sparse = top_k(log_probs, K) if form == "top-k" else sampled(log_probs, K, torch.rand(N, generator=rng))
    tensors = pack(sparse, precision)
    assert sum(tensor.nbytes for tensor in tensors.values()) == N * rowcodes.row_bytes(K, V, bits)
    read, ours = unpack(tensors, KeptLogits(form, V, K, precision=precision), "bucket"), rowcodes.kept(sparse, bits)
    torch.testing.assert_close(read.log_weights.double(), ours.log_weights, atol=0.01, rtol=0)
    torch.testing.assert_close(read.rest.double(), ours.rest, atol=0.01, rtol=0)


def test_a_row_has_the_bytes_that_its_parts_have_as_arrays():
    """Sizes are reckoned; here they are those of tensors."""
    for classes, dtype in ((200, torch.uint8), (49_152, torch.uint16)):
        parts = torch.empty(20, dtype=dtype), torch.empty(20, dtype=torch.uint8), torch.empty(1, dtype=torch.float16)
        assert rowcodes.row_bytes(20, classes) == sum(part.nbytes for part in parts)
    assert rowcodes.row_bytes(15, 151_936, 8) == torch.empty(15, dtype=torch.int32).nbytes + 2  # one word holds both
    assert rowcodes.row_bytes(20, 151_936, 6, "18-bit") == 3 * 20 + 2
    assert rowcodes.row_bytes(3, 49_152, 5) == 6 + 2 + 2  # 15 bits of codes are two bytes


@pytest.mark.parametrize(("classes", "ids", "k"), [(49_152, "narrow", 20), (151_936, "int32", 12), (151_936, "narrow", 15)])
def test_as_many_classes_fit_as_stay_below_the_limit(classes, ids, k):
    """One more would not."""
    assert rowcodes.fits(64, classes, 8, ids) == k
    assert rowcodes.row_bytes(k, classes, 8, ids) < 64 <= rowcodes.row_bytes(k + 1, classes, 8, ids)


def test_class_numbers_that_do_not_fit_are_refused():
    """They would come back as other classes."""
    with pytest.raises(ValueError, match="300000 classes do not fit 18 bits"):
        rowcodes.row_bytes(20, 300_000, 6, "18-bit")


def test_bytes_of_a_varint_are_those_of_the_number_written_in_base_128():
    """Seven bits a byte."""
    numbers = [0, 1, 127, 128, 16_383, 16_384, 151_935, 2_097_152]
    counted = []
    for number in numbers:
        size = 1
        while number := number >> 7:
            size += 1
        counted.append(size)
    assert rowcodes.varint_bytes(torch.tensor(numbers)).tolist() == counted


def test_the_loss_has_the_gradient_of_the_kl_to_what_is_kept(log_probs, rng):
    """By autograd on KL as torch has it: of K weights and, with a bucket, of the student's classes summed up."""
    logits = torch.randn(N, V, dtype=torch.float64, generator=rng, requires_grad=True)
    sparse = top_k(log_probs, K)
    for tail in ("bucket", "renormalize"):
        signal = students.of_sparse(sparse, tail)
        (ours,) = torch.autograd.grad(students.cross_entropy(logits, signal), logits)
        said = torch.log_softmax(logits, -1)
        own = said.gather(-1, sparse.ids)
        if tail == "bucket":
            others = torch.ones_like(said, dtype=torch.bool).scatter(-1, sparse.ids, False)
            bucket = said.masked_fill(~others, -torch.inf).logsumexp(-1, keepdim=True)
            target = torch.cat([sparse.log_probs, sparse.rest.unsqueeze(-1)], -1)
            kl = F.kl_div(torch.cat([own, bucket], -1), target, log_target=True, reduction="sum")
        else:
            kl = F.kl_div(own, sparse.log_probs.log_softmax(-1), log_target=True, reduction="sum")
        (torchs,) = torch.autograd.grad(kl, logits)
        torch.testing.assert_close(ours, torchs)


def test_all_classes_kept_teach_as_the_full_distribution_does(log_probs, rng):
    """The two losses of the study meet where nothing is left out."""
    logits = torch.randn(N, V, dtype=torch.float64, generator=rng, requires_grad=True)
    whole = students.dense_cross_entropy(logits, log_probs.exp())
    for sparse in (top_k(log_probs, V), sampled(log_probs, V, torch.rand(N, generator=rng))):
        torch.testing.assert_close(students.cross_entropy(logits, students.of_sparse(sparse, "renormalize")), whole)


def test_what_is_drawn_and_rounded_teaches_the_full_distribution_on_average(log_probs, rng):
    """The mean gradient over many draws; renormalised top-k, rounded alike, is far from it."""
    logits = torch.randn(N, V, dtype=torch.float64, generator=rng, requires_grad=True)

    def gradient(loss):
        return torch.autograd.grad(loss, logits)[0]

    true = gradient(students.dense_cross_entropy(logits, log_probs.exp()))
    draws = [rowcodes.kept(sampled(log_probs, K, torch.rand(N, generator=rng)), 8) for _ in range(1000)]
    mean = torch.stack([gradient(students.cross_entropy(logits, students.of_sparse(each, "drawn"))) for each in draws]).mean(0)
    top = gradient(students.cross_entropy(logits, students.of_sparse(rowcodes.kept(top_k(log_probs, K), 8), "renormalize")))
    assert float((mean - true).norm()) < 0.1 * float((top - true).norm())


def test_rates_rise_from_little_to_the_highest_and_end_near_nothing():
    """A rate that never falls would leave the noise of draws in the student."""
    rates = students.rates(200)
    assert len(rates) == 200
    assert max(rates) == pytest.approx(students.RATE)
    assert rates.index(max(rates)) in (9, 10)
    assert 0 < rates[-1] < 0.01 * students.RATE
    assert 0 < rates[0] <= 0.1 * students.RATE
