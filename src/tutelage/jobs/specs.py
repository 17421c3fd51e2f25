"""What a user writes for a model or for data: `NAME`, `KIND:PATH` or `file.py:function`, each with `:option=value,option=value`."""

from __future__ import annotations

import functools
import inspect
import json
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

import yaml

from tutelage.errors import BadInput, nearest
from tutelage.jobs.foreign import read_yaml, refuse_growth

_OPTIONS = re.compile(r":(?=[A-Za-z_]\w*=)")


def divided(spec: str, located: Collection[str] = ()) -> tuple[str, str]:
    """Part a spec into its name and the text of its options.

    Args:
        spec: as the user wrote it.
        located: kinds whose name is `kind:PATH`.
    """
    kind, colon, rest = spec.partition(":")
    if ".py:" in spec:
        file, _, rest = spec.partition(".py:")
        function, _, options = rest.partition(":")
        return f"{file}.py:{function}", options
    if colon and kind in located:
        path, *after = _OPTIONS.split(rest, maxsplit=1)
        return f"{kind}:{path}", "".join(after)
    return kind, rest


def options_in(text: str, spec: str) -> dict[str, str]:
    """Part `key=value,key=value` at the commas that stand in no brackets and no quotes; values stay text.

    Raises:
        BadInput: a part that is not `key=value`, or brackets or quotes that do not close.
    """
    parts, depth, quote, escaped, start = [], 0, "", False, 0
    for place, sign in enumerate(text):
        if quote:
            quote = "" if sign == quote and not escaped else quote
            escaped = sign == "\\" and quote == '"' and not escaped
        elif sign in "\"'":
            quote = sign
        elif sign in "[{(":
            depth += 1
        elif sign in "]})":
            depth -= 1
        elif sign == "," and depth == 0:
            parts.append(text[start:place])
            start = place + 1
    if depth or quote:
        raise BadInput(f"{spec!r}: a bracket or quote does not close")
    parts.append(text[start:])
    options = {}
    for part in filter(str.strip, parts):
        key, equals, value = part.partition("=")
        if not equals or not key.strip().isidentifier():
            raise BadInput(f"{spec!r}: {part!r} is no option; expected NAME:key=value,key=value")
        options[key.strip()] = value.strip()
    return options


def typed(options: Mapping[str, str], function: Callable[..., Any], name: str) -> dict[str, Any]:
    """Turn options as text into what a function takes: by its annotations, else as YAML reads them.

    Raises:
        BadInput: an option that it does not take, or a value of another type; names the nearest and the expectation.
    """
    parameters = inspect.signature(function).parameters
    taken = {n: p for n, p in parameters.items() if p.kind in (p.KEYWORD_ONLY, p.POSITIONAL_OR_KEYWORD)}
    free = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    found = {}
    for key, text in options.items():
        if key not in taken and not free:
            raise BadInput(f"{name} has no option {key!r}{nearest(key, taken)}; it takes {', '.join(taken) or 'none'}")
        annotation = taken[key].annotation if key in taken else "Any"
        found[key] = _value(text, str(getattr(annotation, "__name__", annotation)), f"{name}: {key}={text}")
    return found


def _value(text: str, annotation: str, said: str) -> Any:
    value = _read(text)
    if value is None and ("None" in annotation or annotation in ("Any", "_empty")):
        return None
    if annotation.startswith("Sequence[str]"):
        return tuple(v for v in _words(text) if v)
    kinds: dict[str, tuple[Any, str]] = {
        "bool": (bool, "true or false"),
        "int": (int, "a whole number"),
        "float": ((int, float), "a number"),
    }
    for kind, (types, expected) in kinds.items():
        if annotation.partition(" ")[0] == kind:
            if not isinstance(value, types) or (kind != "bool" and isinstance(value, bool)):
                raise BadInput(f"{said}: expected {expected}")
            try:
                return float(value) if kind == "float" else value
            except OverflowError:
                raise BadInput(f"{said}: expected a number that can be counted with") from None
    if annotation.partition(" ")[0] in ("str", "Rare", "Missing"):
        return value if isinstance(value, str) else "" if value is None else text
    return value


def _read(text: str) -> Any:
    """As JSON, which is how we write values and knows all characters; else as YAML, which is how users write them; else as it stands."""
    for read in (json.loads, functools.partial(read_yaml, name="an option")):
        try:
            return read(text)
        except (ValueError, yaml.YAMLError, RecursionError):
            continue
    return text


def _words(text: str) -> list[str]:
    """A list of words, or one; no, 007 and the like stay words."""
    for read in (json.loads, _as_words):
        try:
            value = read(text)
        except (ValueError, yaml.YAMLError, RecursionError):
            continue
        found = value if isinstance(value, list) else [value]
        if all(isinstance(v, str) for v in found):
            return found
    return [text]


def _as_words(text: str) -> Any:
    refuse_growth(text, "an option")
    return yaml.load(text, Loader=yaml.BaseLoader)


def write(name: str, options: Mapping[str, Any]) -> str:
    """The spec that is read back as these."""
    return name + (":" + ",".join(f"{k}={json.dumps(v, ensure_ascii=False)}" for k, v in options.items()) if options else "")


def changed(spec: str, changes: Iterable[tuple[str, str]], located: Collection[str]) -> str:
    """The spec with options set anew, each given as the user wrote it on a command line: `--data.text title,body` is a list of two."""
    name, text = divided(spec, located)
    options = options_in(text, spec)
    for key, value in changes:
        options[key] = json.dumps(value.split(",") if key in ("text", "columns", "classes") else value, ensure_ascii=False)
        if re.fullmatch(r"[\w.+-]+", value):
            options[key] = value
    return name + (":" + ",".join(f"{k}={v}" for k, v in options.items()) if options else "")
