"""Carry a reproduction out: tune on validation under other seeds, then every arm under every seed, then the verdicts."""

from __future__ import annotations

import hashlib
import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tutelage.errors import BadInput, Failed, TutelageError
from tutelage.jobs import models
from tutelage.jobs.pool import Pool
from tutelage.jobs.progress import Progress
from tutelage.jobs.trials import Outcome, Trial, carry_out
from tutelage.reproductions import load
from tutelage.reproductions.harness import store
from tutelage.reproductions.harness.design import Arm, Reproduction
from tutelage.reproductions.harness.trial import planned

FUNCTION = "tutelage.reproductions.harness.trial:trial"
TUNING = 1000
"""The first of the seeds that tries are compared on; none of those that arms are compared on."""


class Unfinished(TutelageError, RuntimeError):
    """Time was up before all trials were done; what is done is kept."""

    exit_code = 1


@dataclass(frozen=True)
class Carried:
    """What was measured.

    Args:
        claim: what was carried out.
        seeds: those compared.
        found: by arm, what `trial` gave under each seed.
        tuned: by arm, `tries`, the mean `validation` of each, and which was `chosen`; empty for arms without tries.
        seconds: of all trials together, those kept from before included.
    """

    claim: Reproduction
    seeds: Sequence[int]
    found: Mapping[str, Sequence[Mapping[str, Any]]]
    tuned: Mapping[str, Mapping[str, Any]]
    seconds: float


def carried(name: str, pool: Pool, *, seeds: int | None = None, shown: Progress | None = None, until: float | None = None) -> Carried:
    """Carry out all of a reproduction that is not yet done.

    Args:
        name: of the reproduction, or its file.
        pool: what runs the trials.
        seeds: compare only so many; default: as the claim states.
        shown: hears of each trial.
        until: see `carry_out`.

    Raises:
        BadInput: no such reproduction, or arms that are not on equal terms.
        Unfinished: time was up.
        Failed: a trial failed; says the first one's reason.
        Interrupted: told to stop.
    """
    claim = load(name)
    check_equal(claim)
    count = claim.seeds if seeds is None else seeds
    if not 2 <= count <= TUNING:
        raise BadInput(f"seeds={count}: expected 2 to {TUNING}")
    place, show = folder_of(name), shown or Progress(False)
    total = 0.0
    tuned: dict[str, dict[str, Any]] = {}
    if claim.tuned:
        outcomes = _all("tuning", tuning_trials(name, claim), place, pool, show, until)
        total += sum(o.seconds for o in outcomes.values())
        tuned = {arm: _chosen(arm, each.tries, outcomes, claim.tuning_seeds) for arm, each in claim.arms.items() if each.tries}
    chosen = {arm: said["chosen"] for arm, said in tuned.items()}
    outcomes = _all("arms", arm_trials(name, claim, range(count), chosen), place, pool, show, until)
    total += sum(o.seconds for o in outcomes.values())
    found = {arm: [dict(outcomes[f"{_file(arm)}-seed-{s}"].found or {}) for s in range(count)] for arm in claim.arms}
    return Carried(claim, range(count), found, tuned, total)


def folder_of(name: str) -> Path:
    """Where the trials of a reproduction are kept: another folder for other code, or when its own file changes."""
    if name.endswith(".py"):
        source, stem = Path(name).read_bytes(), Path(name).stem
    else:
        stem = name.replace("-", "_")
        module = importlib.import_module(f"tutelage.reproductions.{stem}")
        source = Path(str(module.__file__)).read_bytes()
    return store.cache() / "reproductions" / f"{stem}-{store.key(store.code(), hashlib.blake2b(source).hexdigest())}"


def tuning_trials(name: str, claim: Reproduction) -> list[Trial]:
    """Every try of every arm under the tuning seeds, with the fixtures they need."""
    trials: list[Trial] = []
    for seed in range(TUNING, TUNING + claim.tuning_seeds):
        asked = [arm for arm, each in claim.arms.items() if each.tries]
        trials += _fixtures(name, claim, [claim.arms[arm] for arm in asked], seed)
        for arm in asked:
            for tried in range(len(claim.arms[arm].tries)):
                trials.append(_trial(name, claim, arm, seed, f"{_file(arm)}-try-{tried}-seed-{seed}", tried))
    return _once(trials)


def arm_trials(name: str, claim: Reproduction, seeds: Sequence[int], chosen: Mapping[str, int], *, limit: int | None = None) -> list[Trial]:
    """Every arm under every seed, with the fixtures they need."""
    trials: list[Trial] = []
    for seed in seeds:
        trials += _fixtures(name, claim, list(claim.arms.values()), seed, limit)
        for arm in claim.arms:
            trials.append(_trial(name, claim, arm, seed, f"{_file(arm)}-seed-{seed}", chosen.get(arm), limit))
    return _once(trials)


