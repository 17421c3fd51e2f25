"""`tutelage cache`: ask a teacher once and keep what it showed; `tutelage cache show` looks at what is kept."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from tutelage.cli.console import console
from tutelage.cli.parser import Parser, dashes_to_underscores, data_options
from tutelage.cli.words import flag
from tutelage.errors import BadInput, Failed, Mismatch, printable

if TYPE_CHECKING:
    from tutelage.jobs.cache import Result

EXAMPLES = """\
examples:
  tutelage cache --teacher runs/first/teacher --data digits --out runs/signals
  tutelage distill --teacher cache:runs/signals --student cnn:width=4,depth=4 --data digits
  tutelage cache --teacher hf:bert --data csv:mails.csv --data.label kind --keep top-8 --temperature 4 --out runs/mails --dry-run
  tutelage cache show runs/signals

The same command goes on after a crash, Ctrl-C or kill -9; started twice, or by `accelerate launch`, its processes share
the work. Validation and test are kept with all logits, so that reports can compare a student with a teacher that is
not there. Data that are augmented need --views: so many views of each sample are kept, and students study them in turn.

--data.NAME VALUE sets an option of the data; `tutelage data --options csv` and so on list them.
"""

SHOW_EXAMPLES = """\
examples:
  tutelage cache show runs/signals
  tutelage cache show runs/signals --data digits --teacher runs/first/teacher

