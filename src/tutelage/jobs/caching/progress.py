"""How far the writing of a cache is, on stderr: a bar on a terminal, else a line now and then."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import Any

from tutelage.errors import printable
from tutelage.jobs.progress import duration

EVERY = 10.0
"""Seconds between lines."""


class Bar:
    """Counts passes of the teacher.

    Args:
        shown: whether to show anything.
        passes: that each shard takes, by its key; none for one that is there already.
    """

    def __init__(self, shown: bool, passes: Mapping[Any, int]) -> None:
        self.shown, self._passes = shown, dict(passes)
        self.total, self.done, self.begun, self.ours = sum(passes.values()), 0, 0, 0
        self._out, self._start, self._told = sys.stderr, time.perf_counter(), time.perf_counter()
        self._bar: Any = None
        self._task: Any = None

    def __enter__(self) -> Bar:
        """Show the bar, where there is a terminal."""
        if self.shown and self._out.isatty() and self.total:
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

            columns = (TextColumn("passes of the teacher"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
            self._bar = Progress(*columns, console=Console(file=self._out), transient=True)
            self._bar.start()
            self._task = self._bar.add_task("", total=self.total)
        return self

    def __exit__(self, *_: object) -> None:
        """Take it away."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def advance(self) -> None:
        """A pass was made."""
        self.begun += 1
        self.ours += 1
        self._show()

    def finished(self, key: Any) -> None:
        """A shard is there, whoever wrote it."""
        self.done += self._passes.pop(key, 0)
        self.begun = 0
        self._show()

    def say(self, text: str) -> None:
        """A line for people."""
        if not self.shown:
            return
        if self._bar is not None:
            self._bar.console.print(printable(text), highlight=False, markup=False)
        else:
            print(printable(text), file=self._out, flush=True)

    def _show(self) -> None:
        now = min(self.total, self.done + self.begun)
        if self._bar is not None:
            self._bar.update(self._task, completed=now)
        elif time.perf_counter() - self._told > EVERY and self.ours:
            self._told = time.perf_counter()
            left = (self._told - self._start) / max(1, now) * (self.total - now)
            self.say(f"{now:,} of {self.total:,} passes of the teacher, about {duration(left)} left")
