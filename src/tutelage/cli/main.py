"""`tutelage VERB ...`: finds the verb's module, and turns our errors into one line and an exit code.

Imports nothing heavy: `tutelage --help` must answer at once.
"""

from __future__ import annotations

import errno
import importlib
import os
import sys
from collections.abc import Sequence

from tutelage import __version__
from tutelage.errors import TutelageError, nearest, printable

COMMANDS = {
    "distill": "teach a small model with a big one, and compare it with the same model trained alone",
    "cache": "ask a teacher once and keep what it showed, to teach any number of students from disk",
    "generate": "let a language model, at hand or behind a server, answer prompts, and keep its text to teach by",
    "sample": "let a trained generator draw images, and say how near they come to real ones",
    "condense": "make a few samples a class of a training set, from which nets learn almost what they would from all",
    "search": "find a student for a teacher and a budget, by scores that train nothing",
    "compare": "train the recipes that apply on your pair, several seeds each, and rank them with intervals",
    "evaluate": "measure models again, with intervals, and compare them by paired tests",
    "export": "write a model so that it can be used without tutelage: safetensors, hf or onnx",
    "reproduce": "measure a paper's claim again, on real data, with intervals over seeds",
    "runs": "list what runs there are: how far they came, and what they gave",
    "report": "make the page of a finished run again from its folder",
    "recipes": "list the methods, or show one with its knobs and its paper",
    "data": "show a data set: its splits, its classes and their balance",
    "taps": "list a model's module paths with shapes, and how two models match by depth",
}

NO_PATH = (errno.ENAMETOOLONG, errno.EISDIR, errno.ENOTDIR, errno.ELOOP)
"""What the system says of paths that cannot be what they were given for."""

LONGEST = 1000
"""Letters of a message; the middle of a longer one, which must be a word that somebody gave, is left out."""

EXAMPLES = """\
examples:
  tutelage distill --teacher cnn:width=32 --train-teacher --student cnn:width=4,depth=4 --data digits --epochs 60 --lr 1e-2 --out runs/first
  tutelage recipes fitnets
"""


def usage() -> str:
    """The text of `tutelage --help`."""
    verbs = "\n".join(f"  {name:<11}{summary}" for name, summary in COMMANDS.items())
    return (
        "usage: tutelage VERB [options]\n\nTeach small models with big ones.\n\n"
        f"verbs:\n{verbs}\n\n{EXAMPLES}\n"
        "options:\n  -h, --help  show this text; `tutelage VERB --help` shows a verb's options\n"
        "  --version   show the version\n  --debug     show tracebacks\n"
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Returns:
        0; 2 for bad input; 1 for a failure while working; 128 + the signal's number when stopped by one.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    foreign = [word for word in words if any("\ud800" <= letter <= "\udfff" for letter in word)]
    if foreign:  # bytes that are no UTF-8; a config.yaml could not hold them
        return _fail(f"{foreign[0]!r} is no UTF-8 text; rename what it stands for", 2)
    debug = "--debug" in words
    words = [w for w in words if w != "--debug"]
    if not words or words[0] in ("-h", "--help"):
        print(usage(), end="")
        return 0 if words else 2
    if words[0] == "--version":
        print(f"tutelage {__version__}")
        return 0
    if words[0] not in COMMANDS:
        return _fail(f"verb {words[0]!r} is not known{nearest(words[0], COMMANDS)}; expected one of {', '.join(COMMANDS)}", 2)
    try:
        return importlib.import_module(f"tutelage.cli.{words[0]}").run(words[1:])
    except TutelageError as error:
        if debug:
            raise
        return _fail(str(error), error.exit_code)
    except KeyboardInterrupt:
        return _fail("stopped at once; what was saved before is kept", 130)
    except BrokenPipeError:
        # the reader of our output has gone; keep the interpreter from complaining when it flushes
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        if debug:
            raise
        where = f" ({error.filename})" if error.filename else ""
        return _fail(f"{error.strerror or error}{where}", 2 if error.errno in NO_PATH else 1)


def _fail(message: str, code: int) -> int:
    said = printable(" ".join(message.split()))
    if len(said) > LONGEST:
        said = f"{said[: LONGEST // 2]} ... {said[-LONGEST // 2 :]}"
    print(f"tutelage: {said}", file=sys.stderr)
    return code
