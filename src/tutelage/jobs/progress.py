"""Progress of many trials: a bar on a terminal, now and then a line in a log."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator

from tutelage.errors import printable
from tutelage.jobs.trials import Event, Outcome, Told

EVERY = 10.0
"""Seconds between lines where there is no terminal."""


@contextlib.contextmanager
def shown(title: str, total: int, *, quiet: bool = False) -> Iterator[Told]:
    """Show how far trials have come, on stderr.

    Args:
        title: what they are for.
        total: how many there will be.
        quiet: show nothing, but what fails.

    Returns:
        What hears of each trial, for `carry_out`.
    """
    if sys.stderr.isatty() and not quiet:
        with _bar(title, total) as told:
            yield told
    else:
        yield _lines(title, total, quiet)


def _failure(name: str, outcome: Outcome | None) -> str:
    return printable(f"{name} failed: {outcome.error if outcome else ''}")


def _lines(title: str, total: int, quiet: bool) -> Told:
    count = {"done": 0, "kept": 0, "failed": 0}
    spoken = [time.monotonic()]

    def told(event: Event, name: str, outcome: Outcome | None) -> None:
        if event in count:
            count[event] += 1
        if event == "failed":
            print(_failure(name, outcome), file=sys.stderr, flush=True)
        ended = sum(count.values())
        if not quiet and event in ("done", "kept") and (ended == total or time.monotonic() - spoken[0] > EVERY):
            spoken[0] = time.monotonic()
            print(printable(f"{title}: {ended} of {total} trials ({count['kept']} kept from before)"), file=sys.stderr, flush=True)

    return told


@contextlib.contextmanager
def _bar(title: str, total: int) -> Iterator[Told]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[now]}"),
    )
    running: dict[str, None] = {}
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(printable(title), total=total, now="")

        def told(event: Event, name: str, outcome: Outcome | None) -> None:
            if event == "begun":
                running[name] = None
            else:
                running.pop(name, None)
            if event == "failed":
                progress.console.print(_failure(name, outcome), highlight=False, markup=False)
            now = printable(", ".join(running))
            progress.update(task, advance=event in ("done", "kept", "failed"), now=now[:60])

        yield told
