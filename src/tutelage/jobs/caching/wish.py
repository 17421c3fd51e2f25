"""What somebody wants kept of a teacher, from their words: looked at before any data are read or a model is built."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from tutelage.errors import BadInput, UnknownTap, nearest
from tutelage.signals import Depth, Model, Tap, Trace
from tutelage.signals.cache.about import PRECISIONS, Precision, check_precision
from tutelage.signals.taps import LOGITS, check_path

MOST_VIEWS = 10_000
"""Views of a sample; more than anyone's epochs."""
MOST_BATCH = 1 << 20
KEEPS = "all, none, top-K or sample-K (such as top-16)"
_SHARE = re.compile(r"(depth-)?(\d*\.?\d+(?:e-?\d+)?|\d+\.)")


@dataclass(frozen=True)
class Wish:
    """What is to be kept of each sample.

    Args:
        form: of the logits; None where none are kept.
        kept: classes a row of sparse logits keeps; 0 for dense ones.
        taps: as they were given.
        logits_as: precision of the logits.
        taps_as: precision of the taps.
        temperature: what sparse logits are divided by.
        views: augmented views of each sample, besides the plain one.
        batch_size: samples the teacher is asked about at a time.
        seed: of the views, and of what is drawn.
    """

    form: Literal["dense", "top-k", "sampled"] | None
    kept: int
    taps: tuple[Tap, ...]
    logits_as: Precision
    taps_as: Precision
    temperature: float
    views: int
    batch_size: int
    seed: int


def wished(
    keep: str,
    taps: str | float | Depth | Iterable[str | float | Depth],
    logits_as: str | None,
    taps_as: str,
    temperature: float,
    views: int,
    batch_size: int,
    seed: int,
) -> Wish:
    """Read what somebody wants.

    Raises:
        BadInput: words that mean nothing, numbers out of range, or settings without effect.
    """
    form, kept = _form(keep)
    named = tuple(_tap(each) for each in _listed(taps))
    if form is None and not named:
        raise BadInput("keep=none and no taps: nothing would be kept; name taps, or keep all, top-K or sample-K")
    temperature = _number(temperature, "temperature")
    if not 0 < temperature < math.inf:
        raise BadInput(f"temperature={temperature}: expected a positive finite number")
    if form not in ("top-k", "sampled") and temperature != 1:
        raise BadInput(f"temperature={temperature:g} changes nothing with keep={keep}: only sparse logits are divided by it; leave it out")
    if form is None and logits_as is not None:
        raise BadInput(f"logits_as={logits_as} changes nothing with keep=none; leave it out")
    if not named and taps_as != "full":
        raise BadInput(f"taps_as={taps_as} changes nothing, since no taps are kept; leave it out, or name taps")
    if form == "dense" and logits_as == "8-bit":
        raise BadInput("logits_as=8-bit is for sparse logits; expected full, float16 or bfloat16 with keep=all")
    logits_as = logits_as or ("full" if form in ("dense", None) else "8-bit")
    for precision in (logits_as, taps_as):
        check_precision(precision, PRECISIONS)
    for name, value, least, most in (("views", views, 0, MOST_VIEWS), ("batch_size", batch_size, 1, MOST_BATCH)):
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise BadInput(f"{name}={value!r}: expected a whole number from {least} to {most:,}")
    if isinstance(seed, bool) or not isinstance(seed, int):
        raise BadInput(f"seed={seed!r}: expected a whole number")
    return Wish(form, kept, named, logits_as, taps_as, temperature, views, batch_size, seed)  # type: ignore[arg-type]


def _number(value: float, name: str) -> float:
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        raise BadInput(f"{name}={str(value)[:40]!r}: expected a number") from None


def _form(keep: str) -> tuple[Literal["dense", "top-k", "sampled"] | None, int]:
    if keep == "all":
        return "dense", 0
    if keep == "none":
        return None, 0
    found = re.fullmatch(r"(top|sample)-(\d{1,9})", keep) if isinstance(keep, str) else None
    if found is None:
        raise BadInput(f"keep={keep!r} is not known{nearest(str(keep), ('all', 'none', 'top-16', 'sample-16'))}; expected {KEEPS}")
    if int(found[2]) < 1:
        raise BadInput(f"keep={keep}: expected at least one class")
    return "top-k" if found[1] == "top" else "sampled", int(found[2])


def _listed(taps: str | float | Depth | Iterable[str | float | Depth]) -> list[str | float | Depth]:
    if isinstance(taps, (float, Depth)):
        return [taps]
    if isinstance(taps, str):
        return [word.strip() for word in taps.split(",")] if taps.strip() else []
    return list(taps)


def _tap(given: str | float | Depth) -> Tap:
    if isinstance(given, float):
        return Depth(given)
    if not isinstance(given, (str, Depth)):
        raise BadInput(f"tap {given!r}: expected a module path, or a share of the depth such as 0.5")
    if given == "":
        raise BadInput("a tap is empty; expected module paths with commas between them")
    if given == LOGITS:
        raise BadInput("the logits are no tap here: keep=all, top-K or sample-K says how they are kept")
    return given


def resolved(taps: Iterable[Tap], model: Model, trace: Trace) -> dict[str, str]:
    """The paths that taps stand for in a model, by the names under which they are kept.

    A word that is a path of the model is that, whatever else it may look like; a number in (0, 1] with a point in it, or `depth-0.5`, is a
    share of the depth.

    Args:
        taps: as a wish has them.
        model: the teacher.
        trace: of it.

    Raises:
        UnknownTap: no such place; names the nearest.
        BadInput: a share out of range, or a module that gives no tensor.
    """
    shown = {visit.path for visit in trace.visits if visit.shape is not None}
    found: dict[str, str] = {}
    for tap in taps:
        depth = tap if isinstance(tap, Depth) else _share(tap, model)
        path = str(tap) if depth is None else trace.resolve(depth)
        check_path(model.module, path, model.name)
        if path not in shown:
            raise UnknownTap(f"tap {path!r} of {model.name} gives no tensor{nearest(path, shown)}. List all with: tutelage taps MODEL")
        found[path if depth is None else str(depth)] = path
    return found


def _share(word: str, model: Model) -> Depth | None:
    found = _SHARE.fullmatch(word)
    if found is None or not (found[1] or "." in word) or word in {path for path, _ in model.module.named_modules()}:
        return None
    return Depth(float(found[2]))
