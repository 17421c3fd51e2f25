"""Skew KL against a loop in NumPy, its neighbours, its bound and its closed-form gradients. Shapes: B=3, T=5, V=7."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.special
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tutelage.errors import BadInput, ShapeMismatch
from tutelage.objectives import Match, divergences, jensen_shannon, skew_kl, soft_targets
from tutelage.objectives.skew import skew_divergence
from tutelage.signals import Signals
from tutelage.signals.sparse import top_k
from tutelage.state import Clock, linear_ramp

B, T, V = 3, 5, 7
each_direction = pytest.mark.parametrize("direction", ["forward", "reverse"])


def pair(rng, *shape, scale=2.0):
    return (scale * torch.randn(2, *shape, dtype=torch.float64, generator=rng)).unbind()


@each_direction
@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
@pytest.mark.parametrize("skew", [0.0, 0.1, 0.7])
@pytest.mark.parametrize("shape", [(B, V), (B, T, V)], ids=["rows", "positions"])
def test_skew_kl_equals_the_kl_to_the_mixture_row_by_row(rng, shape, skew, temperature, direction):
    """The skew taken for the other side's share, or a cross entropy in place of the KL, would train at another scale unnoticed."""
    student, teacher = pair(rng, *shape)
    values = skew_kl(skew, direction, temperature)(student, teacher)
    assert values.shape == shape[:-1]
    for value, s, t in zip(values.reshape(-1), student.reshape(-1, V).numpy(), teacher.reshape(-1, V).numpy(), strict=True):
        q, p = scipy.special.softmax(s / temperature), scipy.special.softmax(t / temperature)
        own, other = (p, q) if direction == "forward" else (q, p)
        expected = temperature**2 * scipy.stats.entropy(own, skew * own + (1 - skew) * other)
        assert value.item() == pytest.approx(expected, rel=1e-10)


@each_direction
@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_skew_kl_without_skew_is_the_kl_and_nears_it_smoothly(rng, direction, temperature):
    """The limits by which the convention of the skew is pinned, in value and gradient."""
    student, teacher = pair(rng, B, V)
    student.requires_grad_()
    limit = soft_targets(temperature, direction)(student, teacher)
    (of_limit,) = torch.autograd.grad(limit.sum(), student)
    for skew, tolerance in ((0.0, 0.0), (1e-9, 1e-6)):
        values = skew_kl(skew, direction, temperature)(student, teacher)
        torch.testing.assert_close(values, limit, rtol=tolerance, atol=0)
        torch.testing.assert_close(torch.autograd.grad(values.sum(), student)[0], of_limit, rtol=tolerance, atol=tolerance)


@settings(deadline=None, max_examples=80)
@given(st.lists(st.floats(-60, 60), min_size=2 * V, max_size=2 * V), st.floats(1e-3, 0.999), st.sampled_from(["forward", "reverse"]))
def test_skew_kl_lies_between_0_and_the_log_of_1_over_the_skew(numbers, skew, direction):
    """The bound is what the skew is for; a cross entropy in its place breaks it below, a missing mixture above."""
    student, teacher = torch.tensor(numbers, dtype=torch.float64).reshape(2, 1, V)
    assert -1e-12 <= skew_kl(skew, direction)(student, teacher).item() <= -math.log(skew) + 1e-12


@each_direction
@pytest.mark.parametrize(
    ("student", "teacher"), [([1e4, 0.0, 0.0], [0.0, 1e4, 0.0]), ([0.0, -math.inf, -math.inf], [-math.inf, 0.0, -math.inf])]
)
def test_sides_that_rule_each_other_out_reach_the_bound_with_a_finite_gradient(direction, student, teacher):
    """The KL of a student that is certain of the wrong class is infinite; one NaN row ends a run."""
    own = torch.tensor([student], requires_grad=True)
    value = skew_kl(0.1, direction)(own, torch.tensor([teacher]))
    assert value.item() == pytest.approx(math.log(10), rel=1e-5)
    assert torch.autograd.grad(value.sum(), own)[0].isfinite().all()


