"""Terms, their reductions, and the algebra of objectives, against loops. Shapes: B=3, T=5, V=7."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from tutelage.errors import BadInput, ShapeMismatch
from tutelage.objectives import CrossEntropy, Match, Needs, Objective, Term, count_of, mean_of, mse, regressor, soft_targets, sum_of
from tutelage.signals import Depth
from tutelage.state import Clock, linear_ramp

B, T, V = 3, 5, 7
MASK_BT = torch.tensor([[1, 1, 1, 0, 0], [0, 0, 0, 0, 0], [0, 1, 0, 0, 0]]).bool()
WEIGHTS_BT = torch.tensor([[0.5, 2.0, 0, 0, 0.25], [0, 0, 0, 0, 0], [0, 0.125, 0, 0, 0]], dtype=torch.float64)


def values_like(rng, *shape):
    return torch.randn(shape, dtype=torch.float64, generator=rng)


def loop(values, mask, over):
    """Sum, count and mean with plain loops over what is not masked."""
    values = np.atleast_2d(values.numpy().T).T  # samples as rows of one token
    weights = np.ones_like(values) if mask is None else np.atleast_2d(mask.double().numpy().T).T
    if over == "sequence":
        rows = [np.average(v, weights=w) for v, w in zip(values, weights, strict=True) if w.sum() > 0]
        return sum(rows), len(rows)
    return float((values * weights).sum()), float(weights.sum())


@pytest.mark.parametrize("mask", [None, "bool", "integer", "weights"])
@pytest.mark.parametrize(("over", "shape"), [("sample", (B,)), ("token", (B, T)), ("token", (B,)), ("sequence", (B, T))])
def test_sums_counts_and_means_equal_a_loop(rng, over, shape, mask):
    """The loop adds sums and counts over micro-batches and processes; either being off scales the loss."""
    values = values_like(rng, *shape)
    chosen = {None: None, "bool": MASK_BT, "integer": MASK_BT.long(), "weights": WEIGHTS_BT}[mask]
    if chosen is not None and len(shape) == 1:
        chosen = chosen[:, 1]
    total, count = loop(values, chosen, over)
    term = Term("x", values, over, chosen)
    assert float(sum_of(term)) == pytest.approx(total)
    assert float(count_of(term)) == pytest.approx(count)
    assert float(mean_of(term)) == pytest.approx(total / count)


def test_a_batch_term_is_its_own_sum(rng):
    """A value that cannot be taken apart has nothing to be divided by."""
    term = Term("x", values_like(rng), "batch")
    assert sum_of(term) is term.values
    assert count_of(term) == 1
    assert mean_of(term) == term.values


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("over", ["sample", "token", "sequence"])
def test_masked_values_do_not_enter_even_where_they_are_not_finite(rng, over, bad):
    """Padding gives NaN in many models; 0 * NaN is NaN, in the value and in the gradient."""
    clean = values_like(rng, B, T)[:, 0] if over == "sample" else values_like(rng, B, T)
    mask = MASK_BT[:, 1] if over == "sample" else MASK_BT
    dirty = clean.masked_fill(~mask, bad).requires_grad_()
    loss = mean_of(Term("x", dirty, over, mask))
    loss.backward()
    assert loss.item() == pytest.approx(mean_of(Term("x", clean, over, mask)).item())
    assert dirty.grad.isfinite().all()
    assert dirty.grad[~mask].abs().max() == 0
    assert dirty.grad[mask].abs().min() > 0


@pytest.mark.parametrize(("over", "shape"), [("sample", (B,)), ("token", (B, T)), ("sequence", (B, T))])
def test_a_fully_masked_term_is_zero_with_zero_gradient(rng, over, shape):
    """A batch without an answer token must not end the run by 0/0."""
    values = values_like(rng, *shape).requires_grad_()
    loss = mean_of(Term("x", values, over, torch.zeros(shape, dtype=torch.bool)))
    loss.backward()
    assert loss.item() == 0
    assert values.grad.abs().max() == 0


def test_gradient_of_a_sequence_mean_is_one_over_sequences_times_tokens(rng):
    """Each sequence weighs the same however long it is; a token mean would let long ones rule."""
    values = values_like(rng, B, T).requires_grad_()
    mean_of(Term("x", values, "sequence", MASK_BT)).backward()
    expected = torch.zeros(B, T, dtype=torch.float64)
    expected[0, :3], expected[2, 1] = 1 / (2 * 3), 1 / 2
    torch.testing.assert_close(values.grad, expected)


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**B * 2**T - 1), st.sampled_from(["sample", "token", "sequence"]), st.integers(0, B))
def test_sums_and_counts_add_up_over_any_cut_of_the_batch(bits, over, cut):
    """The whole point of terms: accumulation and processes must not change the mean."""
    values = torch.arange(B * T, dtype=torch.float64).reshape(B, T) + 1
    mask = torch.tensor([[(bits >> (b + t)) & 1 for t in range(T)] for b in range(B)]).bool()
    if over == "sample":
        values, mask = values[:, 0], mask[:, 0]
    parts = [Term("x", values[s], over, mask[s]) for s in (slice(cut), slice(cut, None))]
    whole = Term("x", values, over, mask)
    assert sum(float(sum_of(p)) for p in parts) == pytest.approx(float(sum_of(whole)))
    assert sum(float(count_of(p)) for p in parts) == pytest.approx(float(count_of(whole)))


@pytest.mark.parametrize(
    ("over", "shape"),
    [("sample", (B, T)), ("sample", ()), ("token", (B, T, V)), ("token", ()), ("sequence", (B,)), ("batch", (B,))],
)
def test_values_that_do_not_fit_their_mean_are_refused(over, shape):
    """(B, V) values called samples would be a mean over classes too."""
    with pytest.raises(ShapeMismatch, match="'x' has values"):
        Term("x", torch.zeros(shape), over)


def test_a_mask_of_another_shape_is_refused():
    """A (B, 1) mask against (B, T) values broadcasts and counts wrongly."""
    with pytest.raises(ShapeMismatch, match="mask"):
        Term("x", torch.zeros(B, T), "token", torch.ones(B, 1))


class Fixed(Objective):
    """Gives what it was told to."""

    def __init__(self, name="fixed", values=(1.0, 2.0, 6.0), taps=("logits",), teacher=None):
        super().__init__()
        self.name, self.values, self.taps, self.teacher_taps = name, torch.tensor(values, dtype=torch.float64), taps, teacher

    def needs(self):
        return Needs(frozenset(self.taps), None if self.teacher_taps is None else frozenset(self.teacher_taps))

    def terms(self, student, teacher, batch):
        return [Term(self.name, self.values)]


def weights(objective):
    return {t.name: t.weight for t in objective.terms({}, None, {})}


def test_forward_is_the_weighted_sum_of_the_means():
    """The scalar for notebooks must be the number that the loop trains."""
    loss = 0.25 * Fixed("a") + 2 * Fixed("b", (1.0, 4.0, 4.0)).named("c") + Fixed("d")
    assert loss({}, None, {}).item() == pytest.approx(0.25 * 3 + 2 * 3 + 3)


def test_forward_equals_the_hand_computed_mix_of_labels_and_soft_targets(rng):
    """The hinton-kd loss as a user would write it."""
    student, teacher, y = values_like(rng, B, V), values_like(rng, B, V), torch.tensor([1, 5, 2])
    loss = 0.1 * CrossEntropy() + 0.9 * Match("logits", by=soft_targets(4.0))
    p, q = (torch.softmax(x / 4, 1) for x in (teacher, student))
    kl = 16 * (p * (p / q).log()).sum(1).mean()
    ce = -torch.log_softmax(student, 1)[torch.arange(B), y].mean()
    torch.testing.assert_close(loss({"logits": student}, {"logits": teacher}, {"y": y}), 0.1 * ce + 0.9 * kl)


def test_weights_multiply_through_sums_and_nesting():
    """A factor lost in nesting changes the mix without a trace."""
    loss = 0.5 * (2 * Fixed("a") + 3 * (4 * Fixed("b") + Fixed("c"))) + Fixed("d") * 7
    assert weights(loss) == {"a": 1.0, "b": 6.0, "c": 1.5, "d": 7}


def test_sum_of_a_list_is_the_sum_by_plus():
    """Python's `sum` starts from 0."""
    loss = sum([Fixed("a"), Fixed("b"), 2 * Fixed("c")])
    assert weights(loss) == {"a": 1.0, "b": 1.0, "c": 2.0}
    assert loss({}, None, {}).item() == pytest.approx(12.0)


