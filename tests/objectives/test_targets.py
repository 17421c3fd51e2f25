"""Targets and weights that a teacher's confidence gives."""

from __future__ import annotations

import itertools

import pytest
import torch

from tutelage.errors import BadInput, ShapeMismatch
from tutelage.objectives import ConfidenceWeighted, CrossEntropy, Match, permuted_dark, soft_cross_entropy
from tutelage.signals import Signals

B, V = 5, 7


def test_permuting_keeps_the_choice_and_the_multiset_of_each_row(rng):
    """Moving the largest value would teach a wrong class."""
    logits_BV = torch.randn(B, V, generator=rng)
    found_BV = permuted_dark()(Signals({"logits": logits_BV}), {})
    assert torch.equal(found_BV.argmax(1), logits_BV.argmax(1))
    assert torch.equal(found_BV.amax(1), logits_BV.amax(1))
    assert torch.equal(found_BV.sort(1).values, logits_BV.sort(1).values)
    assert not torch.equal(found_BV, logits_BV)


def test_each_permutation_of_the_others_is_as_likely():
    """A shift instead of a permutation would keep part of the order. 6 orders of 3 classes in 6,000 draws, each within 5 sigma."""
    logits_BV = torch.tensor([[0.0, 9.0, 1.0, 2.0]]).expand(6000, 4)
    torch.manual_seed(0)
    orders = permuted_dark()(Signals({"logits": logits_BV}), {})[:, [0, 2, 3]].tolist()
    counts = [orders.count(list(order)) for order in itertools.permutations([0.0, 1.0, 2.0])]
    assert sum(counts) == 6000
    assert all(abs(c - 1000) < 5 * (6000 * 1 / 6 * 5 / 6) ** 0.5 for c in counts)


def test_permuting_is_a_function_of_the_steps_seed_and_differs_between_rows(rng):
    """A resumed step must draw what the first one drew."""
    logits_BV = torch.randn(1, V, generator=rng).expand(50, V)
    drawn = []
    for _ in range(2):
        torch.manual_seed(3)
        drawn.append(permuted_dark()(Signals({"logits": logits_BV}), {}))
    assert torch.equal(*drawn)
    assert len({tuple(row) for row in drawn[0].tolist()}) > 25


def test_with_two_classes_permuting_changes_nothing(rng):
    """The card: DKPP is BAN there."""
    logits_BV = torch.randn(B, 2, generator=rng)
    assert torch.equal(permuted_dark()(Signals({"logits": logits_BV}), {}), logits_BV)


def test_permuted_soft_targets_give_the_student_a_gradient_and_the_teacher_none(rng):
    """The target is a constant."""
    own, told = (torch.randn(B, V, generator=rng, requires_grad=True) for _ in range(2))
    Match("logits", by=soft_cross_entropy(), target=permuted_dark())({"logits": own}, {"logits": told}, {}).backward()
    assert own.grad.abs().max() > 0
    assert told.grad is None


def test_confidence_weights_equal_a_loop(rng):
    """The weights sum to one over the batch, and come from the teacher's own choice, right or wrong."""
    own, told = (torch.randn(B, V, dtype=torch.float64, generator=rng) for _ in range(2))
    y = torch.tensor([0, 6, 2, -100, 4])
    mask = torch.tensor([1.0, 1.0, 0.0, 1.0, 0.5], dtype=torch.float64)
    weights = [float(torch.softmax(t, 0).max()) * float(m) if label != -100 else 0.0 for t, label, m in zip(told, y, mask, strict=True)]
    losses = [float(-torch.log_softmax(z, 0)[label]) if label != -100 else 0.0 for z, label in zip(own, y, strict=True)]
    expected = sum(w * loss for w, loss in zip(weights, losses, strict=True)) / sum(weights)
    found = ConfidenceWeighted()({"logits": own}, {"logits": told}, {"y": y, "mask": mask})
    assert found.item() == pytest.approx(expected)


def test_equal_confidence_is_plain_cross_entropy(rng):
    """The card's first limit."""
    own = torch.randn(B, V, dtype=torch.float64, generator=rng)
    told = torch.stack([torch.randn(V, dtype=torch.float64, generator=rng)] * B)
    batch = {"y": torch.tensor([0, 6, 2, 3, 4])}
    torch.testing.assert_close(ConfidenceWeighted()({"logits": own}, {"logits": told}, batch), CrossEntropy()({"logits": own}, None, batch))


def test_confidence_weights_pass_gradcheck_and_reach_no_teacher(rng):
    """A weight that is trained would be driven to zero."""
    own = torch.randn(B, V, dtype=torch.float64, generator=rng, requires_grad=True)
    told = torch.randn(B, V, dtype=torch.float64, generator=rng, requires_grad=True)
    batch = {"y": torch.tensor([0, 6, 2, 3, 4])}
    assert torch.autograd.gradcheck(lambda z: ConfidenceWeighted()({"logits": z}, {"logits": told}, batch), own)
    ConfidenceWeighted()({"logits": own}, {"logits": told}, batch).backward()
    assert told.grad is None


def test_degenerate_confidence_weights_give_a_number_or_a_sentence(rng):
    """All ignored: 0, and so its gradient. No teacher, no labels, tokens: refused."""
    own = torch.randn(B, V, generator=rng, requires_grad=True)
    loss = ConfidenceWeighted()
    nothing = loss({"logits": own}, {"logits": own * 1e4}, {"y": torch.full((B,), -100)})
    assert nothing.item() == 0
    assert torch.equal(torch.autograd.grad(nothing, own)[0], torch.zeros(B, V))
    half = loss({"logits": own.bfloat16()}, {"logits": own.bfloat16()}, {"y": torch.arange(B)})
    torch.testing.assert_close(half, loss({"logits": own}, {"logits": own}, {"y": torch.arange(B)}), rtol=2e-2, atol=2e-2)
    assert half.dtype == torch.float32
    with pytest.raises(BadInput, match="teacher"):
        loss({"logits": own}, None, {"y": torch.arange(B)})
    with pytest.raises(BadInput, match="'y'"):
        loss({"logits": own}, {"logits": own}, {"x": own})
    with pytest.raises(ShapeMismatch, match="samples"):
        loss({"logits": own[None]}, {"logits": own[None]}, {"y": torch.zeros(1, B, dtype=torch.long)})
