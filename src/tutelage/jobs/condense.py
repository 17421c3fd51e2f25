"""condense: a training set becomes a few samples a class, and the report says what they are worth.

OUT holds config.yaml, training/ with the run that condensed, condensed/ with the set, studies.json, and at the end condense.json and
condense.html: `--data condensed:OUT` studies the set with any recipe.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from tutelage.data import Data
from tutelage.data.condensation import FILE, read
from tutelage.errors import BadInput, printable
from tutelage.jobs import estimate, folder, models, sources
from tutelage.jobs.distill import distill
from tutelage.jobs.measurement import last_split
from tutelage.jobs.settings import chosen_knobs, settled
from tutelage.jobs.studies import Studies, summed_up
from tutelage.randomness import derive
from tutelage.recipes import load, roles
from tutelage.signals import Model
from tutelage.training import Fit, Plan, RunOptions
from tutelage.training.checkpoint import write_text_atomically

FORMAT = 1
MOST = 1000
"""Studies of each net on each arm."""


@dataclass(frozen=True)
class Condensation:
    """What condensing gave.

    Args:
        folder: where everything lies, `--data condensed:FOLDER` of other commands; None after a dry run.
        found: the content of condense.json; empty after a dry run.
        rows: the table of a dry run.
    """

    folder: Path | None
    found: Mapping[str, Any] = field(default_factory=dict)
    rows: list[estimate.Row] = field(default_factory=list)


def condense(
    data: Any = "digits",
    student: Any = None,
    *,
    recipe: str | Callable[..., Plan] = "mtt",
    unseen: Sequence[str] = (),
    studies: int = 3,
    out: str | Path | None = None,
    seed: int = 0,
    resume: bool = False,
    dry_run: bool = False,
    trust_code: bool = False,
    options: RunOptions = RunOptions(),
    **settings: Any,
) -> Condensation:
    """Make a few samples a class of a training set, on which nets learn from scratch almost what they would learn from all of it.

    Args:
        data: what is condensed, as in `tutelage distill`: images, or rows of numbers, with labels.
        student: the architecture that it is condensed for: a built-in net (cnn:width=16), timm:NAME, or file.py:function.
        recipe: the method: mtt, ast, or a recipe of your own that condenses.
        unseen: more architectures to judge the set by, which had no part in making it.
        studies: trainings of each architecture on each set, for the report.
        out: where everything goes; default: runs/condense, numbered where taken.
        seed: of all that is drawn.
        resume: go on with the condensation in `out`.
        dry_run: show what would happen; trains nothing.
        trust_code: let a run folder name a .py file whose code then runs.
        options: where and how fast to run.
        settings: the recipe's knobs.

    Returns:
        The folder, which holds condense.html and the set, and the numbers of condense.json.

    Raises:
        BadInput: anything that cannot be used; raised before anything trains.
        Interrupted: stopped by a signal, and saved.
    """
    function = recipe if callable(recipe) else load(recipe)
    name = recipe if isinstance(recipe, str) else function.__name__.replace("_", "-")
    _check(function, name, student, studies, seed)
    studied = sources.data_from(data)
    chosen = chosen_knobs(function, name, settings)
    given: dict[str, Any] = {"student": student, "data": data, "recipe": recipe, "seed": seed, "trust_code": trust_code, "options": options}
    rows = distill(**given, **settings, baseline=False, dry_run=True).rows
    nets = {_named(each): models.model_from(each, "student", data=studied, seed=seed) for each in (student, *unseen)}
    estimate.check_weights(nets)
    if last_split(studied)[0] == "train":
        raise BadInput(f"{studied.name} has neither a test nor a validation split; hold some samples out, to measure the condensed set on")
    if dry_run:
        return Condensation(None, rows=rows)

    place = _place(out)
    folder.prepare(place, resume)
    training = place / "training"
    about = {"data": data, "out": str(place), "seed": seed, "baseline": False}
    config = settled(name, function, {"student": student, **about, **chosen}, Fit(epochs=1), options)
    config = {k: v for k, v in config.items() if k not in ("teacher_fit", "train_teacher", "baseline", "views")}
    if not (resume and (place / "config.yaml").is_file()):
        folder.write_config(place, {**config, "unseen": [_named(each) for each in unseen], "studies": studies})
    begun = time.perf_counter()
    with folder.noting_failure(place):
        made = distill(**given, **settings, baseline=False, out=training, resume=(training / "config.yaml").is_file())
        took = made.seconds["student"]
        _publish(training / "also" / "condensed", place / "condensed")
        synthetic, _ = read(place)
        per_class = int(torch.bincount(synthetic.y).max())
        identity = {"set": hashlib.sha256((place / "condensed" / FILE).read_bytes()).hexdigest()}
        measured = Studies(place, studied, synthetic, per_class, chosen["fit"], options, identity)
        if not options.quiet:
            print(printable("judging the set: nets learn from scratch on it, on samples that were chosen, and on all"), file=sys.stderr)
        seeds = [derive("study", seed, number) % 2**31 for number in range(studies)]
        done = list(measured.carry_out(nets, seeds, not options.quiet, f"tutelage condense --resume {place}"))
        found = _findings(name, studied, per_class, synthetic.lr.item(), nets, measured, config, training)
        found |= {"seconds": {"condensing": took, "all": time.perf_counter() - begun}, **summed_up(measured, done)}
        write_text_atomically(place / "condense.json", json.dumps(found, indent=1))
        write_page(place, found)
    return Condensation(place, found)


def write_page(place: Path, found: Mapping[str, Any]) -> None:
    """Draw condense.html from the content of condense.json and the picture of the set."""
    from tutelage.evaluation.condense_page import render

    grid = place / "condensed" / "grid.png"
    write_text_atomically(place / "condense.html", render(found, grid.read_bytes() if grid.is_file() else b""))


def refuse_another_job(settings: Mapping[str, Any], place: str | Path) -> None:
    """Refuse to go on with the folder of another job.

    Raises:
        BadInput: its settings are not those of a condensation.
    """
    if "studies" not in settings:
        verb = "search" if "space" in settings else "compare" if "seeds" in settings else "distill"
        raise BadInput(f"{place} holds no condensation; go on with: tutelage {verb} --resume {place}")


def _findings(
    name: str,
    data: Data,
    per_class: int,
    rate: float,
    nets: Mapping[str, Model],
    studies: Studies,
    config: Mapping[str, Any],
    training: Path,
) -> dict[str, Any]:
    from tutelage import __version__
    from tutelage.evaluation import processor, size_of

    paper = load(name).about.paper if ".py:" not in name else None  # type: ignore[attr-defined]
    split, held = last_split(data)
    bodies = {spec: net.skeleton() for spec, net in nets.items()}
    return {
        "format": FORMAT,
        "settings": {k: v for k, v in config.items() if v is not None},
        "recipe": name,
        "paper": None if paper is None else {"title": paper.title, "authors": paper.authors, "year": paper.year, "url": paper.url},
        "data": data.name,
        "split": split,
        "held": len(held),
        "classes": list(data.classes),
        "samples": len(data.train),
        "condensed": len(studies.synthetic.y),
        "per_class": per_class,
        "lr": rate,
        "updates": studies.fit.updates(studies.samples("condensed")),
        "tuned": data.validation is not None and data.test is not None,
        "nets": {spec: None if body is None else size_of(body)["parameters"] for spec, body in bodies.items()},
        "arrival": _arrival(training),
        "processor": processor(),
        "versions": {"tutelage": __version__, "torch": torch.__version__},
    }


def _arrival(training: Path) -> list[tuple[int, float]]:
    """Over the updates of the condensation: how far an inner loop ended from the expert, as a share of the way."""
    found = []
    for text in (training / "metrics.jsonl").read_text().splitlines():
        line = json.loads(text)
        if line.get("stage") == "condense" and "arrival" in (line.get("terms") or {}):
            found.append((int(line["step"]), float(line["terms"]["arrival"])))
    return found


def _publish(made: Path, place: Path) -> None:
    """Copy the set to where it is looked for, whole or not at all."""
    beside = place.with_name(f".{place.name}.tmp")
    shutil.rmtree(beside, ignore_errors=True)
    shutil.copytree(made, beside)
    shutil.rmtree(place, ignore_errors=True)
    beside.rename(place)


def _named(given: Any) -> str:
    """What an architecture is called: its spec, or the name of what was given in Python."""
    return str(given) if isinstance(given, (str, Path)) else str(getattr(given, "name", getattr(given, "__name__", type(given).__name__)))


def _check(function: Callable[..., Plan], name: str, student: Any, studies: Any, seed: Any) -> None:
    from accelerate import PartialState

    about = getattr(function, "about", None)
    if about is None or not about.condenses:
        raise BadInput(f"recipe {name} does not condense data; expected mtt, ast, or a recipe marked with condenses=True")
    for key in roles(function):
        if key not in ("student", "data"):
            raise BadInput(f"recipe {name} asks for a {key}, which condensing does not have; expected the roles student and data")
    if student is None:
        raise BadInput("condense needs an architecture to condense for: give --student NET, such as cnn:width=16")
    if not isinstance(studies, int) or isinstance(studies, bool) or not 1 <= studies <= MOST:
        raise BadInput(f"studies={studies!r}: expected a whole number, 1 to {MOST}")
    if not isinstance(seed, int):
        raise BadInput(f"seed={seed!r}: expected a whole number")
    if PartialState().num_processes > 1:
        raise BadInput("condense runs in one process; for several, `tutelage distill` the recipe, and study --data condensed:RUN")


def _place(out: str | Path | None) -> Path:
    if out is not None and not str(out):
        raise BadInput("--out is empty; expected a folder")
    return folder.free(Path("runs") / "condense") if out is None else Path(out)
