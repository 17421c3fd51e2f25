"""Feature distances against NumPy. Shapes: B=3, T=5, D=7, C=2, H=5, W=11."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from tutelage.errors import ShapeMismatch
from tutelage.objectives import Match, cosine, mse

B, T, D, C, H, W = 3, 5, 7, 2, 5, 11
SHAPES = {"vectors": (B, D), "tokens": (B, T, D), "maps": (B, C, H, W)}
each_shape = pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
each_distance = pytest.mark.parametrize("make", [mse, cosine])


def pair(rng, *shape):
    return torch.randn(2, *shape, dtype=torch.float64, generator=rng).unbind()


def by_loop(make, student, teacher):
    """One sample, or one token, at a time."""

    def one(s, t):
        s, t = s.ravel(), t.ravel()
        if make is mse:
            return np.mean((s - t) ** 2)
        return 1 - s @ t / (np.linalg.norm(s) * np.linalg.norm(t))

    s, t = student.numpy(), teacher.numpy()
    if s.ndim == 3:
        return np.array([[one(s[b, i], t[b, i]) for i in range(T)] for b in range(B)])
    return np.array([one(s[b], t[b]) for b in range(B)])


@each_shape
@each_distance
def test_feature_distances_equal_a_numpy_loop(rng, make, shape):
    """A mean over the wrong axes mixes samples, and masks and weights per sample lose their meaning."""
    student, teacher = pair(rng, *shape)
    values = make()(student, teacher)
    assert values.shape == (shape[:2] if len(shape) == 3 else shape[:1])
    np.testing.assert_allclose(values.numpy(), by_loop(make, student, teacher), rtol=1e-10)


@each_shape
@each_distance
def test_feature_distances_vanish_at_equality(rng, make, shape):
    """A student that has arrived must rest: no value, no gradient."""
    student, _ = pair(rng, *shape)
    own = student.clone().requires_grad_()
    values = make()(own, student)
    (gradient,) = torch.autograd.grad(values.sum(), own)
    torch.testing.assert_close(values, torch.zeros_like(values), atol=1e-12, rtol=0)
    torch.testing.assert_close(gradient, torch.zeros_like(gradient), atol=1e-12, rtol=0)


def test_mse_of_unit_vectors_is_two_over_width_times_cosine(rng):
    """The relation stated in both docstrings."""
    student, teacher = (F.normalize(x, dim=-1) for x in pair(rng, B, D))
    torch.testing.assert_close(mse()(student, teacher), 2 / D * cosine()(student, teacher))


def test_mse_is_half_the_hint_loss_per_element_up_to_its_factor(rng):
    """FitNets eq. 3 is half the sum of squares: the mean times D/2."""
    student, teacher = pair(rng, B, D)
    hint = np.array([0.5 * np.linalg.norm(s - t) ** 2 for s, t in zip(student.numpy(), teacher.numpy(), strict=True)])
    np.testing.assert_allclose(mse()(student, teacher).numpy() * D / 2, hint)


@each_shape
@pytest.mark.parametrize("scale", [1e-3, 1e3])
def test_cosine_ignores_positive_scales_and_counts_opposites_as_two(rng, shape, scale):
    """Length must not count, or a wider net's larger norms pull the student."""
    student, teacher = pair(rng, *shape)
    torch.testing.assert_close(cosine()(scale * student, teacher / scale), cosine()(student, teacher))
    opposite = cosine()(-scale * teacher, teacher)
    torch.testing.assert_close(opposite, torch.full_like(opposite, 2.0))


def test_mse_grows_with_the_square_of_the_scale(rng):
    """The loss of k times the features is k^2 times the loss."""
    student, teacher = pair(rng, B, T, D)
    torch.testing.assert_close(mse()(3 * student, 3 * teacher), 9 * mse()(student, teacher))


@each_shape
@pytest.mark.parametrize("zero", ["student", "teacher", "both"])
def test_cosine_with_a_zero_vector_is_one_and_its_gradient_finite(rng, shape, zero):
    """Dead units give zero features; 0/0 would end the run."""
    student, teacher = pair(rng, *shape)
    if zero != "teacher":
        student = torch.zeros_like(student)
    if zero != "student":
        teacher = torch.zeros_like(teacher)
    student.requires_grad_()
    values = cosine()(student, teacher)
    (gradient,) = torch.autograd.grad(values.sum(), student)
    torch.testing.assert_close(values, torch.ones_like(values))
    assert gradient.isfinite().all()


@each_distance
def test_large_and_constant_features_stay_finite(make):
    """Activations of 1e4 and constant maps occur in real nets."""
    student = torch.full((B, C, H, W), 1e4, requires_grad=True)
    values = make()(student, torch.full((B, C, H, W), -1e4))
    (gradient,) = torch.autograd.grad(values.sum(), student)
    assert values.isfinite().all()
    assert gradient.isfinite().all()


@pytest.mark.parametrize("shape", [(2, 3), (2, 3, 2), (2, 2, 3, 2)], ids=SHAPES.keys())
@each_distance
def test_gradients_are_exact_in_float64(rng, make, shape):
    """A gradient that is not that of the value trains something else."""
    student, teacher = pair(rng, *shape)
    assert torch.autograd.gradcheck(lambda s: make()(s, teacher), (student.requires_grad_(),))


@each_distance
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=["fp16", "bf16"])
def test_half_precision_features_are_raised(rng, make, dtype):
    """Squares overflow fp16 at 256."""
    student, teacher = ((300 * x).to(dtype) for x in pair(rng, B, D))
    values = make()(student, teacher)
    assert values.dtype == torch.float32
    assert values.isfinite().all()
    torch.testing.assert_close(values, make()(student.float(), teacher.float()))


@each_distance
@pytest.mark.parametrize(
    ("student_shape", "teacher_shape"),
    [((B, D), (B, 1)), ((B, 1), (B, D)), ((B, T, D), (B, 1, D)), ((B, T, D), (B, D)), ((B, C, H, W), (B, C, 1, 1)), ((B,), (B,))],
)
def test_shapes_that_would_broadcast_are_refused_with_the_way_out(make, student_shape, teacher_shape):
    """(B, T, D) against (B, 1, D) compares every token with the first, at a plausible loss."""
    with pytest.raises(ShapeMismatch, match="regressor"):
        make()(torch.zeros(student_shape), torch.zeros(teacher_shape))


@each_distance
def test_a_match_gives_the_teacher_no_gradient(rng, make):
    """The features of a frozen teacher must not move."""
    student, teacher = (x.requires_grad_() for x in pair(rng, B, D))
    Match("hidden", by=make())({"hidden": student}, {"hidden": teacher}, {}).backward()
    assert student.grad is not None
    assert teacher.grad is None


def test_cosine_of_a_right_angle_and_of_sixty_degrees():
    """Two angles that need no computer."""
    student = torch.tensor([[1.0, 0.0], [1.0, 0.0]], dtype=torch.float64)
    teacher = torch.tensor([[0.0, 2.0], [1.0, math.sqrt(3)]], dtype=torch.float64)
    torch.testing.assert_close(cosine()(student, teacher), torch.tensor([1.0, 0.5], dtype=torch.float64))
