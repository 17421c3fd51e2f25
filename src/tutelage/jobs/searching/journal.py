"""The journal of a search: one line for each net that was scored, written as it comes; all that a search needs to go on.

The first line says what is searched. A line that was cut off by a crash is taken away; one that is damaged in another way is an error.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

from tutelage.errors import BadInput, Mismatch

NAME = "search.jsonl"
FORMAT = 1


class Journal:
    """Opens, or begins, the journal of a folder.

    Args:
        folder: of the search.
        identity: plain values that decide on scores; those of a journal that is there must be the same.

    Attributes:
        lines: what was scored so far.

    Raises:
        Mismatch: it is the journal of another search.
        BadInput: it is damaged.
    """

    def __init__(self, folder: Path, identity: Mapping[str, Any]) -> None:
        self.path = folder / NAME
        head = {"format": FORMAT, "identity": json.loads(json.dumps(identity))}
        found, whole = read(self.path) if self.path.is_file() else ([], 0)
        if found and found[0] != head:
            theirs, ours = found[0].get("identity"), head["identity"]
            differs = [k for k in ours if not isinstance(theirs, dict) or theirs.get(k) != ours[k]]
            was = f": {differs[0]} was {theirs.get(differs[0])!r}, is {ours[differs[0]]!r}" if differs and isinstance(theirs, dict) else ""
            raise Mismatch(
                f"{self.path} is of another search{was}; go on with the settings that it was begun with, or choose another --out"
            )
        self.lines = found[1:]
        self._file: IO[str] = self.path.open("a", encoding="utf-8")
        self._file.truncate(whole)
        if not found:
            self._write(head)

    def add(self, line: Mapping[str, Any]) -> None:
        """Keep what was found of a net, so that no crash loses it."""
        self.lines.append(dict(line))
        self._write(line)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _write(self, line: Mapping[str, Any]) -> None:
        self._file.write(json.dumps(line, ensure_ascii=False) + "\n")
        self._file.flush()
        os.fsync(self._file.fileno())


def read(path: Path) -> tuple[list[dict[str, Any]], int]:
    """What a journal holds, and how many bytes of it are whole lines.

    Raises:
        BadInput: a whole line is damaged.
    """
    data = path.read_bytes()
    whole = data.rfind(b"\n") + 1
    found = []
    for number, text in enumerate(data[:whole].splitlines(), 1):
        try:
            line = json.loads(text)
            good = isinstance(line, dict)
            if number > 1:
                good = good and isinstance(line["score"], float) and isinstance(line["candidate"], dict) and isinstance(line["spec"], str)
                good = good and isinstance(line["costs"], dict) and isinstance(line["seconds"], float)
        except (ValueError, KeyError, TypeError, RecursionError):
            good = False
        if not good:
            raise BadInput(f"{path} is damaged in line {number}; delete what stands from there on, and the search goes on before it")
        found.append(line)
    return found, whole
