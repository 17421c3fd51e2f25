"""Temperature KL, soft cross entropy and Jensen-Shannon against SciPy, their limits, invariances and edges. Shapes: B=3, T=5, V=7."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.spatial
import scipy.special
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from tutelage.errors import BadInput, ShapeMismatch
from tutelage.objectives import Match, jensen_shannon, soft_cross_entropy, soft_targets
from tutelage.objectives.logits import js_divergence, kl_divergence, soft_ce
from tutelage.state import Clock, linear_ramp

B, T, V = 3, 5, 7
DISTANCES = {
    "forward": lambda t: soft_targets(t),
    "reverse": lambda t: soft_targets(t, direction="reverse"),
    "soft-ce": lambda t: soft_cross_entropy(t),
    "plain-soft-ce": lambda t: soft_cross_entropy(t, scaled=False),
    "js": lambda t: jensen_shannon(0.5, t),
    "skewed-js": lambda t: jensen_shannon(0.2, t),
}
each_distance = pytest.mark.parametrize("make", DISTANCES.values(), ids=DISTANCES.keys())


def pair(rng, *shape, scale=2.0):
    return (scale * torch.randn(2, *shape, dtype=torch.float64, generator=rng)).unbind()


def mixed(p, q, beta):
    """The divergence from the mixture, as it is defined."""
    m = beta * p + (1 - beta) * q
    return beta * scipy.stats.entropy(p, m) + (1 - beta) * scipy.stats.entropy(q, m)


def by_loop(name, student, teacher, temperature):
    """One row at a time, with SciPy's softmax and entropy."""
    rows = []
    for s, t in zip(student.reshape(-1, V).numpy(), teacher.reshape(-1, V).numpy(), strict=True):
        q, p = scipy.special.softmax(s / temperature), scipy.special.softmax(t / temperature)
        rows.append(
            {
                "forward": lambda p=p, q=q: temperature**2 * scipy.stats.entropy(p, q),
                "reverse": lambda p=p, q=q: temperature**2 * scipy.stats.entropy(q, p),
                "soft-ce": lambda p=p, q=q: temperature**2 * -sum(p[v] * math.log(q[v]) for v in range(V)),
                "plain-soft-ce": lambda p=p, q=q: -sum(p[v] * math.log(q[v]) for v in range(V)),
                "js": lambda p=p, q=q: temperature**2 * scipy.spatial.distance.jensenshannon(p, q) ** 2,
                "skewed-js": lambda p=p, q=q: temperature**2 * mixed(p, q, 0.2),
            }[name]()
        )
    return np.array(rows).reshape(student.shape[:-1])


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
@pytest.mark.parametrize("shape", [(B, V), (B, T, V)], ids=["rows", "positions"])
@pytest.mark.parametrize("name", DISTANCES)
def test_distances_equal_a_scipy_loop_over_rows(rng, name, shape, temperature):
    """A mean over classes instead of a sum, swapped sides or a forgotten T^2 would change the loss's weight unnoticed."""
    student, teacher = pair(rng, *shape)
    values = DISTANCES[name](temperature)(student, teacher)
    assert values.shape == shape[:-1]
    np.testing.assert_allclose(values.numpy(), by_loop(name, student, teacher, temperature), rtol=1e-10)


@pytest.mark.parametrize("direction", ["forward", "reverse"])
def test_kl_and_its_gradient_vanish_at_equality_and_under_a_constant_per_row(rng, direction):
    """A student that already agrees would otherwise be pushed away again."""
    student, teacher = pair(rng, B, V)
    for same in (teacher, teacher + student[:, :1]):
        own = same.clone().requires_grad_()
        values = soft_targets(3.0, direction)(own, teacher)
        (gradient,) = torch.autograd.grad(values.sum(), own)
        torch.testing.assert_close(values, torch.zeros(B, dtype=torch.float64), atol=1e-12, rtol=0)
        torch.testing.assert_close(gradient, torch.zeros_like(gradient), atol=1e-12, rtol=0)


@each_distance
def test_distances_ignore_a_constant_added_to_a_row(rng, make):
    """Logits mean the same up to a constant; a loss that saw it would spend the student's capacity on it."""
    student, teacher = pair(rng, B, V)
    shift = torch.randn(B, 1, dtype=torch.float64, generator=rng)
    torch.testing.assert_close(make(2.0)(student + shift, teacher - 3 * shift), make(2.0)(student, teacher))


