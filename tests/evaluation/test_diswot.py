"""DisWOT's similarities against loops and closed forms; B=5 samples, K=3 classes, C=4 channels."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from tutelage.errors import BadInput, ShapeMismatch
from tutelage.evaluation.diswot import Look, class_maps, diswot, look, relation_similarity, relations, semantic_similarity
from tutelage.signals import Model
from tutelage.students import cnn, mlp, resnet, vit


def batch(rng, size=5, side=8, classes=3):
    x = torch.rand(size, 1, side, side, generator=rng)
    return {"x": x, "y": torch.arange(size) % classes, "id": torch.arange(size)}


def looped_rows(a):
    found = np.zeros((len(a), len(a)))
    for i in range(len(a)):
        row = [sum(x * y for x, y in zip(a[i], a[j], strict=True)) for j in range(len(a))]
        length = math.sqrt(sum(v * v for v in row))
        found[i] = [v / length for v in row]
    return found


def test_relation_similarity_is_the_double_loop_of_the_paper(rng):
    """A wrong axis compares features, not samples, and orders nets by their width."""
    ours, theirs = torch.randn(5, 2, 3, 3, generator=rng), torch.randn(5, 7, 2, 2, generator=rng)
    gap = looped_rows(ours.flatten(1).double().numpy()) - looped_rows(theirs.flatten(1).double().numpy())
    assert float(relation_similarity(ours, theirs)) == pytest.approx(-(gap**2).sum() / 25)


def test_semantic_similarity_of_classes_is_the_double_loop(rng):
    ours, theirs = torch.randn(3, 4, generator=rng), torch.randn(3, 9, generator=rng)
    gap = looped_rows(ours.double().numpy()) - looped_rows(theirs.double().numpy())
    assert float(semantic_similarity(ours, theirs)) == pytest.approx(-(gap**2).sum() / 9)


def test_semantic_similarity_of_channels_compares_outer_products_class_by_class(rng):
    ours, theirs = torch.randn(2, 3, 4, dtype=torch.float64, generator=rng)
    total = 0.0
    for k in range(3):
        a, b = np.outer(ours[k], ours[k]), np.outer(theirs[k], theirs[k])
        total += ((a / np.linalg.norm(a, axis=1, keepdims=True) - b / np.linalg.norm(b, axis=1, keepdims=True)) ** 2).sum()
    assert float(semantic_similarity(ours, theirs, "channels")) == pytest.approx(-total / 12)
    assert class_maps(ours, "channels").shape == (3, 4, 4)


def test_a_net_is_most_like_itself(rng):
    x, g = torch.randn(5, 2, 3, 3, generator=rng), torch.randn(3, 4, generator=rng)
    assert diswot(Look(x, g), Look(x, g)) == {"score": 0.0, "semantic": 0.0, "relation": 0.0}


def test_relations_do_not_change_with_scale_turning_or_order(rng):
    """What tells nets apart must be their relations, not the size of their features."""
    x, y = torch.randn(5, 6, dtype=torch.float64, generator=rng), torch.randn(5, 4, dtype=torch.float64, generator=rng)
    turn = torch.linalg.qr(torch.randn(6, 6, dtype=torch.float64, generator=rng)).Q
    order = torch.randperm(5, generator=rng)
    plain = relation_similarity(x, y)
    for other in (relation_similarity(7e20 * x, y), relation_similarity(x @ turn, y), relation_similarity(x[order], y[order])):
        torch.testing.assert_close(other, plain)


@pytest.mark.parametrize("fill", [0.0, 1.0, -3.0, 1e38, math.nan, math.inf])
def test_degenerate_features_give_a_number_within_its_bounds(fill):
    """A dead net, or one that overflows, must be ranked last, not poison the search."""
    x, y = torch.full((5, 2, 3, 3), fill), torch.eye(5)
    found = float(relation_similarity(x, y))
    assert -4 / 5 <= found <= 0
    assert -4 / 3 <= float(semantic_similarity(torch.full((3, 4), fill), torch.eye(3))) <= 0
    assert found < float(relation_similarity(y + 0.1, y))
    if not math.isfinite(fill):
        assert found == -4 / 5


def test_opposite_signs_are_as_far_as_two_samples_can_be():
    """The lower bound is reached where every row is turned round; a Gram matrix of one sample cannot be, so rows of zeros stand in."""
    assert float(relation_similarity(torch.zeros(5, 2), torch.eye(5))) == pytest.approx(-5 / 25)
    assert relations(torch.zeros(3, 2)).eq(0).all()


def test_shapes_that_cannot_be_compared_are_refused():
    with pytest.raises(ShapeMismatch, match="5 samples, the teacher 4"):
        relation_similarity(torch.ones(5, 2), torch.ones(4, 2))
    with pytest.raises(ShapeMismatch, match="same classes"):
        semantic_similarity(torch.ones(3, 2), torch.ones(4, 2))
    with pytest.raises(ShapeMismatch, match="form='classes'"):
        semantic_similarity(torch.ones(3, 2), torch.ones(3, 4), "channels")


@pytest.mark.parametrize("make", [resnet, cnn, vit])
def test_the_gradient_is_the_closed_form_of_a_softmax(make, rng):
    """dL/dW = mean over samples of (p - y) h^T: the wrong layer gives another matrix of the same shape."""
    model, given = Model(lambda: make(classes=3)), batch(rng)
    found = look(model, given, training=False)
    with torch.no_grad(), model.mode(training=False):
        logits = model.module(given["x"])
        pooled = found.features.mean(1) if found.features.ndim == 3 else found.features.mean((2, 3))
    torch.testing.assert_close(logits, model.module.head(pooled))
    wanted = (logits.softmax(1) - nn.functional.one_hot(given["y"], 3)).T @ pooled / 5
    torch.testing.assert_close(found.gradient, wanted)


def test_looking_leaves_the_model_as_it_was(rng):
    """A teacher that is looked at must still be the teacher, with its own frozen parts."""
    model, given = Model(lambda: resnet(classes=3, depth=8, width=2)), batch(rng)
    model.module.stem[0].weight.requires_grad_(False)
    before = {k: v.clone() for k, v in model.module.state_dict().items()}
    state, flags = torch.get_rng_state(), [p.requires_grad for p in model.module.parameters()]
    first, second = look(model, given, training=False), look(model, given, training=False)
    assert all(torch.equal(v, before[k]) for k, v in model.module.state_dict().items())
    assert [p.requires_grad for p in model.module.parameters()] == flags
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(first.gradient, second.gradient)
    assert all(p.grad is None for p in model.module.parameters())


def test_a_net_of_vectors_is_looked_at_before_its_last_layer(rng):
    model, given = Model(lambda: mlp(inputs=64, width=7, classes=3)), batch(rng)
    assert look(model, given).features.shape == (5, 7)
    assert look(model, given).gradient.shape == (3, 7)


class Headless(nn.Module):
    def forward(self, x):
        return x.flatten(1)[:, :3]


@pytest.mark.parametrize(
    ("make", "change", "message"),
    [
        (Headless, {}, "no classifier weights"),
        (lambda: nn.Sequential(nn.Conv2d(1, 3, 8), nn.Flatten()), {}, "no classifier weights"),
        (lambda: resnet(classes=3), {"y": None}, "labels 'y'"),
        (lambda: resnet(classes=3), {"y": torch.rand(5)}, "labels 'y'"),
        (lambda: nn.Conv2d(1, 3, 3), {}, "no classifier of samples"),
    ],
)
def test_what_has_no_classifier_is_refused_in_a_sentence(make, change, message, rng):
    with pytest.raises(BadInput, match=message):
        look(Model(make, name="net"), {k: v for k, v in {**batch(rng), **change}.items() if v is not None})
