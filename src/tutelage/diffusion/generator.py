"""Generator: a denoiser that makes images in one or a few evaluations, at times of its own. Shapes: B images."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

import torch
from torch import Tensor

from tutelage.diffusion.consistency import consistent
from tutelage.diffusion.denoiser import Ask, Denoiser
from tutelage.diffusion.sampling import noise_of
from tutelage.errors import BadInput
from tutelage.signals import Model


class Generator:
    """Noise in, image out: the first evaluation reads pure noise as an image at the first time, each further one noises it anew.

    Only the last evaluation has a way back for gradients.

    Args:
        model: a denoiser's net.
        times: at which it is asked, falling; one for a one-step generator.
        consistent: whether it gives `consistent` answers, rather than the image that it sees.

    Raises:
        BadInput: no times, or times that do not fall; at the first use, times that its schedule does not have.

    Source: Yin et al., "One-step Diffusion with Distribution Matching Distillation", 2024, section 3; "Improved Distribution Matching
        Distillation", 2024, section 4.4, for several times.
    Relations: with one time at the end of the schedule it is `ddim` of one step.
    """

    def __init__(self, model: Model | Denoiser, times: Sequence[int] = (399,), consistent: bool = False) -> None:
        self.consistent = consistent
        self.denoiser = model if isinstance(model, Denoiser) else Denoiser(model)
        self.times = tuple(times)
        falls = all(earlier > later >= 0 for earlier, later in zip(self.times, self.times[1:], strict=False))
        if not self.times or not falls or min(self.times) < 0:
            raise BadInput(f"a generator is asked at times={list(times)}; expected whole numbers of at least 0, falling, one or more")

    @property
    def steps(self) -> int:
        """Evaluations of an image."""
        return len(self.times)

    def check(self) -> None:
        """Refuse times that the noise schedule does not have.

        Raises:
            BadInput: names the first.
        """
        count = len(self.denoiser.schedule)
        if self.times[0] >= count:
            raise BadInput(f"a generator is asked at time {self.times[0]}, but its noise schedule has the times 0 to {count - 1}")

    def __call__(self, noise: Sequence[Tensor], label_B: Tensor | None = None, *, ask: Ask | None = None) -> Tensor:
        """Images (B, ...).

        Args:
            noise: what it begins with, and what is added before each further evaluation: at most `steps` tensors (B, ...); after fewer
                it stops earlier.
            label_B: classes.
            ask: how the model is asked.
        """
        x = noise[0]
        for number, (t, fresh) in enumerate(zip(self.times, noise, strict=False)):
            t_B = torch.full((len(x),), t, dtype=torch.int64, device=x.device)
            x_t = fresh if number == 0 else self.denoiser.schedule.noised(x, t_B, fresh)
            last = number + 1 == min(self.steps, len(noise))
            with contextlib.nullcontext() if last else torch.no_grad():
                x = self._answer(x_t, t_B, label_B, ask)
        return x

    def _answer(self, x_t: Tensor, t_B: Tensor, label_B: Tensor | None, ask: Ask | None) -> Tensor:
        if self.consistent:
            return consistent(self.denoiser, x_t, t_B, label_B, ask=ask)
        return self.denoiser(x_t, t_B, label_B, ask=ask).x0

    def sample(self, seeds: Sequence[int], shape: Sequence[int], label_B: Tensor | None = None) -> Tensor:
        """Images of some seeds, each by itself, without gradients."""
        with torch.no_grad(), self.denoiser.model.mode(training=False):
            return self([noise_of(seeds, shape, number=number) for number in range(self.steps)], label_B)