def _once(trials: Sequence[Trial]) -> list[Trial]:
    """Each trial at its first place: a fixture that all seeds share is made once."""
    return list({trial.name: trial for trial in reversed(trials)}.values())[::-1]


def _fixtures(name: str, claim: Reproduction, arms: Sequence[Arm], seed: int, limit: int | None = None) -> list[Trial]:
    """The fixtures that these arms need, each after those that it needs itself."""
    listed: dict[str, None] = {}

    def add(fixture: str) -> None:
        for deeper in claim.fixtures[fixture].fixtures():
            add(deeper)
        listed[fixture] = None

    for arm in arms:
        for fixture in arm.fixtures():
            add(fixture)
    return [
        Trial(
            _named(claim, fixture, seed),
            FUNCTION,
            _settings(name, "fixture", fixture, claim.seed_of(fixture, seed), limit=limit),
            tuple(_named(claim, deeper, claim.seed_of(fixture, seed)) for deeper in claim.fixtures[fixture].fixtures()),
        )
        for fixture in listed
    ]


def _trial(name: str, claim: Reproduction, arm: str, seed: int, called: str, tried: int | None, limit: int | None = None) -> Trial:
    after = tuple(_named(claim, fixture, seed) for fixture in claim.arms[arm].fixtures())
    return Trial(called, FUNCTION, _settings(name, "arm", arm, seed, tried, limit), after)


def _settings(name: str, kind: str, what: str, seed: int, tried: int | None = None, limit: int | None = None) -> dict[str, Any]:
    settings: dict[str, Any] = {"reproduction": name, "kind": kind, "name": what, "seed": seed}
    return settings | ({} if tried is None else {"tried": tried}) | ({} if limit is None else {"limit": limit})


def _named(claim: Reproduction, fixture: str, seed: int) -> str:
    return f"fixture-{_file(fixture)}-seed-{claim.seed_of(fixture, seed)}"


def _file(name: str) -> str:
    return "".join(c if c.isalnum() or c in "-_+." else "-" for c in name)


def _all(part: str, trials: Sequence[Trial], place: Path, pool: Pool, shown: Progress, until: float | None) -> dict[str, Outcome]:
    shown.part(part, len(trials))
    outcomes = carry_out(trials, place, pool, told=shown.told, until=until)
    lost = [o for o in outcomes.values() if o.error]
    if lost:
        first = next((o for o in lost if "which failed" not in str(o.error)), lost[0])
        raise Failed(f"{len(lost)} trials failed, {first.name} first: {first.error}; its log is {place / first.name}.log")
    if len(outcomes) < len(trials):
        raise Unfinished(f"time was up with {len(outcomes)} of {len(trials)} trials done; the same command goes on")
    return outcomes


def _chosen(arm: str, tries: Sequence[Mapping[str, Any]], outcomes: Mapping[str, Outcome], seeds: int) -> dict[str, Any]:
    """The try with the best mean accuracy on validation; of equal ones the first."""
    means = []
    for tried in range(len(tries)):
        values = [(outcomes[f"{_file(arm)}-try-{tried}-seed-{s}"].found or {})["validation"] for s in range(TUNING, TUNING + seeds)]
        means.append(sum(values) / len(values))
    return {"tries": [dict(each) for each in tries], "validation": means, "chosen": means.index(max(means))}


def check_equal(claim: Reproduction) -> dict[str, int]:
    """The updates of each arm's product; refuses arms that are not on equal terms.

    Raises:
        BadInput: names the arms and their updates.
    """
    found = {arm: updates_of(claim, each) for arm, each in claim.arms.items() if each.recipe is not None}
    compared = {arm: n for arm, n in found.items() if not claim.arms[arm].unequal}
    if len(set(compared.values())) > 1:
        said = ", ".join(f"{arm} {n}" for arm, n in compared.items())
        raise BadInput(f"the arms have different numbers of updates: {said}; make them equal, or say in `unequal` why that is fair")
    return found


def updates_of(claim: Reproduction, arm: Arm) -> int:
    """How often an arm updates its product; builds no model."""
    data = (arm.data or claim.data)(0)
    teacher = None
    if arm.fixture is not None:
        made = claim.fixtures[arm.fixture]
        teacher = models.model_from(made.student, "teacher", data=data, seed=0)
    others = {r: models.model_from(claim.fixtures[name].student, r, data=data, seed=0) for r, name in arm.teachers.items()}
    plan = planned(arm, data, teacher, 0, 0 if arm.tries else None, others=others)
    return plan.updates(plan.product)
