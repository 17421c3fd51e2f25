"""Settings of a job: the recipe's knobs with what the user changed, and all of it as a file that runs the job again."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from tutelage.errors import BadInput, nearest
from tutelage.recipes import knobs as knobs_of
from tutelage.recipes import roles
from tutelage.training import Fit, Plan, RunOptions
from tutelage.training.null import may_be_null


def chosen_knobs(function: Callable[..., Plan], name: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """A recipe's knobs: its defaults, with what was given; a mapping for a Fit or another bundle changes only what it names.

    Raises:
        BadInput: a knob that the recipe, the Fit or the bundle, does not have; names the nearest. Or null where that means nothing.
    """
    known = knobs_of(function)
    for key in settings:
        if key not in known:
            raise BadInput(f"recipe {name} has no knob {key!r}{nearest(key, known)}; it has {', '.join(known)}")
    chosen = {k: settings.get(k, p.default) for k, p in known.items()}
    for key, value in chosen.items():
        default = known[key].default
        if value is None and default is not None and not may_be_null(known[key].annotation):
            raise BadInput(f"recipe {name}: null is no value for {key}; leave it out to take {default!r}")
        if isinstance(default, Fit) and not isinstance(value, Fit):
            chosen[key] = changed_fit(default, value, key)
        elif is_bundle(default) and isinstance(value, Mapping):
            known_in = [f.name for f in dataclasses.fields(default)]
            for name_in in value:
                if name_in not in known_in:
                    raise BadInput(f"{key} has no knob {name_in!r}{nearest(str(name_in), known_in)}; it has {', '.join(known_in)}")
            chosen[key] = replace(default, **value)
        elif is_bundle(default) and not isinstance(value, type(default)):
            raise BadInput(f"{key}={value!r}: expected a mapping of {', '.join(f.name for f in dataclasses.fields(default))}")
    return chosen


def is_bundle(default: Any) -> bool:
    """Whether a knob is a bundle of knobs, such as an Attack, of which what is given changes some."""
    return dataclasses.is_dataclass(default) and not isinstance(default, type)


def changed_fit(default: Fit, given: Mapping[str, Any], name: str) -> Fit:
    """A Fit with what was given changed; a duration that is given in one unit replaces the default's in the other.

    Raises:
        BadInput: no mapping, or a knob that a Fit does not have; names the nearest.
    """
    if not isinstance(given, Mapping):
        raise BadInput(f"{name}={given!r}: expected a mapping, such as {{epochs: 30, lr: 0.001}}")
    known = [f.name for f in dataclasses.fields(Fit)]
    for key in given:
        if key not in known:
            raise BadInput(f"{name} has no knob {key!r}{nearest(key, known)}")
    changed = dict(given)
    for one, other in (("steps", "epochs"), ("epochs", "steps")):
        if one in given:
            changed.setdefault(other, None)
    return replace(default, **changed)


def settled(recipe: str, function: Callable[..., Plan], given: Mapping[str, Any], teacher_fit: Fit, options: RunOptions) -> dict[str, Any]:
    """All settings of a job as a flat mapping, defaults filled in, that the command line reads back as a config file.

    Args:
        recipe: its name.
        function: the recipe.
        given: what was given: roles, data, out, seed, train_teacher, baseline, and knobs.
        teacher_fit: of the teacher's training.
        options: where and how fast.
    """
    jobs = {"out": None, "seed": 0, "train_teacher": False, "views": None, "baseline": True}
    own = {k: v for k, v in given.items() if k in roles(function) or k in ("data", *jobs)}
    passing = ("dry_run", "trust_code", "recipe")
    chosen = chosen_knobs(function, recipe, {k: v for k, v in given.items() if k not in own and k not in passing})
    # objects made in Python are named in words; the command line refuses those
    named = {r: str(v) if isinstance(v, (str, Path)) else f"<{type(v).__name__} given in Python>" for r, v in own.items() if r not in jobs}
    settings = {"data": "digits", **named, "recipe": recipe, **jobs, **{k: v for k, v in own.items() if k in jobs}}
    settings |= {"teacher_fit": plain(teacher_fit), **{k: plain(v) for k, v in chosen.items()}, **dataclasses.asdict(options)}
    return {k: v for k, v in settings.items() if k not in ("out", "views") or v is not None}


def plain(value: Any) -> Any:
    """A setting as plain JSON and YAML values: dataclasses become mappings."""
    return dataclasses.asdict(value) if dataclasses.is_dataclass(value) and not isinstance(value, type) else value
