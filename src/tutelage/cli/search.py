"""`tutelage search`: find a student's architecture for a teacher, data and a budget, without training any."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from docstring_parser import parse as parse_docstring
from jsonargparse import ActionConfigFile

from tutelage.cli.console import console
from tutelage.cli.parser import Parser, dashes_to_underscores, data_options
from tutelage.cli.words import flag, refuse_typed, typed, untrusted, value_of, without
from tutelage.errors import printable
from tutelage.jobs.folder import read_config, read_settings
from tutelage.jobs.search import Search, refuse_another_job, search
from tutelage.jobs.sources import LOCATED
from tutelage.jobs.specs import changed

EXAMPLES = """\
examples:
  tutelage search --teacher runs/first/teacher --space resnet --budget params=20k --data digits --out runs/found
  tutelage distill --teacher runs/first/teacher --student runs/found --data digits
  tutelage search --teacher cnn:width=32 --space vit --budget flops=2M,latency=2ms --candidates 100 --dry-run
  tutelage search --score synflow --space nets.py:space --budget params=1M --data folder:photos
  tutelage search --resume runs/found --candidates 1000

No net is trained: each is scored by its first weights on a batch of the data. What a score is worth is measured:
tutelage reproduce diswot. A space of your own is a function that gives a tutelage.students.space.Space.
--data.NAME VALUE sets an option of the data.
"""
SHOWN = 5


def run(words: Sequence[str]) -> int:
    """Parse, call, print."""
    words = dashes_to_underscores(words)
    resumed, file = value_of(words, "resume"), value_of(words, "config")
    settings = read_settings(Path(file), f"--config {file}") if file else {}
    if resumed:
        settings = read_config(Path(resumed))
        refuse_another_job(settings, resumed)
    refuse_typed(settings)
    rest, changes = data_options(without(words, "resume"))
    given = _parser().read([*(["--config", str(Path(resumed) / "config.yaml")] if resumed else []), *rest])
    given.pop("config", None)
    _refuse_code(given, words)
    if changes:
        given["data"] = changed(given.get("data", "digits"), changes, LOCATED)
    as_json = given.pop("json", False)
    if resumed:
        given["out"] = resumed
    found = search(**given, resume=bool(resumed))
    if as_json:
        print(json.dumps([asdict(row) for row in found.rows] if found.folder is None else found.found, indent=1))
    elif found.folder is None:
        _print_rows(found)
    else:
        _print(found)
    return 0


def _refuse_code(given: Mapping[str, Any], words: Sequence[str]) -> None:
    """Refuse code that a file names and the user did not."""
    if "--trust_code" in words:
        return
    known = typed(words)
    for name in ("teacher", "data", "space"):
        value = given.get(name)
        if isinstance(value, str) and ".py:" in value and value not in known:
            raise untrusted(name, value)


def _parser() -> Parser:
    documented = parse_docstring(search.__doc__ or "")
    help_of: dict[str, str | None] = {p.arg_name: p.description for p in documented.params}
    parser = Parser(prog="tutelage search", description=documented.short_description)
    parser.usage = "tutelage search --teacher MODEL_OR_RUN [--space SPACE] [--budget BUDGET] [--data DATA] [--out FOLDER] [options]"
    parser.epilog = EXAMPLES
    parser.add_argument(
        "--config", action=ActionConfigFile, help="a YAML file of options; what is written behind it on the command line holds"
    )
    parser.add_argument("--teacher", type=str, metavar="MODEL_OR_RUN", help=help_of["teacher"])
    parser.add_argument("--data", type=str, default="digits", metavar="DATA", help=help_of["data"])
    method = parser.add_argument_group("method")
    for name, default in (("space", "resnet"), ("budget", None), ("score", "diswot"), ("teacher_weights", "fresh")):
        method.add_argument(f"--{name}", type=str, default=default, help=help_of[name])
    for name, number in (("candidates", 300), ("population", 20), ("parents", 5), ("batch_size", 128), ("batches", 1), ("seed", 0)):
        method.add_argument(f"--{name}", type=int, default=number, help=help_of[name])
    where = parser.add_argument_group("run")
    where.add_argument("--out", type=str, metavar="FOLDER", help=help_of["out"])
    where.add_argument("--resume", type=str, metavar="FOLDER", help="go on with a search from its folder, with its own settings")
    where.add_argument("--device", type=str, default="auto", help=help_of["device"])
    for name in ("dry_run", "trust_code", "quiet"):
        flag(where, name, False, help_of)
    flag(where, "json", False, {"json": "print all numbers as JSON on stdout"})
    return parser


def _print_rows(found: Search) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table(title="What would be searched (nothing was scored)", show_header=False)
    for row in found.rows:
        table.add_row(row.what, Text(printable(row.value)))
    console().print(table)


def _print(result: Search) -> None:
    from rich.table import Table
    from rich.text import Text

    found = result.found
    about = f"{found['scored']:,} nets of {found['space']['name']} scored by {found['score']} on {found['data']}, {found['seconds']:.0f} s"
    table = Table(title=Text(printable(about)), title_justify="left")
    kinds = list(found["best"][0]["costs"])
    for column in ("net", "score", *kinds):
        table.add_column(column, justify="left" if column == "net" else "right", overflow="fold")
    for row in found["best"][:SHOWN]:
        table.add_row(Text(printable(row["spec"])), f"{row['score']:.5g}", *(f"{row['costs'][kind]:,.6g}" for kind in kinds))
    out = console()
    out.print(table)
    early = [] if found["complete"] else ["The search ended early: no other net that fits was found in the space."]
    teacher = found["settings"].get("teacher", "TEACHER")
    lines = [*early, f"Report: {result.folder}/search.html", f"Student: {result.folder} ({result.spec})"]
    lines.append(f"  tutelage distill --teacher {teacher} --student {result.folder} --data {found['settings']['data']}")
    for line in lines:
        out.print(printable(line), highlight=False, markup=False, soft_wrap=True)
