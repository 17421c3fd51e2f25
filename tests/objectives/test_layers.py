"""Layer by layer against loops; padding, zeros, and sides that do not fit. Shapes: B=3, T=5, D=6, N=2."""

from __future__ import annotations

import math

import pytest
import torch

from tutelage.errors import BadInput, ShapeMismatch
from tutelage.objectives import Match, mean_of, mse
from tutelage.objectives.layers import AttentionScores, HiddenStates
from tutelage.signals import Signals

B, T, D, N = 3, 5, 6, 2


def drawn(seed, *names, tokens=T):
    made = torch.Generator().manual_seed(seed)
    return Signals({n: torch.randn(B, tokens, D, generator=made, dtype=torch.float64) for n in names})


VALID = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0], [1, 0, 0, 0, 0]]).bool()


def valid(batch):
    return batch["valid"]


def test_hidden_states_are_the_mean_of_squares_over_tokens_that_count():
    """By a loop over layers, samples and tokens."""
    s, t = drawn(0, "a", "b"), drawn(1, "a", "b")
    (term,) = HiddenStates([("a", "b"), ("b", "a")], valid=valid).terms(s, t, {"valid": VALID})
    for i in range(B):
        kept = [j for j in range(T) if VALID[i, j]]
        by_loop = sum(sum(((s[o][i, j] - t[g][i, j]) ** 2).mean() for j in kept) / len(kept) for o, g in (("a", "b"), ("b", "a")))
        torch.testing.assert_close(term.values[i], by_loop)
    (plain,) = HiddenStates([("a", "a")]).terms(s, t, {})
    torch.testing.assert_close(mean_of(plain), mean_of(Match("a", by=mse()).terms(s, t, {})[0]))


def test_scores_are_compared_pair_by_pair_where_both_tokens_count():
    """By a loop over heads and pairs, before the softmax."""
    s, t = drawn(0, "q", "k"), drawn(1, "q", "k")
    (term,) = AttentionScores([("q", "k", "q", "k")], N, valid=valid).terms(s, t, {"valid": VALID})
    width = D // N
    for i in range(B):
        gaps = []
        for n in range(N):
            part = slice(n * width, (n + 1) * width)
            for j in range(T):
                for k in range(T):
                    if VALID[i, j] and VALID[i, k]:
                        own, goal = (x["q"][i, j, part] @ x["k"][i, k, part] / math.sqrt(width) for x in (s, t))
                        gaps.append((own - goal) ** 2)
        torch.testing.assert_close(term.values[i], torch.stack(gaps).mean())


@pytest.mark.parametrize(
    "make", [lambda: HiddenStates([("q", "q")], valid=valid), lambda: AttentionScores([("q", "k") * 2], N, valid=valid)]
)
def test_what_stands_in_padding_changes_nothing_and_gets_no_gradient(make):
    """Else a sample's loss hangs on the longest one beside it."""
    s, t = drawn(0, "q", "k"), drawn(1, "q", "k")
    (before,) = make().terms(s, t, {"valid": VALID})
    for x in (s, t):
        for value in x.values():
            value[~VALID] = 1e9
            value.requires_grad_()
    (term,) = make().terms(s, t, {"valid": VALID})
    torch.testing.assert_close(term.values, before.values)
    term.values.sum().backward()
    assert (s["q"].grad[~VALID] == 0).all()
    assert (s["q"].grad[VALID] != 0).any()
    assert t["q"].grad is None
    (none,) = make().terms(s, t, {"valid": torch.zeros_like(VALID)})
    assert torch.equal(none.values, torch.zeros(B, dtype=torch.float64))


def test_gradients_are_right():
    """By finite differences."""
    t = drawn(1, "q", "k")
    query, key = (drawn(2, n)[n].requires_grad_() for n in "qk")

    def loss(q, k):
        seen = Signals({"q": q, "k": k})
        both = HiddenStates([("q", "q")], valid=valid) + AttentionScores([("q", "k", "q", "k")], N, valid=valid)
        return sum(term.values.sum() for term in both.terms(seen, t, {"valid": VALID}))

    assert torch.autograd.gradcheck(loss, (query, key))


def test_a_mask_of_samples_leaves_samples_out():
    """As in every other term."""
    s, t = drawn(0, "a"), drawn(1, "a")
    mask = torch.tensor([True, False, True])
    (term,) = HiddenStates([("a", "a")]).terms(s, t, {"mask": mask})
    torch.testing.assert_close(mean_of(term), term.values[mask].mean())


def test_what_cannot_be_compared_says_so():
    """A silent broadcast trains on nonsense."""
    with pytest.raises(BadInput, match="no layer"):
        HiddenStates([])
    with pytest.raises(BadInput, match="heads=0"):
        AttentionScores([("q", "k", "q", "k")], 0)
    with pytest.raises(BadInput, match="has none"):
        HiddenStates([("a", "a")]).terms(drawn(0, "a"), None, {})
    with pytest.raises(ShapeMismatch):
        HiddenStates([("a", "a")]).terms(drawn(0, "a"), drawn(0, "a", tokens=4), {})
    with pytest.raises(ShapeMismatch):
        AttentionScores([("q", "k", "q", "k")], N).terms(drawn(0, "q", "k"), drawn(0, "q", "k", tokens=4), {})
