"""The peer: torchdistill, installed apart from the project, and found only from here.

    python -m pip install --no-deps --target build/peers torchdistill==1.1.5

It imports torchvision for its ready-made data sets and image models. Where torchvision is missing, `load` puts empty stand-ins in its place
while torchdistill is being imported; they hold the six names that are imported, and calling one of them fails.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace

FOLDER = Path(__file__).parent.parent / "build" / "peers"
INSTALL = "torchdistill is not in build/peers; `make bench` installs it there"

NAMES = {
    "torchvision": ("datasets", "models"),
    "torchvision.datasets": (),
    "torchvision.models": (),
    "torchvision.models.densenet": ("_DenseBlock", "_Transition"),
    "torchvision.models.resnet": ("BasicBlock", "conv1x1"),
}
"""What torchdistill imports from torchvision, by module: two modules and four names in them."""


NOTE = "torchdistill is version {version}, installed apart from the project. "
STOOD_IN = (
    "It imports torchvision for its own data sets and image models; torchvision is not installed here, so empty stand-ins for the "
    "six names that it imports were there meanwhile. Nothing that is timed calls one of them (calling one is an error)."
)


class NotInstalled(Exception):
    """The peer is not there, so what is compared with it cannot be measured."""


class Absent:
    """Stands for a class or function of torchvision that is not here."""

    def __init__(self, *_: object, **__: object) -> None:
        raise NotInstalled("this needs torchvision")


@contextlib.contextmanager
def _torchvision() -> Iterator[str]:
    """Torchvision, or what stands in for it until it is left; gives its version or "stand-in"."""
    try:
        found = importlib.import_module("torchvision").__version__
    except Exception:  # missing, or made for another torch
        found = None
    if found:
        yield found
        return
    made = {path: ModuleType(path) for path in NAMES}
    for path, names in NAMES.items():
        for name in names:
            setattr(made[path], name, made.get(f"{path}.{name}", Absent))
    sys.modules.update(made)
    try:
        yield "stand-in"
    finally:
        for path in made:
            del sys.modules[path]


def load() -> SimpleNamespace:
    """Import the parts that are compared.

    Returns:
        ForwardHookManager, DistillationBox, AuxiliaryModelWrapper, `version`, and `torchvision`: its
        version, or "stand-in".

    Raises:
        NotInstalled: torchdistill is neither in `build/peers` nor elsewhere.
    """
    if str(FOLDER) not in sys.path:
        sys.path.append(str(FOLDER))  # behind all else, so that it can replace nothing of ours
    if not importlib.util.find_spec("torchdistill"):
        raise NotInstalled(INSTALL)
    with _torchvision() as torchvision:
        from torchdistill import __version__
        from torchdistill.core.distillation import DistillationBox
        from torchdistill.core.forward_hook import ForwardHookManager
        from torchdistill.models.wrapper import AuxiliaryModelWrapper
    return SimpleNamespace(
        ForwardHookManager=ForwardHookManager,
        DistillationBox=DistillationBox,
        AuxiliaryModelWrapper=AuxiliaryModelWrapper,
        version=__version__,
        torchvision=torchvision,
    )


def note() -> str:
    """What has to be said of the peer beside each result."""
    peer = load()
    torchvision = STOOD_IN if peer.torchvision == "stand-in" else f"torchvision is version {peer.torchvision}."
    return NOTE.format(version=peer.version) + torchvision