@pytest.mark.parametrize(("direction", "detach"), [("forward", False), ("reverse", False), ("reverse", True)])
def test_skew_kl_and_its_gradient_vanish_at_equality(rng, direction, detach):
    """A student that already agrees would otherwise be pushed away again: the sign that a true divergence is computed."""
    student, teacher = pair(rng, B, V)
    own = (teacher + student[:, :1]).requires_grad_()  # a constant a row changes nothing
    values = skew_kl(0.2, direction, detach_mixture=detach)(own, teacher)
    torch.testing.assert_close(values, torch.zeros(B, dtype=torch.float64), atol=1e-12, rtol=0)
    torch.testing.assert_close(torch.autograd.grad(values.sum(), own)[0], torch.zeros(B, V, dtype=torch.float64), atol=1e-12, rtol=0)


@each_direction
@pytest.mark.parametrize("shape", [(B, V), (2, 2, V)], ids=["rows", "positions"])
@pytest.mark.parametrize("skew", [0.0, 0.1, 0.9])
def test_gradients_are_exact_in_float64(rng, direction, shape, skew):
    """In the reverse direction the student is on both sides of the divergence; a piece that is detached by mistake shows here."""
    student, teacher = pair(rng, *shape)
    assert torch.autograd.gradcheck(lambda s: skew_kl(skew, direction, 2.0)(s, teacher), student.requires_grad_())


def test_the_forward_gradient_is_the_kls_weighted_by_the_students_part_of_the_mixture(rng):
    """Written out: q_j (sum_v w_v p_v - w_j p_j / q_j) with w = (1 - skew) q / m, where KL itself has w = 1."""
    student, teacher = pair(rng, B, V)
    (gradient,) = torch.autograd.grad(skew_kl(0.3)(student.requires_grad_(), teacher).sum(), student)
    q, p = (scipy.special.softmax(z.detach().numpy(), axis=-1) for z in (student, teacher))
    w = 0.7 * q / (0.3 * p + 0.7 * q)
    np.testing.assert_allclose(gradient.numpy(), q * (w * p).sum(-1, keepdims=True) - w * p, atol=1e-12)


def test_a_detached_mixture_has_the_gradient_of_a_kl_to_a_fixed_distribution(rng):
    """The card: q_j [(log q_j - log m_j) - KL(q || m)], m a constant; the value is the same as with the mixture attached."""
    student, teacher = pair(rng, B, V)
    distance = skew_kl(0.1, "reverse", detach_mixture=True)
    values = distance(student.requires_grad_(), teacher)
    (gradient,) = torch.autograd.grad(values.sum(), student)
    q, p = (scipy.special.softmax(z.detach().numpy(), axis=-1) for z in (student, teacher))
    m = 0.9 * p + 0.1 * q
    kl = (q * np.log(q / m)).sum(-1, keepdims=True)
    np.testing.assert_allclose(gradient.numpy(), q * (np.log(q / m) - kl), atol=1e-12)
    torch.testing.assert_close(values, skew_kl(0.1, "reverse")(student, teacher))
    (attached,) = torch.autograd.grad(skew_kl(0.1, "reverse")(student, teacher).sum(), student)
    assert not torch.allclose(gradient, attached)


@pytest.mark.parametrize("beta", [0.2, 0.5])
def test_jensen_shannon_is_made_of_both_skew_kls(rng, beta):
    """The stated relation, which also pins whose share the skew is."""
    student, teacher = pair(rng, B, T, V)
    parts = beta * skew_kl(beta, temperature=2.0)(student, teacher) + (1 - beta) * skew_kl(1 - beta, "reverse", 2.0)(student, teacher)
    torch.testing.assert_close(parts, jensen_shannon(beta, 2.0)(student, teacher))


