"""DeferredLogits by themselves: what they say of the logits that they stand for. Shapes: B=3, T=5, V=7, D=4."""

from __future__ import annotations

import pytest
import torch

from tutelage.errors import BadInput, ShapeMismatch
from tutelage.signals import DeferredLogits, Signals
from tutelage.signals.deferred import dense

B, T, V, D = 3, 5, 7, 4


@pytest.fixture
def logits(rng):
    parts = (torch.randn(*shape, generator=rng, dtype=torch.float64) for shape in ((B, T, D), (V, D), (V,)))
    return DeferredLogits(*parts, scale=0.5, softcap=2.0)


def test_they_look_like_the_logits_that_they_stand_for(logits):
    """Shapes are read when a stage opens, types when sides are compared."""
    made = 2 * torch.tanh((logits.hidden @ logits.weight.T + logits.bias) * 0.5 / 2)
    torch.testing.assert_close(logits.dense(), made)
    assert (logits.shape, logits.ndim, logits.dtype, logits.device) == (made.shape, made.ndim, made.dtype, made.device)
    assert logits.classes == V
    assert Signals({"logits": logits})["logits"] is logits
    assert "(3, 5, 7)" in repr(Signals({"logits": logits}))


def test_some_rows_of_them_are_those_of_the_logits(logits):
    """Masks, pieces and places pick rows before anything is made."""
    mask = torch.arange(B * T).reshape(B, T) % 3 == 0
    torch.testing.assert_close(logits.at(mask).dense(), logits.dense()[mask])
    torch.testing.assert_close(logits.flat().at(slice(2, 5)).dense(), logits.dense().flatten(0, 1)[2:5])


def test_a_gradient_can_go_back_until_they_are_detached(logits):
    """Signals that hold a graph are dropped after an update, by this."""
    assert not logits.requires_grad
    logits.bias.requires_grad_()
    assert logits.requires_grad
    assert not Signals({"logits": logits}).detach()["logits"].requires_grad
    assert logits.to("cpu").requires_grad
    assert logits.to("meta").device.type == "meta"


def test_what_the_head_computes_in_is_what_autocast_said(logits):
    """The pass decides; the loss runs without autocast."""
    half = DeferredLogits(logits.hidden.float(), logits.weight.float(), logits.bias.float(), precision=torch.bfloat16)
    assert half.dtype == half.dense().dtype == torch.bfloat16
    assert half.ready().weight.dtype == torch.bfloat16
    with torch.autocast("cpu", torch.bfloat16):
        assert DeferredLogits(half.hidden, half.weight).dense().dtype == torch.float32


def test_other_logits_are_left_as_they_are(logits):
    made = logits.dense()
    assert dense(made) is made
    assert torch.equal(dense(logits), made)


def test_parts_that_do_not_belong_together_are_refused(logits):
    """A head of another model would give nonsense of the right shape."""
    for parts in (
        (logits.hidden[..., :3], logits.weight, None),
        (logits.hidden, logits.weight, logits.bias[:3]),
        (logits.hidden[0, 0], logits.weight, None),
    ):
        with pytest.raises(ShapeMismatch, match="deferred logits"):
            DeferredLogits(*parts)
    for finish in ({"scale": 0.0}, {"softcap": 0.0}):
        with pytest.raises(BadInput, match="deferred logits"):
            DeferredLogits(logits.hidden, logits.weight, **finish)
