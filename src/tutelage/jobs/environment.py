"""environment.json: code, packages and machine of a run, so that its numbers can be traced; each resumption adds its own.

Holds no secrets: what an option or a setting with a telling name was given is replaced by ***.
"""

from __future__ import annotations

import datetime
import json
import os
import platform
import re
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch

from tutelage import __version__
from tutelage.training.checkpoint import write_text_atomically
from tutelage.training.memory import memory

ALWAYS = ("accelerate", "safetensors", "numpy", "sklearn")
WHEN_IMPORTED = ("torchvision", "torchmetrics", "transformers", "tokenizers", "datasets", "timm", "pandas", "pyarrow", "PIL", "scipy")

HIDDEN = "***"
_TELLING = r"(?:token(?!i[sz]|s\b)|key|secret|passw)"
"""What a name must hold for its value to be hidden; a tokenizer is none, nor is a number of tokens."""
_NAME = re.compile(_TELLING, re.IGNORECASE)
_INSIDE = re.compile(rf"([\w.-]*{_TELLING}\w*)(\s*=\s*|[\"']\s*:\s*|:\s+)(\"[^\"]*\"|'[^']*'|[^,;&\s}}\]]+)", re.IGNORECASE)
_LOGIN = re.compile(r"(\w://)[^/\s]+@")  # to the last @: a password may hold others


def write_environment(folder: Path, seed: int) -> None:
    """Write environment.json; where there is one, what the run is resumed on goes into its list "resumed".

    Args:
        folder: of the run.
        seed: of the run.
    """
    file, now = folder / "environment.json", environment(seed)
    try:
        first = json.loads(file.read_text())
        now = {**first, "resumed": [*first.get("resumed", []), now]}
    except (OSError, ValueError, TypeError, AttributeError, RecursionError):
        pass  # a new run, or a damaged file, which must not keep a run from going on
    write_text_atomically(file, json.dumps(now, indent=1))


def environment(seed: int) -> dict[str, Any]:
    """What this process runs on.

    Args:
        seed: of the run.
    """
    versions = {"python": platform.python_version(), "torch": torch.__version__, "tutelage": __version__}
    versions |= {name: getattr(sys.modules.get(name), "__version__", "not used") for name in ALWAYS}
    versions |= {name: getattr(sys.modules[name], "__version__", "unknown") for name in WHEN_IMPORTED if name in sys.modules}
    return {
        "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "command": redacted(sys.argv),
        "git": git_state(Path.cwd()),
        "versions": versions,
        "seed": seed,
        "platform": platform.platform(),
        "processor": platform.processor() or platform.machine(),
        "cpus": os.cpu_count(),
        "memory": memory(),
        "threads": torch.get_num_threads(),
        "accelerators": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
    }


def git_state(folder: Path, timeout: float = 5.0) -> dict[str, Any] | None:
    """Commit, branch, and how many tracked files differ from it; None without git, outside a repository, or where git takes too long.

    Commands that the repository's own settings name are not run: a repository may have been sent with them. So what its own filters would
    change counts as changed; sub-modules are left out.

    Args:
        folder: anywhere in the repository.
        timeout: seconds to wait.
    """
    git = ["git", "--no-optional-locks", "-C", str(folder)]
    status = [*git, "status", "--porcelain=v2", "--branch", "--ignore-submodules=all"]
    status += ["--untracked-files=no"]  # a run folder in the repository is no change of the code
    how: dict[str, Any] = {"capture_output": True, "stdin": subprocess.DEVNULL, "timeout": timeout}
    try:
        listed = subprocess.run(
            [*git, "config", "--includes", "--show-scope", "-z", "--name-only", "--list"], check=True, **how
        ).stdout.split(b"\0")
        own = [os.fsdecode(key) for scope, key in zip(listed[:-1:2], listed[1::2], strict=True) if scope in (b"local", b"worktree")]
        off = ["core.fsmonitor", *(key for key in own if key.startswith("filter."))]
        set_off = {name: text for i, key in enumerate(off) for name, text in ((f"GIT_CONFIG_KEY_{i}", key), (f"GIT_CONFIG_VALUE_{i}", ""))}
        environment = {**os.environ, **set_off, "GIT_CONFIG_COUNT": str(len(off)), "GIT_NO_LAZY_FETCH": "1"}
        done = subprocess.run(status, check=True, env=environment, **how)
    except (OSError, ValueError, subprocess.SubprocessError):
        return None
    lines = done.stdout.decode(errors="replace").splitlines()
    head = dict(line[2:].split(" ", 1) for line in lines if line.startswith("# "))
    commit, branch = head.get("branch.oid", "("), head.get("branch.head", "(")
    changed = sum(not line.startswith("# ") for line in lines)
    # "(initial)" before the first commit, "(detached)" where no branch is checked out
    return {
        "commit": None if commit.startswith("(") else commit,
        "branch": None if branch.startswith("(") else branch,
        "dirty": changed > 0,
        "changed": changed,
    }


def redacted(words: Iterable[str]) -> list[str]:
    """A command line without what looks like a secret: the value of an option whose name holds token, key, secret or passw."""
    kept, hide = [], False
    for word in words:
        name, equals, _ = word.partition("=")
        if hide and not word.startswith("--"):
            kept.append(HIDDEN)
            hide = False
        elif name.startswith("-") and _NAME.search(name):
            kept.append(f"{name}={HIDDEN}" if equals else word)
            hide = not equals
        else:
            kept.append(_without_secrets(word))
            hide = False
    return kept


def without_secrets(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings as they may be shown elsewhere: texts under a telling name, or with a telling name in them, are hidden."""
    shown: dict[str, Any] = {}
    for name, value in settings.items():
        if isinstance(value, Mapping):
            shown[name] = without_secrets(value)
        elif isinstance(value, str):
            shown[name] = HIDDEN if _NAME.search(str(name)) else _without_secrets(value)
        else:
            shown[name] = value
    return shown


def _without_secrets(text: str) -> str:
    return _LOGIN.sub(rf"\1{HIDDEN}@", _INSIDE.sub(rf"\1\2{HIDDEN}", text))
