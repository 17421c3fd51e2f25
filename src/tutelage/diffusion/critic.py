"""A critic beside a denoiser: tells generated images from real ones by the denoiser's innermost features. Shapes: B images, C channels."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tutelage.diffusion.denoiser import Denoiser
from tutelage.diffusion.denoising import Images, like, times_of
from tutelage.errors import BadInput
from tutelage.objectives import Term
from tutelage.signals import Model
from tutelage.training.plan import LossFunction
from tutelage.training.step import Step


class Critic(nn.Module):
    """One number for an image, above 0 where it looks real.

    Args:
        channels: of the features.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(2 * channels, channels), nn.SiLU(), nn.Linear(channels, 1))

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """(B,), from the features' means and deviations over space."""
        flat = x_BCHW.flatten(2)
        return self.net(torch.cat([flat.mean(2), (flat.var(2, unbiased=False) + 1e-6).sqrt()], 1)).squeeze(1)


class Adversary:
    """The two sides of a game on noised images: a critic on a denoiser's features, and the generator that is to mislead it.

    Args:
        denoiser: gives the features, and is trained by the critic's side too. Its module says in `inner` where they are, and how many
            channels they have.
        span: between which shares of the schedule images are noised.

    Raises:
        BadInput: the module does not say so.

    Source: Yin et al., "Improved Distribution Matching Distillation for Fast Image Synthesis", 2024, section 4.3.
    """

    def __init__(self, denoiser: Denoiser, span: tuple[float, float] = (0.02, 0.98)) -> None:
        self.denoiser, self.span = denoiser, span
        found = getattr(denoiser.model.skeleton(), "inner", None)
        if found is None:
            raise BadInput(
                f"{denoiser.model.name} does not say where its innermost features are, which a critic needs: expected an attribute "
                "`inner` of (module path, channels), as `unet` has; or train without a critic (adversarial=0)"
            )
        self.tap, channels = found
        self.model = Model(lambda: Critic(channels), name="critic", seed=denoiser.model.seed)

    def says(self, step: Step, x: Tensor, label_B: Tensor | None, purpose: str) -> Tensor:
        """What the critic says of images that are noised for it, (B,)."""
        schedule, (low, high) = self.denoiser.schedule, self.span
        count = len(schedule)
        t_B = times_of(step, len(x), int(low * count), max(int(low * count) + 1, int(high * count)), f"{purpose}-times")
        x_t = schedule.noised(x, t_B, like(step, x, f"{purpose}-noise"))
        features = self.denoiser.features(x_t, t_B, label_B, self.tap, step.ask)
        return step.ask(self.model, {"x": features}, {"logits"})["logits"]

    def judging(self, made: Images, real: Images, weight: float) -> LossFunction:
        """The critic's side: softplus(D(made)) + softplus(-D(real))."""

        def loss(step: Step) -> list[Term]:
            (x, label_B), (y, real_B) = made(step), real(step)
            fake_B = F.softplus(self.says(step, x.detach(), label_B, "critic-made"))
            real_said_B = F.softplus(-self.says(step, y, real_B if self.denoiser.classes else None, "critic-real"))
            return [Term("critic", fake_B + real_said_B, weight=weight)]

        return loss

    def misleading(self, step: Step, x: Tensor, label_B: Tensor | None, weight: float) -> Term:
        """The generator's side: softplus(-D(made))."""
        return Term("adversarial", F.softplus(-self.says(step, x, label_B, "adversarial")), weight=weight)


def together(*losses: LossFunction) -> Callable[[Step], list[Term]]:
    """The terms of several losses."""
    return lambda step: [term for loss in losses for term in loss(step) or ()]
