"""`tutelage reproduce`: measure a paper's claim again, list what was found before, or replay its beginning."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from typing import Any

from jsonargparse import ActionYesNo

from tutelage.cli.console import console
from tutelage.cli.parser import Parser, dashes_to_underscores
from tutelage.errors import BadInput, TutelageError
from tutelage.reproductions import RESULTS, listing

EXAMPLES = """\
examples:
  tutelage reproduce
  tutelage reproduce hinton-kd
  tutelage reproduce ps-kd --seeds 3 --out runs/ps-kd.json
  tutelage reproduce --all --minutes 30
  tutelage reproduce hinton-kd --check

What is done is kept ($TUTELAGE_CACHE, else ~/.cache/tutelage): the same command goes on where it was stopped, and other code begins anew.
"""

DEFAULTS: dict[str, Any] = {
    **dict.fromkeys(("name", "seeds", "minutes", "workers", "address", "out")),
    **dict.fromkeys(("all", "check", "dry_run", "json", "quiet"), False),
    "engine": "processes",
}


def run(words: Sequence[str]) -> int:
    """Parse, call, print."""
    given = {**DEFAULTS, **_parser().read(dashes_to_underscores(words))}
    name, minutes = given["name"], given["minutes"]
    if given["all"] and name:
        raise BadInput("--all measures every claim; leave the name out")
    if given["check"] and (given["seeds"] is not None or given["out"]):
        raise BadInput("--check replays what was recorded; it takes neither --seeds nor --out")
    if minutes is not None and minutes <= 0:
        raise BadInput(f"--minutes {minutes}: expected a number above 0")
    if given["all"]:
        return _every(given)
    if not name:
        _list(given["json"])
        return 0
    return _check(name, given) if given["check"] else _one(name, given)


def _parser() -> Parser:
    parser = Parser(prog="tutelage reproduce", description="Measure the claim of a paper again, on real data, with intervals over seeds.")
    parser.epilog = EXAMPLES
    parser.add_argument("name", nargs="?", type=str, help="a reproduction, or file.py with one; none lists all")
    for flag, text in (
        ("all", "measure every claim that has no result of this code yet"),
        ("check", "replay the recorded first updates of one seed, and compare: does the code still do what the result says?"),
        ("dry_run", "show what would be trained, and how long it takes"),
        ("json", "print the result as JSON on stdout"),
        ("quiet", "print no progress"),
    ):
        parser.add_argument(f"--{flag}", action=ActionYesNo(yes_prefix="", no_prefix="no_"), default=False, help=text)
    parser.add_argument("--seeds", type=int, help="compare so many seeds instead of those that the claim states; needs --out")
    parser.add_argument("--minutes", type=float, help="begin nothing after so long; what is done is kept")
    parser.add_argument("--workers", type=int, help="trainings at a time, of one thread each; default: one a core")
    parser.add_argument("--engine", type=str, default="processes", help="what runs them: processes or ray")
    parser.add_argument("--address", type=str, help="of a Ray cluster; none starts one on this machine")
    parser.add_argument("--out", type=str, metavar="FILE", help="where the result goes; default: with the others")
    return parser


def _one(name: str, given: dict[str, Any]) -> int:
    from tutelage.reproductions.harness.reproduce import reproduce

    if given["dry_run"]:
        _dry(name, given)
        return 0
    until = None if given["minutes"] is None else time.monotonic() + 60 * given["minutes"]
    keys = ("seeds", "workers", "engine", "address", "out", "quiet")
    found, file = reproduce(name, until=until, **{k: given[k] for k in keys})
    if given["json"]:
        print(json.dumps(found, indent=1))
    else:
        _print(found)
        console().print(f"Result: {file}", highlight=False, markup=False)
    return 0


def _every(given: dict[str, Any]) -> int:
    """All claims, the shortest first, as far as time allows; one that fails does not keep the others from being measured."""
    from tutelage.errors import Interrupted
    from tutelage.reproductions import load

    start = time.monotonic()
    claims = sorted((load(name).minutes, name) for name in listing())
    failed = []
    for expected, name in claims:
        if given["check"]:
            try:
                _check(name, given)
            except Interrupted:
                raise
            except TutelageError as error:
                console().print(f"{name}: {error}", highlight=False, markup=False)
                failed.append(name)
            continue
        left = None if given["minutes"] is None else given["minutes"] - (time.monotonic() - start) / 60
        if left is not None and left < expected:
            console().print(f"{name}: left out, it takes about {expected:g} minutes and {max(left, 0):.0f} are left", highlight=False)
            continue
        try:
            _one(name, {**given, "minutes": left})
        except Interrupted:
            raise
        except TutelageError as error:
            console().print(f"{name}: {error}", highlight=False, markup=False)
            failed.append(name)
    return 1 if failed else 0


def _check(name: str, given: dict[str, Any]) -> int:
    from tutelage.reproductions.harness.reproduce import check_recorded

    compared = check_recorded(name, workers=given["workers"], engine=given["engine"], address=given["address"])
    console().print(f"{name}: {compared} numbers of its first updates are as recorded", highlight=False)
    return 0


def _dry(name: str, given: dict[str, Any]) -> None:
    from rich.table import Table

    from tutelage.reproductions.harness.reproduce import foreseen

    rows, minutes = foreseen(name, given["seeds"])
    table = Table(title="What would happen (nothing was trained)")
    for column in ("trained", "recipe", "updates", "trainings", "done already"):
        table.add_column(column, justify="left" if column in ("trained", "recipe") else "right")
    for row in rows:
        table.add_row(*(f"{cell:,}" if isinstance(cell, int) else cell for cell in row))
    console().print(table)
    console().print(f"About {minutes:g} minutes on two cores.", highlight=False)


def _list(as_json: bool) -> None:
    from rich.table import Table

    from tutelage.reproductions.harness.results import read

    rows: list[dict[str, str | None]] = []
    for name in listing():
        file = RESULTS / f"{name}.json"
        found = read(file) if file.is_file() else None
        rows.append({"name": name, **{k: None if found is None else str(found[k]) for k in ("verdict", "date", "claim")}})
    if as_json:
        print(json.dumps(rows, indent=1))
        return
    table = Table(title="Claims")
    for column in ("name", "verdict", "date", "claim"):
        table.add_column(column)
    for row in rows:
        table.add_row(row["name"], row["verdict"] or "not yet measured", row["date"] or "", row["claim"] or "")
    console().print(table)


def _print(found: dict[str, Any]) -> None:
    from rich.table import Table

    shown = console()
    shown.print(found["claim"], highlight=False, markup=False)
    arms = Table(title=f"{len(found['seeds'])} seeds; means with 95 % intervals")
    arms.add_column("arm")
    metrics = [m for m in found["reported"] if any(m in a["means"] for a in found["arms"].values())]
    for metric in metrics:
        arms.add_column(metric, justify="right")
    arms.add_column("updates", justify="right")
    for name, arm in found["arms"].items():
        arms.add_row(name, *(_interval(arm["means"].get(m)) for m in metrics), f"{arm['updates']:,}")
    shown.print(arms)
    table = Table(title="Predictions")
    for column in ("predicted", "difference", "95 % interval", "verdict"):
        table.add_column(column, justify="left" if column in ("predicted", "verdict") else "right")
    for each in found["predictions"]:
        table.add_row(each["says"], f"{each['mean']:+.4f}", f"{each['low']:+.4f} to {each['high']:+.4f}", each["verdict"])
    shown.print(table)
    shown.print(f"Verdict: {found['verdict']}", highlight=False, style="bold")


def _interval(mean: dict[str, Any] | None) -> str:
    if mean is None:
        return ""
    return f"{mean['mean']:.4f} ({mean['low']:.4f} to {mean['high']:.4f})"
