"""Denoiser: a model that can be asked for the image in a noised one, with or without a class, with or without guidance.

Shapes: B images.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor

from tutelage.data import Data
from tutelage.diffusion.parametrization import KINDS, Kind, Prediction, edm_input, read
from tutelage.diffusion.schedule import NoiseSchedule, schedule
from tutelage.errors import BadInput, nearest
from tutelage.signals import Batch, Model, Signals

Ask: TypeAlias = "Callable[[Model, Batch, Collection[Any]], Signals]"
"""How a model is asked: `Step.ask` while something is trained."""
SAID = "logits"
"""The tap at which a model shows its output, whatever that is."""


class Denoiser:
    """A model of `(x, t, label)`, and what its output means.

    Args:
        model: takes columns `x` (B, ...), `t` int64 (B,) and `label` int64 (B,), and gives (B, ...).
        kind: what it predicts; default: what its module says (`predicts`), else "eps".
        noise: its schedule; default: the one that its module names (`noise`, `times`), else the linear one.
        classes: how many there are; the number itself means none. Default: what its module says; 0 for a model without classes.
        guidance: how much further from the unconditional prediction towards that of the class: 1 none, 0 only the unconditional one.

    Raises:
        BadInput: an unknown kind; or, when it is first asked with guidance, a model without classes.

    Source: Ho and Salimans, "Classifier-Free Diffusion Guidance", 2022, with w = guidance - 1.
    """

    def __init__(
        self,
        model: Model,
        *,
        kind: Kind | None = None,
        noise: NoiseSchedule | None = None,
        classes: int | None = None,
        guidance: float = 1.0,
    ) -> None:
        self.model, self.guidance = model, guidance
        self._kind, self._noise, self._classes = kind, noise, classes
        if kind is not None and kind not in KINDS:
            raise BadInput(f"a denoiser cannot predict {kind!r}{nearest(kind, KINDS)}; expected one of {', '.join(KINDS)}")

    @property
    def kind(self) -> Kind:
        """What the model predicts."""
        found: Any = self._kind or self._says("predicts", "eps")
        if found not in KINDS:
            raise BadInput(
                f"{self.model.name} says that it predicts {found!r}{nearest(str(found), KINDS)}; expected one of {', '.join(KINDS)}"
            )
        return found

    @property
    def schedule(self) -> NoiseSchedule:
        """The noise that it was made for."""
        if self._noise is None:
            named = self._says("noise", "linear")
            self._noise = named if isinstance(named, NoiseSchedule) else schedule(named, self._says("times", 1000))
        return self._noise

    @property
    def classes(self) -> int:
        """How many classes it knows; 0 for none."""
        return int(self._says("classes", 0)) if self._classes is None else self._classes

    def _says(self, name: str, default: Any) -> Any:
        """An attribute of the module; of one that is not built yet, of its skeleton, so that nothing is read for a plan."""
        module = self.model.module if self.model.built else self.model.skeleton() or self.model.module
        return getattr(module, name, default)

    def check(self, shape: Sequence[int], data: Data, like: Denoiser | None = None) -> None:
        """Refuse images, classes or noise that do not fit, before anything is trained.

        Args:
            shape: of an image.
            data: whose images, and classes, they are.
            like: another denoiser that is asked at the same noised images.

        Raises:
            BadInput: names what differs, and the mend.
        """
        name = self.model.spec or self.model.name
        takes = self._says("shape", None)
        if takes is not None and tuple(takes) != tuple(shape):
            raise BadInput(f"{name} takes images of shape {tuple(takes)}, but those of {data.name} have {tuple(shape)}; give another net")
        count = data.class_count()
        if self.classes and count is not None and count > self.classes:
            raise BadInput(f"{name} knows {self.classes} classes, but {data.name} has {count}; give a net with classes={count}")
        if self.guidance != 1 and not self.classes:
            raise BadInput(f"{name} knows no classes, so it cannot be guided towards one; expected guidance=1")
        if self.guidance != 1 and not self._says("null", True):
            raise BadInput(f"{name} has no class that means none, which guidance compares with; expected guidance=1, or null=true")
        self.kind, self.schedule  # noqa: B018  each raises where it makes no sense
        if like is not None:
            same_noise(like, self)
            if self.classes != like.classes:
                raise BadInput(
                    f"{name} knows {self.classes} classes, {like.model.spec or like.model.name} {like.classes}; expected the same"
                )

    def __call__(self, x_t: Tensor, t_B: Tensor, label_B: Tensor | None = None, *, ask: Ask | None = None) -> Prediction:
        """What it says of noised images.

        Args:
            x_t: (B, ...).
            t_B: their times, int64 (B,).
            label_B: classes, int64 (B,), -1 for none; None: none for all.
            ask: how the model is asked; default: as it is.

        Raises:
            BadInput: classes that it does not know, or guidance without them.
        """
        none, a_s = self.classes, self.schedule.levels(t_B, x_t)
        given_B = torch.full_like(t_B, none) if label_B is None else torch.where(label_B < 0, none, label_B)
        if label_B is not None and not label_B.is_meta and label_B.numel() and int(label_B.max()) >= max(none, 1):
            raise BadInput(f"{self.model.name} knows {none} classes, but was asked for class number {int(label_B.max())}")
        if self.guidance == 1:
            return read(self.kind, self._output(x_t, t_B, given_B, a_s, ask), x_t, *a_s)
        if not none:
            raise BadInput(f"{self.model.name} knows no classes, so it cannot be guided towards one; expected guidance=1")
        twice, times_B = torch.cat([x_t, x_t]), torch.cat([t_B, t_B])
        both_B = torch.cat([given_B, torch.full_like(given_B, none)])
        own, plain = self._output(twice, times_B, both_B, self.schedule.levels(times_B, twice), ask).chunk(2)
        return read(self.kind, plain + self.guidance * (own - plain), x_t, *a_s)

    def features(self, x_t: Tensor, t_B: Tensor, label_B: Tensor | None, tap: str, ask: Ask) -> Tensor:
        """What the net shows at a module path when it is asked as in a call without guidance."""
        given_B = torch.full_like(t_B, self.classes) if label_B is None else torch.where(label_B < 0, self.classes, label_B)
        return ask(self.model, self._batch(x_t, t_B, given_B, self.schedule.levels(t_B, x_t)), {tap})[tap]

    def _output(self, x_t: Tensor, t_B: Tensor, label_B: Tensor, a_s: tuple[Tensor, Tensor], ask: Ask | None) -> Tensor:
        batch = self._batch(x_t, t_B, label_B, a_s)
        return (ask or (lambda model, of, taps: model.observe(of, taps)))(self.model, batch, {SAID})[SAID]

    def _batch(self, x_t: Tensor, t_B: Tensor, label_B: Tensor, a_s: tuple[Tensor, Tensor]) -> Batch:
        seen = edm_input(x_t, *a_s) if self.kind == "edm" else x_t
        return {"x": seen, "t": t_B, "label": label_B}


def same_noise(*denoisers: Denoiser) -> NoiseSchedule:
    """The schedule that several denoisers have in common.

    Raises:
        BadInput: they have none in common; names two that differ.
    """
    first, *others = denoisers
    for other in others:
        if other.schedule != first.schedule:
            raise BadInput(
                f"{first.model.name} was made for the noise schedule {first.schedule.name} of {len(first.schedule)} times, "
                f"{other.model.name} for {other.schedule.name} of {len(other.schedule)}; expected the same"
            )
    return first.schedule
