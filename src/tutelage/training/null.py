"""Null: a config file may say it of anything, and the parser lets it pass; here it is refused where it means nothing."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

from tutelage.errors import BadInput


def may_be_null(annotation: Any) -> bool:
    """Whether an annotation, as written, allows None, as far as can be seen."""
    return re.search(r"\b(None|Any|Optional|Union)\b", str(annotation)) is not None


def refuse_null(options: Any) -> None:
    """Check that no field of a dataclass is None whose annotation does not say so.

    Raises:
        BadInput: names the field.
    """
    for each in dataclasses.fields(options):
        if getattr(options, each.name) is None and not may_be_null(each.type):
            raise BadInput(f"{type(options).__name__}({each.name}=None): null is no value for it; leave it out to take {each.default!r}")
