"""What every recipe must keep, found by file so that none can be forgotten."""

from __future__ import annotations

import json
import os
import random
import signal
import warnings
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import tutelage
from tutelage import Fit, RunOptions
from tutelage.data import Data, Table
from tutelage.jobs.distill import distill
from tutelage.recipes import knobs, listing, load, roles
from tutelage.students import vit
from tutelage.training.condensing import Inner

pytestmark = pytest.mark.usefixtures("no_page")
NAMES = [each.name for each in listing()]
WRITING = {"gkd", "seqkd"}
"""Recipes in which a model writes, and which therefore study text."""
ATTACKING = {"mtard", "pgd-at"}
"""Recipes that change images, which therefore are images."""
GENERATING = {"ddpm", "dmd", "disback", "progressive-distillation", "consistency-distillation"}
"""Recipes of what draws images."""
QUICK = RunOptions(quiet=True, checkpoint_every=3, log_every=1, share_every=4)


class Mortal(Table):
    """A table that kills its process at the n-th batch it is asked for."""

    reads = 0
    fatal = -1

    def batch(self, positions, **how):
        if len(positions) == 5:  # a training batch, neither a probe nor an evaluation
            Mortal.reads += 1
            if Mortal.reads == Mortal.fatal:
                os.kill(os.getpid(), signal.SIGKILL)
        return super().batch(positions, **how)


@pytest.fixture(autouse=True)
def quick_judge(monkeypatch):
    """What generators are judged by is not trained for long here; and what they study in place of images is mortal, too."""
    monkeypatch.setattr("tutelage.jobs.generators.JUDGED_BY", Fit(steps=2, batch_size=7))
    monkeypatch.setattr("tutelage.jobs.generators.LADDER", (1, 2))
    monkeypatch.setattr("tutelage.diffusion.making.Table", Mortal)


def task(name: str) -> Data:
    made = torch.Generator().manual_seed(3)
    if name in WRITING:
        ids = torch.randint(0, 7, (42, 7), generator=made)
        columns = {"input_ids": ids[:, :-1].contiguous(), "y": ids[:, 1:].contiguous(), "mask": torch.ones(42, 6, dtype=torch.bool)}
        held = Table({**{k: v[31:] for k, v in columns.items()}, "id": torch.arange(100, 111)}, "held")
        return Data(Mortal({k: v[:31] for k, v in columns.items()}, "train"), held, held, tuple("abcdefg"), "tiny")
    x = torch.randn(31, 1, 6, 6, generator=made)
    x = x.sigmoid() if name in ATTACKING | GENERATING else x
    y = torch.randint(0, 3, (31,), generator=made)
    held = Table({"x": x[:11], "y": y[:11], "id": torch.arange(100, 111)}, "held")
    return Data(Mortal({"x": x, "y": y}, "train"), held, held, ("a", "b", "c"), "tiny")


def short(name: str, **fit) -> dict:
    """Every Fit knob of a recipe, cut to seven updates, and few tokens to write."""
    settings = {"steps": 7, "batch_size": 5, "ema": 0.9, "clip": 1.0, **fit}
    fits = {k: Fit(**settings) for k, p in knobs(load(name)).items() if isinstance(p.default, Fit)}
    inner = Inner(steps=2, ahead=1, starts=2, segment=1)
    own = {
        "mtt": {"experts": 2, "per_class": 2, "inner": inner},
        "ast": {"experts": 2, "per_class": 2, "inner": replace(inner, steps=4, ahead=2, intermediate=1.0, perturbation=1.0)},
        "ddpm": {"steps": 2},
        "disback": {"nodes": 2, "walk": 0.5, "updates": 2},
        "dmd": {"updates": 2, "times": (500, 200), "regression": 0.1, "pairs": 6, "pair_steps": 2},
        "progressive-distillation": {"first": 2},
        "consistency-distillation": {"grid": 4, "times": (599,)},
    }
    return {**fits, **({"prompt": 2, "tokens": 3} if name in WRITING else {}), **own.get(name, {})}


def given(name: str) -> dict[str, str]:
    specs = {"teacher": "cnn:width=3,depth=2", "student": "cnn:width=2,depth=3"}
    if name == "minilmv2":
        specs = {"teacher": "vit:width=8,depth=2,heads=2,patch=3", "student": "vit:width=4,depth=1,heads=1,patch=3"}
    if name in WRITING:
        specs = {"teacher": "gpt:width=8,depth=1,heads=2", "student": "gpt:width=4,depth=1,heads=2"}
    if name in GENERATING:
        specs = dict.fromkeys(specs, f"unet:width=4,levels=0,times=600,predicts={'v' if name.startswith('progressive') else 'eps'}")
        return {role: specs[role] for role in roles(load(name)) if role != "data"}
    if name == "teacher-intervention":
        specs = dict.fromkeys(specs, "vit:width=4,depth=1,heads=2,patch=3")
    return {role: specs.get(role, specs["teacher"]) for role in roles(load(name)) if role != "data"}


def taught(name: str) -> bool:
    """Whether there is a teacher."""
    return bool(set(given(name)) - {"student"})


def run(name: str, out: Path, *, resume: bool = False, seed: int = 5) -> dict:
    return dict(
        distill(
            **given(name),
            data=task(name),
            recipe=name,
            out=out,
            seed=seed,
            train_teacher=taught(name),
            teacher_fit=Fit(steps=4, batch_size=5),
            resume=resume,
            options=QUICK,
            **short(name),
        ).report
    )


