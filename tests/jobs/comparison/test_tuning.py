"""Tuning: inside its budget, on validation alone, seeded, kept, and with no password anywhere."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

pytest.importorskip("optuna")

from tutelage.errors import BadInput, Interrupted
from tutelage.jobs.comparison import storages, tuning
from tutelage.jobs.comparison.budget import scaled, updates_of
from tutelage.jobs.comparison.contenders import contenders
from tutelage.jobs.pool import pool
from tutelage.jobs.sources import data_from

ROLES = {"student": "mlp:width=4,depth=1"}
UPDATES = 45


@pytest.fixture(scope="module")
def data():
    """The digits, in which an epoch takes 15 updates."""
    return data_from("digits")


def training(recipe: str, data) -> tuple:
    """A recipe with its budget, as `tune` takes it."""
    each = contenders([recipe], ROLES, data, 0, False)[0][0]
    knobs = scaled(each.knobs, each.plan, len(data.train), UPDATES)
    settings = {"recipe": each.recipe, "roles": ROLES, "data": "digits", "knobs": each.plain(knobs), "seed": -1}
    return each, settings, updates_of(each.plan(knobs)), {}


def tune(recipes: list[str], folder: Path, data, amount: int = 4, **more) -> dict[str, tuning.Tuned]:
    """Tune in this process."""
    with pool(workers=0, threads=1) as engine:
        return tuning.tune([training(each, data) for each in recipes], amount, folder, engine, metric="accuracy", **more)


@pytest.fixture(scope="module")
def tuned(tmp_path_factory, data) -> tuple[Path, dict[str, tuning.Tuned]]:
    """Two recipes, tuned."""
    folder = tmp_path_factory.mktemp("tuning")
    return folder, tune(["ps-kd", "alone"], folder, data)


def test_no_recipe_spends_more_than_its_budget_and_none_stops_before_it(tuned):
    """Equal effort is what makes tuned recipes comparable."""
    for name, each in tuned[1].items():
        spent = each.report["updates"]
        assert spent == sum(row["updates"] for row in each.report["tried"])
        assert 4 * UPDATES - UPDATES < spent <= 4 * UPDATES, name
        assert each.report["trials"] == len(each.report["tried"]) >= 4
        assert each.report["pruned"] == sum(row["pruned"] for row in each.report["tried"])


def test_the_defaults_are_among_what_is_tried_and_the_best_is_chosen(tuned):
    """Tuning must not make things worse on what it sees."""
    for name, knobs in (("ps-kd", {"fit.lr": 1e-3, "alpha": 0.8}), ("alone", {"fit.lr": 1e-3, "label_smoothing": 0.0})):
        report = tuned[1][name].report
        assert report["tried"][0]["knobs"] == pytest.approx(knobs)
        finished = [row for row in report["tried"] if row["validation"] is not None]
        assert report["validation"] == max(row["validation"] for row in finished) >= report["tried"][0]["validation"]
        assert tuned[1][name].knobs == report["chosen"]
        assert report["chosen"] in [row["knobs"] for row in finished]
        for row in report["tried"]:
            assert 1e-4 <= row["knobs"]["fit.lr"] <= 1e-2
            assert row["pruned"] == (row["validation"] is None)
            assert row["updates"] == UPDATES or row["pruned"]


def test_what_is_finished_is_not_tried_again(tuned, data):
    """A resumed comparison reads the journal."""
    folder, first = tuned
    begun: list[str] = []
    again = tune(["ps-kd", "alone"], folder, data, told=lambda event, name, _: begun.append(name) if event == "begun" else None)
    assert begun == []
    assert {n: t.report for n, t in again.items()} == {n: t.report for n, t in first.items()}


def test_an_interrupted_row_goes_on_as_if_nothing_had_happened(tuned, data, tmp_path):
    """What is proposed is a function of the seed and the place, and not of how often the process was begun."""
    ended: list[str] = []

    def stop(event, name, _):
        if event == "done":
            ended.append(name)
            if len(ended) == 3:
                raise Interrupted("stopped")

    with pytest.raises(Interrupted):
        tune(["ps-kd", "alone"], tmp_path, data, told=stop)
    later: list[str] = []
    again = tune(["ps-kd", "alone"], tmp_path, data, told=lambda event, name, _: later.append(name) if event == "begun" else None)
    assert not set(ended) & set(later)
    assert {n: t.report for n, t in again.items()} == {n: t.report for n, t in tuned[1].items()}


@pytest.mark.parametrize("text", ["{", "3\n", "[]\n", '{"op_code": 99}\n', "\x00\x01\n{}\n"])
def test_a_damaged_journal_is_refused_in_a_sentence(text, data, tmp_path):
    """A disk that was full."""
    (tmp_path / storages.JOURNAL).write_text(text * 3)
    with pytest.raises(BadInput, match=r"optuna\.journal is damaged .*; delete it, and tuning begins anew"):
        tune(["alone"], tmp_path, data, amount=1)


def test_an_attempt_that_was_killed_is_begun_again_with_the_same_knobs(data, tmp_path):
    """It stands in the journal as running, and nobody runs it."""
    contender, settings, updates, _ = training("alone", data)
    kept = storages.opened(None, tmp_path)
    study = tuning._Study(contender, settings, updates, kept, "study")
    params = dict(study.ask().params)  # and then the process is killed
    again = tuning._Study(contender, settings, updates, storages.opened(None, tmp_path), "study")
    assert dict(again.ask().params) == params
    assert again.used() == 0


def test_attempts_that_break_off_at_once_do_not_go_on_for_ever(data, tmp_path, monkeypatch):
    """They cost next to nothing of the budget."""
    monkeypatch.setattr(tuning, "attempt", lambda folder, **_: {"validation": None, "pruned": False, "updates": 0, "error": "NaN"})
    found = tune(["alone"], tmp_path, data, amount=2)["alone"]
    assert found.report["trials"] == 20
    assert found.knobs == {}
    assert found.report["chosen"] == {}
    assert found.report["validation"] is None


def test_an_attempt_that_fails_costs_a_whole_training(data, tmp_path, monkeypatch):
    """Nobody knows how far it came."""

    def broken(folder, **_):
        raise KeyError("no such thing")

    monkeypatch.setattr(tuning, "attempt", broken)
    report = tune(["alone"], tmp_path, data, amount=2)["alone"].report
    assert [(row["updates"], row["error"]) for row in report["tried"]] == [(UPDATES, "KeyError: 'no such thing'")] * 2


def test_a_learning_rate_that_breaks_the_loss_is_one_failed_attempt(data, tmp_path):
    """It says which knobs not to take, and the row goes on."""
    contender, settings, updates, _ = training("alone", data)
    study = tuning._Study(contender, settings, updates, storages.opened(None, tmp_path), "study")
    trial = study.ask()
    knobs = {**settings["knobs"], "fit": {**settings["knobs"]["fit"], "lr": 1e30, "optimizer": "sgd"}}
    given = {**settings, "knobs": knobs, "study": "study", "trial": trial._trial_id, "metric": "accuracy", "storage": None}
    found = tuning.attempt(tmp_path / "one", updates=updates, **given)
    assert found["validation"] is None
    assert not found["pruned"]
    assert 0 < found["updates"] <= UPDATES
    assert "NaN or infinite" in found["error"]


def test_what_the_user_gave_is_not_tuned(data):
    """It was given."""
    free = contenders(["ps-kd"], ROLES, data, 0, False)[0][0]
    fixed = contenders(["ps-kd:alpha=0.5"], ROLES, data, 0, False)[0][0]
    whole = contenders(["ps-kd:alpha=0.5,fit={lr: 0.1}"], ROLES, data, 0, False)[0][0]
    assert set(tuning.ranges(free)) == {"fit.lr", "alpha"}
    assert set(tuning.ranges(fixed)) == {"fit.lr"}
    low, high, how = tuning.ranges(fixed)["fit.lr"]
    assert (low, high, how) == (pytest.approx(1e-4), pytest.approx(1e-2), "log")
    assert tuning.ranges(whole) == {}


def test_with_nothing_to_tune_nothing_is_spent(data, tmp_path):
    """A recipe whose knobs were all given."""
    found = tune(["alone:label_smoothing=0.1,fit={lr: 0.01}"], tmp_path, data)
    assert next(iter(found.values())).report["trials"] == 0


def test_a_database_can_be_shared(data, tmp_path):
    """Several machines that tune together."""
    url = f"sqlite:///{tmp_path / 'tuning.db'}"
    with pool(workers=0, threads=1) as engine:
        found = tuning.tune([training("alone", data)], 1, tmp_path / "out", engine, metric="accuracy", storage=url)
    assert found["alone"].report["trials"] == 1
    with sqlite3.connect(tmp_path / "tuning.db") as database:
        assert database.execute("select count(*) from trials").fetchone() == (1,)
    database.close()
    assert not (tmp_path / "out" / storages.JOURNAL).exists()


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://me:hunter2@host/db", "postgresql://***@host/db"),
        ("postgresql://me:hunt@er2@host:5/db?password=hunter2", "postgresql://***@host:5/db?***"),
        ("mysql+pymysql://me:hunter2@host/db?ssl=x@y", "mysql+pymysql://***@y"),
        ("sqlite:///tuning.db", "sqlite:///tuning.db"),
    ],
)
def test_a_password_is_never_shown(url, shown):
    """Not in a config that is passed on, and not in a log."""
    assert storages.hidden(url) == shown
    assert "hunter2" not in storages.hidden(url)


@pytest.mark.parametrize(
    "url", ["nonsense", "nodb://me:hunter2@host/db", "", "sqlite:////nowhere/at/all/x.db", "postgresql://me:hunter2@/x?y"]
)
def test_a_storage_that_cannot_be_opened_is_refused_in_a_sentence(url, tmp_path):
    """Before anything is trained, and without its password."""
    with pytest.raises(BadInput, match="cannot be opened") as refused:
        storages.opened(url, tmp_path)
    assert "hunter2" not in str(refused.value)
    assert "\n" not in str(refused.value)