@each_direction
def test_large_vocabularies_in_pieces_give_the_same(rng, direction, monkeypatch):
    """Some rows at a time, made again for the gradient."""
    student, teacher = pair(rng, B, T, V)
    student.requires_grad_()
    whole = skew_kl(0.1, direction, 2.0)(student, teacher)
    (expected,) = torch.autograd.grad(whole.sum(), student)
    monkeypatch.setattr(divergences, "PIECE", 2 * V)
    values = skew_kl(0.1, direction, 2.0)(student, teacher)
    torch.testing.assert_close(values, whole)
    torch.testing.assert_close(torch.autograd.grad(values.sum(), student)[0], expected)


@each_direction
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_raised(rng, direction, dtype):
    """A sum over a vocabulary in bfloat16 is off by percents."""
    student, teacher = (x.to(dtype) for x in pair(rng, B, V))
    values = skew_kl(0.1, direction)(student, teacher)
    assert values.dtype == torch.float32
    torch.testing.assert_close(values, skew_kl(0.1, direction)(student.float(), teacher.float()))


@each_direction
def test_a_match_gives_the_teacher_no_gradient(rng, direction):
    """A teacher that gets gradients is dragged towards the student."""
    student, teacher = (x.requires_grad_() for x in pair(rng, B, V))
    Match("logits", by=skew_kl(direction=direction))({"logits": student}, {"logits": teacher}, {}).backward()
    assert student.grad is not None
    assert teacher.grad is None


def test_skew_and_temperature_may_be_controllers(rng):
    """They must be visible knobs, so that they are begun and saved, and read anew at each step."""
    student, teacher = pair(rng, B, V)
    skew, temperature = linear_ramp(0.0, 0.8), linear_ramp(1.0, 3.0)
    distance = skew_kl(skew, "reverse", temperature)
    assert (distance.knobs["skew"], distance.knobs["temperature"]) == (skew, temperature)
    for each in (skew, temperature):
        each.open()
    for step, (a, t) in enumerate(((0.0, 1.0), (0.4, 2.0), (0.8, 3.0))):
        for each in (skew, temperature):
            each.begin(Clock("s", step, 3, 0, 1, 0))
        torch.testing.assert_close(distance(student, teacher), skew_kl(a, "reverse", t)(student, teacher))


@pytest.mark.parametrize("skew", [-0.1, 1, 1.0, 1.5, math.nan, True, "tenth", None])
def test_skews_that_are_no_share_are_refused(skew):
    """At 1 each side is compared with itself, and nothing would be learned."""
    with pytest.raises(BadInput, match="share of a side"):
        skew_kl(skew)


def test_what_cannot_train_is_refused():
    """Before any data is read."""
    with pytest.raises(BadInput, match="nothing would be learned"):
        skew_kl(detach_mixture=True)
    with pytest.raises(BadInput, match="'forward' or 'reverse'"):
        skew_kl(direction="backward")
    with pytest.raises(BadInput, match="positive finite"):
        skew_kl(temperature=0)


def test_other_shapes_and_sparse_logits_are_refused(rng):
    """(B, 1) against (B, V) would broadcast."""
    student, teacher = pair(rng, B, V)
    with pytest.raises(ShapeMismatch):
        skew_kl()(student, teacher[:, :1])
    kept = top_k(teacher, 2)
    with pytest.raises(BadInput, match=r"top-k, but skew_kl\(forward\) is computed from all classes"):
        Match("logits", by=skew_kl())(Signals({"logits": student}), Signals({"logits": kept}), {})


def test_the_plain_function_is_the_maths_of_the_distance(rng):
    """Users compute it by hand in notebooks and must get the trained number."""
    student, teacher = pair(rng, B, V)
    ours = skew_kl(0.2, "reverse", 3.0, detach_mixture=True)(student, teacher)
    torch.testing.assert_close(skew_divergence(student, teacher, 0.2, 3.0, "reverse", True), ours)
