"""Match: taps, connectors, rewritten targets, masks, and what it refuses. Shapes: B=3, T=5, V=7, D widths."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Size, nn
from torch.nn import functional as F

from tutelage.errors import BadInput, ShapeMismatch
from tutelage.objectives import Distance, Match, mse, regressor, soft_cross_entropy
from tutelage.signals import Depth, Signals
from tutelage.state import Clock, linear_ramp

B, T, V, D = 3, 5, 7, 2


def randn(rng, *shape):
    return torch.randn(*shape, dtype=torch.float64, generator=rng)


def test_the_two_taps_may_differ_and_name_the_term_after_the_students(rng):
    """A match that reads the student's tap from the teacher compares the wrong layers."""
    match = Match("a", "b", by=mse())
    assert (match.needs().student, match.needs().teacher) == ({"a"}, {"b"})
    own, goal, other = randn(rng, B, D), randn(rng, B, D), randn(rng, B, D)
    (term,) = match.terms(Signals({"a": own, "b": other}), Signals({"a": other, "b": goal}), {})
    assert (term.name, term.over) == ("a", "sample")
    np.testing.assert_allclose(term.values.numpy(), ((own - goal) ** 2).mean(1).numpy())


def test_a_depth_gives_its_name_and_stands_for_both_sides():
    """Relative depths are resolved model by model; the term's name must not depend on them."""
    match = Match(Depth(0.5), by=mse())
    assert match.name == "depth-0.5"
    assert match.teacher_tap == Depth(0.5)


def test_a_bare_function_is_a_distance(rng):
    """The simplest extension: a function of two tensors."""
    own, goal = randn(rng, B, D), randn(rng, B, D)
    match = Match("h", by=lambda s, t: (s - t).abs().sum(-1))
    np.testing.assert_allclose(match({"h": own}, {"h": goal}, {}).item(), np.abs((own - goal).numpy()).sum(1).mean())


@pytest.mark.parametrize(("shape", "over"), [((), "batch"), ((B,), "sample"), ((B, T), "token")])
def test_what_the_mean_runs_over_follows_from_the_values(shape, over):
    """A scalar distance cannot be averaged over micro-batches, and must say so."""
    (term,) = Match("h", by=lambda s, t: torch.zeros(shape)).terms({"h": torch.zeros(B, D)}, {"h": torch.zeros(B, D)}, {})
    assert term.over == over


@pytest.mark.parametrize(("over", "term_over"), [(None, "token"), ("token", "token"), ("sequence", "sequence")])
def test_values_per_token_are_averaged_as_asked(rng, over, term_over):
    """The two means weigh short sequences differently, and papers differ."""
    own, goal = randn(rng, B, T, D), randn(rng, B, T, D)
    mask = torch.tensor([[1, 1, 1, 1, 1], [1, 0, 0, 0, 0], [0, 0, 0, 0, 0]]).bool()
    match = Match("h", by=mse(), over=over)
    (term,) = match.terms({"h": own}, {"h": goal}, {"mask": mask})
    assert term.over == term_over
    gaps, kept = ((own - goal) ** 2).mean(-1).numpy(), mask.numpy()
    expected = np.mean([gaps[i][kept[i]].mean() for i in (0, 1)]) if over == "sequence" else gaps[kept].mean()
    np.testing.assert_allclose(match({"h": own}, {"h": goal}, {"mask": mask}).item(), expected)
    (term,) = Match("h", by=mse(), over=over).terms({"h": own[:, 0]}, {"h": goal[:, 0]}, {})
    assert term.over == "sample"
    with pytest.raises(BadInput, match="'token' or 'sequence'"):
        Match("h", by=mse(), over="words")


@pytest.mark.parametrize("shape", [(1,), (B + 1,), (B, T, V), (D, B)])
def test_a_distance_that_gives_another_shape_is_refused(shape):
    """Values of one row for a batch of three are a reduction that nobody asked for."""
    with pytest.raises(ShapeMismatch, match="for a batch of 3"):
        Match("h", by=lambda s, t: torch.zeros(shape))({"h": torch.zeros(B, D)}, {"h": torch.zeros(B, D)}, {})