@pytest.mark.parametrize("temperature", [1.0, 4.0])
@pytest.mark.parametrize("make", [soft_targets, soft_cross_entropy], ids=["kl", "soft-ce"])
def test_gradient_on_the_student_is_temperature_times_the_gap_of_probabilities(rng, make, temperature):
    """Without the T^2 factor the gradient shrinks with the temperature and the label term takes over."""
    student, teacher = pair(rng, B, V)
    student.requires_grad_()
    (gradient,) = torch.autograd.grad(make(temperature)(student, teacher).sum(), student)
    q = scipy.special.softmax(student.detach().numpy() / temperature, axis=1)
    p = scipy.special.softmax(teacher.numpy() / temperature, axis=1)
    np.testing.assert_allclose(gradient.numpy(), temperature * (q - p), atol=1e-12)


@pytest.mark.parametrize("direction", ["forward", "reverse"])
def test_soft_targets_tends_to_half_the_mean_square_of_centred_logit_gaps_as_temperature_grows(rng, direction):
    """Hinton's limit (section 2.1): a wrong power of T would vanish or explode here."""
    student, teacher = pair(rng, B, V)
    gap = (student - teacher).numpy()
    centred = gap - gap.mean(1, keepdims=True)
    values = soft_targets(1e4, direction)(student, teacher)
    np.testing.assert_allclose(values.numpy(), (centred**2).sum(1) / (2 * V), rtol=1e-3)


@pytest.mark.parametrize("make", [soft_targets, soft_cross_entropy], ids=["kl", "soft-ce"])
def test_a_certain_teacher_at_temperature_one_gives_cross_entropy_on_its_choice(rng, make):
    """Guards the roles of the two sides: swapped, a certain teacher gives an infinite loss."""
    student, teacher = pair(rng, B, V)
    expected = F.cross_entropy(student, teacher.argmax(-1), reduction="none")
    torch.testing.assert_close(make(1.0)(student, 1e6 * teacher), expected)


@each_distance
def test_distances_do_not_depend_on_the_order_of_classes(rng, make):
    """A reduction over the wrong axis passes on square inputs only."""
    student, teacher = pair(rng, B, T, V)
    order = torch.randperm(V, generator=rng)
    torch.testing.assert_close(make(2.0)(student[..., order], teacher[..., order]), make(2.0)(student, teacher))


@each_distance
def test_positions_are_rows_of_their_own(rng, make):
    """A token's loss must not depend on its neighbours, or masks leak."""
    student, teacher = pair(rng, B, T, V)
    torch.testing.assert_close(make(2.0)(student, teacher), make(2.0)(student.reshape(B * T, V), teacher.reshape(B * T, V)).reshape(B, T))


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_soft_cross_entropy_is_soft_targets_plus_the_teachers_entropy(rng, temperature):
    """The stated relation: the two may replace each other, with the same gradient."""
    student, teacher = pair(rng, B, V)
    student.requires_grad_()
    kl, ce = soft_targets(temperature)(student, teacher), soft_cross_entropy(temperature)(student, teacher)
    entropy = scipy.stats.entropy(scipy.special.softmax(teacher.numpy() / temperature, axis=1), axis=1)
    np.testing.assert_allclose((ce - kl).detach().numpy(), temperature**2 * entropy, rtol=1e-10)
    torch.testing.assert_close(torch.autograd.grad(kl.sum(), student), torch.autograd.grad(ce.sum(), student))


@pytest.mark.parametrize("beta", [0.1, 0.5, 0.9])
def test_jensen_shannon_vanishes_at_equality_and_stays_below_the_entropy_of_its_shares(rng, beta):
    """The bound is what makes it safe where the student rules out what the teacher expects."""
    student, teacher = pair(rng, B, V)
    most = -beta * math.log(beta) - (1 - beta) * math.log(1 - beta)
    own = teacher.clone().requires_grad_()
    values = jensen_shannon(beta)(own, teacher)
    torch.testing.assert_close(values, torch.zeros(B, dtype=torch.float64), atol=1e-12, rtol=0)
    torch.testing.assert_close(torch.autograd.grad(values.sum(), own)[0], torch.zeros(B, V, dtype=torch.float64), atol=1e-12, rtol=0)
    assert ((jensen_shannon(beta)(student, teacher) > 0) & (jensen_shannon(beta)(student, teacher) < most)).all()
    apart = jensen_shannon(beta)(torch.tensor([[1e4, 0.0, 0.0]]), torch.tensor([[0.0, 1e4, 0.0]]))
    assert apart.item() == pytest.approx(most)


