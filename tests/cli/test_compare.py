"""`tutelage compare`: what it prints, when it ends in an error, and what it takes from a folder."""

from __future__ import annotations

import html
import json
from pathlib import Path

import pytest
import yaml

from tutelage.cli.main import main
from tutelage.jobs import compare as comparing
from tutelage.jobs.comparison import trainings

WORDS = ["--teacher", "mlp:width=4,depth=1", "--train-teacher", "--teacher-fit.steps", "5", "--student", "mlp:width=2,depth=1"]
DRAW = comparing.write_page
WORDS += ["--recipes", "hinton-kd", "--seeds", "2", "--updates", "6", "--workers", "0", "--threads", "1"]


pytestmark = pytest.mark.usefixtures("cheap_comparisons")


@pytest.fixture(scope="module")
def done(tmp_path_factory, cheap_comparisons) -> Path:
    """A finished comparison."""
    out = tmp_path_factory.mktemp("runs") / "which"
    assert main(["compare", *WORDS, "--quiet", "--out", str(out)]) == 0
    return out


def test_the_table_the_answer_and_where_everything_is(done, capsys):
    """Three numbers, a sentence, and the paths."""
    assert main(["compare", "--resume", str(done), "--workers", "0", "--threads", "1"]) == 0
    out, err = capsys.readouterr()
    found = json.loads((done / "compare.json").read_text())
    best = f"{done}/{found['winner']['folder']}"
    for words in ("digits, 629 test samples, 2 seeds; in brackets: 95 % intervals over seeds", "accuracy, validation", "winner's lead"):
        assert words in out
    for words in ("hinton-kd", "alone", "best on validation", found["said"]):
        assert words in out
    for words in (f"Report: {done}/compare.html", f"Winner: {best} (", f"tutelage evaluate {best}", f"tutelage export {best} --to onnx"):
        assert words in out
    mean = found["results"]["alone"]["test"]["accuracy"]
    assert f"{mean['mean'] * 100:.2f} % ({mean['low'] * 100:.2f} to {mean['high'] * 100:.2f})" in out
    assert "trainings: 4 trials" in err
    assert "trainings" not in out


def test_the_page_says_what_the_table_says(done):
    """The page is drawn from the file, for a real comparison."""
    found = json.loads((done / "compare.json").read_text())
    DRAW(done, found)
    page = html.unescape((done / "compare.html").read_text())
    assert found["said"] in page.replace("\u2212", "-").replace("\u00a0", " ")
    for name, result in found["results"].items():
        assert name in page
        assert f"{result['test']['accuracy']['mean'] * 100:.2f} %" in page.replace("\u00a0", " ")


def test_progress_goes_to_stderr_a_line_for_each_training(tmp_path, capsys):
    """A log of a night's work is read in the morning."""
    assert main(["compare", *WORDS[:-6], "--seeds", "1", "--updates", "6", "--workers", "0", "--out", str(tmp_path / "out")]) == 0
    err = capsys.readouterr().err.splitlines()
    assert err[0] == "teacher: 1 trials"
    assert err[1].startswith("finished: teacher, ")
    assert err[2] == "trainings: 2 trials"
    assert err[3].startswith("finished: hinton-kd-seed-0, ")
    assert " left)" in err[3]
    assert err[4].endswith("(2 of 2)")


def test_quiet_prints_nothing_but_the_result(done, capsys):
    """For scripts."""
    assert main(["compare", "--resume", str(done), "--workers", "0", "--quiet"]) == 0
    assert capsys.readouterr().err == ""


