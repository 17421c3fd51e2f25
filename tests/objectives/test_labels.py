"""Cross entropy with labels against loops. Shapes: B=3, T=5, V=7."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.special
import torch
from torch.nn import functional as F

from tutelage.errors import BadInput, ShapeMismatch
from tutelage.objectives import CrossEntropy, Match, soft_cross_entropy, soft_targets
from tutelage.objectives.labels import label_cross_entropy

B, T, V = 3, 5, 7


def logits(rng, *shape):
    return torch.randn(*shape, dtype=torch.float64, generator=rng)


def by_loop(logits_NV, y_N, smoothing=0.0):
    """One row at a time: -sum_v target_v log q_v."""
    rows = []
    for row, label in zip(logits_NV.numpy(), y_N.tolist(), strict=True):
        target = np.full(V, smoothing / V)
        target[label] += 1 - smoothing
        rows.append(-(target * scipy.special.log_softmax(row)).sum())
    return np.array(rows)


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.9])
def test_cross_entropy_equals_a_loop_with_and_without_smoothing(rng, smoothing):
    """The smoothed mass is spread over all classes, the right one included."""
    x, y = logits(rng, B, V), torch.tensor([0, 6, 3])
    (term,) = CrossEntropy(label_smoothing=smoothing).terms({"logits": x}, None, {"y": y})
    assert (term.name, term.over) == ("labels", "sample")
    np.testing.assert_allclose(term.values.numpy(), by_loop(x, y, smoothing), rtol=1e-10)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropy_takes_rows_that_sum_to_one(rng, smoothing):
    """Mixed labels arrive as rows; a class axis in the wrong place mixes samples."""
    x = logits(rng, B, V)
    y = torch.softmax(logits(rng, B, V), -1)
    target = (1 - smoothing) * y.numpy() + smoothing / V
    expected = -(target * scipy.special.log_softmax(x.numpy(), axis=1)).sum(1)
    np.testing.assert_allclose(label_cross_entropy(x, y, smoothing).numpy(), expected, rtol=1e-10)


def test_soft_rows_per_token_equal_a_loop(rng):
    """Soft labels with positions need the class axis moved on both sides."""
    x, y = logits(rng, B, T, V), torch.softmax(logits(rng, B, T, V), -1)
    values = label_cross_entropy(x, y)
    expected = [[-(y[b, t] * torch.log_softmax(x[b, t], 0)).sum().item() for t in range(T)] for b in range(B)]
    np.testing.assert_allclose(values.numpy(), expected, rtol=1e-10)


def test_rows_that_are_one_hot_equal_class_numbers(rng):
    """Both ways to write a label mean the same."""
    x, y = logits(rng, B, V), torch.tensor([1, 5, 2])
    torch.testing.assert_close(label_cross_entropy(x, F.one_hot(y, V).double(), 0.1), label_cross_entropy(x, y, 0.1))


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_ignored_labels_neither_weigh_nor_count(rng, smoothing):
    """A -100 that counts in the denominator shrinks the loss of half-labelled batches."""
    x, y = logits(rng, B, V).requires_grad_(), torch.tensor([4, -100, 1])
    loss = CrossEntropy(label_smoothing=smoothing)({"logits": x}, None, {"y": y})
    loss.backward()
    expected = by_loop(x.detach()[[0, 2]], y[[0, 2]], smoothing).mean()
    assert loss.item() == pytest.approx(expected)
    assert x.grad[1].abs().max() == 0
    assert x.grad[[0, 2]].abs().min() > 0


@pytest.mark.parametrize("shape", [(B,), (B, T)], ids=["samples", "tokens"])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_a_batch_without_any_label_gives_zero_with_zero_gradient(rng, shape, smoothing):
    """0/0 on an unlabelled batch would end a semi-supervised run."""
    x = logits(rng, *shape, V).requires_grad_()
    loss = CrossEntropy(label_smoothing=smoothing)({"logits": x}, None, {"y": torch.full(shape, -100)})
    loss.backward()
    assert loss.item() == 0
    assert x.grad.abs().max() == 0


def test_token_labels_take_a_mask_and_ignored_labels_together(rng):
    """The mean runs over tokens that are both unmasked and labelled."""
    x, y = logits(rng, B, T, V), torch.randint(0, V, (B, T), generator=rng)
    y[0, 1], y[2, 4] = -100, -100
    mask = torch.tensor([[1, 1, 1, 0, 0], [1, 1, 1, 1, 0], [0, 0, 0, 0, 1]]).bool()
    batch = {"y": y, "mask": mask}
    (term,) = CrossEntropy().terms({"logits": x}, None, batch)
    assert (term.over, term.values.shape) == ("token", (B, T))
    rows = [by_loop(x[b, t][None], y[b, t][None])[0] for b in range(B) for t in range(T) if mask[b, t] and y[b, t] != -100]
    assert len(rows) == 6
    assert CrossEntropy()({"logits": x}, None, batch).item() == pytest.approx(np.mean(rows))


def test_a_mask_of_samples_leaves_out_all_their_tokens(rng):
    """A sample that a batch masks must not come back through its tokens."""
    x, y = logits(rng, B, T, V), torch.randint(0, V, (B, T), generator=rng)
    mask = torch.tensor([True, False, True])
    rows = [by_loop(x[b, t][None], y[b, t][None])[0] for b in (0, 2) for t in range(T)]
    assert CrossEntropy()({"logits": x}, None, {"y": y, "mask": mask}).item() == pytest.approx(np.mean(rows))


def test_weights_in_the_mask_weigh_the_mean(rng):
    """A float mask is a weighted mean: sum of weight times loss over the sum of weights."""
    x, y, weights = logits(rng, B, V), torch.tensor([0, 6, 3]), torch.tensor([0.5, 0.0, 2.0])
    expected = np.average(by_loop(x, y), weights=weights.numpy())
    assert CrossEntropy()({"logits": x}, None, {"y": y, "mask": weights}).item() == pytest.approx(expected)


@pytest.mark.parametrize(
    "y",
    [
        torch.zeros(B, 1, dtype=torch.long),
        torch.zeros(1, dtype=torch.long),
        torch.zeros(B),
        torch.zeros(B, V, dtype=torch.long),
        torch.zeros(B, V + 1),
    ],
    ids=["(B,1)", "(1,)", "float (B,)", "integer rows", "too many classes"],
)
def test_labels_that_fit_no_row_are_refused(y):
    """(B, 1) labels broadcast in many losses and give a plausible number."""
    with pytest.raises(ShapeMismatch, match="labels of shape"):
        CrossEntropy()({"logits": torch.zeros(B, V)}, None, {"y": y})


def test_a_batch_without_labels_names_its_columns():
    """Cross entropy on unlabelled data is a wiring mistake."""
    with pytest.raises(BadInput, match=r"'y'.*\['id', 'x'\]"):
        CrossEntropy()({"logits": torch.zeros(B, V)}, None, {"id": torch.arange(B), "x": torch.zeros(B)})


@pytest.mark.parametrize("smoothing", [-0.1, 1.0, 1.5, math.nan])
def test_a_smoothing_outside_its_range_is_refused(smoothing):
    """At 1 the labels no longer count."""
    with pytest.raises(BadInput, match="label_smoothing"):
        CrossEntropy(label_smoothing=smoothing)


@pytest.mark.parametrize("distance", [soft_targets(1.0), soft_cross_entropy(1.0)], ids=["kl", "soft-ce"])
def test_cross_entropy_equals_a_match_with_a_teacher_that_is_certain_of_the_labels(rng, distance):
    """The stated relation, in value and gradient."""
    x, y = logits(rng, B, V).requires_grad_(), torch.tensor([1, 5, 2])
    certain = 1e4 * F.one_hot(y, V).double()
    hard = CrossEntropy()({"logits": x}, None, {"y": y})
    soft = Match("logits", by=distance)({"logits": x}, {"logits": certain}, {})
    torch.testing.assert_close(hard, soft)
    torch.testing.assert_close(torch.autograd.grad(hard, x), torch.autograd.grad(soft, x))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=["fp16", "bf16"])
def test_half_precision_logits_are_raised(rng, dtype):
    """A loss in bfloat16 stands still at three digits."""
    x, y = logits(rng, B, V).to(dtype), torch.tensor([1, 5, 2])
    values = label_cross_entropy(x, y)
    assert values.dtype == torch.float32
    torch.testing.assert_close(values, label_cross_entropy(x.float(), y))


def test_extreme_logits_give_finite_values_and_gradients():
    """A wrong label at 1e4 costs 2e4, not infinity."""
    x = torch.tensor([[1e4, -1e4, 0.0], [-1e4, -1e4, -1e4]], requires_grad=True)
    loss = CrossEntropy(label_smoothing=0.1)({"logits": x}, None, {"y": torch.tensor([1, 2])})
    loss.backward()
    assert loss.isfinite()
    assert x.grad.isfinite().all()


def test_gradients_are_exact_in_float64(rng):
    """A gradient that is not that of the value trains something else."""
    y = torch.tensor([[0, -100, 6], [1, 2, 3]])
    assert torch.autograd.gradcheck(lambda x: label_cross_entropy(x, y, 0.1), (logits(rng, 2, 3, V).requires_grad_(),))


def test_the_tap_and_the_name_can_be_chosen(rng):
    """Auxiliary heads have labels too, and a term of their own in the log."""
    objective = CrossEntropy("exit", name="early")
    assert objective.needs().student == {"exit"}
    assert objective.needs().teacher is None
    (term,) = objective.terms({"exit": logits(rng, B, V)}, None, {"y": torch.tensor([0, 1, 2])})
    assert term.name == "early"


@pytest.mark.parametrize("over", [None, "token", "sequence"])
def test_positions_are_averaged_over_tokens_or_sequences_as_asked(rng, over):
    """The two means weigh short sequences differently; samples stay samples."""
    x, y = logits(rng, B, T, V), torch.tensor([[0, 6, 3, 1, 2], [5, -100, -100, -100, -100], [-100] * 5])
    loss = CrossEntropy(over=over)
    (term,) = loss.terms({"logits": x}, None, {"y": y})
    assert term.over == (over or "token")
    rows = [by_loop(x[i][y[i] >= 0], y[i][y[i] >= 0]) for i in (0, 1)]
    expected = np.mean([r.mean() for r in rows]) if over == "sequence" else np.concatenate(rows).mean()
    np.testing.assert_allclose(loss({"logits": x}, None, {"y": y}).item(), expected)
    assert CrossEntropy(over=over).terms({"logits": x[:, 0]}, None, {"y": y[:, 0]})[0].over == "sample"
    with pytest.raises(BadInput, match="'token' or 'sequence'"):
        CrossEntropy(over="words")
