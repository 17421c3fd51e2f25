"""Measure, and write the table.

    python benchmarks                # all subjects, about five minutes on two idle cores
    python benchmarks loop taps      # some of them; the others keep their results

Writes `benchmarks/results/SUBJECT.json`, `docs/benchmarks.md` and the figures in the README. Run it on an otherwise idle machine.
"""

from __future__ import annotations

import argparse
import importlib
import json
import logging
import time
from pathlib import Path

import peer
import table
from timing import surroundings

SUBJECTS = ("loop", "taps", "training", "early_stop", "objectives", "startup")
ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "benchmarks" / "results"


def results() -> table.Results:
    """What was measured so far, by subject."""
    files = {name: FOLDER / f"{name}.json" for name in SUBJECTS}
    return {name: json.loads(file.read_text()) for name, file in files.items() if file.exists()}


def main() -> None:
    """Measure the subjects asked for, keep their numbers, and write the pages from all that there are."""
    parser = argparse.ArgumentParser(prog="python benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("subjects", nargs="*", metavar="SUBJECT", help=f"of {', '.join(SUBJECTS)}; leave out for all")
    chosen = parser.parse_args().subjects or SUBJECTS
    for name in chosen:
        if name not in SUBJECTS:
            parser.error(f"{name!r} is no subject; expected some of {', '.join(SUBJECTS)}")
    logging.getLogger().setLevel(logging.WARNING)
    here = surroundings()
    FOLDER.mkdir(exist_ok=True)
    for name in chosen:
        begun = time.monotonic()
        subject = importlib.import_module(name)
        try:
            rows = subject.rows()
        except peer.NotInstalled as error:
            print(f"{subject.TITLE}: left out, since {error}")
            continue
        found = {"title": subject.TITLE, "note": subject.note(), "surroundings": here, "rows": rows}
        (FOLDER / f"{name}.json").write_text(json.dumps(found, indent=1) + "\n")
        for row in rows:
            print(table.line([subject.TITLE, *table.cells(row)]))
        print(f"{subject.TITLE}: {time.monotonic() - begun:.0f} s", flush=True)
    table.write(results(), ROOT)


if __name__ == "__main__":
    main()
