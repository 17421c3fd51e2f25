"""`tutelage runs` as a user meets it."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tutelage.cli.main import main
from tutelage.cli.runs import _bytes


@pytest.fixture
def root(tmp_path):
    """A finished run with a name that a terminal would obey, one that was stopped, one that is broken."""

    def write(name: str, **files):
        (tmp_path / name).mkdir()
        for file, content in files.items():
            (tmp_path / name / file.replace("__", ".")).write_text(content if isinstance(content, str) else json.dumps(content))

    report = {"student": {"accuracy": 0.9, "parameters": 1234}, "alone": {"accuracy": 0.85}, "taught_minus_alone": {"accuracy": 0.05}}
    begun = {"time": "2026-03-01T12:00:00+00:00"}
    config = {"recipe": "kd", "student": "mlp", "teacher": "cnn:width=64", "data": "digits", "seed": 7}
    write("[bold]\x1b[31m", config__yaml=config, report__json=report, environment__json=begun)
    lines = '{"stage": "hint", "step": 20}\n{"stage": "distil", "step": 40}\n'
    write("stopped", config__yaml=config, environment__json={"time": "2026-03-02T12:00:00Z"}, metrics__jsonl=lines)
    write("fresh", config__yaml=config, environment__json={"time": "2026-03-03T12:00:00Z"})
    write("broken", config__yaml="a: [", environment__json={"time": "9999-12-31T23:59:59Z"}, report__json=report)
    write("failed", config__yaml=config, environment__json=begun, metrics__jsonl=lines, failure__json={"error": "NotFinite: NaN"})
    return tmp_path


def test_the_table_shows_each_run_with_its_state_and_its_numbers(root, capsys, monkeypatch):
    """What one wants to know before one opens a folder."""
    monkeypatch.chdir(root)
    assert main(["runs", "."]) == 0
    out = capsys.readouterr().out
    for word in ("finished", "+5.00", "90.00%", "85.00%", "1,234", "cnn:width", "2026-03-01", "not", "student/distil", "40", "damaged:"):
        assert word in out
    assert "\x1b" not in out
    assert out.index("not begun") > out.index("+5.00"), "the newest comes last"


def test_a_narrow_terminal_gets_fewer_columns(root, capsys, monkeypatch):
    """Fourteen columns of three letters tell nothing."""
    monkeypatch.chdir(root)
    from rich.console import Console

    monkeypatch.setattr("tutelage.cli.runs.console", lambda: Console(width=80))
    assert main(["runs", "."]) == 0
    out = capsys.readouterr().out
    assert "+5.00" in out
    assert "1,234" not in out
    assert max(map(len, out.splitlines())) <= 80


def test_json_holds_all_and_nothing_else_goes_to_stdout(root, capsys):
    """A script reads it."""
    assert main(["runs", str(root), "--json", "--sort", "accuracy"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert len(found) == 5
    assert found[-1]["accuracy"] == {"alone": 0.85, "student": 0.9}
    assert {each["state"] for each in found} == {"finished", "unfinished", "damaged", "failed"}
    assert next(each for each in found if each["state"] == "failed")["note"] == "NotFinite: NaN"


def test_the_folder_is_runs_unless_said_otherwise_and_may_be_empty(tmp_path, capsys, monkeypatch):
    """The first thing a new user types."""
    monkeypatch.chdir(tmp_path)
    assert main(["runs"]) == 2
    assert "'runs' does not exist" in capsys.readouterr().err
    (tmp_path / "runs").mkdir()
    assert main(["runs"]) == 0
    assert capsys.readouterr().out == "No runs below runs; tutelage distill makes one.\n"
    assert main(["runs", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == []


def test_listing_runs_imports_nothing_heavy(root):
    """It reads small files; a second for torch would be most of the time."""
    code = (
        "import sys; from tutelage.cli.main import main; main(['runs', sys.argv[1]]); main(['runs', sys.argv[1], '--json']); "
        "print([m for m in ('torch', 'numpy', 'accelerate', 'safetensors', 'matplotlib') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code, str(root)], capture_output=True, text=True, check=True).stdout
    assert out.strip().endswith("[]")


@pytest.mark.parametrize(
    ("size", "shown"), [(0, "0 B"), (999, "999 B"), (35_350, "35.4 kB"), (2e6, "2.0 MB"), (5.5e9, "5.5 GB"), (3e15, "3000.0 TB")]
)
def test_sizes_are_shown_in_decimal_units(size, shown):
    """As disks are sold."""
    assert _bytes(size) == shown
