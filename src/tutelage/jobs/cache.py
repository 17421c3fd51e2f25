"""cache: ask a teacher once, and keep on disk what it showed; any number of students are then taught from there."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from tutelage.data import Data
from tutelage.errors import BadInput, Mismatch, printable
from tutelage.evaluation import costs, processor, size_of
from tutelage.jobs import models, sources
from tutelage.jobs.cached import is_cache
from tutelage.jobs.caching import estimate, outline, writing
from tutelage.jobs.caching.asking import Asker
from tutelage.jobs.caching.claims import Claims
from tutelage.jobs.caching.contents import contents
from tutelage.jobs.caching.estimate import Row
from tutelage.jobs.caching.progress import Bar
from tutelage.jobs.caching.wish import resolved, wished
from tutelage.jobs.estimate import check_weights
from tutelage.jobs.taps import check_classes, traced
from tutelage.jobs.tokenizers import check_tokens, with_tokenizer
from tutelage.randomness import derive
from tutelage.signals import Depth, Model
from tutelage.signals.cache import About, Cache, check_source, preprocessing_of, read_about, refuse_other, weights_of
from tutelage.signals.cache.about import FILE
from tutelage.training import Run, RunOptions

BATCH = 64
"""Samples a pass, where nothing else is asked for;"""
AT_ONCE = 2**27
"""and as many of their logits at most (512 MiB)."""


@dataclass(frozen=True)
class Result:
    """What a job gave.

    Args:
        folder: the cache; None after a dry run.
        about: what it holds, or would.
        rows: what was estimated before anything was written.
        contents: what was found in the folder afterwards, as `show` gives it; empty after a dry run.
        written: shards that this process wrote; others were there, or written by other processes.
        seconds: that the writing took, waiting for other processes included.
    """

    folder: Path | None
    about: About
    rows: list[Row]
    contents: Mapping[str, Any] = field(default_factory=dict)
    written: int = 0
    seconds: float = 0.0


def cache(
    teacher: Any,
    data: Any = "digits",
    *,
    out: str | Path,
    keep: str = "all",
    taps: str | float | Depth | Iterable[str | float | Depth] = (),
    logits_as: str | None = None,
    taps_as: str = "full",
    temperature: float = 1.0,
    views: int = 0,
    batch_size: int | None = None,
    seed: int = 0,
    evaluation: bool = True,
    max_gib: float | None = None,
    dry_run: bool = False,
    trust_code: bool = False,
    shard_mib: float = 64.0,
    options: RunOptions = RunOptions(),
) -> Result:
    """Ask a teacher about all samples once, and keep its answers on disk: students are then taught from there, without the teacher.

    The same call goes on where an earlier one was stopped; several processes that make it at once share the work.

    Args:
        teacher: who is asked: a run folder, hf:FOLDER_OR_ID, timm:NAME, a built-in net with weights=FILE, file.py:function, or in Python a
            module or Model.
        data: what it is asked about, as in `distill`.
        out: folder of the cache.
        keep: of each sample's logits: all, top-K (the K likeliest classes), sample-K (K classes drawn so that all are right on average),
            or none.
        taps: features to keep: module paths, or shares of the depth such as 0.5.
        logits_as: how their numbers are kept: full, float16, bfloat16 or, of sparse ones, 8-bit; default: full for all, else 8-bit.
        taps_as: how the features' numbers are kept: full, float16, bfloat16, or 8-bit with a range for each channel.
        temperature: what top-K and sample-K logits are divided by first; students must be taught at this temperature.
        views: augmented views of each training sample that are kept besides the plain one; students study them in turn.
        batch_size: samples the teacher is asked about at a time; None means 64, or fewer where their logits would fill the memory. That
            of the students gives them, from full precision, just the bits that the teacher itself would give.
        seed: of the views and of what sample-K draws.
        evaluation: keep all logits of validation and test, too, so that reports compare students with the teacher.
        max_gib: refuse a cache that would be larger.
        dry_run: show what would be written, and write nothing.
        trust_code: let a run folder name a .py file whose code then runs.
        shard_mib: about how large a file becomes.
        options: where to compute and in what precision, and whether to be quiet; the others do nothing here.

    Returns:
        What was written.

    Raises:
        BadInput: anything the user gave that cannot be used; raised before anything is written.
        Mismatch: the folder holds a cache of something else.
        Interrupted: stopped by a signal; what was finished is kept.
        Failed: the disk does not take it.
    """
    wish = wished(keep, taps, logits_as, taps_as, temperature, views, BATCH if batch_size is None else batch_size, seed)
    if max_gib is not None and not 0 < max_gib < math.inf:
        raise BadInput(f"max_gib={max_gib}: expected a positive finite number")
    if not 0 < shard_mib < math.inf:
        raise BadInput(f"shard_mib={shard_mib}: expected a positive finite number")
    folder = writing.check_target(out)
    handle, studied = _teacher(teacher, data, seed, trust_code)
    _check_views(studied, views)
    check_weights({"teacher": handle})
    check_classes({"teacher": handle}, studied)
    trace = traced(handle, "teacher", studied)
    named = resolved(wish.taps, handle, trace)
    run = Run(None, seed=seed, options=options)
    main = run.accelerator.is_main_process
    shown = main and not options.quiet
    if batch_size is None and trace.logits is not None:
        wish = replace(wish, batch_size=_together(trace.logits, studied))
    asker = Asker(handle, run, wish.batch_size, seed)
    handle.module.to(run.device)
    with handle.mode(training=False), run.listening():
        first = outline.first_of(asker, studied.train, named, wish.form is not None or trace.logits is not None)
        kept = outline.splits_of(studied, evaluation and trace.logits is not None)
        about = outline.outlined(wish, asker, studied, kept, named, first, shard_mib)
        if (folder / FILE).is_file():
            refuse_other(read_about(folder), about, folder)
        seconds, positions = estimate.timed(asker, about, kept, named)
        rows = estimate.rows_of(about, folder, wish.batch_size, seconds, positions, outline.dtype_of(first))
        estimate.check_space(rows, folder, max_gib)
        if dry_run:
            return Result(None, about, rows)
        if shown:
            _say(about, rows, studied, folder)
        with _claims(folder) as claims:
            measured = _measure(handle, studied, run)
            about = writing.begin(folder, about, claims, measured, lambda: run.stop_signal)
            start = time.perf_counter()
            work = writing.Work(folder, about, kept, named, asker)
            with Bar(shown, writing.passes_of(work)) as bar:
                written = writing.write(work, claims, bar, lambda: run.stop_signal)
            took = time.perf_counter() - start
            claims.finish()
    return Result(folder, about, rows, contents(folder, about), written, took)


def _teacher(given: Any, data: Any, seed: int, trust_code: bool) -> tuple[Model, Data]:
    """The teacher's handle, and the data, which take their classes from it where they have no labels to count them by."""
    studied = sources.data_from(with_tokenizer(data, given))
    if given is None:
        raise BadInput("no teacher is given; expected a run folder or a model")
    if is_cache(given):
        raise BadInput(f"the teacher {str(given)!r} is a cache, and a cache cannot be asked about anything new; give the model itself")
    handle = models.model_from(given, "teacher", data=studied, seed=derive("weights", seed, "teacher"), trust_code=trust_code)
    if studied.class_count() is None and handle.classes:
        studied = replace(studied, classes=handle.classes)
    sources.check(studied)
    check_tokens({"teacher": handle}, studied)
    if not handle.trained and handle.spec is not None:
        raise BadInput(
            f"the teacher {given!r} has no weights trained for these classes; give a run folder or weights=FILE "
            "(tutelage distill --recipe alone trains one)"
        )
    return handle, studied


