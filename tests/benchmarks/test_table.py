"""The table of speed: what its cells say, and that both pages are those of the committed results."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

import table

ROOT = Path(__file__).parent.parent.parent


def entry():
    """`python benchmarks`, as a module."""
    spec = importlib.util.spec_from_file_location("benchmarks_entry", ROOT / "benchmarks" / "__main__.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def spread(median, lower=None, upper=None):
    return {"median": median, "lower_quartile": lower or median, "upper_quartile": upper or median}


def row(ratio=1.0, lower=1.0, target=None, **changes):
    times = {"reference_ms": spread(200.0, 150.0, 250.0), "ms": spread(5.0)}
    return {
        "what": "a step",
        "against": "by hand",
        "ratio": spread(ratio, lower, 2.0),
        "target": target or {},
        "brief": True,
        **times,
        **changes,
    }


def results(*rows, **changes):
    at = {"date": "2031-01-02", "tutelage": "1", "torch": "2", "python": "3", "threads": 4, "cores": 5, "processor": "p", "memory_gib": 6}
    return {"title": "loop", "note": "How.", "surroundings": {**at, "load": 0.1, **changes}, "rows": list(rows)}


@pytest.mark.parametrize(
    ("ratio", "lower", "target", "said"),
    [
        (1.03, 1.0, {"ratio": 1.03}, "at most 1.030: met"),
        (1.04, 1.02, {"ratio": 1.03}, "at most 1.030: missed, within the spread"),
        (1.2, 1.1, {"ratio": 1.03}, "at most 1.030: missed"),
        (9.0, 9.0, {"ms": 5}, "at most 5 ms: met"),
        (0.1, 0.1, {"ms": 4}, "at most 4 ms: missed"),
        (9.0, 9.0, {}, ""),
    ],
)
def test_a_target_is_met_by_the_median_alone(ratio, lower, target, said):
    """A table that calls a lost row won would be worse than none."""
    assert table.verdict(row(ratio, lower, target)) == said


def test_a_row_that_misses_its_target_stays_in_both_pages():
    """And so does what the README leaves out, in the whole table."""
    found = {"loop": results(row(1.5, 1.4, {"ratio": 1.03}), row(what="another", brief=False))}
    assert "| a step | 5.00 (5.00 to 5.00) | by hand | 1.500 (1.400 to 2.000) | at most 1.030: missed |" in table.brief(found)
    assert "another" not in table.brief(found)
    assert "| loop | another | 5.00 (5.00 to 5.00) | by hand | 200 (150 to 250) |" in table.full(found)
    assert "- **loop**: How." in table.full(found)


def test_lost_rows_are_named_below_the_table():
    """Nobody reads thirty rows for the two that were lost."""
    rows = row(1.5, 1.4, {"ratio": 1.03}), row(target={"ratio": 1.03}), row(), row(1.1, 0.9, {"ratio": 1.0}, what="another")
    assert table.score({"loop": results(*rows)}) == "1 of 3 targets are met; not met: a step (missed); another (missed, within the spread)."
    assert table.score({"loop": results(row(target={"ms": 9}))}) == "1 of 1 targets are met."


def test_subjects_measured_at_different_times_say_so():
    """One date over all rows would claim one run."""
    alike = table.about({"loop": results(), "taps": results()})
    assert alike.count("Measured") == 1
    assert "loop" not in alike
    apart = table.about({"loop": results(), "taps": {**results(date="2031-01-03"), "title": "taps"}})
    assert apart.count("Measured") == 2
    assert "(load in the minute before: 0.1): taps." in apart


def test_writing_changes_only_what_stands_between_the_marks(tmp_path):
    """The README is written by people around the table."""
    (tmp_path / "docs").mkdir()
    readme = tmp_path / "README.md"
    readme.write_text(f"before\n{table.MARKS[0]}\nold\n{table.MARKS[1]}\nafter\n")
    for _ in range(2):
        table.write({"loop": results(row())}, tmp_path)
        text = readme.read_text()
        assert text.startswith("before\n")
        assert text.endswith("\nafter\n")
        assert "old" not in text
        assert text.count("| a step |") == 1
    assert (tmp_path / "docs" / "benchmarks.md").read_text() == table.full({"loop": results(row())})


def test_the_readme_table_is_that_of_the_committed_results():
    """A number in the docs comes from a results file, never from a hand."""
    found = entry().results()
    begin, end = table.MARKS
    between = (ROOT / "README.md").read_text().partition(begin)[2].partition(end)[0]
    assert between.strip() == table.brief(found)
    assert (ROOT / "docs" / "benchmarks.md").read_text() == table.full(found)


def test_each_subject_has_a_title_a_note_and_rows():
    """A subject that was forgotten in the list is never measured."""
    listed = set(entry().SUBJECTS + entry().STUDIES)
    files = {file.stem for file in (ROOT / "benchmarks").glob("*.py") if "def rows(" in file.read_text()}
    assert files == listed
