"""Deferred logits against dense ones in float64: values and gradients of every distance, and what is never made.

Shapes: B=3, T=5, V=7, D=4; the teacher's width is 6.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from tutelage.errors import BadInput, ShapeMismatch
from tutelage.objectives import (
    CrossEntropy,
    Distance,
    Match,
    deferred,
    interpolated_target,
    jensen_shannon,
    mse,
    permuted_dark,
    probability_cross_entropy,
    regressor,
    skew_kl,
    soft_cross_entropy,
    soft_targets,
)
from tutelage.objectives.deferred import by_rows
from tutelage.signals import DeferredLogits
from tutelage.signals.sparse import sampled, top_k
from tutelage.state import Clock, linear_ramp

B, T, V, D, WIDE = 3, 5, 7, 4, 6
DISTANCES = {
    "forward": soft_targets(1.0),
    "forward, T=2": soft_targets(2.0),
    "reverse": soft_targets(2.0, "reverse"),
    "cross entropy": soft_cross_entropy(2.0),
    "cross entropy, not scaled": soft_cross_entropy(2.0, scaled=False),
    "jsd": jensen_shannon(0.3, 2.0),
    "skew": skew_kl(0.1, "forward", 2.0),
    "skew reverse": skew_kl(0.2, "reverse", 2.0),
    "skew reverse, detached": skew_kl(0.2, "reverse", 2.0, detach_mixture=True),
    "interpolated": interpolated_target(0.4),
    "interpolated, as cross entropy": interpolated_target(0.4, "cross-entropy"),
}
READ_SPARSE = ("forward, T=2", "cross entropy", "jsd")
each = pytest.mark.parametrize("name", DISTANCES)
sizes = pytest.mark.parametrize("size", [1, 2, 7, 100])


@pytest.fixture
def rows(monkeypatch):
    """Sets how many rows are made at once, and as many are compared at once, but for one case."""

    def choose(size):
        monkeypatch.setattr(deferred, "NUMBERS", 1)
        monkeypatch.setattr(deferred, "LEAST", size)
        monkeypatch.setattr(deferred, "AT_ONCE", {"cpu": V * (2 if size == 7 else size)})

    return choose


def student(rng, *, bias=True, lead=(B, T), dtype=torch.float64, **finish):
    made = [torch.randn(*shape, generator=rng, dtype=torch.float64).to(dtype) for shape in ((*lead, D), (V, D), (V,))]
    hidden, weight, offset = (part.requires_grad_() for part in made)
    return DeferredLogits(hidden, weight, offset if bias else None, **finish)


def teacher(rng, lead=(B, T), dtype=torch.float64):
    made = (2 * torch.randn(*shape, generator=rng, dtype=torch.float64).to(dtype) for shape in ((*lead, WIDE), (V, WIDE)))
    return DeferredLogits(*made)


def ragged():
    """Sequences of different lengths; the first one has nothing."""
    return torch.arange(T) < torch.tensor([[0], [2], [5]])


def leaves(own):
    return [part for part in (own.hidden, own.weight, own.bias) if part is not None]


def gradients(loss, own):
    return torch.autograd.grad(loss, leaves(own), retain_graph=True)


def same(loss, expected, own, **tolerance):
    torch.testing.assert_close(loss, expected, **tolerance)
    for found, wanted in zip(gradients(loss, own), gradients(expected, own), strict=True):
        torch.testing.assert_close(found, wanted, **tolerance)


def counted(monkeypatch):
    """Counts the rows that the student's head is asked about."""
    asked, plain = [], F.linear

    def linear(given, *rest):
        if given.shape[-1] == D:
            asked.append(len(given))
        return plain(given, *rest)

    monkeypatch.setattr(F, "linear", linear)
    return asked


