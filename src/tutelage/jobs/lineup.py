"""Which models an evaluation is of, and on what: from models and runs that a user names to handles by name, data and a teacher.

One run alone stands for all of its models, as in its report; among several models, a run stands for its student.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tutelage.data import Data
from tutelage.errors import BadInput, MissingFile, TutelageError
from tutelage.jobs import models, sources
from tutelage.jobs.cached import Handle, cached_from, is_cache
from tutelage.jobs.folder import read_config
from tutelage.jobs.report import numbers_of
from tutelage.jobs.tokenizers import check_tokens, with_tokenizer
from tutelage.signals import Model
from tutelage.teachers import Ensemble, Frozen, Teacher

ABOVE = 3
"""So many folders above a model its run may lie: RUN/exported/onnx/model.onnx."""


@dataclass(frozen=True)
class Lineup:
    """What is to be measured.

    Args:
        data: the splits.
        models: by name, in order; none is built yet.
        teacher: name of the one that the others may agree with; None where there is none.
        first: name of the one that the others are compared with.
        run: the run whose models they all are, and its report.json; None for models that were named one by one.
        report: see `run`.
        notes: what the user should know.
    """

    data: Data
    models: dict[str, Model | Teacher]
    teacher: str | None
    first: str
    run: Path | None
    report: Mapping[str, Any] | None
    notes: list[str]


def lineup(given: Sequence[Any], *, data: Any = None, teacher: Any = None, trust_code: bool = False) -> Lineup:
    """Find out what is to be measured.

    Args:
        given: models and runs.
        data: as for `distill`; None takes that of the run, or of the run in whose folder the first model lies.
        teacher: whose answers the others are compared with; None takes the run's own.
        trust_code: let a run folder name a .py file whose code then runs.

    Raises:
        BadInput: no model, no data, or something that cannot be used.
        MissingFile: a path that does not exist.
    """
    if not given:
        raise BadInput("there is nothing to evaluate; name a model or a run")
    run = run_at(given[0]) if len(given) == 1 else None
    report = None if run is None else _report(run)
    studied = sources.data_from(data_of(given[0], trust_code) if data is None else with_tokenizer(data, *given, teacher))
    sources.check(studied)
    notes: list[str] = []

    def made(what: Any, role: str) -> Handle:
        if is_cache(what):
            return cached_from(what, role, studied)
        handle = models.model_from(what, role, data=studied, seed=0, trust_code=trust_code)
        if not handle.trained and handle.spec is not None:
            notes.append(f"{what} names no weights; unless its function reads some, these are the numbers of random ones.")
        return handle

    handles: dict[str, Model | Teacher]
    if run is None or report is None:
        handles = {}
        for each in given:
            handle = made(each, "model")
            handles[_free(str(each) if isinstance(each, (str, Path)) else handle.name, handles)] = handle
        first, reference = next(iter(handles)), None
    else:
        handles = _of_run(run, report, made, notes, trust_code)
        first, reference = "student", next((role for role in report["teachers"] if role in handles), None)
    if teacher is not None:
        named = str(teacher) if isinstance(teacher, (str, Path)) else ""
        reference = named if named in handles else _free("teacher" if "teacher" not in handles else named or "other teacher", handles)
        if reference not in handles:
            handles[reference] = made(teacher, "teacher")
    notes += check_tokens({name: each for name, each in handles.items() if isinstance(each, Model)}, studied)
    return Lineup(studied, handles, reference, first, run, report, notes)


def run_at(given: Any) -> Path | None:
    """The folder, where it is a run's."""
    folder = Path(given) if isinstance(given, (str, Path)) and str(given) and os.path.isdir(given) else None
    return folder if folder is not None and (folder / "config.yaml").is_file() else None


