"""Results of reproductions that nobody measured, for tests of what reads them."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

from tutelage.evaluation.seeds import interval

WHY = "The teacher of the bench is hardly better than the student, so it has little to teach."
PER_SEED = {
    "reproduced": [0.021, 0.014, 0.018, 0.025, 0.012],
    "not reproduced at this scale": [0.001, -0.002, 0.0005, -0.001, 0.002],
    "reversed": [-0.021, -0.014, -0.018, -0.025, -0.012],
    "too noisy to say": [0.03, -0.02, 0.01, 0.04, -0.03],
}


def prediction(verdict: str, metric: str = "accuracy", **changes: Any) -> dict[str, Any]:
    """A prediction that came out so."""
    per_seed = changes.pop("per_seed", PER_SEED[verdict])
    return {
        "says": f"{metric} of taught above that of alone",
        "metric": metric,
        "kind": "difference",
        "per_seed": per_seed,
        **mean(per_seed),
        "rule": "reproduced above 0, reversed below 0, not reproduced within 0.005 of 0",
        "verdict": verdict,
        **changes,
    }


def mean(values: list[float]) -> dict[str, float]:
    """The mean of one number a seed with its interval."""
    found = interval(values)
    return {"mean": found.mean, "low": found.low, "high": found.high}


def result(name: str, verdict: str = "reproduced", recipe: str = "", **changes: Any) -> dict[str, Any]:
    """A result with two arms, the first with a tuned knob."""
    gains = PER_SEED[verdict]
    alone = {"accuracy": [0.90, 0.91, 0.89, 0.905, 0.897], "nll": [0.31, 0.30, 0.33, 0.32, 0.31]}
    taught = {"accuracy": [a + b for a, b in zip(alone["accuracy"], gains, strict=True)], "nll": [0.25, 0.26, 0.27, 0.24, 0.26]}
    numbers = {"alone": alone, "taught": taught}
    about = {"alone": "the student on the labels alone", "taught": "the student taught by the teacher"}
    tuned = {"tries": [{"fit": {"lr": rate}, "alpha": 0.5} for rate in (1e-3, 3e-3, 1e-2)], "validation": [0.88, 0.91, 0.9], "chosen": 1}
    arms = {
        arm: {
            "recipe": "alone" if arm == "alone" else recipe or name,
            "about": about[arm],
            "knobs": {"fit.lr": 3e-3},
            "updates": 940,
            "unequal": "",
            "seconds": 2.53,
            "tuned": tuned if arm == "alone" else None,
            "means": {metric: mean(values) for metric, values in own.items()},
        }
        for arm, own in numbers.items()
    }
    return {
        "format": 1,
        "name": name,
        "recipe": recipe or name,
        "claim": "A student that is taught is right more often than the same student alone.",
        "bench": "digits in 1,000 samples, cnn:width=32 into cnn:width=4, 940 updates.",
        "date": "2031-01-02",
        "verdict": verdict,
        "seeds": [0, 1, 2, 3, 4],
        "minutes": 6.234,
        "machine": {"processor": "x86_64", "cpus": 2, "threads": 1},
        "versions": {"tutelage": "0.1.0", "torch": "2.13.0"},
        "arms": arms,
        "numbers": numbers,
        "predictions": [prediction(verdict)],
        "reported": ["accuracy", "nll"],
        "prefix": {},
        **changes,
    }


def put(folder: Path, found: dict[str, Any], name: str = "", why: str = WHY) -> Path:
    """Write a result, and why it failed where it did."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{name or found['name']}.json"
    file.write_text(json.dumps(found))
    if found.get("verdict") != "reproduced" and why:
        file.with_suffix(".md").write_text(why)
    return file


def without(found: dict[str, Any], *path: str | int, put_instead: Any = None) -> dict[str, Any]:
    """A copy in which something is missing, or another thing stands in its place."""
    changed = copy.deepcopy(found)
    inner: Any = changed
    for key in path[:-1]:
        inner = inner[key]
    del inner[path[-1]]
    if put_instead is not None:
        inner[path[-1]] = put_instead
    return changed
