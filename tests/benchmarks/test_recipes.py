"""What recipes cost: every one is measured, whole trainings are reckoned from all stages, and memory is counted."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import recipes
import table
from tutelage.recipes import listing
from tutelage.training import Trajectory

ROOT = Path(__file__).parents[2]
NAMES = [each.name for each in listing()]
OTHERS = recipes.named()


def test_every_recipe_is_in_the_committed_results():
    """The gallery says of each what it costs; a new recipe is measured before it is merged."""
    rows = json.loads((ROOT / "benchmarks" / "results" / "recipes.json").read_text())["rows"]
    for kind in ("update", "training", "memory"):
        assert sorted(row["recipe"] for row in rows if row["of"] == kind) == OTHERS, f"python benchmarks recipes ({kind})"
    for row in rows:
        assert row["updates"] == sum(recipes.updates(row["recipe"])), f"{row['recipe']} has other defaults now: python benchmarks recipes"


@pytest.mark.parametrize("name", NAMES)
def test_a_block_times_every_stage_and_counts_no_more(name):
    """A stage that is left out would make a method of several look as cheap as its cheapest."""
    plan, watches = recipes.shortened(recipes.plan_of(name), 2)
    recipes.train(plan)
    assert list(watches) == [stage.name for stage in plan.stages]
    marks = [recipes.SNAPSHOTS if any(isinstance(part, Trajectory) for part in stage.parts) else 2 for stage in plan.stages]
    assert [len(watch.marks) for watch in watches.values()] == marks
    assert len(marks) == len(recipes.updates(name))


def test_a_whole_training_is_all_updates_of_all_stages(monkeypatch):
    """Born-again trains three students where hinton-kd trains one; a stage is weighted by its updates, not counted as one of two."""

    def block(name, steps, warm, on):
        each = [1.0, 3.0] if name == "fitnets" else [2.0] * len(recipes.updates(name, on))
        return each, 12.0 if name == "seqkd" else 0.0

    monkeypatch.setattr(recipes, "block", block)
    monkeypatch.setattr(recipes, "memory", lambda name, on: 300 if name == "fitnets" else 200)
    rows = {(row["recipe"], row["of"]): row for row in recipes.rows(rounds=2)}
    assert len(rows) == 3 * len(OTHERS)
    assert rows["born-again", "update"]["ratio"]["median"] == 1.0
    assert rows["born-again", "training"]["ratio"]["median"] == 3.0
    assert rows["fitnets", "update"]["ratio"]["median"] == pytest.approx((10 * 1 + 30 * 3) / 40 / 2)
    assert rows["fitnets", "training"]["ratio"]["median"] == pytest.approx((10 * 1 + 30 * 3) / 30 / 2, abs=1e-4)
    assert rows["fitnets", "memory"]["ratio"]["median"] == 1.5
    # what is written once counts in the whole, not in an update; and text is held against text
    count = recipes.updates("hinton-kd", "text")[0]
    assert rows["seqkd", "update"]["ratio"]["median"] == 1.0
    assert rows["seqkd", "training"]["reference_updates"] == count
    own = recipes.updates("seqkd")[0]
    assert rows["seqkd", "training"]["ratio"]["median"] == pytest.approx((2 * own + 12) / (2 * count), abs=1e-4)
    assert (rows["fitnets", "training"]["updates"], rows["fitnets", "training"]["reference_updates"]) == (320, 240)


def test_some_recipes_can_be_measured_alone(tmp_path, monkeypatch):
    """What a new recipe costs needs no hour for all others; but one table speaks of one machine."""
    main = load_main()
    here = dict.fromkeys(main.ALIKE, 1)
    file = tmp_path / "recipes.json"
    row = {"recipe": "fitnets", "of": "update"}
    file.write_text(json.dumps({"surroundings": here, "rows": [row, {"recipe": "ps-kd", "of": "update"}]}))
    monkeypatch.setattr(recipes, "rows", lambda names: [{"recipe": name, "of": "update", "new": True} for name in names])
    found = main.some(recipes, file, ["ps-kd"], here)
    assert found == [row, {"recipe": "ps-kd", "of": "update", "new": True}]
    with pytest.raises(SystemExit, match="no part 'ps'"):
        main.some(recipes, file, ["ps"], here)
    with pytest.raises(SystemExit, match="another torch"):
        main.some(recipes, file, ["ps-kd"], here | {"torch": "1"})


def load_main():
    import importlib.util

    spec = importlib.util.spec_from_file_location("benchmarks_main", ROOT / "benchmarks" / "__main__.py")
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


def test_an_action_is_timed_apart_from_updates():
    """Else a teacher that writes for hours would cost nothing."""
    updates, acting = recipes.block("seqkd", steps=2, warm=1)
    assert len(updates) == 1
    assert acting > 0
    assert recipes.block("gkd", steps=1, warm=1)[1] == 0


def test_peak_memory_is_what_lives_at_once():
    """Neither the sum of all that was made nor what is left in the end."""

    def work():
        a = torch.zeros(1000, 250)  # 1 MB
        b = torch.zeros(1000, 500)
        del a
        c = torch.zeros(1000, 750)
        del b, c
        torch.zeros(1000, 250)

    assert recipes.peak(work) == 5_000_000


def test_memory_is_counted_with_the_models_gradients_and_optimizer():
    """Were the models built before, a method with more of them would cost nothing."""
    plan = recipes.plan_of("alone")
    parameters = sum(p.numel() for p in plan.product.skeleton().parameters())
    assert recipes.memory("alone") > 4 * 4 * parameters  # weights, gradients, two moments; float32
    assert recipes.memory("born-again") > recipes.memory("hinton-kd") > recipes.memory("alone")


def test_counted_bytes_stand_in_the_table_with_their_unit():
    """The column's head says ms."""
    row = recipes.in_bytes("peak memory, x", "hinton-kd", 2_000_000, 3_000_000)
    assert table.cells(row) == ["peak memory, x", "3.00 MB", "hinton-kd", "2.00 MB", "1.500", ""]


def test_a_role_that_the_bench_cannot_fill_is_named(monkeypatch):
    """A recipe with two teachers needs a second one here, not a silent gap in the table."""

    def strange(judge, data):
        return None

    monkeypatch.setattr(recipes, "load", lambda name: strange)
    with pytest.raises(ValueError, match="role 'judge'"):
        recipes.plan_of("strange")
