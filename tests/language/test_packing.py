"""Windows hold every document once, never too much, and are what the named rule says."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tutelage.errors import BadInput
from tutelage.language import packed

LENGTHS = st.lists(st.integers(1, 13), max_size=60)


@settings(deadline=None)
@given(LENGTHS, st.sampled_from(["in-order", "first-fit"]))
def test_every_document_stands_in_one_window_that_has_room(lengths, packing):
    windows = packed(lengths, 13, packing)
    assert sorted(i for w in windows for i in w) == list(range(len(lengths)))
    assert all(w and sum(lengths[i] for i in w) <= 13 for w in windows)


@settings(deadline=None)
@given(LENGTHS)
def test_first_fit_is_what_a_search_over_all_windows_finds(lengths):
    """The tree finds the same window as a walk from the first."""
    windows: list[list[int]] = []
    for i, length in enumerate(lengths):
        fits = next((w for w in windows if sum(lengths[j] for j in w) + length <= 13), None)
        if fits is None:
            windows.append([i])
        else:
            fits.append(i)
    assert packed(lengths, 13, "first-fit") == windows


@settings(deadline=None)
@given(LENGTHS)
def test_in_order_keeps_the_order_and_opens_no_window_too_early(lengths):
    windows = packed(lengths, 13, "in-order")
    assert [i for w in windows for i in w] == list(range(len(lengths)))
    for before, after in itertools.pairwise(windows):
        assert sum(lengths[i] for i in before) + lengths[after[0]] > 13


def test_first_fit_leaves_less_unused():
    lengths = [7, 7, 6, 6]
    assert packed(lengths, 13, "in-order") == [[0], [1, 2], [3]]
    assert packed(lengths, 13, "first-fit") == [[0, 2], [1, 3]]


@pytest.mark.parametrize(
    ("lengths", "packing", "said"), [([3], "best", "packing='best'"), ([14], "in-order", "14 tokens"), ([0], "first-fit", "0 tokens")]
)
def test_what_cannot_be_packed_is_refused(lengths, packing, said):
    with pytest.raises(BadInput, match=said):
        packed(lengths, 13, packing)
