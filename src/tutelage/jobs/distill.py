"""distill: the main job. A teacher, the student trained alone, the student taught; each a run folder that resumes on its own."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from tutelage.attacks import Attack
from tutelage.data import Data
from tutelage.errors import BadInput, printable
from tutelage.jobs import estimate, folder, generators, sources
from tutelage.jobs import report as reporting
from tutelage.jobs.attacks import judge_of
from tutelage.jobs.cached import Handle, check_answers, views_of
from tutelage.jobs.environment import without_secrets, write_environment
from tutelage.jobs.measurement import findings_of, say_before, watched
from tutelage.jobs.roles import filled, handles_of, models_in
from tutelage.jobs.settings import chosen_knobs, plain, settled
from tutelage.jobs.taps import check_classes
from tutelage.jobs.tokenizers import check_tokens, with_tokenizer
from tutelage.recipes import knobs, load, roles
from tutelage.recipes.alone import alone
from tutelage.signals import Model
from tutelage.teachers import Cached
from tutelage.training import Fit, Plan, Run, RunOptions, rehearse, train
from tutelage.training.condensed import Condensed
from tutelage.training.run import make_accelerator
from tutelage.training.tracking import tracking

TEACHER_FIT = Fit(epochs=30)


@dataclass(frozen=True)
class Result:
    """What a job gave.

    Args:
        model: the product, trained; None after a dry run.
        folder: the run folder; None after a dry run.
        report: the numbers, as in report.json; of several processes only the first one knows the times.
        rows: the table of a dry run.
        seconds: of each training that was carried out now, by what it makes ("teacher", "baseline", "student"): all of its steps, the
            teacher's passes and the measuring after each epoch included.
    """

    model: Model | None
    folder: Path | None
    report: Mapping[str, Any] = field(default_factory=dict)
    rows: list[estimate.Row] = field(default_factory=list)
    seconds: Mapping[str, float] = field(default_factory=dict)


def distill(
    teacher: Any = None,
    student: Any = None,
    data: Any = "digits",
    *,
    recipe: str | Callable[..., Plan] = "hinton-kd",
    out: str | Path | None = None,
    seed: int = 0,
    train_teacher: bool = False,
    teacher_fit: Fit = TEACHER_FIT,
    views: int | None = None,
    baseline: bool = True,
    resume: bool = False,
    dry_run: bool = False,
    trust_code: bool = False,
    options: RunOptions = RunOptions(),
    **settings: Any,
) -> Result:
    """Teach a small model with a big one; the same small model trained alone shows what the teaching was worth.

    Args:
        teacher: who teaches: a run folder, hf:FOLDER_OR_ID, timm:NAME, a built-in net (cnn:width=64), file.py:function (with
            weights=FILE), cache:PATH (what `tutelage cache` wrote), or in Python a module or Model.
        student: who learns, given likewise. A module given in Python is trained in place.
        data: what is studied: digits, fashion-mnist, stdlib-bytes, csv:FILE, jsonl:FILE, parquet:FILE, folder:PATH, hf:FOLDER_OR_ID,
            file.py:function, or in Python a Data, Source, torch or Hugging Face data set, or mapping of splits.
        recipe: the method: a name from `tutelage recipes`, file.py:function, or a recipe function.
        out: the run folder; default: runs/RECIPE, numbered where taken.
        seed: of all that is drawn.
        train_teacher: train the teacher on the labels first, into OUT/teacher, where it has no weights of its own yet.
        teacher_fit: duration and optimizer of that training; of generators, where it is left as it is, that of `ddpm`.
        views: augmented views of each sample that are studied in turn, drawn from the seed; default: a new one each epoch, or those of a
            cache.
        baseline: also train the student alone, with the same number of updates, into OUT/baseline; skipped without labels.
        resume: go on with the run in `out`.
        dry_run: show what would happen; trains nothing and loads no weights.
        trust_code: let a run folder name a .py file whose code then runs.
        options: where and how fast to run.
        settings: the recipe's knobs, and its roles besides teacher, student and data.

    Returns:
        The trained model, the run folder, which holds report.html, and the report's numbers.

    Raises:
        BadInput: anything the user gave that cannot be used; raised before anything trains.
        Interrupted: stopped by a signal, and saved.
        NotFinite: the loss became NaN or infinite.
    """
    if not isinstance(seed, int):
        raise BadInput(f"seed={seed!r}: expected a whole number")
    function = recipe if callable(recipe) else load(recipe)
    name = recipe if isinstance(recipe, str) else function.__name__.replace("_", "-")
    given = {"teacher": teacher, "student": student, **{r: settings.pop(r) for r in roles(function) if r in settings}}
    data = with_tokenizer(data, *given.values())
    handles, studied = handles_of(function, name, given, sources.data_from(data), seed, trust_code)
    chosen = chosen_knobs(function, name, settings)
    sources.check(studied)
    labelled, generates = studied.train.labelled, function.about.generates  # type: ignore[attr-defined]
    if function.about.needs_labels and not labelled:  # type: ignore[attr-defined]
        raise BadInput(f"recipe {name} needs labels, but {studied.name} has none; choose a recipe without, such as hinton-kd with alpha=1")
    plan = function(**filled(function, handles, studied), **chosen)
    product = plan.product
    teachers = {r: m for r, m in handles.items() if r != "student"}
    models = models_in(handles)
    raw = [r for r, m in models.items() if r != "student" and not m.trained and m.spec is not None]
    if raw and not train_teacher:
        raise BadInput(
            f"the {raw[0]} {given[raw[0]]!r} has no weights trained for these classes; give a run folder or weights=FILE, "
            "or train it first with --train-teacher"
        )
    if train_teacher and not labelled and not generates:
        raise BadInput(f"--train-teacher needs labels, but {studied.name} has none")
    estimate.check_weights(models)
    untrained = {r: m for r, m in models.items() if r != "student" and not m.trained} if train_teacher else {}
    seen = views_of(handles, views, seed)
    schooling = [_schooling(function, role, model, studied, teacher_fit, chosen) for role, model in untrained.items()]
    plans = _plans(plan, function, schooling, baseline and labelled and not generates and not product.encodes, studied)
    if dry_run:
        return Result(None, None, rows=estimate.rows(plans, studied))

    if not generates:
        check_classes(handles, studied)
        check_answers(handles, studied)
    place = _place(out, name, options)
    accelerator = make_accelerator(options, place)
    folder.prepare(place, resume)
    identity: dict[str, Any] = {
        "recipe": name,
        "roles": {r: str(given[r]) if isinstance(given[r], (str, Path)) else m.name for r, m in handles.items()},
        "knobs": {k: plain(v) for k, v in chosen.items()},
        "data": studied.fingerprint(),
    }
    caches = {r: m.about.fingerprint for r, m in handles.items() if isinstance(m, Cached)}
    identity |= {"caches": caches} if caches else {}
    identity |= {"views": [seen.count, seen.seed]} if seen is not None else {}
    watch = None if generates else _watch(studied, accelerator.device)
    runs = {
        label: Run(
            place if label == "student" else place / label,
            seed=seed,
            options=options,
            watch=watch,
            identity=identity if label == "student" else {k: identity[k] for k in ("roles", "data", "views") if k in identity},
            accelerator=accelerator,
            views=seen,
        )
        for label in plans
    }
    for label, each in plans.items():
        rehearse(runs[label], each)
    folder.check_space(place, [each.product for each in plans.values()])
    accelerator.wait_for_everyone()
    about = {"data": data, "out": str(place), "seed": seed, "train_teacher": train_teacher, "views": views, "baseline": baseline}
    config = settled(name, function, {**{r: v for r, v in given.items() if v is not None}, **about, **chosen}, teacher_fit, options)
    if accelerator.is_main_process:
        if not (resume and (place / "config.yaml").is_file()):  # what a run was begun with stands; its checkpoints compare
            folder.write_config(place, config)
            folder.write_splits(place, studied)
        write_environment(place, seed)
        if not options.quiet:
            print(printable(f"data: {studied.name}: {sources.in_a_line(studied)}"), file=sys.stderr)
            for note in check_tokens(handles, studied):
                print(printable(f"note: {note}"), file=sys.stderr)
    trained_under = chosen.get("attack") if function.about.robust else None  # type: ignore[attr-defined]
    judge = judge_of(trained_under) if isinstance(trained_under, Attack) else None
    noting = folder.noting_failure(place, accelerator.is_main_process)
    with noting, tracking(accelerator, plans, without_secrets(config)) as tracked:
        for label, run in runs.items():
            run.track = tracked.of(label)
        report, seconds = _carry_out(plans, runs, teachers, studied, function, name, judge, data if isinstance(data, str) else None)
        tracked.last(report)
    return Result(product, place, report, seconds=seconds)


def _carry_out(
    plans: Mapping[str, Plan],
    runs: Mapping[str, Run],
    teachers: Mapping[str, Handle],
    studied: Data,
    function: Callable[..., Plan],
    name: str,
    judge: Attack | None = None,
    spec: str | None = None,
) -> tuple[dict[str, Any], dict[str, float]]:
    """Train what is not yet trained, plan by plan, write the models, and measure them; gives the report, and how long each plan took."""
    run, plan, product = runs["student"], plans["student"], plans["student"].product
    accelerator, options, seed, place = run.accelerator, run.options, run.seed, run.folder
    assert place is not None
    seconds: dict[str, float] = {}
    for label, each in plans.items():
        if label == "student" and not function.about.generates:  # type: ignore[attr-defined]
            say_before(teachers, product, studied, accelerator.device, options.quiet or not accelerator.is_main_process)
        if accelerator.is_main_process and not options.quiet:
            print(printable(f"{label}: {each.product.name}, {sum(s.updates() for s in each.stages)} updates"), file=sys.stderr)
        start = time.perf_counter()
        train(each, runs[label])
        seconds[label] = time.perf_counter() - start
        if accelerator.is_main_process:
            folder.write_model(place if label == "student" else place / label, each.product, studied)
    if accelerator.is_main_process:
        for kept, thing in plan.also.items():
            if isinstance(thing, Model):
                folder.write_model(place / "also" / kept, thing, studied)
            elif isinstance(thing, Condensed):
                thing.keep(place / "also" / kept, {"recipe": name, "source": spec})
    accelerator.wait_for_everyone()
    paper = function.about.paper  # type: ignore[attr-defined]
    source = None if paper is None else {"title": paper.title, "authors": paper.authors, "year": paper.year, "url": paper.url}
    about = {"recipe": name, "paper": source, "data": studied.name, "seed": seed}
    if function.about.generates:  # type: ignore[attr-defined]
        findings = generators.findings(plans, models_in(teachers), studied, accelerator.device, about)
    else:
        findings = findings_of(plans, teachers, studied, accelerator.device, about, timed=accelerator.is_main_process, attack=judge)
    if accelerator.is_main_process:
        reporting.keep(place, findings)
        reporting.report(place)
    accelerator.wait_for_everyone()
    return findings.report, seconds


def _place(out: str | Path | None, name: str, options: RunOptions) -> Path:
    """The run folder; the first process chooses a free one for all."""
    from accelerate import PartialState
    from accelerate.utils import broadcast_object_list

    if out is not None and not str(out):
        raise BadInput("--out is empty; expected a folder")
    if out is not None:
        return Path(out)
    chosen = [str(folder.free(Path("runs") / name.rpartition(":")[2]))]
    if PartialState(cpu=options.device == "cpu").num_processes > 1:
        broadcast_object_list(chosen)
    return Path(chosen[0])


def _schooling(function: Callable[..., Plan], role: str, model: Model, data: Data, fit: Fit, chosen: Mapping[str, Any]) -> Plan:
    """How a teacher is trained first: on the labels alone, or as the recipe says for its role, with the recipe's own knobs."""
    by = load(function.about.teachers[role]) if role in function.about.teachers else alone  # type: ignore[attr-defined]
    own = knobs(by)
    shared = {name: chosen[name] for name in own if name in chosen and name != "fit"} if by is not alone else {}
    if by.about.generates and fit == TEACHER_FIT:  # type: ignore[attr-defined]
        fit = own["fit"].default  # a denoiser needs far more updates than a classifier
    return by(model, data, **shared, fit=fit)


def _plans(plan: Plan, function: Callable[..., Plan], schooling: list[Plan], baseline: bool, data: Data) -> dict[str, Plan]:
    plans: dict[str, Plan] = {}
    for number, each in enumerate(schooling):
        plans["teacher" if len(schooling) == 1 else f"teacher-{number + 1}"] = each
    if baseline and function is not alone:
        plans["baseline"] = plan.baseline or baseline_of(plan, data)
    plans["student"] = plan
    return plans


def baseline_of(plan: Plan, data: Data) -> Plan:
    """The product trained alone: the same first weights, the same number of updates, the optimizer of the product's last stage."""
    product = plan.product
    last = next(s for s in reversed(plan.stages) if any(m is product for learner in s.named.values() for m in learner.models.values()))
    try:
        twin = product.fresh(product.seed)
    except BadInput:  # an instance: its weights as they are before it is taught, since the baseline runs first
        twin = product.copy()
    return alone(twin, data, fit=replace(last.fit, epochs=None, steps=plan.updates(product)))


def _watch(data: Data, device: torch.device) -> Callable[[Model], Mapping[str, float]] | None:
    source = data.validation
    if source is None:
        return None
    return lambda model: watched(model, source, device)