@sizes
@each
def test_value_and_gradient_are_those_of_dense_logits(rng, rows, name, size):
    """A loss that is nearly right would train, and end somewhere else."""
    rows(size)
    own, told, mask = student(rng), teacher(rng), ragged()
    for over in ("token", "sequence"):
        match = Match("logits", by=DISTANCES[name], over=over)
        expected = match({"logits": own.dense()}, {"logits": told.dense()}, {"mask": mask})
        for goal in (told, told.dense()):
            same(match({"logits": own}, {"logits": goal}, {"mask": mask}), expected, own)
    plain = Match("logits", by=DISTANCES[name])
    same(plain({"logits": own}, {"logits": told}, {}), plain({"logits": own.dense()}, {"logits": told.dense()}, {}), own)


@sizes
@pytest.mark.parametrize("form", ["bucket", "renormalize", "spread", "sampled"])
@pytest.mark.parametrize("name", READ_SPARSE)
def test_a_sparse_teacher_is_read_as_beside_dense_logits(rng, rows, name, form, size):
    """Its ids and its tail have to follow the rows that they belong to."""
    rows(size)
    own, told = student(rng), teacher(rng).dense()
    if form == "sampled":
        goal = sampled(told, 3, torch.rand(B, T, generator=rng, dtype=torch.float64), 2.0)
    else:
        goal = replace(top_k(told, 3, 2.0), tail=form)
    match = Match("logits", by=DISTANCES[name])
    batch = {"mask": ragged()}
    same(match({"logits": own}, {"logits": goal}, batch), match({"logits": own.dense()}, {"logits": goal}, batch), own)


@sizes
@pytest.mark.parametrize("over", ["token", "sequence"])
def test_labels_are_read_as_beside_dense_logits(rng, rows, over, size):
    """Ignored labels among them, which are no classes."""
    rows(size)
    own = student(rng)
    batch = {"y": torch.randint(V, (B, T), generator=rng).masked_fill(~ragged(), -100)}
    for loss in (CrossEntropy(over=over), CrossEntropy(over=over, label_smoothing=0.1)):
        same(loss({"logits": own}, None, batch), loss({"logits": own.dense()}, None, batch), own)
    soft = {"y": torch.rand(B, T, V, generator=rng, dtype=torch.float64).softmax(-1), "mask": ragged()}
    same(CrossEntropy()({"logits": own}, None, soft), CrossEntropy()({"logits": own.dense()}, None, soft), own)


def test_targets_that_are_probabilities_are_read_by_row(rng, rows):
    """They are a tap of their own, beside deferred logits of the student."""
    rows(2)
    own, told = student(rng), teacher(rng).dense().softmax(-1)
    match = Match("logits", "probabilities", by=probability_cross_entropy())
    same(match({"logits": own}, {"probabilities": told}, {}), match({"logits": own.dense()}, {"probabilities": told}, {}), own)


@pytest.mark.parametrize("mask", [torch.rand(B, T, dtype=torch.float64), torch.tensor([1.0, 0.0, 3.0]), torch.tensor([True, False, True])])
@pytest.mark.parametrize("over", ["token", "sequence"])
def test_weights_and_masks_of_samples_are_those_of_dense_logits(rng, rows, over, mask):
    """What a mean weighs by is foretold to the head; foretold wrongly, it must not be used."""
    rows(2)
    own, told = student(rng), teacher(rng)
    match = Match("logits", by=DISTANCES["forward"], over=over)
    expected = match({"logits": own.dense()}, {"logits": told.dense()}, {"mask": mask})
    same(match({"logits": own}, {"logits": told}, {"mask": mask}), expected, own)


@each
def test_weights_that_nobody_foretold_give_the_same_gradient(rng, rows, name):
    """A method may weigh tokens by what the models say of them."""
    rows(2)
    own, told = student(rng), teacher(rng)
    weights = torch.randn(B, T, generator=rng, dtype=torch.float64)
    by = DISTANCES[name]
    same((by(own, told) * weights).sum(), (by(own.dense(), told.dense()) * weights).sum(), own)
    same((by(own, told, ragged()) * weights).sum(), (by(own.dense(), told.dense()) * weights * ragged()).sum(), own)


