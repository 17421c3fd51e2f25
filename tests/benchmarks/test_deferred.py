"""Deferred logits are measured against the same loss: values and gradients of all forms agree."""

from __future__ import annotations

import pytest
import torch

import deferred
import table
from tutelage.objectives import deferred as ours


@pytest.fixture
def small(monkeypatch):
    """Small sides, several pieces, and few rounds."""
    monkeypatch.setattr(ours, "NUMBERS", 1)
    monkeypatch.setattr(ours, "LEAST", 3)
    monkeypatch.setattr(deferred, "TIMES", ((11, 5, 2), (13, 7, 2)))
    monkeypatch.setattr(deferred, "MEMORY", ((11, 5), (13, 70)))
    monkeypatch.setattr(deferred, "sides", lambda v, n, sides=deferred.sides: sides(v, n, 4))


@pytest.mark.parametrize("loss", deferred.LOSSES)
def test_all_forms_give_the_same_gradients(small, loss):
    """A form that does less would look fast."""
    own, told = deferred.sides(13, 7)
    found = {}
    for name, form in deferred.forms(loss, own, told).items():
        form()
        found[name] = own.hidden.grad, own.weight.grad
    for name, gradients in found.items():
        for mine, other in zip(gradients, found["dense"], strict=True):
            torch.testing.assert_close(mine, other, rtol=1e-4, atol=1e-7, msg=name)
    assert found["dense"][0].abs().sum() > 0


def test_each_loss_has_rows_of_time_and_memory_and_the_aims_stand_where_they_were_set(small):
    """No slower than dense at any size; a quarter of its memory over the largest vocabulary."""
    rows = deferred.rows()
    peers = 1 + (deferred.trl() is not None)
    assert len(rows) == 2 * len(deferred.LOSSES) * 2 * peers
    for row in rows:
        dense = row["against"] == "dense logits"
        aim = {} if not dense else {"ratio": 1.0} if "ms" in row else {"ratio": 0.25} if "of 13," in row["what"] else {}
        assert row["target"] == aim, row["what"]
        assert len(table.cells(row)) == 6
    assert sum(row["brief"] for row in rows) == 2 * len(deferred.LOSSES)


def test_memory_grows_with_the_tokens_of_the_dense_form_alone(small):
    """What is counted must be what is claimed."""

    def ratio(tokens):
        return next(row["ratio"]["median"] for row in deferred.counted(97, tokens) if row["against"] == "dense logits")

    assert ratio(400) < 0.5 * ratio(40)


def test_without_trl_its_rows_are_left_out_and_the_note_says_so(small, monkeypatch):
    """Nothing is compared with what is not there."""
    monkeypatch.setattr(deferred, "trl", lambda: None)
    assert set(deferred.forms("forward KL", *deferred.sides(13, 7))) == {"dense", "ours"}
    assert "TRL was not installed, so its rows are left out" in deferred.note()
