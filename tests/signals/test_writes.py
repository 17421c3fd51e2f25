"""Writes: a teacher's activations in a student's pass, gone after it. Shapes: B=3, D=5, V=7."""

from __future__ import annotations

import collections
import dataclasses

import pytest
import torch
from torch import nn

from tutelage.errors import BadInput, ShapeMismatch, UnknownTap
from tutelage.signals import Model, Signals, Write, detached
from tutelage.signals.observe import unwatched_copy
from tutelage.signals.writes import Seen, taps_of, with_first
from tutelage.state import Clock, during

B, D, V = 3, 5, 7


class Net(nn.Module):
    """a -> b -> c -> head; dropout between."""

    def __init__(self, width=D):
        super().__init__()
        self.a, self.b, self.c = nn.Linear(D, width), nn.Linear(width, width), nn.Linear(width, width)
        self.head = nn.Linear(width, V)

    def forward(self, x):
        return self.head(torch.tanh(self.c(torch.tanh(self.b(torch.tanh(self.a(x)))))))


def net(seed, width=D):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return Net(width)


@pytest.fixture
def batch(rng):
    return {"id": torch.arange(B), "x": torch.randn(B, D, generator=rng)}


@pytest.fixture
def pair():
    return Model(net(0)), Model(net(1))


def hooks(module):
    return [h for m in module.modules() for h in (*m._forward_hooks, *m._forward_pre_hooks, *m._forward_pre_hooks_with_kwargs)]


def shown(teacher, batch, *taps):
    with torch.no_grad():
        return teacher.observe(batch, set(taps))


@pytest.mark.parametrize("stop_early", [True, False])
def test_a_teachers_tensor_stands_where_it_is_written_and_taps_show_the_students_own(pair, batch, stop_early):
    """The student's own tensors are what its losses are about."""
    student, teacher = pair
    told = shown(teacher, batch, "b")
    seen = student.observe(batch, {"a", "b", "c", "logits"}, writes=[Write("b", by="b")], teacher=told, stop_early=stop_early)
    s = student.module
    a = s.a(batch["x"])
    c = s.c(torch.tanh(told["b"]))
    expected = {"a": a, "b": s.b(torch.tanh(a)), "c": c, "logits": s.head(torch.tanh(c))}
    for tap, value in expected.items():
        torch.testing.assert_close(seen[tap], value)
    early = student.observe(batch, {"b"}, writes=[Write("b", by="b")], teacher=told, stop_early=stop_early)
    torch.testing.assert_close(early["b"], expected["b"])
    assert hooks(s) == []


def test_writing_what_the_student_shows_itself_changes_no_bit(batch):
    """A student that is its teacher must not notice."""
    student, teacher = Model(net(0)), Model(net(0))
    writes = [Write(p, by=p) for p in "abc"] + [Write(p, by=detached, side="input") for p in "bc"]
    told = shown(teacher, batch, *taps_of(writes))
    plain, written = student.observe(batch, {"logits"}), student.observe(batch, {"logits"}, writes=writes, teacher=told)
    assert torch.equal(plain["logits"], written["logits"])


def test_where_all_is_written_the_student_shows_what_its_teacher_shows(pair, batch):
    """Whatever weights lie below."""
    student, teacher = pair
    told = shown(teacher, batch, "head", "logits")
    seen = student.observe(batch, {"logits"}, writes=[Write("head", by="head")], teacher=told)
    assert torch.equal(seen["logits"], told["logits"])


def test_gradients_stop_where_a_teachers_tensor_or_a_detached_one_stands(pair, batch):
    """What lies below a written point learns from its own losses alone."""
    student, teacher = pair
    told = shown(teacher, batch, "b")
    for write in (Write("b", by="b"), Write("c", by=detached, side="input")):
        student.module.zero_grad()
        student.observe(batch, {"logits"}, writes=[write], teacher=told)["logits"].sum().backward()
        reached = {n.partition(".")[0] for n, p in student.module.named_parameters() if p.grad is not None}
        assert reached == {"c", "head"}


