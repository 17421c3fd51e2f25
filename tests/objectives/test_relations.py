"""Relations of tokens against loops in NumPy; what must not matter; padding, blocks, and sides that do not fit. Shapes: B=3, T=6."""

from __future__ import annotations

import numpy
import pytest
import torch

from tutelage.errors import BadInput, ShapeMismatch
from tutelage.objectives import relations
from tutelage.objectives.relations import Projected, Relation, relation_kl
from tutelage.signals import Signals

B, T = 3, 6
VALID = torch.tensor([[1, 1, 1, 1, 1, 1], [1, 1, 1, 0, 0, 0], [1, 0, 0, 0, 0, 0]]).bool()


def drawn(seed, width, tokens=T, batch=B):
    return torch.randn(batch, tokens, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def by_numpy(x, y, goal_x, goal_y, heads, valid):
    """Each sample cropped to its own tokens, head by head, row by row, by the definition."""
    values = []
    for i in range(len(x)):
        kept = valid[i].numpy()
        length, total = kept.sum(), 0.0
        for head in range(heads):
            relations_ = []
            for a, b in ((x, y), (goal_x, goal_y)):
                width = a.shape[-1] // heads
                part = slice(head * width, (head + 1) * width)
                raw = a[i].detach().numpy()[kept][:, part] @ b[i].detach().numpy()[kept][:, part].T / numpy.sqrt(width)
                e = numpy.exp(raw - raw.max(1, keepdims=True))
                relations_.append(e / e.sum(1, keepdims=True))
            own, goal = relations_
            numpy.testing.assert_allclose(own.sum(1), 1.0)
            total += (goal * numpy.log(goal / own)).sum()
        values.append(total / (heads * length))
    return torch.tensor(values, dtype=torch.float64)


@pytest.mark.parametrize("heads", [1, 2, 6])
@pytest.mark.parametrize("at_once", [relations.AT_ONCE, 1, 3 * 6 * 6 * 2, 3 * 6 * 4])
def test_values_are_those_of_the_definition_however_they_are_cut_into_parts(heads, at_once, monkeypatch):
    """Sides of different widths, two of the samples padded."""
    monkeypatch.setattr(relations, "AT_ONCE", at_once)
    x, y, goal_x, goal_y = drawn(0, 12), drawn(1, 12), drawn(2, 18), drawn(3, 18)
    torch.testing.assert_close(relation_kl(x, y, goal_x, goal_y, heads, VALID), by_numpy(x, y, goal_x, goal_y, heads, VALID))
    everywhere = torch.ones_like(VALID)
    torch.testing.assert_close(relation_kl(x, x, goal_x, goal_x, heads), by_numpy(x, x, goal_x, goal_x, heads, everywhere))


@pytest.mark.parametrize("at_once", [relations.AT_ONCE, 20])
def test_gradients_are_right(at_once, monkeypatch):
    """Found on the way forth, of both sides of a relation and of one that is both."""
    monkeypatch.setattr(relations, "AT_ONCE", at_once)
    x, y, goal = drawn(0, 4).requires_grad_(), drawn(1, 4).requires_grad_(), drawn(2, 6)
    assert torch.autograd.gradcheck(lambda x, y: relation_kl(x, y, goal, goal, 2, VALID), (x, y))
    assert torch.autograd.gradcheck(lambda x: relation_kl(x, x, goal, goal, 2, VALID), (x,))


def test_gradients_are_those_of_plain_operations():
    """Of autograd through the whole matrices at once, as a second computation."""
    x, goal = drawn(0, 8).requires_grad_(), drawn(1, 12)
    weights = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    (relation_kl(x, x, goal, goal, 4) * weights).sum().backward()
    plain = x.detach().clone().requires_grad_()
    own, its = (v.unflatten(-1, (4, -1)).transpose(1, 2) for v in (plain, goal))
    log, told = ((v @ v.mT / v.shape[-1] ** 0.5).log_softmax(-1) for v in (own, its))
    ((told.exp() * (told - log)).sum(-1).mean((1, 2)) * weights).sum().backward()
    torch.testing.assert_close(x.grad, plain.grad)


def test_equal_sides_have_no_loss_and_no_slope():
    """The least that a KL can be."""
    x = drawn(0, 8).requires_grad_()
    values = relation_kl(x, x, x.detach(), x.detach(), 4, VALID)
    values.sum().backward()
    torch.testing.assert_close(values, torch.zeros(B, dtype=torch.float64))
    torch.testing.assert_close(x.grad, torch.zeros_like(x))


def test_turning_a_head_changes_nothing_and_another_cut_does():
    """X X^T does not see an orthogonal change within a relation head; heads of another size see others."""
    x, goal = drawn(0, 8), drawn(1, 8)
    turn, _ = torch.linalg.qr(drawn(2, 4, tokens=4, batch=2))
    turned = (x.unflatten(-1, (2, 4))[..., None, :] @ turn.mT)[..., 0, :].flatten(2)
    assert not torch.allclose(turned, x)
    torch.testing.assert_close(relation_kl(turned, turned, goal, goal, 2), relation_kl(x, x, goal, goal, 2))
    assert not torch.allclose(relation_kl(turned, turned, goal, goal, 4), relation_kl(x, x, goal, goal, 4))
    assert not torch.allclose(relation_kl(x, x, goal, goal, 1), relation_kl(x, x, goal, goal, 2))


def test_samples_in_another_order_and_more_padding_change_nothing():
    """Nor what stands in the padding."""
    x, goal = drawn(0, 8), drawn(1, 12)
    values = relation_kl(x, x, goal, goal, 2, VALID)
    order = torch.tensor([2, 0, 1])
    torch.testing.assert_close(relation_kl(x[order], x[order], goal[order], goal[order], 2, VALID[order]), values[order])
    wide = [torch.cat([v, torch.full((B, 3, v.shape[-1]), 1e6, dtype=v.dtype)], 1).requires_grad_() for v in (x, goal)]
    longer = torch.cat([VALID, torch.zeros(B, 3, dtype=torch.bool)], 1)
    padded = relation_kl(wide[0], wide[0], wide[1], wide[1], 2, longer)
    torch.testing.assert_close(padded, values)
    padded.sum().backward()
    assert (wide[0].grad[~longer] == 0).all()
    alone = relation_kl(x[1:2, :3], x[1:2, :3], goal[1:2, :3], goal[1:2, :3], 2)
    torch.testing.assert_close(alone, values[1:2])
    nothing = relation_kl(x, x, goal, goal, 2, torch.zeros_like(VALID))
    assert torch.equal(nothing, torch.zeros_like(nothing))
    assert values[2] == 0  # one token looks at itself


def test_shared_heads_are_seen_by_each_that_looks_at_them():
    """Two heads of keys for four of queries: 0 0 1 1."""
    keys = drawn(0, 6)
    spread = Projected("k", 2, 3).of(Signals({"k": keys}))
    torch.testing.assert_close(spread, torch.cat([keys[..., :3], keys[..., :3], keys[..., 3:], keys[..., 3:]], -1))


def test_a_term_of_the_batch():
    """Half precision is raised, the batch's mask of samples is kept, the teacher gets no gradient."""
    own, goal = drawn(0, 8).to(torch.bfloat16).requires_grad_(), drawn(1, 4).float().requires_grad_()
    loss = Relation(("q", "q"), ("p", "p"), heads=2, valid=lambda batch: batch["valid"], name="query-query")
    assert loss.needs().student == {"q"}
    assert loss.needs().teacher == {"p"}
    keep = torch.tensor([True, False, True])
    (term,) = loss.terms(Signals({"q": own}), Signals({"p": goal}), {"valid": VALID, "mask": keep})
    assert (term.name, term.over) == ("query-query", "sample")
    assert term.values.dtype == torch.float32
    assert term.mask is keep
    loss({"q": own}, {"p": goal}, {"valid": VALID, "mask": keep}).backward()
    assert (own.grad[0] != 0).any()
    assert (own.grad[1] == 0).all()
    assert goal.grad is None


def test_large_numbers_stay_finite():
    """Scores of a thousand, in float32."""
    x, goal = drawn(0, 8).float() * 100, drawn(1, 8).float() * 100
    x.requires_grad_()
    values = relation_kl(x, x, goal, goal, 2, VALID)
    values.sum().backward()
    assert values.isfinite().all()
    assert x.grad.isfinite().all()


def test_sides_that_do_not_fit_are_refused():
    """One sentence each."""
    with pytest.raises(BadInput, match="expected at least 1"):
        Relation(("q", "q"), ("q", "q"), heads=0)
    loss = Relation(("q", "q"), ("q", "q"), heads=4, name="r")
    with pytest.raises(BadInput, match="do not divide the student's width 6; give a number that divides both 6 and 8"):
        loss({"q": drawn(0, 6)}, {"q": drawn(0, 8)}, {})
    with pytest.raises(BadInput, match="do not divide the teacher's width 6"):
        loss({"q": drawn(0, 8)}, {"q": drawn(0, 6)}, {})
    with pytest.raises(ShapeMismatch, match="over the same tokens"):
        loss({"q": drawn(0, 8)}, {"q": drawn(0, 8, tokens=4)}, {})
    with pytest.raises(BadInput, match="has none"):
        loss({"q": drawn(0, 8)}, None, {})
    with pytest.raises(ShapeMismatch, match="the mask of tokens"):
        Relation(("q", "q"), ("q", "q"), heads=4, valid=lambda b: VALID[:, :2])({"q": drawn(0, 8)}, {"q": drawn(0, 8)}, {})
