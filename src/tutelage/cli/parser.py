"""The parser that commands share: options with dashes or underscores, one-line errors, help that says what to type."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterable, Sequence
from typing import Any

import jsonargparse
import yaml

from tutelage.errors import BadInput, nearest
from tutelage.jobs.foreign import refuse_growth

_TYPES = {
    "float": "a number",
    "int": "a whole number",
    "bool": "true or false",
    "str": "a text",
    "tuple": "a list",
    "dict": "a mapping",
    "NoneType": "null",
}
"""How the parser's words for types are put for people."""

_CLASS = re.compile(r"<class '(\w+)'>")
_UNION = re.compile(r"Does not validate against any of the Union subtypes Subtypes: \[(.*?)\] Errors: .* Given value: (.*)$")
_LITERAL = re.compile(r"Expected a typing\.Literal\[([^\]]*)\]")

_OPTION = re.compile(r"--[a-zA-Z][\w.\-]*")


class _Formatter(jsonargparse.DefaultHelpFormatter):
    """Keeps the lines of examples, and of what stands below them."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return text if text.startswith("examples:") else super()._fill_text(text, width, indent)


_load = jsonargparse.get_loader("yaml")


def _bounded(text: str) -> Any:
    """What jsonargparse reads options and their files with, less what has no end."""
    refuse_growth(text, "an option")
    return _load(text)


jsonargparse.set_loader("yaml", _bounded, (yaml.YAMLError,))


class Parser(jsonargparse.ArgumentParser):
    """A jsonargparse parser that raises our errors and shows options with dashes."""

    def __init__(self, **kwargs: Any) -> None:
        jsonargparse.set_parsing_settings(import_path_denylist=["*"], import_path_allowlist=["tutelage"])
        super().__init__(exit_on_error=False, allow_abbrev=False, formatter_class=_Formatter, **kwargs)

    def format_help(self, *args: Any, **kwargs: Any) -> str:
        """The help, options written with dashes."""
        text = _OPTION.sub(lambda m: m.group().replace("_", "-"), super().format_help(*args, **kwargs))
        return text.replace("--print-config", "--print_config")

    def read(self, words: Sequence[str]) -> dict[str, Any]:
        """Parse what the user gave, and only that: defaults are the called function's own.

        Raises:
            BadInput: one sentence for whatever is wrong.
        """
        try:
            return self.parse_args(dashes_to_underscores(words), defaults=False).as_dict()
        except (argparse.ArgumentError, jsonargparse.ArgumentError, ImportError) as error:
            raise BadInput(self._explain(str(getattr(error, "message", None) or error))) from None
        except RecursionError:
            raise BadInput("a value is nested too deep to be read") from None

    def _explain(self, message: str) -> str:
        denied = re.search(r"Importing '([^']*)' is not allowed", message)
        if denied:
            return f"{denied.group(1)!r} names code; options take plain values, and only classes of tutelage itself"
        text = " ".join(re.sub(r"\x1b\[[0-9;]*m", "", message).split())
        found = re.search(r"(?:[Uu]nrecognized arguments: --?|[Kk]ey ['\"]|No action for key ['\"])([\w.\-]+)", text)
        if found and ("nrecognized" in text or "not accepted" in text or "No action" in text or "is not expected" in text):
            name = found.group(1).replace("-", "_")
            known = [a.dest for a in self._actions if a.dest not in ("help", "config")]
            return f"option --{name.replace('_', '-')} is not known{nearest(name, known).replace('_', '-')}; list all with --help"
        text = _UNION.sub(lambda m: f"Expected a {' or '.join(m.group(1).split(', '))}. Got value: {m.group(2)}", text)
        text = _LITERAL.sub(r"expected one of \1", text)
        text = _CLASS.sub(lambda m: _TYPES.get(m.group(1), m.group(1)), text.replace("Expected a <class", "expected <class"))
        text = re.sub(r"\. Got value: (.*)$", r", got \1", text)
        text = re.sub(r"^Parser key \"?([\w.]+)\"?:", lambda m: f"--{m.group(1).replace('_', '-')}:", text)
        return text if len(text) <= 400 else text[:397] + "..."


def dashes_to_underscores(words: Iterable[str]) -> list[str]:
    """Write option names as Python does, so that both `--batch-size` and `--batch_size` are known; values stay."""
    changed = []
    for word in words:
        name, equals, value = word.partition("=")
        changed.append(name[:2] + name[2:].replace("-", "_") + equals + value if _OPTION.fullmatch(name) else word)
    return changed


def data_options(words: Sequence[str]) -> tuple[list[str], list[tuple[str, str]]]:
    """Take `--data.label species` and the like out of the words: they are options of the data, whatever kind it is."""
    kept: list[str] = []
    changes: list[tuple[str, str]] = []
    waiting = None
    for word in words:
        name, equals, value = word.partition("=")
        if waiting is not None and not word.startswith("--"):
            changes.append((waiting, word))
            waiting = None
        elif waiting is not None:
            break
        elif name.startswith("--data."):
            waiting = name.removeprefix("--data.").replace("-", "_") or "?"
            if equals:
                changes.append((waiting, value))
                waiting = None
        else:
            kept.append(word)
    if waiting is not None:
        raise BadInput(f"option --data.{waiting} expects a value")
    return kept, changes
