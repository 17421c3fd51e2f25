"""How far the writing of a cache is, as people see it."""

from __future__ import annotations

import io

from tutelage.jobs.caching import progress
from tutelage.jobs.caching.progress import Bar


class Terminal(io.StringIO):
    def isatty(self):
        return True


def shown(monkeypatch, out: io.StringIO, *, quiet: bool = False) -> str:
    """Two shards of three passes each; the second one is written by somebody else."""
    monkeypatch.setattr("sys.stderr", out)
    monkeypatch.setattr(progress, "EVERY", 0.0)
    with Bar(not quiet, {"a": 3, "b": 3}) as bar:
        for _ in range(3):
            bar.advance()
        bar.finished("a")
        bar.finished("a")  # counted once
        bar.say("\x1b[31mwaiting")
        bar.finished("b")
    return out.getvalue()


def test_a_log_gets_lines_that_say_how_far_it_is(monkeypatch):
    """A night's log must be readable, and a name in it must not steer the terminal that shows it."""
    lines = shown(monkeypatch, io.StringIO()).splitlines()
    assert [line.split(",")[0] for line in lines] == [
        *(f"{n} of 6 passes of the teacher" for n in (1, 2, 3, 3, 3)),
        "?[31mwaiting",
        "6 of 6 passes of the teacher",
    ]
    assert "left" in lines[0]


def test_a_terminal_gets_a_bar(monkeypatch):
    """With the count of passes; it is gone when the work is done."""
    monkeypatch.setenv("TERM", "xterm")
    text = shown(monkeypatch, Terminal())
    assert "passes of the teacher" in text
    assert "3/6" in text or "6/6" in text
    assert "?[31mwaiting" in text


def test_quiet_is_quiet(monkeypatch):
    assert shown(monkeypatch, io.StringIO(), quiet=True) == ""
