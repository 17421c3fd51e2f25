"""compare: equal budgets, paired seeds, nothing done twice, one failure that loses nothing, and numbers that are those of the runs."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

import tutelage
from tutelage.errors import BadInput, Failed, Interrupted, Mismatch
from tutelage.jobs.compare import compare
from tutelage.jobs.comparison import trainings
from tutelage.jobs.progress import Progress
from tutelage.jobs.runs import runs
from tutelage.recipes.alone import alone
from tutelage.training import Fit, Run

PAIR = {"teacher": "mlp:width=4,depth=1", "student": "mlp:width=2,depth=1", "train_teacher": True, "teacher_fit": Fit(steps=10)}
TWO = ["hinton-kd", "alone"]


def compared(out: Path, recipes: list[str] | None = TWO, **more):
    """A comparison in this process, as small as it gets."""
    settings = {**PAIR, "recipes": recipes, "seeds": 2, "updates": 12, "workers": 0, "threads": 1, "quiet": True, "out": out, **more}
    return compare(**settings)


pytestmark = pytest.mark.usefixtures("cheap_comparisons")


@pytest.fixture(scope="module")
def done(tmp_path_factory, cheap_comparisons):
    """A finished comparison of all recipes."""
    out = tmp_path_factory.mktemp("runs") / "which"
    return compared(out, None)


def comparable(found: dict) -> dict:
    """The numbers that two comparisons must share: all but times."""
    return {
        name: {seed: (row["validation"], row["test"], row["updates"]) for seed, row in result["seeds"].items()}
        for name, result in found["results"].items()
    }


def stamps(out: Path) -> dict[str, int]:
    """When each result of a trial was written."""
    return {str(file.relative_to(out)): file.stat().st_mtime_ns for file in sorted(out.rglob("*.json")) if file.parent.name == "trials"}


def test_all_that_apply_are_trained_with_all_seeds_at_equal_cost(done):
    """Otherwise the best budget wins, not the best recipe."""
    found = done.found
    assert set(found["results"]) == {"alone", "born-again", "fitnets", "hinton-kd", "ps-kd"} == set(found["recipes"])
    for name, result in found["results"].items():
        assert result["updates"] == 12, name
        assert list(result["seeds"]) == ["0", "1"]
        assert result["failed"] == []
        for row in result["seeds"].values():
            report = json.loads((done.folder / row["folder"] / "report.json").read_text())
            assert row["test"] == {k: report["student"][k] for k in row["test"]}
            assert row["updates"] == 12
            assert row["seconds"] > 0
    generations = yaml.safe_load((done.folder / "trials" / "born-again-seed-0" / "config.yaml").read_text())
    assert generations["fit"]["steps"] == 4  # of each of three
    assert found["budget"] == {"kind": "updates", "amount": 12, "seeds": [0, 1], "tune": 0}


def test_each_training_is_a_whole_run_folder(done):
    """The winner is used like any other run."""
    for row in [row for result in done.found["results"].values() for row in result["seeds"].values()]:
        files = {file.name for file in (done.folder / row["folder"]).iterdir()}
        assert files >= {"config.yaml", "model", "report.json", "report.html", "metrics.jsonl", "environment.json", "splits.json"}
    listed = runs(done.folder)
    assert {run.state for run in listed} == {"finished"}
    assert len(listed) == 11  # five recipes, two seeds, and the teacher
    winner = done.found["winner"]
    again = tutelage.evaluate(done.folder / winner["folder"])
    assert again.recorded["equal"]
    assert winner["recipe"] == done.found["recipes"][0]


def test_recipes_are_paired_by_seed(done):
    """The same data, and the same first weights, so that what a seed does to all drops out of the differences."""
    splits = [
        json.loads((done.folder / row["folder"] / "splits.json").read_text()) for row in done.found["results"]["alone"]["seeds"].values()
    ]
    assert splits[0] == splits[1]
    fresh = [comparing_weights(name, seed) for name in TWO for seed in (0, 1)]
    assert fresh[0] == fresh[2] != fresh[1] == fresh[3]


def comparing_weights(recipe: str, seed: int) -> list[float]:
    """The student's first weights in a training."""
    roles = {"student": PAIR["student"]} | ({"teacher": PAIR["teacher"]} if recipe == "hinton-kd" else {})
    ready = trainings.prepared(recipe=recipe, roles=roles, data="digits", knobs={}, seed=seed)
    return next(iter(ready.handles["student"].module.parameters())).flatten()[:5].tolist()


