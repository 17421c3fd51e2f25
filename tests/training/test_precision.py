"""Precision and compilation: what changes how fast a run is, and not, beyond rounding, its result."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tutelage.data import Table
from tutelage.errors import BadInput
from tutelage.objectives import CrossEntropy, Match, Objective, Term, mse, regressor, soft_targets
from tutelage.signals import Model
from tutelage.teachers import Frozen
from tutelage.training import Fit, Learner, Plan, Run, RunOptions, Stage, train

FIT = Fit(steps=4, batch_size=8, lr=0.01)


@pytest.fixture
def data(rng):
    return Table({"x": torch.randn(16, 3, generator=rng), "y": torch.randint(5, (16,), generator=rng)})


def net(width: int = 6, seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(3, width), nn.Tanh(), nn.Linear(width, width), nn.Tanh(), nn.Linear(width, 5))


class Spy(Objective):
    """Looks at the terms of another objective."""

    def __init__(self, of: Objective) -> None:
        super().__init__()
        self.of, self.seen, self.raw = of, [], []

    def needs(self):
        return self.of.needs()

    def build(self, student, teacher):
        self.of.build(student, teacher)

    def leaves(self):
        yield from self.of.leaves()

    def terms(self, student, teacher, batch):
        found = self.of.terms(student, teacher, batch)
        self.seen += [t.values.dtype for t in found] + [s.dtype for s in student.values()] + [s.dtype for s in teacher.values()]
        product = batch["x"] @ batch["x"].T  # under autocast this would come out in bfloat16
        self.raw.append(product.dtype)
        return found


def test_bf16_runs_the_models_in_bf16_and_the_terms_in_float32(data):
    """Else a KL is computed in eight bits of mantissa, or nothing is faster."""
    student, inner = net(), []
    student[2].register_forward_hook(lambda _m, _i, output: inner.append(output.dtype))
    loss = Spy(CrossEntropy() + Match("1", by=mse(), through=regressor(), name="hint") + Match("logits", by=soft_targets(2.0), name="kl"))
    plan = Plan([Stage("s", Learner(student, loss, Frozen(Model(net(7, 1)))), FIT, data)], Model(student))
    before = student[0].weight.detach().clone()
    train(plan, Run(options=RunOptions(device="cpu", quiet=True, precision="bf16")))
    assert set(inner) == {torch.bfloat16}
    assert set(loss.seen) == set(loss.raw) == {torch.float32}
    assert {p.dtype for p in [*student.parameters(), *loss.parameters()]} == {torch.float32}
    assert not torch.equal(student[0].weight, before)


def test_bf16_gives_loss_functions_float32_signals(data):
    """Else a loss of the user's own is computed in bfloat16, and nothing says so."""
    model, seen = Model(net()), []

    def loss(step):
        logits = step.signals(model, {"logits"})["logits"]
        seen.append(logits.dtype)
        return [Term("t", logits.square().mean(1))]

    train(Plan([Stage("s", Learner(model, loss), FIT, data)], model), Run(options=RunOptions(device="cpu", quiet=True, precision="bf16")))
    assert set(seen) == {torch.float32}


def test_bf16_keeps_the_gradient_of_a_model_that_has_just_taught(data):
    """Else autocast hands the student weights that were cast for a pass without gradients, and it silently stops learning."""
    a, b = Model(net()), Model(net(7, 1))
    before = {k: v.clone() for k, v in a.module.state_dict().items()}
    learners = {
        "b": Learner(b, Match("logits", by=soft_targets(1.0), name="from-a"), Frozen(a)),
        "a": Learner(a, CrossEntropy()),
    }
    plan = Plan([Stage("s", learners, FIT, data, order=[("b", "a")])], a)
    train(plan, Run(options=RunOptions(device="cpu", quiet=True, precision="bf16")))
    assert {k for k, v in a.module.state_dict().items() if torch.equal(v, before[k])} == set()


def test_bf16_is_near_fp32(data):
    """Else half precision trains something else."""
    from accelerate.state import AcceleratorState

    left = []
    for precision in ("fp32", "bf16"):
        student = net()
        plan = Plan(
            [Stage("s", Learner(student, CrossEntropy()), Fit(steps=8, batch_size=8, optimizer="sgd", lr=0.1), data)], Model(student)
        )
        train(plan, Run(options=RunOptions(device="cpu", quiet=True, precision=precision)))
        left.append(student.state_dict())
        AcceleratorState._reset_state(reset_partial_state=True)
    for k in left[0]:
        torch.testing.assert_close(left[0][k], left[1][k], rtol=0.05, atol=0.02)


def test_one_process_has_one_precision(data):
    """Else a second run in a notebook silently runs in the first one's precision."""
    Run(options=RunOptions(device="cpu", precision="bf16"))
    with pytest.raises(BadInput, match="one precision per process"):
        Run(options=RunOptions(device="cpu"))


def test_fp16_takes_one_optimizer(data):
    """Else two optimizers share one loss scale, and a skipped step of one is a wrong step of the other."""
    from accelerate import Accelerator

    run = Run(options=RunOptions(device="cpu", quiet=True, precision="fp16"), accelerator=Accelerator(cpu=True))
    learners = {n: Learner(net(), CrossEntropy()) for n in "ab"}
    with pytest.raises(BadInput, match=r"fp16 takes one optimizer, stage 's' has 2; use bf16"):
        train(Plan([Stage("s", learners, FIT, data)], Model(net())), run)


def two_stages(data, compiled: bool):
    student, teacher = net(), net(7, 1)
    hint = Match("1", through=regressor(), by=mse(), name="hint")
    deep = CrossEntropy() + Match("3", through=regressor(), by=mse(), name="deep") + Match("logits", by=soft_targets(2.0), name="kl")
    stages = [Stage(n, Learner(student, loss, Frozen(Model(teacher))), FIT, data) for n, loss in (("one", hint), ("two", deep))]
    train(Plan(stages, Model(student)), Run(options=RunOptions(device="cpu", quiet=True, compile=compiled)))
    for module in (student, teacher):
        assert module._compiled_call_impl is None
        assert not any(m._forward_hooks for m in module.modules())
        assert all("_orig_mod" not in k for k in module.state_dict())
    return student.state_dict()


def check_compiled(data) -> None:
    eager, compiled = two_stages(data, False), two_stages(data, True)
    for k in eager:
        torch.testing.assert_close(eager[k], compiled[k], rtol=1e-5, atol=1e-5)


@pytest.mark.filterwarnings("ignore:The .grad attribute")  # dynamo looks at it, and hides the warning unless warnings are errors
def test_a_compiled_run_honours_the_taps_of_each_stage(data, monkeypatch):
    """Else the second stage's taps read what was compiled for the first's."""
    calls, compile_in_place = [], nn.Module.compile

    def eager(self, *args, **kwargs):
        calls.append(self)
        return compile_in_place(self, backend="eager")

    monkeypatch.setattr(nn.Module, "compile", eager)
    check_compiled(data)
    assert len(calls) == 4  # student and teacher, in each of two stages


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_run_compiled_by_inductor_equals_an_eager_one(data):
    """Else the flag that makes a run fast makes it wrong."""
    check_compiled(data)