@pytest.mark.parametrize("finish", [{"scale": 0.25}, {"softcap": 1.5}, {"scale": 3.0, "softcap": 2.0}])
def test_what_a_model_does_behind_its_head_is_in_the_gradient(rng, rows, finish):
    """Scaled and bounded logits have another gradient, not only other values."""
    rows(2)
    own, told = student(rng, **finish), teacher(rng)
    for by in (DISTANCES["forward"], DISTANCES["jsd"]):
        same(by(own, told).mean(), by(own.dense(), told.dense()).mean(), own)


@pytest.mark.parametrize("lead", [(1, 1), (B,), (1, T)])
@pytest.mark.parametrize("bias", [True, False])
def test_other_shapes_and_heads_without_bias(rng, rows, bias, lead):
    """One token, and rows without positions."""
    rows(2)
    own, told = student(rng, bias=bias, lead=lead), teacher(rng, lead)
    by = DISTANCES["reverse"]
    assert by(own, told).shape == lead
    same(by(own, told).mean(), by(own.dense(), told.dense()).mean(), own)


def test_autograd_finds_the_same_gradients_by_differences(rng, rows):
    """Nothing but values goes into this one."""
    rows(4)
    own, told = student(rng), teacher(rng)

    def values(hidden, weight, bias):
        return DISTANCES["jsd"](DeferredLogits(hidden, weight, bias, softcap=2.0), told, ragged())

    assert torch.autograd.gradcheck(values, leaves(own))


def test_tied_embeddings_get_both_gradients(rng, rows):
    """The head's weight is also the table that the first layer reads."""
    rows(2)
    told, ids = teacher(rng), torch.randint(V, (B, T), generator=rng)
    table = torch.randn(V, D, generator=rng, dtype=torch.float64, requires_grad=True)

    def logits():
        return DeferredLogits(torch.tanh(F.embedding(ids, table)), table)

    by = DISTANCES["forward"]
    found, expected = (torch.autograd.grad(v.mean(), table)[0] for v in (by(logits(), told), by(logits().dense(), told.dense())))
    torch.testing.assert_close(found, expected)


def test_a_frozen_head_gets_no_gradient_and_the_body_its_own(rng, rows):
    """Adapters train below a head that stays."""
    rows(2)
    own, told = student(rng), teacher(rng)
    frozen = replace(own, weight=own.weight.detach(), bias=own.bias.detach())
    weights = torch.randn(B, T, generator=rng, dtype=torch.float64)
    by = DISTANCES["forward"]
    (found,) = torch.autograd.grad((by(frozen, told) * weights).sum(), own.hidden)
    (expected,) = torch.autograd.grad((by(own.dense(), told.dense()) * weights).sum(), own.hidden)
    torch.testing.assert_close(found, expected)
    assert not by(frozen.detach(), told).requires_grad


def test_a_batch_that_is_masked_altogether_gives_a_zero_to_learn_from(rng):
    """A loss without a graph would end the run at a batch of prompts."""
    own, told = student(rng), teacher(rng)
    batch = {"mask": torch.zeros(B, T, dtype=torch.bool), "y": torch.full((B, T), -100)}
    for loss in (Match("logits", by=DISTANCES["jsd"]), CrossEntropy()):
        value = loss({"logits": own}, {"logits": told}, batch)
        assert value == 0
        assert all(not g.any() for g in gradients(value, own))


def test_rows_that_do_not_count_are_not_looked_at(rng, rows, monkeypatch):
    """Prompts and padding may be most of a batch; and whatever stands there must not come into the loss."""
    rows(2)
    own, told = student(rng), teacher(rng)
    mask = ragged()
    with torch.no_grad():
        own.hidden[~mask] = torch.nan
    asked = counted(monkeypatch)
    values = DISTANCES["forward"](own, told, mask)
    assert sum(asked) == int(mask.sum())
    assert values[mask].isfinite().all()
    assert not values[~mask].any()
    assert all(g.isfinite().all() for g in gradients(values.sum(), own)[1:])


