"""`tutelage distill`: its options are the job's parameters, the recipe's roles and knobs, and the run options."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml
from docstring_parser import parse as parse_docstring
from jsonargparse import ActionConfigFile

from tutelage.cli.console import console
from tutelage.cli.parser import Parser, dashes_to_underscores, data_options
from tutelage.cli.tables import print_report
from tutelage.cli.words import every, flag, refuse_typed, typed, untrusted, value_of, without
from tutelage.errors import BadInput
from tutelage.jobs.distill import distill
from tutelage.jobs.estimate import Row
from tutelage.jobs.folder import read_config, read_settings
from tutelage.jobs.progress import duration
from tutelage.jobs.settings import changed_fit, settled
from tutelage.jobs.sources import LOCATED
from tutelage.jobs.specs import changed
from tutelage.recipes import knobs, load, roles
from tutelage.training import Fit, Plan, RunOptions

TEACHER_FIT: Fit = inspect.signature(distill).parameters["teacher_fit"].default
SHORTHANDS = {"epochs": "fit.epochs", "steps": "fit.steps", "lr": "fit.lr", "batch_size": "fit.batch_size"}

EXAMPLES = """\
examples:
  tutelage distill --teacher cnn:width=32 --train-teacher --student cnn:width=4,depth=4 --data digits --epochs 60 --lr 1e-2 --out runs/first
  tutelage distill --teacher runs/first/teacher --student net.py:small --recipe fitnets --fit.epochs 20 --seed 1
  tutelage distill --teacher cache:runs/signals --student cnn:width=4,depth=4
  tutelage distill --teacher hf:bert --student hf:bert:num_hidden_layers=2 --train-teacher \
    --data csv:mails.csv --data.label kind --data.text body

