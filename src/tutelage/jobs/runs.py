"""runs: what lies below a folder of runs. Reads small files only, imports nothing heavy, and takes nothing that it finds for whole.

A run folder holds config.yaml or report.json and something else that a run writes. The teacher's and the baseline's folders in it, and what
a plan made besides its product, are parts of the run. See `folder.py` for what writes these files.
"""

from __future__ import annotations

import datetime
import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml

from tutelage.errors import BadInput, MissingFile, nearest
from tutelage.jobs.foreign import read_yaml

DEPTH = 5
"""Levels of folders that are looked through."""
LARGEST = 1 << 24
"""Bytes; a larger file is none of ours."""
LARGE = 1e30
"""A number beyond this is none of ours."""
OWN = frozenset({"model", "checkpoints", "stages", "trackers", "exported"})
"""Folders of a run that hold no runs."""
MARKS = frozenset({"environment.json", "metrics.jsonl", "failure.json", "model", "checkpoints", "stages"})

State = Literal["finished", "unfinished", "failed", "damaged"]


@dataclass(frozen=True)
class Place:
    """Where a run stands: the plan in it ("teacher", "baseline", "student"), the stage, and the updates of that stage that are done."""

    plan: str
    stage: str
    step: int


@dataclass(frozen=True)
class Summary:
    """What is known of a run; None for what is not.

    Args:
        folder: where it lies, by the path it was found at.
        state: finished; unfinished, whether it still runs or was stopped; failed with an error; damaged: a file cannot be read.
        note: the error, or what is damaged.
        at: where an unfinished or failed run stands.
        recipe: its name.
        teacher: as given.
        student: as given; of a part, how its model is built.
        data: as given.
        seed: of the run.
        accuracy: of "teacher", "alone" and "student", where there are labels.
        difference: accuracy of the student taught minus alone.
        parameters: of the student.
        begun: when, ISO 8601 in UTC.
        size: bytes on disk, with all that lies in the folder.
    """

    folder: str
    state: State = "finished"
    note: str | None = None
    at: Place | None = None
    recipe: str | None = None
    teacher: str | None = None
    student: str | None = None
    data: str | None = None
    seed: int | None = None
    accuracy: dict[str, float] = field(default_factory=dict)
    difference: float | None = None
    parameters: int | None = None
    begun: str | None = None
    size: int = 0


SORTS: dict[str, Callable[[Summary], Any]] = {
    "begun": lambda run: run.begun,
    "folder": lambda run: run.folder,
    "recipe": lambda run: run.recipe,
    "teacher": lambda run: run.teacher,
    "student": lambda run: run.student,
    "data": lambda run: run.data,
    "seed": lambda run: run.seed,
    "state": lambda run: run.state,
    "accuracy": lambda run: run.accuracy.get("student"),
    "difference": lambda run: run.difference,
    "parameters": lambda run: run.parameters,
    "size": lambda run: run.size,
}


def runs(folder: str | Path = "runs", *, sort: str = "begun", parts: bool = False) -> list[Summary]:
    """Find the runs below a folder.

    Args:
        folder: looked through five levels deep. A link to a run counts as that run, other links are not followed.
        sort: by what, ascending; where it is unknown comes first.
        parts: list the parts of runs, too: teachers and baselines that were trained for them, and other models that were kept.

    Returns:
        One summary for each; a run that can be reached in two ways is listed once.

    Raises:
        MissingFile: no such folder.
        BadInput: it is a file, or `sort` is not known.
    """
    if sort not in SORTS:
        raise BadInput(f"runs cannot be sorted by {sort!r}{nearest(sort, SORTS)}; expected one of {', '.join(SORTS)}")
    root = Path(folder)
    if not root.exists():
        raise MissingFile(f"folder {str(folder)!r} does not exist; give the one that holds your runs: tutelage runs FOLDER")
    if not root.is_dir():
        raise BadInput(f"{str(folder)!r} is a file; expected a folder of runs")
    found = sorted(_below(root, parts), key=lambda run: run.folder)
    value = SORTS[sort]
    return [run for run in found if value(run) is None] + sorted((run for run in found if value(run) is not None), key=value)


def _below(root: Path, parts: bool) -> Iterator[Summary]:
    seen: set[tuple[int, int]] = set()

    def look(path: Path, inside: Summary | None, depth: int, linked: bool) -> Iterator[Summary]:
        try:
            about = path.stat()
            entries = sorted(os.scandir(path), key=lambda e: (e.is_symlink(), e.name))
        except OSError:
            return
        if (about.st_dev, about.st_ino) in seen:
            return
        names = {e.name for e in entries}
        run = _summary(path) if names & {"config.yaml", "report.json"} and names & MARKS else None
        if linked and run is None:
            return
        seen.add((about.st_dev, about.st_ino))
        if run is not None:
            yield run
        elif inside is not None and parts and names & MARKS:
            yield _part(path, inside)
        if depth == DEPTH:
            return
        for entry in entries:
            own = entry.name in OWN and (run is not None or inside is not None)
            if not own and not entry.name.startswith(".") and os.path.isdir(entry.path):
                yield from look(path / entry.name, run or inside, depth + 1, entry.is_symlink())

    yield from look(root, None, 0, False)


