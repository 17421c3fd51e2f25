"""Signals: a mapping from taps to bare tensors. Shapes: B=3, D=5."""

from __future__ import annotations

import pytest
import torch

from tutelage.errors import UnknownTap
from tutelage.signals import Depth, Signals

B, D = 3, 5


def test_signals_are_read_by_path_and_by_depth():
    """Plain maths needs no unwrapping."""
    h, z = torch.zeros(B, D), torch.ones(B, D)
    signals = Signals({Depth(0.5): h, "logits": z})
    assert signals[Depth(0.5)] is h
    assert signals["logits"] is z
    assert dict(signals) == {Depth(0.5): h, "logits": z}
    assert "layer9" not in signals
    assert signals.get("layer9") is None


def test_a_tap_that_was_not_asked_for_is_named_with_the_nearest():
    """The typical slip when writing an objective: `terms` reads what `needs` did not ask for."""
    with pytest.raises(UnknownTap, match=r"'logit' was asked for.*nearest: 'logits'"):
        Signals({"logits": torch.zeros(1), "layer3": torch.zeros(1)})["logit"]


def test_detached_signals_have_no_way_back_and_keep_who_was_asked():
    """A student matched against itself must not be dragged from both sides."""
    x, present = torch.ones(B, requires_grad=True), torch.tensor([True, False, True])
    signals = Signals({"h": 2 * x}, present).detach()
    assert not signals["h"].requires_grad
    assert signals.present_B is present


def test_signals_print_their_shapes_and_not_their_numbers():
    """A log with a million numbers helps nobody."""
    assert repr(Signals({Depth(0.5): torch.zeros(B, D)})) == "Signals({'depth-0.5': (3, 5)})"
