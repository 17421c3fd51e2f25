"""compare: which recipe is best for this pair of models and these data? The answer may be that no difference is seen.

OUT holds config.yaml, teacher/ where one was trained, probes/ where minutes were given, tuning/ with Optuna's journal, trials/ with a run
folder for each recipe and seed, and at the end compare.json and compare.html.
"""

from __future__ import annotations

import contextlib
import functools
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tutelage.data import Data
from tutelage.errors import BadInput, Interrupted
from tutelage.evaluation.language import is_language
from tutelage.jobs import estimate, folder, models, pool, sources
from tutelage.jobs.cached import Handle, cached_from, is_cache, views_of
from tutelage.jobs.comparison import contest, storages, tuning
from tutelage.jobs.comparison.budget import updates_of
from tutelage.jobs.comparison.contenders import Contender, contenders, rehearsed
from tutelage.jobs.progress import Progress
from tutelage.jobs.settings import plain
from tutelage.jobs.tokenizers import with_tokenizer
from tutelage.recipes.alone import alone
from tutelage.signals import Model
from tutelage.training import Fit
from tutelage.training.checkpoint import write_text_atomically

MOST = 1000
"""Seeds, and whole trainings of tuning."""
BESIDES = 3.0
"""Seconds that a training costs besides its updates: a process that starts, measuring, the report."""


@dataclass(frozen=True)
class Row:
    """One recipe in the table of a dry run.

    Args:
        name: of the recipe, or "teacher".
        updates: of one training; None where minutes decide.
        trainings: seeds, and whole trainings' worth of tuning.
        seconds: of all of them, one after the other; None where it cannot be told.
    """

    name: str
    updates: int | None
    trainings: int
    seconds: float | None


@dataclass(frozen=True)
class Comparison:
    """What a comparison gave.

    Args:
        folder: where everything lies; None after a dry run.
        found: the content of compare.json; empty after a dry run.
        rows: the table of a dry run.
        left_out: `recipe` and `reason` of each that does not apply.
    """

    folder: Path | None
    found: Mapping[str, Any] = field(default_factory=dict)
    rows: list[Row] = field(default_factory=list)
    left_out: list[dict[str, str]] = field(default_factory=list)


