"""What the documents show must run."""

from __future__ import annotations

import contextlib
import inspect
import re
import shlex
from pathlib import Path

from tutelage.cli.main import COMMANDS, main
from tutelage.data import BUILT_IN
from tutelage.jobs.sources import LOCATED

ROOT = Path(__file__).parent.parent


def blocks(document: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / document).read_text(), re.DOTALL)


def test_the_recipe_in_contributing_is_found_and_trains(tmp_path):
    """The page that says how to add a method is the first that a contributor copies."""
    (code,) = [block for block in blocks("CONTRIBUTING.md", "python") if "@recipe" in block]
    file = tmp_path / "softer.py"
    file.write_text(code)
    words = ["distill", "--recipe", f"{file}:softer", "--teacher", "cnn:width=4", "--train-teacher", "--student", "cnn:width=2", "--quiet"]
    assert main([*words, "--steps", "3", "--teacher_fit.steps", "2", "--temperature", "6", "--out", str(tmp_path / "out")]) == 0


def test_the_main_command_of_the_readme_runs_and_its_options_exist(tmp_path, monkeypatch, capsys):
    """A command that was renamed in the code but not in the README is the newcomer's first error."""
    monkeypatch.chdir(tmp_path)
    shown = [line for block in blocks("README.md", "") for line in block.splitlines() if line.startswith("tutelage distill")]
    whole = next(line for line in shown if "--data digits" in line)
    assert main([*shlex.split(whole)[1:], "--dry-run"]) == 0
    capsys.readouterr()
    for command in COMMANDS:
        with contextlib.suppress(SystemExit):
            main([command, "--help"])
    known = capsys.readouterr().out
    known += " ".join(f"--data.{name}" for make in {**BUILT_IN, **LOCATED}.values() for name in inspect.signature(make).parameters)
    for option in set(re.findall(r"`[^`\n]*?(--[a-z_\-.]+)", (ROOT / "README.md").read_text())) - {"--help", "--hint", "--nproc_per_node"}:
        assert option in known or option.replace("_", "-") in known, option
