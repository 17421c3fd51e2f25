"""`tutelage data`, and the options of data on every command that takes data."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tutelage.cli.main import main
from tutelage.cli.parser import data_options
from tutelage.data import BUILT_IN
from tutelage.errors import BadInput
from tutelage.jobs.sources import LOCATED

N = 60


@pytest.fixture
def mails(tmp_path):
    """Sixty mails of three kinds, one of them rare."""
    pytest.importorskip("pandas")
    file = tmp_path / "mails.csv"
    kinds = ["ham"] * 40 + ["[red]spam"] * 10 + ["eggs"] * 10
    file.write_text("body,length,kind\n" + "".join(f'"mail {i}: [bold]yes[/bold]",{i % 9},{k}\n' for i, k in enumerate(kinds)))
    return str(file)


def out(capsys, *words, code=0):
    assert main(["data", *words]) == code
    return capsys.readouterr().out


def error(capsys, *words):
    """The one line that a bad input prints."""
    assert main(list(words)) == 2
    said = capsys.readouterr()
    lines = said.err.strip().splitlines()
    assert len(lines) == 1, lines
    return lines[0]


def test_the_table_shows_splits_classes_and_their_balance(capsys, mails):
    """What a user must see before training on it."""
    text = out(capsys, f"csv:{mails}", "--data.label", "kind", "--data.text=body")
    rows = {line.split("│")[1].strip(): [c.strip() for c in line.split("│")[2:5]] for line in text.splitlines() if "│" in line}
    assert rows["ham"] == ["28", "6", "6"]
    assert rows["[red]spam"][0] == rows["eggs"][0] == "7"
    assert sum(int(n) for n in rows["all"]) == N
    assert "mails: text (y: (); text: str)" in text
    assert "The largest class has 4.0 times the training samples of the smallest." in text
    assert ": [bold]yes[/bold]" in text


def test_json_says_the_same(capsys, mails):
    """For scripts."""
    found = json.loads(out(capsys, f"csv:{mails}", "--data.label", "kind", "--data.text", "body", "--json"))
    assert found["classes"] == ["[red]spam", "eggs", "ham"]
    assert found["splits"]["train"] == {"samples": 42, "counts": [7, 7, 28]}
    assert (found["imbalance"], found["kind"], len(found["examples"])) == (4.0, "text", 3)


def test_the_digits_are_shown_where_nothing_is_named(capsys):
    """The first look at what there is."""
    text = out(capsys)
    assert "digits: images (x: (1, 8, 8); y: ())" in text
    assert "The largest class has 1.1 times" in text


def test_many_classes_are_cut_off(capsys, tmp_path):
    """A thousand lines help nobody."""
    pytest.importorskip("pandas")
    file = tmp_path / "many.csv"
    file.write_text("a,label\n" + "".join(f"{i},c{i % 70}\n" for i in range(420)))
    text = out(capsys, f"csv:{file}")
    assert "and 10 more" in text
    assert "│ c62 " in text
    assert "│ c63 " not in text


def test_data_without_classes_are_shown_by_split(capsys, mails):
    """Distillation needs no labels."""
    text = out(capsys, f"csv:{mails}", "--data.label", "", "--data.columns", "length")
    assert "Samples by split" in text
    assert "numbers (x: (1,))" in text
    assert "largest class" not in text


@pytest.mark.parametrize("kind", [*BUILT_IN, *LOCATED])
def test_each_kind_lists_its_options_with_what_they_do(capsys, kind):
    """An option that is not explained is not found."""
    text = out(capsys, "--options", kind)
    rows = [[c.strip() for c in line.split("│")[1:4]] for line in text.splitlines() if line.startswith("│")]
    named = [r for r in rows if r[0]]
    assert (["--data.of", ""] if kind == "condensed" else ["--data.seed", "0"]) in [r[:2] for r in named]
    assert all(r[0].startswith("--data.") and r[2] for r in named)
    assert "--data.path" not in text


def test_the_separator_is_an_option_of_csv_alone(capsys):
    """What is listed must work."""
    assert "--data.separator" in out(capsys, "--options", "csv")
    assert "--data.separator" not in out(capsys, "--options", "jsonl")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--options", "cvs"], "data 'cvs' is not known; nearest: 'csv'; expected one of digits"),
        (["cvs:x"], "data 'cvs' is not known; nearest: 'csv'"),
        (["csv:none.csv"], "data file 'none.csv' does not exist"),
        (["digits", "--data.sead", "3"], "data digits has no option 'sead'; nearest: 'seed'"),
        (["digits", "--data.seed", "three"], "data digits: seed=three: expected a whole number"),
        (["digits", "--data.seed"], "option --data.seed expects a value"),
        (["digits", "--data.seed", "--json"], "option --data.seed expects a value"),
        (["digits", "--data.", "3"], "is no option"),
        (["digits", "--data.a b", "3"], "is no option"),
        (["digits", "--sead", "3"], "option --sead is not known"),
        (["{mails}"], "has no column 'label'; its columns are 'body', 'length', 'kind' (name the label column with --data.label COLUMN"),
        (["{mails}", "--data.label", "kind"], "column 'body' of mails holds 60 distinct strings beside columns of numbers"),
        (["{mails}", "--data.label", "kind", "--data.text", "body", "--data.missing", "ignore"], "missing='ignore'; expected refuse, drop"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(capsys, mails, words, message):
    """As everywhere."""
    assert message in error(capsys, "data", *(w.replace("{mails}", f"csv:{mails}") for w in words))


def test_what_distill_would_refuse_is_said_after_the_table(capsys, tmp_path):
    """The table shows where the class is missing."""
    (tmp_path / "mine.py").write_text(
        "import torch\nfrom tutelage.data import Data, Table\n"
        "def task(nan: bool = False, n_test: int = 4):\n"
        "    x = torch.full((8, 2), float('nan') if nan else 0.0)\n"
        "    test = Table({'x': torch.zeros(n_test, 2), 'y': torch.arange(n_test) % 3})\n"
        "    return Data(Table({'x': x, 'y': torch.arange(8) % 2}, 'task/train'), test=test, classes=('a', 'b', 'c'))\n"
    )
    spec = f"{tmp_path}/mine.py:task"
    assert main(["data", spec, "--data.n-test", "2"]) == 0
    capsys.readouterr()
    assert main(["data", spec]) == 2
    said = capsys.readouterr()
    assert "class 'c' is in data but not in training" in said.err
    assert "│ c " in said.out
    assert main(["data", spec, "--data.nan", "true", "--json"]) == 2
    said = capsys.readouterr()
    assert "column 'x' of task/train is NaN or infinite in 8 of 8 samples" in said.err
    assert json.loads(said.out)["classes"] == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("words", "kept", "changes"),
    [
        (["--data", "digits"], ["--data", "digits"], []),
        (["--data.seed", "3", "digits"], ["digits"], [("seed", "3")]),
        (["--data.seed=3", "--json"], ["--json"], [("seed", "3")]),
        (["--data.label", "", "--data.text=a=b"], [], [("label", ""), ("text", "a=b")]),
        (["--data.seed", "-3"], [], [("seed", "-3")]),
        (["--data.max-rows", "a-b"], [], [("max_rows", "a-b")]),
        (["--data.label=--odd"], [], [("label", "--odd")]),
    ],
)
def test_options_of_the_data_are_taken_out_of_the_words(words, kept, changes):
    """In both spellings, wherever they stand."""
    assert data_options(words) == (kept, changes)


@pytest.mark.parametrize("words", [["--data.seed"], ["--data.seed", "--json", "3"], ["--data.seed", "--data.label=x"]])
def test_an_option_without_its_value_does_not_swallow_the_next(words):
    """`--data.label --out x` would study a column called --out."""
    with pytest.raises(BadInput, match=r"option --data\.seed expects a value"):
        data_options(words)


DRY = ["distill", "--teacher", "mlp:width=4", "--train-teacher", "--student", "mlp:width=2", "--dry-run", "--steps", "3"]


def test_distill_takes_the_same_options_in_both_spellings(capsys, mails):
    """What was looked at is what is trained on."""
    words = ["--data", f"csv:{mails}", "--data.label", "kind", "--data.columns=length", "--batch-size", "7"]
    assert main([*DRY, *words]) == 0
    assert "What would happen" in capsys.readouterr().out
    assert "has no column 'label'" in error(capsys, *DRY, "--data", f"csv:{mails}")
    assert "has no option 'lable'; nearest: 'label'" in error(capsys, *DRY, "--data", f"csv:{mails}", "--data.lable", "kind")
    assert "option --data.label expects a value" in error(capsys, *DRY, "--data", f"csv:{mails}", "--data.label", "--quiet")


def test_options_on_the_command_line_change_those_of_a_file(capsys, mails, tmp_path):
    """--print_config writes what will run, and that file runs."""
    import yaml

    config = tmp_path / "my.yml"
    config.write_text(yaml.safe_dump({"data": f"csv:{mails}:label=none,columns=length", "student": "mlp:width=2"}))
    words = ["distill", "--config", str(config), "--teacher", "mlp:width=4", "--train-teacher", "--steps", "3"]
    assert "has no column 'none'" in error(capsys, *words, "--dry-run")
    assert main([*words, "--data.label", "kind", "--print_config"]) == 0
    printed = capsys.readouterr().out
    assert yaml.safe_load(printed)["data"] == f"csv:{mails}:label=kind,columns=length"
    again = tmp_path / "again.yml"
    again.write_text(printed)
    assert main(["distill", "--config", str(again), "--dry-run"]) == 0
    capsys.readouterr()
    assert main(["data", f"csv:{mails}:label=none,columns=length", "--data.label=kind"]) == 0


def test_options_of_a_file_of_code_do_not_make_it_untrusted(capsys, tmp_path):
    """The user named the file on the command line; a YAML file that names it must still be allowed."""
    (tmp_path / "mine.py").write_text(
        "import torch\nfrom tutelage.data import Table\n"
        "def task(n: int = 8):\n    return Table({'x': torch.zeros(n, 2), 'y': torch.arange(n) % 2})\n"
    )
    spec = f"{tmp_path}/mine.py:task"
    assert main([*DRY, "--data", spec, "--data.n", "12"]) == 0
    config = tmp_path / "my.yml"
    config.write_text(f"data: {spec}\n")
    assert "a file names code to run as data" in error(capsys, *DRY, "--config", str(config), "--data.n", "12")


def test_digits_are_shown_without_the_packages_of_other_kinds():
    """A user who has none of them must not need them, and we import none before it is asked for (scikit-learn imports pandas itself)."""
    packages = ("pandas", "pyarrow", "datasets", "PIL", "transformers")
    code = (
        f"import sys, tutelage.jobs.sources; print([m for m in {packages!r} if m in sys.modules], file=sys.stderr); "
        f"sys.modules.update(dict.fromkeys({packages!r})); from tutelage.cli.main import main; sys.exit(main(['data', 'digits']))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr.strip()) == (0, "[]")
    assert "digits: images" in done.stdout
