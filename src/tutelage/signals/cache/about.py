"""What a cache says of itself: cache.json, which names the teacher, the data, the views and how each signal is kept.

A reader needs nothing else to understand the shards. The fingerprint is a hash of all that decides what the shards hold; each shard
repeats it, so that what was written for another teacher, other data or in another way is found out.
"""

from __future__ import annotations

import functools
import hashlib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias

from tutelage.errors import BadInput, Mismatch, MissingFile, TutelageError, in_short

FORMAT = 1
FILE = "cache.json"
PLAIN = -1
"""The view of a sample as it is; augmented views are counted from 0."""

Precision: TypeAlias = Literal["full", "float16", "bfloat16", "8-bit"]
"""How numbers are kept. "full": as the teacher gave them."""

PRECISIONS = ("full", "float16", "bfloat16", "8-bit")
FORMS = ("dense", "top-k", "sampled")

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.\-]{0,99}")
"""Of a split: it becomes a folder's name."""

MOST = 1 << 40
"""Samples, or numbers of a sample, that a description may speak of: who speaks of more is mistaken, or wants to fill a memory."""

MOST_CLASSES = 1 << 31
MOST_CLASSES_8_BIT = 1 << 24
MOST_SHARDS = 1_000_000
LARGEST = 64 << 20
"""Bytes of cache.json."""


class DamagedCache(TutelageError, ValueError):
    """A cache that cannot be read as it was written."""


@dataclass(frozen=True)
class KeptLogits:
    """How a split's logits are kept.

    Args:
        form: "dense", "top-k" or "sampled".
        classes: V.
        kept: classes a row keeps, K; V where dense.
        temperature: what sparse logits were divided by.
        precision: of dense logits, or of the log-probabilities of sparse ones.
        positions: whether a sample has a row of logits for each of its positions.

    Raises:
        BadInput: what cannot be.
    """

    form: Literal["dense", "top-k", "sampled"]
    classes: int
    kept: int
    temperature: float = 1.0
    precision: Precision = "full"
    positions: bool = False

    def __post_init__(self) -> None:
        _expect(self.form in FORMS, "form", self.form, f"one of {', '.join(FORMS)}")
        check_precision(self.precision, PRECISIONS[:3] if self.form == "dense" else PRECISIONS)
        most = MOST_CLASSES if self.precision != "8-bit" else MOST_CLASSES_8_BIT
        _expect(_whole(self.classes, 1, most), "classes", self.classes, f"a whole number from 1 to {most:,}")
        _expect(_whole(self.kept, 1, self.classes), "kept", self.kept, f"a whole number from 1 to {self.classes}, the number of classes")
        _expect(self.form != "dense" or self.kept == self.classes, "kept", self.kept, f"{self.classes}: dense logits are of all classes")
        _expect(_number(self.temperature) and 0 < self.temperature < math.inf, "temperature", self.temperature, "a positive finite number")
        _expect(isinstance(self.positions, bool), "positions", self.positions, "true or false")

    @property
    def said(self) -> str:
        """In a word or two: "all", "top-16", "sample-16"."""
        return "all" if self.form == "dense" else f"{'top' if self.form == 'top-k' else 'sample'}-{self.kept}"


@dataclass(frozen=True)
class KeptTap:
    """How the signal at a tap is kept.

    Args:
        path: the module's path in the teacher.
        shape: of one sample, or of one position.
        precision: of its numbers; "8-bit" has a range for each channel of a shard.
        positions: whether a sample has one for each of its positions.

    Raises:
        BadInput: what cannot be.
    """

    path: str
    shape: tuple[int, ...]
    precision: Precision = "full"
    positions: bool = False

    def __post_init__(self) -> None:
        _expect(isinstance(self.path, str), "path", self.path, "a module's path")
        sizes = len(self.shape) <= 16 and all(_whole(size, 1, MOST) for size in self.shape)
        _expect(sizes and math.prod(self.shape) <= MOST, "shape", self.shape, "sizes of at least 1")
        check_precision(self.precision)
        _expect(bool(self.shape) or self.precision != "8-bit", "precision", self.precision, "another: a single number has no channels")
        _expect(isinstance(self.positions, bool), "positions", self.positions, "true or false")