def test_jensen_shannon_is_symmetric_at_a_half_and_swaps_its_shares_elsewhere(rng):
    """The teacher's share taken for the student's trains towards the other KL."""
    student, teacher = pair(rng, B, V)
    torch.testing.assert_close(jensen_shannon(0.5)(student, teacher), jensen_shannon(0.5)(teacher, student))
    torch.testing.assert_close(jensen_shannon(0.2)(student, teacher), jensen_shannon(0.8)(teacher, student))
    assert not torch.allclose(jensen_shannon(0.2)(student, teacher), jensen_shannon(0.8)(student, teacher))


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_jensen_shannon_tends_to_either_kl_by_its_share(rng, temperature):
    """The stated limits, in value and gradient."""
    student, teacher = pair(rng, B, V)
    student.requires_grad_()
    for beta, share, direction in ((1e-6, 1e-6, "forward"), (1 - 1e-6, 1e-6, "reverse")):
        limit = soft_targets(temperature, direction)(student, teacher)
        values = jensen_shannon(beta, temperature)(student, teacher) / share
        torch.testing.assert_close(values, limit, rtol=1e-3, atol=1e-8)
        torch.testing.assert_close(*(torch.autograd.grad(v.sum(), student)[0] for v in (values, limit)), rtol=1e-2, atol=1e-5)


@pytest.mark.parametrize("beta", [0, 1, 0.0, 1.0, -0.1, 1.5, math.nan, True, "half", None])
def test_shares_that_are_no_part_of_a_mixture_are_refused(beta):
    """At either end the divergence is 0 everywhere, and nothing would be learned."""
    with pytest.raises(BadInput, match="teacher's share in the mixture"):
        jensen_shannon(beta)


def test_the_share_may_be_a_controller(rng):
    """From one KL to the other while training."""
    student, teacher = pair(rng, B, V)
    ramp = linear_ramp(0.1, 0.9)
    distance = jensen_shannon(ramp)
    assert distance.knobs["beta"] is ramp
    ramp.open()
    for step, beta in ((0, 0.1), (1, 0.5), (2, 0.9)):
        ramp.begin(Clock("s", step, 3, 0, 1, 0))
        torch.testing.assert_close(distance(student, teacher), jensen_shannon(beta)(student, teacher))


def test_reverse_is_forward_with_the_sides_swapped(rng):
    """Mode seeking and mass covering are the whole difference; mixing them up trains another method."""
    student, teacher = pair(rng, B, V)
    torch.testing.assert_close(soft_targets(2.0, "reverse")(student, teacher), soft_targets(2.0)(teacher, student))
    assert not torch.allclose(soft_targets(2.0, "reverse")(student, teacher), soft_targets(2.0)(student, teacher))


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.floats(-30, 30), min_size=2 * V, max_size=2 * V),
    st.floats(0.1, 50),
    st.sampled_from(["forward", "reverse"]),
)
def test_soft_targets_is_never_negative(numbers, temperature, direction):
    """A negative divergence would let the student gain by leaving the teacher."""
    student, teacher = torch.tensor(numbers, dtype=torch.float64).reshape(2, 1, V)
    assert soft_targets(temperature, direction)(student, teacher).item() >= -1e-9 * temperature**2


@each_distance
@pytest.mark.parametrize("shape", [(B, V), (2, 2, V)], ids=["rows", "positions"])
def test_gradients_are_exact_in_float64(rng, make, shape):
    """A float32 cast inside, or a detached piece, gives a gradient that is not that of the value."""
    student, teacher = pair(rng, *shape)
    assert torch.autograd.gradcheck(lambda s: make(3.0)(s, teacher), (student.requires_grad_(),))


@each_distance
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
@pytest.mark.parametrize("temperature", [0.5, 1.0, 8.0])
@pytest.mark.parametrize("student_sign", [1, -1], ids=["agreeing", "opposed"])
def test_extreme_logits_give_finite_values_and_gradients(make, dtype, temperature, student_sign):
    """Probabilities that underflow to 0 must add 0, not 0 * -inf: one NaN row ends a run."""
    teacher = torch.tensor([[1e4, -1e4, 0.0], [-1e4, -1e4, -1e4]], dtype=dtype)
    student = (student_sign * teacher).requires_grad_()
    values = make(temperature)(student, teacher)
    (gradient,) = torch.autograd.grad(values.sum(), student)
    assert values.isfinite().all()
    assert gradient.isfinite().all()


