"""Tuning: better knobs for each recipe before it is compared, at equal cost, by Optuna; on validation alone, with a seed of its own.

Each recipe may spend as many updates as `tune` whole trainings have. What a pruned attempt leaves is spent on further ones, but none begins
with less than a whole training left. A recipe has one attempt at a time, so what it tries does not depend on how many run beside it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tutelage.errors import Interrupted, NotFinite
from tutelage.jobs.comparison.budget import Stopwatch
from tutelage.jobs.comparison.contenders import Contender
from tutelage.jobs.comparison.storages import opened, unusable
from tutelage.jobs.pool import Pool
from tutelage.jobs.settings import chosen_knobs
from tutelage.jobs.trials import Told, alone_in, listening, outcome_of, work
from tutelage.randomness import derive
from tutelage.training import Fit, Run, RunOptions, train

AROUND = 10.0
"""The learning rate is tuned between its default divided by this and multiplied by it."""
RANDOM = 4
"""Attempts before Optuna's model takes over: the defaults, then random ones."""
UNPRUNED = 2
"""Whole attempts before any is pruned, and the share of a training that none is pruned before."""
EARLY = 0.25
MOST = 10
"""Attempts for each whole training of the budget, at most: those that break off at once cost next to nothing."""


@dataclass(frozen=True)
class Tuned:
    """What tuning gave for a recipe.

    Args:
        knobs: the best ones, "fit.lr" among them; empty where no attempt was finished.
        report: as compare.json says it.
        seconds: that the attempts took.
    """

    knobs: dict[str, float]
    report: dict[str, Any]
    seconds: float


def ranges(contender: Contender) -> dict[str, tuple[Any, ...]]:
    """What is tuned, and between what: the learning rate, and what the recipe declares; not what was given for it."""
    declared = contender.function.about.tune  # type: ignore[attr-defined]
    found: dict[str, tuple[Any, ...]] = {}
    fit = contender.knobs.get("fit")
    if isinstance(fit, Fit) and "fit" not in contender.fixed:
        found["fit.lr"] = (fit.lr / AROUND, fit.lr * AROUND, "log")
    return found | {name: tuple(each) for name, each in declared.items() if name not in contender.fixed}


def changed(knobs: Mapping[str, Any], tuned: Mapping[str, float]) -> dict[str, Any]:
    """Knobs with what was tuned put in."""
    found = dict(knobs)
    for name, value in tuned.items():
        outer, _, inner = name.partition(".")
        found[outer] = replace(found[outer], **{inner: value}) if inner else value
    return found


class _Study:
    """One recipe's attempts."""

    def __init__(self, contender: Contender, training: Mapping[str, Any], updates: int, storage: Any, name: str) -> None:
        import optuna

        self.contender, self.training, self.updates, self.name = contender, training, updates, name
        self.knobs = chosen_knobs(contender.function, contender.name, training["knobs"])
        self.ranges = ranges(contender)
        pruner = _pruner(updates)
        self.study = optuna.create_study(study_name=name, storage=storage, pruner=pruner, direction="maximize", load_if_exists=True)
        for left in self.study.get_trials(states=(optuna.trial.TrialState.RUNNING,)):  # when the process was killed
            self.study.tell(left.number, state=optuna.trial.TrialState.FAIL)
            self.study.enqueue_trial(left.params)
        if not self.study.trials:
            start = {n: v for n, v in _values(contender.knobs, self.ranges).items() if self.ranges[n][0] <= v <= self.ranges[n][1]}
            self.study.enqueue_trial(start)

    def used(self) -> int:
        return sum(trial.user_attrs.get("updates", 0) for trial in self.study.trials)

    def more(self, tune: int) -> bool:
        """Whether there is budget for another attempt."""
        begun = sum(trial.state.is_finished() for trial in self.study.trials)
        return bool(self.ranges) and tune * self.updates - self.used() >= self.updates and begun < MOST * tune

    def ask(self) -> Any:
        import optuna

        count = sum(trial.state.is_finished() for trial in self.study.trials)
        # seeded by the place in the row, so that a resumed row goes on as if nothing had happened
        self.study.sampler = optuna.samplers.TPESampler(seed=derive("tuning", self.name, count) % 2**32, n_startup_trials=RANDOM)
        made: dict[str, Any] = {n: optuna.distributions.FloatDistribution(r[0], r[1], log="log" in r[2:]) for n, r in self.ranges.items()}
        return self.study.ask(made)

    def tell(self, trial: Any, found: Mapping[str, Any], seconds: float) -> None:
        import optuna

        trial.set_user_attr("seconds", seconds)
        trial.set_user_attr("updates", found["updates"])
        if found.get("error"):
            trial.set_user_attr("error", found["error"])
            self.study.tell(trial, state=optuna.trial.TrialState.FAIL)
        elif found["pruned"]:
            self.study.tell(trial, state=optuna.trial.TrialState.PRUNED)
        else:
            self.study.tell(trial, found["validation"])

    def result(self) -> Tuned:
        tried = []
        for trial in self.study.trials:
            if trial.state.is_finished() and "updates" in trial.user_attrs:
                state = trial.state.name
                row = {"knobs": dict(trial.params), "validation": trial.value if state == "COMPLETE" else None, "pruned": state == "PRUNED"}
                error = {"error": trial.user_attrs["error"]} if "error" in trial.user_attrs else {}
                tried.append({**row, "updates": trial.user_attrs["updates"], **error})
        whole = [row for row in tried if row["validation"] is not None]
        best = max(whole, key=lambda row: row["validation"], default=None)
        chosen = {} if best is None else best["knobs"]
        report = {
            "trials": len(tried),
            "pruned": sum(row["pruned"] for row in tried),
            "updates": sum(row["updates"] for row in tried),
            "chosen": chosen,
            "validation": None if best is None else best["validation"],
            "tried": tried,
        }
        return Tuned(chosen, report, sum(trial.user_attrs.get("seconds", 0.0) for trial in self.study.trials))


