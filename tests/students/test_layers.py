"""Which blocks are kept."""

from __future__ import annotations

import pytest

from tutelage.errors import BadInput
from tutelage.students.layers import kept_layers


@pytest.mark.parametrize(
    ("layers", "there", "kept"),
    [
        (1, 6, [0]),
        (2, 6, [0, 5]),
        (3, 6, [0, 2, 5]),
        (6, 6, [0, 1, 2, 3, 4, 5]),
        (10, 30, [0, 3, 6, 10, 13, 16, 19, 23, 26, 29]),
        ([1, 4], 6, [1, 4]),
    ],
)
def test_layers_are_spread_from_the_first_to_the_last(layers, there, kept):
    """No two alike, and those that are named are those that are kept."""
    assert kept_layers(layers, there, "m") == kept


@pytest.mark.parametrize("layers", [0, 7, -1, True, [], [0, 6], [2, 1], [1, 1], [True], "0+1", [0.0]])
def test_what_cannot_be_kept_is_refused(layers):
    """Before any weights are read."""
    with pytest.raises(BadInput, match="m:layers="):
        kept_layers(layers, 6, "m")
