"""Trials: many trainings that one question needs, carried out beside each other; what is finished is kept and never done again.

A trial is a function that can be imported by name, and plain settings. What it gives lies in FOLDER/NAME.json, written when it is done;
what it says goes to FOLDER/NAME.log; and it may keep files of its own in FOLDER/NAME. One that fails loses nothing of the others.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import re
import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, CancelledError, Future, wait
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from tutelage.errors import BadInput, Interrupted, Mismatch, in_short, nearest
from tutelage.jobs.pool import Pool
from tutelage.training.checkpoint import write_text_atomically

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

FORMAT = 1


@dataclass(frozen=True)
class Trial:
    """One piece of work.

    Args:
        name: unique, and fit for a file's name.
        function: "package.module:function"; called with `folder`, where it may write, and the settings; gives a mapping of plain values.
        settings: plain values: they decide whether what is kept is still what is asked for.
        after: names of the trials whose results must be there first.
        aside: settings that are neither compared nor written down: where things lie, and what nobody else should read.
    """

    name: str
    function: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    after: tuple[str, ...] = ()
    aside: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Outcome:
    """How a trial ended.

    Args:
        name: of the trial.
        found: what its function gave; None where it failed.
        seconds: how long it took.
        error: what went wrong, in a line; None where nothing did.
    """

    name: str
    found: Mapping[str, Any] | None
    seconds: float = 0.0
    error: str | None = None


Event = Literal["kept", "begun", "done", "failed", "left"]
Told = Callable[[Event, str, "Outcome | None"], None]
"""Hears what happens to which trial: "kept" from before, "begun", "done", "failed", or "left" undone when time was up."""


def carry_out(
    trials: Sequence[Trial],
    folder: Path,
    pool: Pool,
    *,
    told: Told = lambda event, name, outcome: None,
    until: float | None = None,
) -> dict[str, Outcome]:
    """Carry out all trials that are not finished yet, as many beside each other as the pool has room for.

    Args:
        trials: in the order in which they are begun, as far as what they wait for allows.
        folder: where results are kept; made where it is missing.
        pool: what runs them.
        told: hears what happens.
        until: no trial is begun after this `time.monotonic()`; those that run are waited for.

    Returns:
        By name, in order, how each ended; without those that were left undone.

    Raises:
        BadInput: two trials of one name, one that waits for a trial that is not there, or another process is at work in the folder.
        Mismatch: the folder holds a result of other settings under the same name.
        Interrupted: SIGINT or SIGTERM; what is finished is kept, and trials that can save themselves are told to.
    """
    _check(trials)
    folder.mkdir(parents=True, exist_ok=True)
    with alone_in(folder), listening() as asked:
        ended: dict[str, Outcome] = {}
        for trial in trials:
            kept = _read(folder, trial)
            if kept is not None:
                ended[trial.name] = kept
                told("kept", trial.name, kept)
        waiting = [trial for trial in trials if trial.name not in ended]
        running: dict[Future[Any], Trial] = {}
        while waiting or running:
            for trial in list(waiting):
                lost = next((name for name in trial.after if name in ended and ended[name].error), None)
                if lost is not None:
                    waiting.remove(trial)
                    ended[trial.name] = Outcome(trial.name, None, error=f"it needs {lost}, which failed")
                    told("failed", trial.name, ended[trial.name])
            late = until is not None and time.monotonic() >= until
            ready = [trial for trial in waiting if all(name in ended for name in trial.after)]
            for trial in [] if late or asked else ready[: pool.workers - len(running)]:
                waiting.remove(trial)
                told("begun", trial.name, None)
                settings = {**trial.settings, **trial.aside}
                running[pool.submit(work, trial.function, str(folder), trial.name, settings, pool.threads)] = trial
                if asked:
                    break
            done, _ = wait(running, timeout=0 if asked else 0.2, return_when=FIRST_COMPLETED)
            for future in done:
                trial = running.pop(future)
                outcome = outcome_of(future, trial.name)
                if outcome.error is not None and asked:
                    continue  # it was told to stop, too
                ended[trial.name] = outcome
                if outcome.error is None:
                    _write(folder, trial, outcome)
                told("failed" if outcome.error else "done", trial.name, outcome)
            if asked and len(ended) < len(trials):
                raise Interrupted(f"stopped with {len(ended)} of {len(trials)} trials finished; the same command goes on", asked[0])
            if late and not running:
                for trial in waiting:
                    told("left", trial.name, None)
                break
    return {trial.name: ended[trial.name] for trial in trials if trial.name in ended}


def finished(trials: Sequence[Trial], folder: Path) -> dict[str, Outcome]:
    """Those of the trials whose results are kept in the folder."""
    return {trial.name: kept for trial in trials if (kept := _read(folder, trial)) is not None}


def work(function: str, folder: str, name: str, settings: Mapping[str, Any], threads: int) -> dict[str, Any]:
    """Carry out one trial, in whatever process this is; its output goes to its log.

    Returns:
        `found` and `seconds`, or `error`.

    Raises:
        Interrupted: it was told to stop.
    """
    import torch

    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    before, start = torch.get_num_threads(), time.perf_counter()
    torch.set_num_threads(threads)
    own = Path(folder) / name
    own.parent.mkdir(parents=True, exist_ok=True)
    try:
        with contextlib.ExitStack() as log:
            said = log.enter_context(own.with_name(f"{name}.log").open("a", encoding="utf-8"))
            log.enter_context(contextlib.redirect_stdout(said))
            log.enter_context(contextlib.redirect_stderr(said))
            try:
                found = _function(function)(folder=own, **settings)
                return {"found": dict(found), "seconds": time.perf_counter() - start}
            except Interrupted:
                raise
            except (Exception, SystemExit) as error:
                traceback.print_exc()
                return {"error": f"{type(error).__name__}: {in_short(error)}", "seconds": time.perf_counter() - start}
    finally:
        torch.set_num_threads(before)


def _function(name: str) -> Callable[..., Mapping[str, Any]]:
    module, _, function = name.partition(":")
    return getattr(importlib.import_module(module), function)


def outcome_of(future: Future[Any], name: str) -> Outcome:
    """What a call of `work` has come to.

    Raises:
        Interrupted: it was told to stop, in this process.
    """
    try:
        given = future.result()
    except Interrupted:
        raise
    except (Exception, CancelledError) as error:  # the process that ran it has died
        code = getattr(error, "exitcode", None)
        died = "its process died" if code is None else f"its process died (exit code {code}); a code of -9 is often a lack of memory"
        said = re.sub(r"\x1b\[[0-9;]*m", "", in_short(error))  # Ray colours what it says
        return Outcome(name, None, error=died if code is not None or not said else f"{type(error).__name__}: {said}")
    return Outcome(name, given.get("found"), given["seconds"], given.get("error"))


def _check(trials: Sequence[Trial]) -> None:
    names = [trial.name for trial in trials]
    for name in names:
        if names.count(name) > 1 or "/" in name or name.startswith("."):
            raise BadInput(f"trial {name!r}: expected distinct names that can be files")
    for trial in trials:
        for wanted in trial.after:
            if wanted not in names:
                raise BadInput(f"trial {trial.name!r} waits for {wanted!r}, which is not there{nearest(wanted, names)}")


def _plain(settings: Mapping[str, Any]) -> Any:
    return json.loads(json.dumps(settings))


def _read(folder: Path, trial: Trial) -> Outcome | None:
    file = folder / f"{trial.name}.json"
    try:
        kept = json.loads(file.read_text())
        outcome = Outcome(**{**kept["outcome"], "name": trial.name})
        was = kept["settings"]
        if outcome.error is not None or not (
            isinstance(was, dict) and isinstance(outcome.found, dict) and isinstance(outcome.seconds, float)
        ):
            raise TypeError
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError, RecursionError):
        raise BadInput(f"{file} is damaged; delete it, and the trial is done again") from None
    if was != _plain(trial.settings):
        changed = sorted(k for k in {*was, *trial.settings} if was.get(k) != _plain(trial.settings).get(k))
        raise Mismatch(f"{file} was made with another {', '.join(changed)}; take another folder, or delete it")
    return outcome


def _write(folder: Path, trial: Trial, outcome: Outcome) -> None:
    said = {"format": FORMAT, "function": trial.function, "settings": dict(trial.settings), "outcome": asdict(outcome)}
    write_text_atomically(folder / f"{trial.name}.json", json.dumps(said, indent=1))


@contextlib.contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Hold a folder for this process, until it ends in whatever way, so that no two write the same trials.

    Raises:
        BadInput: another process holds it.
    """
    if fcntl is None:  # not on Windows
        yield
        return
    with (folder / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BadInput(f"another process is at work in {folder}; wait for it, or take another folder") from None
        except OSError:  # a file system without locks
            pass
        yield


@contextlib.contextmanager
def listening() -> Iterator[list[int]]:
    """Note SIGINT and SIGTERM; a second one stops at once."""
    heard: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield heard
        return

    def hear(number: int, _frame: Any) -> None:
        if heard:
            raise KeyboardInterrupt
        heard.append(number)

    before = {number: signal.signal(number, hear) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield heard
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
