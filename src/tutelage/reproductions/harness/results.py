"""Results: from what was measured to verdicts, as a file that says everything: raw numbers, versions, machine class and date."""

from __future__ import annotations

import datetime
import json
import math
import os
import platform
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from tutelage import __version__
from tutelage.errors import BadInput, MissingFile
from tutelage.evaluation import processor
from tutelage.evaluation.seeds import interval
from tutelage.jobs.settings import plain
from tutelage.reproductions.harness.drive import Carried
from tutelage.reproductions.harness.predictions import Numbers
from tutelage.reproductions.harness.trial import knobs
from tutelage.reproductions.harness.verdicts import VERDICTS, together
from tutelage.training.checkpoint import write_text_atomically

FORMAT = 1


def results(name: str, carried: Carried, threads: int) -> dict[str, Any]:
    """What a reproduction found.

    Args:
        name: of the reproduction.
        carried: what was measured.
        threads: of torch, for each trial.

    Returns:
        `format`, `name`, `recipe`, `claim`, `bench`, `verdict`, `predictions` (each with what it `says`, its `rule`, `per_seed`, `mean`,
        `low`, `high` and `verdict`), `arms` (each with what it is, its knobs, `updates`, `seconds` of a training, how it was `tuned`,
        and the `means` of its numbers), `numbers` (by arm and metric, one a seed), `seeds`, `minutes` of all trials together, `date`,
        `machine` and `versions`.
    """
    claim = carried.claim
    numbers = numbers_of(carried)
    predictions: list[dict[str, Any]] = []
    for each in claim.predictions:
        values = each.per_seed(numbers)
        found = interval(values)
        said = {"says": each.says, "metric": each.metric, "kind": each.kind, "rule": each.rule, "per_seed": values}
        predictions.append({**said, "mean": found.mean, "low": found.low, "high": found.high, "verdict": each.verdict(found)})
    return {
        "format": FORMAT,
        "name": Path(name).stem.replace("_", "-"),
        "recipe": claim.recipe,
        "claim": claim.claim,
        "bench": claim.bench,
        "verdict": together([p["verdict"] for p in predictions]),
        "predictions": predictions,
        "reported": list(claim.reported),
        "seeds": list(carried.seeds),
        "arms": {arm: _arm(carried, arm, numbers) for arm in claim.arms},
        "numbers": numbers,
        "minutes": carried.seconds / 60,
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "machine": machine(threads),
        "versions": versions(),
    }


def numbers_of(carried: Carried) -> dict[str, dict[str, list[float]]]:
    """By arm and metric, one number a seed; metrics that not every seed has are left out."""
    found = {}
    for arm, trials in carried.found.items():
        metrics = [m for m in trials[0]["numbers"] if all(m in t["numbers"] for t in trials)]
        found[arm] = {m: [t["numbers"][m] for t in trials] for m in metrics}
    return found


def _arm(carried: Carried, arm: str, numbers: Numbers) -> dict[str, Any]:
    stated, trials = carried.claim.arms[arm], carried.found[arm]
    tuned = carried.tuned.get(arm)
    seconds = [t["seconds"] for t in trials if "seconds" in t]
    recipe = stated.recipe if isinstance(stated.recipe, str) or stated.recipe is None else stated.recipe.__name__
    said: dict[str, Any] = {"about": stated.about, "recipe": recipe, "student": stated.student, "learns from": stated.fixture}
    if stated.teachers:
        said["learns from"] = " and ".join(stated.teachers.values())
    chosen = None if tuned is None else tuned["chosen"]
    said["knobs"] = {} if stated.recipe is None else {k: plain(v) for k, v in knobs(stated, chosen).items()}
    said |= {"updates": trials[0]["updates"], "unequal": stated.unequal}
    said["seconds"] = sum(seconds) / len(seconds) if seconds else None
    said["tuned"] = tuned
    said["means"] = {
        m: {k: v for k, v in asdict(interval(values)).items() if k in ("mean", "low", "high")} for m, values in numbers[arm].items()
    }
    return said


def machine(threads: int) -> dict[str, Any]:
    """What computed: the class of machine, not its name."""
    return {
        "processor": processor(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "cpus": os.cpu_count(),
        "threads": threads,
        "system": platform.system(),
    }


def versions() -> dict[str, str]:
    """What decides on numbers beside our own code."""
    import numpy
    import scipy
    import torchmetrics

    return {
        "tutelage": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": numpy.__version__,
        "scipy": scipy.__version__,
        "torchmetrics": torchmetrics.__version__,
    }


def write(found: Mapping[str, Any], file: Path) -> None:
    """Write a results file, all or nothing; numbers to the last digit."""
    file.parent.mkdir(parents=True, exist_ok=True)
    write_text_atomically(file, json.dumps(_finite(found), indent=1) + "\n")


def read(file: Path) -> dict[str, Any]:
    """Read a results file.

    Raises:
        MissingFile: there is none.
        BadInput: it is damaged, or of another format.
    """
    if not file.is_file():
        raise MissingFile(f"{file} does not exist: this claim has not been measured yet; tutelage reproduce {file.stem} does it")
    try:
        found = json.loads(file.read_text())
        good = found["format"] == FORMAT and found["verdict"] in VERDICTS and isinstance(found["arms"], dict)
    except (ValueError, KeyError, TypeError, RecursionError):
        good = False
    if not good:
        raise BadInput(f"{file} is damaged, or of another format than {FORMAT}; measure the claim again")
    return found


def _finite(value: Any) -> Any:
    """JSON knows no infinity."""
    if isinstance(value, Mapping):
        return {k: _finite(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
