"""A model that was trained on one table must see another in the same scale."""

from __future__ import annotations

import pytest
import torch

from tutelage.errors import BadInput
from tutelage.signals.columns import Columns

OWN = [
    {"column": "a", "mean": 10.0, "spread": 2.0},
    {"column": "b", "mean": -1.0, "spread": 0.5},
    {"column": "c", "words": ["x", "y", None]},
]
ROWS = [{"a": 12, "b": -1, "c": "y"}, {"a": None, "b": 0.5, "c": "new"}, {"a": 8, "b": -2, "c": "x"}]


def by_hand(rows, columns):
    """The numbers of rows, one by one."""
    return [
        [
            number
            for c in columns
            for number in (
                [float(row[c["column"]] == w) for w in c["words"]]
                if "words" in c
                else [0.0 if row[c["column"]] is None else (row[c["column"]] - c["mean"]) / c["spread"]]
            )
        ]
        for row in rows
    ]


def test_rows_become_the_numbers_of_training():
    assert Columns(OWN).of(ROWS).tolist() == by_hand(ROWS, OWN)


def test_numbers_in_another_scale_and_order_become_the_models_own():
    """The silent error: a student is asked about a new file that was scaled by its own mean, and answers about other values."""
    given = [
        {"column": "extra", "mean": 3.0, "spread": 9.0},
        {"column": "b", "mean": 4.0, "spread": 3.0},
        {"column": "a", "mean": 0.0, "spread": 7.0},
        {"column": "c", "words": ["y", "x", "z"]},
    ]
    rows = [{"a": 12.0, "b": -1.0, "c": "y", "extra": 1.0}, {"a": 9.0, "b": 0.5, "c": "z", "extra": 5.0}]
    (seen,) = Columns(OWN, given)({"x": torch.tensor(by_hand(rows, given))})
    torch.testing.assert_close(seen, torch.tensor(by_hand(rows, OWN)))


def test_numbers_in_the_same_scale_are_left_alone_bit_for_bit(rng):
    x = torch.randn(3, 5, generator=rng)
    assert Columns(OWN, OWN)({"x": x})[0] is x


@pytest.mark.parametrize(
    "given",
    [
        [{"column": "a", "mean": 0.0, "spread": 1.0}, {"column": "c", "words": ["x"]}],
        [{"column": "a", "mean": 0.0, "spread": 1.0}, {"column": "b", "words": ["1"]}, {"column": "c", "words": ["x"]}],
    ],
)
def test_a_column_that_is_missing_or_of_another_kind_is_named(given):
    with pytest.raises(BadInput, match="column 'b' of numbers"):
        Columns(OWN, given)


def test_a_value_that_is_no_number_is_named():
    with pytest.raises(BadInput, match="column 'a' holds 'many'"):
        Columns(OWN).of([{"a": "many", "b": 1, "c": "x"}])