def test_leaves_are_in_order_and_carry_the_names_of_the_terms():
    """The log, the counts and the shares are keyed by leaf; one missing leaf is one term not counted."""
    loss = Fixed("a") + 0.5 * (Fixed("b").named("c") + Fixed("d")) + Fixed("e")
    names = [leaf.name for leaf in loss.leaves()]
    assert names == ["a", "c", "d", "e"]
    assert names == [t.name for t in loss.terms({}, None, {})]


def test_two_terms_of_one_name_are_refused_with_the_way_out():
    """One would overwrite the other in the log."""
    with pytest.raises(BadInput, match=r"'a'.*\.named"):
        Fixed("a") + 2 * Fixed("a")
    with pytest.raises(BadInput, match="'b'"):
        (Fixed("a") + Fixed("b")) + (Fixed("c") + Fixed("d").named("b"))
    assert weights(Fixed("a") + Fixed("a").named("again")) == {"a": 1.0, "again": 1.0}


def test_a_sum_cannot_be_named():
    """Its terms would all carry one name."""
    with pytest.raises(BadInput, match="one term"):
        (Fixed("a") + Fixed("b")).named("both")


def test_a_weight_inside_a_name_is_kept():
    """`(2 * a).named("b")` must still weigh 2."""
    assert weights((2 * Fixed("a")).named("b")) == {"b": 2.0}