def test_a_missing_teacher_is_an_error_that_names_the_term():
    """None would otherwise fail somewhere inside a distance."""
    with pytest.raises(BadInput, match="'h' matches a teacher"):
        Match("h", by=mse())({"h": torch.zeros(B, D)}, None, {})


def test_an_unknown_side_is_refused():
    """A typing error must not fall back to the student."""
    with pytest.raises(BadInput, match="'student' or 'teacher'"):
        Match("h", by=mse(), side="tutor")


def test_a_target_rewrites_the_teachers_side(rng):
    """Methods that differ only in the target (label mix, kept top class) need no class of their own."""
    student, teacher, y = randn(rng, B, V), randn(rng, B, V), torch.tensor([1, 5, 2])

    def label_mix(signals, batch):
        return (0.3 * F.one_hot(batch["y"], V) + 0.7 * signals["logits"].softmax(-1)).log()

    loss = Match("logits", by=soft_cross_entropy(), target=label_mix)({"logits": student}, {"logits": teacher}, {"y": y})
    p = 0.3 * np.eye(V)[y.numpy()] + 0.7 * teacher.softmax(-1).numpy()
    np.testing.assert_allclose(loss.item(), -(p * student.log_softmax(-1).numpy()).sum(1).mean())


def test_a_rewritten_target_gets_no_gradient_either(rng):
    """A gradient through the target trains the teacher to be easy to match."""
    student, teacher = (randn(rng, B, V).requires_grad_() for _ in range(2))
    Match("logits", by=mse(), target=lambda s, b: 2 * s["logits"])({"logits": student}, {"logits": teacher}, {}).backward()
    assert student.grad is not None
    assert teacher.grad is None


def shapes(student, teacher):
    return {"h": Size(student)}, {"h": Size(teacher)}


def test_a_connector_is_built_once_and_kept():
    """A second stage with the same objective shares the connector; building anew would forget what it learned."""
    calls = []

    def through(student, teacher):
        calls.append((student, teacher))
        return nn.Linear(student[-1], teacher[-1])

    match = Match("h", by=mse(), through=through)
    assert list(match.parameters()) == []
    match.build(*shapes((B, D), (B, V)))
    first = match.connector
    match.build(*shapes((B, D), (B, V)))
    assert match.connector is first
    assert calls == [((B, D), (B, V))]
    assert {n for n, _ in match.named_parameters()} == {"connector.weight", "connector.bias"}


def test_a_connector_that_is_not_built_is_an_error_with_the_way_out():
    """In a notebook nobody opens a stage."""
    with pytest.raises(BadInput, match=r"build\("):
        Match("h", by=mse(), through=regressor())({"h": torch.zeros(B, D)}, {"h": torch.zeros(B, V)}, {})


def test_the_connector_learns_and_the_teacher_does_not(rng):
    """Without a gradient on the connector the student matches a random projection."""
    student, teacher = (randn(rng, B, w).float().requires_grad_() for w in (D, V))
    match = Match("h", by=mse(), through=regressor())
    match.build(*shapes((B, D), (B, V)))
    match({"h": student}, {"h": teacher}, {}).backward()
    assert all(p.grad.abs().max() > 0 for p in match.parameters())
    assert student.grad.abs().max() > 0
    assert teacher.grad is None


def test_side_teacher_puts_the_teachers_tensor_through_the_connector(rng):
    """A projector on the teacher's side learns, while the teacher itself stays without a gradient."""
    student, teacher = (randn(rng, B, w).float().requires_grad_() for w in (D, V))
    match = Match("h", by=mse(), side="teacher", through=regressor())
    match.build(*shapes((B, D), (B, V)))
    (term,) = match.terms({"h": student}, {"h": teacher}, {})
    assert match.connector.linear.weight.shape == (D, V)
    torch.testing.assert_close(term.values, (student - match.connector(teacher)).square().mean(1))
    term.values.sum().backward()
    assert match.connector.linear.weight.grad.abs().max() > 0
    assert teacher.grad is None


