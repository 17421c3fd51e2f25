"""What is compared does the same work on both sides: shown in float64, where rounding hides nothing. Shapes: B batch."""

from __future__ import annotations

import pytest
import torch

import early_stop
import loop
import objectives
import peer
import startup
import taps
import timing
import training
from nets import Even, built, images, tokens
from tutelage import Model, Table
from tutelage import objectives as room
from tutelage.cli.main import COMMANDS

STEPS = 6


@pytest.fixture
def exact(monkeypatch):
    """Float64 nets and samples, blocks of two steps, and weights that must agree to the last digits."""
    monkeypatch.setattr(loop, "BLOCK", 2)
    monkeypatch.setattr(loop, "same", agree)
    monkeypatch.setattr(training, "same", agree)
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


compared = []


def agree(one, other):
    for a, b in zip(one.parameters(), other.parameters(), strict=True):
        assert a.dtype == torch.float64
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-11)
    compared.append((one, other))


@pytest.fixture
def torchdistill():
    try:
        return peer.load()
    except peer.NotInstalled as error:
        pytest.skip(str(error))


def small(kind):
    return images(8, 6, 4) if kind == "convolutional" else tokens(5, 8, 4)


@pytest.mark.parametrize("kind", ["convolutional", "transformer"])
def test_the_loop_by_hand_trains_as_ours(exact, kind):
    """A hand-written loop that does less would make ours look slow, one that does more would flatter it."""
    compared.clear()
    row = loop.measure(kind, small(kind), STEPS)
    ((one, other),) = compared
    agree(one, other)  # at the end as well
    assert row["blocks"] == 2


def test_the_check_of_the_loop_can_fail(exact, monkeypatch):
    """Otherwise it proves nothing."""
    monkeypatch.setattr(loop, "distillation", lambda: loop.CrossEntropy())
    with pytest.raises(AssertionError):
        loop.measure("convolutional", small("convolutional"), STEPS)


@pytest.mark.parametrize(("kind", "tap"), [("convolutional", None), ("convolutional", "blocks.1"), ("transformer", "body.layers.0")])
def test_torchdistill_trains_as_ours(torchdistill, exact, kind, tap):
    """Another loss, schedule or order of samples on its side would make the ratio mean nothing."""
    compared.clear()
    theirs, ours = training.plain(small(kind), STEPS) if tap is None else training.hinted(small(kind), tap, STEPS)
    ((one, other),) = compared
    agree(one, other)
    assert len(theirs) == len(ours) == 2


@pytest.mark.parametrize("number", range(5))
def test_torchdistills_hooks_show_the_same_features(torchdistill, number):
    """At the same modules, in a pass of the same net."""
    case = taps.cases()[number]
    case = taps.Case(case.name, case.net, case.x[:3], case.paths, case.logits)
    ours, theirs = taps.Ours(case), taps.Theirs(case, torchdistill)
    with ours.watching():
        for _ in range(2):
            torch.testing.assert_close(dict(ours.features()), theirs.features())
    assert set(theirs.features()) == {*case.paths, *(["logits"] if case.logits else [])}


def test_a_stand_in_of_torchvision_is_gone_after_the_import_and_cannot_be_used(torchdistill):
    """It must neither fool other packages nor take part in what is timed."""
    import sys

    if torchdistill.torchvision != "stand-in":
        pytest.skip("torchvision itself is here")
    assert not [name for name in sys.modules if name.startswith("torchvision")]
    with pytest.raises(peer.NotInstalled, match="needs torchvision"):
        peer.Absent()
    assert "stand-ins for the six names" in peer.note()
    assert sum(map(len, peer.NAMES.values())) == 6


@pytest.mark.parametrize("number", range(2))
def test_the_half_pass_runs_half_of_the_equal_blocks(number):
    """Depth 0.5 must be the end of block 4 of 8, and its signal that of the full pass."""
    case = early_stop.cases()[number]
    batch = {"id": torch.arange(2), "x": case.x[:2]}
    model, ran = Model(case.net), []
    assert model.path(early_stop.TAP, batch) == "blocks.3"
    for i, block in enumerate(case.net.blocks):
        block.register_forward_hook(lambda *_, i=i: ran.append(i))
    with torch.no_grad():
        shown = model.observe(batch, {early_stop.TAP})[early_stop.TAP]
        assert ran == [0, 1, 2, 3]
        torch.testing.assert_close(shown, model.observe(batch, {"blocks.3", "logits"})["blocks.3"])
    assert ran == [0, 1, 2, 3, *range(8)]
    counts = {sum(p.numel() for p in block.parameters()) for block in case.net.blocks}
    assert len(counts) == 1


def test_every_objective_and_distance_has_a_row():
    """A new one would be missing from the table of step times."""
    code = room.__all__
    parts = {"Connector", "Distance", "Match", "Needs", "Objective", "Over", "Seen", "Shapes", "Term", "CrossEntropy"}
    parts |= {"count_of", "mean_of", "safe_count", "sum_of"}
    told = " ".join(objectives.objectives())
    assert [name for name in code if name not in parts and name not in told] == []


def test_each_objective_trains_the_shared_student():
    """A few steps of each; the teacher stays as it is."""
    table, teacher, student, _ = built(images(8, 6, 4))
    table = Table({name: column[:64] for name, column in table.columns.items()})
    teacher = objectives.Probabilities(teacher).eval()
    before = [p.clone() for p in teacher.parameters()]
    for name, loss in objectives.objectives().items():
        start = [p.clone() for p in student.parameters()]
        assert objectives.block(table, teacher, student, loss, steps=1) > 0, name
        assert any(not torch.equal(a, b) for a, b in zip(start, student.parameters(), strict=True)), name
    assert all(torch.equal(a, b) for a, b in zip(before, teacher.parameters(), strict=True))


def test_every_command_is_started_and_answers():
    """The list follows the command line's own, so that a new verb is timed from its first day."""
    found = startup.commands()
    for verb in COMMANDS:
        assert found[f"tutelage {verb} --help"] == ["-m", "tutelage", verb, "--help"]
    assert startup.start(found["tutelage --version"]).startswith("tutelage ")
    assert startup.start(found[startup.BARE]) == ""


def test_sides_take_turns_and_the_first_one_changes():
    """Who goes second finds the caches of who went first."""
    said = []
    taken = timing.turns({"a": lambda: said.append("a"), "b": lambda: said.append("b")}, rounds=3, warm=1)
    assert said == ["a", "b", "b", "a", "a", "b", "b", "a"]
    assert {name: len(times) for name, times in taken.items()} == {"a": 3, "b": 3}


def test_ratios_are_taken_within_a_round():
    """Where the processor slows down for both, the ratio stays; the ratio of two medians would not."""
    row = timing.compared("what", "against", [1.0, 2.0, 10.0, 4.0], [2.0, 4.0, 20.0, 8.0], each=2)
    assert row["ratio"] == {"median": 2.0, "lower_quartile": 2.0, "upper_quartile": 2.0}
    assert row["reference_ms"]["median"] == 1500.0
    assert row["blocks"] == 4


def test_the_blocks_of_the_even_net_are_alike():
    """Half of them must be half of the work."""
    net, x = Even(4, 6), torch.randn(2, 1, 8, 8)
    shapes = set()
    for part in net.blocks:
        part.register_forward_hook(lambda _m, given, out: shapes.add((given[0].shape, out.shape)))
    net(x)
    assert len(shapes) == 1