def test_the_answer_says_what_was_measured_on_what(done):
    """compare.json is all that the page and a script read."""
    found = json.loads((done.folder / "compare.json").read_text())
    assert found == done.found
    assert (found["format"], found["data"], found["split"], found["metric"]) == (1, "digits", "test", "accuracy")
    assert found["chosen_on"]["split"] == "validation"
    assert {each["recipe"] for each in found["left_out"]} == {
        *("gkd", "lm-kd", "minilmv2", "mtard", "pgd-at", "seqkd", "taid", "teacher-intervention", "ast", "mtt"),
        *("consistency-distillation", "ddpm", "disback", "dmd", "progressive-distillation"),
    }
    assert len(found["classes"]) == 10
    assert found["teacher"]["model"].startswith("mlp:")
    assert found["teacher"]["test"]["accuracy"] == json.loads((done.folder / "teacher" / "report.json").read_text())["student"]["accuracy"]
    assert set(found["student"]) == {"model", "parameters", "bytes", "flops", "latency_ms", "throughput"}
    assert found["results"]["hinton-kd"]["paper"]["year"] == 2015
    assert found["results"]["alone"]["paper"] is None
    assert found["results"]["hinton-kd"]["cost"] == 1
    assert {gap["first"] for gap in found["differences"]} == {found["recipes"][0]}
    assert {gap["second"] for gap in found["differences"]} == set(found["recipes"][1:])
    assert found["seconds"] > sum(row["seconds"] for result in found["results"].values() for row in result["seeds"].values())
    for name, result in found["results"].items():
        values = [row["test"]["accuracy"] for row in result["seeds"].values()]
        assert result["test"]["accuracy"]["mean"] == pytest.approx(sum(values) / 2), name
        assert result["test"]["accuracy"]["low"] < result["test"]["accuracy"]["mean"] < result["test"]["accuracy"]["high"]


def test_a_finished_comparison_that_is_resumed_trains_nothing(done, monkeypatch):
    """And says the same, date aside."""
    monkeypatch.setattr("tutelage.jobs.distill.train", None)
    before = stamps(done.folder)
    again = compared(done.folder, None, resume=True)
    assert stamps(done.folder) == before
    assert comparable(again.found) == comparable(done.found)
    assert again.found["said"] == done.found["said"]


