"""Observing a model: early stop, full pass, compiled, interrupted - the same signals, and no hook left. Shapes: B=3, D=5, V=7."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from tutelage.errors import BadInput, UnknownTap
from tutelage.signals import Depth, Model

B, D, V = 3, 5, 7
SETS = [{"a"}, {"b"}, {"a", "c.0"}, {"c"}, {"a", "c", "logits"}, {"logits"}, {"a", "b", "c.0", "c", "head", "logits"}]
each_set = pytest.mark.parametrize("taps", SETS, ids=lambda taps: "+".join(sorted(taps)))


class Net(nn.Module):
    """a -> b -> (c.0, c) -> head, counting its calls."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(D, D), nn.Linear(D, D)
        self.c = nn.Sequential(nn.Linear(D, D), nn.Tanh())
        self.head = nn.Linear(D, V)

    def forward(self, x):
        x = torch.relu(self.a(x))
        x = torch.relu(self.b(x))
        return self.head(self.c(x))


@pytest.fixture
def net():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Net()


@pytest.fixture
def batch(rng):
    return {"id": torch.arange(B), "x": torch.randn(B, D, generator=rng)}


@pytest.fixture
def eager_compile(monkeypatch):
    """Capture graphs as `compile` does, without waiting for a C++ compiler."""
    original = nn.Module.compile
    monkeypatch.setattr(nn.Module, "compile", lambda self: original(self, backend="eager"))
    yield
    torch._dynamo.reset()


def by_hand(net, x):
    """The signals computed without any hook."""
    a = net.a(x)
    b = net.b(torch.relu(a))
    c0 = net.c[0](torch.relu(b))
    c = torch.tanh(c0)
    return {"a": a, "b": b, "c.0": c0, "c": c, "head": net.head(c), "logits": net.head(c)}


def check(signals, net, x, taps):
    expected = by_hand(net, x)
    assert set(signals) == set(taps)
    for tap in taps:
        torch.testing.assert_close(signals[tap], expected[tap])


def hooks(module):
    return [h for m in module.modules() for h in (*m._forward_hooks, *m._forward_pre_hooks, *m._backward_hooks)]


def counted(net):
    """Count the calls of each module by wrapping its forward, so that no hook is involved."""
    calls = []
    for name, part in net.named_modules():
        if name:
            part.forward = (lambda f, n: lambda *a: (calls.append(n), f(*a))[1])(part.forward, name)
    return calls


@each_set
@pytest.mark.parametrize("stop_early", [True, False])
def test_signals_are_the_tensors_of_a_pass_by_hand_with_and_without_early_stop(net, batch, taps, stop_early):
    """Early stop is an optimisation: were the signals to differ, cost would change the result."""
    check(Model(net).observe(batch, taps, stop_early=stop_early), net, batch["x"], taps)
    assert hooks(net) == []


@each_set
def test_compiled_signals_are_the_same(net, batch, taps, eager_compile):
    """Hooks added after a compiled module's first call are ignored without a word; a watch puts them there before."""
    model = Model(net)
    with model.watching(taps, batch):
        model.compile()
        assert model.compiled
        for _ in range(2):
            check(model.observe(batch, taps), net, batch["x"], taps)
    model.uncompile()
    assert hooks(net) == []
    assert not model.compiled


def test_stages_with_other_taps_see_their_own_signals_when_compiled(net, batch, eager_compile):
    """What was compiled for the first stage's hooks must be gone in the second."""
    model = Model(net)
    for taps in ({"a", "logits"}, {"c.0"}, {"logits"}, {"a", "b"}):
        with model.watching(taps, batch):
            model.compile()
            for scale in (1, 2):
                x = scale * batch["x"]
                check(model.observe({**batch, "x": x}, taps), net, x, taps)
        model.uncompile()
    assert hooks(net) == []
    check(model.observe(batch, {"b"}), net, batch["x"], {"b"})