def _report(run: Path) -> dict[str, Any]:
    """The content of report.json, as far as it is used here."""
    report = numbers_of(run)
    for name in [*report["models"], *report["teachers"]]:
        if not isinstance(name, str) or not isinstance(report.get(name), dict):
            raise BadInput(
                f"{run / 'report.json'} is damaged: it says nothing of its model {name!r}; tutelage distill --resume {run} mends it"
            )
    return report


def data_of(given: Any, trust_code: bool = False) -> str:
    """The data of the run that a model is, or belongs to, as its config names them.

    Raises:
        BadInput: it lies in no run, or its data were given in Python, or are code that is not trusted.
        MissingFile: a path that does not exist.
    """
    path = Path(given) if isinstance(given, (str, Path)) and str(given) and os.path.exists(given) else None
    if path is None and isinstance(given, (str, Path)) and "/" in str(given) and ":" not in str(given):
        raise MissingFile(f"{str(given)[:200]!r} does not exist; expected a run folder or a model")
    around = [] if path is None else [path, *path.absolute().parents[:ABOVE]]
    run = next((folder for folder in around if (folder / "config.yaml").is_file()), None)
    if run is None:
        raise BadInput(f"on which data is not known, since {str(given)[:200]!r} lies in no run; give --data DATA")
    spec = read_config(run).get("data", "digits")
    if not isinstance(spec, str) or spec.startswith("<"):
        raise BadInput(f"the data of {run} were given in Python; give --data DATA, or in Python data=...")
    check_trusted(spec, run, trust_code)
    return spec


def check_trusted(spec: str, run: Path, trust_code: bool) -> None:
    """Refuse code that a run's config names, unless the user allows it.

    Raises:
        BadInput: it is not allowed.
    """
    if ".py:" in spec and not trust_code:
        raise BadInput(f"{run} names code to run, {spec!r}; look at it, then allow it with --trust-code")


def _free(name: str, taken: Mapping[str, Any]) -> str:
    found, number = name, 2
    while found in taken:
        found, number = f"{name} ({number})", number + 1
    return found


def _of_run(
    run: Path, report: Mapping[str, Any], made: Callable[[Any, str], Handle], notes: list[str], trust_code: bool
) -> dict[str, Model | Teacher]:
    """All models of a run: teachers, student alone, student, and what else it kept; a note for one that cannot be had any more."""
    places = _teachers(run, report, trust_code)
    places |= {"alone": run / "baseline"} if "alone" in report["models"] else {}
    places["student"] = run
    places |= {folder.name: folder for folder in sorted((run / "also").glob("*")) if (folder / models.FILE).is_file()}
    found: dict[str, Model | Teacher] = {}
    for name, place in places.items():
        try:
            found[name] = made(place, name)
        except TutelageError as error:
            if name == "student":
                raise
            notes.append(f"{name} is left out: {error}.")
    for name in report["models"]:
        about = report[name]
        if name in places:
            continue
        members = [found.get(str(member)) for member in _named(about)]
        single = [Frozen(each) for each in members if isinstance(each, Model)]
        if single and len(single) == len(members):
            found[name] = Ensemble(single, about.get("mean", "probability"))
        else:
            notes.append(f"{name} is left out: the run folder does not hold what it is made of.")
    return found


def _named(about: Mapping[str, Any]) -> list[Any]:
    """The members of an ensemble by name; none where the report does not say."""
    members = about.get("members")
    return members if isinstance(members, list) else []


def _teachers(run: Path, report: Mapping[str, Any], trust_code: bool) -> dict[str, Any]:
    """What makes each of a run's teachers: the folder that it was trained into, or what the config names."""
    config = read_config(run)
    here = [role for role in report["teachers"] if "updates" in report[role]]
    places: dict[str, Any] = {}
    for role in report["teachers"]:
        if role in here:
            places[role] = run / ("teacher" if len(here) == 1 else f"teacher-{here.index(role) + 1}")
        else:
            places[role] = str(config.get(role))
            check_trusted(places[role], run, trust_code)
    return places
