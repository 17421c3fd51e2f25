"""The command line as a user meets it: help, tables, the main job, one sentence for each bad input."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml

from tutelage.cli.main import COMMANDS, main

SMALL = [
    "--teacher",
    "cnn:width=4,depth=2",
    "--train-teacher",
    "--student",
    "mlp:width=4",
    "--quiet",
    "--teacher_fit.steps",
    "5",
    "--steps",
    "5",
]


@pytest.fixture(scope="module")
def done(tmp_path_factory) -> Path:
    """A finished small run."""
    out = tmp_path_factory.mktemp("runs") / "done"
    assert main(["distill", *SMALL, "--out", str(out)]) == 0
    return out


def test_help_of_the_program_imports_nothing_heavy():
    """`tutelage --help` answers in well under half a second only as long as torch stays out."""
    code = (
        "import sys; from tutelage.cli.main import main; main(['--help']); "
        "print([m for m in ('torch', 'numpy', 'accelerate', 'jsonargparse', 'rich', 'yaml') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip().endswith("[]")
    for command in COMMANDS:
        assert f"  {command} " in out


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_has_help_with_an_example(command, capsys):
    """A user starts by asking for help."""
    with pytest.raises(SystemExit) as stop:
        main([command, "--help"])
    assert stop.value.code == 0
    assert f"usage: tutelage {command}" in capsys.readouterr().out


def test_help_shows_the_knobs_of_the_recipe_that_was_named(capsys):
    """The signature of a recipe is its command line."""
    with pytest.raises(SystemExit):
        main(["distill", "--recipe", "fitnets", "--help"])
    text = capsys.readouterr().out
    for option in ("--hint ", "--guided ", "--hint-fit.lr", "--fit.batch-size", "--train-teacher", "--micro-batch", "softens both sides"):
        assert option in text
    assert "--alpha" not in text


def test_the_main_job_writes_a_run_folder_and_prints_a_table(done, capsys):
    """The three models side by side, and where the student is."""
    files = ["config.yaml", "environment.json", "metrics.jsonl", "model/model.safetensors", "teacher/model/model.json"]
    for file in (*files, "report.json", "report.html", "predictions.safetensors", "disagreements.json"):
        assert (done / file).is_file(), file
    assert main(["distill", "--resume", str(done)]) == 0
    out = capsys.readouterr().out
    for word in (
        "teacher",
        "student alone",
        "student taught",
        "accuracy",
        f"Run folder: {done}",
        "The student ",
        "report.html",
    ):
        assert word in out
    report = json.loads((done / "report.json").read_text())
    assert report["alone"]["updates"] == report["student"]["updates"] == 5
    measured = {"accuracy", "macro_f1", "nll", "ece", "agreement", "parameters", "bytes", "flops", "latency_ms", "throughput"}
    for name in ("teacher", "alone", "student"):
        assert set(report[name]) == {*measured, "model", "updates"}
        assert set(report[name]["latency_ms"]) == {"batch_1", "batch_64"}
        assert set(report[name]["latency_ms"]["batch_1"]) == {"median", "p95", "least"}


def test_json_goes_to_stdout_and_nothing_else_does(done, capsys):
    """A script pipes it on."""
    assert main(["distill", "--resume", str(done), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["recipe"] == "hinton-kd"


def test_the_config_of_a_run_runs_it_again_with_the_same_result(done, tmp_path, timeless):
    """The resolved config is enough to repeat a run."""
    assert main(["distill", "--config", str(done / "config.yaml"), "--out", str(tmp_path / "again")]) == 0
    for file in ("model/model.safetensors", "predictions.safetensors"):
        assert (tmp_path / "again" / file).read_bytes() == (done / file).read_bytes()
    again, first = (json.loads((run / "report.json").read_text()) for run in (tmp_path / "again", done))
    assert timeless(again) == timeless(first)


def test_print_config_gives_a_file_that_runs(tmp_path, capsys):
    """`--print_config` is how a user begins a config."""
    assert main(["distill", *SMALL, "--recipe", "fitnets", "--hint_fit.steps", "3", "--print_config"]) == 0
    text = capsys.readouterr().out
    settings = yaml.safe_load(text)
    assert settings["temperature"] == 3.0
    assert settings["fit"]["steps"] == 5
    file = tmp_path / "c.yml"
    file.write_text(text)
    assert (
        main(
            [
                "distill",
                "--config",
                str(file),
                "--fit.steps",
                "2",
                "--hint_fit.steps",
                "2",
                "--teacher_fit.steps",
                "2",
                "--out",
                str(tmp_path / "o"),
            ]
        )
        == 0
    )
    assert json.loads((tmp_path / "o" / "report.json").read_text())["student"]["updates"] == 4


@pytest.mark.parametrize(
    "words", [["--track", "tensorboard,aim"], ["--track=tensorboard", "--track", "aim"], ["--track", "[tensorboard, aim]"]]
)
@pytest.mark.parametrize("text", ["track: tensorboard,aim", "track: [tensorboard, aim]"])
def test_trackers_are_named_together_or_one_by_one_or_in_a_file(words, text, tmp_path, capsys, monkeypatch):
    """And what --print_config shows can be given again."""
    import accelerate.tracking

    monkeypatch.setattr(accelerate.tracking, "get_available_trackers", lambda: ["tensorboard", "aim"])
    file = tmp_path / "c.yml"
    file.write_text(text)
    for asked in (words, ["--config", str(file)]):
        assert main(["distill", *SMALL, *asked, "--print_config"]) == 0
        shown = yaml.safe_load(capsys.readouterr().out)
        assert shown["track"] == ["tensorboard", "aim"]
    file.write_text(yaml.safe_dump(shown))
    assert main(["distill", "--config", str(file), "--track=", "--print_config"]) == 0
    assert yaml.safe_load(capsys.readouterr().out)["track"] == []


def test_a_run_folder_is_a_teacher(done, tmp_path, capsys, timeless):
    """What one run made teaches in the next."""
    words = ["distill", "--teacher", str(done / "teacher"), "--student", "mlp:width=3", "--recipe", "kd", "--steps", "3", "--quiet"]
    assert main([*words, "--no-baseline", "--out", str(tmp_path / "o")]) == 0
    report = json.loads((tmp_path / "o" / "report.json").read_text())
    before = json.loads((done / "report.json").read_text())
    del before["teacher"]["updates"]  # it was trained there, not here
    assert timeless(report["teacher"]) == timeless(before["teacher"])
    assert "alone" not in report
    assert "no baseline was asked for" in capsys.readouterr().out


def test_a_dry_run_prints_a_table_and_writes_nothing(tmp_path, monkeypatch, capsys):
    """One looks before one spends."""
    monkeypatch.chdir(tmp_path)
    assert main(["distill", *SMALL, "--dry-run"]) == 0
    out = capsys.readouterr().out
    for word in ("teacher", "baseline", "student", "distil", "updates", "total"):
        assert word in out
    assert list(tmp_path.iterdir()) == []


def test_taps_prints_paths_shapes_and_the_matching(capsys):
    """How a user finds the names that `--hint` takes."""
    assert main(["taps", "cnn:width=4", "mlp"]) == 0
    out = capsys.readouterr().out
    assert "blocks.1.0" in out
    assert "(B, 4, 8, 8)" in out
    assert "Default matching by depth" in out


def test_recipes_lists_and_shows(capsys):
    """Which methods there are, and what one does."""
    assert main(["recipes"]) == 0
    out = capsys.readouterr().out
    assert "hinton-kd" in out
    assert "kd" in out
    assert main(["recipes", "fitnets"]) == 0
    assert "Romero" in capsys.readouterr().out


def test_version_and_no_verb(capsys):
    """The smallest questions get an answer."""
    assert main(["--version"]) == 0
    assert main([]) == 2
    assert "verbs:" in capsys.readouterr().out


def test_a_users_own_net_and_data_come_from_a_file(tmp_path):
    """Any module, any data set: the first thing a user brings."""
    file = tmp_path / "own.py"
    file.write_text(
        "import torch\nfrom tutelage import Data, Table\n"
        "def big():\n    return torch.nn.Sequential(torch.nn.Linear(5, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3))\n"
        "def small(width: int = 2):\n    return torch.nn.Sequential(torch.nn.Linear(5, width), torch.nn.Linear(width, 3))\n"
        "def task(size: int = 20):\n    g = torch.Generator().manual_seed(0)\n"
        "    def t(n, at):\n        x = torch.randn(n, 5, generator=g)\n"
        "        return Table({'x': x, 'y': x[:, :3].argmax(1), 'id': torch.arange(at, at + n)})\n"
        "    return Data(t(size, 0), t(10, 100), t(10, 200), ('a', 'b', 'c'), 'own')\n"
    )
    words = [
        "distill",
        "--teacher",
        f"{file}:big",
        "--train-teacher",
        "--student",
        f"{file}:small:width=4",
        "--data",
        f"{file}:task:size=30",
    ]
    out = tmp_path / "out"
    assert main([*words, "--steps", "3", "--teacher_fit.steps", "3", "--quiet", "--out", str(out)]) == 0
    refused = ["distill", "--teacher", str(out), "--student", "mlp:inputs=5,classes=3", "--data", f"{file}:task", "--steps", "2", "--quiet"]
    assert main([*refused, "--out", str(tmp_path / "o2")]) == 2
    assert main([*refused, "--out", str(tmp_path / "o2"), "--trust-code"]) == 0
    assert main(["distill", "--resume", str(out)]) == 2
    assert main(["distill", "--resume", str(out), "--trust-code"]) == 0


BASE = ["distill", "--teacher", "{done}/teacher", "--student", "mlp:width=3", "--steps", "2", "--quiet", "--out", "{tmp}/out"]

BAD: dict[str, tuple[list[str], str]] = {
    "unknown verb": (["destill"], "nearest: 'distill'"),
    "no teacher": (["distill", "--student", "mlp"], "needs a teacher"),
    "no student": (["distill", "--teacher", "{done}"], "needs a student"),
    "role not taken": (["distill", "--recipe", "alone", "--teacher", "{done}", "--student", "mlp"], "takes no teacher"),
    "untrained teacher": (["distill", "--teacher", "cnn", "--student", "mlp"], "--train-teacher"),
    "misspelt net": ([*BASE, "--student", "cmn"], "nearest: 'cnn'"),
    "misspelt size": ([*BASE, "--student", "cnn:widht=3"], "nearest: 'width'"),
    "size of the wrong kind": ([*BASE, "--student", "cnn:width=wide"], "expected a whole number"),
    "size out of range": ([*BASE, "--student", "cnn:width=0"], "at least 1"),
    "no such folder": ([*BASE, "--teacher", "{tmp}/nothing"], "does not exist"),
    "folder without a model": ([*BASE, "--teacher", "{tmp}"], "holds no model"),
    "no such file": ([*BASE, "--student", "{tmp}/net.py:small"], "does not exist"),
    "corrupt weights": ([*BASE, "--teacher", "{tmp}/corrupt"], "damaged"),
    "foreign weights": ([*BASE, "--teacher", "{tmp}/foreign"], "do not fit"),
    "a pickle with code": ([*BASE, "--teacher", "{tmp}/pickled"], "damaged"),
    "unknown data": ([*BASE, "--data", "digitz"], "nearest: 'digits'"),
    "unknown data option": ([*BASE, "--data", "digits:sede=3"], "nearest: 'seed'"),
    "class counts differ": ([*BASE, "--student", "mlp:classes=7"], "digits has 10 classes"),
    "unknown recipe": ([*BASE, "--recipe", "hintom-kd"], "nearest: 'hinton-kd'"),
    "misspelt knob": ([*BASE, "--temperatur", "3"], "nearest: 'temperature'"),
    "misspelt nested knob": ([*BASE, "--fit.learning", "3"], "is not known"),
    "knob of another recipe": ([*BASE, "--hint", "0"], "is not known"),
    "negative temperature": ([*BASE, "--temperature=-3"], "positive finite"),
    "temperature nan": ([*BASE, "--temperature=nan"], "expected a number"),
    "alpha out of range": ([*BASE, "--alpha", "1.5"], "[0, 1]"),
    "word for a number": ([*BASE, "--temperature", "warm"], "expected a number"),
    "unknown optimizer": ([*BASE, "--fit.optimizer", "lion"], "expected one of"),
    "negative lr": ([*BASE, "--lr=-1"], "Fit(lr=-1.0)"),
    "no updates": ([*BASE, "--steps", "0"], "at least 1"),
    "epochs and steps": ([*BASE, "--epochs", "2"], "exactly one"),
    "batch of nothing": ([*BASE, "--batch-size", "0"], "at least 1"),
    "unknown tap": ([*BASE, "--recipe", "fitnets", "--hint", "blocks.9"], "nearest: 'blocks."),
    "unknown guided tap": ([*BASE, "--recipe", "fitnets", "--guided", "layer9"], "not in the student"),
    "value missing": (["distill", "--student"], "expected one argument"),
    "no such config": ([*BASE, "--config", "{tmp}/none.yml"], "does not exist"),
    "config is no YAML": ([*BASE, "--config", "{tmp}/broken.yml"], "no YAML"),
    "config is a list": ([*BASE, "--config", "{tmp}/list.yml"], "mapping"),
    "config with a misspelt knob": ([*BASE, "--config", "{tmp}/misspelt.yml"], "temperatur"),
    "config names a class": ([*BASE, "--config", "{tmp}/class.yml"], "'os.system' names code"),
    "config names code": (["distill", "--config", "{tmp}/code.yml"], "--trust-code"),
    "config names a recipe's code": (["distill", "--config", "{tmp}/method.yml"], "--trust-code"),
    "out is taken": ([*BASE, "--out", "{done}"], "--resume"),
    "out is a file": ([*BASE, "--out", "{tmp}/list.yml"], "is a file"),
    "out below a file": ([*BASE, "--out", "{tmp}/list.yml/run"], "cannot be made"),
    "nothing to resume": (["distill", "--resume", "{tmp}"], "no run to resume"),
    "resume with another knob": (["distill", "--resume", "{cut}", "--temperature", "9"], "temperature"),
    "resume from a damaged checkpoint": (["distill", "--resume", "{cut}"], "damaged"),
    "micro-batch of nothing": ([*BASE, "--micro-batch", "0"], "at least 1"),
    "unknown tracker": ([*BASE, "--track", "tensorbord"], "nearest: 'tensorboard'"),
    "one of two trackers unknown": ([*BASE, "--track", "tensorboard", "--track", "w&b"], "--track w&b"),
    "trackers that are no list of names": ([*BASE, "--track", "{{a: 1}}"], "--track"),
    "unknown precision": ([*BASE, "--precision", "fp8"], "expected one of"),
    "size that is no YAML": ([*BASE, "--student", "mlp:width='"], "quote does not close"),
    "size that fits nowhere": ([*BASE, "--student", "mlp:width=16000000,depth=3"], "GB of memory"),
    "size that is too large": ([*BASE, "--student", "mlp:width=1000000000000"], "at most 16,777,216"),
    "more layers than anyone builds": ([*BASE, "--student", "cnn:depth=1000000000"], "at most 1,000"),
    "sizes that overflow": ([*BASE, "--student", "cnn:depth=60,pools=59", "--dry-run"], "cannot be built"),
    "size out of range in a dry run": ([*BASE, "--student", "cnn:width=0", "--dry-run"], "at least 1"),
    "very long name": ([*BASE, "--student", "x" * 5000], "is not known"),
    "student that does not take the data": ([*BASE, "--student", "mlp:inputs=3"], "cannot be run on samples of digits"),
    "net that raises": ([*BASE, "--student", "{tmp}/own.py:fails"], "KeyError: 'no such thing'"),
    "data that raise": ([*BASE, "--data", "{tmp}/own.py:fails"], "KeyError: 'no such thing'"),
    "number or null": ([*BASE, "--micro-batch", "3.0"], "expected a whole number or null, got 3.0"),
    "null for a number": ([*BASE, "--config", "{tmp}/null.yml"], "null is no value for it"),
    "null for a knob": ([*BASE, "--config", "{tmp}/hot.yml"], "null is no value for temperature"),
    "null for a seed": ([*BASE, "--config", "{tmp}/unsown.yml"], "expected a whole number"),
    "number for a bundle": ([*BASE, "--config", "{tmp}/bundle.yml"], "expected a mapping"),
    "list for a recipe": ([*BASE, "--config", "{tmp}/method_list.yml"], "expected a name"),
    "config in a config": ([*BASE, "--config", "{tmp}/nested.yml"], "only for the command line"),
    "deep config": ([*BASE, "--config", "{tmp}/deep.yml"], "nested too deep"),
    "deep value": ([*BASE, "--fit.lr", "[" * 3000 + "]" * 3000], "nested too deep"),
    "config with a long number": ([*BASE, "--config", "{tmp}/digits.yml"], "no YAML"),
    "more epochs than can be counted": (
        ["distill", "--recipe", "alone", "--student", "mlp", "--epochs", "1e308"],
        "more than can be counted",
    ),
    "batch that fits nowhere": ([*BASE, "--batch-size", "1000000000000"], "lower batch_size"),
    "generations without end": ([*BASE, "--recipe", "born-again", "--generations", "1000000000000"], "1 to 100"),
    "temperature that overflows": ([*BASE, "--temperature", "1e300"], "at most 1e+18"),
    "learning rate that overflows": ([*BASE, "--lr", "1e300"], "at most 1e+30"),
    "workers without end": ([*BASE, "--workers", "1000000"], "at most 1024"),
    "no name for out": ([*BASE, "--out", ""], "--out is empty"),
    "out with a null byte": ([*BASE, "--out", "a\0b"], "cannot be made"),
    "out that is too long": ([*BASE, "--out", "{tmp}/" + "x" * 300], "too long"),
    "no UTF-8": ([*BASE, "--out", "\udcff"], "no UTF-8"),
    "a run of another program": ([*BASE, "--teacher", "{tmp}/odd"], "damaged"),
    "no runs": (["runs", "{tmp}/nothing"], "does not exist"),
    "runs in a file": (["runs", "{tmp}/list.yml"], "is a file"),
    "runs by an unknown column": (["runs", "{tmp}", "--sort", "acuracy"], "nearest: 'accuracy'"),
    "taps of nothing": (["taps"], "required"),
    "taps of an unknown net": (["taps", "resnett"], "is not known"),
    "unknown recipe to show": (["recipes", "fitnet"], "nearest: 'fitnets'"),
}


@pytest.fixture
def places(done, tmp_path) -> dict[str, str]:
    """Broken things to point at."""
    import shutil

    from safetensors.torch import save_file

    for name in ("corrupt", "foreign", "pickled"):
        shutil.copytree(done / "teacher", tmp_path / name)
    (tmp_path / "corrupt/model/model.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0{nonsense")
    save_file({"weight": torch.ones(3)}, tmp_path / "foreign/model/model.safetensors")
    torch.save({"weight": torch.ones(3)}, tmp_path / "pickled/model/model.safetensors")
    (tmp_path / "broken.yml").write_text("a: [1")
    (tmp_path / "list.yml").write_text("- a\n")
    (tmp_path / "misspelt.yml").write_text("temperatur: 3\n")
    (tmp_path / "class.yml").write_text("fit:\n  class_path: os.system\n  init_args:\n    command: echo\n")
    (tmp_path / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\ndef net(): pass\n")
    (tmp_path / "code.yml").write_text(f"teacher: {done}\nstudent: {tmp_path}/evil.py:net\n")
    (tmp_path / "method.yml").write_text(f"recipe: {tmp_path}/evil.py:net\n")
    texts = {
        "own.py": "def fails(): raise KeyError('no such thing')\n",
        "null.yml": "teacher_fit: {batch_size: null}",
        "hot.yml": "temperature: null",
        "unsown.yml": "seed: null",
        "bundle.yml": "teacher_fit: 3",
        "method_list.yml": "recipe: [kd]",
        "nested.yml": "config: other.yml",
        "deep.yml": "[" * 3000,
        "digits.yml": "seed: " + "9" * 5000,
    }
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "odd/model").mkdir(parents=True)
    (tmp_path / "odd/model/model.json").write_text('{"spec": 3}')
    cut = tmp_path / "cut"
    shutil.copytree(done, cut)
    (cut / "stages/00-distil/tensors.safetensors").write_bytes(b"")
    return {"done": str(done), "tmp": str(tmp_path), "cut": str(cut)}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_gets_one_sentence_and_exit_code_2(case, places, capsys, monkeypatch):
    """One sentence that names the thing; no traceback, nothing trained, no foreign code run."""
    monkeypatch.chdir(places["tmp"])
    words, expected = BAD[case]
    words = [w.format(**places) for w in words]
    if case == "resume with another knob":
        import shutil

        shutil.copytree(places["done"], f"{places['tmp']}/whole")
        words[2] = f"{places['tmp']}/whole"
    try:
        code = main(words)
    except SystemExit as stop:
        code = stop.code
    shown = capsys.readouterr()
    assert code == 2, shown.err
    assert shown.err.startswith("tutelage: ")
    assert shown.err.count("\n") == 1
    assert expected in shown.err
    assert "Traceback" not in shown.err
    assert not (Path(places["tmp"]) / "ran").exists()
    assert not (Path(places["tmp"]) / "out" / "model").exists()


def test_debug_shows_the_traceback():
    """For whoever mends it."""
    with pytest.raises(ValueError, match="is not known"):
        main(["taps", "resnett", "--debug"])
