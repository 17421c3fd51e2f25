"""A user's own code: `path/to/file.py:function`. It runs by intent, so call this only where the user asked for it."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from tutelage.errors import BadInput, MissingFile, nearest
from tutelage.randomness import derive


def function_in(spec: str) -> Callable[..., Any]:
    """Load a function from `path/to/file.py:function`. The file's code runs: call this only where the user asked for it.

    Raises:
        MissingFile: no such file.
        BadInput: the file cannot be run, or has no such function.
    """
    file, _, function = spec.rpartition(":")
    path = Path(file)
    if not os.path.isfile(path):  # no error where this cannot be a path
        raise MissingFile(f"{file} does not exist (asked for {spec!r})")
    module = module_at(path)
    found = getattr(module, function, None)
    if not callable(found):
        names = [n for n, v in vars(module).items() if callable(v) and not n.startswith("_")]
        raise BadInput(f"{path} has no function {function!r}{nearest(function, names)}")
    return found


def module_at(path: Path) -> ModuleType:
    """Run a file as a module, once. Call this only where the user asked for it.

    Raises:
        MissingFile: no such file.
        BadInput: the file cannot be run.
    """
    if not os.path.isfile(path):
        raise MissingFile(f"{path} does not exist")
    # a name of its own per file, so that classes in it pickle to loader workers and one file is run once
    name = f"tutelage_user_{path.stem}_{derive('file', str(path.resolve()))}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        raise BadInput(f"{path} cannot be run: {type(error).__name__}: {error}") from error
    return module
