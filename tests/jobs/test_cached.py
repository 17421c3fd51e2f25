"""Jobs with a cache for a teacher: the same student as with the model itself, the same report, and nothing that it cannot answer."""

from __future__ import annotations

import json

import pytest
import torch

from cache_folders import write_cache
from tutelage import Data, Fit, RunOptions, Table
from tutelage.data.augment import augmented
from tutelage.errors import BadInput, Mismatch, TutelageError
from tutelage.evaluation import headline, savings
from tutelage.jobs.compare import compare
from tutelage.jobs.distill import distill
from tutelage.jobs.evaluate import evaluate
from tutelage.jobs.models import model_from
from tutelage.jobs.sources import data_from
from tutelage.recipes import knobs, listing, load, roles
from tutelage.signals import Depth
from tutelage.signals.cache import DamagedCache, KeptLogits

pytestmark = pytest.mark.usefixtures("no_page")
QUIET = RunOptions(quiet=True, checkpoint_every=3)
TEACHER, STUDENT = "cnn:width=4,depth=3", "cnn:width=2,depth=3"
N, B, CLASSES = 48, 12, 3
DENSE = KeptLogits("dense", CLASSES, CLASSES)
WRITING = ("gkd", "seqkd")
"""Recipes that need a teacher who is there, and data of text."""
LOOKING = ("minilmv2", "teacher-intervention")
"""Recipes that look into the attention of a transformer, which tests of their own give them; the second wants the teacher itself."""


def cacheable(name: str) -> bool:
    """Whether a classifier's answers are all that a recipe asks; those of generators refuse a cache."""
    function = load(name)
    return "teacher" in roles(function) and not function.about.generates and name not in WRITING + LOOKING


TAUGHT = [each.name for each in listing() if cacheable(each.name)]


def task(recipe: str = "", name: str = "tiny") -> Data:
    made = torch.Generator().manual_seed(3)
    x = torch.rand(N + 40, 1, 8, 8, generator=made)
    y = (x.mean((1, 2, 3)) * 40).long() % CLASSES
    ids = torch.arange(len(x)) * 3
    split = [Table({"x": x[part], "y": y[part], "id": ids[part]}, f"{name} {at}") for part, at in zip(
        (slice(N), slice(N, N + 20), slice(N + 20, None)), ("train", "validation", "test"), strict=True
    )]  # fmt: skip
    return augmented(Data(split[0], split[1], split[2], ("a", "b", "c"), name), recipe)


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    """A trained teacher's run folder."""
    out = tmp_path_factory.mktemp("teacher") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tutelage.jobs.report.render", lambda contents: "")
        distill(student=TEACHER, data=task(), recipe="alone", out=out, baseline=False, fit=Fit(steps=12, batch_size=B), options=QUIET)
    return out


def cache(folder, teacher, data: Data, logits=DENSE, views: int = 0, seed: int = 0, held: bool = True):
    splits = {"train": data.train, **({"validation": data.validation, "test": data.test} if held else {})}
    model = model_from(teacher, "teacher", data=data, seed=0)
    taps = (Depth(0.5),)
    write_cache(folder, model, splits, logits=logits, taps=taps, views=views, seed=seed, per_shard=N, batch=B, classes=tuple(data.classes))
    return f"cache:{folder}"


def short(name: str, **fit) -> dict[str, Fit]:
    return {k: Fit(**{"steps": 9, "batch_size": B, **fit}) for k, p in knobs(load(name)).items() if isinstance(p.default, Fit)}


def taught(given, data: Data, out, recipe: str = "hinton-kd", **more):
    settings = {"baseline": False, "options": QUIET, **short(recipe), **more}
    return distill(given, STUDENT, data, recipe=recipe, out=out, **settings)


def weights(result) -> dict[str, torch.Tensor]:
    return result.model.module.state_dict()


@pytest.mark.parametrize("recipe", TAUGHT)
def test_every_recipe_makes_the_same_student_from_a_cache(recipe, teacher, tmp_path, timeless):
    """Bit for bit, whatever the recipe asks of its teacher; and the report says the same of both."""
    data = task()
    online = taught(str(teacher), data, tmp_path / "online", recipe)
    cached = taught(cache(tmp_path / "c", teacher, data), data, tmp_path / "cached", recipe)
    assert all(torch.equal(w, weights(cached)[name]) for name, w in weights(online).items())
    one, other = timeless(online.report), timeless(cached.report)
    assert other["teachers"] == ["teacher"]
    for key in ("accuracy", "macro_f1", "nll", "ece"):
        assert one["teacher"][key] == pytest.approx(other["teacher"][key], abs=1e-6)
    assert one["student"] == other["student"]


