"""Packages that not every user has: imported when they are needed, with one sentence where they are missing."""

from __future__ import annotations

import importlib
from typing import Any

from tutelage.errors import BadInput


def needed(module: str, extra: str, purpose: str) -> Any:
    """Import a module of an optional package.

    Args:
        module: its full name.
        extra: the project's extra that brings it.
        purpose: what it is for, as the message calls it.

    Raises:
        BadInput: it is missing or cannot be imported; says what to install.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        if error.name and error.name.partition(".")[0] == package:
            raise BadInput(f"{purpose} needs {package}, which is not installed: pip install 'tutelage[{extra}]'") from None
        raise BadInput(f"{purpose} needs {package}, which cannot be imported here: {error}") from None