def _together(logits: torch.Size, data: Data) -> int:
    """How many samples are asked about at once; texts may be longer than those that were traced."""
    longer = max(1, int(data.prepared.get("length", 1)) // logits[1]) if len(logits) == 3 else 1
    return max(1, min(BATCH, AT_ONCE // (logits[1:].numel() * longer)))


def _check_views(data: Data, views: int) -> None:
    varies = data.train.varies()
    if varies and not views:
        raise BadInput(
            f"{data.train.name} is augmented, so a student sees each sample in another way in each epoch, and must not be taught what the "
            "teacher said of the plain one; give the number of views to keep, such as --views 4, or leave the augmentation out"
        )
    if views and not varies:
        raise BadInput(
            f"views={views}, but nothing is drawn for a sample of {data.train.name}, so all its views are alike; leave --views out"
        )


def _say(about: About, rows: list[Row], data: Data, folder: Path) -> None:
    from rich.console import Console

    out = Console(file=sys.stderr) if sys.stderr.isatty() else Console(file=sys.stderr, width=140)
    print(printable(f"data: {data.name}: {sources.in_a_line(data)}"), file=sys.stderr)
    free = estimate.size(estimate.free_at(folder))
    out.print(estimate.table_of(rows, f"What {about.teacher['name']} shows, kept in {folder} ({free} free)"))


def _claims(folder: Path) -> Claims:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return Claims(folder)
    except (OSError, ValueError) as error:
        raise BadInput(f"--out {folder} cannot be written to: {getattr(error, 'strerror', None) or error}") from None


def _measure(handle: Model, data: Data, run: Run) -> Any:
    """A function that measures what the teacher costs, as reports say it."""

    def measured() -> dict[str, Any]:
        timing = {"threads": torch.get_num_threads(), "processor": processor(run.device), "device": run.device.type}
        found = costs({"teacher": handle}, data.train, device=run.device)["teacher"]
        return {**size_of(handle.module), **found, "timing": timing}

    return measured


def show(path: str | Path, teacher: Any = None, data: Any = None, trust_code: bool = False) -> dict[str, Any]:
    """Look at what a cache holds, and compare all bits with their checksums.

    Args:
        path: its folder.
        teacher: a model, which must be the one that was asked; built for `data`.
        data: the data, which must be those that it was asked about.
        trust_code: let a run folder name a .py file whose code then runs.

    Returns:
        Plain values: see `caching.contents`; and `others`, what the teacher or the data at hand do not have in common with the cache's,
        both sides named.

    Raises:
        MissingFile: there is no cache.
        DamagedCache: its description cannot be read.
        BadInput: a teacher without data.
    """
    if teacher is not None and data is None:
        raise BadInput("--teacher is built for data: give --data, too")
    folder = Path(path)
    about = read_about(folder)
    others: list[str] = []
    if data is not None:
        studied = sources.data_from(with_tokenizer(data, teacher, f"cache:{folder}"))
        for split, source in outline.splits_of(studied, evaluation=True).items():
            try:
                check_source(Cache(folder), split, source.fingerprint(), studied.name)
            except Mismatch as error:
                others.append(str(error))
        if teacher is not None:
            others += _unlike(about, _teacher(teacher, studied, about.seed, trust_code)[0], studied)
    return {**contents(folder, about), "others": others}


def _unlike(about: About, handle: Model, data: Data) -> list[str]:
    check_weights({"teacher": handle})
    traced(handle, "teacher", data)  # lazily built layers take their shapes
    here = {"weights": weights_of(handle.module), "preprocessing": preprocessing_of(handle)}
    names = f"({about.teacher.get('name')})", f"({handle.name})"
    return [
        f"the cache was written for a teacher with {key} {about.teacher.get(key)} {names[0]}, this one has {value} {names[1]}"
        for key, value in here.items()
        if about.teacher.get(key) != value
    ]
