"""Bad input among the user's own models and data: one sentence and exit code 2, before anything trains."""

from __future__ import annotations

import collections
import os
import pickle
import shutil
from pathlib import Path

import pytest
import torch

from tutelage.cli.main import main

pytest.importorskip("pandas")
hub = pytest.importorskip("hub_folders")
Image = pytest.importorskip("PIL.Image")

DISTILL = ["distill", "--teacher", "mlp:width=4", "--train-teacher", "--student", "mlp:width=2", "--steps", "2", "--out", "{tmp}/out"]
DISTILL += ["--teacher-fit.steps", "2", "--quiet"]
NUMBERS = [*DISTILL, "--data", "csv:{tmp}/numbers.csv"]
IMAGES = [*DISTILL, "--student", "cnn:width=2"]
TEXTS = ["distill", "--teacher", "hf:{tmp}/bert", "--train-teacher", "--student", "bag:width=2", "--data", "csv:{tmp}/texts.csv"]
TEXTS += ["--data.rare", "keep", "--steps", "1", "--teacher-fit.steps", "1", "--quiet", "--out", "{tmp}/out"]

BAD: dict[str, tuple[list[str], str]] = {
    "no such file of data": ([*DISTILL, "--data", "csv:{tmp}/none.csv"], "does not exist"),
    "no such folder of data": ([*DISTILL, "--data", "folder:{tmp}/none"], "does not exist"),
    "a folder where a file is expected": ([*DISTILL, "--data", "csv:{tmp}"], "is a folder"),
    "kind without a path": ([*DISTILL, "--data", "csv"], "expected csv:PATH"),
    "misspelt kind": ([*DISTILL, "--data", "cvs:{tmp}/numbers.csv"], "nearest: 'csv'"),
    "wrong label column": ([*NUMBERS, "--data.label", "labell"], "nearest: 'label'"),
    "label column left out": ([*DISTILL, "--data", "csv:{tmp}/other.csv"], "--data.label COLUMN"),
    "wrong text column": ([*NUMBERS, "--data.text", "words"], "has no column 'words'"),
    "misspelt data option": ([*NUMBERS, "--data.lable", "label"], "nearest: 'label'"),
    "data option without a value": ([*NUMBERS, "--data.label"], "expects a value"),
    "empty file": ([*DISTILL, "--data", "csv:{tmp}/empty.csv"], "is empty"),
    "column names only": ([*DISTILL, "--data", "csv:{tmp}/header.csv"], "no rows"),
    "no table": ([*DISTILL, "--data", "parquet:{tmp}/numbers.csv"], "no parquet"),
    "missing values": ([*DISTILL, "--data", "csv:{tmp}/holes.csv"], "--data.missing drop"),
    "infinite values": ([*DISTILL, "--data", "csv:{tmp}/infinite.csv"], "infinite"),
    "one class only": ([*DISTILL, "--data", "csv:{tmp}/one.csv"], "one class only"),
    "a label that is a measurement": ([*NUMBERS, "--data.label", "a"], "expected classes"),
    "a class too small to split": ([*DISTILL, "--data", "csv:{tmp}/rare.csv"], "--data.rare drop"),
    "a class absent from training": ([*NUMBERS, "--data.test", "{tmp}/strange.csv"], "has 0 training samples"),
    "a class absent from validation": ([*DISTILL, "--data", "csv:{tmp}/split.csv", "--data.split", "part"], "absent from validation"),
    "shares that leave nothing": ([*NUMBERS, "--data.train", "0.9", "--data.validation", "0.2"], "leave something for test"),
    "too few samples to split": ([*DISTILL, "--data", "csv:{tmp}/tiny.csv", "--data.rare", "keep"], "too few"),
    "a share that is a word": ([*NUMBERS, "--data.train", "most"], "expected a number"),
    "a net of images on numbers": ([*NUMBERS, "--student", "cnn"], "takes images, but numbers holds numbers"),
    "a model of text on images": ([*IMAGES, "--teacher", "hf:{tmp}/bert", "--data", "folder:{tmp}/photos"], "does not classify images"),
    "a model of images on text": ([*TEXTS, "--student", "cnn"], "takes images, but texts holds text"),
    "a non-image in a folder": ([*IMAGES, "--data", "folder:{tmp}/notes"], "no image"),
    "an image cut short": ([*IMAGES, "--data", "folder:{tmp}/cut"], "damaged image"),
    "one sub-folder only": ([*IMAGES, "--data", "folder:{tmp}/single"], "at least two"),
    "an empty sub-folder": ([*IMAGES, "--data", "folder:{tmp}/hollow"], "0 training samples"),
    "a size of nothing": ([*IMAGES, "--data", "folder:{tmp}/photos", "--data.size", "0"], "at least 1 pixel"),
    "an unknown augmentation": ([*IMAGES, "--data", "folder:{tmp}/photos", "--data.augment", "flop"], "nearest: 'flip'"),
    "a folder without a config": ([*TEXTS, "--teacher", "hf:{tmp}/photos"], "no config.json"),
    "a misspelt setting of a config": ([*TEXTS, "--teacher", "hf:{tmp}/bert:num_layer=1"], "no setting 'num_layer'"),
    "a teacher of text without a head": ([w for w in TEXTS if w != "--train-teacher"], "no weights trained for these classes"),
    "labels in another order": ([*TEXTS, "--teacher", "hf:{tmp}/turned"], "--data.classes pos,neg"),
    "weights that do not exist": ([*NUMBERS, "--teacher", "mlp:weights={tmp}/none.pt"], "do not exist"),
    "a pickle with code as weights": ([*NUMBERS, "--teacher", "mlp:weights={tmp}/evil.pt"], "more than tensors"),
    "weights of another net": ([*NUMBERS, "--teacher", "mlp:weights={tmp}/other.pt"], "do not fit"),
    "timm where it is missing": ([*IMAGES, "--student", "timm:resnet18", "--data", "folder:{tmp}/photos"], "needs timm"),
    "a read-only disk": ([*NUMBERS, "--out", "/proc/runs/first"], "cannot be made"),
    "a full disk": (NUMBERS, "MB free"),
    "NaN features from Python": ([*DISTILL, "--data", "{tmp}/own.py:nan"], "NaN or infinite in 3 of 9"),
    "a test class that training lacks": ([*DISTILL, "--data", "{tmp}/own.py:lacking"], "not in training"),
    "data that are nothing": ([*DISTILL, "--data", "{tmp}/own.py:nothing"], "data must be"),
    "a function that fails": ([*DISTILL, "--data", "{tmp}/own.py:failing"], "cannot be made"),
    "a net that cannot take the data": ([*NUMBERS, "--student", "mlp:inputs=7"], "cannot be run on samples of numbers"),
    "data to show that are not there": (["data", "csv:{tmp}/none.csv"], "does not exist"),
    "options of an unknown kind": (["data", "--options", "cvs"], "nearest: 'csv'"),
}