def tune(
    trainings: Sequence[tuple[Contender, Mapping[str, Any], int, Mapping[str, Any]]],
    amount: int,
    folder: Path,
    pool: Pool,
    *,
    metric: str,
    storage: str | None = None,
    told: Told = lambda event, name, outcome: None,
) -> dict[str, Tuned]:
    """Tune each recipe; attempts that were finished before are kept.

    Args:
        trainings: of each recipe the contender, what `trainings.prepared` takes, the updates of a whole training, and what else it takes
            that says only where things lie.
        amount: whole trainings that each may spend.
        folder: where the journal lies, and logs.
        pool: what runs the attempts.
        metric: of the validation split, of which more is better.
        storage: the address of a database instead of the journal.
        told: hears what happens to which attempt.

    Returns:
        By recipe, what was found.

    Raises:
        Interrupted: told to stop; attempts that were not finished are begun anew later.
        BadInput: the storage cannot be opened.
    """
    folder.mkdir(parents=True, exist_ok=True)
    kept = opened(storage, folder)
    studies = []
    for contender, training, updates, _ in trainings:
        # of this comparison and no other: a database may hold many
        identity = derive("study", str(sorted(training.items(), key=str)), updates, amount, metric)
        try:
            studies.append(_Study(contender, training, updates, kept, f"tutelage-{contender.slug}-{identity:x}"))
        except Exception as error:  # whatever Optuna makes of what it finds there
            raise unusable(storage, folder, error) from None
    asides = {contender.name: aside for contender, _, _, aside in trainings}
    running: dict[Future[Any], tuple[_Study, Any, str]] = {}
    with alone_in(folder), listening() as asked:
        while True:
            busy = {study.name for study, _, _ in running.values()}
            for study in studies:
                if asked or len(running) >= pool.workers or study.name in busy or not study.more(amount):
                    continue
                trial = study.ask()
                label = f"tune-{study.contender.slug}-{trial.number}"
                told("begun", label, None)
                settings = {
                    **study.training,
                    "knobs": study.contender.plain(changed(study.knobs, trial.params)),
                    **asides[study.contender.name],
                    "study": study.name,
                    "trial": trial._trial_id,
                    "metric": metric,
                    "storage": storage,
                    "updates": study.updates,
                }
                running[pool.submit(work, f"{__name__}:attempt", str(folder), label, settings, pool.threads)] = study, trial, label
            done, _ = wait(running, timeout=0 if asked else 0.2, return_when=FIRST_COMPLETED) if running else (set(), set())
            for future in done:
                study, trial, label = running.pop(future)
                outcome = outcome_of(future, label)
                if outcome.error and asked:
                    continue
                study.tell(trial, outcome.found or {"updates": study.updates, "pruned": False, "error": outcome.error}, outcome.seconds)
                told("failed" if outcome.error else "done", label, outcome)
            if asked:
                raise Interrupted("stopped while tuning; finished attempts are kept", asked[0])
            if not running and not any(study.more(amount) for study in studies):
                break
    return {study.contender.name: study.result() for study in studies}


class _Pruned(Exception):
    """The attempt is not worth going on with."""


def attempt(folder: Path, *, study: str, trial: int, metric: str, storage: str | None, updates: int, **training: Any) -> dict[str, Any]:
    """Train once with the knobs that were proposed; after each epoch Optuna is told how good the student is, and may end it.

    Args:
        folder: beside it lies the journal; nothing of the attempt is kept but its numbers.
        study: name of the study.
        trial: Optuna's id of the attempt.
        metric: what is reported.
        storage: where the study is kept; None for the journal.
        updates: of a whole training.
        training: see `trainings.prepared`.

    Returns:
        `validation`, None where it was pruned or broke off; `pruned`; `updates` that it took; and `error` where the loss was not finite.
    """
    import optuna

    from tutelage.jobs.comparison.trainings import numbers_of, prepared

    kept = optuna.load_study(study_name=study, storage=opened(storage, folder.parent), pruner=_pruner(updates))
    reported = optuna.trial.Trial(kept, trial)
    ready = prepared(**training)
    assert ready.data.validation is not None
    source = ready.data.validation
    teacher = ready.teacher_on("validation", source) if metric == "agreement" else None
    watch = Stopwatch()
    plan = ready.plan.map(lambda stage: replace(stage, parts=[*stage.parts, watch]))

    def epoch(model: Any) -> Mapping[str, float]:
        numbers = numbers_of(model, source, teacher)
        reported.report(numbers[metric], len(watch.times))
        if reported.should_prune():
            raise _Pruned
        return numbers

    try:
        train(plan, Run(None, seed=training["seed"], options=RunOptions(quiet=True), watch=epoch, views=ready.views))
    except _Pruned:
        return {"validation": None, "pruned": True, "updates": len(watch.times)}
    except NotFinite as error:
        return {"validation": None, "pruned": False, "updates": len(watch.times), "error": str(error)}
    return {"validation": numbers_of(plan.product, source, teacher)[metric], "pruned": False, "updates": len(watch.times)}


def _pruner(updates: int) -> Any:
    import optuna

    return optuna.pruners.MedianPruner(n_startup_trials=UNPRUNED, n_warmup_steps=int(EARLY * updates))


def _values(knobs: Mapping[str, Any], names: Mapping[str, Any]) -> dict[str, float]:
    """The values that knobs have now."""
    found: dict[str, float] = {}
    for name in names:
        outer, _, inner = name.partition(".")
        found[name] = float(getattr(knobs[outer], inner) if inner else knobs[outer])
    return found
