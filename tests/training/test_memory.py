"""Memory: what there is, and what is refused for it."""

from __future__ import annotations

import os

import pytest

from tutelage.errors import BadInput
from tutelage.training import memory as room
from tutelage.training.memory import memory, must_fit


def test_memory_is_that_of_the_machine_or_of_the_control_group(monkeypatch):
    """Whichever ends first."""
    whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for text, expected in (("max\n", whole), ("4096\n", 4096), (f"{whole * 2}\n", whole)):
        monkeypatch.setattr(room.Path, "read_text", lambda _self, text=text: text)
        assert memory() == expected


def test_only_what_cannot_fit_is_refused(monkeypatch):
    """Nobody knows what else will be needed, so what merely is large is the user's affair."""
    monkeypatch.setattr(room, "memory", lambda: 2_000_000_000)
    must_fit(2_000_000_000, "the net", "take a smaller one")
    with pytest.raises(BadInput, match=r"^the net needs at least 2.5 GB of memory, and this machine has 2.0 GB; take a smaller one$"):
        must_fit(2_500_000_000, "the net", "take a smaller one")
    monkeypatch.setattr(room, "memory", lambda: None)
    must_fit(10**30, "the net", "take a smaller one")