@each_distance
def test_one_class_gives_zero_with_zero_gradient(make):
    """A task with a single class is degenerate, not an error."""
    student, teacher = torch.tensor([[2.0], [-3.0]], requires_grad=True), torch.tensor([[5.0], [1.0]])
    values = make(2.0)(student, teacher)
    (gradient,) = torch.autograd.grad(values.sum(), student)
    assert values.tolist() == [0.0, 0.0]
    assert gradient.abs().max() == 0


@each_distance
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=["fp16", "bf16"])
def test_half_precision_logits_are_raised(rng, make, dtype):
    """In bfloat16 the differences of log-probabilities have three digits, and a KL comes out as noise."""
    student, teacher = (x.to(dtype) for x in pair(rng, B, V))
    values = make(4.0)(student, teacher)
    assert values.dtype == torch.float32
    torch.testing.assert_close(values, make(4.0)(student.float(), teacher.float()))


def test_a_float32_student_against_a_float64_teacher_is_computed_in_float64(rng):
    """The common precision, so that neither side loses digits."""
    student, teacher = pair(rng, B, V)
    assert soft_targets(2.0)(student.float(), teacher).dtype == torch.float64


@each_distance
@pytest.mark.parametrize(
    ("student_shape", "teacher_shape"),
    [((B,), (B, V)), ((B, 1), (B, V)), ((B, V), (B, V + 1)), ((B, V), (1, V)), ((B, T, V), (B, V)), ((B,), (B,))],
)
def test_shapes_that_would_broadcast_are_refused(make, student_shape, teacher_shape):
    """(B, 1) against (B, V) broadcasts to a plausible loss that teaches nothing."""
    with pytest.raises(ShapeMismatch, match="shape"):
        make(2.0)(torch.zeros(student_shape), torch.zeros(teacher_shape))


@pytest.mark.parametrize("temperature", [0, 0.0, -1.0, math.nan, math.inf, -math.inf, True, "4", None])
@pytest.mark.parametrize("make", [soft_targets, soft_cross_entropy, lambda t: jensen_shannon(0.5, t)])
def test_temperatures_that_are_no_positive_finite_number_are_refused(make, temperature):
    """Temperature 0 divides by zero only after the data has been loaded."""
    with pytest.raises(BadInput, match="positive finite"):
        make(temperature)


def test_an_unknown_direction_is_refused():
    """A typing error must not fall back to the other direction."""
    with pytest.raises(BadInput, match="'forward' or 'reverse'"):
        soft_targets(1.0, direction="backward")


@pytest.mark.parametrize("make", [soft_targets, soft_cross_entropy], ids=["kl", "soft-ce"])
def test_a_temperature_may_be_a_controller(rng, make):
    """The distance must read the controller anew at each step, not once when it is made."""
    student, teacher = pair(rng, B, V)
    ramp = linear_ramp(2.0, 6.0)
    distance = make(ramp)
    ramp.open()
    for step, temperature in ((0, 2.0), (1, 4.0), (2, 6.0)):
        ramp.begin(Clock("s", step, 3, 0, 1, 0))
        torch.testing.assert_close(distance(student, teacher), make(temperature)(student, teacher))


def test_the_controller_is_a_visible_knob():
    """A stage finds controllers by walking the knobs; a hidden one is never begun nor saved."""
    ramp = linear_ramp(4.0, 1.0)
    assert soft_targets(ramp).knobs["temperature"] is ramp
    assert soft_cross_entropy(ramp).knobs["temperature"] is ramp
    assert jensen_shannon(0.5, ramp).knobs["temperature"] is ramp


@each_distance
def test_a_match_gives_the_teacher_no_gradient(rng, make):
    """A teacher that gets gradients is dragged towards the student."""
    student, teacher = (x.requires_grad_() for x in pair(rng, B, V))
    Match("logits", by=make(2.0))({"logits": student}, {"logits": teacher}, {}).backward()
    assert student.grad is not None
    assert teacher.grad is None


def test_the_plain_functions_are_the_maths_of_the_distances(rng):
    """Users compute them by hand in notebooks and must get the trained number."""
    student, teacher = pair(rng, B, V)
    torch.testing.assert_close(kl_divergence(student, teacher, 3.0, "reverse"), soft_targets(3.0, "reverse")(student, teacher))
    torch.testing.assert_close(js_divergence(student, teacher, 0.2, 3.0), jensen_shannon(0.2, 3.0)(student, teacher))
    torch.testing.assert_close(soft_ce(student, teacher, 3.0, scaled=False), soft_cross_entropy(3.0, scaled=False)(student, teacher))