def test_a_compiled_module_gives_gradients_and_bare_names(net, batch, eager_compile):
    """The saved student must load into a net that was never compiled."""
    model, plain = Model(net), copy.deepcopy(net)
    names = list(net.state_dict())
    with model.watching({"c.0", "logits"}, batch):
        model.compile()
        shown = model.observe(batch, {"c.0", "logits"})
        (shown["c.0"].square().sum() + shown["logits"].sum()).backward()
        assert list(net.state_dict()) == names
    expected = by_hand(plain, batch["x"])
    (expected["c.0"].square().sum() + expected["logits"].sum()).backward()
    for p, q in zip(net.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(p.grad, q.grad)
    model.uncompile()


def test_a_module_that_the_user_compiled_is_not_stopped_early(net, batch, eager_compile):
    """The raise would break its graph."""
    net.compile()
    model = Model(net)
    assert model.compiled
    with model.watching({"a"}, batch):
        check(model.observe(batch, {"a"}), net, batch["x"], {"a"})


@pytest.mark.slow
def test_signals_compiled_by_inductor_are_the_same(net, batch):
    """The compiler that users get; the eager one proves the same faster."""
    model = Model(net)
    taps = {"a", "c.0", "logits"}
    with model.watching(taps, batch):
        model.compile()
        check(model.observe(batch, taps), net, batch["x"], taps)
    model.uncompile()


@pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt])
@pytest.mark.parametrize("taps", [{"c.0"}, {"a", "c.0"}, {"logits"}, {"a", "logits"}])
def test_an_exception_in_the_users_model_passes_and_leaves_no_hook(net, batch, taps, error):
    """A hook left behind records, or stops, every pass that the user makes afterwards."""

    def failing(x):
        raise error

    model, forward = Model(net), net.b.forward
    net.b.forward = failing
    with pytest.raises(error):
        model.observe(batch, taps)
    assert hooks(net) == []
    net.b.forward = forward
    check(model.observe(batch, taps), net, batch["x"], taps)
    torch.testing.assert_close(net(batch["x"]), by_hand(net, batch["x"])["logits"])


def test_an_exception_within_a_watch_leaves_the_watch_working(net, batch):
    """A stage may catch an out-of-memory error and go on with smaller batches."""

    def failing(x):
        raise ZeroDivisionError

    model, forward = Model(net), net.b.forward
    with model.watching({"c.0"}, batch):
        net.b.forward = failing
        with pytest.raises(ZeroDivisionError):
            model.observe(batch, {"c.0"})
        net.b.forward = forward
        check(model.observe(batch, {"c.0"}), net, batch["x"], {"c.0"})
        torch.testing.assert_close(net(batch["x"]), by_hand(net, batch["x"])["logits"])  # the user's own pass is not stopped
    assert hooks(net) == []


@pytest.mark.parametrize(
    ("taps", "ran"),
    [
        ({"a"}, ["a"]),
        ({"b", "a"}, ["a", "b"]),
        ({"c.0"}, ["a", "b", "c", "c.0"]),
        ({"logits"}, ["a", "b", "c", "c.0", "c.1", "head"]),
        ({"a", "logits"}, ["a", "b", "c", "c.0", "c.1", "head"]),
    ],
)
def test_nothing_runs_after_the_last_tap(net, batch, taps, ran):
    """The rest of a large teacher is the cost that a hint stage must not pay."""
    calls = counted(net)
    Model(net).observe(batch, taps)
    assert calls == ran


def test_without_early_stop_everything_runs_once(net, batch):
    """And only once."""
    calls = counted(net)
    Model(net).observe(batch, {"a"}, stop_early=False)
    assert calls == ["a", "b", "c", "c.0", "c.1", "head"]


def test_no_taps_ask_for_no_pass(net, batch):
    """An objective without needs on a side costs nothing there."""
    calls = counted(net)
    assert dict(Model(net).observe(batch, set())) == {}
    assert calls == []