def test_a_pooling_connector_also_pools_the_teacher(rng):
    """The regressor for unlike sides compares position means."""
    student, teacher = randn(rng, B, 2, 5, 5).float(), randn(rng, B, 11, 7).float()
    match = Match("h", by=mse(), through=regressor())
    match.build(*shapes(student.shape, teacher.shape))
    (term,) = match.terms({"h": student}, {"h": teacher}, {})
    torch.testing.assert_close(term.values, (match.connector.linear(student.mean((2, 3))) - teacher.mean(1)).square().mean(1))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=["fp16", "bf16"])
def test_half_precision_signals_are_raised_before_connector_and_distance(rng, dtype):
    """Connectors are float32; a half-precision signal would fail in the matrix product."""
    student, teacher = randn(rng, B, D).to(dtype), randn(rng, B, V).to(dtype)
    match = Match("h", by=mse(), through=regressor())
    match.build(*shapes((B, D), (B, V)))
    (term,) = match.terms({"h": student}, {"h": teacher}, {})
    assert term.values.dtype == torch.float32


def test_moving_knobs_are_read_at_each_call(rng):
    """A knob read once is a constant that pretends to move."""
    ramp = linear_ramp(1.0, 3.0)
    match = Match("h", by=Distance(lambda s, t, power: (s - t).abs().pow(power).sum(-1), {"power": ramp}))
    own, goal = randn(rng, B, D), randn(rng, B, D)
    ramp.open()
    for step in range(3):
        ramp.begin(Clock("s", step, 3, 0, 1, 0))
        expected = (np.abs((own - goal).numpy()) ** (step + 1)).sum(1).mean()
        assert match({"h": own}, {"h": goal}, {}).item() == pytest.approx(expected)


def masked_loss(rng, shape, mask):
    own, goal = randn(rng, *shape), randn(rng, *shape)
    squares = ((own - goal) ** 2).mean(-1).numpy()
    return Match("h", by=mse())({"h": own}, {"h": goal}, {"mask": mask}).item(), squares


def test_a_mask_of_samples_applies_to_samples(rng):
    """Masked samples must not pull the features."""
    found, squares = masked_loss(rng, (B, D), torch.tensor([True, False, True]))
    assert found == pytest.approx(squares[[0, 2]].mean())


def test_a_mask_of_tokens_applies_to_tokens(rng):
    """Padding has features too, and they mean nothing."""
    mask = torch.rand(B, T, generator=rng) > 0.5
    found, squares = masked_loss(rng, (B, T, D), mask)
    assert found == pytest.approx(squares[mask.numpy()].mean())


def test_a_mask_of_samples_leaves_out_all_their_tokens(rng):
    """One mask in the batch serves terms of both kinds."""
    found, squares = masked_loss(rng, (B, T, D), torch.tensor([True, False, True]))
    assert found == pytest.approx(squares[[0, 2]].mean())


def test_a_mask_of_tokens_says_nothing_about_samples(rng):
    """A pooled feature is compared for each sample, whatever its padding."""
    found, squares = masked_loss(rng, (B, D), torch.zeros(B, T, dtype=torch.bool))
    assert found == pytest.approx(squares.mean())


@pytest.mark.parametrize("shape", [(B, T + 1), (B + 1,), (B, 1)])
def test_a_mask_that_fits_no_way_is_refused(rng, shape):
    """Student and teacher may cut a text into different numbers of tokens; a mask of the wrong one must not pass."""
    with pytest.raises(ShapeMismatch, match="mask"):
        masked_loss(rng, (B, T, D), torch.ones(shape))


def test_a_distance_that_cannot_be_taken_apart_takes_no_mask():
    """Relations over the batch stay as they are."""
    batch = {"mask": torch.ones(B)}
    (term,) = Match("h", by=lambda s, t: (s - t).sum()).terms({"h": torch.ones(B, D)}, {"h": torch.ones(B, D)}, batch)
    assert term.mask is None
