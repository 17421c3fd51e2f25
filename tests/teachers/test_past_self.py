"""The student's own past: what it stores, when, and that it is not lost."""

from __future__ import annotations

import pytest
import torch

from tutelage.errors import BadInput
from tutelage.objectives import CrossEntropy, Match, label_mix, probability_cross_entropy, soft_cross_entropy
from tutelage.signals import Signals
from tutelage.teachers import PastSelf

B, V = 3, 7


class Shown:
    """A step, as far as the past self looks at it."""

    def __init__(self, ids: list[int], logits_BV: torch.Tensor) -> None:
        self.batch, self.logits_BV = {"id": torch.tensor(ids)}, logits_BV

    def signals(self, who, taps):
        assert (who, taps) == ("student", {"logits"})
        return Signals({"logits": self.logits_BV})


def batch(ids: list[int]) -> dict[str, torch.Tensor]:
    return {"id": torch.tensor(ids), "y": torch.tensor(ids) % V}


def test_it_begins_with_the_label_and_goes_on_with_what_was_said_by_id(rng):
    """Keyed by position, a reshuffled epoch would teach each sample another one's past."""
    past = PastSelf(V)
    first = past.signals(batch([4, 10, 900]), {"probabilities"})["probabilities"]
    assert torch.equal(first, torch.eye(V)[[4, 3, 4]])
    said = torch.randn(2, V, generator=rng)
    past.after_batch(Shown([900, 4], said))
    again = past.signals(batch([4, 10, 900]), {"probabilities"})["probabilities"]
    torch.testing.assert_close(again, torch.stack([said[1].softmax(0), torch.eye(V)[3], said[0].softmax(0)]))
    past.after_batch(Shown([4], said[:1]))
    torch.testing.assert_close(past.signals(batch([4]), set())["probabilities"][0], said[0].softmax(0))


def test_the_table_survives_saving_and_growth(rng):
    """A resumed run would otherwise begin again with plain labels."""
    past, twin = PastSelf(V), PastSelf(V)
    for start in (0, 5000, 1500):
        past.after_batch(Shown(list(range(start, start + 1100)), torch.randn(1100, V, generator=rng)))
    twin.load_state_dict(past.state_dict())
    ids = [5, 1499, 1500, 2599, 5000, 6099, 7000]
    assert torch.equal(past.signals(batch(ids), set())["probabilities"], twin.signals(batch(ids), set())["probabilities"])
    twin.after_batch(Shown([7000], torch.zeros(1, V)))
    torch.testing.assert_close(twin.signals(batch([7000]), set())["probabilities"], torch.full((1, V), 1 / V))


def test_no_labels_and_no_classes_are_refused():
    """There would be nothing to begin with."""
    with pytest.raises(BadInput, match="'y'"):
        PastSelf(V).signals({"id": torch.arange(3)}, set())
    with pytest.raises(BadInput, match="at least 1"):
        PastSelf(0)


def test_cross_entropy_with_probabilities_equals_its_neighbours(rng):
    """One-hot: the label's cross entropy; a softmax: the soft one; both with the same gradient."""
    logits = torch.randn(B, V, dtype=torch.float64, generator=rng, requires_grad=True)
    other = torch.randn(B, V, dtype=torch.float64, generator=rng)
    y = torch.tensor([0, 6, 2])
    for target, expected in (
        (torch.eye(V, dtype=torch.float64)[y], torch.nn.functional.cross_entropy(logits, y, reduction="none")),
        (other.softmax(1), soft_cross_entropy()(logits, other)),
    ):
        found = probability_cross_entropy()(logits, target)
        torch.testing.assert_close(found, expected)
        torch.testing.assert_close(
            torch.autograd.grad(found.sum(), logits)[0], torch.autograd.grad(expected.sum(), logits, retain_graph=True)[0]
        )
    assert torch.autograd.gradcheck(lambda z: probability_cross_entropy()(z, other.softmax(1)), logits)


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_the_gradient_is_that_of_the_mixed_target(rng, share):
    """The card: dL/dz = q - (1 - a) y - a P, and nothing reaches the target."""
    logits = torch.randn(B, V, dtype=torch.float64, generator=rng, requires_grad=True)
    told = torch.randn(B, V, dtype=torch.float64, generator=rng).softmax(1).requires_grad_()
    y = torch.tensor([3, 0, 5])
    match = Match("logits", "probabilities", by=probability_cross_entropy(), target=label_mix(share))
    match({"logits": logits}, {"probabilities": told}, {"y": y}).backward()
    hot = torch.eye(V, dtype=torch.float64)[y]
    torch.testing.assert_close(logits.grad, (logits.softmax(1) - (1 - share) * hot - share * told).detach() / B)
    assert told.grad is None


def test_where_the_past_is_the_label_the_loss_is_plain_cross_entropy_bit_for_bit(rng):
    """In the first epoch the method must be training alone."""
    logits = torch.randn(B, V, generator=rng, requires_grad=True)
    y = torch.tensor([3, 0, 5])
    match = Match("logits", "probabilities", by=probability_cross_entropy(), target=label_mix(0.37))
    ours = match({"logits": logits}, {"probabilities": torch.eye(V)[y]}, {"y": y})
    theirs = CrossEntropy()({"logits": logits}, None, {"y": y})
    assert torch.equal(ours, theirs)
    assert torch.equal(*(torch.autograd.grad(loss, logits)[0] for loss in (ours, theirs)))