def test_views_make_the_run_that_an_online_teacher_makes_of_them(teacher, tmp_path):
    """`--views` online and a cache of as many views are one and the same, here over two recipes' stages and the baseline."""
    data = task("flip,shift=1")
    where = cache(tmp_path / "c", teacher, data, views=2, seed=6)
    online = taught(str(teacher), data, tmp_path / "a", "born-again", generations=2, views=2, seed=6, baseline=True)
    cached = taught(where, data, tmp_path / "b", "born-again", generations=2, seed=6, baseline=True)
    assert all(torch.equal(w, weights(cached)[name]) for name, w in weights(online).items())
    assert online.report["alone"]["nll"] == cached.report["alone"]["nll"]
    with pytest.raises(BadInput, match=r"views=3, but the teacher, .* knows 2; leave --views out"):
        taught(where, data, tmp_path / "d", views=3)
    with pytest.raises(BadInput, match="views=0: expected a whole number of at least 1"):
        taught(str(teacher), data, tmp_path / "d", views=0)


def test_what_the_teacher_costs_is_known_without_it(teacher, tmp_path):
    """The report is for a boss: what was saved must be in it, though the teacher is on another machine."""
    data = task()
    where = cache(tmp_path / "c", teacher, data)
    file = tmp_path / "c" / "cache.json"
    said = json.loads(file.read_text())
    said["measured"] = counts = {"parameters": 4321, "bytes": 17284, "flops": 99.0}
    file.write_text(json.dumps(said))
    report = taught(where, data, tmp_path / "o").report
    assert {k: report["teacher"][k] for k in counts} == counts
    assert "times fewer parameters" in headline(report)
    assert any(said.startswith("less memory") and said.endswith("instead of 17.3 kB") for _, said in savings(report))
    said["measured"] = {}
    file.write_text(json.dumps(said))
    assert f"; it has {report['student']['parameters']:,} parameters" in headline(taught(where, data, tmp_path / "p").report)


def test_without_the_other_splits_the_report_is_of_the_student_alone(teacher, tmp_path):
    """A cache of training samples teaches; it cannot say how the teacher does on others."""
    data = task()
    report = taught(cache(tmp_path / "c", teacher, data, held=False), data, tmp_path / "o").report
    assert report["teachers"] == []
    assert "accuracy" in report["student"]


def test_a_run_resumes_with_its_cache_and_refuses_another(teacher, tmp_path):
    """A cache that was written anew between stop and resume would change the run without a word."""
    data = task()
    where = cache(tmp_path / "c", teacher, data)
    whole = taught(where, data, tmp_path / "whole")
    stopping = task()
    reads = stopping.train.batch
    count = 0

    def stop(positions, **how):
        nonlocal count
        count += len(positions) == B
        if count == 5:
            raise BadInput("pulled out")
        return reads(positions, **how)

    stopping.train.batch = stop  # type: ignore[method-assign]
    with pytest.raises(BadInput, match="pulled out"):
        taught(where, stopping, tmp_path / "o")
    resumed = taught(where, data, tmp_path / "o", resume=True)
    assert all(torch.equal(w, weights(resumed)[name]) for name, w in weights(whole).items())
    cache(tmp_path / "c", teacher, data, logits=KeptLogits("dense", CLASSES, CLASSES, precision="float16"))
    with pytest.raises(Mismatch, match="was written with caches teacher"):
        taught(where, data, tmp_path / "o", resume=True)


def test_what_a_cache_cannot_do_is_refused_before_anything_trains(teacher, tmp_path):
    """One sentence each, and no run folder."""
    data = task()
    where = cache(tmp_path / "c", teacher, data)
    out = tmp_path / "o"
    with pytest.raises(BadInput, match="recipe hinton-kd trains its student, which must be a model"):
        distill(str(teacher), where, data, out=out)
    with pytest.raises(Mismatch, match=r"are of toy \(train \w+\), this run studies tiny train"):
        taught(where, Data(task().train.relabelled(torch.zeros(N).long()), name="other", classes=("a", "b", "c")), out)
    with pytest.raises(BadInput, match=r"asks the teacher \(.* in cache .*\) for tap 'features.0', but it gives"):
        taught(where, data, out, "fitnets", hint="features.0")
    with pytest.raises(BadInput, match="a cache takes no option 'tial'; it takes tail"):
        taught(f"{where}:tial=bucket", data, out)
    with pytest.raises(TutelageError, match=r"holds no cache: cache.json is missing"):
        taught(f"cache:{tmp_path}/nowhere", data, out)
    with pytest.raises(BadInput, match="says nothing about where; expected cache:PATH"):
        taught("cache:", data, out)
    with pytest.raises(BadInput, match="is a cache of signals; write cache:"):
        taught(str(tmp_path / "c"), data, out)
    with pytest.raises(BadInput, match="numbers its labels a, b, c, the data c, b, a"):
        taught(where, Data(data.train, data.validation, data.test, ("c", "b", "a"), "tiny"), out)
    with pytest.raises(BadInput, match="gives 2 logits, but tiny has 3 classes"):
        taught(few(tmp_path / "few", data), data, out)
    assert not (out / "config.yaml").exists()