def test_a_function_sees_the_teacher_the_batch_and_the_student_so_far(pair, batch):
    """An attention map of the teacher is applied to values of the student."""
    student, teacher = pair
    told = shown(teacher, batch, "a")
    met = []

    def by(own, seen: Seen):
        met.append(seen)
        return seen.student["a"] * seen.teacher["a"] + seen.batch["x"] + own

    seen = student.observe(batch, {"logits"}, writes=[Write("c", by, reads=["a"], sees=["a"], side="input")], teacher=told)
    s, a = student.module, student.module.a(batch["x"])
    given = a * told["a"] + batch["x"] + torch.tanh(s.b(torch.tanh(a)))
    torch.testing.assert_close(seen["logits"], s.head(torch.tanh(s.c(given))))
    seen["logits"].sum().backward()
    assert s.a.weight.grad is not None
    assert len(met) == 1


@pytest.mark.parametrize("taps", [{"a"}, {"logits"}, {"a", "c", "logits"}])
def test_hooks_of_a_stage_stay_and_only_its_own_passes_are_written(pair, batch, taps):
    """An evaluation in the middle of a stage sees the student as it is."""
    student, teacher = pair
    told = shown(teacher, batch, "b", "logits")
    when = during(1, 2)
    when.open()
    writes = [Write("b", by="b", when=when), Write("head", by="logits", when=when)]
    plain = {tap: student.observe(batch, {tap})[tap] for tap in taps}
    with student.watching(taps, batch, writes):
        installed = hooks(student.module)
        for step in range(3):
            when.begin(Clock("s", step, 3, 0, 1.0, 0))
            written = student.observe(batch, taps, writes=writes, teacher=told)
            assert hooks(student.module) == installed
            for tap in taps - {"c"}:
                expected = told["logits"] if step == 1 and tap == "logits" else plain[tap]
                torch.testing.assert_close(written[tap], expected)
            untouched = student.observe(batch, taps)
            assert all(torch.equal(untouched[tap], plain[tap]) for tap in taps)
            assert torch.equal(student.module(batch["x"]), student.observe(batch, {"logits"})["logits"])
            twin = unwatched_copy(student.module)
            assert hooks(twin) == []
    assert hooks(student.module) == []


def test_compiled_students_are_written_too(pair, batch, monkeypatch):
    """A compiled module honours the hooks it had at first; the schedule must still move."""
    original = nn.Module.compile
    monkeypatch.setattr(nn.Module, "compile", lambda self: original(self, backend="eager"))
    student, teacher = pair
    told = shown(teacher, batch, "b", "logits")
    when = during(1, 2)
    when.open()
    writes = [Write("head", by="logits", when=when)]
    plain = student.observe(batch, {"logits"})["logits"]
    with student.watching({"logits"}, batch, writes):
        student.compile()
        for step in range(3):
            when.begin(Clock("s", step, 3, 0, 1.0, 0))
            seen = student.observe(batch, {"logits"}, writes=writes, teacher=told)["logits"]
            torch.testing.assert_close(seen, told["logits"] if step == 1 else plain)
    student.uncompile()
    torch._dynamo.reset()


@pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt])
def test_no_hook_is_left_when_a_write_fails(pair, batch, error):
    """A hook that stays would change the user's model."""
    student, _ = pair

    def by(own, seen):
        raise error

    plain = student.module(batch["x"])
    with pytest.raises(error):
        student.observe(batch, {"logits"}, writes=[Write("b", by)])
    assert hooks(student.module) == []
    assert torch.equal(student.module(batch["x"]), plain)
    with student.watching({"logits"}, batch, [write := Write("b", by)]):
        with pytest.raises(error):
            student.observe(batch, {"logits"}, writes=[write])
        assert torch.equal(student.module(batch["x"]), plain)


