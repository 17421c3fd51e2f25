"""Ensemble: both means against NumPy. Shapes: B=3, T=5, V=7, M=2 and 3 teachers."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.special
import torch
from torch import nn

from tutelage.errors import BadInput, ShapeMismatch
from tutelage.objectives import soft_targets
from tutelage.signals import Model, Signals
from tutelage.teachers import Ensemble, Frozen, Gives, Teacher

B, T, V = 3, 5, 7


class Says(Teacher):
    """A teacher that says what it was told to."""

    def __init__(self, logits, **gives):
        self.logits, self.gives, self.name, self.asked = logits, Gives(**gives), "says", []

    def signals(self, batch, taps, *, view=None):
        self.asked.append((set(taps), view))
        return Signals({"logits": self.logits})


def members(rng, *shape, count=3):
    return [Says(2 * torch.randn(*shape, dtype=torch.float64, generator=rng)) for _ in range(count)]


def logits_of(ensemble, **kwargs):
    return ensemble.signals({"id": torch.arange(B)}, {"logits"}, **kwargs)["logits"]


@pytest.mark.parametrize("shape", [(B, V), (B, T, V)], ids=["rows", "positions"])
@pytest.mark.parametrize("count", [1, 2, 3])
def test_the_mean_of_probabilities_is_the_log_of_the_mean_softmax(rng, shape, count):
    """Averaging over the wrong axis, or of logits, is another ensemble."""
    each = members(rng, *shape, count=count)
    mean = np.mean([scipy.special.softmax(m.logits.numpy(), axis=-1) for m in each], axis=0)
    np.testing.assert_allclose(logits_of(Ensemble(each)).numpy(), np.log(mean), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_the_mean_of_logits_is_the_normalised_geometric_mean_of_probabilities(rng, count):
    """Hinton's other mean: confident dissent weighs more."""
    each = members(rng, B, V, count=count)
    product = np.prod([scipy.special.softmax(m.logits.numpy(), axis=-1) for m in each], axis=0) ** (1 / count)
    found = scipy.special.softmax(logits_of(Ensemble(each, mean="logit")).numpy(), axis=-1)
    np.testing.assert_allclose(found, product / product.sum(-1, keepdims=True), rtol=1e-10)


@pytest.mark.parametrize("mean", ["probability", "logit"])
def test_an_ensemble_of_one_teaches_as_that_one(rng, mean):
    """Equal up to a constant per row, so equal in every distance between distributions."""
    (one,) = members(rng, B, V, count=1)
    found = logits_of(Ensemble([one], mean=mean))
    gap = found - one.logits
    torch.testing.assert_close(gap, gap[:, :1].expand(B, V))
    torch.testing.assert_close(soft_targets(4.0)(found, one.logits), torch.zeros(B, dtype=torch.float64))


@pytest.mark.parametrize("mean", ["probability", "logit"])
def test_the_order_of_members_does_not_matter(rng, mean):
    """A mean has no first member."""
    each = members(rng, B, V)
    torch.testing.assert_close(logits_of(Ensemble(each, mean)), logits_of(Ensemble(each[::-1], mean)))


def test_members_that_are_certain_of_different_classes_share_the_mass():
    """Underflowing probabilities must not give log 0 where another member has mass."""
    far = [Says(torch.tensor([[1e4, -1e4, 0.0]])), Says(torch.tensor([[-1e4, 1e4, 0.0]]))]
    found = logits_of(Ensemble(far)).softmax(-1)
    torch.testing.assert_close(found, torch.tensor([[0.5, 0.5, 0.0]]))


@pytest.mark.parametrize("mean", ["probability", "logit"])
def test_members_in_half_precision_are_raised_before_they_are_averaged(rng, mean):
    """A log of a mean of bfloat16 softmaxes has two digits."""
    each = [Says(m.logits.bfloat16()) for m in members(rng, B, V)]
    found = logits_of(Ensemble(each, mean))
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, logits_of(Ensemble([Says(m.logits.float()) for m in each], mean)))


def test_members_over_different_classes_are_refused(rng):
    """A padded vocabulary or another label set must not be broadcast or cut silently."""
    with pytest.raises(ShapeMismatch, match=r"different shapes.*\(3, 7\).*\(3, 8\)"):
        logits_of(Ensemble([*members(rng, B, V, count=1), *members(rng, B, V + 1, count=1)]))


def test_inner_taps_are_refused_with_the_way_out(rng):
    """There is no mean of features of unlike nets."""
    ensemble = Ensemble(members(rng, B, V))
    with pytest.raises(BadInput, match=r"logits only, not 'layer2'.*one member"):
        ensemble.signals({"id": torch.arange(B)}, {"logits", "layer2"})
    assert ensemble.gives.taps == frozenset()


@pytest.mark.parametrize(("kwargs", "message"), [({"members": []}, "at least one"), ({"mean": "median"}, "'probability' or 'logit'")])
def test_what_is_no_ensemble_is_refused(rng, kwargs, message):
    """An empty mean is NaN."""
    with pytest.raises(BadInput, match=message):
        Ensemble(**{"members": members(rng, B, V), **kwargs})


def test_each_member_is_asked_once_for_its_logits_in_the_same_view(rng):
    """One pass a member and batch, whatever asks."""
    each = members(rng, B, V)
    logits_of(Ensemble(each), view="attacked")
    assert [m.asked for m in each] == [[({"logits"}, "attacked")]] * 3


@pytest.mark.parametrize("what", ["new_inputs", "gradient"])
def test_an_ensemble_gives_what_all_its_members_give(rng, what):
    """One cached member makes the ensemble unable to answer on new inputs."""
    able, unable = Says(torch.zeros(B, V), **{what: True}), Says(torch.zeros(B, V), **{what: False})
    assert getattr(Ensemble([able, able]).gives, what)
    assert not getattr(Ensemble([able, unable]).gives, what)


def test_an_ensemble_of_models_knows_them_and_gives_no_gradient(rng):
    """The loop places all of them, and none is trained."""
    models = [Model(nn.Linear(5, V)) for _ in range(2)]
    ensemble = Ensemble([Frozen(m) for m in models])
    batch = {"id": torch.arange(B), "x": torch.randn(B, 5, generator=rng)}
    found = ensemble.signals(batch, {"logits"})["logits"]
    mean = np.mean([scipy.special.softmax(m.module(batch["x"]).detach().numpy(), axis=-1) for m in models], axis=0)
    np.testing.assert_allclose(found.numpy(), np.log(mean), rtol=1e-5)
    assert not found.requires_grad
    assert ensemble.models() == models


@pytest.mark.parametrize("mean", ["probability", "logit"])
def test_a_student_may_be_trained_through_an_ensemble_that_allows_it(rng, mean):
    """The mean must not cut the graph."""
    x = torch.randn(B, 5, generator=rng).requires_grad_()
    ensemble = Ensemble([Frozen(Model(nn.Linear(5, V)), gradient=True) for _ in range(2)], mean)
    ensemble.signals({"id": torch.arange(B), "x": x}, {"logits"})["logits"].square().sum().backward()
    assert x.grad.abs().max() > 0
