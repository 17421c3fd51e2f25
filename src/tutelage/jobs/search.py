"""search: which student fits the budget, and seems to learn best from this teacher? No candidate is trained.

OUT holds config.yaml, search.jsonl with a line for each net that was scored, and at the end search.json, search.html and model/, which
names the best net: `tutelage distill --student OUT` takes it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from tutelage.data import Data, kind_of
from tutelage.errors import BadInput, Interrupted, nearest
from tutelage.evaluation.language import is_language
from tutelage.jobs import folder, models, sources, specs
from tutelage.jobs.cached import is_cache
from tutelage.jobs.searching.budget import Budget, Costs, budget_in
from tutelage.jobs.searching.evolution import Evolution
from tutelage.jobs.searching.journal import Journal
from tutelage.jobs.searching.scoring import DISWOT, Scorer, Weights, check
from tutelage.jobs.trials import listening
from tutelage.language.progress import tracked
from tutelage.signals import Model
from tutelage.students.space import SPACES, Candidate, Space
from tutelage.training.checkpoint import write_text_atomically
from tutelage.usercode import function_in

FORMAT = 1
MOST = 1_000_000
"""Candidates of a search, and samples of a batch."""
LISTED = 20
"""Of the best nets, so many stand in the table."""


@dataclass(frozen=True)
class Row:
    """One line of a dry run: what is said, and what it is."""

    what: str
    value: str


@dataclass(frozen=True)
class Search:
    """What a search gave.

    Args:
        folder: where everything lies; None after a dry run.
        spec: of the best net; None after a dry run.
        found: the content of search.json; empty after a dry run.
        rows: the table of a dry run.
    """

    folder: Path | None
    spec: str | None = None
    found: Mapping[str, Any] = field(default_factory=dict)
    rows: list[Row] = field(default_factory=list)


def search(
    teacher: Any = None,
    data: Any = "digits",
    *,
    space: str | Space = "resnet",
    budget: str | Mapping[str, float] | None = None,
    score: str = DISWOT,
    candidates: int = 300,
    population: int = 20,
    parents: int = 5,
    batch_size: int = 128,
    batches: int = 1,
    teacher_weights: Weights = "fresh",
    out: str | Path | None = None,
    seed: int = 0,
    device: str = "auto",
    resume: bool = False,
    dry_run: bool = False,
    trust_code: bool = False,
    quiet: bool = False,
) -> Search:
    """Find a student for a teacher, data and a budget without training any: nets are scored with the weights that they begin with.

    Args:
        teacher: who will teach: a run folder, timm:NAME, hf:FOLDER_OR_ID, a built-in net (cnn:width=64), file.py:function, or in Python a
            module or Model. Only diswot needs one.
        data: what will be studied, as in `tutelage distill`; a score sees a batch or a few of its training split.
        space: what is chosen from: resnet or vit, with options (resnet:blocks=[1,2,3],grows=2), file.py:function that gives a
            tutelage.students.space.Space, or in Python such a Space.
        budget: what the student may cost: params=100k, flops=2M, latency=5ms (of one sample, here), or several, with commas between them.
        score: by what nets are ordered: diswot, or one that knows no teacher: params, flops, grad-norm, snip, synflow, nwot, random.
        candidates: how many nets are scored.
        population: nets drawn at random before any is bred from others, and alive at a time; as many as candidates is a random search.
        parents: how many of the best may breed.
        batch_size: samples that a score sees.
        batches: over how many batches, each with new first weights, a score is averaged.
        teacher_weights: fresh: diswot compares with the teacher's architecture, untrained, as its authors' code does; trained: with the
            teacher as it is.
        out: where everything goes; default: runs/search, numbered where taken.
        seed: of all that is drawn.
        device: where to compute: auto takes an accelerator where there is one, or cpu.
        resume: go on with the search in `out`.
        dry_run: show what would be searched; scores nothing.
        trust_code: let a run folder name a .py file whose code then runs.
        quiet: show no progress.

    Returns:
        The folder, which holds search.html, the best net's spec, and the numbers of search.json.

    Raises:
        BadInput: anything that cannot be used, a budget that no net of the space meets among it; raised before anything is scored.
        Interrupted: stopped by a signal; what was scored is kept.
    """
    numbers = {"candidates": candidates, "population": population, "parents": parents, "batch_size": batch_size, "batches": batches}
    _check(numbers, seed, device, teacher_weights)
    check(score, teacher is not None)
    limits = budget_in(budget)
    studied = sources.data_from(data)
    if is_language(studied.train) or kind_of(studied.train) == "tokens":
        raise BadInput(f"search scores classifiers of single samples; {studied.name} holds language, for which there is no score yet")
    sources.check(studied)
    chosen = space_from(space, studied)
    guide = None if teacher is None else _teacher(teacher, studied, seed, teacher_weights, score, trust_code)
    there = torch.accelerator.current_accelerator(check_available=True) if device == "auto" else None
    costs = Costs(chosen, studied, limits, there or torch.device("cpu"))
    start = costs.cheapest()
    if dry_run:
        return Search(None, rows=_rows(chosen, costs, limits, start, score, numbers, studied))

    place = _place(out)
    folder.prepare(place, resume)
    scorer = Scorer(score, studied, guide, teacher_weights, batch_size, batches, seed, costs.device)
    _score(scorer, costs, chosen.written(start))  # whatever cannot be scored is said before anything is written
    written: dict[str, Any] = {
        "teacher": str(teacher) if isinstance(teacher, (str, Path)) else guide and guide.name,
        "data": data if isinstance(data, str) else studied.name,
        "space": space if isinstance(space, str) else chosen.name,
        "budget": str(limits) or None,
        "score": score,
        **numbers,
        "teacher_weights": teacher_weights,
        "seed": seed,
    }
    identity: dict[str, Any] = {k: v for k, v in written.items() if k not in ("candidates", "data")} | {"data": studied.fingerprint()}
    identity["choices"] = {key: list(values) for key, values in chosen.choices.items()}
    journal = Journal(place, identity)
    if not (resume and (place / "config.yaml").is_file()):
        folder.write_config(place, {k: v for k, v in written.items() if v is not None})
    with folder.noting_failure(place):
        complete = _scored(journal, Evolution(chosen, seed, population, parents), scorer, costs, start, candidates, quiet, place)
    found = _findings(journal.lines, written, studied, chosen, limits, guide, complete)
    best = found["best"][0]["spec"]
    _write_model(place, costs.model(best), best, studied)
    write_text_atomically(place / "search.json", json.dumps(found, indent=1))
    write_page(place, found)
    return Search(place, best, found)


def space_from(given: str | Space, data: Data) -> Space:
    """The space that a user names.

    Raises:
        BadInput: no such space, options that it does not take, or something else than a space; names the nearest.
        MissingFile: a file that does not exist.
    """
    if isinstance(given, Space):
        return given
    if not isinstance(given, str):
        raise BadInput(f"space must be a name, file.py:function or a tutelage.students.space.Space, not {type(given).__name__}")
    name, text = specs.divided(given)
    if ".py:" not in name and name not in SPACES:
        raise BadInput(f"space {name!r} is not known{nearest(name, SPACES)}; expected one of {', '.join(SPACES)}, or file.py:function")
    function = function_in(name) if ".py:" in name else SPACES[name]
    takes, kind = getattr(function, "takes", None), kind_of(data.train)
    if takes and kind is not None and kind not in takes:
        raise BadInput(
            f"space {name} is of nets for {' or '.join(takes)}, but {data.name} holds {kind}; give a space of your own, or other data"
        )
    options = models.fitting(function, models.sizes(data)) | specs.typed(specs.options_in(text, given), function, f"space {name}")
    try:
        made = function(**options)
    except BadInput:
        raise
    except Exception as error:
        raise BadInput(f"space {given} cannot be made: {type(error).__name__}: {error}") from error
    if not isinstance(made, Space):
        raise BadInput(f"space {name} gave a {type(made).__name__}; expected a tutelage.students.space.Space")
    return made


def frontier(rows: Sequence[Mapping[str, Any]], kind: str) -> list[str]:
    """The specs that no other net beats at as little cost: scores rise with costs along them.

    Args:
        rows: nets with `spec`, `score` and `costs`.
        kind: of the cost.
    """
    found: list[str] = []
    best = -float("inf")
    for row in sorted(rows, key=lambda row: (row["costs"][kind], -row["score"])):
        if row["score"] > best:
            best = row["score"]
            found.append(row["spec"])
    return found


def write_page(place: Path, found: Mapping[str, Any]) -> None:
    """Draw search.html from the content of search.json."""
    from tutelage.evaluation.search_page import render

    write_text_atomically(place / "search.html", render(found))


def _scored(
    journal: Journal, evolution: Evolution, scorer: Scorer, costs: Costs, start: Candidate, candidates: int, quiet: bool, place: Path
) -> bool:
    """Score until there are enough; says whether there were as many nets as that."""
    space, known = evolution.space, set()
    for line in journal.lines:
        space.encode(line["candidate"])
        evolution.tell(line["candidate"], line["score"])
        known.add(line["spec"])

    def new(candidate: Candidate) -> bool:
        return space.written(candidate) not in known

    try:
        with listening() as heard:
            left = range(len(journal.lines), candidates)
            for _ in tracked(left, len(left), "nets scored", not quiet):
                if heard:
                    said = f"stopped with {len(journal.lines)} of {candidates} nets scored; go on with: tutelage search --resume {place}"
                    raise Interrupted(said, heard[0])
                asked = evolution.ask(new, costs.within, start)
                if asked is None:
                    return False
                begun, spec = time.perf_counter(), space.written(asked)
                score = _score(scorer, costs, spec)
                line = {"candidate": asked, "spec": spec, **score, "costs": costs.of(asked), "seconds": time.perf_counter() - begun}
                journal.add(line)
                evolution.tell(asked, score["score"])
                known.add(spec)
    finally:
        journal.close()
    return True


def _score(scorer: Scorer, costs: Costs, spec: str) -> dict[str, float]:
    return scorer(costs.model(spec), spec)


def _findings(
    lines: Sequence[Mapping[str, Any]],
    written: Mapping[str, Any],
    data: Data,
    space: Space,
    budget: Budget,
    teacher: Model | None,
    complete: bool,
) -> dict[str, Any]:
    from tutelage import __version__
    from tutelage.evaluation import processor, size_of

    kind = next(iter(budget.limits), "params")
    ranked = sorted(lines, key=lambda line: -line["score"])
    rows = [{k: v for k, v in line.items() if k not in ("candidate", "seconds")} for line in ranked]
    whole = None if teacher is None else teacher.skeleton()
    return {
        "format": FORMAT,
        "settings": {k: v for k, v in written.items() if v is not None},
        "data": data.name,
        "classes": len(data.classes) or data.class_count(),
        "space": {"name": space.name, "size": space.size, "choices": {k: list(v) for k, v in space.choices.items()}},
        "budget": dict(budget.limits),
        "score": written["score"],
        "teacher": None if teacher is None else {"name": written["teacher"], **({} if whole is None else size_of(whole))},
        "cost": kind,
        "scored": len(rows),
        "complete": complete,
        "seconds": sum(line["seconds"] for line in lines),
        "best": rows[:LISTED],
        "nets": rows,
        "frontier": frontier(rows, kind),
        "history": [line["score"] for line in lines],
        "processor": processor(),
        "versions": {"tutelage": __version__, "torch": torch.__version__},
    }


def _write_model(place: Path, model: Model, spec: str, data: Data) -> None:
    """Write model/model.json: how the best net is built. It has no weights: whoever takes it draws its own."""
    from tutelage.evaluation import size_of

    skeleton = model.skeleton()
    about = {"format": 1, "spec": spec, "name": model.name, "untrained": True, **size_of(model.module if skeleton is None else skeleton)}
    (place / "model").mkdir(exist_ok=True)
    write_text_atomically(place / "model" / "model.json", json.dumps({**about, "classes": list(data.classes), "prepared": {}}, indent=1))


def _teacher(given: Any, data: Data, seed: int, weights: Weights, score: str, trust_code: bool) -> Model:
    if is_cache(given):
        raise BadInput(f"the teacher {str(given)!r} is a cache, which shows no features of a new batch; give the model itself")
    found = models.model_from(given, "teacher", data=data, seed=seed, trust_code=trust_code)
    if score == DISWOT and weights == "trained" and not found.trained and found.spec is not None:
        raise BadInput(
            f"the teacher {given!r} has no trained weights; give a run folder or weights=FILE, or compare with --teacher-weights fresh"
        )
    return found


def _rows(space: Space, costs: Costs, budget: Budget, start: Candidate, score: str, numbers: Mapping[str, int], data: Data) -> list[Row]:
    cheap = costs.of(start)
    said = ", ".join(f"{kind} {value:,.6g}" for kind, value in cheap.items())
    return [
        Row("space", f"{space.name}, {space.size:,} candidates of {len(space.choices)} choices"),
        Row("budget", str(budget) or "none"),
        Row("within it, for example", f"{space.written(start)} ({said})"),
        Row("nets to score", f"{min(numbers['candidates'], space.size):,} by {score}"),
        Row("each on", f"{numbers['batches']} of {min(numbers['batch_size'], len(data.train)):,} samples of {data.name}"),
    ]


def _check(numbers: Mapping[str, Any], seed: Any, device: str, weights: str) -> None:
    for name, value in {**numbers, "seed": seed}.items():
        if not isinstance(value, int) or isinstance(value, bool):
            raise BadInput(f"{name}={value!r}: expected a whole number")
        least = 2 if name == "batch_size" else 1
        if name != "seed" and not least <= value <= MOST:
            raise BadInput(f"{name}={value}: expected {least} to {MOST:,}")
    if device not in ("auto", "cpu"):
        raise BadInput(f"device={device!r}: expected one of 'auto', 'cpu'")
    if weights not in ("fresh", "trained"):
        raise BadInput(f"teacher_weights={weights!r}{nearest(str(weights), ('fresh', 'trained'))}; expected fresh or trained")


def _place(out: str | Path | None) -> Path:
    if out is not None and not str(out):
        raise BadInput("--out is empty; expected a folder")
    return folder.free(Path("runs") / "search") if out is None else Path(out)


def refuse_another_job(settings: Mapping[str, Any], place: str | Path) -> None:
    """Refuse to go on with the folder of another job.

    Raises:
        BadInput: its settings are not those of a search.
    """
    if "space" not in settings:
        raise BadInput(f"{place} holds no search; go on with: tutelage {'compare' if 'seeds' in settings else 'distill'} --resume {place}")
