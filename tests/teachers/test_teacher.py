"""The base of teachers says what it can give and nothing more."""

from __future__ import annotations

import pytest

from tutelage.teachers import Gives, Teacher


def test_a_teacher_by_default_gives_dense_logits_on_any_inputs_and_no_gradient():
    """Needs are checked against this before anything trains; too generous a default fails in the middle of a run."""
    assert Teacher().gives == Gives(forms=frozenset({"dense"}), taps=frozenset(), new_inputs=True, gradient=False)
    assert Teacher().models() == []


def test_a_teacher_must_write_its_signals():
    """The base shows nothing."""
    with pytest.raises(NotImplementedError):
        Teacher().signals({}, {"logits"})