@dataclass(frozen=True)
class KeptSplit:
    """What is kept of one split.

    Args:
        samples: how many, in the order of the source.
        per_shard: samples a shard; the last one may have fewer.
        data: the source's fingerprint.
        logits: None where only taps are kept.
        taps: by the name under which they are asked for.
        views: augmented views of each sample, besides the plain one.
        ragged: whether samples differ in their number of positions.

    Raises:
        BadInput: what cannot be.
    """

    samples: int
    per_shard: int
    data: str
    logits: KeptLogits | None
    taps: Mapping[str, KeptTap] = field(default_factory=dict)
    views: int = 0
    ragged: bool = False

    def __post_init__(self) -> None:
        _expect(_whole(self.samples, 1, MOST), "samples", self.samples, "a whole number of at least 1")
        _expect(_whole(self.per_shard, 1, MOST), "per_shard", self.per_shard, "a whole number of at least 1")
        _expect(_whole(self.views, 0, MOST), "views", self.views, "a whole number of at least 0")
        _expect(isinstance(self.data, str), "data", self.data, "a fingerprint")
        _expect(isinstance(self.ragged, bool), "ragged", self.ragged, "true or false")
        ranges = {f"{name}.{what}" for name, tap in self.taps.items() if tap.precision == "8-bit" for what in ("low", "step")}
        for name in self.taps:
            fits = isinstance(name, str) and 0 < len(name) <= 1000 and name not in {"logits", *ranges}
            _expect(fits, "a tap's name", name, "a name other than 'logits', and than that of another tap with .low or .step")

    @property
    def shards(self) -> list[tuple[int, int]]:
        """(view, number) of each."""
        count = -(-self.samples // self.per_shard)
        return [(view, number) for view in range(PLAIN, self.views) for number in range(count)]

    def rows(self, number: int) -> range:
        """The positions in the source that a shard holds."""
        return range(number * self.per_shard, min((number + 1) * self.per_shard, self.samples))


@dataclass(frozen=True)
class About:
    """What a cache holds and of whom.

    Args:
        teacher: `name`, `spec` (None for objects made in Python), `weights` (a hash), `preprocessing` (plain values).
        data: `name`, and `classes`, their names in order.
        splits: by name.
        seed: of the augmented views and of what was drawn for sampled logits.
        measured: what the teacher costs, as `evaluation` measures it, and on what; not part of the fingerprint.

    Raises:
        BadInput: what cannot be, such as a split whose name is a path.
    """

    teacher: Mapping[str, Any]
    data: Mapping[str, Any]
    splits: Mapping[str, KeptSplit]
    seed: int = 0
    measured: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for what in ("teacher", "data", "splits", "measured"):
            _expect(isinstance(getattr(self, what), Mapping), what, getattr(self, what), "a mapping")
        for name in self.splits:
            _expect(isinstance(name, str) and NAME.fullmatch(name) is not None, "a split's name", name, "letters, digits, '_', '-' and '.'")
        _expect(_whole(self.seed, -MOST * MOST, MOST * MOST), "seed", self.seed, "a whole number")

    @property
    def plain(self) -> dict[str, Any]:
        """As JSON values."""
        return json.loads(json.dumps({"format": FORMAT, **asdict(self)}))

    @functools.cached_property
    def fingerprint(self) -> str:
        """A hash of everything but `measured`."""
        return _hashed({key: value for key, value in self.plain.items() if key != "measured"})

    def text(self) -> str:
        """The content of cache.json."""
        return json.dumps({**self.plain, "fingerprint": self.fingerprint}, indent=1) + "\n"


def _expect(fits: bool, what: str, value: Any, expected: str) -> None:
    if not fits:
        raise BadInput(f"a cache cannot have {what} = {repr(value)[:60]}; expected {expected}")


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _whole(value: Any, least: int, most: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def _hashed(plain: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()[:16]


def read_about(folder: Path) -> About:
    """Read cache.json, and believe nothing that no writer could have written: it may come from a stranger.

    Raises:
        MissingFile: there is no cache in the folder.
        Mismatch: it has another format.
        DamagedCache: it is no JSON, lacks something, is not what was written, or says what cannot be.
    """
    file = folder / FILE
    anew = "write the cache anew, into an empty folder"
    if not file.is_file():
        raise MissingFile(f"{folder} holds no cache: {FILE} is missing; write one with: tutelage cache --teacher ... --out {folder}")
    try:
        if file.stat().st_size > LARGEST:
            raise DamagedCache(f"{file} has {file.stat().st_size:,} bytes, more than any description; {anew}")
        said = json.loads(file.read_text())
        number = said["format"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        if isinstance(error, DamagedCache):
            raise
        raise DamagedCache(f"{file} is damaged ({type(error).__name__}); {anew}") from None
    if type(number) is not int or number != FORMAT:
        raise Mismatch(f"{folder} has cache format {str(number)[:20]}, this version reads {FORMAT}; write it anew, into an empty folder")
    try:
        splits = {name: _split(split) for name, split in said["splits"].items()}
        about = About(said["teacher"], said["data"], splits, said["seed"], said["measured"])
        if said["fingerprint"] != about.fingerprint:
            raise ValueError("its fingerprint is of other content")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DamagedCache(f"{file} is damaged ({in_short(error)}); {anew}") from None
    shards = sum((kept.views + 1) * -(-kept.samples // kept.per_shard) for kept in splits.values())
    if shards > MOST_SHARDS:
        raise DamagedCache(f"{file} is damaged: it speaks of {shards:,} shards; {anew}")
    return about


def _split(said: Mapping[str, Any]) -> KeptSplit:
    logits = None if said["logits"] is None else KeptLogits(**said["logits"])
    taps = {name: KeptTap(**{**tap, "shape": tuple(tap["shape"])}) for name, tap in said["taps"].items()}
    return KeptSplit(**{**said, "logits": logits, "taps": taps})


def refuse_other(kept: About, wanted: About, folder: Path) -> None:
    """Refuse to go on with a cache that was begun for something else.

    Raises:
        Mismatch: names the first thing that differs, with both sides.
    """
    if kept.fingerprint == wanted.fingerprint:
        return
    old: Any = {k: v for k, v in kept.plain.items() if k != "measured"}
    new: Any = {k: v for k, v in wanted.plain.items() if k != "measured"}
    path: list[str] = []
    while isinstance(old, (dict, list)) and type(old) is type(new):
        if isinstance(old, list):
            old, new = (dict(enumerate(each)) for each in (old, new))
        key = next(k for k in [*new, *old] if k not in old or k not in new or old[k] != new[k])
        path.append(str(key))
        old, new = old.get(key), new.get(key)
    who = [f" ({about.teacher.get('name')})" if path[0] == "teacher" else "" for about in (kept, wanted)]
    raise Mismatch(
        f"the cache in {folder} was written with {' '.join(path)} = {json.dumps(old)[:80]}{who[0]}, "
        f"this one has {json.dumps(new)[:80]}{who[1]}; choose another --out"
    )


def check_precision(precision: str, among: tuple[str, ...] = PRECISIONS) -> None:
    """Refuse a precision that is not among some.

    Raises:
        BadInput: it is not.
    """
    if precision not in among:
        raise BadInput(f"precision {precision!r} is not known here; expected {', '.join(among)}")
