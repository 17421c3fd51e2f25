"""Pools: the same calls in this process, in several, and on a Ray cluster."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import trial_functions
import tutelage
from tutelage.errors import BadInput
from tutelage.jobs.pool import pool

PLACES = [str(Path(trial_functions.__file__).parent), str(Path(tutelage.__file__).parents[1])]
"""Where other processes find these modules."""


def alive(process: int) -> bool:
    """Whether there is such a process, and it has not ended."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def eventually(holds, seconds: float = 20.0) -> bool:
    """Whether something holds before long."""
    end = time.monotonic() + seconds
    while not holds() and time.monotonic() < end:
        time.sleep(0.05)
    return holds()


def test_in_this_process_a_call_is_made_when_it_is_submitted():
    """The engine for tests and debuggers."""
    with pool(workers=0, threads=3) as engine:
        assert (engine.workers, engine.threads) == (1, 3)
        assert engine.submit(os.getpid).result() == os.getpid()
        with pytest.raises(ValueError, match="invalid literal"):
            engine.submit(int, "x").result()


def test_processes_work_beside_each_other_and_one_that_dies_is_replaced():
    """One lack of memory must not lose the others' work."""
    with pool(workers=2, threads=1) as engine:
        found = [engine.submit(os.getpid) for _ in range(2)]
        dead = engine.submit(os._exit, 3)
        later = engine.submit(pow, 2, 5)
        assert os.getpid() not in {future.result() for future in found}
        with pytest.raises(Exception, match="Abnormal termination") as died:
            dead.result()
        assert died.value.exitcode == 3
        assert later.result() == 32


def test_leaving_in_an_error_stops_what_still_runs(tmp_path):
    """Ctrl-C must not leave trainings behind."""
    file = tmp_path / "pid"

    def stopped() -> None:
        with pool(workers=1) as engine:
            engine.submit(trial_functions.sleeps, str(file))
            assert eventually(lambda: file.exists() and file.read_text())
            raise KeyError

    with pytest.raises(KeyError):
        stopped()
    assert eventually(lambda: not alive(int(file.read_text())))


def test_processes_end_with_the_one_that_began_them(tmp_path):
    """After kill -9 the next command works in the same folders; a process that lived on would write there, too."""
    code = (
        "import sys, time, trial_functions\n"
        "from tutelage.jobs.pool import pool\n"
        "if __name__ == '__main__':\n"
        "    with pool(workers=1) as engine:\n"
        "        engine.submit(trial_functions.sleeps, sys.argv[1])\n"
        "        time.sleep(60)\n"
    )
    script, file = tmp_path / "begins.py", tmp_path / "pid"
    script.write_text(code)
    path = os.pathsep.join(PLACES)
    parent = subprocess.Popen([sys.executable, str(script), str(file)], env={**os.environ, "PYTHONPATH": path})
    try:
        assert eventually(lambda: file.exists() and file.read_text())
        child = int(file.read_text())
        assert alive(child)
    finally:
        parent.send_signal(signal.SIGKILL)
        parent.wait()
    assert eventually(lambda: not alive(child))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"engine": "procesess"}, "engine 'procesess' is not known; nearest: 'processes'"),
        ({"workers": -1}, "workers=-1: expected 0 to 1024"),
        ({"workers": 5000}, "workers=5000"),
        ({"threads": 0}, "threads=0: expected 1 to 1024"),
        ({"address": "10.0.0.1:6379"}, "that of a Ray cluster; add --engine ray"),
        ({"engine": "ray", "workers": 0}, "workers=0 runs trials in this process"),
    ],
)
def test_settings_out_of_range_are_refused(settings, said):
    """Before anything is started."""
    with pytest.raises(BadInput, match=said), pool(**settings):
        pass


def test_without_ray_one_sentence_says_what_to_install(monkeypatch):
    """An optional package."""
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(BadInput, match=r"pip install 'tutelage\[ray\]'"), pool("ray"):
        pass


def test_a_ray_cluster_carries_out_trials(tmp_path, monkeypatch, capfd):
    """A cluster of this machine alone, really started: results, failures, a death, and paths as seen from the command's folder."""
    pytest.importorskip("ray")
    from tutelage.jobs.trials import Trial, carry_out

    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(PLACES))
    monkeypatch.chdir(tmp_path)
    names = {"a": "add", "broken": "fails", "dead": "dies", "b": "add"}
    trials = [Trial(name, f"trial_functions:{f}", {"first": 2} if f == "add" else {}) for name, f in names.items()]
    with pool("ray", workers=2, threads=1) as engine:
        assert (engine.workers, engine.threads) == (2, 1)
        assert engine.submit(trial_functions.where, "").result() == str(tmp_path)
        found = carry_out(trials, Path("trials"), engine)
    assert found["a"].found == found["b"].found == {"sum": 2}
    assert found["broken"].error == "ValueError: no such thing"
    assert found["dead"].error
    assert {file.name for file in (tmp_path / "trials").glob("*.json")} == {"a.json", "b.json"}
    assert "Token authentication" not in "".join(capfd.readouterr())