def test_a_controller_may_be_a_weight_inside_other_weights():
    """An annealed weight must be read anew at each step."""
    ramp = linear_ramp(4.0, 1.0)
    loss = 0.5 * (ramp * Fixed("a") + Fixed("b") * ramp)
    ramp.open()
    for step, value in ((0, 4.0), (1, 2.5), (2, 1.0)):
        ramp.begin(Clock("s", step, 3, 0, 1, 0))
        assert weights(loss) == {"a": 0.5 * value, "b": 0.5 * value}


@pytest.mark.parametrize("weight", [math.nan, math.inf])
def test_a_weight_that_is_not_finite_is_refused(weight):
    """It would be found at the first step, after everything was loaded."""
    with pytest.raises(BadInput, match="not finite"):
        weight * Fixed("a")


@pytest.mark.parametrize("other", ["2", None, torch.ones(2)])
def test_only_numbers_controllers_and_objectives_take_part_in_the_algebra(other):
    """A silent None from a missing return would make a loss of nothing."""
    with pytest.raises(TypeError):
        Fixed("a") + other
    if not isinstance(other, torch.Tensor):
        with pytest.raises(TypeError):
            other * Fixed("a")


def test_needs_are_the_union_over_the_parts():
    """A tap left out would not be read in the one pass of the step."""
    loss = Fixed("a", taps=("logits",)) + 2 * Fixed("b", taps=("h", Depth(0.5)), teacher=("t",)).named("c") + CrossEntropy()
    assert loss.needs() == Needs(frozenset({"logits", "h", Depth(0.5)}), frozenset({"t"}))
    assert (Fixed("a") + Fixed("b")).needs().teacher is None
    assert (Fixed("a") + Fixed("b", teacher=())).needs().teacher == frozenset()


def test_build_reaches_connectors_under_weights_names_and_sums():
    """An unbuilt connector has no parameters for the optimizer."""
    loss = CrossEntropy() + 0.5 * Match("h", by=mse(), through=regressor()).named("hint")
    loss.build({"h": torch.Size((B, 2))}, {"h": torch.Size((B, 7))})
    (linear,) = [m for m in loss.modules() if isinstance(m, nn.Linear)]
    assert (linear.in_features, linear.out_features) == (2, 7)
    assert len(list(loss.parameters())) == 2


def test_the_mask_of_a_leaf_is_seen_through_names_and_weights():
    """Counts are taken before the passes from the leaf's mask."""
    y = torch.tensor([1, -100, 2])
    (leaf,) = (2 * CrossEntropy()).named("x").leaves()
    assert leaf.mask({"y": y}).tolist() == [True, False, True]


def test_an_objective_that_lacks_its_methods_says_which():
    """The error a researcher meets first when writing an own objective."""
    with pytest.raises(NotImplementedError, match="Objective must say which taps"):
        Objective().needs()
    with pytest.raises(NotImplementedError, match="must give terms"):
        Objective().terms({}, None, {})
