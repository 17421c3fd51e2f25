"""`tutelage data DATA`: what a data set holds before anything is trained on it: splits, classes and their balance, a few samples."""

from __future__ import annotations

import json
from collections.abc import Sequence

from tutelage.cli.console import console
from tutelage.cli.parser import Parser, data_options

EXAMPLES = """\
examples:
  tutelage data csv:mails.csv --data.label kind --data.text body
  tutelage data folder:photos --data.size 64
  tutelage data --options csv
"""


def run(words: Sequence[str]) -> int:
    """Parse, load, print, and say what `tutelage distill` would refuse."""
    words, changes = data_options(words)
    parser = Parser(prog="tutelage data", description="Show a data set: its splits, its classes and their balance, a few samples.")
    parser.epilog = EXAMPLES
    parser.add_argument("data", nargs="?", default="digits", type=str, help="digits, csv:FILE, folder:PATH, ... as in `tutelage distill`")
    parser.add_argument("--options", type=str, metavar="KIND", help="list the options of a kind of data (csv, folder, hf, digits, ...)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    given = parser.read(words)

    from tutelage.jobs import sources
    from tutelage.jobs.sources import LOCATED
    from tutelage.jobs.specs import changed

    if given.get("options"):
        return _print_options(given["options"])
    spec = given.get("data", "digits")
    data = sources.data_from(changed(spec, changes, LOCATED) if changes else spec)
    found = sources.described(data)
    print(json.dumps(found, indent=1)) if given.get("json") else _print(found)
    sources.check(data)  # last, so that the table shows what the error is about
    return 0


def _print(found: dict) -> None:
    from rich.markup import escape  # names of classes and columns may hold brackets
    from rich.table import Table

    out = console()
    sample = "; ".join(f"{k}: {v}" for k, v in found["columns"].items())
    out.print(f"{found['name']}: {found['kind'] or 'samples'} ({sample})", markup=False, highlight=False)
    table = Table(title="Samples by class and split" if found["classes"] else "Samples by split", title_justify="left")
    table.add_column("class")
    for split in found["splits"]:
        table.add_column(split, justify="right")
    for number, name in enumerate(found["classes"][:60]):
        table.add_row(escape(name), *(f"{s['counts'][number]:,}" if s["counts"] else "" for s in found["splits"].values()))
    if len(found["classes"]) > 60:
        table.add_row(f"and {len(found['classes']) - 60} more")
    table.add_section()
    table.add_row("all", *(f"{s['samples']:,}" for s in found["splits"].values()))
    out.print(table)
    if found["imbalance"] is not None:
        out.print(f"The largest class has {found['imbalance']:.1f} times the training samples of the smallest.", highlight=False)
    for line in found["examples"]:
        out.print(f"  {line}", markup=False, highlight=False)


def _print_options(kind: str) -> int:
    import inspect

    from docstring_parser import parse
    from rich.table import Table

    from tutelage.data import BUILT_IN
    from tutelage.errors import BadInput, nearest
    from tutelage.jobs.sources import LOCATED

    every = {**BUILT_IN, **LOCATED}
    if kind not in every:
        raise BadInput(f"data {kind!r} is not known{nearest(kind, every)}; expected one of {', '.join(every)}")
    about = parse(every[kind].__doc__ or "")
    help_of = {p.arg_name: p.description for p in about.params}
    table = Table(title=f"{kind}: {about.short_description}", title_justify="left")
    for column in ("option", "default", "what it does"):
        table.add_column(column)
    for parameter in inspect.signature(every[kind]).parameters.values():
        if parameter.name != "path":
            table.add_row(f"--data.{parameter.name}", _shown(parameter.default), " ".join((help_of.get(parameter.name) or "").split()))
    console().print(table, highlight=False)
    return 0


def _shown(default: object) -> str:
    return "" if default in (None, (), "") else str(default)
