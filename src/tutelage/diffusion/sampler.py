"""Sampler: how images are drawn from a trained net: which sampler, how many evaluations, at which times. It is saved with the net."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor

from tutelage.diffusion.denoiser import Denoiser
from tutelage.diffusion.generator import Generator
from tutelage.diffusion.sampling import ancestral, ddim, noise_of
from tutelage.errors import BadInput
from tutelage.signals import Model

How = Literal["ddim", "ancestral", "generator", "consistency"]
HOWS: tuple[str, ...] = ("ddim", "ancestral", "generator", "consistency")


@dataclass(frozen=True)
class Sampler:
    """How images are drawn.

    Args:
        how: ddim or ancestral, over evenly spaced times; generator, whose first evaluation is at the first of its own times, with fresh
            noise before each further one; consistency, which is asked likewise for consistent answers.
        steps: evaluations of ddim and ancestral.
        times: of a generator, and of consistency, falling.
        guidance: towards the class; 1 for none.

    Raises:
        BadInput: an unknown way, no evaluations, or times that do not fall.
    """

    how: How = "ddim"
    steps: int = 50
    times: tuple[int, ...] = ()
    guidance: float = 1.0

    def __post_init__(self) -> None:
        if self.how not in HOWS:
            raise BadInput(f"a sampler cannot be {self.how!r}; expected one of {', '.join(HOWS)}")
        object.__setattr__(self, "times", tuple(self.times))
        falls = all(later < earlier for earlier, later in zip(self.times, self.times[1:], strict=False))
        if self.few and (not self.times or not falls or min(self.times) < 0):
            raise BadInput(f"a {self.how} is asked at times={list(self.times)}; expected whole numbers of at least 0, falling, one or more")
        if not self.few and self.steps < 1:
            raise BadInput(f"steps={self.steps}: a sampler makes at least 1 evaluation")

    @property
    def few(self) -> bool:
        """Whether it has times of its own."""
        return self.how in ("generator", "consistency")

    @property
    def evaluations(self) -> int:
        """Of the net for an image; guidance asks twice each time."""
        return (len(self.times) if self.few else self.steps) * (1 if self.guidance == 1 else 2)

    @staticmethod
    def of(model: Model) -> Sampler:
        """That of a model: what it was saved with, else DDIM of 50 steps.

        Raises:
            BadInput: what was saved is damaged.
        """
        said: Mapping[str, Any] = model.sampling
        try:
            return Sampler(**{**said, "times": tuple(said.get("times", ()))}) if said else Sampler()
        except BadInput:
            raise
        except (TypeError, ValueError):
            raise BadInput(f"{model.name} says in 'sampling' {dict(said)}, which is no way to draw images") from None

    def said(self) -> dict[str, Any]:
        """As plain values, for `Model.sampling`."""
        return {**asdict(self), "times": list(self.times)}

    def within(self, steps: int, noise_times: int) -> Sampler:
        """The same with another number of evaluations.

        Of a generator only its first times can be taken, since it was taught at these; consistency takes evenly spaced ones.

        Args:
            steps: wanted.
            noise_times: of the schedule.

        Raises:
            BadInput: a generator of fewer times.
        """
        if self.how == "consistency":
            return replace(self, times=tuple(round(noise_times * (steps - i) / steps) - 1 for i in range(steps)))
        if self.how == "generator":
            if not 1 <= steps <= len(self.times):
                raise BadInput(
                    f"this generator was taught to make images in {len(self.times)} evaluation{'s' * (len(self.times) != 1)}, "
                    f"not in {steps}; leave steps out"
                )
            return replace(self, times=self.times[:steps])
        return replace(self, steps=steps)

    def draw(
        self,
        model: Model | Denoiser,
        seeds: Sequence[int],
        shape: Sequence[int],
        labels: Tensor | None = None,
        *,
        device: torch.device | str = "cpu",
        at_once: int = 256,
        told: Callable[[int], None] | None = None,
    ) -> Tensor:
        """Images in [0, 1], (B, C, H, W), on the CPU, without gradients; each a function of its seed and label, whoever is drawn beside it.

        Args:
            model: the net.
            seeds: of the images.
            shape: (C, H, W).
            labels: their classes (B,), -1 for none; None: none for all.
            device: where to compute; the model is moved there.
            at_once: images a pass.
            told: called after each pass with the number of images that are done.

        Raises:
            BadInput: classes that the net does not know, or guidance without classes.
        """
        denoiser = model if isinstance(model, Denoiser) else Denoiser(model, guidance=self.guidance)
        denoiser.model.module.to(device)
        found = []
        with torch.no_grad(), denoiser.model.mode(training=False):
            for start in range(0, len(seeds), at_once):
                some = seeds[start : start + at_once]
                label = None if labels is None else labels[start : start + at_once].to(device)
                found.append(self._some(denoiser, some, shape, label, torch.device(device)).cpu())
                if told is not None:
                    told(min(start + at_once, len(seeds)))
        return ((torch.cat(found) if found else torch.empty(0, *shape)) / 2 + 0.5).clamp(0, 1)

    def _some(self, denoiser: Denoiser, seeds: Sequence[int], shape: Sequence[int], label_B: Tensor | None, device: torch.device) -> Tensor:
        if self.few:
            generator = Generator(denoiser, self.times, consistent=self.how == "consistency")
            return generator([noise_of(seeds, shape, number=n).to(device) for n in range(generator.steps)], label_B)
        noise = noise_of(seeds, shape).to(device)
        if self.how == "ancestral":
            return ancestral(denoiser, noise, self.steps, seeds, label_B)
        return ddim(denoiser, noise, self.steps, label_B)
