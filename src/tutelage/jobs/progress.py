"""What a long row of trials shows while it runs: a bar on a terminal, else a line for each; how far it is, and how long it may take."""

from __future__ import annotations

import sys
from typing import Any

from tutelage.errors import printable
from tutelage.jobs.trials import Event, Outcome


class Progress:
    """Hears what happens to trials, and shows it on stderr.

    Args:
        shown: whether to show anything.
        workers: how many run at a time.
    """

    def __init__(self, shown: bool, workers: int = 1) -> None:
        self.shown, self.workers = shown, max(1, workers)
        self.total = self.done = self.failed = self.kept = 0
        self.running: set[str] = set()
        self.seconds: list[float] = []
        self._out = sys.stderr  # trials in this process say what they say elsewhere
        self._bar: Any = None
        self._task: Any = None

    def __enter__(self) -> Progress:
        """Open the bar."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def part(self, name: str, total: int | None) -> None:
        """A part begins.

        Args:
            name: of it.
            total: trials in it, as far as that is known.
        """
        self.__exit__()
        self.total = total or 0
        self.done = self.failed = self.kept = 0
        self.running, self.seconds = set(), []
        if not self.shown:
            return
        if self._out.isatty() and self.workers > 0:
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
            from rich.progress import Progress as Bar

            columns = (
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                TextColumn("{task.fields[now]}"),
            )
            self._bar = Bar(*columns, console=Console(file=self._out), transient=True)
            self._bar.start()
            self._task = self._bar.add_task(name, total=total, now="")
        else:
            self.say(f"{name}: {total} trials" if total else name)

    def say(self, text: str) -> None:
        """A line for people."""
        if not self.shown:
            return
        if self._bar is not None:
            self._bar.console.print(printable(text), highlight=False, markup=False)
        else:
            print(printable(text), file=self._out, flush=True)

    def told(self, event: Event, name: str, outcome: Outcome | None) -> None:
        """Hear of a trial; see `trials.Told`."""
        if event == "begun":
            self.running.add(name)
        else:
            self.running.discard(name)
            self.kept += event == "kept"
            self.done += event in ("done", "kept")
            self.failed += event == "failed"
            if event == "done" and outcome is not None:
                self.seconds.append(outcome.seconds)
        if event == "failed" and outcome is not None:
            self.say(f"failed: {name}: {outcome.error}")
        elif event == "done" and outcome is not None and self._bar is None:
            self.say(f"finished: {name}, {outcome.seconds:.0f} s{self._place()}")
        if self._bar is not None:
            failed = f", {self.failed} failed" if self.failed else ""
            now = f"{len(self.running)} running{failed}{self._left()}"
            self._bar.update(self._task, completed=self.done + self.failed, now=now)

    def _place(self) -> str:
        ended = self.done + self.failed
        return f" ({ended} of {self.total}{self._left()})" if self.total else ""

    def _left(self) -> str:
        left = self.total - self.done - self.failed
        if not self.seconds or left <= 0:
            return ""
        return f", about {duration(sum(self.seconds) / len(self.seconds) * left / self.workers)} left"


def duration(seconds: float | None) -> str:
    """Seconds in a unit that suits them."""
    if seconds is None:
        return "unknown"
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
