"""The one table: results in JSON become `docs/benchmarks.md` and the short table of the README."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

Results = Mapping[str, Mapping[str, Any]]

MARKS = "<!-- benchmarks begin -->", "<!-- benchmarks end -->"

HEAD = [
    "| subject | what is measured | ms | compared with | ms | ratio | target |",
    "|---|---|---|---|---|---|---|",
]
BRIEF = ["| what is timed | ms | compared with | ratio | target |", "|---|---|---|---|---|"]

PAGE = """\
# Speed

`make bench` measures everything on this page again and writes the page and the figures in the README from what it finds
(`benchmarks/results/*.json`). `python benchmarks loop taps` measures only some of it.

What is compared takes turns within one run, a short block each, so that a change of the processor's speed meets all sides; ratios are
taken between the blocks of one round. All sides keep the memory that they free (glibc's thresholds are raised): else a step on large maps
takes up to twice as long in one process as in another, whoever does it. Each figure is a median, with the quartiles in brackets (counted
bytes have none). A ratio below 1 says that what is timed took less time than what it is compared with. A target speaks of the median:
"met", "missed", or "missed, within the spread" where the lower quartile is below the target. Rows that miss it stay in the table.

{about}

{table}

{score}

## What stands behind the rows

{notes}
"""


def figure(spread: Mapping[str, float], form: str) -> str:
    """A median with its quartiles."""
    return f"{spread['median']:{form}} ({spread['lower_quartile']:{form}} to {spread['upper_quartile']:{form}})"


def milliseconds(spread: Mapping[str, float]) -> str:
    """Times with three digits that count."""
    return figure(spread, ".0f" if spread["median"] >= 100 else ".1f" if spread["median"] >= 10 else ".2f")


def verdict(row: Mapping[str, Any]) -> str:
    """The target of a row, and whether it was met."""
    if not row["target"]:
        return ""
    ((unit, most),) = row["target"].items()
    found = row["ratio"] if unit == "ratio" else row["ms"]
    words = f"at most {most:.3f}" if unit == "ratio" else f"at most {most:g} ms"
    if found["median"] <= most:
        return f"{words}: met"
    return f"{words}: missed, within the spread" if found["lower_quartile"] <= most else f"{words}: missed"


def cells(row: Mapping[str, Any]) -> list[str]:
    """What stands in a row: what was measured, with what it was compared, the ratio of the two, and the target."""
    if "bytes" in row:
        counted = [f"{row[key] / 1e6:.2f} MB" for key in ("bytes", "reference_bytes")]
        return [row["what"], counted[0], row["against"], counted[1], f"{row['ratio']['median']:.3f}", verdict(row)]
    ratio = figure(row["ratio"], ".3f" if row["ratio"]["median"] < 5 else ".0f")
    return [row["what"], milliseconds(row["ms"]), row["against"], milliseconds(row["reference_ms"]), ratio, verdict(row)]


def line(cells: Sequence[str]) -> str:
    """A row in Markdown."""
    return f"| {' | '.join(cells)} |"


def about(results: Results) -> str:
    """Where and with what it was measured; one sentence for all, or one for each subject that was measured elsewhere or on another day."""
    told: dict[str, list[str]] = {}
    for found in results.values():
        at = found["surroundings"]
        text = (
            f"on {at['date']}, with tutelage {at['tutelage']}, torch {at['torch']} and Python {at['python']}, "
            f"on {at['cores']} cores of {at['processor']} with {at['threads']} of torch's threads and {at['memory_gib']} GiB "
            f"(load in the minute before: {at['load']:.1f})"
        )
        told.setdefault(text, []).append(found["title"])
    return "\n".join(f"Measured {text}" + ("." if len(told) == 1 else f": {', '.join(titles)}.") for text, titles in told.items())


def score(results: Results) -> str:
    """How many targets are met, and which are not."""
    aimed = [row for found in results.values() for row in found["rows"] if row["target"]]
    missed = [f"{row['what']} ({verdict(row).partition(': ')[2]})" for row in aimed if not verdict(row).endswith(": met")]
    return f"{len(aimed) - len(missed)} of {len(aimed)} targets are met" + (f"; not met: {'; '.join(missed)}." if missed else ".")


def full(results: Results) -> str:
    """The text of `docs/benchmarks.md`."""
    lines = [*HEAD, *(line([found["title"], *cells(row)]) for found in results.values() for row in found["rows"])]
    notes = "\n".join(f"- **{found['title']}**: {found['note']}" for found in results.values())
    return PAGE.format(about=about(results), score=score(results), table="\n".join(lines), notes=notes)


def brief(results: Results) -> str:
    """What stands in the README between the marks."""
    rows = [row for found in results.values() for row in found["rows"] if row["brief"]]
    lines = [line([what, ms, against, *rest]) for what, ms, against, _, *rest in map(cells, rows)]
    return "\n".join([*BRIEF, *lines, "", f"In the whole table, {score(results)}", "", about(results)])


def write(results: Results, root: Path) -> None:
    """Write the page, and the README's part between the marks."""
    (root / "docs" / "benchmarks.md").write_text(full(results))
    readme = root / "README.md"
    before, begin, rest = readme.read_text().partition(MARKS[0])
    _, end, after = rest.partition(MARKS[1])
    if not (begin and end):
        raise SystemExit(f"README.md has lost the marks {MARKS}")
    readme.write_text(f"{before}{begin}\n{brief(results)}\n{end}{after}")