def compare(
    teacher: str | Path | None = None,
    student: str | Path | None = None,
    data: str = "digits",
    *,
    recipes: Sequence[str] | None = None,
    seeds: int = 3,
    updates: int | None = None,
    minutes: float | None = None,
    tune: int = 0,
    out: str | Path | None = None,
    resume: bool = False,
    dry_run: bool = False,
    engine: str = "processes",
    workers: int | None = None,
    threads: int | None = None,
    address: str | None = None,
    storage: str | None = None,
    train_teacher: bool = False,
    teacher_fit: Fit = Fit(epochs=30),
    seed: int = 0,
    trust_code: bool = False,
    quiet: bool = False,
) -> Comparison:
    """Train the recipes that apply to a pair of models and data, several seeds each at equal cost, and rank them with intervals.

    Args:
        teacher: who teaches: a run folder, hf:FOLDER_OR_ID, timm:NAME, a built-in net (cnn:width=64), file.py:function, or cache:PATH,
            which all trainings then share. By name or path: trainings run in other processes. Without one, recipes that need a teacher
            are left out.
        student: who learns, given likewise.
        data: what is studied, as in `tutelage distill`.
        recipes: names or file.py:function, with knobs where wanted (hinton-kd:temperature=8); default: all that apply. Training alone
            always takes part where there are labels.
        seeds: trainings of each recipe; recipes are paired by seed.
        updates: of each training, all of a recipe's stages together; default: those of `alone` by itself.
        minutes: instead: how long each training may take, at the speed that is measured first, alone on the machine.
        tune: first look for better knobs of each recipe, at the cost of so many whole trainings; 0 for no tuning.
        out: where everything goes; default: runs/compare, numbered where taken.
        resume: go on with the comparison in `out`; what is finished is not done again.
        dry_run: show what would be trained and about how long it takes; trains nothing and loads no weights.
        engine: where trainings run: processes of this machine, or ray.
        workers: trainings at a time; 0 for one by one in this process; default: one for each two cores, with ray as many as fit.
        threads: of torch, for each training; default: the cores shared out.
        address: of a Ray cluster; default: one is started on this machine.
        storage: address of a database for tuning that machines share (postgresql://..., sqlite:///FILE); default: a journal in OUT.
        train_teacher: train the teacher on the labels first, into OUT/teacher, where it has no weights of its own yet.
        teacher_fit: duration and optimizer of that training.
        seed: the first seed; the others are the next ones.
        trust_code: let a run folder name a .py file whose code then runs.
        quiet: print no progress.

    Returns:
        The folder, which holds compare.html, and the numbers of compare.json.

    Raises:
        BadInput: anything the user gave that cannot be used; raised before anything trains.
        Failed: the teacher could not be trained.
        Interrupted: stopped by a signal; what is finished is kept.
    """
    _check(seeds, updates, minutes, tune, seed)
    pool.check(engine, workers, threads=threads, address=address)
    if storage is not None and not tune:
        raise BadInput("storage is where tuning keeps its attempts; add --tune N")
    given = {role: _spec(value, role) for role, value in (("teacher", teacher), ("student", student)) if value is not None}
    if student is None:
        raise BadInput("compare needs a student: give --student MODEL_OR_RUN")
    spec = with_tokenizer(_spec(data, "data"), *given.values())
    studied = sources.data_from(spec)
    sources.check(studied)
    if tune:
        if studied.validation is None:
            raise BadInput(f"tuning chooses on validation, but {studied.name} has no such split; cut one off, or leave --tune out")
        storages.check(None if dry_run else storage)
    guide = None if teacher is None else _teacher(given["teacher"], studied, seed, train_teacher, trust_code)
    trained = isinstance(guide, Model) and train_teacher and not guide.trained
    views = views_of({} if guide is None else {"teacher": guide}, None, seed)
    enter = functools.partial(contenders, recipes, data=studied, seed=seed, trust_code=trust_code)
    found, left_out = enter({**given, **({} if guide is None else {"teacher": guide})})
    amount = None if minutes is not None else updates if updates is not None else _default(found)
    found, knobs, more = contest.budgeted(found, amount, recipes is not None)
    left_out += more
    if dry_run:
        teachers = [(guide, teacher_fit)] if trained and isinstance(guide, Model) else []
        return Comparison(None, rows=_rows(found, knobs, studied, seeds, tune, minutes, teachers), left_out=left_out)

    place = _place(out)
    folder.prepare(place, resume)
    if (place / "config.yaml").is_file():
        refuse_another_job(folder.read_config(place), place)
    able, more = rehearsed(found, recipes is not None)
    left_out += more
    # entered anew, with models that are not built: each training builds its own, and there may be no room for those of the rehearsal
    names, guide, found = {each.name for each in able}, None, []
    del able
    found = [each for each in enter(given)[0] if each.name in names]
    labelled = studied.train.labelled
    instead = {"teacher": str(place / "teacher")} if trained else {}
    metric = "likelihood" if is_language(studied.train) else "accuracy" if labelled else "agreement"
    task = contest.Task(given, spec, studied, seed, seeds, trust_code, place, instead, metric, None if views is None else views.count)
    if not (resume and (place / "config.yaml").is_file()):  # what a comparison was begun with stands; its trials compare
        budget = {"seeds": seeds, "updates": updates, "minutes": minutes, "tune": tune, "storage": storage and storages.hidden(storage)}
        taught = {"train_teacher": train_teacher, "teacher_fit": plain(teacher_fit), "seed": seed}
        settings = {**given, "data": spec, "recipes": recipes and list(recipes), **budget, **taught}
        folder.write_config(place, {k: v for k, v in settings.items() if v is not None})
    with contextlib.ExitStack() as stack:
        stack.enter_context(_saying_how_to_go_on(place))
        engaged = stack.enter_context(pool.pool(engine, workers, threads=threads, address=address))
        shown = stack.enter_context(Progress(not quiet, engaged.workers))
        spent = contest.train_teacher(task, teacher_fit, engaged, shown) if trained else 0.0
        if minutes is not None:
            (found, knobs, more), seconds = contest.at_speed(task, found, 60 * minutes, engaged, shown, recipes is not None)
            left_out += more
            spent += seconds
        tuned = contest.tune_all(task, found, knobs, tune, storage, engaged, shown) if tune else {}
        for name, each in tuned.items():
            knobs[name] = tuning.changed(knobs[name], each.knobs)
            spent += each.seconds
        outcomes = contest.train_all(task, found, knobs, engaged, shown)
    said = contest.findings(task, found, knobs, tuned, outcomes, left_out)
    kind = "updates" if minutes is None else "minutes"
    said["budget"] = {"kind": kind, "amount": amount if minutes is None else minutes, "seeds": task.all_seeds, "tune": tune}
    said["seconds"] = spent + sum(o.seconds for o in outcomes.values())
    write_text_atomically(place / "compare.json", json.dumps(said, indent=1))
    if said["winner"] is not None:
        write_page(place, said)
    return Comparison(place, said, left_out=left_out)


