"""The pages that are written from the code at each build, into docs/generated (which git ignores): nothing in them is typed by hand."""

from __future__ import annotations

import contextlib
import importlib
import inspect
import io
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import cards
import claims
import found
import gallery
import scoreboard
import sizes
from docstrings import default_of, described, escaped
from tutelage.cli.main import COMMANDS
from tutelage.cli.parser import Parser

BELOW = {"cache": ("show",)}
"""Verbs that have verbs of their own."""
ROWS = ("tutelage.jobs.estimate.Row", "tutelage.jobs.caching.estimate.Row")


def write(docs: Path, results: Path = scoreboard.RESULTS) -> None:
    """Write all generated pages below docs/generated; a page that is as it was is left alone, so that it is not built again.

    Args:
        docs: the folder of the site's sources.
        results: where the results of reproductions lie.
    """
    folder, measured = docs / "generated", scoreboard.read(results)
    pages = {
        "commands.md": commands(),
        "data.md": data(),
        "nets.md": nets(),
        "benchmarks.md": benchmarks(docs),
        "names.txt": names(),
        "jobs.txt": jobs(),
        "cards.txt": cards.index(measured),
        "scoreboard.txt": claims.table(measured),
        **found.drawings(measured),
        **{f"claims/{name}.md": text for name, text in found.pages(measured).items()},
        **sizes.pages(),
        **{f"gallery/{name}.md": text for name, text in gallery.pages(measured).items()},
    }
    for name, text in pages.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        if not file.is_file() or file.read_text() != text:
            file.write_text(text)
    for old in {file for file in folder.rglob("*.*") if file.is_file()} - {folder / name for name in pages}:
        old.unlink()


class _Asked(Exception):
    """Carries a verb's parser out of the verb."""

    def __init__(self, parser: Parser) -> None:
        self.parser = parser


def parser_of(verb: str, *words: str) -> Parser:
    """The parser that a verb makes for these words: the verb is run up to where it would read them."""

    def stop(parser: Parser, _words: Any) -> Any:
        raise _Asked(parser)

    read, Parser.read = Parser.read, stop  # type: ignore[method-assign]
    try:
        importlib.import_module(f"tutelage.cli.{verb}").run(words)
    except _Asked as asked:
        return asked.parser
    finally:
        Parser.read = read  # type: ignore[method-assign]
    raise AssertionError(f"tutelage {verb} has no parser")


def commands() -> str:
    """Every verb with its options."""
    parts = ["# The command line", "Each verb with its options, from its own parser: what `tutelage VERB --help` prints."]
    parts.append("```console\n$ tutelage --help\n" + _printed(["--help"]) + "```")
    for verb, summary in COMMANDS.items():
        parser = parser_of(verb)
        parts += [f"## tutelage {verb}", _begun(_sentence(summary)), f"```text\n{_usage(parser)}\n```"]
        if verb == "distill":
            parts.append(
                "These are the options with the default recipe, `hinton-kd`. Another recipe has other roles and knobs: the "
                "[gallery](../gallery.md) lists them, and so does `tutelage distill --recipe NAME --help`."
            )
        for title, options in _groups(parser):
            parts += [f"### {_begun(title)}" if title else "", *options]
        if parser.epilog:
            parts.append(f"```text\n{parser.epilog.strip()}\n```")
        for word in BELOW.get(verb, ()):
            below = parser_of(verb, word)
            parts += [f"### tutelage {verb} {word}", below.description, f"```text\n{_usage(below)}\n```"]
            parts += [option for _, options in _groups(below) for option in options]
            parts.append(f"```text\n{below.epilog.strip()}\n```")
    return "\n\n".join(filter(None, parts)) + "\n"


def _printed(words: list[str]) -> str:
    from tutelage.cli.main import main

    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        main(words)
    return out.getvalue()


def _usage(parser: Parser) -> str:
    text = parser.usage or f"{parser.prog} {_positional(parser)}[options]"
    return "usage: " + text.replace("_", "-") if parser.usage is None else f"usage: {text}"


def _positional(parser: Parser) -> str:
    return "".join(f"[{a.dest}] " if a.nargs == "?" else f"{a.dest} " for a in parser._actions if not a.option_strings and a.dest)


def _groups(parser: Parser) -> Iterator[tuple[str, list[str]]]:
    for group in parser._action_groups:
        options = [_option(a) for a in group._group_actions if a.help != "==SUPPRESS==" and a.dest not in ("help", "print_config")]
        if options:
            yield _title(group), options


def _title(group: Any) -> str:
    """What a group of options is called: its own title, or for a bundle of knobs what it is for."""
    first, title = group._group_actions[-1].dest, group.title or ""
    if "." in first:
        return f"Training: --{first.partition('.')[0].replace('_', '-')}"
    if title in ("positional arguments", "options"):
        return ""
    return title if len(title) < 40 else "Knobs of hinton-kd"


def _option(action: Any) -> str:
    """One option as an item of a definition list."""
    named = [o.replace("_", "-") for o in action.option_strings if not o.startswith("--no_")] or [action.dest]
    flag = action.nargs == 0 or type(action).__name__ == "ActionYesNo"
    value = "" if flag or not action.option_strings else f" {action.metavar or action.dest.rpartition('.')[2].upper()}"
    if type(action).__name__ == "ActionYesNo" and action.default is True:
        named.append(f"--no-{named[0].removeprefix('--')}")
    said = _sentence(escaped(" ".join((action.help or "").split()))) or "."
    default = action.default
    if not (default is None or isinstance(default, bool) or default in ("==SUPPRESS==", "", (), [])):
        said += f" Default: `{default}`."
    term = " or ".join(f"`{n}{value}`" for n in named)
    return f"{term}\n: {said}"


