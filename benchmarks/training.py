"""Training against torchdistill's: its DistillationBox and our loop on the same models, batches, losses and optimizer, in turn.

Two methods: labels and soft targets, and the same plus a hint, the squared error of features at half depth through a trained 1x1
convolution or linear map. The box gets each batch ready made, cut from the samples by position as our loop does it, and its loss is read
every 20 steps; a data loader of its own and reading at each step, as in its examples, would only add to its time.
"""

from __future__ import annotations

import copy
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

import peer
from loop import BLOCK, beside, distillation
from nets import BATCH, Pair, built, images, same, tokens
from timing import Row, compared
from tutelage import Match, Model, Table, mse, regressor
from tutelage.data import Order

TITLE = "training"
NOTE = (
    "torchdistill's `DistillationBox` and `tutelage.train` with its default options do the same training, in blocks of ten steps in "
    "turn; that both have the same weights after the first block is checked. The box is handed its batches ready made and its loss "
    "is read every 20 steps only, the least work it can be given; our side reads its own data, and writes its log and its "
    "checkpoints."
)
HINT = 0.5
"""Weight of the features' term."""


class Box:
    """A training by torchdistill, a block of steps at a time.

    Args:
        torchdistill: what `peer.load` gave.
        connector: brings the student's feature to the teacher's shape; None leaves the features out.
        tap: module path of the feature in either model.
    """

    def __init__(
        self,
        torchdistill: SimpleNamespace,
        table: Table,
        teacher: nn.Module,
        student: nn.Module,
        steps: int,
        connector: nn.Module | None = None,
        tap: str = "",
    ) -> None:
        self.x, self.y = table.columns["x"], table.columns["y"]
        self.order, self.done = Order(len(table), BATCH, 0, "distil"), 0
        self.gathered = torch.zeros(())
        own: dict[str, Any] = {"forward_proc": "forward_batch_only"}
        terms: dict[str, Any] = {"kd": {"criterion": {"key": "KDLoss", "kwargs": KD}, "weight": 1.0}}
        if connector is not None:
            student = _connected(torchdistill, student, connector, tap)
            own["forward_hook"] = {"output": [f"student.{tap}", "connector"]}
            terms["hint"] = {"criterion": {"key": "MSELoss", "kwargs": {}}, "criterion_wrapper": _between(tap), "weight": HINT}
        goal = {"forward_proc": "forward_batch_only", "requires_grad": False}
        config = {
            "num_epochs": 1,
            "teacher": {**goal, "forward_hook": {"output": [tap]}} if connector is not None else goal,
            "student": own,
            "optimizer": {"key": "AdamW", "kwargs": {"lr": 1e-3, "weight_decay": 0.01}},
            "scheduler": {"key": "CosineAnnealingLR", "kwargs": {"T_max": steps}, "scheduling_step": 1},
            "criterion": {"key": "WeightedSumLoss", "kwargs": {"sub_terms": terms}},
        }
        self.box = torchdistill.DistillationBox(teacher.eval(), student, {}, config, torch.device("cpu"), None, False, 1)
        self.box.pre_epoch_process(epoch=0)

    def run(self, steps: int) -> None:
        """Go on for some steps."""
        for step in range(self.done, self.done + steps):
            positions, _ = self.order.batch(step)
            loss = self.box.forward_process(self.x[positions], self.y[positions], {})
            self.box.post_forward_process(loss)
            self.gathered += loss.detach()
            if (step + 1) % 20 == 0:
                self.gathered.item()
                self.gathered.zero_()
        self.done += steps


KD = {
    "student_module_path": ".",
    "student_module_io": "output",
    "teacher_module_path": ".",
    "teacher_module_io": "output",
    "temperature": 4.0,
    "alpha": 0.1,
}


def _between(tap: str) -> dict[str, Any]:
    own = {"is_from_teacher": False, "module_path": "connector", "io": "output"}
    goal = {"is_from_teacher": True, "module_path": tap, "io": "output"}
    return {"key": "SimpleLossWrapper", "kwargs": {"input": own, "target": goal}}


def _connected(torchdistill: SimpleNamespace, student: nn.Module, connector: nn.Module, tap: str) -> nn.Module:
    """The student with a connector beside it, in torchdistill's way: an auxiliary wrapper that runs it after the student's pass."""

    class Connected(torchdistill.AuxiliaryModelWrapper):  # type: ignore[misc,name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.student, self.connector = student, connector

        def forward(self, x: Tensor) -> Tensor:
            return self.student(x)

        def secondary_forward(self, io_dict: dict[str, Any]) -> None:
            self.connector(io_dict[f"student.{tap}"]["output"])

    return Connected()


def plain(pair: Pair, steps: int) -> tuple[list[float], list[float]]:
    """Labels and soft targets: seconds of torchdistill's blocks and of ours."""
    table, teacher, first, second = built(pair)
    box = Box(peer.load(), table, teacher, first, steps)
    return beside(box, table, teacher, second, distillation(), steps, lambda: same(first, second))


def hinted(pair: Pair, tap: str, steps: int) -> tuple[list[float], list[float]]:
    """Labels, soft targets and a hint: seconds of torchdistill's blocks and of ours."""
    table, teacher, first, second = built(pair)
    hint = Match(tap, through=regressor(), by=mse(), name="hint")
    shapes = []
    for net in (second, teacher):
        model = Model(net)
        with torch.no_grad(), model.mode(training=False):
            shapes.append({tap: model.observe(table.batch([0, 1]), {tap})[tap].shape})
    with torch.random.fork_rng():
        torch.manual_seed(1)
        hint.build(*shapes)
    assert hint.connector is not None
    connector = copy.deepcopy(hint.connector)
    box = Box(peer.load(), table, teacher, first, steps, connector, tap)
    ours, theirs = nn.ModuleList([second, hint.connector]), nn.ModuleList([first, connector])
    return beside(box, table, teacher, second, distillation() + HINT * hint, steps, lambda: same(ours, theirs))


def note() -> str:
    """How it was measured."""
    return f"{NOTE} {peer.note()}"


def rows() -> list[Row]:
    """The rows of the table."""
    made: list[Row] = []

    def add(what: str, taken: tuple[list[float], list[float]]) -> None:
        made.append(compared(f"a training step, {what}", "torchdistill's box", *taken, each=BLOCK, target={"ratio": 1.0}, brief=True))

    convolutional, transformer = images(32, 32, 16), tokens(64, 128, 64)
    add("convolutional, labels and soft targets", plain(convolutional, 250))
    add("convolutional, the same and features at half depth", hinted(convolutional, "blocks.1", 250))
    add("transformer, labels and soft targets", plain(transformer, 150))
    return made
