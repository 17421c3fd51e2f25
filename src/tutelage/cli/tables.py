"""The table of a finished job: the models side by side, and in words what was kept, saved and gained."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tutelage.cli.console import console
from tutelage.evaluation import busy, gain, headline, savings
from tutelage.evaluation.contents import looks_of
from tutelage.evaluation.wording import figures_of, latency


def print_report(report: Mapping[str, Any]) -> None:
    """Print the table, the headline, what was saved, and what the teaching was worth."""
    from rich.markup import escape  # names of data may hold brackets
    from rich.table import Table

    about = f"{report['recipe']} on {report['data']}, {report['samples']:,} {report['split']} samples, seed {report['seed']}"
    table = Table(title=escape(about))
    table.add_column("")
    rows, looks = [], looks_of(report)
    for name in report["models"]:
        fast = latency(report[name], "batch_1")
        rows.append((looks[name].name, {**report[name], "milliseconds": fast["median"] if fast else None}))
    columns = (*figures_of(report), ("milliseconds", "ms, batch 1", "{:.3g}"))
    shown = [column for column in columns if any(row.get(column[0]) is not None for _, row in rows)]
    for _, title, _ in shown:
        table.add_column(title, justify="right")
    for name, numbers in rows:
        table.add_row(escape(name), *("" if numbers.get(key) is None else form.format(numbers[key]) for key, _, form in shown))
    out = console()
    out.print(table)
    for said in (
        headline(report),
        gain(report),
        *(f"  {figure} {words}" for figure, words in savings(report)),
        *filter(None, [busy(report)]),
    ):
        out.print(said, highlight=False, markup=False)