def few(folder, data: Data) -> str:
    model = model_from("cnn:width=2,depth=2,classes=2", "teacher", data=data, seed=0)
    write_cache(folder, model, {"train": data.train}, logits=KeptLogits("dense", 2, 2), per_shard=N)
    return f"cache:{folder}"


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_a_damaged_shard_of_any_split_is_found_before_anything_trains(split, teacher, tmp_path):
    """What is only measured on at the end would cost the whole training."""
    given = cache(tmp_path / "c", teacher, task())
    shard = next((tmp_path / "c" / split).glob("*.safetensors"))
    shard.write_bytes(shard.read_bytes()[:-1] + b"?")
    with pytest.raises(DamagedCache, match=rf"{split}.*a bit of it has changed; run the command that writes the cache again"):
        distill(teacher=given, student=STUDENT, data=task(), recipe="hinton-kd", out=tmp_path / "run", fit=Fit(steps=3), options=QUIET)
    assert not list(tmp_path.rglob("metrics.jsonl"))


def test_a_dry_run_names_the_cache_and_no_passes(teacher, tmp_path):
    """What would happen, with a teacher that costs nothing."""
    data = task()
    row = taught(cache(tmp_path / "c", teacher, data), data, None, dry_run=True).rows[0]
    assert row.teacher.endswith("in cache " + str(tmp_path / "c") + " (all) at logits")
    online = taught(str(teacher), data, None, dry_run=True).rows[0]
    assert online.seconds > row.seconds


def test_evaluate_takes_a_runs_cached_teacher_for_its_answers(teacher, tmp_path):
    """The run's numbers come out as its report has them, agreement with an absent teacher among them."""
    digits = data_from("digits")
    model = model_from("cnn:width=2", "teacher", data=digits, seed=0)
    splits = {name: getattr(digits, name) for name in ("train", "validation", "test")}
    write_cache(tmp_path / "c", model, splits, logits=KeptLogits("dense", 10, 10), per_shard=1000)
    where = f"cache:{tmp_path / 'c'}"
    taught(where, "digits", tmp_path / "o", baseline=True)
    found = evaluate(tmp_path / "o")
    assert list(found.models) == ["teacher", "alone", "student"]
    assert found.recorded["same_data"]
    assert found.recorded["equal"]
    assert found.teacher == "teacher"
    lone = evaluate(where, tmp_path / "o", data="digits")
    assert lone.models[where]["accuracy"] == found.models["teacher"]["accuracy"]


def test_a_comparison_shares_one_cache(tmp_path, cheap_comparisons):
    """The teacher is paid once for all recipes and seeds; those that ask what it does not hold are left out, with the reason."""
    file = tmp_path / "flipped.py"
    lines = ["from tutelage.data import digits", "from tutelage.data.augment import augmented", "def data():"]
    file.write_text("\n".join([*lines, "    return augmented(digits(), 'flip')"]))
    spec = f"{file}:data"
    data = data_from(spec)
    model = model_from("cnn:width=2", "teacher", data=data, seed=0)
    splits = {"train": data.train, "validation": data.validation, "test": data.test}
    write_cache(tmp_path / "c", model, splits, logits=KeptLogits("dense", 10, 10), views=2, per_shard=2000)
    found = compare(
        f"cache:{tmp_path / 'c'}",
        "mlp:width=2,depth=1",
        spec,
        trust_code=True,
        seeds=2,
        updates=6,
        workers=0,
        threads=1,
        quiet=True,
        out=tmp_path / "which",
    ).found
    assert {"alone", "hinton-kd"} <= set(found["results"])
    reasons = {each["recipe"]: each["reason"] for each in found["left_out"]}
    assert {"fitnets", "taid"} <= set(reasons)
    assert "for tap 'depth-0.5', but it gives its logits only" in reasons["fitnets"]
    configs = [(tmp_path / "which" / "trials" / f"{name}-seed-1" / "config.yaml").read_text() for name in ("alone", "hinton-kd")]
    assert all("views: 2" in config for config in configs)
