"""The codes of signals: exact where they say so, elsewhere within bounds that follow from their steps.

Shapes: B rows, V classes, K kept classes, C channels, D width, T positions, H W space.
"""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tutelage.errors import BadInput
from tutelage.signals.cache import KeptLogits, KeptTap, coded, pack
from tutelage.signals.cache.codes import STEP, channels, decoded, ids_in_range, sparse_parts, unpack
from tutelage.signals.sparse import SparseLogits, sampled, top_k

ROUNDOFF = {"float16": 2.0**-11, "bfloat16": 2.0**-8}
"""The largest relative error of rounding to the nearest."""


def sparse(form: str, logits: torch.Tensor, k: int, seed: int = 0) -> SparseLogits:
    if form == "top-k":
        return top_k(logits, k, 2.0)
    return sampled(logits, k, torch.rand(logits.shape[:-1], generator=torch.Generator().manual_seed(seed)), 2.0)


def kept(of: SparseLogits, precision: str) -> KeptLogits:
    return KeptLogits(of.form, of.classes, of.kept, of.temperature, precision)


def weights(of: SparseLogits) -> torch.Tensor:
    """All that sums to 1: the kept classes' weights and, of top-k, what is left over."""
    own = of.log_weights.double().exp()
    return torch.cat([own, of.rest.double().exp().unsqueeze(-1)], -1) if of.form == "top-k" else own


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("form", ["top-k", "sampled"])
def test_full_precision_keeps_every_bit(form, dtype, rng):
    of = sparse(form, torch.randn(5, 3, 19, generator=rng, dtype=dtype), 7)
    read = unpack(pack(of, "full"), kept(of, "full"), "spread")
    assert read.log_probs.dtype == dtype
    assert all(torch.equal(getattr(read, name), getattr(of, name)) for name in ("ids", "log_probs", "rest"))
    assert (read.form, read.classes, read.temperature, read.tail) == (form, 19, 2.0, "spread")


@given(
    st.sampled_from(["top-k", "sampled"]),
    st.sampled_from(["8-bit", "float16", "bfloat16"]),
    st.integers(2, 60),
    st.data(),
)
@settings(max_examples=150, deadline=None)
def test_what_rounding_moves_is_within_the_bound_of_its_step(form, precision, classes, data):
    """With codes off by at most d in log, weights are off by at most exp(d) - 1 of themselves, and their sum as much; giving that back
    moves as much again. Codes end at exp(-255 / 16), so a class may be that much too heavy."""
    k, seed, scale = data.draw(st.integers(1, classes)), data.draw(st.integers(0, 10**6)), data.draw(st.floats(0.01, 30))
    logits = torch.randn(4, classes, generator=torch.Generator().manual_seed(seed)) * scale
    of = sparse(form, logits, k, seed)
    read = unpack(pack(of, precision), kept(of, precision), "bucket")
    rest = of.rest.double()
    off = (pack(of, precision)["rest"].double() - rest).abs().nan_to_num(0.0)  # -inf where nothing is left
    own = torch.full_like(off, STEP / 2) if precision == "8-bit" else ROUNDOFF[precision] * of.log_probs.double().abs().amax(-1)
    bound = 2 * torch.maximum(own, off).expm1() + 2 * k * math.exp(-255 / 16) * (precision == "8-bit") + 1e-5
    assert ((weights(read) - weights(of)).abs().sum(-1) <= bound).all()
    sums = 2 * off if form == "top-k" else torch.maximum(own, off).expm1()  # a drawn class may be scaled to below the threshold
    assert ((weights(read).sum(-1) - 1).abs() <= sums + 1e-5).all()
    assert torch.equal(read.ids, of.ids)


def test_weights_of_drawn_classes_sum_to_one_again(rng):
    """But where a class lies within a step of the threshold."""
    of = sampled(torch.randn(200, 500, generator=rng) * 4, 20, torch.rand(200, generator=rng))
    sums = weights(unpack(pack(of, "8-bit"), kept(of, "8-bit"), "bucket")).sum(-1)
    before = torch.maximum(pack(of, "8-bit")["log_probs"] * -STEP, of.rest[:, None]).exp().sum(-1)
    assert ((sums - 1).abs() < 1e-5).double().mean() > 0.9
    assert ((before - 1).abs() > 1e-3).double().mean() > 0.5


def test_what_is_kept_of_all_classes_sums_to_one_again(rng):
    """Otherwise a student is pulled towards a distribution that is none."""
    of = top_k(torch.randn(50, 20, generator=rng) * 3, 20)
    read = unpack(pack(of, "8-bit"), kept(of, "8-bit"), "bucket")
    assert (read.rest == -torch.inf).all()
    assert torch.allclose(read.log_probs.exp().sum(-1), torch.ones(50), atol=1e-5)
    assert not torch.allclose((pack(of, "8-bit")["log_probs"] * -STEP).exp().sum(-1), torch.ones(50), atol=1e-3)


