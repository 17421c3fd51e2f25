"""Students of few bits leave in few bits, and come back saying the same."""

from __future__ import annotations

import json

import pytest

import tutelage
from tutelage import Fit, RunOptions
from tutelage.cli.main import main
from tutelage.errors import BadInput

pytestmark = pytest.mark.usefixtures("no_page")
NET = "vit:width=32,depth=3,heads=2,patch=2"


def test_a_ternary_student_is_exported_in_two_bits_and_measured_again(tmp_path, capsys):
    made = tutelage.distill(
        NET,
        f"ternary:{NET}",
        "digits",
        recipe="teacher-intervention",
        train_teacher=True,
        teacher_fit=Fit(steps=20),
        fit=Fit(steps=10),
        steps=4,
        baseline=False,
        out=tmp_path / "run",
        options=RunOptions(device="cpu", quiet=True),
    )
    assert main(["export", str(tmp_path / "run"), "--to", "packed"]) == 0
    said = capsys.readouterr().out
    assert "In few bits:" in said
    folder = tmp_path / "run" / "exported" / "packed"
    about = json.loads((folder / "model.json").read_text())
    assert about["exported"] == "packed"
    assert about["difference"] < 1e-3
    # blocks are most of this net; the rest is in full precision
    assert about["files"]["model.safetensors"] < about["bytes_before"] / 4
    assert "In few bits" in (folder / "README.md").read_text()
    (again,) = tutelage.evaluate(str(folder), data="digits").models.values()
    assert again["accuracy"] == pytest.approx(made.report["student"]["accuracy"], abs=0.005)
    with pytest.raises(BadInput, match="no weights of few bits to pack"):
        tutelage.export(str(tmp_path / "run" / "teacher"), to="packed")
