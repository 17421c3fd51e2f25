"""What a long row of trials shows while it runs."""

from __future__ import annotations

import io

import pytest

from tutelage.jobs.progress import Progress, duration
from tutelage.jobs.trials import Outcome


class Terminal(io.StringIO):
    """A stream that says it is one."""

    def isatty(self) -> bool:
        """So bars are drawn."""
        return True


def row(shown: Progress) -> None:
    """Three trials, of which one fails."""
    shown.part("trainings", 3)
    shown.told("kept", "before", Outcome("before", {}, 5.0))
    shown.told("begun", "a", None)
    shown.told("done", "a", Outcome("a", {}, 120.0))
    shown.told("begun", "b", None)
    shown.told("failed", "b", Outcome("b", None, 1.0, "ValueError: \x1b[31mno"))


def test_elsewhere_each_trial_has_a_line_with_what_is_left(monkeypatch):
    """In a log file, no bar; and no name that steers the terminal in which it is read."""
    out = io.StringIO()
    monkeypatch.setattr("sys.stderr", out)
    with Progress(True, workers=2) as shown:
        row(shown)
    assert out.getvalue().splitlines() == [
        "trainings: 3 trials",
        "finished: a, 120 s (2 of 3, about 60 s left)",
        "failed: b: ValueError: ?[31mno",
    ]


def test_on_a_terminal_there_is_a_bar(monkeypatch):
    """How many are done, run and have failed."""
    out = Terminal()
    monkeypatch.setattr("sys.stderr", out)
    monkeypatch.setenv("TERM", "xterm")
    with Progress(True) as shown:
        row(shown)
        shown._bar.refresh()
    text = out.getvalue()
    assert "3/3" in text
    assert "0 running, 1 failed" in text
    assert "failed: b: ValueError: ?[31mno" in text
    assert "finished" not in text


def test_quiet_shows_nothing(monkeypatch):
    """Also on a terminal."""
    out = Terminal()
    monkeypatch.setattr("sys.stderr", out)
    with Progress(False) as shown:
        row(shown)
    assert out.getvalue() == ""


@pytest.mark.parametrize(("seconds", "said"), [(None, "unknown"), (3.4, "3 s"), (89, "89 s"), (600, "10 min"), (9000, "2.5 h")])
def test_a_duration_has_a_unit_that_suits_it(seconds, said):
    """Nobody wants to divide by 3600."""
    assert duration(seconds) == said
