"""`tutelage compare`: which recipe is best for this pair of models and these data."""

from __future__ import annotations

import inspect
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
from tutelage.errors import BadInput, printable
from tutelage.jobs.compare import Comparison, compare, refuse_another_job
from tutelage.jobs.folder import read_config, read_settings
from tutelage.jobs.progress import duration
from tutelage.jobs.settings import changed_fit
from tutelage.jobs.sources import LOCATED
from tutelage.jobs.specs import changed
from tutelage.training import Fit

TEACHER_FIT: Fit = inspect.signature(compare).parameters["teacher_fit"].default

CONNECTED = ("storage", "address")
"""What is connected to: a file of somebody else must not say where, and passwords are in no file."""

EXAMPLES = """\
examples:
  tutelage compare --teacher cnn:width=32 --train-teacher --student cnn:width=4,depth=4 --data digits --out runs/which
  tutelage compare --teacher runs/first/teacher --student cnn:width=4,depth=4 --recipes hinton-kd hinton-kd:temperature=8 fitnets --seeds 5
  tutelage compare --teacher hf:my-classifier --student bag --data csv:mails.csv --data.label kind --data.text body --minutes 5 --dry-run
  tutelage compare --resume runs/which

Recipes are ranked by the mean over seeds on validation; what is said of them is about test. Intervals are over seeds, at 95 %, by
Student's t; the difference of two recipes is paired by seed. A difference is called seen where its p-value, raised by Holm's
method for all pairs of recipes, is below 0.05. --data.NAME VALUE sets an option of the data.
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
    recipes = settings.get("recipes")
    if recipes is not None and not (isinstance(recipes, list) and all(isinstance(each, str) for each in recipes)):
        raise BadInput(f"recipes: expected a list of names, found {type(recipes).__name__}")  # the parser breaks on others
    rest, changes = data_options(without(words, "resume"))
    given = _parser().read([*(["--config", str(Path(resumed) / "config.yaml")] if resumed else []), *rest])
    given.pop("config", None)
    _refuse_code(given, words)
    for name in CONNECTED:
        if settings.get(name) is not None and value_of(words, name) is None:
            raise BadInput(f"a file names the {name} {settings[name]!r} to connect to; only the command line may, so give --{name} again")
    if changes:
        given["data"] = changed(given.get("data", "digits"), changes, LOCATED)
    as_json = given.pop("json", False)
    if resumed:
        given["out"] = resumed
    given["teacher_fit"] = changed_fit(TEACHER_FIT, given.get("teacher_fit") or {}, "teacher_fit")
    found = compare(**given, resume=bool(resumed))
    if as_json:
        rows = {"rows": [asdict(row) for row in found.rows], "left_out": found.left_out}
        print(json.dumps(rows if found.folder is None else found.found, indent=1))
    elif found.folder is None:
        _print_rows(found)
    else:
        _print(found)
    return 0 if found.folder is None or found.found["winner"] else 1


def _refuse_code(given: Mapping[str, Any], words: Sequence[str]) -> None:
    """Refuse code that a file names and the user did not."""
    if "--trust_code" in words:
        return
    known = typed(words)
    for name in ("teacher", "student", "data", "recipes"):
        value = given.get(name)
        for each in value if isinstance(value, list) else [value]:
            if isinstance(each, str) and ".py:" in each and each not in known:
                raise untrusted(name, each)


def _parser() -> Parser:
    documented = parse_docstring(compare.__doc__ or "")
    help_of: dict[str, str | None] = {p.arg_name: p.description for p in documented.params}
    parser = Parser(prog="tutelage compare", description=documented.short_description)
    parser.usage = "tutelage compare --teacher MODEL_OR_RUN --student MODEL_OR_RUN [--data DATA] [--out FOLDER] [options]"
    parser.epilog = EXAMPLES
    parser.add_argument(
        "--config", action=ActionConfigFile, help="a YAML file of options; what is written behind it on the command line holds"
    )
    pair = parser.add_argument_group("teacher and student")
    for role in ("teacher", "student"):
        pair.add_argument(f"--{role}", type=str, metavar="MODEL_OR_RUN", help=help_of[role])
    flag(pair, "train_teacher", False, help_of)
    parser.add_argument("--data", type=str, default="digits", metavar="DATA", help=help_of["data"])
    method = parser.add_argument_group("method")
    method.add_argument("--recipes", type=str, nargs="+", metavar="NAME", help=help_of["recipes"])
    method.add_argument("--seeds", type=int, default=3, help=help_of["seeds"])
    method.add_argument("--seed", type=int, default=0, help=help_of["seed"])
    method.add_argument("--updates", type=int, help=help_of["updates"])
    method.add_argument("--minutes", type=float, help=help_of["minutes"])
    method.add_argument("--tune", type=int, default=0, metavar="TRAININGS", help=help_of["tune"])
    method.add_argument("--storage", type=str, metavar="URL", help=help_of["storage"])
    where = parser.add_argument_group("run")
    where.add_argument("--out", type=str, metavar="FOLDER", help=help_of["out"])
    where.add_argument("--resume", type=str, metavar="FOLDER", help="go on with a comparison from its folder, with its own settings")
    where.add_argument("--engine", type=str, default="processes", help=help_of["engine"])
    where.add_argument("--workers", type=int, help=help_of["workers"])
    where.add_argument("--threads", type=int, help=help_of["threads"])
    where.add_argument("--address", type=str, help=help_of["address"])
    for name in ("dry_run", "trust_code", "quiet"):
        flag(where, name, False, help_of)
    flag(where, "json", False, {"json": "print all numbers as JSON on stdout"})
    parser.add_class_arguments(Fit, "teacher_fit", help=help_of["teacher_fit"], default=asdict(TEACHER_FIT))
    return parser


def _print_rows(found: Comparison) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table(title="What would be trained (nothing was built or trained)")
    table.add_column("recipe")
    for column in ("updates of one training", "trainings", "time, roughly"):
        table.add_column(column, justify="right")
    for row in found.rows:
        each = "as many as fit" if row.updates is None else f"{row.updates:,}"
        table.add_row(Text(printable(row.name)), each, f"{row.trainings:,}", duration(row.seconds))
    known = [row.seconds for row in found.rows]
    total = None if None in known else sum(s for s in known if s is not None)
    updates = [row.updates * row.trainings for row in found.rows if row.updates is not None]
    table.add_section()
    whole = f"{sum(updates):,} in all" if len(updates) == len(found.rows) else ""
    table.add_row("total", whole, f"{sum(row.trainings for row in found.rows):,}", duration(total))
    console().print(table)
    _print_left_out(found.left_out)


def _print_left_out(left_out: Sequence[Mapping[str, str]]) -> None:
    for each in left_out:
        console().print(printable(f"Left out: {each['recipe']}: {each['reason']}"), highlight=False, markup=False, soft_wrap=True)


def _print(comparison: Comparison) -> None:
    from rich.table import Table
    from rich.text import Text

    found = comparison.found
    seeds = len(found["budget"]["seeds"])
    named = f"{found['data']}, {found['samples']:,} {found['split']} samples, {seeds} seed{'s' if seeds > 1 else ''}"
    table = Table(title=Text(printable(f"{named}; in brackets: 95 % intervals over seeds")), title_justify="left")
    metric = found["metric"]
    shares = (f"{metric}, {found['chosen_on']['split']}", f"{metric}, {found['split']}")
    for column in ("recipe", *shares, "winner's lead", "time of one", "verdict"):
        table.add_column(column, justify="left" if column in ("recipe", "verdict") else "right", overflow="fold")
    gaps = {gap["second"]: gap for gap in found["differences"]}
    for name in found["recipes"]:
        result = found["results"][name]
        took = result["seconds"]
        table.add_row(
            Text(printable(name)),
            "" if result["validation"] is None else f"{result['validation']['mean'] * 100:.2f} %",
            _between(result["test"].get(metric), "{:.2f}", " %"),
            _between(gaps.get(name), "{:+.2f}"),
            "" if took is None else duration(took["mean"]),
            Text(printable(_verdict(name, found, gaps))),
        )
    out = console()
    out.print(table)
    lines = [
        f"{name}, seed {each['seed']}: failed: {each['error']}" for name in found["recipes"] for each in found["results"][name]["failed"]
    ]
    for line in [*lines, found["said"]]:
        out.print(printable(line), highlight=False, markup=False, soft_wrap=True)
    _print_left_out(found["left_out"])
    winner = found["winner"]
    if winner is None:
        where = [f"Numbers: {comparison.folder}/compare.json"]
    else:
        best = f"{comparison.folder}/{winner['folder']}"
        where = [f"Report: {comparison.folder}/compare.html", f"Winner: {best} ({winner['recipe']}, seed {winner['seed']})"]
        where += [f"  tutelage evaluate {best}", f"  tutelage export {best} --to {'hf' if metric == 'likelihood' else 'onnx'}"]
    for line in where:
        out.print(printable(line), highlight=False, markup=False, soft_wrap=True)


def _between(ends: Mapping[str, Any] | None, form: str, unit: str = "") -> str:
    """A mean in hundredths with its interval."""
    if ends is None:
        return ""
    shown = form.format(ends["mean"] * 100) + unit
    return shown if ends["low"] is None else f"{shown} ({form.format(ends['low'] * 100)} to {form.format(ends['high'] * 100)})"


def _verdict(name: str, found: Mapping[str, Any], gaps: Mapping[str, Mapping[str, Any]]) -> str:
    result = found["results"][name]
    lost = f"; {len(result['failed'])} failed" if result["failed"] and result["seeds"] else ""
    if not result["seeds"]:
        return "failed"
    if found["winner"]["recipe"] == name:
        return f"best on {found['chosen_on']['split']}{lost}"
    gap = gaps.get(name)
    if gap is None or gap["low"] is None:
        return f"cannot be told{lost}"
    return {"first": "behind", "second": "ahead", None: "no difference seen"}[gap["better"]] + lost