@pytest.mark.parametrize("precision", ["full", "float16", "bfloat16", "8-bit"])
@pytest.mark.parametrize("form", ["top-k", "sampled"])
@pytest.mark.parametrize(("classes", "width"), [(256, 1), (257, 2), (65_536, 2), (65_537, 3), (1 << 24, 3)])
def test_class_numbers_at_the_borders_of_their_types_come_back(form, precision, classes, width):
    """The largest number of a type must not wrap around to class 0."""
    ids = torch.tensor([[classes - 1, 0, classes // 2], [1, classes - 2, classes - 1]])
    of = SparseLogits(form, ids, torch.full((2, 3), 0.25).log(), torch.full((2,), 0.25).log(), classes)
    packed = pack(of, precision)
    assert torch.equal(unpack(packed, kept(of, precision), "bucket").ids, ids)
    wanted = sparse_parts(kept(of, precision))
    assert packed.keys() == wanted.keys()
    assert all(packed[name].dtype in dtypes and packed[name].shape == (2, *row) for name, (dtypes, row) in wanted.items())
    if precision == "8-bit":
        assert sum(t.nbytes for name, t in packed.items() if name != "rest") == 2 * 3 * (width + 1)


@pytest.mark.parametrize(("classes", "precision"), [(200, "8-bit"), (300, "full"), (70_000, "full"), (70_000, "8-bit")])
def test_a_class_that_is_none_is_found(classes, precision):
    for last, fits in ((classes - 1, True), (classes, False)):
        of = SparseLogits("top-k", torch.tensor([[0, last]]), torch.zeros(1, 2), torch.zeros(1), classes)
        assert ids_in_range(pack(of, precision), classes) is fits
    if classes == 70_000 and precision == "full":
        assert not ids_in_range({"ids": torch.tensor([[-1]], dtype=torch.int32)}, classes)


def test_a_log_probability_beyond_half_precision_stays_finite():
    """Minus infinity times a weight of zero is NaN in a loss."""
    of = top_k(torch.tensor([[0.0, -1e6]]), 2)
    for precision in ("float16", "8-bit"):
        assert unpack(pack(of, precision), kept(of, precision), "bucket").log_probs.isfinite().all()


SHAPES = [((7,), False), ((3, 5), False), ((5, 3, 2), False), ((5, 2, 3, 2), False), ((7,), True), ((3, 5), True)]


@pytest.mark.parametrize(("shape", "positions"), SHAPES)
def test_eight_bits_are_off_by_at_most_half_a_step_of_their_channel(shape, positions, rng):
    """A channel a thousand times larger must not cost the others their steps: vectors and tokens have channels last, maps first."""
    lead = (11, 4) if positions else (11,)
    kept = KeptTap("layer", shape, "8-bit", positions)
    last = positions or len(shape) < 3
    scales = torch.logspace(-3, 3, channels(kept))
    assert channels(kept) == (shape[-1] if last else shape[0])
    scales = scales if last else scales.view(-1, *[1] * (len(shape) - 1))
    values = torch.randn(*lead, *shape, generator=rng) * scales + 5 * scales
    found = coded(values, "8-bit", positions)
    read = decoded(found[""], found[".low"][None], found[".step"][None], kept)
    assert read.dtype == torch.float32
    step = found[".step"] if last else found[".step"].view(-1, *[1] * (len(shape) - 1))
    assert ((read - values).abs() <= step / 2 + 4e-7 * values.abs().max() * scales / scales.max()).all()
    assert found[""].nbytes == values.numel()


@pytest.mark.parametrize("value", [0.0, -3.7, 1e38, 1e-45])
def test_a_constant_channel_comes_back_exactly(value):
    """A range of nothing must not divide by it."""
    values = torch.full((5, 3), value)
    found = coded(values, "8-bit", False)
    assert torch.equal(decoded(found[""], found[".low"][None], found[".step"][None], KeptTap("a", (3,), "8-bit")), values)


def test_the_largest_numbers_stay_finite_in_eight_bits():
    values = torch.tensor([[-1e38, 0.0], [1e38, 1e-30]])
    found = coded(values, "8-bit", False)
    read = decoded(found[""], found[".low"][None], found[".step"][None], KeptTap("a", (2,), "8-bit"))
    assert torch.allclose(read, values, rtol=1e-6)


def test_each_sample_is_decoded_by_the_range_of_its_own_shard(rng):
    """A batch gathers samples of many shards."""
    kept = KeptTap("a", (3, 2, 2), "8-bit")
    parts = [torch.randn(4, 3, 2, 2, generator=rng) * scale for scale in (1, 50)]
    found = [coded(part, "8-bit", False) for part in parts]
    mixed = {suffix: [each[suffix] for each in found] for suffix in ("", ".low", ".step")}
    read = decoded(torch.stack([codes[1] for codes in mixed[""]]), torch.stack(mixed[".low"]), torch.stack(mixed[".step"]), kept)
    for each, part, steps in zip(read, parts, mixed[".step"], strict=True):
        assert ((each - part[1]).abs() <= steps.view(3, 1, 1) * 0.5001 + 1e-5).all()


@pytest.mark.parametrize(
    ("precision", "value"), [("float16", 70_000.0), ("8-bit", 1e39), ("8-bit", math.nan), ("8-bit", math.inf), ("float16", math.inf)]
)
def test_a_number_too_large_for_its_precision_is_refused(precision, value):
    """An infinity in a cache would end a training hours later."""
    with pytest.raises(BadInput, match=f"too large for {precision}"):
        coded(torch.tensor([[1.0, value]], dtype=torch.float64), precision, False)


@pytest.mark.parametrize("precision", ["float16", "bfloat16"])
def test_half_precision_rounds_to_the_nearest(precision, rng):
    values = torch.randn(50, 7, generator=rng) * 100
    read = coded(values, precision, False)[""]
    assert ((read.float() - values).abs() <= ROUNDOFF[precision] * values.abs()).all()


def test_shards_without_a_position_have_ranges_too():
    """Of texts that are all empty."""
    found = coded(torch.zeros(0, 5), "8-bit", True)
    assert found[""].shape == (0, 5)
    assert found[".low"].isfinite().all()
    assert found[".step"].isfinite().all()
