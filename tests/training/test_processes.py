"""Two processes: the same gradients on both, the same curves as in one, one decision about when to stop."""

from __future__ import annotations

import json
import multiprocessing
import runpy
import socket
from pathlib import Path

import pytest
import torch

SCRIPT = str(Path(__file__).with_name("crowd.py"))
crowd = runpy.run_path(SCRIPT)
CLOSE = {"rtol": 1e-5, "atol": 1e-6}


def train_in_two(folder: Path, cases: list[str]) -> None:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["accelerate", "tutelage.training", "tutelage.recipes", "torch.utils.data"])
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    started = [
        context.Process(target=runpy.run_path, args=(SCRIPT, {"CHILD": (rank, 2, port, str(folder), cases)}, "__child__"))
        for rank in (0, 1)
    ]
    for each in started:
        each.start()
    for each in started:
        each.join(120)
    assert [each.exitcode for each in started] == [0, 0]


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """What each of two processes saw of each case."""
    folder = tmp_path_factory.mktemp("two")
    cases = [
        "dmd",
        "disback",
        "consistency",
        "past",
        "gkd",
        "seqkd",
        "tokens",
        "uneven",
        "uneven-micro",
        "written",
        "written-micro",
        "cached",
        "turns",
        "together",
        "dropout",
        "stopped",
        "stopped-again",
    ]
    train_in_two(folder, cases)
    seen = {p.stem: torch.load(p, weights_only=True) for p in folder.glob("*.pt")}
    return folder, {case: [seen[f"{case}-rank{rank}"] for rank in (0, 1)] for case in crowd["CASES"]}


def lines(folder: Path, case: str) -> list[dict]:
    return [json.loads(line) for line in (folder / case / "metrics.jsonl").read_text().splitlines()]


def same_bits(a: list[dict], b: list[dict]) -> bool:
    return len(a) == len(b) and all(x.keys() == y.keys() and all(torch.equal(x[k], y[k]) for k in x) for x, y in zip(a, b, strict=True))


