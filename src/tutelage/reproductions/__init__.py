"""Reproductions: one file per claim of a paper, measured again on real data; `results/` holds what was found.

`reproductions/hinton_kd.py` is `hinton-kd`: a module whose `REPRODUCTION` states arms, measurements and predictions before there is any
result. A user's own is `path/to/file.py`. Listing names imports none of them.
"""

from __future__ import annotations

import importlib
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from tutelage.errors import BadInput, nearest

if TYPE_CHECKING:
    from tutelage.reproductions.harness.design import Reproduction

RESULTS = Path(__file__).parent / "results"


def listing() -> list[str]:
    """The names of all built-in reproductions; imports none."""
    return [f.stem.replace("_", "-") for f in sorted(Path(__file__).parent.glob("*.py")) if not f.stem.startswith("_")]


def load(name: str) -> Reproduction:
    """Import one reproduction by name, or a user's own by `file.py`, whose code then runs.

    Raises:
        BadInput: no such reproduction; names the nearest. Or the file has no REPRODUCTION.
        MissingFile: no such file.
    """
    from tutelage.reproductions.harness.design import Reproduction

    if name.endswith(".py"):
        from tutelage.usercode import module_at

        module = module_at(Path(name))
    else:
        known = listing()
        if name.replace("_", "-") not in known:
            raise BadInput(f"reproduction {name!r} is not known{nearest(name, known)}; expected one of {', '.join(known)}, or file.py")
        module = importlib.import_module(f"tutelage.reproductions.{name.replace('-', '_')}")
    found = getattr(module, "REPRODUCTION", None)
    if not isinstance(found, Reproduction):
        raise BadInput(f"{name} has no REPRODUCTION, a tutelage.reproductions.harness.Reproduction")
    return found if found.recipe or found.source is not None or name.endswith(".py") else replace(found, recipe=name.replace("_", "-"))