def test_a_model_that_catches_exceptions_is_stopped_all_the_same(batch):
    """`except Exception` in a user's forward is common, and must not swallow the stop."""

    class Careful(Net):
        def forward(self, x):
            try:
                x = self.a(x)
                x = self.b(x)
            except Exception:
                x = torch.zeros_like(x)
            return self.head(self.c(x))

    net = Careful()
    calls = counted(net)
    shown = Model(net).observe(batch, {"a"})["a"]
    assert calls == ["a"]
    torch.testing.assert_close(shown, net.a(batch["x"]))


def test_a_model_that_catches_everything_gives_the_same_signals(batch):
    """A bare `except` defeats the early stop; the values must not suffer."""

    class Reckless(Net):
        def forward(self, x):
            try:
                x = self.a(x)
            except BaseException:
                x = torch.zeros_like(x)
            return self.head(self.c(x))

    net = Reckless()
    shown = Model(net).observe(batch, {"a"})["a"]
    torch.testing.assert_close(shown, net.a(batch["x"]))
    assert hooks(net) == []


@pytest.mark.parametrize("stop_early", [True, False])
def test_the_first_call_of_a_module_is_the_tap(batch, stop_early):
    """Shared layers run several times; the early stop sees the first call, so the full pass must keep it too."""

    class Recurrent(nn.Module):
        def __init__(self):
            super().__init__()
            self.cell, self.head = nn.Linear(D, D), nn.Linear(D, V)

        def forward(self, x):
            for _ in range(3):
                x = self.cell(x)
            return self.head(x)

    net = Recurrent()
    for taps in ({"cell"}, {"cell", "head"}):
        shown = Model(net).observe(batch, taps, stop_early=stop_early)
        torch.testing.assert_close(shown["cell"], net.cell(batch["x"]))