def _begun(text: str) -> str:
    return text[:1].upper() + text[1:]


def _sentence(text: str) -> str:
    text = text.strip().rstrip(".")
    return f"{text}." if text else ""


def _options(function: Callable[..., Any], prefix: str, leave_out: tuple[str, ...] = ()) -> str:
    """The parameters of a function as a definition list."""
    said = described(function).arguments
    items = []
    for name, parameter in inspect.signature(function).parameters.items():
        if name in leave_out or parameter.kind in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL):
            continue
        default = default_of(parameter)
        items.append(f"`{prefix}{name}`\n: {_sentence(escaped(said.get(name, '')))}" + (f" Default: `{default}`." if default else ""))
    return "\n\n".join(items)


def data() -> str:
    """The kinds of data with their options."""
    from tutelage.data import BUILT_IN, LOCATED
    from tutelage.data.augment import OPERATIONS, Augmented

    parts = ["# Kinds of data", "What may stand behind `--data`, with the options of each, as `tutelage data --options KIND` lists them."]
    parts.append(
        "An option is set by `--data.NAME VALUE`, or in the data's own name: `csv:mails.csv:label=kind`. Besides these, "
        "`file.py:function` calls your function, which gives a `Data`, a torch or Hugging Face data set, or a mapping of splits."
    )
    kinds: Mapping[str, Callable[..., Any]] = {**LOCATED, **BUILT_IN}
    for kind, function in kinds.items():
        about = described(function)
        title = f"{kind}:{'FOLDER_OR_ID' if kind == 'hf' else 'PATH' if kind == 'folder' else 'FILE'}" if kind in LOCATED else kind
        parts += [f"## {title}", escaped(about.summary), escaped(about.text), _options(function, "--data.", ("path",))]
        if about.sections.get("Returns"):
            parts.append(f"*What a batch holds.* {escaped(about.sections['Returns'])}")
    parts += ["## Augmentation", "The operations of `--data.augment`, with commas between them:"]
    lines = re.findall(r"^ *`(\w+)(?:=(\w+))?`: (.*?);?\.?$", Augmented.__doc__ or "", re.MULTILINE)
    assert {name for name, _, _ in lines} == set(OPERATIONS)
    parts += [f"`{name}{'=' + unit if unit else ''}`\n: {_sentence(escaped(text))}" for name, unit, text in lines]
    parts.append("What comes in from outside an image is 0. What is drawn for a sample is a function of the seed, its id and the epoch.")
    return "\n\n".join(filter(None, parts)) + "\n"


def nets() -> str:
    """The built-in nets with their sizes."""
    from tutelage import students
    from tutelage.students.hf import hf

    parts = ["# Models", "What may stand behind `--teacher` and `--student`. A model's options follow a colon: `cnn:width=16,depth=3`."]
    parts.append(
        "The number of classes, the channels and the side of images and the count of numbers come from the data; you need not give them."
    )
    for name in students.__all__:
        function = getattr(students, name)
        about = described(function)
        parts += [f"## {name}", escaped(about.summary), escaped(about.text), f"Takes {' or '.join(function.takes)}."]
        parts.append(_options(function, "", ("classes", "channels", "size", "inputs")))
        if about.sections.get("Source"):
            parts.append(f"*Source.* {escaped(about.sections['Source'])}")
    about = described(hf)
    given = ("where", "kind", "classes", "count", "seed")
    parts += ["## hf:FOLDER_OR_ID", escaped(about.summary), escaped(about.text), _options(hf, "", given)]
    parts.append("Any other option is a setting of its config, such as `num_hidden_layers=2`; with weights, layers beyond it are left out.")
    parts += ["## file.py:function", "Your own net: see [](../how-to/own-model.md)."]
    parts += ["## RUN", "The folder of an earlier run, or that of its teacher: `runs/first`, `runs/first/teacher`."]
    return "\n\n".join(filter(None, parts)) + "\n"


def names() -> str:
    """All public names of the package, each with the room where it lives."""
    import tutelage

    rows = []
    for name, where in tutelage._WHERE.items():
        thing = getattr(tutelage, name)
        first = (inspect.getdoc(thing) or "").split("\n", 1)[0]
        room = ".".join(where.split(".")[:2])
        kind = "class" if inspect.isclass(thing) else "func"
        target = f"{room if name in _public(room) else where}.{name}"
        rows.append(f"{{py:{kind}}}`{name} <{target}>`\n: {escaped(first)}")
    return "\n\n".join(rows) + "\n"


def jobs() -> str:
    """The public functions that do what commands do, each with what it gives."""
    import tutelage

    parts = []
    for name, where in tutelage._WHERE.items():
        if where.startswith("tutelage.jobs."):
            own = vars(importlib.import_module(where)).items()
            given = [n for n, thing in own if inspect.isclass(thing) and thing.__module__ == where and not n.startswith("_")]
            parts += [f".. autofunction:: {where}.{name}", *(f".. autoclass:: {where}.{each}\n   :members:" for each in given)]
    return "```{eval-rst}\n" + "\n\n".join([*parts, *(f".. autoclass:: {row}" for row in ROWS)]) + "\n```\n"


def benchmarks(docs: Path) -> str:
    """What `make bench` has written, where it has."""
    if (docs / "benchmarks.md").is_file():
        return "```{include} ../benchmarks.md\n```\n"
    return "# Benchmarks\n\n`make bench` measures and writes this page; this copy of the site was built without it.\n"


def _public(room: str) -> list[str]:
    """The names that a room's page shows."""
    return getattr(importlib.import_module(room), "__all__", [])