def write_page(place: Path, found: Mapping[str, Any]) -> None:
    """Draw compare.html from the content of compare.json."""
    from tutelage.evaluation.compare_page import render

    write_text_atomically(place / "compare.html", render(found))


def _check(seeds: int, updates: int | None, minutes: float | None, tune: int, seed: int) -> None:
    for name, value, least, most in (
        ("seeds", seeds, 1, MOST),
        ("tune", tune, 0, MOST),
        ("updates", updates, 1, None),
        ("seed", seed, None, None),
    ):
        if value is None and name == "updates":
            continue
        if not isinstance(value, int) or isinstance(value, bool):
            raise BadInput(f"{name}={value!r}: expected a whole number")
        if (least is not None and value < least) or (most is not None and value > most):
            raise BadInput(f"{name}={value}: expected {least} to {most:,}" if most else f"{name}={value}: expected at least {least}")
    if updates is not None and minutes is not None:
        raise BadInput(f"updates={updates} and minutes={minutes}: the budget is one of the two; leave the other out")
    if minutes is not None and not (0 < minutes < math.inf):
        raise BadInput(f"minutes={minutes}: expected a number above 0")


def _spec(value: Any, role: str) -> str:
    if isinstance(value, (str, Path)):
        return str(value)
    raise BadInput(
        f"compare trains in other processes, so the {role} must be given by name or path, not as a {type(value).__name__}; "
        "give a run folder or file.py:function, or use distill"
    )


def _teacher(spec: str, studied: Data, seed: int, train_teacher: bool, trust_code: bool) -> Handle:
    if is_cache(spec):
        return cached_from(spec, "teacher", studied)
    found = models.model_from(spec, "teacher", data=studied, seed=seed, trust_code=trust_code)
    if not found.trained and not train_teacher:
        raise BadInput(
            f"the teacher {spec!r} has no weights trained for these classes; give a run folder or weights=FILE, "
            "or train it first with --train-teacher"
        )
    if train_teacher and not studied.train.labelled:
        raise BadInput(f"--train-teacher needs labels, but {studied.name} has none")
    return found


def _default(found: Sequence[Contender]) -> int:
    """The updates of training alone as it is by itself; without labels those of the first recipe."""
    first = next((each for each in found if each.recipe == "alone"), found[0])
    return updates_of(first.plan())


def _rows(
    found: Sequence[Contender], knobs: Mapping[str, Mapping[str, Any]], studied: Data, seeds: int, tune: int, minutes: float | None,
    teachers: Sequence[tuple[Model, Fit]],
) -> list[Row]:  # fmt: skip
    def seconds(plan: Any) -> float | None:
        each = [row.seconds for row in estimate.rows({"": plan}, studied)]
        return None if None in each else BESIDES + sum(s for s in each if s is not None)

    rows = []
    for model, fit in teachers:
        plan = alone(model, studied, fit=fit)
        rows.append(Row("teacher", updates_of(plan), 1, seconds(plan)))
    for each in found:
        plan, trainings = each.plan(knobs[each.name]), seeds + tune
        took = seconds(plan) if minutes is None else 60 * minutes
        rows.append(Row(each.name, updates_of(plan) if minutes is None else None, trainings, None if took is None else took * trainings))
    return rows


def _place(out: str | Path | None) -> Path:
    if out is not None and not str(out):
        raise BadInput("--out is empty; expected a folder")
    return folder.free(Path("runs") / "compare") if out is None else Path(out)


def refuse_another_job(settings: Mapping[str, Any], place: str | Path) -> None:
    """Refuse to go on with the folder of a single run.

    Raises:
        BadInput: its settings are not those of a comparison.
    """
    if "seeds" not in settings:
        raise BadInput(f"{place} holds a run, not a comparison; go on with: tutelage distill --resume {place}")


@contextlib.contextmanager
def _saying_how_to_go_on(place: Path) -> Iterator[None]:
    try:
        yield
    except Interrupted as stopped:
        number = stopped.exit_code - 128
        raise Interrupted(f"stopped; what is finished is kept, go on with: tutelage compare --resume {place}", number) from None
