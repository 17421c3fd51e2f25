"""`tutelage recipes [NAME]`: list the methods, or show one."""

from __future__ import annotations

import inspect
from collections.abc import Sequence

from tutelage.cli.console import console
from tutelage.cli.parser import Parser


def run(words: Sequence[str]) -> int:
    """Parse, look up, print."""
    parser = Parser(prog="tutelage recipes", description="List the methods, or show one with its knobs and its paper.")
    parser.add_argument("name", nargs="?", type=str, help="a recipe's name, or file.py:function; leave out to list all")
    name = parser.read(words).get("name")
    return _list() if name is None else _show(name)


def _list() -> int:
    from rich.table import Table

    from tutelage.recipes import listing

    table = Table(box=None, pad_edge=False)
    for column in ("recipe", "alias", "what it does"):
        table.add_column(column)
    for each in listing():
        table.add_row(each.name, each.alias or "", each.summary)
    console().print(table)
    return 0


def _show(name: str) -> int:
    from tutelage.recipes import knobs, load, roles

    function = load(name)
    about = function.about  # type: ignore[attr-defined]
    print(f"{function.__name__.replace('_', '-')}\n")
    print(inspect.getdoc(function) or "", end="\n\n")
    print(f"Matches: {about.matches}. Labels: {'needed' if about.needs_labels else 'not always needed'}.")
    print(f"Roles: {', '.join(roles(function))}")
    print("Knobs: " + ", ".join(f"{k}={p.default!r}" if not hasattr(p.default, "epochs") else k for k, p in knobs(function).items()))
    if about.paper:
        paper = about.paper
        print(f"Paper: {paper.authors}, {paper.title!r}, {paper.year}. {paper.url}\nClaim: {paper.claim}")
        for said in _measured(name):
            print(said)
    return 0


def _measured(name: str) -> list[str]:
    """What came out when the claim was measured again, by verdict, and how to do so."""
    from tutelage.recipes import load
    from tutelage.reproductions import RESULTS, listing
    from tutelage.reproductions.harness.results import read

    own = load(name).__name__.replace("_", "-")
    if own not in listing():
        return []
    file = RESULTS / f"{own}.json"
    if not file.is_file():
        return [f"Measured here: not yet; tutelage reproduce {own} does it"]
    found = read(file)
    lines = [f"Measured here: {found['verdict']}, {len(found['seeds'])} seeds, {found['date']} (tutelage reproduce {own})"]
    for each in found["predictions"]:
        lines.append(f"  {each['says']}: {each['mean']:+.4f} ({each['low']:+.4f} to {each['high']:+.4f}), {each['verdict']}")
    return lines
