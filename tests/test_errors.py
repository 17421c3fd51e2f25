"""Errors: each is ours and the built-in that fits, readable, and exits as the command line promises."""

from __future__ import annotations

import pytest

from tutelage import errors


@pytest.mark.parametrize(
    ("kind", "builtin", "code"),
    [
        (errors.BadInput, ValueError, 2),
        (errors.ShapeMismatch, ValueError, 2),
        (errors.UnknownTap, KeyError, 2),
        (errors.MissingFile, FileNotFoundError, 2),
        (errors.Mismatch, ValueError, 2),
        (errors.NotFinite, ArithmeticError, 1),
        (errors.Interrupted, RuntimeError, 130),
    ],
)
def test_each_error_is_ours_and_the_built_in_that_fits(kind, builtin, code):
    """Callers may catch either; scripts tell bad input from a failed run by the exit code."""
    error = kind("what was wrong")
    assert isinstance(error, errors.TutelageError)
    assert isinstance(error, builtin)
    assert error.exit_code == code
    assert str(error) == "what was wrong"


def test_an_unknown_tap_without_a_message_is_still_printable():
    """The handler of an error must not fail itself."""
    assert str(errors.UnknownTap()) == ""


def test_an_interruption_exits_with_128_plus_its_signal():
    """Schedulers requeue a job by this code: 143 for SIGTERM."""
    assert errors.Interrupted("stopped", 15).exit_code == 143


@pytest.mark.parametrize(
    ("word", "among", "said"),
    [
        ("layer9", ["layer3", "head"], "; nearest: 'layer3'"),
        ("logit", ["layer3", "logits"], "; nearest: 'logits'"),
        ("zzz", ["layer3", "head"], ""),
        ("layer9", [], ""),
    ],
)
def test_the_nearest_name_is_suggested_where_one_is_close(word, among, said):
    """A far-fetched suggestion is worse than none."""
    assert errors.nearest(word, among) == said
