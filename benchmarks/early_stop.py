"""Early stop: a pass that only needs a tap at half depth, against a full pass of the bare module without any hook.

On nets whose blocks are all alike, so that half the depth is half the work but for stem and head. Asked as a stage asks a frozen teacher.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from nets import BATCH, Even
from timing import Row, compared, turns
from tutelage import Depth, Frozen, Model
from tutelage.signals import Signals
from tutelage.students import vit

TITLE = "early stop"
NOTE = (
    "A frozen teacher that is asked only for a tap at half of its depth, against a plain pass of the same module to its end without hooks. "
    "All blocks of the nets are alike."
)

TAP = Depth(0.5)


@dataclass(frozen=True)
class Case:
    """A net of equal blocks and its input."""

    name: str
    net: nn.Module
    x: Tensor


def cases() -> list[Case]:
    """What is measured."""
    x = torch.randn(BATCH, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return [
            Case("convolutional, 8 blocks of width 32, 32x32 images", Even(32, 8).eval(), x),
            Case("transformer, 8 blocks of width 128, 64 patches", vit(size=32, width=128, depth=8).eval(), x),
        ]


def measure(case: Case, rounds: int = 40) -> Row:
    """Let the half pass and the full pass take turns."""
    teacher, batch = Frozen(Model(case.net)), {"id": torch.arange(len(case.x)), "x": case.x}

    def full() -> Tensor:
        with torch.no_grad():
            return case.net(case.x)

    def half() -> Signals:
        return teacher.signals(batch, {TAP})

    with teacher.model.watching({TAP}, batch), teacher.model.mode(training=False):
        taken = turns({"full": full, "half": half}, rounds)
    return compared(f"a pass to half depth, {case.name}", "the full pass", taken["full"], taken["half"], target={"ratio": 0.55}, brief=True)


def note() -> str:
    """How it was measured."""
    return NOTE


def rows() -> list[Row]:
    """The rows of the table."""
    return [measure(case) for case in cases()]