def test_a_comparison_that_is_told_to_stop_goes_on_where_it_was(done, tmp_path, monkeypatch):
    """Two trainings are finished when the signal comes; neither is done again, and the numbers are those of an uninterrupted one."""
    ended: list[str] = []
    told = Progress.told

    def then_stop(self, event, name, outcome):
        told(self, event, name, outcome)
        ended.extend([name] if event == "done" else [])
        if len(ended) == 3:  # the teacher is the first
            signal.raise_signal(signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(Progress, "told", then_stop)
        with pytest.raises(Interrupted, match=r"go on with: tutelage compare --resume .*out") as stopped:
            compared(tmp_path / "out")
    assert stopped.value.exit_code == 143
    before = stamps(tmp_path / "out")
    assert len(before) == 2
    again = compared(tmp_path / "out", resume=True)
    assert {name: stamp for name, stamp in stamps(tmp_path / "out").items() if name in before} == before
    assert len(stamps(tmp_path / "out")) == 4
    expected = comparable(done.found)
    assert comparable(again.found) == {name: expected[name] for name in TWO}


def test_a_training_that_is_stopped_midway_is_finished_and_not_begun_anew(done, tmp_path, monkeypatch):
    """Its checkpoint is where it goes on; how long it took nobody knows then."""
    steps: list[int] = []

    def stopping(self, step):
        steps.append(step)
        if len(steps) == 10 + 7:  # the teacher's, and seven of the first student's
            self.stop_signal = 15
        return self.stop_signal is not None

    with monkeypatch.context() as patch:
        patch.setattr(Run, "stopping", stopping)
        with pytest.raises(Interrupted):
            compared(tmp_path / "out")
    part = next((tmp_path / "out" / "trials").glob("*-seed-0"))
    assert list((part / "checkpoints").iterdir())
    again = compared(tmp_path / "out", resume=True)
    name = part.name.removesuffix("-seed-0")
    assert again.found["results"][name]["seeds"]["0"]["seconds"] is None
    assert again.found["results"][name]["seeds"]["1"]["seconds"] > 0
    expected = comparable(done.found)
    assert comparable(again.found) == {name: expected[name] for name in TWO}


COMMAND = """\
import sys
import tutelage.evaluation.cost, tutelage.jobs.compare, tutelage.jobs.report
tutelage.evaluation.cost.SECONDS = 0.0
tutelage.jobs.report.render = lambda contents: ""
tutelage.jobs.compare.write_page = lambda place, found: None
from tutelage.cli.main import main
if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_the_command_that_is_killed_repeats_no_finished_training(number, done, tmp_path):
    """The real command, in processes, killed in the middle of its trainings."""
    script, out = tmp_path / "command.py", tmp_path / "out"
    script.write_text(COMMAND)
    words = ["--teacher", PAIR["teacher"], "--train-teacher", "--teacher_fit.steps", "10", "--student", PAIR["student"], "--seeds", "2"]
    words += ["--updates", "12", "--recipes", *TWO, "--workers", "1", "--threads", "1", "--out", str(out)]
    place = {**os.environ, "PYTHONPATH": str(Path(tutelage.__file__).parents[1])}
    with subprocess.Popen([sys.executable, str(script), "compare", *words], env=place, stderr=subprocess.PIPE, text=True) as process:
        end = time.monotonic() + 200
        while len(stamps(out)) < 2 and process.poll() is None and time.monotonic() < end:
            time.sleep(0.01)
        process.send_signal(number)
        _, said = process.communicate(timeout=60)
    before = stamps(out)
    assert 2 <= len(before) < 4, said
    if number == signal.SIGTERM:
        assert process.returncode == 143
        assert "go on with: tutelage compare --resume" in said
    resumed = [sys.executable, str(script), "compare", "--resume", str(out), "--json", "--workers", "1", "--threads", "1"]
    again = subprocess.run(resumed, env=place, capture_output=True, text=True, check=True, timeout=250)
    assert {name: stamp for name, stamp in stamps(out).items() if name in before} == before
    expected = comparable(done.found)
    assert comparable(json.loads(again.stdout)) == {name: expected[name] for name in TWO}


@pytest.mark.slow
def test_a_ray_cluster_gives_the_same_numbers(done, tmp_path, monkeypatch):
    """Where trainings run changes nothing about them."""
    pytest.importorskip("ray")
    monkeypatch.setenv("PYTHONPATH", str(Path(tutelage.__file__).parents[1]))
    found = compared(tmp_path / "out", engine="ray", workers=2).found
    expected = comparable(done.found)
    assert comparable(found) == {name: expected[name] for name in TWO}


@pytest.fixture
def failing(monkeypatch):
    """A function after which trainings of a recipe fail: with one seed, or with all."""
    real = trainings.student

    def arrange(recipe: str, seed: int | None = None) -> None:
        def student(folder, **training):
            if training["recipe"] == recipe and seed in (None, training["seed"]):
                raise MemoryError("not enough")
            return real(folder, **training)

        monkeypatch.setattr(trainings, "student", student)

    return arrange


def test_a_training_that_fails_loses_nothing_of_the_others(failing, tmp_path):
    """It is noted, and done again when the comparison is resumed."""
    failing("hinton-kd", 1)
    found = compared(tmp_path / "out").found
    assert found["results"]["hinton-kd"]["failed"] == [{"seed": 1, "error": "MemoryError: not enough"}]
    assert list(found["results"]["hinton-kd"]["seeds"]) == ["0"]
    assert found["results"]["alone"]["failed"] == []
    assert found["differences"][0]["low"] is None  # one shared seed
    failing("nothing")
    assert compared(tmp_path / "out", resume=True).found["results"]["hinton-kd"]["failed"] == []


def test_a_recipe_that_fails_with_every_seed_is_ranked_last(failing, tmp_path):
    """With its errors."""
    failing("alone")
    found = compared(tmp_path / "out").found
    assert found["recipes"] == ["hinton-kd", "alone"]
    assert [each["seed"] for each in found["results"]["alone"]["failed"]] == [0, 1]
    assert found["winner"]["recipe"] == "hinton-kd"
    assert found["said"] == "hinton-kd is the only one of which there are numbers; there is nothing to compare it with."


def test_a_teacher_that_cannot_be_trained_ends_it(tmp_path, monkeypatch):
    """All would wait for it."""
    monkeypatch.setattr(trainings, "teacher", lambda folder, **_: 1 / 0)
    with pytest.raises(Failed, match=r"the teacher could not be trained: ZeroDivisionError: division by zero; see .*teacher\.log"):
        compared(tmp_path / "out")


def test_minutes_are_turned_into_updates_by_a_measured_speed_that_is_kept(tmp_path, monkeypatch):
    """A resumed comparison on a busier machine must not give the rest another budget."""
    found = compared(tmp_path / "out", minutes=0.02, updates=None, seeds=1).found
    assert found["budget"]["kind"] == "minutes"
    for name in TWO:
        speed = json.loads((tmp_path / "out" / "probes" / f"{name}.json").read_text())["outcome"]["found"]
        updates = found["results"][name]["updates"]
        each, whole = speed["stages"][{"alone": "train"}.get(name, "distil")], 0.02 * 60
        epoch = 899 / 64
        assert updates * each + updates / epoch * speed["validation"] == pytest.approx(whole, abs=each + speed["validation"])
    monkeypatch.setattr("tutelage.jobs.comparison.budget.probe", None)
    again = compared(tmp_path / "out", minutes=0.02, updates=None, seeds=1, resume=True).found
    assert {n: r["updates"] for n, r in again["results"].items()} == {n: r["updates"] for n, r in found["results"].items()}


def test_minutes_that_are_too_short_for_any_training_are_refused(tmp_path):
    """Said once the speeds are known."""
    with pytest.raises(BadInput, match="recipe hinton-kd cannot keep the budget in seconds: its shortest training costs"):
        compared(tmp_path / "out", minutes=1e-9, updates=None)


def test_tuned_knobs_are_what_is_trained_with_and_tuning_sees_no_compared_seed(tmp_path):
    """Tuning on a seed that is compared would favour what fits its luck."""
    pytest.importorskip("optuna")
    found = compared(tmp_path / "out", ["ps-kd"], tune=3, seeds=1, train_teacher=False, teacher=None, updates=30).found
    for name in ("ps-kd", "alone"):
        result = found["results"][name]
        config = yaml.safe_load((tmp_path / "out" / "trials" / f"{name}-seed-0" / "config.yaml").read_text())
        chosen = result["tuning"]["chosen"]
        assert config["fit"]["lr"] == chosen["fit.lr"] == result["knobs"]["fit"]["lr"]
        assert all(config[k] == v for k, v in chosen.items() if "." not in k)
        assert result["tuning"]["updates"] <= 3 * 30
        # the defaults, trained as they were while tuning, are not what the compared seed gives
        assert result["tuning"]["tried"][0]["validation"] is not None
    default = trainings.student(
        tmp_path / "tuned", recipe="alone", roles={"student": PAIR["student"]}, data="digits", knobs={"fit": {"steps": 30}}, seed=-1
    )
    tried = found["results"]["alone"]["tuning"]["tried"][0]
    assert tried["knobs"]["fit.lr"] == pytest.approx(1e-3)
    assert tried["validation"] == pytest.approx(default["validation"]["accuracy"])
    assert -1 not in found["budget"]["seeds"]


@pytest.fixture
def user(tmp_path, monkeypatch) -> Path:
    """A folder with a user's own data and models, in which the command is given."""
    (tmp_path / "mine.py").write_text(
        "import torch\n"
        "from tutelage.data import Data, Table\n"
        "def rows(count, seed, labels=True):\n"
        "    x = torch.randn(count, 4, generator=torch.Generator().manual_seed(seed))\n"
        "    return Table({'x': x, **({'y': x.argmax(1)} if labels else {})}, name=f'rows-{seed}')\n"
        "def unlabelled(): return Data(rows(64, 0, False), rows(32, 1, False), rows(32, 2, False))\n"
        "def unvalidated(): return Data(rows(64, 0), None, rows(32, 2))\n"
        "def one(): return Data(rows(64, 0))\n"
        "def net(): return torch.nn.Sequential(torch.nn.Linear(4, 4))\n"
    )
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_without_labels_agreement_with_the_teacher_is_compared(user):
    """All that can be said there."""
    tutelage.distill(student="mine.py:net", data="mine.py:unvalidated", recipe="alone", out="teacher", fit=Fit(steps=3), baseline=False)
    given = {"teacher": "teacher", "student": "mine.py:net", "data": "mine.py:unlabelled", "train_teacher": False, "trust_code": True}
    found = compared(user / "out", ["hinton-kd:alpha=1", "hinton-kd:alpha=1,temperature=2"], **given).found
    assert found["metric"] == "agreement"
    for result in found["results"].values():
        assert {"mean", "low", "high"} == set(result["test"]["agreement"])
        assert all(set(row["validation"]) == {"agreement"} for row in result["seeds"].values())
    assert found["differences"][0]["metric"] == "agreement"


@pytest.mark.parametrize(("data", "split"), [("unvalidated", "test"), ("one", "train")])
def test_without_a_split_to_choose_on_the_last_one_is_taken_and_that_is_said(data, split, user):
    """The winner of many on test is flattered by it."""
    found = compared(user / "out", ["alone"], student="mine.py:net", data=f"mine.py:{data}", teacher=None, train_teacher=False).found
    assert found["chosen_on"]["split"] == found["split"] == split
    found = compared(user / "two", ["ps-kd"], student="mine.py:net", data=f"mine.py:{data}", teacher=None, train_teacher=False).found
    assert f"There is no split to choose on, so {split} was chosen on, too" in found["said"]
    with pytest.raises(BadInput, match="has no such split"):
        compared(user / "three", ["alone"], student="mine.py:net", data=f"mine.py:{data}", teacher=None, train_teacher=False, tune=1)


def test_a_dry_run_writes_nothing_and_builds_no_model(tmp_path, monkeypatch):
    """It costs nothing to ask."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tutelage.signals.Model.module", property(lambda self: pytest.fail("a model was built")))
    found = compare("cnn:width=4", "cnn:width=2", train_teacher=True, updates=50, tune=2, dry_run=True, storage=None)
    assert list(tmp_path.iterdir()) == []
    assert found.folder is None
    assert {row.name: (row.updates, row.trainings) for row in found.rows} == {
        "teacher": (421, 1),
        "alone": (50, 5),
        "born-again": (48, 5),
        "fitnets": (50, 5),
        "hinton-kd": (50, 5),
        "ps-kd": (50, 5),
    }
    assert all(row.seconds > 0 for row in found.rows)
    by_time = compare(None, "cnn:width=2", minutes=2, dry_run=True)
    assert [(row.name, row.updates, row.seconds) for row in by_time.rows] == [("alone", None, 360.0), ("ps-kd", None, 360.0)]
    assert {each["recipe"] for each in by_time.left_out} == {
        "ast",
        "born-again",
        "consistency-distillation",
        "ddpm",
        "disback",
        "dmd",
        "fitnets",
        "gkd",
        "hinton-kd",
        "lm-kd",
        "minilmv2",
        "mtard",
        "mtt",
        "pgd-at",
        "progressive-distillation",
        "seqkd",
        "taid",
        "teacher-intervention",
    }


def test_without_a_budget_it_is_that_of_training_alone_by_itself():
    """Thirty epochs, as its default says."""
    found = compare(None, "mlp:width=2", dry_run=True)
    default = alone.__kwdefaults__["fit"].updates(899)
    assert {row.updates for row in found.rows} == {default} == {421}


def test_the_folder_of_something_else_is_not_written_into(done, tmp_path):
    """And a comparison is not continued with other settings."""
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("x")
    with pytest.raises(BadInput, match="already holds something else"):
        compared(tmp_path / "full")
    with pytest.raises(BadInput, match="holds a run, not a comparison; go on with: tutelage distill --resume"):
        compared(done.folder / "teacher", resume=True)
    with pytest.raises(BadInput, match="already holds a run; go on with --resume"):
        compared(done.folder)
    with pytest.raises(Mismatch, match="was made with another knobs"):
        compared(done.folder, updates=24, resume=True)


@pytest.mark.parametrize(
    "found", ["3", "{}", "[]", '{"models": {}}', '{"validation": {"accuracy": "x"}}', '{"validation": {"accuracy": NaN}}']
)
def test_a_result_that_was_changed_is_refused_in_a_sentence(found, done, tmp_path):
    """A folder may have been sent, or edited."""
    out = Path(shutil.copytree(done.folder, tmp_path / "out"))
    file = out / "trials" / "alone-seed-1.json"
    kept = json.loads(file.read_text())
    whole = kept["outcome"]["found"]
    changed = json.loads(found)
    kept["outcome"]["found"] = {**whole, **changed} if isinstance(changed, dict) and changed else changed
    file.write_text(json.dumps(kept))
    with pytest.raises(BadInput, match=r"alone-seed-1\.json is damaged; delete it"):
        compared(out, None, resume=True)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"seeds": 0}, "seeds=0: expected 1 to 1,000"),
        ({"seeds": 2.5}, "seeds=2.5: expected a whole number"),
        ({"seeds": True}, "seeds=True: expected a whole number"),
        ({"updates": 0}, "updates=0: expected at least 1"),
        ({"updates": 10, "minutes": 1}, "the budget is one of the two"),
        ({"updates": None, "minutes": 0}, "minutes=0: expected a number above 0"),
        ({"updates": None, "minutes": float("nan")}, "minutes=nan"),
        ({"updates": 2, "recipes": ["born-again"]}, "born-again cannot keep the budget in updates: its shortest training costs 3"),
        ({"tune": -1}, "tune=-1: expected 0 to 1,000"),
        ({"seed": "x"}, "seed='x': expected a whole number"),
        ({"engine": "rai"}, "engine 'rai' is not known; nearest: 'ray'"),
        ({"workers": -2}, "workers=-2"),
        ({"storage": "sqlite:///x.db"}, "add --tune N"),
        ({"tune": 1, "storage": "nodb://me:hunter2@host/x"}, r"storage nodb://\*\*\*@host/x cannot be opened"),
        ({"student": None}, "compare needs a student"),
        ({"student": object()}, "must be given by name or path, not as a object"),
        ({"teacher": lambda: None}, "must be given by name or path, not as a function"),
        ({"data": {"train": 3}}, "the data must be given by name or path, not as a dict"),
        ({"student": "mpl"}, "nearest: 'mlp'"),
        ({"teacher": "nothing/at/all"}, "does not exist"),
        ({"train_teacher": False}, "has no weights trained for these classes"),
        ({"out": ""}, "--out is empty"),
        ({"recipes": ["hinton"]}, "recipe 'hinton' is not known; nearest: 'hinton-kd'"),
        ({"recipes": ["hinton-kd"], "teacher": None, "train_teacher": False}, "needs a teacher"),
        ({"data": "digitz"}, "nearest: 'digits'"),
        ({"address": "here:1"}, "add --engine ray"),
    ],
)
def test_bad_input_is_refused_in_a_sentence_before_anything_is_trained(given, said, tmp_path, monkeypatch):
    """Hours later would be too late."""
    monkeypatch.setattr("tutelage.jobs.distill.train", lambda *_: pytest.fail("something was trained"))
    with pytest.raises((BadInput, FileNotFoundError), match=said) as refused:
        compared(**{"out": tmp_path / "out", **given})
    assert "hunter2" not in str(refused.value)


def test_tuning_without_optuna_says_what_to_install(tmp_path, monkeypatch):
    """An optional package."""
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(BadInput, match=r"pip install 'tutelage\[tune\]'"):
        compared(tmp_path / "out", tune=1)


def test_the_password_of_a_storage_is_in_no_file(tmp_path, monkeypatch):
    """A folder is passed on."""
    pytest.importorskip("optuna")
    database = f"sqlite:///{tmp_path / 'tuning.db'}"
    import optuna

    class Storage(optuna.storages.RDBStorage):
        """One that would take the password."""

        def __init__(self, url: str) -> None:
            assert url == "postgresql://me:hunter2@host/db"
            super().__init__(database)

    monkeypatch.setattr(optuna.storages, "RDBStorage", Storage)
    url = "postgresql://me:hunter2@host/db"
    monkeypatch.setattr(sys, "argv", ["tutelage", "compare", "--storage", url])
    out = tmp_path / "out"
    compared(out, ["alone"], tune=1, seeds=1, storage=url, teacher=None, train_teacher=False)
    assert yaml.safe_load((out / "config.yaml").read_text())["storage"] == "postgresql://***@host/db"
    for file in out.rglob("*"):
        assert file.is_dir() or b"hunter2" not in file.read_bytes(), file
