"""Where reproductions keep what they make: fixtures by content, shared by all, and trials by the claim and the code that made them.

Anything that could change a number changes the key: so nothing stale is ever read, and after a change of code all is made anew.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

import tutelage
from tutelage.evaluation import size_of
from tutelage.signals import Model
from tutelage.training.checkpoint import write_text_atomically

ROOMS = ("data", "language", "objectives", "recipes", "reproductions/harness", "signals", "students", "teachers", "training")
"""Whose code decides on numbers; with how they are measured, and the files that lie beside the rooms. A claim's own file is left out: it
counts for that claim alone."""
MEASURES = ("evaluation/classification.py", "evaluation/diswot.py", "evaluation/language.py", "evaluation/zero_cost.py")


def cache() -> Path:
    """The folder of all that is kept between commands: $TUTELAGE_CACHE, else that of the user."""
    given = os.environ.get("TUTELAGE_CACHE")
    if given:
        return Path(given)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tutelage"


def key(*parts: Any) -> str:
    """A short name for plain values that is another when any of them is."""
    return hashlib.blake2b(json.dumps(parts, sort_keys=True, default=str).encode(), digest_size=8).hexdigest()


@functools.cache
def code() -> str:
    """A hash of the code that decides on numbers, and of torch's version."""
    root = Path(tutelage.__file__).parent
    files = [*root.glob("*.py"), *(root / file for file in MEASURES), *(f for room in ROOMS for f in (root / room).rglob("*.py"))]
    digest = hashlib.blake2b(torch.__version__.encode(), digest_size=8)
    for file in sorted(files):
        digest.update(str(file.relative_to(root)).encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()


def keep(folder: Path, model: Model, about: Mapping[str, Any]) -> None:
    """Keep a model's weights under a folder of the store, all or nothing; where another process has been faster, its are kept."""
    from safetensors.torch import save_model

    beside = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir(parents=True)
    save_model(model.module, str(beside / "model.safetensors"))
    write_text_atomically(beside / "about.json", json.dumps({**about, **size_of(model.module)}, indent=1, default=str))
    try:
        beside.rename(folder)
    except OSError:
        shutil.rmtree(beside, ignore_errors=True)


def fixture(folder: Path, make: Callable[[], tuple[Model, Mapping[str, Any]]]) -> Path:
    """The weights kept under a folder, made where they are missing."""
    weights = folder / "model.safetensors"
    if not weights.is_file():
        keep(folder, *make())
    return weights
