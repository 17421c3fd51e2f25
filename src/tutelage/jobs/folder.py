"""The run folder: config.yaml, environment.json, metrics.jsonl, checkpoints/, stages/, model/, report.json; failure.json after an error."""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from tutelage.data import Data
from tutelage.errors import BadInput, Interrupted, MissingFile
from tutelage.evaluation import size_of
from tutelage.jobs.foreign import read_yaml, refuse_links_out
from tutelage.signals import Model
from tutelage.students import hf
from tutelage.training.checkpoint import write_text_atomically


def free(folder: Path) -> Path:
    """The folder itself, or with the first number behind it that is not taken."""
    number = 2
    found = folder
    while found.exists():
        found = folder.with_name(f"{folder.name}-{number}")
        number += 1
    return found


def prepare(folder: Path, resume: bool) -> None:
    """Check that a run can be written to a folder, before anything long begins.

    Raises:
        BadInput: it holds something already, is no folder, cannot be written to, or holds a link that leads out of it.
    """
    if folder.exists() and not folder.is_dir():
        raise BadInput(f"--out {folder} is a file; expected a folder")
    if folder.is_dir() and any(folder.iterdir()) and not resume:
        holds = "a run" if (folder / "config.yaml").is_file() else "something else"
        raise BadInput(f"{folder} already holds {holds}; go on with --resume {folder}, or choose another --out")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:  # a ValueError where the name holds a null byte
        raise BadInput(f"--out {folder} cannot be made: {getattr(error, 'strerror', None) or error}") from None
    if not os.access(folder, os.W_OK):
        raise BadInput(f"--out {folder} cannot be written to")
    refuse_links_out(folder)


def check_space(folder: Path, products: Sequence[Model]) -> None:
    """Refuse a disk that cannot hold the run: of each product, its weights, a stage's result, and two checkpoints with Adam's moments.

    Raises:
        BadInput: says how much is free and how much is needed.
    """
    wanted = sum(8 * size_of(m.module)["bytes"] for m in products) + 2**20
    free = shutil.disk_usage(folder).free
    if free < wanted:
        raise BadInput(f"--out {folder} has {free / 1e6:,.0f} MB free; expected {wanted / 1e6:,.0f} MB for weights and checkpoints")


def write_config(folder: Path, config: Mapping[str, Any]) -> None:
    """Write config.yaml: `tutelage distill --config` runs it again."""
    write_text_atomically(folder / "config.yaml", yaml.safe_dump(dict(config), sort_keys=False))


def read_config(folder: Path) -> dict[str, Any]:
    """Read the config of a run.

    Raises:
        MissingFile: the folder holds no run.
        BadInput: the file is damaged.
    """
    file = folder / "config.yaml"
    if not file.is_file():
        raise MissingFile(f"{folder} holds no run to resume: {file} is missing")
    return read_settings(file, str(file))


def read_settings(file: Path, name: str) -> dict[str, Any]:
    """Read a YAML file of settings.

    Args:
        file: the file.
        name: how messages call it.

    Raises:
        MissingFile: no such file.
        BadInput: no YAML, or no mapping.
    """
    if not file.is_file():
        raise MissingFile(f"{name} does not exist")
    try:
        settings = read_yaml(file.read_text(), name)
    except BadInput:
        raise
    except RecursionError:
        raise BadInput(f"{name} is nested too deep to be read") from None
    except (yaml.YAMLError, ValueError) as error:
        raise BadInput(f"{name} is no YAML: {' '.join(str(error).split())}") from None
    if not isinstance(settings, dict):
        raise BadInput(f"{name}: expected a mapping of options, found {type(settings).__name__}")
    return settings


@contextlib.contextmanager
def noting_failure(folder: Path, here: bool = True) -> Iterator[None]:
    """Leave failure.json where a run ends in an error, so that a listing can say so; an earlier one is deleted. To be stopped is no error.

    Args:
        folder: of the run.
        here: whether this process writes.
    """
    file = folder / "failure.json"
    if here:
        file.unlink(missing_ok=True)
    try:
        yield
    except Exception as error:
        if here and not isinstance(error, Interrupted):
            time = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
            with contextlib.suppress(OSError):  # a full disk may be what went wrong
                write_text_atomically(file, json.dumps({"error": f"{type(error).__name__}: {error}", "time": time}, indent=1))
        raise


def write_model(folder: Path, model: Model, data: Data) -> None:
    """Write the bare model: `model/model.safetensors`, loadable without us, and `model/model.json`, which says how to build it.

    It also says which classes the logits stand for, and how the rows or files that it was trained on were prepared.

    A Hugging Face model becomes a Hugging Face folder, with its config and its tokenizer or normalisation.
    """
    from safetensors.torch import save_model

    target = folder / "model"
    target.mkdir(parents=True, exist_ok=True)
    beside = folder / f".model.{os.getpid()}.tmp"
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir()
    if hf.is_hf(model.module):
        hf.save(model, beside)
    else:
        save_model(model.module, str(beside / "model.safetensors"))
    for made in sorted(beside.iterdir(), key=lambda f: f.name.startswith("model")):
        made.replace(target / made.name)
    beside.rmdir()
    described = {
        "format": 1,
        "spec": model.spec,
        "name": model.name,
        **size_of(model.module),
        "classes": list(data.classes),
        "prepared": dict(data.prepared),
        **({"sampling": dict(model.sampling)} if model.sampling else {}),
    }
    write_text_atomically(target / "model.json", json.dumps(described, indent=1))


def write_splits(folder: Path, data: Data) -> None:
    """Write splits.json: the ids of each split, so that anyone can tell what was test."""
    splits = {"train": data.train, "validation": data.validation, "test": data.test}
    listed = {s: source.ids().tolist() for s, source in splits.items() if source is not None}
    write_text_atomically(folder / "splits.json", json.dumps({"data": data.fingerprint(), "classes": list(data.classes), "ids": listed}))
