"""Teachers that are caches, where a job expects a model: made from `cache:PATH`, and asked about the split at hand."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

from tutelage.data import Data, Source
from tutelage.errors import BadInput
from tutelage.jobs import specs
from tutelage.signals import Model
from tutelage.students.labels import check_order
from tutelage.teachers import Cached, Teacher, Views

KIND = "cache"
COUNTS = ("parameters", "bytes", "flops")

Handle: TypeAlias = Model | Cached


def is_cache(given: Any) -> bool:
    """Whether what a user gave for a role is a cache."""
    return isinstance(given, Cached) or (isinstance(given, str) and given.startswith(f"{KIND}:"))


def cached_from(given: Any, role: str, data: Data) -> Cached:
    """Open a cache as a teacher.

    Args:
        given: `cache:PATH`, with `:tail=...` where wanted, or a `Cached`.
        role: how messages call it.
        data: what is studied; the cache must have been written for it.

    Raises:
        BadInput: an unknown option, no path, or classes in another order.
        MissingFile: there is no cache.
        Mismatch: it is of another format, or of other data.
        DamagedCache: it is damaged.
    """
    if isinstance(given, Cached):
        found = given
    else:
        name, text = specs.divided(given, (KIND,))
        path = name.partition(":")[2]
        if not path:
            raise BadInput(f"{role} {given!r} says nothing about where; expected {KIND}:PATH")
        options = specs.options_in(text, given)
        unknown = sorted(set(options) - {"tail"})
        if unknown:
            raise BadInput(f"{role} {given!r}: a cache takes no option {unknown[0]!r}; it takes tail")
        found = Cached(path, **options)  # type: ignore[arg-type]
    check_order(found.classes, data.classes, f"the {role} {found.name}")
    found.check(data.train)
    return found


def views_of(handles: Mapping[str, Handle], views: int | None, seed: int) -> Views | None:
    """The views of each sample that a job studies in turn: those that a cache knows, or as many as were asked for.

    Args:
        handles: by role.
        views: how many were asked for; None for a new one each epoch, or as many as a cache has.
        seed: of the run.

    Raises:
        BadInput: fewer than one, or another number than a cache has.
    """
    if views is not None and (isinstance(views, bool) or not isinstance(views, int) or views < 1):
        raise BadInput(f"views={views!r}: expected a whole number of at least 1")
    for role, handle in handles.items():
        known = handle.gives.views if isinstance(handle, Cached) else None
        if known is None or not known.count:
            continue
        if views not in (None, known.count):
            raise BadInput(f"views={views}, but the {role}, {handle.name}, knows {known.count}; leave --views out")
        return known
    return None if views is None else Views(views, seed)


def answering(handle: Model | Teacher, split: str, source: Source) -> Model | Teacher | None:
    """Who answers on a split for a handle: a model itself, of a cache what it holds of the split; None where it holds nothing of these.

    Args:
        handle: a model or a teacher.
        split: name of the split.
        source: its samples.
    """
    if not isinstance(handle, Cached):
        return handle
    found = handle.of(split)
    if found is None or found.kept.data != source.fingerprint() or "dense" not in found.gives.forms:
        return None
    return found


def check_answers(handles: Mapping[str, Handle], data: Data) -> None:
    """Compare what caches hold of the splits that are measured on with its checksums: a training would else end in finding it damaged.

    Args:
        handles: by role.
        data: what is studied.

    Raises:
        DamagedCache: it is not what was written.
    """
    for handle in handles.values():
        for split, source in (("validation", data.validation), ("test", data.test)):
            found = None if source is None else answering(handle, split, source)
            if isinstance(found, Cached):
                found.open()


def counted_before(cached: Cached) -> dict[str, Any]:
    """What a cache says that its teacher has and does. Not how fast: times that were not taken in turns cannot be compared."""
    said = cached.about.measured
    numbers = {key: said[key] for key in COUNTS if isinstance(said.get(key), (int, float)) and not isinstance(said[key], bool)}
    return {"model": str(cached.about.teacher.get("spec") or cached.about.teacher.get("name")), **numbers}
