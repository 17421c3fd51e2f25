"""Which documents share a window: a function of their lengths, so that it is the same in every run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from tutelage.errors import BadInput

Packing = Literal["none", "in-order", "first-fit"]
"""A sample is one dialogue; or a window, filled with dialogues in their order, or each put into the first window with room for it."""


def packed(lengths: Sequence[int], room: int, packing: Packing) -> list[list[int]]:
    """Put documents into windows.

    Args:
        lengths: of the documents, in tokens, each in [1, room].
        room: tokens that a window holds.
        packing: "in-order" opens a new window when the next document does not fit into the last; "first-fit" puts each document into the
            first window that has room for it, which leaves less unused.

    Returns:
        The documents of each window, by number, in the order in which they stand there.

    Raises:
        BadInput: another packing, or a document that fits into no window.
    """
    if packing not in ("in-order", "first-fit"):
        raise BadInput(f"packing={packing!r}; expected in-order or first-fit")
    wrong = next((n for n in lengths if not 1 <= n <= room), None)
    if wrong is not None:
        raise BadInput(f"a document of {wrong} tokens does not fit into a window of {room}")
    return _in_order(lengths, room) if packing == "in-order" else _first_fit(lengths, room)


def _in_order(lengths: Sequence[int], room: int) -> list[list[int]]:
    windows: list[list[int]] = []
    left = 0
    for number, length in enumerate(lengths):
        if not windows or length > left:
            windows.append([])
            left = room
        windows[-1].append(number)
        left -= length
    return windows


def _first_fit(lengths: Sequence[int], room: int) -> list[list[int]]:
    """By a tree over the windows, each node of which knows the most room below it: one way down a document."""
    size = 1
    while size < len(lengths):
        size *= 2
    most = [room] * (2 * size)  # the leaf of window w is size + w; windows are opened from the left
    windows: list[list[int]] = []
    for number, length in enumerate(lengths):
        node = 1
        while node < size:
            node = 2 * node if most[2 * node] >= length else 2 * node + 1
        if node - size == len(windows):
            windows.append([])
        windows[node - size].append(number)
        most[node] -= length
        while node > 1:
            node //= 2
            most[node] = max(most[2 * node], most[2 * node + 1])
    return windows
