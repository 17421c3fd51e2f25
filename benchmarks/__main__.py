"""Measure, and write the table.

    python benchmarks                # all subjects, about ten minutes on two idle cores
    python benchmarks loop taps      # some of them; the others keep their results
    python benchmarks recipes=mtt,ast    # of a subject of named parts, some; on the machine and versions of the others, which it keeps
    python benchmarks bytes bytes_students bytes_scale    # what is only done when it is named: on a real model, an hour on one core

Writes `benchmarks/results/SUBJECT.json`, `docs/benchmarks.md` and the figures in the README. Run it on an otherwise idle machine.
"""

from __future__ import annotations

import argparse
import importlib
import json
import logging
import os
import sys
import time
from pathlib import Path
from typing import Any

import peer
import table
from timing import surroundings

SUBJECTS = ("loop", "taps", "training", "early_stop", "cache", "objectives", "deferred", "recipes", "startup")
STUDIES = ("bytes", "bytes_students", "bytes_scale")
"""Subjects that are no times: they have pages of their own, and are left out unless they are named."""
ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "benchmarks" / "results"
ALIKE = ("torch", "python", "processor", "cores", "threads")
"""What must be the same for rows of one table."""
KEPT = {"MALLOC_MMAP_THRESHOLD_": str(2**25), "MALLOC_TRIM_THRESHOLD_": str(2**30), "MALLOC_TOP_PAD_": str(2**26)}
"""What glibc is told, in bytes; see `keep_memory`."""


def keep_memory() -> None:
    """Begin anew with an allocator that keeps what is freed, for all sides alike.

    Otherwise the system takes large maps back after each step and gives them out page by page at the next, when and how much hangs on what
    was allocated before: the same step then takes up to twice as long in one process as in another.
    """
    if sys.platform == "linux" and not KEPT.keys() <= os.environ.keys():
        sys.stdout.flush()
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], {**os.environ, **KEPT})


def results() -> table.Results:
    """What was measured so far, by subject."""
    files = {name: FOLDER / f"{name}.json" for name in SUBJECTS}
    return {name: json.loads(file.read_text()) for name, file in files.items() if file.exists()}


def some(subject: Any, file: Path, parts: list[str], here: dict[str, Any]) -> list[dict[str, Any]]:
    """Measure some parts of a subject; rows of the others stay as they were.

    Raises:
        SystemExit: an unknown part, or the others were measured elsewhere, so that one table would speak of two machines.
    """
    known = subject.named()
    unknown = [part for part in parts if part not in known]
    if unknown:
        raise SystemExit(f"{subject.TITLE} has no part {unknown[0]!r}; expected some of {', '.join(known)}")
    found = json.loads(file.read_text())
    moved = [key for key in ALIKE if found["surroundings"].get(key) != here.get(key)]
    if moved:
        raise SystemExit(f"the rows of {subject.TITLE} were measured with another {moved[0]}; measure all of them again")
    kept = [row for row in found["rows"] if row["recipe"] not in parts]
    return sorted([*kept, *subject.rows(parts)], key=lambda row: known.index(row["recipe"]) if row["recipe"] in known else -1)


def main() -> None:
    """Measure the subjects asked for, keep their numbers, and write the pages from all that there are."""
    parser = argparse.ArgumentParser(prog="python benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("subjects", nargs="*", metavar="SUBJECT", help=f"of {', '.join(SUBJECTS + STUDIES)}; leave out for all times")
    chosen = parser.parse_args().subjects or SUBJECTS
    for each in chosen:
        name, _, parts = each.partition("=")
        if name not in SUBJECTS + STUDIES:
            parser.error(f"{name!r} is no subject; expected some of {', '.join(SUBJECTS + STUDIES)}")
        if parts and not hasattr(importlib.import_module(name), "named"):
            parser.error(f"{name} has no named parts; give it whole")
    keep_memory()
    logging.getLogger().setLevel(logging.WARNING)
    here = surroundings()
    FOLDER.mkdir(exist_ok=True)
    for name, _, parts in (each.partition("=") for each in chosen):
        begun = time.monotonic()
        subject = importlib.import_module(name)
        try:
            rows = some(subject, FOLDER / f"{name}.json", parts.split(","), here) if parts else subject.rows()
        except peer.NotInstalled as error:
            print(f"{subject.TITLE}: left out, since {error}")
            continue
        found = {"title": subject.TITLE, "note": subject.note(), "surroundings": here, "rows": rows}
        (FOLDER / f"{name}.json").write_text(json.dumps(found, indent=1) + "\n")
        for row in rows:
            print(table.line([subject.TITLE, *([subject.told(row)] if name in STUDIES else table.cells(row))]))
        print(f"{subject.TITLE}: {time.monotonic() - begun:.0f} s", flush=True)
    if {each.partition("=")[0] for each in chosen} & set(SUBJECTS):
        table.write(results(), ROOT)


if __name__ == "__main__":
    main()
