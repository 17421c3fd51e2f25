"""`tutelage condense`: a training set becomes a few samples a class."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from docstring_parser import parse as parse_docstring
from jsonargparse import ActionConfigFile

from tutelage.cli.console import console
from tutelage.cli.distill import print_rows
from tutelage.cli.parser import Parser, dashes_to_underscores, data_options
from tutelage.cli.words import every, flag, refuse_typed, typed, untrusted, value_of, without
from tutelage.errors import BadInput, printable
from tutelage.jobs.condense import Condensation, condense, refuse_another_job
from tutelage.jobs.folder import read_config, read_settings
from tutelage.jobs.sources import LOCATED
from tutelage.jobs.specs import changed
from tutelage.recipes import load, roles
from tutelage.training import Plan, RunOptions

DEFAULT: str = inspect.signature(condense).parameters["recipe"].default
EXAMPLES = """\
examples:
  tutelage condense --student cnn:width=8 --data digits --per-class 1 --out runs/condensed
  tutelage distill --recipe alone --student cnn:width=8 --data condensed:runs/condensed
  tutelage condense --student cnn:width=16 --recipe ast --data folder:photos --per-class 10 --unseen mlp:width=64 --dry-run
  tutelage condense --resume runs/condensed --studies 10

The set is judged by nets that learn from scratch on it, on as many real samples, and on all. --data.NAME VALUE sets an option of the
data. Options of another recipe: add --recipe NAME before --help.
"""


def run(words: Sequence[str]) -> int:
    """Parse, call, print."""
    words = dashes_to_underscores(words)
    resumed, file = value_of(words, "resume"), value_of(words, "config")
    settings = read_settings(Path(file), f"--config {file}") if file else {}
    if resumed:
        settings = read_config(Path(resumed))
        refuse_another_job(settings, resumed)
    refuse_typed(settings)
    recipe = value_of(words, "recipe") or settings.get("recipe") or DEFAULT
    if not isinstance(recipe, str):
        raise BadInput(f"recipe: expected a name, found {type(recipe).__name__}")
    if ".py:" in recipe and recipe != value_of(words, "recipe") and "--trust_code" not in words:
        raise untrusted("recipe", recipe)
    function = load(recipe)
    unseen = every(words, "unseen")
    rest, changes = data_options(without(without(words, "resume"), "unseen"))
    given = _parser(function).read([*(["--config", str(Path(resumed) / "config.yaml")] if resumed else []), *rest])
    given.pop("config", None)
    given["unseen"] = unseen or given.get("unseen") or []
    _refuse_code(given, words)
    if changes:
        given["data"] = changed(given.get("data", "digits"), changes, LOCATED)
    as_json = given.pop("json", False)
    options = RunOptions(**{k: given.pop(k) for k in list(given) if k in inspect.signature(RunOptions).parameters})
    given["recipe"] = recipe
    if resumed:
        given["out"] = resumed
    found = condense(**given, resume=bool(resumed), options=options)
    if found.folder is None:
        print_rows(found.rows)
    elif as_json:
        print(json.dumps(found.found, indent=1))
    else:
        _print(found)
    return 0


def _refuse_code(given: Mapping[str, Any], words: Sequence[str]) -> None:
    """Refuse code that a file names and the user did not, and what only Python can give."""
    known = typed(words)
    for name, value in (("student", given.get("student")), ("data", given.get("data")), *(("unseen", each) for each in given["unseen"])):
        if isinstance(value, str) and value.startswith("<"):
            raise BadInput(f"the {name} of this run is {value}; resume it from Python with condense(..., resume=True)")
        if isinstance(value, str) and ".py:" in value and value not in known and "--trust_code" not in words:
            raise untrusted(name, value)


def _parser(function: Callable[..., Plan]) -> Parser:
    documented = parse_docstring(condense.__doc__ or "")
    help_of: dict[str, str | None] = {p.arg_name: p.description for p in documented.params}
    parser = Parser(prog="tutelage condense", description=documented.short_description)
    parser.usage = "tutelage condense --student NET [--data DATA] [--recipe mtt|ast] [--per-class K] [--out FOLDER] [options]"
    parser.epilog = EXAMPLES
    parser.add_argument(
        "--config", action=ActionConfigFile, help="a YAML file of options; what is written behind it on the command line holds"
    )
    parser.add_argument("--data", type=str, default="digits", metavar="DATA", help=help_of["data"])
    parser.add_argument("--student", type=str, metavar="NET", help=help_of["student"])
    parser.add_argument("--recipe", type=str, default=DEFAULT, metavar="NAME", help=help_of["recipe"])
    judged = parser.add_argument_group("report")
    judged.add_argument("--unseen", type=list[str], default=[], metavar="NET", help=f"{help_of['unseen']} Give it once for each.")
    judged.add_argument("--studies", type=int, default=3, help=help_of["studies"])
    where = parser.add_argument_group("run")
    where.add_argument("--out", type=str, metavar="FOLDER", help=help_of["out"])
    where.add_argument("--resume", type=str, metavar="FOLDER", help="go on with a condensation from its folder, with its own settings")
    where.add_argument("--seed", type=int, default=0, help=help_of["seed"])
    for name in ("dry_run", "trust_code"):
        flag(where, name, False, help_of)
    flag(where, "json", False, {"json": "print all numbers as JSON on stdout"})
    flags = {"compile", "quiet"}
    parser.add_class_arguments(RunOptions, as_group=True, skip=flags)
    for name in sorted(flags):
        flag(where, name, False, {p.arg_name: p.description for p in parse_docstring(RunOptions.__doc__ or "").params})
    parser.add_function_arguments(function, skip=set(roles(function)), as_group=True)
    return parser


def _print(result: Condensation) -> None:
    from rich.table import Table
    from rich.text import Text

    from tutelage.evaluation.condense_page import gain

    found = result.found
    about = f"{found['condensed']:,} samples for {found['samples']:,} of {found['data']}, by {found['recipe']}"
    table = Table(title=Text(printable(about)), title_justify="left")
    for column in ("net", "learns from", "samples", "accuracy", "95 % interval"):
        table.add_column(column, justify="left" if column in ("net", "learns from") else "right", overflow="fold")
    for row in found["rows"]:
        ends = "" if row["low"] is None else f"{100 * row['low']:.2f} to {100 * row['high']:.2f} %"
        table.add_row(Text(printable(row["net"])), row["arm"], f"{row['samples']:,}", f"{100 * row['mean']:.2f} %", ends)
    out = console()
    out.print(table)
    for line in (gain(found), f"Report: {result.folder}/condense.html", f"Set: --data condensed:{result.folder}"):
        out.print(printable(line), highlight=False, markup=False, soft_wrap=True)
