"""environment.json: code, packages, machine, and no secrets."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys

import pytest

from tutelage import RunOptions
from tutelage.jobs.distill import distill
from tutelage.jobs.environment import environment, git_state, redacted, without_secrets, write_environment

needs_git = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")


@pytest.fixture
def repository(tmp_path):
    """A repository with two committed files."""

    def git(*words):
        told = {**os.environ, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
        who = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
        return subprocess.run(["git", "-C", tmp_path, *who, *words], check=True, capture_output=True, text=True, env=told).stdout.strip()

    git("init", "--initial-branch=work/on-it")
    for name in ("a.py", "b.py"):
        (tmp_path / name).write_text("1\n")
    git("add", "-A")
    return tmp_path, git


@needs_git
def test_the_state_of_the_repository_tells_commit_branch_and_changes(repository):
    """Else a number cannot be traced to the code that made it."""
    folder, git = repository
    assert git_state(folder) == {"commit": None, "branch": "work/on-it", "dirty": True, "changed": 2}
    git("commit", "-m", "first")
    (folder / "runs").mkdir()
    (folder / "runs" / "new.json").write_text("{}")
    clean = {"commit": git("rev-parse", "HEAD"), "branch": "work/on-it", "dirty": False, "changed": 0}
    assert git_state(folder / "runs") == clean
    (folder / "a.py").write_text("2\n")
    assert git_state(folder) == {**clean, "dirty": True, "changed": 1}
    git("mv", "b.py", "c.py")
    git("checkout", "--detach")
    assert git_state(folder) == {**clean, "branch": None, "dirty": True, "changed": 2}


def test_without_git_or_a_repository_or_time_there_is_no_state_and_no_error(tmp_path, monkeypatch):
    """A run must not fail, or wait, for a note about it."""
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert git_state(tmp_path) is None
    assert git_state(tmp_path / "nothing") is None
    slow = tmp_path / "git"
    slow.write_text("#!/bin/sh\nexec sleep 60\n")
    slow.chmod(0o755)
    path = os.environ["PATH"]
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{path}")
    assert git_state(tmp_path, timeout=0.05) is None
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    assert git_state(tmp_path) is None


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        (["tutelage", "distill", "--seed", "1"], None),
        (["--hf-token", "abc", "--seed", "1"], ["--hf-token", "***", "--seed", "1"]),
        (["--api_key=abc=d", "x"], ["--api_key=***", "x"]),
        (["--secret", "--seed", "1"], None),
        (["--PASSWORD", "-abc", "-abc"], ["--PASSWORD", "***", "-abc"]),
        (["--db.password=", "x"], ["--db.password=***", "x"]),
        (["--key"], None),
        (["--data", "net.py:task:api_key=abc,size=3"], ["--data", "net.py:task:api_key=***,size=3"]),
        (["--data=net.py:keypoints:size=3", "--student", "net.py:token_mixer:width=3"], None),
        (["--knobs", '{"token": "a b", "size": 3}'], ["--knobs", '{"token": ***, "size": 3}']),
        (["--knobs", "{token: ab, size: 3}"], ["--knobs", "{token: ***, size: 3}"]),
        (["--data", "s3://me:pass@host/x", "https://host/a@b"], ["--data", "s3://***@host/x", "https://host/a@b"]),
        (["--tokenizer", "bert", "--tokenizer=bert"], None),
        (["--tokens", "64", "--tokens=64", "--recipe", "gkd:tokens=64,prompt=8"], None),
        (["--tokens_file", "a"], ["--tokens_file", "***"]),
    ],
)
def test_what_looks_like_a_secret_is_taken_out_of_the_command_line(words, shown):
    """A run folder is shared; a key in it is a key on the street."""
    assert redacted(words) == (words if shown is None else shown)


def test_settings_that_are_shown_elsewhere_hold_no_secrets():
    """They go to a tracker's server."""
    settings = {"data": "a.py:b:token=x,n=2", "deep": {"api_key": "x", "key_size": 3}, "lr": 0.1, "none": None}
    shown = {"data": "a.py:b:token=***,n=2", "deep": {"api_key": "***", "key_size": 3}, "lr": 0.1, "none": None}
    assert without_secrets(settings) == shown


def test_packages_are_listed_where_they_take_part(monkeypatch):
    """A package that was never imported has no part in the result."""
    monkeypatch.setitem(sys.modules, "timm", type(sys)("timm"))
    sys.modules["timm"].__version__ = "9.8.7"
    monkeypatch.delitem(sys.modules, "datasets", raising=False)
    versions = environment(3)["versions"]
    assert versions["timm"] == "9.8.7"
    assert "datasets" not in versions
    assert versions["numpy"] == sys.modules["numpy"].__version__


def test_a_resumed_run_keeps_where_it_began_and_adds_where_it_went_on(tmp_path, monkeypatch):
    """Else the first half of a run that moved is said to have run on the second machine."""
    monkeypatch.setattr(sys, "argv", ["tutelage", "--hub-token", "abc"])
    words = {"recipe": "alone", "student": "mlp:width=2", "fit": {"steps": 1}, "out": tmp_path, "options": RunOptions(quiet=True)}
    distill(**words)
    first = json.loads((tmp_path / "environment.json").read_text())
    assert first["command"] == ["tutelage", "--hub-token", "***"]
    assert first["seed"] == 0
    assert first["cpus"] >= 1
    for times in (1, 2):
        monkeypatch.setattr(sys, "argv", ["again", str(times)])
        distill(**words, resume=True)
        now = json.loads((tmp_path / "environment.json").read_text())
        later = now.pop("resumed")
        assert now == first
        assert [each["command"] for each in later] == [["again", str(n)] for n in range(1, times + 1)]
        assert all(each.keys() == first.keys() for each in later)
    assert [file for file in tmp_path.iterdir() if file.name.startswith(".")] == []


@pytest.mark.parametrize("content", [b"{", b"[1]", b"\xff", b'{"resumed": 3}'])
def test_a_damaged_file_does_not_keep_a_run_from_going_on(content, tmp_path):
    """It is a note about the run, not a part of it."""
    (tmp_path / "environment.json").write_bytes(content)
    write_environment(tmp_path, 5)
    assert json.loads((tmp_path / "environment.json").read_text())["seed"] == 5
