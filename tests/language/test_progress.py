"""Short work shows nothing; long work says now and then how far it is."""

from __future__ import annotations

import sys

from tutelage.language import progress


def test_all_things_come_through_and_short_work_is_silent(capsys):
    assert list(progress.tracked(iter("abc"), 3, "letters")) == ["a", "b", "c"]
    assert capsys.readouterr().err == ""


def test_long_work_is_shown_in_lines_where_there_is_no_terminal(capsys, monkeypatch):
    monkeypatch.setattr(progress, "PATIENCE", 0.0)
    monkeypatch.setattr(progress, "EVERY", 0.0)
    list(progress.tracked("abc", 3, "letters\x1b"))
    assert capsys.readouterr().err.splitlines() == [f"letters?: {i} of 3" for i in (1, 2, 3)]
    list(progress.tracked("abc", 3, "letters", shown=False))
    assert capsys.readouterr().err == ""


def test_a_terminal_shows_a_bar_that_goes_away(monkeypatch, capsys):
    monkeypatch.setattr(progress, "PATIENCE", 0.0)
    opened = []
    original = progress._opened
    monkeypatch.setattr(progress, "_opened", lambda *given: opened.append(original(*given)) or opened[-1])
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    list(progress.tracked("abc", 3, "letters [b]"))
    (bar,) = opened
    assert bar.tasks[0].completed == 3
    assert bar.tasks[0].description == "letters [b]"
    assert not bar.live.is_started