--data.NAME VALUE sets an option of the data; `tutelage data --options csv` and so on list them.
--epochs, --steps, --lr and --batch-size are short for --fit.epochs and so on. Options of another recipe: add --recipe NAME before --help.
"""


def run(words: Sequence[str]) -> int:
    """Parse, call, print."""
    words = _joined(dashes_to_underscores(words), "track")
    resumed = value_of(words, "resume")
    file = value_of(words, "config")
    settings = read_settings(Path(file), f"--config {file}") if file else {}
    if resumed:
        settings = read_config(Path(resumed))
        if "studies" in settings:
            raise BadInput(f"{resumed} holds a condensation; go on with: tutelage condense --resume {resumed}")
        if "space" in settings and "recipe" not in settings:
            raise BadInput(f"{resumed} holds a search; go on with: tutelage search --resume {resumed}")
    refuse_typed(settings)
    recipe = value_of(words, "recipe") or settings.get("recipe") or "hinton-kd"
    if not isinstance(recipe, str):
        raise BadInput(f"recipe: expected a name, found {type(recipe).__name__}")
    trusted = "--trust_code" in words
    if ".py:" in recipe and recipe != value_of(words, "recipe") and not trusted:
        raise untrusted("recipe", recipe)
    function = load(recipe)
    parser = _parser(function, recipe)
    rest = _expand(without(words, "resume"), function)
    show = "--print_config" in rest
    rest = [w for w in rest if w != "--print_config"]
    rest, changes = data_options(rest)
    given = parser.read([*(["--config", str(Path(resumed) / "config.yaml")] if resumed else []), *rest])
    given.pop("config", None)
    for role in ("data", *roles(function)):
        value = given.get(role)
        if isinstance(value, str) and value.startswith("<"):
            raise BadInput(f"the {role} of this run is {value}; resume it from Python with distill(..., resume=True)")
        if isinstance(value, str) and ".py:" in value and value not in typed(words) and not trusted:
            raise untrusted(role, value)
    if changes:
        given["data"] = changed(given.get("data", "digits"), changes, LOCATED)
    as_json, dry = given.pop("json", False), given.get("dry_run", False)
    options = RunOptions(**{k: given.pop(k) for k in list(given) if k in inspect.signature(RunOptions).parameters})
    for name in list(given):
        if isinstance(given[name], dict) and (name == "teacher_fit" or isinstance(knobs(function)[name].default, Fit)):
            given[name] = _one_duration(given[name], name, rest)
    teacher_fit = changed_fit(TEACHER_FIT, given.pop("teacher_fit", {}), "teacher_fit")
    if show:
        print(yaml.safe_dump(settled(recipe, function, given, teacher_fit, options), sort_keys=False), end="")
        return 0
    given["recipe"] = recipe
    if resumed:
        given["out"] = resumed
    result = distill(**given, resume=bool(resumed), options=options, teacher_fit=teacher_fit)
    if dry:
        print_rows(result.rows)
    elif _main_process():
        if as_json:
            print(json.dumps(result.report, indent=1))
        else:
            print_report(result.report)
            console().print(f"Run folder: {result.folder}\nReport: {result.folder}/report.html", highlight=False, markup=False)
    return 0


def _main_process() -> bool:
    from accelerate import PartialState

    return PartialState().is_main_process


def _joined(words: Sequence[str], name: str) -> list[str]:
    """The words with all values of an option as one, commas between them."""
    values = every(words, name)
    return [*without(words, name), f"--{name}={','.join(values)}"] if len(values) > 1 else list(words)


def _expand(words: Sequence[str], function: Callable[..., Plan]) -> list[str]:
    """Write the shorthands out, where the recipe has a `fit`."""
    if "fit" not in knobs(function):
        return list(words)
    expanded = []
    for word in words:
        name, equals, value = word.partition("=")
        expanded.append(f"--{SHORTHANDS[name[2:]]}{equals}{value}" if name[:2] == "--" and name[2:] in SHORTHANDS else word)
    return expanded


def _one_duration(fit: dict[str, Any], name: str, words: Sequence[str]) -> dict[str, Any]:
    """Where a file gave one of epochs and steps and the command line the other, the command line holds."""
    said = {k for k in ("epochs", "steps") if any(w.partition("=")[0] == f"--{name}.{k}" for w in words)}
    if len(said) == 1:
        fit = {**fit, ({"epochs", "steps"} - said).pop(): None}
    return fit


def _parser(function: Callable[..., Plan], recipe: str) -> Parser:
    documented = parse_docstring(distill.__doc__ or "")
    help_of = {p.arg_name: p.description for p in documented.params}
    about = parse_docstring(function.__doc__ or "")
    help_of |= {p.arg_name: p.description for p in about.params if p.arg_name not in help_of}
    parser = Parser(prog="tutelage distill", description=documented.short_description)
    parser.usage = (
        f"tutelage distill {' '.join(f'--{r} MODEL_OR_RUN' for r in roles(function) if r != 'data')} [--data DATA] [--out RUN] [options]"
    )
    parser.epilog = EXAMPLES
    parser.add_argument(
        "--config", action=ActionConfigFile, help="a YAML file of options; what is written behind it on the command line holds"
    )
    teacher = parser.add_argument_group("teacher and student")
    for role in [r for r in roles(function) if r != "data"]:
        teacher.add_argument(f"--{role}", type=str, metavar="MODEL_OR_RUN", help=help_of.get(role))
    for unused in {"teacher", "student"} - set(roles(function)):
        teacher.add_argument(f"--{unused}", type=str, metavar="MODEL_OR_RUN", help=f"not taken by {recipe}")
    flag(teacher, "train_teacher", False, help_of)
    parser.add_argument("--data", type=str, default="digits", metavar="DATA", help=help_of["data"])
    run = parser.add_argument_group("run")
    run.add_argument("--out", type=str, metavar="RUN", help=help_of["out"])
    run.add_argument("--seed", type=int, default=0, help=help_of["seed"])
    run.add_argument("--resume", type=str, metavar="RUN", help="go on with a run from its folder, with its own settings")
    run.add_argument("--views", type=int, metavar="COUNT", help=help_of["views"])
    for name, default in (("baseline", True), ("dry_run", False), ("trust_code", False)):
        flag(run, name, default, help_of)
    flag(run, "json", False, {"json": "print the report as JSON on stdout"})
    flags = {"compile", "quiet"}
    parser.add_class_arguments(RunOptions, as_group=True, skip=flags)
    for name in sorted(flags):
        flag(run, name, False, {p.arg_name: p.description for p in parse_docstring(RunOptions.__doc__ or "").params})
    parser.add_argument("--recipe", type=str, default="hinton-kd", metavar="NAME", help=help_of["recipe"])
    parser.add_function_arguments(function, skip=set(roles(function)), as_group=True)
    parser.add_class_arguments(Fit, "teacher_fit", help=help_of["teacher_fit"], default=asdict(TEACHER_FIT))
    return parser


def print_rows(rows: Sequence[Row]) -> None:
    """The table of a dry run."""
    from rich.table import Table

    table = Table(title="What would happen (nothing was built or trained)")
    for column, justify in (("plan", "left"), ("stage", "left"), ("trains", "left"), ("teacher passes", "left")):
        table.add_column(column, justify=justify)  # type: ignore[arg-type]
    for column in ("updates", "samples", "time, roughly"):
        table.add_column(column, justify="right")
    for row in rows:
        table.add_row(row.plan, row.stage, row.trains, row.teacher, f"{row.steps:,}", f"{row.samples:,}", duration(row.seconds))
    known = [row.seconds for row in rows]
    total = None if None in known else sum(s for s in known if s is not None)
    table.add_section()
    table.add_row("total", "", "", "", f"{sum(r.steps for r in rows):,}", f"{sum(r.samples for r in rows):,}", duration(total))
    console().print(table)
