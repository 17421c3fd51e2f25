"""Plans that a test trains in one go and, in processes of their own, killed and resumed. A script, not a test."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from pathlib import Path

import torch
from torch import nn

from tutelage.data import Indexed, Table
from tutelage.errors import TutelageError
from tutelage.objectives import CrossEntropy, Match, Term, mse, regressor, soft_targets
from tutelage.randomness import seeded
from tutelage.signals import Model
from tutelage.state import Controller, Stateful, linear_ramp
from tutelage.teachers import Frozen
from tutelage.training import Fit, Learner, Plan, Run, RunOptions, Stage, checkpoint, train, up_to

KINDS = (signal.SIGKILL, signal.SIGINT, signal.SIGTERM)


class Net(nn.Module):
    """A convolution with batch norm and dropout; taps "body" and "logits"."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(1, width, 3), nn.BatchNorm2d(width), nn.ReLU())
        self.drop = nn.Dropout(0.3)
        self.head = nn.Linear(width, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.drop(self.body(x).mean((2, 3))))


class Noisy(torch.utils.data.Dataset):
    """Images with noise that is drawn anew at each look."""

    def __init__(self) -> None:
        draw = torch.Generator().manual_seed(3)
        self.x, self.y = torch.randn(37, 1, 6, 6, generator=draw), torch.randint(5, (37,), generator=draw)

    def __len__(self) -> int:
        return 37

    def __getitem__(self, i: int) -> tuple[torch.Tensor, int]:
        return self.x[i] + 0.1 * torch.randn(1, 6, 6), int(self.y[i])


class Doom(Stateful):
    """Sends this process a signal after a step of a stage."""

    def __init__(self, stage: str, step: int, number: int) -> None:
        self.at, self.number = (stage, step), number

    def after_step(self, step) -> None:
        if (step.clock.stage, step.clock.step) == self.at:
            os.kill(os.getpid(), self.number)


class Memory(Stateful):
    """A table by sample id of what the learner said last, and a count."""

    def __init__(self, size: int) -> None:
        self.table, self.seen = torch.zeros(size), 0

    def after_batch(self, step) -> None:
        said = step.signals("a", {"logits"})["logits"].detach().logsumexp(1)
        self.table[step.batch["id"]] = said
        self.seen += 1

    def state_dict(self):
        return {"table": self.table, "seen": self.seen}

    def load_state_dict(self, state) -> None:
        self.table, self.seen = state["table"].clone(), int(state["seen"])


class Follow(Controller):
    """A weight that follows a loss, with a state beyond its value."""

    def __init__(self, watch: str) -> None:
        self.watch, self.moved = watch, 0
        self.value = 1.0

    def update(self, record) -> None:
        if self.watch in record.terms:
            self.moved += 1
            self.value = 0.8 * self.value + 0.2 * float(record.terms[self.watch]) / self.moved

    def state_dict(self):
        return {**super().state_dict(), "moved": self.moved}

    def load_state_dict(self, state) -> None:
        super().load_state_dict(state)
        self.moved = int(state["moved"])


def made(make, seed: int) -> nn.Module:
    with seeded("made", seed):
        return make()


def accuracy(model: Model) -> dict[str, float]:
    data = Noisy()
    with torch.no_grad(), model.mode(training=False):
        return {"accuracy": (model.module(data.x).argmax(1) == data.y).float().mean().item()}


def hints(parts):
    """Three stages; a trained connector shared by two of them; batch norm, dropout, workers, accumulation, EMA, clip, best."""
    student = Model(lambda: Net(4), seed=1)
    teacher = Frozen(Model(made(lambda: Net(7), 2)))
    data = Indexed(Noisy())
    hint = Match("body", through=regressor(), by=mse(), name="hint")
    joint = CrossEntropy() + linear_ramp(2.0, 0.5) * Match("logits", by=soft_targets(2.0), name="soft") + 0.5 * hint
    plain = CrossEntropy() + Match("logits", by=soft_targets(Follow("soft")), name="soft")
    sgd = Fit(steps=7, batch_size=10, optimizer="sgd", lr=0.1, clip=1.0)
    adamw = Fit(epochs=2.5, batch_size=10, lr=0.02, ema=0.8, keep="best", warmup=0.2, schedule="linear")
    adam = Fit(steps=6, batch_size=10, optimizer="adam", lr=0.01, schedule="steps", weight_decay=0.001)
    stages = [
        Stage("hint", Learner(student, hint, teacher, only=up_to("body")), sgd, data, parts=parts),
        Stage("joint", Learner(student, joint, teacher, groups={"objective.*": {"lr": 0.1}}), adamw, data, parts=parts),
        Stage("last", Learner(student, plain, teacher), adam, data, parts=parts),
    ]
    options = RunOptions(device="cpu", quiet=True, workers=2, micro_batch=4, checkpoint_every=3, log_every=2, share_every=2)
    return Plan(stages, student), {"options": options, "watch": accuracy}


