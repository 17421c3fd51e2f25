"""`tutelage runs [FOLDER]`: the runs below a folder, side by side."""

from __future__ import annotations

import dataclasses
import datetime
import json
from collections.abc import Callable, Sequence

from tutelage.cli.console import console
from tutelage.cli.parser import Parser
from tutelage.errors import printable
from tutelage.jobs.runs import SORTS, Summary, runs


def run(words: Sequence[str]) -> int:
    """Parse, look, print."""
    parser = Parser(
        prog="tutelage runs",
        description="List the runs below a folder: what was taught, how far it came, and what it gave.",
        epilog="example: tutelage runs runs/digits --sort difference",
    )
    parser.add_argument("folder", nargs="?", type=str, help="where the runs are; default: runs")
    parser.add_argument("--sort", type=str, default="begun", help=f"by what: {', '.join(SORTS)}; the largest or newest comes last")
    parser.add_argument("--all", action="store_true", help="list the parts of runs, too: their teachers, baselines and other models")
    parser.add_argument("--json", action="store_true", help="print all that is known as JSON on stdout")
    given = parser.read(words)
    folder = "runs" if given.get("folder") is None else given["folder"]
    found = runs(folder, sort=given.get("sort", "begun"), parts=given.get("all", False))
    if given.get("json", False):
        print(json.dumps([dataclasses.asdict(each) for each in found], indent=1))
    elif found:
        _print(found)
    else:
        print(printable(f"No runs below {folder}; tutelage distill makes one."))
    return 0


def _print(found: Sequence[Summary]) -> None:
    from rich.table import Table
    from rich.text import Text

    out, table = console(), Table(box=None, pad_edge=False)
    shown = {name: cell for name, cell in COLUMNS.items() if out.width >= WIDE or name not in LEFT_OUT}
    for name in shown:
        if name in WORDS:
            table.add_column(name, overflow="fold", min_width=16 if name == "state" else None)
        else:
            table.add_column(name, justify="right", no_wrap=True)
    for each in found:
        table.add_row(*(Text(printable(cell(each) or "")) for cell in shown.values()))  # as Text: a folder may be called [bold]
    out.print(table)


def _state(each: Summary) -> str:
    at = "" if each.at is None else f"{each.at.plan}/{each.at.stage}, step {each.at.step}"
    if each.state == "unfinished":
        return f"at {at}" if at else "not begun"
    if each.state == "failed":
        return f"failed at {at}" if at else "failed"
    return f"damaged: {each.note}" if each.state == "damaged" else each.state


def _percent(value: float | None) -> str:
    return "" if value is None else f"{value:.2%}"


def _when(time: str | None) -> str:
    if time is None:
        return ""
    try:
        return f"{datetime.datetime.fromisoformat(time).astimezone():%Y-%m-%d %H:%M}"
    except OverflowError:  # the year 1 or 9999, by a damaged file
        return time


def _bytes(size: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


COLUMNS: dict[str, Callable[[Summary], str | None]] = {
    "run": lambda run: run.folder,
    "recipe": lambda run: run.recipe,
    "student": lambda run: run.student,
    "taught by": lambda run: run.teacher,
    "data": lambda run: run.data,
    "seed": lambda run: None if run.seed is None else str(run.seed),
    "state": _state,
    "teacher": lambda run: _percent(run.accuracy.get("teacher")),
    "alone": lambda run: _percent(run.accuracy.get("alone")),
    "taught": lambda run: _percent(run.accuracy.get("student")),
    "gain": lambda run: None if run.difference is None else f"{run.difference * 100:+.2f}",
    "parameters": lambda run: None if run.parameters is None else f"{run.parameters:,}",
    "begun": lambda run: _when(run.begun),
    "size": lambda run: _bytes(run.size),
}
WORDS = ("run", "recipe", "student", "taught by", "data", "state")
WIDE = 110
"""Columns of a terminal that shows all; a narrower one leaves some out."""
LEFT_OUT = ("taught by", "data", "seed", "teacher", "parameters", "begun", "size")
