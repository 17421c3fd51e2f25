"""`tutelage cache` as a user meets it: a command that writes, the same one that goes on, `show`, and one sentence for what is wrong."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tutelage.cli.main import main

pytestmark = pytest.mark.usefixtures("untimed_caches")


@pytest.fixture(scope="module")
def teacher(tmp_path_factory) -> str:
    """A teacher that was trained for a moment, as a run folder."""
    out = tmp_path_factory.mktemp("runs") / "teacher"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tutelage.jobs.report.render", lambda contents: "")
        patch.setattr("tutelage.evaluation.cost.SECONDS", 0.0)
        words = ["--student", "cnn:width=4,depth=2", "--recipe", "alone", "--steps", "5", "--quiet", "--out", str(out)]
        assert main(["distill", *words]) == 0
    return str(out)


@pytest.fixture(scope="module")
def whole(teacher, tmp_path_factory) -> Path:
    """A cache of its logits."""
    out = tmp_path_factory.mktemp("caches") / "whole"
    assert main(["cache", "--teacher", teacher, "--out", str(out), "--quiet"]) == 0
    return out


@pytest.fixture
def copy(whole, tmp_path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "copy"))


def test_the_command_says_what_it_takes_and_then_what_it_took(teacher, tmp_path, capsys):
    """The estimate on stderr before, the bytes of the files on stdout after."""
    words = ["--keep", "top-3", "--temperature", "4", "--taps", "0.5", "--taps-as", "8-bit", "--out", str(tmp_path / "c")]
    assert main(["cache", "--teacher", teacher, *words]) == 0
    said = capsys.readouterr()
    for word in ("data: digits", "What cnn shows, kept in", "passes", "time, roughly", "899", "plain", "depth-0.5 64"):
        assert word in said.err
    out = " ".join(said.out.split())
    for word in ("top-k, 3 of 10,", "all 10, full", "(blocks.0)", "files", "logits 8.0", f"--teacher cache:{tmp_path}/c"):
        assert word in out
    about = json.loads((tmp_path / "c" / "cache.json").read_text())
    assert about["splits"]["train"]["logits"]["temperature"] == 4
    assert list(about["splits"]) == ["train", "validation", "test"]


def test_a_dry_run_prints_the_table_and_writes_nothing(teacher, tmp_path, capsys):
    """Also as JSON."""
    words = ["cache", "--teacher", teacher, "--no-evaluation", "--dry-run", "--out", str(tmp_path / "c")]
    assert main(words) == 0
    assert "nothing was written" in capsys.readouterr().out
    assert main([*words, "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["folder"] is None
    assert [(row["split"], row["samples"], row["bytes_a_sample"]) for row in said["estimate"]] == [("train", 899, {"logits": 40})]
    assert list(tmp_path.iterdir()) == []


def test_the_same_command_finds_its_work_done(teacher, whole, capsys):
    """Quiet is quiet, and JSON alone goes to stdout."""
    assert main(["cache", "--teacher", teacher, "--out", str(whole), "--quiet", "--json"]) == 0
    said = capsys.readouterr()
    assert said.err == ""
    found = json.loads(said.out)
    assert found["written"] == 0
    assert found["contents"]["finished"]
    assert all(row["passes"] == 0 for row in found["estimate"])


def test_show_prints_what_is_kept_of_whom(teacher, whole, capsys):
    """All that a reader needs to choose it."""
    assert main(["cache", "show", str(whole), "--teacher", teacher, "--data", "digits"]) == 0
    out = " ".join(capsys.readouterr().out.split())
    about = json.loads((whole / "cache.json").read_text())
    for word in ("cnn on digits", "899", "269", "629", "all 10, full", "logits 40.0", "weights " + about["teacher"]["weights"]):
        assert word in out
    assert f"Seed: 0; fingerprint: {about['fingerprint']}" in out
    assert "asked in batches of 64 in fp32" in out
    assert main(["cache", "show", str(whole), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["finished"]
    assert found["measured"]["parameters"] > 0


def test_show_fails_where_shards_are_missing_or_damaged_and_says_which(copy, capsys):
    """A script that checks its caches needs the exit code."""
    (copy / "train" / "plain-00000.json").unlink()
    content = bytearray((copy / "test" / "plain-00000.safetensors").read_bytes())
    content[-1] ^= 1
    (copy / "test" / "plain-00000.safetensors").write_bytes(content)
    for more in ([], ["--json"]):
        assert main(["cache", "show", str(copy), *more]) == 1
        said = capsys.readouterr()
        assert "1 shard is missing (train/plain-00000.safetensors) and 1 shard is damaged (test/plain-00000.safetensors)" in said.err
        assert said.err.count("\n") == 1
        assert ("1 missing" in said.out) or not json.loads(said.out)["finished"]


def test_show_refuses_another_teacher_and_other_data_with_both_sides_named(whole, teacher, tmp_path, capsys):
    """What was written for somebody else teaches nonsense."""
    assert main(["cache", "show", str(whole), "--data", "digits:seed=3"]) == 2
    assert "this run studies digits (train " in capsys.readouterr().err
    assert main(["cache", "show", str(whole), "--data", "digits", "--teacher", f"cnn:width=4,depth=3,weights={teacher}"]) == 2
    assert "do not fit" in capsys.readouterr().err
    other = tmp_path / "other"
    shutil.copytree(teacher, other)
    from safetensors.torch import load_file, save_file

    file = other / "model" / "model.safetensors"
    save_file({name: tensor + 1 for name, tensor in load_file(file).items()}, file)
    assert main(["cache", "show", str(whole), "--data", "digits", "--teacher", str(other)]) == 2
    weights = json.loads((whole / "cache.json").read_text())["teacher"]["weights"]
    assert f"a teacher with weights {weights} (cnn), this one has " in capsys.readouterr().err
    assert main(["cache", "--teacher", str(other), "--out", str(whole)]) == 2
    assert f'teacher weights = "{weights}" (cnn)' in capsys.readouterr().err


BAD: dict[str, tuple[list[str], str]] = {
    "no teacher": (["--out", "{tmp}/c"], "needs --teacher"),
    "no folder": (["--teacher", "{teacher}"], "needs --out"),
    "an empty folder": (["--teacher", "{teacher}", "--out", ""], "--out is empty"),
    "a teacher without weights": (["--teacher", "cnn", "--out", "{tmp}/c"], "no weights trained"),
    "a cache as a teacher": (["--teacher", "{whole}", "--out", "{tmp}/c"], "is a cache of signals"),
    "a cache as a cache": (["--teacher", "cache:{whole}", "--out", "{tmp}/c"], "a cache cannot be asked"),
    "a misspelt tap": (["--teacher", "{teacher}", "--taps", "block.0", "--out", "{tmp}/c"], "nearest: 'blocks.0'"),
    "a misspelt option": (["--teacher", "{teacher}", "--veiws", "3", "--out", "{tmp}/c"], "nearest: 'views'"),
    "too many classes": (["--teacher", "{teacher}", "--keep", "top-11", "--out", "{tmp}/c"], "gives 10 logits"),
    "no views of augmented data": (
        ["--teacher", "{teacher}", "--data", "{tmp}/own.py:moved", "--trust-code", "--out", "{tmp}/c"],
        "such as --views 4",
    ),
    "a word for a number": (["--teacher", "{teacher}", "--views", "many", "--out", "{tmp}/c"], "expected a whole number"),
    "an unknown precision": (["--teacher", "{teacher}", "--precision", "fp8", "--out", "{tmp}/c"], "fp32, bf16, fp16"),
    "a folder of something else": (["--teacher", "{teacher}", "--out", "{teacher}"], "already holds something else"),
    "show nothing": (["show"], "required"),
    "show no cache": (["show", "{tmp}"], "holds no cache"),
    "show a file": (["show", "{tmp}/own.py"], "holds no cache"),
    "show with options of no data": (["show", "{whole}", "--data.seed", "3"], "which is not given"),
    "show a teacher without data": (["show", "{whole}", "--teacher", "{teacher}"], "give --data"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_gets_one_sentence_and_exit_code_2(case, teacher, whole, tmp_path, capsys):
    """Before anything is written."""
    (tmp_path / "own.py").write_text(
        "from tutelage.data import Augmented, digits, Data\n"
        "def moved():\n    plain = digits()\n    return Data(Augmented(plain.train, 'shift=1'), plain.validation, classes=plain.classes)\n"
    )
    words, expected = BAD[case]
    assert main(["cache", *(word.format(tmp=tmp_path, teacher=teacher, whole=whole) for word in words)]) == 2
    said = capsys.readouterr()
    assert said.err.startswith("tutelage: ")
    assert said.err.count("\n") == 1
    assert expected in said.err
    assert not (tmp_path / "c").exists()


def test_help_names_each_option_once_and_imports_no_torch():
    """A user starts by asking for help, and must not wait for it."""
    code = "import sys; from tutelage.cli.main import main\ntry: main(['cache', '--help'])\nfinally: print('torch' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False).stdout
    assert out.strip().endswith("False")
    for option in ("--teacher", "--data", "--out", "--keep", "--taps", "--logits-as", "--taps-as", "--temperature", "--views", "--max-gib"):
        assert f"  {option} " in out


def test_show_has_help_of_its_own(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["cache", "show", "--help"])
    assert stop.value.code == 0
    assert "usage: tutelage cache show" in capsys.readouterr().out


@pytest.mark.slow
def test_the_processes_of_torchrun_share_one_cache(teacher, whole, tmp_path):
    """Each has its own device where there are several; here they share a processor, and must write the same bytes as one."""
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--master_port", "29611", "-m", "tutelage"]
    words = ["cache", "--teacher", teacher, "--out", str(tmp_path / "c"), "--device", "cpu", "--json"]
    done = subprocess.run([*launch, *words], capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}, timeout=240)
    assert done.returncode == 0, done.stderr[-2000:]
    assert json.loads(done.stdout)["contents"]["finished"]
    files = sorted(file.relative_to(whole) for file in whole.rglob("*.safetensors"))
    assert files == sorted(file.relative_to(tmp_path / "c") for file in (tmp_path / "c").rglob("*.safetensors"))
    for file in files:
        assert (whole / file).read_bytes() == (tmp_path / "c" / file).read_bytes()
