"""Several sources as one must give each sample once, where it was asked for."""

from __future__ import annotations

import torch

from tutelage.data import Joined, Table


def made():
    first = Table({"x": torch.arange(3.0), "y": torch.tensor([0, 1, 0]), "text": ["a", "b", "c"], "id": torch.tensor([7, 8, 9])})
    second = Table({"x": torch.arange(10.0, 12.0), "y": torch.tensor([1, 1]), "text": ["d", "e"], "id": torch.tensor([3, 4])})
    return Joined([first, second], "both")


def test_samples_come_in_the_order_that_was_asked_for():
    batch = made().batch(torch.tensor([4, 0, 3, 2]))
    assert batch["x"].tolist() == [11.0, 0.0, 10.0, 2.0]
    assert batch["text"] == ["e", "a", "d", "c"]
    assert batch["y"].tolist() == [1, 0, 1, 0]
    assert batch["id"].tolist() == [4, 7, 3, 9]


def test_length_labels_and_ids_are_those_of_all():
    joined = made()
    assert len(joined) == 5
    assert joined.labels().tolist() == [0, 1, 0, 1, 1]
    assert joined.ids().tolist() == [7, 8, 9, 3, 4]
    assert joined.fingerprint() == made().fingerprint()


def test_ids_that_meet_are_counted_anew_and_labels_must_be_everywhere():
    one = Table({"x": torch.arange(2.0)})
    joined = Joined([one, one], "twice")
    assert joined.ids().tolist() == [0, 1, 2, 3]
    assert joined.labels() is None
    assert joined.batch(torch.tensor([3, 1]))["id"].tolist() == [3, 1]


def test_rows_of_different_lengths_are_filled_up_with_what_says_nothing():
    """Zeros, which are no position in a mask, and no label."""

    def texts(first: int, length: int) -> Table:
        row = torch.arange(first, first + length)
        return Table({"input_ids": row[None], "mask": row[None] > 0, "y": row[None], "id": torch.tensor([first])})

    joined = Joined([texts(1, 2), texts(5, 4)], "both")
    batch = joined.batch(torch.tensor([1, 0]))
    assert batch["input_ids"].tolist() == [[5, 6, 7, 8], [1, 2, 0, 0]]
    assert batch["mask"].tolist() == [[True] * 4, [True, True, False, False]]
    assert batch["y"].tolist() == [[5, 6, 7, 8], [1, 2, -100, -100]]
    assert joined.labels().tolist() == [[1, 2, -100, -100], [5, 6, 7, 8]]
    assert joined.batch(torch.tensor([0]))["y"].tolist() == [[1, 2]]