def _summary(folder: Path) -> Summary | None:
    """What is known of a run; None where the files are those of something else."""
    damaged: list[str] = []
    config = _read(folder / "config.yaml", damaged)
    report = _read(folder / "report.json", damaged)
    environment = _read(folder / "environment.json", damaged)
    failure = _read(folder / "failure.json", damaged)
    if not damaged and "recipe" not in {**config, **report}:
        return None
    student, difference = _mapping(report, "student"), _mapping(report, "taught_minus_alone")
    accuracy = {key: _number(_mapping(report, key).get("accuracy")) for key in ("teacher", "alone", "student")}
    state: State = "damaged" if damaged else "failed" if failure else "finished" if report else "unfinished"
    parameters = student.get("parameters", _read(folder / "model" / "model.json", []).get("parameters"))
    return Summary(
        folder=str(folder),
        state=state,
        note="; ".join(damaged) or _text(failure.get("error")),
        at=None if report else _stands_at(folder),
        recipe=_text(config.get("recipe", report.get("recipe"))),
        teacher=_text(config.get("teacher")),
        student=_text(config.get("student")),
        data=_text(config.get("data", report.get("data"))),
        seed=_whole(config.get("seed", report.get("seed"))),
        accuracy={k: v for k, v in accuracy.items() if v is not None},
        difference=_number(difference.get("accuracy")),
        parameters=_whole(parameters),
        begun=_time(environment.get("time")) or _changed(folder),
        size=_size(folder),
    )


def _part(folder: Path, run: Summary) -> Summary:
    """What is known of a part of a run."""
    damaged: list[str] = []
    model = _read(folder / "model" / "model.json", damaged)
    key = {"baseline": "alone"}.get(folder.name, folder.name)
    return Summary(
        folder=str(folder),
        state="damaged" if damaged else "finished" if model else "unfinished",
        note="; ".join(damaged) or None,
        at=None if model else _newest(folder, folder.name),
        student=_text(model.get("spec") or model.get("name")),
        data=run.data,
        seed=run.seed,
        accuracy={"student": run.accuracy[key]} if key in run.accuracy else {},
        parameters=_whole(model.get("parameters")),
        begun=_changed(folder),
        size=_size(folder),
    )


def _stands_at(folder: Path) -> Place | None:
    """Where a run stands that has not ended: in the last of its plans that has begun."""
    teachers = sorted(each.name for each in folder.glob("teacher*") if each.is_dir())
    for plan in ("student", "baseline", *reversed(teachers)):
        found = _newest(folder if plan == "student" else folder / plan, plan)
        if found:
            return found
    return None


def _newest(folder: Path, plan: str) -> Place | None:
    """The place of the newest checkpoint, or of the last line of metrics.jsonl, whichever is further."""
    line = _last_line(folder / "metrics.jsonl")
    stage, step = _text(line.get("stage")), _whole(line.get("step"))
    logged = Place(plan, stage, step) if stage is not None and step is not None else None
    for checkpoint in sorted((folder / "checkpoints").glob("*-step-*"), reverse=True):
        index, _, reached = checkpoint.name.partition("-step-")
        stages = _mapping(_mapping(_read(checkpoint / "state.json", []), "identity"), "stages")
        named = next((name.partition("-")[2] for name in map(str, stages) if name.startswith(f"{index}-")), None)
        if named is not None and reached.isdecimal():
            further = logged is not None and logged.stage == named and logged.step > int(reached)
            return logged if further else Place(plan, named, int(reached))
    return logged


def _read(file: Path, damaged: list[str]) -> dict[str, Any]:
    """A mapping in a JSON or YAML file; empty where there is none; what is wrong with it goes into `damaged`."""
    try:
        if not file.is_file():
            return {}
        if file.stat().st_size > LARGEST:
            raise ValueError("too large")
        text = file.read_text(encoding="utf-8")
        found = read_yaml(text, file.name) if file.suffix == ".yaml" else json.loads(text)
        if not isinstance(found, dict):
            raise ValueError("no mapping")
        return found
    except OSError as error:
        damaged.append(f"{file.name} cannot be read: {error.strerror}")
    except (ValueError, TypeError, RecursionError, yaml.YAMLError):
        damaged.append(f"{file.name} is damaged")
    return {}


def _last_line(file: Path) -> dict[str, Any]:
    """The last whole line of metrics.jsonl; empty where there is none."""
    try:
        with file.open("rb") as opened:
            opened.seek(max(0, opened.seek(0, os.SEEK_END) - (1 << 16)))
            lines = opened.read().splitlines()
    except OSError:
        return {}
    for line in reversed(lines):
        try:
            found = json.loads(line)
        except (ValueError, RecursionError):
            continue  # cut off by the end of the file or of what was read
        if isinstance(found, dict):
            return found
    return {}


def _size(folder: Path) -> int:
    """Bytes of all files below; links count as links."""
    total, left = 0, [folder]
    while left:
        try:
            for entry in os.scandir(left.pop()):
                if entry.is_dir(follow_symlinks=False):
                    left.append(Path(entry.path))
                else:
                    total += entry.stat(follow_symlinks=False).st_size
        except OSError:
            continue
    return total


def _changed(folder: Path) -> str | None:
    """When the oldest file of ours in the folder was written: about when the run began, where nothing says so."""
    times = []
    for name in ("config.yaml", "metrics.jsonl", "report.json", "model/model.json"):
        try:
            times.append((folder / name).stat().st_mtime)
        except OSError:
            continue
    try:
        return datetime.datetime.fromtimestamp(min(times), datetime.UTC).isoformat(timespec="seconds")
    except (OSError, ValueError, OverflowError):  # none of the files is there, or a clock was far off
        return None


def _time(value: Any) -> str | None:
    try:
        return datetime.datetime.fromisoformat(value).astimezone(datetime.UTC).isoformat(timespec="seconds")
    except (TypeError, ValueError, OverflowError):
        return None


def _mapping(values: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = values.get(name)
    return found if isinstance(found, dict) else {}


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < LARGE else None


def _whole(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and abs(value) < LARGE else None


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None
