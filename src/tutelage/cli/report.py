"""`tutelage report RUN`: make the page of a finished run again."""

from __future__ import annotations

import json
from collections.abc import Sequence

from tutelage.cli.console import console
from tutelage.cli.parser import Parser


def run(words: Sequence[str]) -> int:
    """Parse, rebuild, print."""
    parser = Parser(
        prog="tutelage report",
        description="Make report.html of a finished run again, from its folder alone: no model is built, no data are read.",
        epilog="example: tutelage report runs/first",
    )
    parser.add_argument("run", type=str, help="a run folder")
    parser.add_argument("--json", action="store_true", help="print the numbers, report.json, on stdout instead of the headline")
    given = parser.read(words)

    from tutelage.jobs.report import report

    made = report(given["run"])
    if given.get("json"):
        print(json.dumps(made.report, indent=1))
        return 0
    out = console()
    out.print(made.headline, highlight=False, markup=False)
    out.print(f"Report: {made.page}", highlight=False, markup=False)
    return 0
