"""Few levels against loops in NumPy, and straight-through gradients against what they are by definition."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tutelage.errors import BadInput
from tutelage.students.quantisers import BITS, coded, quantised_activation, quantised_weight, straight_through


def weights(seed, shape=(5, 7), scale=0.1):
    return scale * torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def ternary_by_loop(w):
    m = np.abs(w).mean()
    beyond = [abs(v) for v in w.flat if abs(v) > 0.7 * m]
    s = sum(beyond) / len(beyond) if beyond else 0.0
    return np.array([[s * np.sign(v) if abs(v) > 0.7 * m else 0.0 for v in row] for row in w])


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 1000), scale=st.floats(1e-3, 2))
def test_ternary_weights_are_those_of_the_paper(seed, scale):
    """Threshold 0.7 of the mean size; the scale is the mean of what is beyond."""
    w = weights(seed, scale=scale)
    np.testing.assert_allclose(quantised_weight(w, "ternary").numpy(), ternary_by_loop(w.numpy()), rtol=1e-12)
    by_row = np.concatenate([ternary_by_loop(row[None]) for row in w.numpy()])
    np.testing.assert_allclose(quantised_weight(w, "ternary", rows=True).numpy(), by_row, rtol=1e-12)
    assert quantised_weight(w, "ternary").unique().numel() <= 3


@pytest.mark.parametrize("levels", list(BITS))
@pytest.mark.parametrize("rows", [False, True])
def test_levels_of_levels_are_themselves(levels, rows):
    """What is packed and unpacked may be quantised once more and stays as it is."""
    w = weights(1)
    once = quantised_weight(w, levels, rows=rows)
    torch.testing.assert_close(quantised_weight(once, levels, rows=rows), once)


@pytest.mark.parametrize("levels", list(BITS))
def test_a_weight_of_one_size_is_itself_and_zeros_stay_finite(levels):
    """No weight passes a threshold of zero; a division by their number is not a number."""
    w = 0.3 * weights(2).sign()
    torch.testing.assert_close(quantised_weight(w, levels), w)
    zeros = torch.zeros(4, 3, requires_grad=True)
    for rows in (False, True):
        shown = quantised_weight(zeros, levels, rows=rows)
        assert torch.equal(shown, torch.zeros(4, 3))
    shown.sum().backward()
    assert torch.equal(zeros.grad, torch.ones(4, 3))
    assert torch.equal(quantised_activation(torch.zeros(2, 3)), torch.zeros(2, 3))


@pytest.mark.parametrize("levels", ["int4", "int8"])
def test_steps_are_even_and_no_value_is_moved_by_more_than_half_of_one(levels):
    """Uniform levels around 0."""
    w = weights(3)
    codes, scale = coded(w, levels)
    most = 2 ** (BITS[levels] - 1) - 1
    assert codes.abs().max() == most
    torch.testing.assert_close(scale, w.abs().max()[None, None] / most)
    assert (codes * scale - w).abs().max() <= scale / 2 + 1e-12


@pytest.mark.parametrize("levels", list(BITS))
def test_the_gradient_goes_straight_through_inside_the_clip_and_nowhere_outside(levels):
    """By definition: identity inside, zero outside."""
    w = torch.tensor([[0.5, -2.4, 2.6], [-3.0, 2.5, -0.1]], dtype=torch.float64, requires_grad=True)
    upstream = weights(4, (2, 3))
    quantised_weight(w, levels).backward(upstream)
    assert torch.equal(w.grad, upstream * torch.tensor([[1, 1, 0], [0, 1, 1]]))


def test_a_straight_through_of_itself_has_the_gradients_of_autograd():
    """Shown in place of itself, a tensor changes nothing: gradients can be checked by finite differences."""
    x = weights(5).requires_grad_()
    assert torch.autograd.gradcheck(lambda t: straight_through(t, t).square(), x)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000), scale=st.floats(1e-3, 100))
def test_activations_are_rounded_by_their_own_largest_value(seed, scale):
    """A sample gives the same alone and in a batch, padded or not."""
    x = weights(seed, (3, 4, 6), scale).requires_grad_()
    shown = quantised_activation(x)
    step = x.abs().amax(-1, keepdim=True) / 127
    assert ((shown - x).abs() <= step / 2 * (1 + 1e-9)).all()
    torch.testing.assert_close(quantised_activation(x[1:2, :2]), shown[1:2, :2])
    shown.sum().backward()
    assert torch.equal(x.grad, torch.ones_like(x))


def test_unknown_levels_and_bits_are_refused():
    """Names those that are known."""
    with pytest.raises(BadInput, match="ternary, binary, int4, int8"):
        coded(torch.ones(2, 2), "int3")
    for bits in (1, 9):
        with pytest.raises(BadInput, match="2 to 8"):
            quantised_activation(torch.ones(2), bits)