def test_a_module_that_is_called_again_is_written_once(batch):
    """A tap is a module's first output in a pass; what is written there is the same one."""

    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.a = nn.Linear(D, D)

        def forward(self, x):
            return self.a(torch.tanh(self.a(x)))

    student = Model(Twice())
    told = Signals({"a": torch.ones(B, D)})
    for _ in range(2):
        seen = student.observe(batch, {"logits"}, writes=[Write("a", by="a")], teacher=told)
        torch.testing.assert_close(seen["logits"], student.module.a(torch.tanh(torch.ones(B, D))))


def test_half_precision_passes_get_what_they_can_take(batch):
    """Signals are raised to float32; a layer in bfloat16 takes none of that."""
    student = Model(net(0).bfloat16())
    told = Signals({"b": torch.randn(B, D)})
    seen = student.observe({**batch, "x": batch["x"].bfloat16()}, {"logits"}, writes=[Write("b", by="b")], teacher=told)
    assert seen["logits"].dtype == torch.bfloat16


@dataclasses.dataclass
class Output:
    hidden: torch.Tensor
    rest: object = None


Pair = collections.namedtuple("Pair", "first second")


@pytest.mark.parametrize(
    ("given", "read"),
    [
        (torch.zeros(2), lambda g: g),
        ((torch.zeros(2), 5), lambda g: g[0]),
        ([None, torch.zeros(2)], lambda g: g[1]),
        ({"a": None, "b": torch.zeros(2)}, lambda g: g["b"]),
        (collections.OrderedDict(a=torch.zeros(2)), lambda g: g["a"]),
        (Output(torch.zeros(2), 3), lambda g: g.hidden),
        (Pair(torch.zeros(2), 1), lambda g: g.first),
        ((None, {"deep": [torch.zeros(2)]}), lambda g: g[1]["deep"][0]),
    ],
    ids=lambda x: type(x).__name__,
)
def test_the_first_tensor_is_replaced_in_whatever_holds_it(given, read):
    """Attention layers give tuples, and models dataclasses."""
    made = with_first(given, lambda t: t + 1, "p")
    assert type(made) is type(given)
    assert torch.equal(read(made), torch.ones(2))
    assert torch.equal(read(given), torch.zeros(2))


def test_what_cannot_be_written_says_so(pair, batch):
    """Each of these trains on nonsense, or on nothing, if it passes."""
    student, _ = pair
    told = Signals({"b": torch.randn(B, D + 1)})
    with pytest.raises(ShapeMismatch, match="same width"):
        student.observe(batch, {"logits"}, writes=[Write("b", by="b")], teacher=told)
    with pytest.raises(BadInput, match="nobody was asked"):
        student.observe(batch, {"logits"}, writes=[Write("b", by="b")])
    with pytest.raises(UnknownTap, match="'bb'"):
        student.observe(batch, {"logits"}, writes=[Write("bb", by="b")], teacher=told)
    with pytest.raises(BadInput, match="sees 'c'"):
        student.observe(batch, {"logits"}, writes=[Write("b", by=detached, sees=["c"])])
    with pytest.raises(BadInput, match="expected a tensor"):
        student.observe(batch, {"logits"}, writes=[Write("b", by=lambda own, seen: 3)])
    with pytest.raises(BadInput, match="side='middle'"):
        Write("b", by="b", side="middle")
    with pytest.raises(BadInput, match="inside the student"):
        Write("logits", by="b")
    with pytest.raises(BadInput, match="inside the student"):
        Write("b", by="b", sees=["logits"])
    with pytest.raises(BadInput, match="found no tensor"):
        with_first((3,), torch.neg, "p")
    student.module.unused = nn.Linear(2, 2)
    with pytest.raises(BadInput, match="did not happen"):
        student.observe(batch, {"logits"}, writes=[Write("unused", by=detached)])
    assert hooks(student.module) == []