class InPlace(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.act, self.head = nn.Linear(D, D), nn.ReLU(inplace=True), nn.Linear(D, V)

    def forward(self, x):
        return self.head(self.act(self.a(x)))


@pytest.mark.parametrize("taps", [{"a"}, {"a", "act"}, {"a", "head"}, {"a", "logits"}], ids=lambda t: "+".join(sorted(t)))
@pytest.mark.parametrize("stop_early", [True, False])
@pytest.mark.parametrize("way", ["eager", "compiled"])
def test_a_tap_before_an_activation_in_place_keeps_its_own_values(batch, taps, stop_early, way, eager_compile):
    """`ReLU(inplace=True)` overwrites the tensor before it: the signal would be the activation wherever the pass runs on."""
    net = InPlace()
    model, plain = Model(net), copy.deepcopy(net)
    with model.watching(taps, batch):
        if way == "compiled":
            model.compile()
        shown = model.observe(batch, taps, stop_early=stop_early)
    torch.testing.assert_close(shown["a"], plain.a(batch["x"]))
    shown["a"].square().sum().backward()
    plain.a(batch["x"]).square().sum().backward()
    torch.testing.assert_close(net.a.weight.grad, plain.a.weight.grad)
    model.uncompile()


WAYS = {
    "the whole": lambda x: x.zero_(),
    "a slice": lambda x: x[:, :2].zero_(),
    "a view made before": lambda x: x,
    "numpy": lambda x: x.detach().numpy().fill(0),
    "nothing": lambda x: None,
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("gradient", [True, False])
@pytest.mark.parametrize("memory", ["torch", "numpy"])
def test_what_is_written_into_a_tensor_after_its_tap_does_not_reach_the_signal(batch, way, gradient, memory):
    """A signal shares its memory with the model's tensor until somebody writes there, by whatever way."""

    class Writing(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.head = Linear(D, D), nn.Linear(D, V)

        def forward(self, x):
            x = self.a(x)
            if way == "a view made before":
                self.a.view.zero_()
            else:
                WAYS[way](x)
            return self.head(x)

    class Linear(nn.Linear):
        def forward(self, x):
            x = super().forward(x)
            x = x if memory == "torch" else torch.from_numpy(x.detach().numpy().copy())
            self.view = x[1:]
            return x

    net = Writing()
    expected = nn.functional.linear(batch["x"], net.a.weight, net.a.bias)
    with torch.set_grad_enabled(gradient):
        shown = Model(net).observe(batch, {"a", "logits"})
        torch.testing.assert_close(shown["a"], expected.detach() if memory == "numpy" or not gradient else expected)
        torch.testing.assert_close(shown["logits"], net(batch["x"]))
    if gradient and memory == "torch":
        shown["a"].sum().backward()
        torch.testing.assert_close(net.a.bias.grad, torch.full((D,), float(B)))


def test_depths_and_paths_may_name_the_same_module(net, batch):
    """Two terms may ask for one place in two ways."""
    model = Model(net)
    half = model.path(Depth(0.5), batch)
    shown = model.observe(batch, {Depth(0.5), half})
    assert shown[Depth(0.5)] is shown[half]


def test_a_tap_on_a_module_that_does_not_run_or_gives_no_tensor_is_an_error(batch):
    """None would reach the distance."""

    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.unused, self.words, self.head = nn.Linear(D, D), Words(), nn.Linear(D, V)

        def forward(self, x):
            self.words(x)
            return self.head(x)

    class Words(nn.Module):
        def forward(self, x):
            return "no tensor"

    net = Odd()
    for tap in ("unused", "words"):
        with pytest.raises(BadInput, match=f"tap '{tap}' of Odd gave no tensor"):
            Model(net).observe(batch, {tap, "head"})
    assert hooks(net) == []


def test_an_unknown_tap_beside_a_known_one_leaves_no_hook(net, batch):
    """Half-installed hooks must not stay."""
    for use in (lambda m: m.observe(batch, {"a", "nowhere"}), lambda m: m.watching({"a", "nowhere"}, batch).__enter__()):
        with pytest.raises(UnknownTap):
            use(Model(net))
        assert hooks(net) == []


def test_a_watch_serves_its_taps_and_other_taps_come_beside_it(net, batch):
    """A stage's hooks are fixed; validation may look elsewhere meanwhile."""
    model = Model(net)
    with model.watching({"a", "c"}, batch):
        inside = len(hooks(net))
        assert inside == 2
        for taps in ({"a", "c"}, {"a"}, {"b"}, {"a", "logits"}, {"a", "b", "c"}, {"logits"}):
            check(model.observe(batch, taps), net, batch["x"], taps)
            assert len(hooks(net)) == inside
        with model.watching({"b"}, batch):
            check(model.observe(batch, {"b"}), net, batch["x"], {"b"})
        check(model.observe(batch, {"a", "c"}), net, batch["x"], {"a", "c"})
    assert hooks(net) == []


def test_the_users_own_hooks_stay(net, batch):
    """We remove ours and no other."""
    seen = []
    net.a.register_forward_hook(lambda *_: seen.append(1))
    Model(net).observe(batch, {"a"})
    Model(net).trace(batch)
    assert len(hooks(net)) == 1
    assert seen == [1, 1]


@pytest.mark.parametrize("mode", [True, False])
@pytest.mark.parametrize("gradient", [True, False])
def test_mode_and_gradients_are_the_callers(net, batch, mode, gradient):
    """The student is observed while it trains, the teacher under no_grad."""
    net.train(mode)
    with torch.set_grad_enabled(gradient):
        shown = Model(net).observe(batch, {"a", "logits"})
        assert torch.is_grad_enabled() == gradient
    assert all(s.requires_grad == gradient for s in shown.values())
    assert net.training == mode


def test_gradients_of_a_stopped_pass_are_those_of_a_full_one(net, batch):
    """The hint stage trains through a stopped pass."""
    x = batch["x"]
    for p, q in zip(
        torch.autograd.grad(Model(net).observe(batch, {"c.0"})["c.0"].square().sum(), [net.a.weight, net.c[0].bias]),
        torch.autograd.grad(by_hand(net, x)["c.0"].square().sum(), [net.a.weight, net.c[0].bias]),
        strict=True,
    ):
        torch.testing.assert_close(p, q)