def test_the_head_is_asked_once_for_each_row_where_weights_are_foretold(rng, rows, monkeypatch):
    """Else it costs a pass of the head more than dense logits do; and as dense ones do, without a gradient."""
    rows(2)
    own, told = student(rng), teacher(rng).dense()
    asked = counted(monkeypatch)
    for over in ("token", "sequence"):
        asked.clear()
        match = Match("logits", by=DISTANCES["forward"], over=over)
        (3 * match({"logits": own}, {"logits": told}, {"mask": ragged()})).backward()
        assert sum(asked) == int(ragged().sum())
    asked.clear()
    DISTANCES["forward"](own, told, ragged()).square().sum().backward()  # weighed by the values themselves
    assert sum(asked) == 2 * int(ragged().sum())
    asked.clear()
    with torch.no_grad():
        assert not DISTANCES["forward"](own, told, ragged()).requires_grad
    assert sum(asked) == int(ragged().sum())


def test_no_more_than_a_piece_of_the_vocabulary_is_held(rng, rows):
    """What the whole file is for: between the passes nothing as wide as the vocabulary is kept for each row."""
    rows(2)
    own, told = student(rng), teacher(rng)
    held = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: held.append(t.shape) or t, lambda t: t):
        DISTANCES["jsd"](own, told)
    assert held
    assert all(shape.numel() <= max(own.hidden.numel(), 2 * V) or shape == own.weight.shape for shape in held)


@pytest.mark.parametrize("told_by_torch", [True, False])
def test_a_graph_that_is_kept_gives_its_gradients_again(rng, rows, monkeypatch, told_by_torch):
    """Shares of the gradient are taken before the backward pass, over the same graph; neither may change the other by a bit."""
    rows(2)
    assert deferred.LAST_TIME is not None
    if not told_by_torch:
        monkeypatch.setattr(deferred, "LAST_TIME", None)
    own, told = student(rng), teacher(rng)
    loss = DISTANCES["forward"](own, told).mean()
    first, second = gradients(loss, own), gradients(loss, own)
    third = torch.autograd.grad(loss, leaves(own))
    for a, b, c in zip(first, second, third, strict=True):
        assert torch.equal(a, b)
        assert torch.equal(a, c)


def test_two_terms_that_read_one_pass_add_up(rng, rows):
    """Labels beside a teacher."""
    rows(2)
    own, told = student(rng), teacher(rng)
    batch = {"y": torch.randint(V, (B, T), generator=rng), "mask": ragged()}
    loss = 0.3 * CrossEntropy() + 1.7 * Match("logits", by=DISTANCES["forward"], name="soft")
    same(loss({"logits": own}, {"logits": told}, batch), loss({"logits": own.dense()}, {"logits": told.dense()}, batch), own)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_raised_before_the_softmax(rng, rows, dtype):
    """Logits in bfloat16 have two digits; sums over them would have none."""
    rows(2)
    own, told = student(rng, dtype=dtype), teacher(rng, dtype=dtype)
    for by in DISTANCES.values():
        values = by(own, told)
        assert values.dtype == torch.float32
        torch.testing.assert_close(values, by(own.dense(), told.dense()), rtol=1e-3, atol=1e-4)
        for found, wanted in zip(gradients(values.mean(), own), gradients(by(own.dense(), told.dense()).mean(), own), strict=True):
            assert found.dtype == dtype
            torch.testing.assert_close(found, wanted, rtol=0.05, atol=2e-2 * float(wanted.abs().amax()))


def test_float16_takes_its_gradients_of_the_scaled_loss(rng, rows):
    """Taken of the loss as it is, what is below 6e-8 would be lost before the scale comes."""
    rows(2)
    made = student(rng)
    small = [1e-4 * made.hidden.detach(), made.weight.detach(), made.bias.detach()]
    own = DeferredLogits(*(part.half().requires_grad_() for part in small))
    told = DeferredLogits(own.hidden.detach() * 1.1, own.weight.detach(), own.bias.detach())
    scaled, dense = DISTANCES["forward"](own, told).sum() * 2.0**14, DISTANCES["forward"](own.dense(), told.dense()).sum() * 2.0**14
    found, wanted = gradients(scaled, own), gradients(dense, own)
    assert wanted[0].any()
    torch.testing.assert_close(found[0], wanted[0], rtol=0.05, atol=1e-4)