def turns(parts):
    """Several learners: in turns with order, every and repeat; together on shared passes; without data."""
    a, b, teacher = (Model(made(lambda: nn.Sequential(nn.Linear(3, 6), nn.Tanh(), nn.Dropout(0.2), nn.Linear(6, 5)), i)) for i in range(3))
    draw = torch.Generator().manual_seed(4)
    data = Table({"x": torch.randn(30, 3, generator=draw), "y": torch.randint(5, (30,), generator=draw)})
    memory, weight = Memory(30), Follow("a/near")

    def near(step):
        logits = step.signals("a", {"logits"})["logits"]
        step.note("spread", logits.std())
        values = nn.functional.cross_entropy(logits, step.batch["y"], reduction="none")
        past = (logits.logsumexp(1) - memory.table[step.batch["id"]]).square()
        return [Term("near", values), Term("past", past, weight=0.1 * weight.value)]

    def mutual(me, other):
        def loss(step):
            own, goal = (step.signals(who, {"logits"})["logits"] for who in (me, other))
            return [Term("kl", nn.functional.kl_div(own.log_softmax(1), goal.detach().softmax(1), reduction="none").sum(1))]

        return loss

    def dream(step):
        x = torch.randn(5, 3, generator=step.rng("dream"))
        return None if step.clock.step % 4 == 3 else [Term("size", a.module(x).square().mean(1))]

    fit = Fit(steps=8, batch_size=8, optimizer="sgd", lr=0.1)
    soft = CrossEntropy() + weight * Match("logits", by=soft_targets(3.0), name="soft")
    adam = Fit(steps=1, optimizer="adam", lr=0.02, ema=0.7)
    stages = [
        Stage(
            "alternate",
            {"a": Learner(a, near), "b": Learner(b, soft, Frozen(teacher), every=2, repeat=2, fit=adam)},
            fit,
            data,
            order=["a", "b", "a"],
            parts=[memory, weight, *parts],
        ),
        Stage("mutual", {"a": Learner(a, mutual("a", "b")), "b": Learner(b, mutual("b", "a"))}, fit, data, order=[("a", "b")], parts=parts),
        Stage("dream", Learner(a, dream), fit, parts=parts),
    ]
    options = RunOptions(device="cpu", quiet=True, micro_batch=3, checkpoint_every=2, log_every=3, share_every=3)
    return Plan(stages, a), {"options": options}


SCENARIOS = {"hints": hints, "turns": turns}


def go(name: str, folder: str, doom: tuple[str, int, int] | None = None, fsyncs: int | None = None) -> None:
    """Train a scenario in a folder.

    Args:
        name: of the scenario.
        folder: of the run.
        doom: stage, step, and the signal that this process sends itself after it.
        fsyncs: kill this process when it asks the disk for the n-th time to keep what a checkpoint wrote.
    """
    plan, settings = SCENARIOS[name]([Doom(*(doom or ("", -1, 0)))])
    if fsyncs is not None:
        left, sync = [fsyncs], checkpoint._sync

        def dying(path: Path) -> None:
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            sync(path)

        checkpoint._sync = dying
    train(plan, Run(Path(folder), seed=11, **settings))


def child(*args) -> None:
    """`go` in a process of its own; exits as the command line would."""
    torch.set_num_threads(1)
    multiprocessing.set_start_method("fork", force=True)  # for loader workers; this process itself came from a fork server
    try:
        go(*args)
    except TutelageError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)


if "CHILD" in globals():
    child(*globals()["CHILD"])