def assert_same_curves(one: list[dict], other: list[dict]) -> None:
    assert len(one) == len(other)
    for a, b in zip(one, other, strict=True):
        assert a["terms"] == pytest.approx(b["terms"], rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("case", ["tokens", "uneven", "turns", "together", "dropout"])
def test_gradients_and_weights_of_all_that_is_trained_are_equal_on_both_processes(two, case):
    """Else connectors drift apart in silence, at a plausible loss."""
    first, second = two[1][case]
    assert any("connector" in name or ".parts." in name for name in first["weights"][0])
    assert same_bits(first["weights"], second["weights"])
    assert same_bits(first["gradients"], second["gradients"])
    assert not same_bits(first["weights"][:1], first["weights"][1:2])


def test_the_past_self_of_two_processes_is_that_of_one(two, tmp_path):
    """A sample is met by another process in the next epoch; a table per process would give it its label for ever."""
    crowd["go"]("past", tmp_path)
    assert_same_curves(lines(tmp_path, "past"), lines(two[0], "past"))
    assert len({line["terms"]["past"] for line in lines(tmp_path, "past")}) == 12
    first, second = two[1]["past"]
    assert same_bits(first["weights"], second["weights"])


@pytest.mark.parametrize("case", ["gkd", "seqkd"])
def test_what_is_written_does_not_depend_on_how_many_processes_write(two, case, tmp_path):
    """A sample gets what it would get alone, wherever it is written; and a teacher's text is written once, by all of them together."""
    one = crowd["go"](case, tmp_path)
    assert_same_curves(lines(tmp_path, case), lines(two[0], case))
    first, second = two[1][case]
    assert same_bits(first["weights"], second["weights"])
    for name, weight in one["weights"][-1].items():
        torch.testing.assert_close(weight, first["weights"][-1][name], **CLOSE)


@pytest.mark.parametrize("case", ["dmd", "disback", "consistency"])
def test_generators_stay_the_same_on_both_processes(two, case):
    """Each draws noise of its own, for its own share of the labels; the weights must be those of all of it."""
    first, second = two[1][case]
    assert first["ended"] == 0
    assert same_bits(first["weights"], second["weights"])
    assert not same_bits(first["weights"][:1], first["weights"][-1:])
    assert first["shown"] == second["shown"]
    terms = {name for line in lines(two[0], case) for name in line["terms"]}
    expected = {
        "dmd": {"fake/fake", "fake/critic", "generator/matching", "generator/adversarial", "generator/regression", "matching/gap"},
        "disback": {"fake", "fake/fake", "generator/matching", "matching/gap"},
        "consistency": {"consistency"},
    }
    assert terms == expected[case]


@pytest.mark.parametrize("case", ["tokens", "uneven", "turns", "together"])
def test_controllers_see_the_same_averaged_numbers_on_both_processes(two, case):
    """Else a weight that follows a loss takes another value on each process."""
    first, second = two[1][case]
    assert first["shown"] == second["shown"]
    assert len(first["shown"]) == len(first["weights"])


@pytest.mark.parametrize(
    ("case", "micro_batch"),
    [("tokens", None), ("tokens", 4), ("tokens", 3), ("uneven", None), ("uneven", 2), ("uneven-micro", None)],
)
def test_curves_and_weights_equal_those_of_one_process_whatever_the_micro_batch(two, case, micro_batch, tmp_path):
    """Else the loss, and the student, depend on how many machines were free."""
    folder, seen = two
    one = crowd["go"](case, tmp_path, crowd["tokens"](8 if case == "tokens" else 7, micro_batch))
    assert_same_curves(lines(tmp_path, case), lines(folder, case))
    for name, weight in one["weights"][-1].items():
        torch.testing.assert_close(weight, seen[case][0]["weights"][-1][name], **CLOSE)
    for a, b in zip(one["shown"], seen[case][0]["shown"], strict=True):
        assert a == pytest.approx(b, rel=1e-5, abs=1e-6)


@pytest.mark.parametrize(("case", "micro_batch"), [("written", None), ("written", 3), ("written-micro", None)])
def test_activations_are_written_alike_in_one_process_in_two_and_in_pieces(two, case, micro_batch, tmp_path):
    """A teacher's tensor must meet its own samples, and the schedule be one for all."""
    folder, seen = two
    one = crowd["go"](case, tmp_path, crowd["written"](7, micro_batch))
    assert_same_curves(lines(tmp_path, case), lines(folder, case))
    for name, weight in one["weights"][-1].items():
        torch.testing.assert_close(weight, seen[case][0]["weights"][-1][name], **CLOSE)
    assert same_bits(*(seen[case][rank]["weights"] for rank in (0, 1)))


def test_a_cache_of_sequences_teaches_as_the_teacher_does(two):
    """Sequences are padded as the student's are, whichever samples a process or a piece of its batch holds."""
    folder, seen = two
    assert_same_curves(lines(folder, "cached"), lines(folder, "uneven-micro"))
    for name, weight in seen["uneven-micro"][0]["weights"][-1].items():
        torch.testing.assert_close(weight, seen["cached"][0]["weights"][-1][name], **CLOSE)
    assert same_bits(*(seen["cached"][rank]["weights"] for rank in (0, 1)))


@pytest.mark.parametrize("case", ["turns", "together"])
def test_two_learners_do_in_two_processes_what_they_do_in_one(two, case, tmp_path):
    """Else adversarial and mutual methods change with the number of processes."""
    folder, seen = two
    one = crowd["go"](case, tmp_path)
    terms = [{**each, "terms": {k: v for k, v in each["terms"].items() if k != "spread"}} for each in lines(tmp_path, case)]
    other = [{**each, "terms": {k: v for k, v in each["terms"].items() if k != "spread"}} for each in lines(folder, case)]
    assert_same_curves(terms, other)
    for name, weight in one["weights"][-1].items():
        torch.testing.assert_close(weight, seen[case][0]["weights"][-1][name], rtol=1e-4, atol=1e-5)


def test_processes_draw_different_dropout(two):
    """Else a batch spread over processes sees the same few units dropped."""
    first, second = two[1]["dropout"]
    assert not set(first["seeds"]) & set(second["seeds"])
    assert len(set(first["seeds"])) == len(first["seeds"]) == 24  # two turns of twelve steps


def test_when_one_process_is_asked_to_stop_all_save_at_the_same_step_and_resume_to_the_same_end(two):
    """Else the others wait for ever, or the resumed run is another one."""
    folder, seen = two
    again = seen["stopped"]
    assert [s["ended"] for s in again] == [0, 0]
    assert len(again[0]["weights"]) == len(again[1]["weights"]) == 2  # the steps 11 and 12 were left
    assert same_bits(again[0]["weights"], seen["dropout"][0]["weights"][-2:])
    assert (folder / "stopped" / "metrics.jsonl").read_text() == (folder / "dropout" / "metrics.jsonl").read_text()
