"""Null where it means nothing."""

from __future__ import annotations

from typing import Any, Literal

import pytest

from tutelage.errors import BadInput
from tutelage.training import Fit, RunOptions
from tutelage.training.null import may_be_null


@pytest.mark.parametrize("annotation", ["int | None", "None | str", "Any", "Optional[int]", int | None, Any])
def test_an_annotation_that_says_none_allows_it(annotation):
    """`--micro-batch null` means no limit."""
    assert may_be_null(annotation)


@pytest.mark.parametrize("annotation", ["int", "tuple[str, ...] | str", int, Literal["a"], "NoneSuch"])
def test_others_do_not(annotation):
    """`lr: null` in a file would be compared with a number."""
    assert not may_be_null(annotation)


def test_options_refuse_it_where_it_means_nothing():
    """And say what to do."""
    with pytest.raises(BadInput, match=r"Fit\(lr=None\): null is no value for it; leave it out to take 0.001"):
        Fit(epochs=1, lr=None)
    with pytest.raises(BadInput, match="workers=None"):
        RunOptions(workers=None)
    assert Fit(epochs=1, clip=None).clip is None
    assert RunOptions(micro_batch=None).micro_batch is None