def in_child(work) -> int:
    """Run in a new process and give its wait status."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    return os.waitpid(child, 0)[1]


@pytest.mark.parametrize("name", NAMES)
def test_a_killed_and_resumed_run_equals_an_uninterrupted_one_bit_for_bit(name, tmp_path, timeless):
    """Otherwise a crash would silently change what a student learned."""
    Mortal.reads, Mortal.fatal = 0, -1
    whole = run(name, tmp_path / "whole")
    total = Mortal.reads
    assert total >= 7
    files = [f for f in ("predictions.safetensors", "disagreements.json") if (tmp_path / "whole" / f).is_file() or name not in WRITING]
    files = ["samples/student.png"] if name in GENERATING else files
    files += ["model/model.safetensors", "metrics.jsonl"]
    # each part of the job meets a kill: near the start, at a random step, in the last stage
    fatal = [2, random.Random(name).randrange(3, total - 2), total - 1]
    for number, at in enumerate(fatal):
        out = tmp_path / f"killed-{number}"

        def mortal(at=at, out=out):
            Mortal.reads, Mortal.fatal = 0, at
            run(name, out)

        status = in_child(mortal)
        assert os.WIFSIGNALED(status)
        assert os.WTERMSIG(status) == signal.SIGKILL

        def resumed(out=out):
            Mortal.reads, Mortal.fatal = 0, -1
            run(name, out, resume=True)

        assert in_child(resumed) == 0
        assert timeless(json.loads((out / "report.json").read_text())) == timeless(whole)
        for file in files:
            assert (out / file).read_bytes() == (tmp_path / "whole" / file).read_bytes(), file


@pytest.mark.parametrize("name", NAMES)
def test_a_finished_run_is_resumed_without_training_again(name, tmp_path, timeless):
    """Otherwise a second `--resume` would cost hours."""
    first = run(name, tmp_path / "out")
    Mortal.reads, Mortal.fatal = 0, -1
    assert timeless(run(name, tmp_path / "out", resume=True)) == timeless(first)
    assert Mortal.reads == 0


@pytest.mark.parametrize("name", NAMES)
def test_another_seed_is_refused_on_resume(name, tmp_path):
    """Otherwise half of a run would come from another one."""
    run(name, tmp_path / "out")
    with pytest.raises(tutelage.TutelageError, match=r"seed = 5.*this run has 6"):
        run(name, tmp_path / "out", resume=True, seed=6)


@pytest.mark.parametrize("name", NAMES)
def test_a_dry_run_builds_no_model_and_reads_no_weights(name, monkeypatch):
    """A plan for a model of many gigabytes must be cheap to look at."""
    from tutelage.signals import Model

    monkeypatch.setattr(Model, "module", property(lambda self: pytest.fail(f"{self.name} was built")))
    monkeypatch.setattr("tutelage.signals.model.load_weights", lambda *_: pytest.fail("weights were read"))
    result = distill(**given(name), data=task(name), recipe=name, train_teacher=taught(name), dry_run=True, **short(name))
    assert result.model is None
    steps = [row.steps for row in result.rows if row.plan == "student" and row.steps]  # an action has none
    assert len(steps) >= len([each for each in short(name).values() if isinstance(each, Fit)])
    # its two stages share the updates of one fit
    assert steps == [3, 4] if name == "teacher-intervention" else set(steps) == {7}
    # what it takes to write, to attack, to follow a slope back to its input or to train within a step is not guessed
    guesses = {"gkd": ["student"], "pgd-at": ["student"], "mtard": ["teacher-2", "student"], "mtt": ["student"], "ast": ["student"] * 3}
    unknown = guesses.get(name, [])
    assert [row.plan for row in result.rows if row.steps and row.seconds is None] == unknown
    assert all(row.seconds > 0 for row in result.rows if row.seconds is not None)


@pytest.mark.parametrize("name", sorted(set(NAMES) - GENERATING - {"teacher-intervention"}))  # which have none, or one of their own
def test_the_baseline_gets_the_same_number_of_updates_and_the_same_first_weights(name, tmp_path):
    """Otherwise the gain would partly be that of longer training."""
    from tutelage.jobs.distill import baseline_of
    from tutelage.signals import Model
    from tutelage.teachers import Frozen

    data = task(name)
    student = Model(lambda: torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(36, 4), torch.nn.Linear(4, 3)), seed=9)
    if name == "minilmv2":
        student = Model(lambda: vit(classes=3, channels=1, size=6, patch=3, width=4, depth=1, heads=1), seed=9)
    handles = {r: student if r == "student" else data if r == "data" else Frozen(student.fresh(1)) for r in roles(load(name))}
    plan = load(name)(**handles, **short(name))
    alone = baseline_of(plan, data)
    assert alone.updates(alone.product) == plan.updates(plan.product) > 0
    assert alone.product is not plan.product
    for ours, theirs in zip(alone.product.module.parameters(), plan.product.module.parameters(), strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("name", NAMES)
def test_every_recipe_has_a_summary_and_documents_each_knob(name):
    """Its signature and docstring are its help, its schema and its page."""
    text = load(name).__doc__
    assert next(each.summary for each in listing() if each.name == name).endswith(".")
    for parameter in (*roles(load(name)), *knobs(load(name))):
        assert f"{parameter}:" in text
    for section in ("Cost:", "Data:", "Relations:"):
        assert section in text