All bits are compared with their checksums. The exit code is 1 where shards are damaged or missing, and 2 where the
teacher or the data given are not those of the cache.
"""

SHOWN = 5
"""Shards that are named, of those that are missing or damaged."""

HELP = {
    "teacher": "who is asked: a run folder, hf:FOLDER_OR_ID, timm:NAME, a built-in net with weights=FILE, or file.py:function",
    "data": "what it is asked about, as in `tutelage distill`",
    "out": "folder of the cache",
    "keep": "of each sample's logits: all, top-K (the K likeliest classes), sample-K (K classes drawn so that all are right on average), "
    "or none",
    "taps": "features to keep: module paths, or shares of the depth such as 0.5, with commas between them",
    "logits_as": "how the logits' numbers are kept: full, float16, bfloat16 or, of top-K and sample-K, 8-bit; default: full for all, else "
    "8-bit",
    "taps_as": "how the features' numbers are kept: full, float16, bfloat16, or 8-bit with a range for each channel",
    "temperature": "what top-K and sample-K logits are divided by first; students must be taught at this temperature",
    "views": "augmented views of each training sample that are kept besides the plain one",
    "batch_size": "samples the teacher is asked about at a time; with that of the students, they get from full precision just the bits "
    "that the teacher itself would give them",
    "seed": "of the views and of what sample-K draws",
    "evaluation": "keep all logits of validation and test, too",
    "max_gib": "refuse a cache that would be larger",
    "device": "where to compute: auto takes an accelerator where there is one, or cpu",
    "precision": "of the teacher's passes: fp32, bf16 or fp16",
    "dry_run": "show what would be written, and write nothing",
    "trust_code": "let a run folder name a .py file whose code then runs",
    "json": "print JSON on stdout",
    "quiet": "print no progress",
}


def run(words: Sequence[str]) -> int:
    """Parse, write, print; or look at what is there."""
    if words and words[0] == "show":
        return _show(words[1:])
    words, changes = data_options(dashes_to_underscores(words))
    given = _parser().read(words)
    as_json, dry = given.pop("json", False), given.get("dry_run", False)
    for name in ("teacher", "out"):
        if given.get(name) is None:
            raise BadInput(f"tutelage cache needs --{name}: {HELP[name]}")

    from tutelage.jobs.cache import cache
    from tutelage.jobs.sources import LOCATED
    from tutelage.jobs.specs import changed
    from tutelage.training import RunOptions

    options = RunOptions(**{key: given.pop(key) for key in ("device", "precision", "quiet") if key in given})
    if changes:
        given["data"] = changed(given.get("data", "digits"), changes, LOCATED)
    result = cache(**given, options=options)
    if not _main_process():
        return 0
    if as_json:
        print(json.dumps(_plain(result), indent=1, allow_nan=False))
    elif dry:
        _print_rows(result)
    else:
        _print_contents(result.contents)
        line = f"Teach from it: tutelage distill --teacher cache:{result.folder} --student ..."
        console().print(printable(line), highlight=False, markup=False, soft_wrap=True)
    return 0


def _parser() -> Parser:
    parser = Parser(
        prog="tutelage cache", description="Ask a teacher once and keep what it showed; students are then taught without the teacher."
    )
    parser.usage = "tutelage cache --teacher MODEL_OR_RUN [--data DATA] --out DIR [options], or tutelage cache show DIR"
    parser.epilog = EXAMPLES
    parser.add_argument("--teacher", type=str, metavar="MODEL_OR_RUN", help=HELP["teacher"])
    parser.add_argument("--data", type=str, default="digits", metavar="DATA", help=HELP["data"])
    parser.add_argument("--out", type=str, metavar="DIR", help=HELP["out"])
    kept = parser.add_argument_group("what is kept")
    kept.add_argument("--keep", type=str, default="all", metavar="WHAT", help=HELP["keep"])
    kept.add_argument("--taps", type=str, metavar="TAPS", help=HELP["taps"])
    kept.add_argument("--logits_as", type=str, metavar="PRECISION", help=HELP["logits_as"])
    kept.add_argument("--taps_as", type=str, default="full", metavar="PRECISION", help=HELP["taps_as"])
    kept.add_argument("--temperature", type=float, default=1.0, help=HELP["temperature"])
    kept.add_argument("--views", type=int, default=0, metavar="COUNT", help=HELP["views"])
    flag(kept, "evaluation", True, HELP)
    kept.add_argument("--max_gib", type=float, metavar="GIB", help=HELP["max_gib"])
    group = parser.add_argument_group("run")
    group.add_argument("--batch_size", type=int, default=None, metavar="SAMPLES", help=HELP["batch_size"])
    group.add_argument("--seed", type=int, default=0, help=HELP["seed"])
    group.add_argument("--device", type=str, default="auto", help=HELP["device"])
    group.add_argument("--precision", type=str, default="fp32", help=HELP["precision"])
    for name in ("dry_run", "trust_code", "json", "quiet"):
        flag(group, name, False, HELP)
    return parser


def _main_process() -> bool:
    from accelerate import PartialState

    return PartialState().is_main_process


def _plain(result: Result) -> dict[str, Any]:
    """What a script may want of a result."""
    return {
        "folder": None if result.folder is None else str(result.folder),
        "estimate": [asdict(row) for row in result.rows],
        "written": result.written,
        "seconds": result.seconds,
        "contents": dict(result.contents) or None,
    }


def _print_rows(result: Result) -> None:
    from tutelage.jobs.caching.estimate import table_of

    out = console()
    out.print(table_of(result.rows, f"What {result.about.teacher['name']} shows, as it would be kept (nothing was written)"))


def _show(words: Sequence[str]) -> int:
    words, changes = data_options(dashes_to_underscores(words))
    parser = Parser(
        prog="tutelage cache show", description="Show what a cache holds, and whether it is whole: all bits, and whose signals they are."
    )
    parser.epilog = SHOW_EXAMPLES
    parser.add_argument("path", type=str, metavar="DIR", help=HELP["out"])
    parser.add_argument("--teacher", type=str, metavar="MODEL_OR_RUN", help="a model that must be the one that was asked; needs --data")
    parser.add_argument("--data", type=str, metavar="DATA", help="data that must be those that it was asked about")
    parser.add_argument("--trust_code", action="store_true", help=HELP["trust_code"])
    parser.add_argument("--json", action="store_true", help=HELP["json"])
    given = parser.read(words)
    as_json = given.pop("json", False)
    if changes and given.get("data") is None:
        raise BadInput(f"--data.{changes[0][0]} is an option of --data, which is not given")

    from tutelage.jobs.cache import show
    from tutelage.jobs.sources import LOCATED
    from tutelage.jobs.specs import changed

    if changes:
        given["data"] = changed(given["data"], changes, LOCATED)
    found = show(**given)
    if as_json:
        print(json.dumps(found, indent=1))
    else:
        _print_contents(found, whole=True)
    if found["others"]:
        raise Mismatch("; ".join(found["others"]))
    if not found["finished"]:
        raise Failed(f"{_unfinished(found)}; run the command that writes the cache again: it keeps what is sound")
    return 0


def _unfinished(found: Mapping[str, Any]) -> str:
    missing = [name for split in found["splits"].values() for name in split["missing"]]
    damaged = [name for split in found["splits"].values() for name in split["damaged"]]
    said = []
    for names, what in ((missing, "missing"), (damaged, "damaged")):
        if names:
            more = f" and {len(names) - SHOWN:,} more" if len(names) > SHOWN else ""
            said.append(f"{len(names):,} {'shard is' if len(names) == 1 else 'shards are'} {what} ({', '.join(names[:SHOWN])}{more})")
    return f"in {found['folder']}, {' and '.join(said)}"


def _print_contents(found: Mapping[str, Any], whole: bool = False) -> None:
    from rich.table import Table
    from rich.text import Text

    from tutelage.jobs.caching.estimate import size

    out = console()
    about, data = found["teacher"], found["data"]
    title = f"{found['folder']}: {about.get('name')} on {data.get('name')}, {size(found['bytes'])}"
    table = Table(title=Text(printable(title)), title_justify="left")
    table.add_column("split")
    for column in ("samples", "views", "logits", "taps"):
        table.add_column(column, justify="right" if column in ("samples", "views") else "left", overflow="fold")
    for column in ("shards", "size", "bytes a sample and view"):
        table.add_column(column, justify="right")
    for name, split in found["splits"].items():
        ill = "".join(f", {len(split[what]):,} {what}" for what in ("missing", "damaged") if split[what])
        cells = (
            f"{split['samples']:,}",
            f"plain, {split['views']:,}" if split["views"] else "plain",
            _logits(split["logits"]),
            "\n".join(_tap(tap, kept) for tap, kept in split["taps"].items()),
            f"{split['shards']:,}{ill}",
            size(split["bytes"]),
            "\n".join(f"{signal} {count:,.1f}" for signal, count in split["bytes_a_sample"].items()),
        )
        table.add_row(Text(printable(name)), *(Text("\n".join(printable(line) for line in cell.splitlines())) for cell in cells))
    out.print(table)
    lines = [
        f"{name}: {split['bytes_a_row']:,.1f} bytes of logits a position, {split['rows']:,} of them"
        for name, split in found["splits"].items()
        if split["logits"] is not None and split["logits"]["positions"] and split["bytes_a_row"] is not None
    ]
    if whole:
        asked = about.get("asked")
        how = f", asked in batches of {asked.get('batch_size')} in {asked.get('precision')}" if isinstance(asked, Mapping) else ""
        lines += [f"Teacher: {about.get('spec') or about.get('name')}, weights {about.get('weights')}{how}"]
        lines += [f"Preprocessing: {about.get('preprocessing')}", f"Seed: {found['seed']}; fingerprint: {found['fingerprint']}"]
    for line in lines:
        out.print(printable(line), highlight=False, markup=False, soft_wrap=True)


def _logits(kept: Mapping[str, Any] | None) -> str:
    if kept is None:
        return "none"
    said = f"all {kept['classes']:,}" if kept["form"] == "dense" else f"{kept['form']}, {kept['kept']:,} of {kept['classes']:,}"
    at = "" if kept["form"] == "dense" else f", temperature {kept['temperature']:g}"
    return f"{said}{at}, {kept['precision']}{', by position' if kept['positions'] else ''}"


def _tap(name: str, kept: Mapping[str, Any]) -> str:
    at = "" if name == kept["path"] else f" ({kept['path']})"
    return f"{name}{at}: {' x '.join(map(str, kept['shape'])) or '1'}, {kept['precision']}"