OWN = """
import torch
from tutelage import Data, Table
def nan():
    x = torch.ones(9, 3); x[:3, 1] = float("nan")
    return Table({"x": x, "y": torch.arange(9) % 3})
def lacking():
    t = lambda y: Table({"x": torch.ones(len(y), 3), "y": torch.tensor(y)})
    return Data(t([0, 1, 0]), t([0, 1]), t([0, 2]))
def nothing():
    return 3
def failing():
    raise ValueError("no luck")
"""


class Evil:
    """Would leave a file behind if it were unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (os.mkdir, (str(self.path),))


@pytest.fixture(scope="module")
def prepared(tmp_path_factory) -> Path:
    """Files of every kind, most of them broken."""
    tmp = tmp_path_factory.mktemp("own")
    rows = [f"{i / 7:.3f},{i % 5},{'xyz'[i % 3]}" for i in range(60)]
    tables = {
        "numbers": ["a,b,label", *rows],
        "other": ["a,b,kind", *rows],
        "empty": [],
        "header": ["a,b,label"],
        "holes": ["a,b,label", ",1,x", *rows],
        "infinite": ["a,b,label", "inf,1,x", *rows],
        "one": ["a,b,label", *(f"{i},1,x" for i in range(20))],
        "rare": ["a,b,label", *rows, "1,2,w"],
        "strange": ["a,b,label", "1,2,x", "3,4,w"],
        "split": [
            "a,b,part,label",
            *(f"{i},1,train,{'xyz'[i % 3]}" for i in range(30)),
            "1,1,val,x",
            "1,1,test,x",
            "1,1,test,y",
            "1,1,test,z",
        ],
        "tiny": ["a,b,label", "1,2,x", "3,4,y"],
        "texts": ["text,label", *(f"{['good', 'bad'][i % 2]} film,{['pos', 'neg'][i % 2]}" for i in range(20))],
    }
    for name, lines in tables.items():
        (tmp / f"{name}.csv").write_text("".join(f"{line}\n" for line in lines))
    for name in ("photos", "notes", "cut", "hollow"):
        for number, kind in enumerate("ab"):
            (tmp / name / kind).mkdir(parents=True)
            for i in range(8):
                Image.new("RGB", (8, 8), (30 * i, 90 * number, 7)).save(tmp / name / kind / f"{i}.png")
    (tmp / "notes/a/readme.txt").write_text("no image")
    whole = (tmp / "cut/a/0.png").read_bytes()
    (tmp / "cut/a/0.png").write_bytes(whole[:-30])
    (tmp / "hollow/c").mkdir()
    shutil.copytree(tmp / "photos/a", tmp / "single/a")
    hub.bert(tmp / "bert")
    hub.bert(tmp / "turned", head=2, labels=["pos", "neg"])
    (tmp / "evil.pt").write_bytes(pickle.dumps(Evil(tmp / "ran"), protocol=2))
    torch.save({"weight": torch.ones(2)}, tmp / "other.pt")
    (tmp / "own.py").write_text(OWN)
    return tmp


@pytest.mark.parametrize("case", BAD)
def test_bad_input_gets_one_sentence_and_exit_code_2(case, prepared, capsys, monkeypatch):
    """It names the thing, the expectation and the mend; nothing is trained and no foreign code runs."""
    if case == "a full disk":
        usage = collections.namedtuple("usage", "total used free")(10, 9, 1)
        monkeypatch.setattr("shutil.disk_usage", lambda path: usage)
    words, expected = BAD[case]
    shutil.rmtree(prepared / "out", ignore_errors=True)
    capsys.readouterr()
    code = main([w.format(tmp=prepared) for w in words])
    shown = capsys.readouterr()
    assert code == 2, shown.err
    assert shown.err.startswith("tutelage: ")
    assert shown.err.count("\n") == 1, shown.err
    assert expected in shown.err
    assert not (prepared / "ran").exists()
    assert not list((prepared / "out").glob("**/model.safetensors"))
