"""`tutelage report RUN` as a user meets it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tutelage.cli.main import main


@pytest.fixture(scope="module")
def done(tmp_path_factory) -> Path:
    """A finished run of a few steps."""
    out = tmp_path_factory.mktemp("runs") / "done"
    words = ["--teacher", "cnn:width=4,depth=2", "--train-teacher", "--student", "mlp:width=4", "--teacher_fit.steps", "2", "--steps", "2"]
    assert main(["distill", *words, "--quiet", "--out", str(out)]) == 0
    return out


def test_it_prints_the_headline_and_where_the_page_is(done, capsys):
    """And makes the page again."""
    (done / "report.html").unlink()
    assert main(["report", str(done)]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert out.startswith("The student ")
    assert out.endswith(f"Report: {done}/report.html")
    assert (done / "report.html").is_file()


def test_json_prints_the_numbers_and_nothing_else(done, capsys):
    """A script pipes it on."""
    assert main(["report", str(done), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads((done / "report.json").read_text())


def test_a_folder_without_a_finished_run_gets_one_sentence(done, tmp_path, capsys):
    """Not a traceback."""
    (tmp_path / "begun").mkdir()
    (tmp_path / "begun" / "config.yaml").write_text("recipe: kd\n")
    for folder, expected in ((tmp_path, "no run folder"), (tmp_path / "none", "does not exist"), (tmp_path / "begun", "--resume")):
        assert main(["report", str(folder)]) == 2
        shown = capsys.readouterr().err
        assert shown.startswith("tutelage: ")
        assert shown.count("\n") == 1
        assert expected in shown
    with pytest.raises(SystemExit) as stop:
        main(["report", "--help"])
    assert stop.value.code == 0
    assert main(["report"]) == 2
