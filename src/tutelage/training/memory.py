"""Memory: how much there is. What cannot fit is refused in a sentence, before the system is asked for it and kills the process."""

from __future__ import annotations

import os
from pathlib import Path

from tutelage.errors import BadInput


def memory() -> int | None:
    """Bytes of memory that this process may use at most: the machine's, or its control group's where that is less; None if unknown."""
    try:
        whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return None
    try:
        return min(whole, int(Path("/sys/fs/cgroup/memory.max").read_text()))
    except (OSError, ValueError):  # no such group, or "max"
        return whole


def must_fit(needed: int, what: str, mend: str) -> None:
    """Refuse what needs more memory than there is; what merely needs much is let pass.

    Args:
        needed: bytes, at the least.
        what: what needs them, as the subject of a sentence.
        mend: what to do.

    Raises:
        BadInput: it cannot fit.
    """
    there = memory()
    if there is not None and needed > there:
        raise BadInput(f"{what} needs at least {needed / 1e9:,.1f} GB of memory, and this machine has {there / 1e9:,.1f} GB; {mend}")
