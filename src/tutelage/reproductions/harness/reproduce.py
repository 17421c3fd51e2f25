"""reproduce: measure a claim, judge it, and write the result; or replay what was recorded. What `tutelage reproduce` calls."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from tutelage.errors import BadInput
from tutelage.jobs.pool import Pool, cores, pool
from tutelage.jobs.progress import Progress
from tutelage.reproductions import RESULTS, load
from tutelage.reproductions.harness import drive, replay, results

THREADS = 1
"""Of torch in every trial, whatever the machine: with more, sums are added in an order that depends on their number."""


def reproduce(
    name: str,
    *,
    seeds: int | None = None,
    workers: int | None = None,
    engine: str = "processes",
    address: str | None = None,
    out: str | Path | None = None,
    until: float | None = None,
    quiet: bool = False,
) -> tuple[dict[str, Any], Path]:
    """Measure a claim and write the result.

    Args:
        name: of a reproduction, or a file with one.
        seeds: compare so many, instead of those that the claim states; needs `out`, since it is another experiment.
        workers: trials at a time; None: one a core.
        engine: "processes" or "ray".
        address: of a Ray cluster.
        out: the file; default: `results/NAME.json` in a checkout, beside a user's own file, else below runs/reproductions.
        until: begin nothing after this `time.monotonic()`.
        quiet: print no progress.

    Returns:
        The result, see `results`, and where it was written.

    Raises:
        BadInput: no such reproduction, or arms that are not on equal terms.
        Unfinished, Failed, Interrupted: as `carried` says; what is done is kept.
    """
    if seeds is not None and out is None:
        raise BadInput(
            "--seeds changes what the claim states, so its result does not belong with the others; say where it goes: --out FILE"
        )
    load(name)
    file = default_out(name) if out is None else Path(out)
    if file.suffix != ".json" or file.is_dir():
        raise BadInput(f"--out {file}: expected a file that ends in .json")
    with _opened(engine, workers, address) as running, Progress(not quiet, running.workers) as shown:
        carried = drive.carried(name, running, seeds=seeds, shown=shown, until=until)
        found = results.results(name, carried, THREADS)
        chosen = {arm: said["chosen"] for arm, said in carried.tuned.items()}
        found["prefix"] = replay.prefix(name, running, chosen, shown)
    results.write(found, file)
    return found, file


def check_recorded(name: str, *, workers: int | None = None, engine: str = "processes", address: str | None = None) -> int:
    """Replay the recorded first updates of one seed.

    Args:
        name: of a reproduction, or a file with one.
        workers: trials at a time; None: one a core.
        engine: "processes" or "ray".
        address: of a Ray cluster.

    Returns:
        How many numbers were compared.

    Raises:
        MissingFile: nothing is recorded.
        Differs: the code no longer does what the result says.
    """
    load(name)
    recorded = results.read(default_out(name))
    with _opened(engine, workers, address) as running:
        return replay.check(name, recorded, running)


def foreseen(name: str, seeds: int | None = None) -> tuple[list[tuple[str, str, int, int, int]], float]:
    """What would be trained.

    Args:
        name: of a reproduction, or a file with one.
        seeds: instead of those that the claim states.

    Returns:
        For each fixture and arm its name, recipe, updates, trainings, and how many of these are done already; and the minutes in all.

    Raises:
        BadInput: no such reproduction, or arms that are not on equal terms.
    """
    claim = load(name)
    drive.check_equal(claim)
    count = seeds or claim.seeds
    tuning, compared = drive.tuning_trials(name, claim), drive.arm_trials(name, claim, range(count), {})
    place = drive.folder_of(name)
    done = {path.stem for path in place.glob("*.json")}
    rows = []
    for kind, things in (("fixture", claim.fixtures), ("arm", claim.arms)):
        for what, arm in things.items():
            own = [t.name for t in [*tuning, *compared] if (t.settings["kind"], t.settings["name"]) == (kind, what)]
            recipe = arm.recipe if isinstance(arm.recipe, str) else arm.recipe.__name__ if arm.recipe else "measured as it is"
            updates = 0 if arm.recipe is None else drive.updates_of(claim, arm)
            rows.append((f"{what} ({kind})", recipe, updates, len(own), sum(n in done for n in own)))
    return rows, claim.minutes * count / claim.seeds


def default_out(name: str) -> Path:
    """Where a result goes: with the committed ones in a checkout, beside a user's own file, else below runs."""
    if name.endswith(".py"):
        return Path(name).parent / "results" / f"{Path(name).stem.replace('_', '-')}.json"
    checkout = (RESULTS.parents[3] / "pyproject.toml").is_file()
    return (RESULTS if checkout else Path("runs") / "reproductions") / f"{name.replace('_', '-')}.json"


def _opened(engine: str, workers: int | None, address: str | None) -> AbstractContextManager[Pool]:
    count = cores() if workers is None and engine == "processes" else workers
    return pool(engine, count, threads=THREADS, address=address)