def test_autocast_around_the_loss_changes_nothing(rng, rows):
    """The loss is for float32, wherever it is called; what the head computes in was decided in the pass."""
    rows(2)
    own, told = student(rng, dtype=torch.float32), teacher(rng, dtype=torch.float32)
    plain = DISTANCES["jsd"](own, told).mean()
    with torch.autocast("cpu", torch.bfloat16):
        inside = DISTANCES["jsd"](own, told).mean()
    assert torch.equal(plain, inside)
    assert all(torch.equal(a, b) for a, b in zip(gradients(plain, own), gradients(inside, own), strict=True))


def test_a_moving_knob_counts_as_it_was_in_the_forward_pass(rng, rows):
    """A controller may move before the backward pass comes; then the logits are made again."""
    rows(2)
    own, told = student(rng), teacher(rng)
    ramp = linear_ramp(1.0, 3.0)
    ramp.open()
    ramp.begin(Clock("s", 0, 10, 0, 1.0, 0))
    weights = torch.rand(B, T, generator=rng, dtype=torch.float64)
    loss = (soft_targets(ramp)(own, told) * weights).sum()
    ramp.begin(Clock("s", 9, 10, 0, 1.0, 0))
    assert ramp.value > 2
    same(loss, (soft_targets(1.0)(own.dense(), told.dense()) * weights).sum(), own)


def test_the_teacher_gets_no_gradient(rng):
    own, told = student(rng), teacher(rng)
    told.weight.requires_grad_()
    Match("logits", by=DISTANCES["forward"])({"logits": own}, {"logits": told}, {}).backward()
    assert told.weight.grad is None
    assert own.weight.grad is not None


def test_what_cannot_read_rows_alone_says_so_and_is_given_dense_logits(rng):
    """In a notebook nothing chooses the form beforehand."""
    own, told = student(rng), teacher(rng)

    refusing = {
        "mse": Match("logits", by=mse()),
        "bare": Match("logits", by=lambda s, t: (s - t).square().mean()),
        "own": Match("logits", by=Distance(lambda s, t: (s - t).abs().sum(-1))),
        "target": Match("logits", by=soft_targets(1.0), target=lambda signals, batch: 2 * signals["logits"]),
    }
    for match in refusing.values():
        assert match.refuses("deferred") is not None
        same(match({"logits": own}, {"logits": told}, {}), match({"logits": own.dense()}, {"logits": told.dense()}, {}), own)
    for match in (
        Match("logits", by=soft_targets(1.0), through=regressor()),
        Match("logits", by=soft_targets(1.0), target=permuted_dark()),
    ):
        assert match.refuses("deferred") is not None
    for by in DISTANCES.values():
        assert Match("logits", by=by).refuses("deferred") is None
    assert CrossEntropy().refuses("deferred") is None
    assert (CrossEntropy() + refusing["mse"].named("squares")).refuses("deferred") is not None


def test_rows_that_do_not_belong_together_are_refused(rng):
    """A silent broadcast would compare each token with another's teacher."""
    own, told = student(rng), teacher(rng)
    with pytest.raises(ShapeMismatch, match=r"student has shape \(3, 5, 7\), teacher \(3, 4, 7\)"):
        DISTANCES["forward"](own, told.at((slice(None), slice(4))))
    with pytest.raises(ShapeMismatch, match=r"labels of shape \(3, 4\)"):
        CrossEntropy()({"logits": own}, None, {"y": torch.zeros(B, 4, dtype=torch.int64)})
    with pytest.raises(ShapeMismatch, match="expected a value for each row"):
        by_rows(lambda s, t: (s - t).sum(), own, told)
    with pytest.raises(ShapeMismatch, match="expected the same rows"):
        by_rows(lambda s, t: (s - t).sum(-1), own, told.hidden[:, :4])
    with pytest.raises(BadInput, match="kept at temperature 1"):
        DISTANCES["jsd"](own, top_k(told.dense(), 3))
