"""`tutelage generate MODEL`: let a language model answer prompts, and keep its text to teach by."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

from tutelage.cli.console import console
from tutelage.cli.parser import Parser, dashes_to_underscores, data_options
from tutelage.cli.words import flag
from tutelage.errors import BadInput, printable

if TYPE_CHECKING:
    from tutelage.jobs.generate import Generated

EXAMPLES = """\
examples:
  tutelage generate hf:my-llm --data lessons:prompts.jsonl --out answers.jsonl
  tutelage generate server:http://localhost:8000/v1 --data lessons:chats.jsonl --out answers.jsonl
  tutelage generate server:https://api.example.org/v1:model=large,concurrency=4 --data lessons:prompts.jsonl \\
      --temperature 0.7 --outputs 4 --out answers.jsonl
  tutelage distill --recipe alone --student hf:my-llm:layers=2 --data lessons:answers.jsonl

Asked are chats (a column `messages`, up to their last answer), prompts (`prompt` or `instruction`), or, of a model
at hand, running text (`text`), of which it gets the first tokens. Answers that are in the rows are not read. The file
that is written has one row an answer; where the data have splits of their own, it says which (--data.split split).

Answers are kept in FILE.part as they come; the same command goes on after a crash or Ctrl-C. The key of a server is
read from the environment, OPENAI_API_KEY, and written nowhere. To teach from a model at hand in one go, there is
`tutelage distill --recipe seqkd`.

--data.NAME VALUE sets an option of the data: columns, id, split, template, missing and others.
"""

HELP = {
    "data": "what is asked: lessons:PATH, with chats, prompts or running text",
    "out": "the rows to write, a file that ends in .jsonl",
    "tokens": "most of an answer; one that is cut there is left out, but for running text",
    "temperature": "of the drawing; 0 takes the likeliest token",
    "top_k": "draw from so many likeliest tokens only; 0 for all",
    "top_p": "draw from the fewest likeliest tokens whose probability adds up to so much",
    "outputs": "answers to each prompt",
    "prompt": "tokens of running text that the model goes on from",
    "batch_size": "prompts that a model at hand answers at a time",
    "seed": "of what is drawn; a server may heed it or not",
    "device": "where to compute: auto takes an accelerator where there is one, or cpu",
    "trust_code": "let a run folder name a .py file whose code then runs",
    "json": "print JSON on stdout",
    "quiet": "print no progress",
}

NUMBERS = {"tokens": 512, "temperature": 1.0, "top_k": 0, "top_p": 1.0, "outputs": 1, "prompt": 32}


def run(words: Sequence[str]) -> int:
    """Parse, let it write, print."""
    words, changes = data_options(dashes_to_underscores(words))
    parser = Parser(prog="tutelage generate", description="Let a language model answer prompts, and keep its text to teach by.")
    parser.epilog = EXAMPLES
    parser.add_argument("model", type=str, metavar="MODEL", help="hf:FOLDER_OR_ID, a run folder, or server:URL[:model=NAME]")
    parser.add_argument("--data", type=str, metavar="DATA", help=HELP["data"])
    parser.add_argument("--out", type=str, metavar="FILE.jsonl", help=HELP["out"])
    writing = parser.add_argument_group("writing")
    for name, value in NUMBERS.items():
        writing.add_argument(f"--{name}", type=type(value), default=value, help=HELP[name])
    group = parser.add_argument_group("run")
    group.add_argument("--batch_size", type=int, default=16, metavar="PROMPTS", help=HELP["batch_size"])
    group.add_argument("--seed", type=int, default=0, help=HELP["seed"])
    group.add_argument("--device", type=str, default="auto", help=HELP["device"])
    for name in ("trust_code", "json", "quiet"):
        flag(group, name, False, HELP)
    given = parser.read(words)
    as_json = given.pop("json", False)
    for name in ("data", "out"):
        if given.get(name) is None:
            raise BadInput(f"tutelage generate needs --{name}: {HELP[name]}")

    from tutelage.jobs.generate import generate
    from tutelage.jobs.sources import LOCATED
    from tutelage.jobs.specs import changed

    if changes:
        given["data"] = changed(given["data"], changes, LOCATED)
    found = generate(given.pop("model"), given.pop("data"), **given)
    if as_json:
        print(json.dumps({**vars(found), "file": str(found.file)}, indent=1))
    else:
        _print(found)
    return 0


def _print(found: Generated) -> None:
    lines = [f"{found.by} wrote {found.rows:,} of {found.asked:,} answers into {found.file}"]
    lines += [f"left out: {count:,}, each of which {why}" for why, count in found.left_out.items()]
    lines.append(f"Teach by them: tutelage distill --recipe alone --student ... --data lessons:{found.file}")
    for line in lines:
        console().print(printable(line), highlight=False, markup=False, soft_wrap=True)
