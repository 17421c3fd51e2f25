"""Taps against torchdistill's hooks: features at several modules in one pass, without gradients, as a teacher is asked.

Each side has a copy of the net with the same weights. Ours is `Model.observe` under hooks that stay, as in a stage; theirs a
`ForwardHookManager` with outputs only, and `pop_io_dict` after the pass.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import SimpleNamespace

import torch
from torch import Tensor, nn

import peer
from nets import BATCH, Reader
from timing import Row, compared, turns
from tutelage import Model
from tutelage.signals import Tap
from tutelage.students import cnn, vit

TITLE = "taps"
NOTE = (
    "Features at several modules and the logits in one pass without gradients: `Model.observe` against torchdistill's "
    "`ForwardHookManager`; that both give the same features is checked. Where no logits are wanted, ours leaves the pass at the last tap; "
    "a `ForwardHookManager` has no such option."
)


@dataclass(frozen=True)
class Case:
    """A net, its input, and the modules that are tapped."""

    name: str
    net: nn.Module
    x: Tensor
    paths: Sequence[str]
    logits: bool = True
    passes: int = 2
    brief: bool = False


def cases() -> list[Case]:
    """What is measured."""
    made = torch.Generator().manual_seed(0)
    big, small = torch.randn(BATCH, 1, 32, 32, generator=made), torch.randn(BATCH, 1, 8, 8, generator=made)
    words = torch.randint(0, 500, (BATCH, 64), generator=made)
    blocks = [f"blocks.{i}" for i in range(4)]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return [
            Case("convolutional, width 32, 32x32 images, 4 blocks and the logits", cnn(width=32), big, blocks, brief=True),
            Case("vision transformer, width 128, 64 patches, 4 blocks and the logits", vit(size=32, width=128), big, blocks, brief=True),
            Case(
                "transformer, width 128, 64 tokens, 4 layers and the logits", Reader(128, 4), words, [f"body.layers.{i}" for i in range(4)]
            ),
            Case("convolutional, width 4, 8x8 images, 4 blocks and the logits (small)", cnn(width=4), small, blocks, passes=25),
            Case("convolutional, width 32, 32x32 images, the first 2 of 4 blocks", cnn(width=32), big, blocks[:2], logits=False),
        ]


class Ours:
    """The features by a watched model."""

    def __init__(self, case: Case) -> None:
        self.model = Model(copy.deepcopy(case.net).eval())
        self.batch = {"id": torch.arange(len(case.x)), "x": case.x}
        self.taps = frozenset(case.paths) | ({"logits"} if case.logits else set())

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """Hooks that stay."""
        with self.model.watching(self.taps, self.batch):
            yield

    def features(self) -> Mapping[Tap, Tensor]:
        """Those of one pass."""
        with torch.no_grad():
            return self.model.observe(self.batch, self.taps)


class Theirs:
    """The features by torchdistill's hooks."""

    def __init__(self, case: Case, torchdistill: SimpleNamespace) -> None:
        self.net, self.case = copy.deepcopy(case.net).eval(), case
        self.manager = torchdistill.ForwardHookManager(torch.device("cpu"))
        for path in case.paths:
            self.manager.add_hook(self.net, path, requires_input=False, requires_output=True)

    def features(self) -> dict[str, Tensor]:
        """Those of one pass."""
        with torch.no_grad():
            logits = self.net(self.case.x)
        found = {path: held["output"] for path, held in self.manager.pop_io_dict().items()}
        return {**found, "logits": logits} if self.case.logits else found


def measure(case: Case, rounds: int = 60) -> Row:
    """Check that both give the same, then let them take turns."""
    ours, theirs = Ours(case), Theirs(case, peer.load())

    def several(side: Ours | Theirs) -> None:
        for _ in range(case.passes):
            side.features()

    with ours.watching():
        torch.testing.assert_close(dict(ours.features()), theirs.features())
        taken = turns({"theirs": lambda: several(theirs), "ours": lambda: several(ours)}, rounds)
    what, against = f"features in a pass, {case.name}", "torchdistill's hooks"
    return compared(what, against, taken["theirs"], taken["ours"], each=case.passes, target={"ratio": 1.0}, brief=case.brief)


def note() -> str:
    """How it was measured."""
    return f"{NOTE} {peer.note()}"


def rows() -> list[Row]:
    """The rows of the table."""
    return [measure(case) for case in cases()]