def test_json_gives_all_numbers(done, capsys):
    """What lies in compare.json, and nothing else on stdout."""
    assert main(["compare", "--resume", str(done), "--workers", "0", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads((done / "compare.json").read_text())


def test_one_seed_has_no_interval_and_says_so(tmp_path, capsys):
    """Nothing stands in brackets."""
    assert main(["compare", *WORDS, "--seeds", "1", "--out", str(tmp_path / "out"), "--quiet"]) == 0
    out = capsys.readouterr().out
    assert "1 seed; in brackets" in out
    assert "cannot be told" in out
    assert "in one seed: how much other seeds would change is not known" in out
    assert " to " not in next(line for line in out.splitlines() if "alone" in line and "%" in line)


def test_a_dry_run_shows_what_would_be_trained_and_who_is_left_out(tmp_path, monkeypatch, capsys):
    """What it costs is known before."""
    monkeypatch.chdir(tmp_path)
    assert main(["compare", "--student", "cnn:width=2", "--updates", "1000", "--tune", "2", "--dry-run"]) == 0
    out = capsys.readouterr().out
    assert "nothing was built or trained" in out
    assert "10,000 in all" in out
    assert "Left out: fitnets: recipe fitnets needs a teacher: give --teacher MODEL_OR_RUN" in out
    assert main(["compare", "--student", "cnn:width=2", "--minutes", "2", "--dry-run", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["rows"][0] == {"name": "alone", "updates": None, "trainings": 3, "seconds": 360.0}
    assert list(tmp_path.iterdir()) == []


def test_what_failed_is_named_and_only_if_all_failed_the_command_does(tmp_path, monkeypatch, capsys):
    """The rest is worth something."""
    real = trainings.student

    def failing(folder, **training):
        if training["recipe"] != "alone" or everything:
            raise MemoryError("not \x1b[31menough")
        return real(folder, **training)

    everything = False
    monkeypatch.setattr(trainings, "student", failing)
    assert main(["compare", *WORDS, "--out", str(tmp_path / "one"), "--quiet"]) == 0
    out = capsys.readouterr().out
    assert "hinton-kd, seed 1: failed: MemoryError: not ?[31menough" in out
    assert "failed" in next(line for line in out.splitlines() if line.startswith("│ hinton-kd"))
    assert "\x1b[31m" not in out
    everything = True
    assert main(["compare", *WORDS, "--out", str(tmp_path / "all"), "--quiet"]) == 1
    out = capsys.readouterr().out
    assert "No training was finished, so there is nothing to compare." in out
    assert f"Numbers: {tmp_path}/all/compare.json" in out
    assert "Winner" not in out


def test_the_config_of_a_comparison_runs_another(done, tmp_path):
    """The settings are all in it; what stands on the command line holds."""
    config = str(done / "config.yaml")
    assert main(["compare", "--config", config, "--workers", "0", "--seeds", "1", "--quiet", "--out", str(tmp_path / "again")]) == 0
    first, again = (json.loads((folder / "compare.json").read_text()) for folder in (done, tmp_path / "again"))
    for name in ("hinton-kd", "alone"):
        assert again["results"][name]["seeds"]["0"]["test"] == first["results"][name]["seeds"]["0"]["test"]
    assert yaml.safe_load((tmp_path / "again" / "config.yaml").read_text())["seeds"] == 1


def test_code_that_a_config_names_does_not_run_unless_it_is_allowed(tmp_path, capsys):
    """A folder may have been sent."""
    (tmp_path / "evil.py").write_text(f"open({str(tmp_path / 'canary')!r}, 'w')\n")
    for key, value in (
        ("student", "evil.py:net"),
        ("data", "evil.py:data"),
        ("recipes", ["alone", "evil.py:method"]),
        ("teacher", "evil.py:net"),
    ):
        named = [f"{tmp_path}/{v}" if v.startswith("evil") else v for v in value] if isinstance(value, list) else f"{tmp_path}/{value}"
        settings = {"student": "mlp", "seeds": 1, key: named}
        (tmp_path / "config.yaml").write_text(yaml.safe_dump(settings))
        for how in (["--config", str(tmp_path / "config.yaml")], ["--resume", str(tmp_path)]):
            assert main(["compare", *how, "--dry-run"]) == 2
            assert f"a file names code to run as {key}" in capsys.readouterr().err
    assert not (tmp_path / "canary").exists()


@pytest.mark.parametrize("key", ["trust_code", "resume"])
def test_what_only_the_command_line_may_say_is_refused_in_a_config(key, tmp_path, capsys):
    """A config must not trust itself."""
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({"student": "mlp", "seeds": 1, key: True}))
    assert main(["compare", "--resume", str(tmp_path)]) == 2
    assert f"{key} stands in a file of options" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "compare needs a student: give --student MODEL_OR_RUN"),
        (["--student", "mlp", "--recipes", "fitnts"], "recipe 'fitnts' is not known; nearest: 'fitnets'"),
        (["--student", "mlp", "--recipe", "fitnets"], "option --recipe is not known; nearest: 'recipes'"),
        (["--student", "mlp", "--seeds", "0"], "seeds=0: expected 1 to 1,000"),
        (["--student", "mlp", "--seeds", "x"], "--seeds"),
        (["--student", "mlp", "--updates", "9", "--minutes", "1"], "the budget is one of the two"),
        (["--student", "mlp", "--engine", "proceses"], "engine 'proceses' is not known; nearest: 'processes'"),
        (["--student", "mlp", "--storage", "sqlite:///x"], "add --tune N"),
        (["--student", "mlp", "--data.label", "x"], "data digits has no option 'label'"),
        (["--student", "mlp", "--resume", "nowhere"], "nowhere holds no run to resume"),
        (["--student", "mlp", "--teacher", "cnn"], "has no weights trained for these classes"),
        (["--student", "mlp", "--teacher-fit.epochs", "0"], "epochs=0"),
        (["--student", "mlp", "--recipes"], "--recipes"),
        (["--student", "mlp", "--tune", "1", "--storage", "x://me:hunter2@y/z"], "storage x://***@y/z cannot be opened"),
    ],
)
def test_bad_input_ends_in_one_sentence(words, said, tmp_path, monkeypatch, capsys):
    """What was wrong, what was expected, what to do."""
    monkeypatch.chdir(tmp_path)
    assert main(["compare", *words]) == 2
    err = capsys.readouterr().err
    assert said in err
    assert err.startswith("tutelage: ")
    assert err.count("\n") == 1
    assert "hunter2" not in err


@pytest.mark.parametrize("name", ["storage", "address"])
def test_a_file_does_not_say_where_to_connect_to(name, tmp_path, capsys):
    """A folder that was sent would have this machine talk to its sender; and the password of a storage was not written down."""
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({"student": "mlp", "seeds": 1, "tune": 1, name: "sqlite:////tmp/evil.db"}))
    for how in (["--config", str(tmp_path / "config.yaml")], ["--resume", str(tmp_path)]):
        assert main(["compare", *how, "--dry-run"]) == 2
        assert f"a file names the {name} 'sqlite:////tmp/evil.db' to connect to" in capsys.readouterr().err


def test_a_storage_is_asked_for_again(done, tmp_path, capsys):
    """It was not written down."""
    settings = yaml.safe_load((done / "config.yaml").read_text())
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({**settings, "tune": 1, "storage": "postgresql://***@host/db"}))
    assert main(["compare", "--resume", str(tmp_path)]) == 2
    assert "give --storage again" in capsys.readouterr().err
