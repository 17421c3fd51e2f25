"""Trials: what is finished is kept and never done again, and one that fails loses nothing of the others."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path

import pytest

from tutelage.errors import BadInput, Interrupted, Mismatch
from tutelage.jobs.pool import pool
from tutelage.jobs.trials import Trial, alone_in, carry_out, finished


def trial(name: str, function: str = "add", after: tuple[str, ...] = (), aside: dict | None = None, **settings: object) -> Trial:
    """A trial by one of the functions in trial_functions.py."""
    given = {"first": 1, **settings} if function == "add" else settings
    return Trial(name, f"trial_functions:{function}", given, after, aside or {})


def here(trials: list[Trial], folder: Path, **more: object) -> dict:
    """Carry them out in this process."""
    with pool(workers=0) as engine:
        return carry_out(trials, folder, engine, **more)


def calls(folder: Path) -> dict[str, int]:
    """How often each was called."""
    return {file.stem: len(file.read_text().splitlines()) for file in sorted(folder.glob("*.calls"))}


def test_what_is_finished_is_not_done_again(tmp_path):
    """A comparison of days would otherwise begin anew with each crash."""
    first = here([trial("a"), trial("b", second=4)], tmp_path)
    events: list = []
    again = here(
        [trial("a"), trial("b", second=4), trial("c", second=7)], tmp_path, told=lambda event, name, _: events.append((event, name))
    )
    assert {name: outcome.found for name, outcome in again.items()} == {"a": {"sum": 1}, "b": {"sum": 5}, "c": {"sum": 8}}
    assert calls(tmp_path) == {"a": 1, "b": 1, "c": 1}
    assert events == [("kept", "a"), ("kept", "b"), ("begun", "c"), ("done", "c")]
    assert first["a"] == again["a"]
    assert set(finished([trial("a"), trial("d")], tmp_path)) == {"a"}


def test_one_that_fails_loses_nothing_of_the_others_and_is_tried_again(tmp_path):
    """The reason is in the outcome, all of it in the log."""
    found = here([trial("broken", "fails"), trial("politely", "leaves"), trial("a")], tmp_path)
    assert found["a"].found == {"sum": 1}
    assert found["broken"].error == "ValueError: no such thing"
    assert found["politely"].error == "SystemExit: enough"
    log = (tmp_path / "broken.log").read_text()
    assert "this is written before it fails" in log
    assert "Traceback" in log
    assert not (tmp_path / "broken.json").exists()
    (tmp_path / "mended").touch()
    assert here([trial("broken", "fails")], tmp_path)["broken"].found == {"sum": 0}


def test_what_a_trial_prints_goes_to_its_log_and_nowhere_else(tmp_path, capfd):
    """stdout is for the command's own results."""
    here([trial("a", second=2)], tmp_path)
    assert (tmp_path / "a.log").read_text() == "adding 1 and 2\n"
    assert capfd.readouterr() == ("", "")


def test_a_trial_waits_for_another_and_is_not_begun_where_that_failed(tmp_path):
    """A student of a teacher that could not be trained."""
    trials = [trial("late", after=("early",)), trial("early"), trial("lost", after=("broken",)), trial("broken", "fails")]
    events: list = []
    found = here([*trials, trial("lost-too", after=("lost",))], tmp_path, told=lambda event, name, _: events.append((event, name)))
    begun = [name for event, name in events if event == "begun"]
    assert begun.index("early") < begun.index("late")
    assert "lost" not in begun
    assert found["lost"].error == "it needs broken, which failed"
    assert found["lost-too"].error == "it needs lost, which failed"
    assert list(found) == ["late", "early", "lost", "broken", "lost-too"]


def test_what_was_made_with_other_settings_is_refused(tmp_path):
    """Numbers of two budgets would stand in one table."""
    here([trial("a", second=3)], tmp_path)
    with pytest.raises(Mismatch, match="was made with another second; take another folder"):
        here([trial("a", second=4)], tmp_path)


def test_what_is_passed_aside_is_neither_compared_nor_written(tmp_path):
    """A password, or a folder that has moved."""
    here([trial("a", aside={"secret": "hunter2"})], tmp_path)
    here([trial("a", aside={"secret": "other"})], tmp_path)
    assert calls(tmp_path) == {"a": 1}
    for file in tmp_path.iterdir():
        assert "hunter2" not in file.read_text()


@pytest.mark.parametrize("text", ["", "{", "[]", "3", '{"outcome": {}}', '{"outcome": {"name": "a"}, "settings": {}}', "[" * 100_000])
def test_a_damaged_result_is_refused_in_a_sentence(text, tmp_path):
    """A disk that was full, or an editor."""
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(BadInput, match=r"a\.json is damaged; delete it, and the trial is done again"):
        here([trial("a")], tmp_path)


@pytest.mark.parametrize(
    ("trials", "said"),
    [
        ([trial("a"), trial("a")], "expected distinct names"),
        ([trial("a/b")], "that can be files"),
        ([trial(".a")], "that can be files"),
        ([trial("a", after=("teachr",)), trial("teacher")], "which is not there; nearest: 'teacher'"),
    ],
)
def test_trials_that_cannot_be_kept_apart_are_refused(trials, said, tmp_path):
    """Two results in one file."""
    with pytest.raises(BadInput, match=said):
        here(trials, tmp_path)


def test_none_is_begun_when_time_is_up(tmp_path):
    """What was finished before still counts."""
    here([trial("a")], tmp_path)
    events: list = []
    found = here(
        [trial("a"), trial("b"), trial("c")], tmp_path, until=time.monotonic(), told=lambda event, name, _: events.append((event, name))
    )
    assert list(found) == ["a"]
    assert events == [("kept", "a"), ("left", "b"), ("left", "c")]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_row_and_keeps_what_was_finished_meanwhile(number, tmp_path):
    """The trial that was running when the signal came is finished here; it must not be done again."""
    before = signal.getsignal(number)
    trials = [trial("a", "told_to_stop", number=int(number)), trial("b")]
    with pytest.raises(Interrupted, match="1 of 2 trials finished") as stopped:
        here(trials, tmp_path)
    assert stopped.value.exit_code == 128 + number
    assert signal.getsignal(number) is before
    assert list(finished(trials, tmp_path)) == ["a"]
    assert calls(tmp_path) == {}


def test_two_processes_do_not_work_in_one_folder(tmp_path):
    """Each would do the other's trials again, in the same run folders."""
    with alone_in(tmp_path), pytest.raises(BadInput, match="another process is at work in"):
        here([trial("a")], tmp_path)
    here([trial("a")], tmp_path)


def test_a_dying_process_loses_only_its_trial(tmp_path):
    """Memory that runs out in one training takes the others with it in most pools."""
    trials = [trial("a"), trial("dead", "dies"), trial("b"), trial("broken", "fails"), trial("c", after=("a",))]
    with pool(workers=2, threads=1) as engine:
        found = carry_out(trials, tmp_path, engine)
    assert {name: outcome.found for name, outcome in found.items() if outcome.found} == {name: {"sum": 1} for name in "abc"}
    assert found["dead"].error.startswith("its process died (exit code -9)")
    assert found["broken"].error == "ValueError: no such thing"
    assert {file.name for file in tmp_path.glob("*.json")} == {"a.json", "b.json", "c.json"}
    assert json.loads((tmp_path / "a.json").read_text())["settings"] == {"first": 1}
