"""Ho, Jain and Abbeel, "Denoising Diffusion Probabilistic Models", NeurIPS 2020: how a generator's teacher is trained."""

from __future__ import annotations

from tutelage.data import Data
from tutelage.diffusion import Denoiser, Sampler, denoising, shape_of
from tutelage.diffusion.denoising import Weighting
from tutelage.recipes import Paper, recipe
from tutelage.signals import Model
from tutelage.training import Fit, Learner, Plan, Stage

PAPER = Paper(
    "Denoising Diffusion Probabilistic Models",
    authors="Ho, Jain & Abbeel",
    year=2020,
    url="https://arxiv.org/abs/2006.11239",
    claim="CIFAR-10 without classes: a Frechet Inception distance of 3.17 with 1,000 evaluations; trained on the plain mean error of "
    "the noise, against 13.51 for the variational bound.",
)


@recipe(paper=PAPER, matches="images", generates=True)
def ddpm(
    student: Model,
    data: Data,
    *,
    drop: float = 0.1,
    weight: Weighting = "eps",
    steps: int = 50,
    guidance: float = 1.0,
    fit: Fit = Fit(epochs=100, lr=1e-3, ema=0.99),
) -> Plan:
    """Train a net to see the noise in a noised image, from which it can make images of its own; the teacher of few-step generators.

    Loss: mean over images, times t ~ U{0 .. T-1} and noise n ~ N(0, I) of w(t) |eps(x_t, t, class) - n|^2, the mean over an image's
    numbers; w = 1, or as `weight` says.

    Args:
        student: a denoiser, such as `unet`, the schedule of whose noise is its own.
        data: images in [0, 1]; with labels, if images of a class are to be drawn.
        drop: share of images whose class it is not told, in [0, 1], which guidance needs.
        weight: eps: the error of the noise; x0: of the image; snr: of the image, times max(1, a^2 / s^2); edm: as in EDM;
            bound: as in the variational bound.
        steps: evaluations when images are drawn, by DDIM.
        guidance: when images are drawn, towards the class; 1 for none.
        fit: duration and optimizer; its `ema` is what is used.

    Raises:
        BadInput: samples that are no images, a student that is no denoiser of such images, or a share outside [0, 1].

    Cost: one pass of the student a step, no teacher.
    Data: labels not needed.
    Default: the error of the noise, the paper's; classes dropped for 10 % (Ho & Salimans, 2022); the average's decay suits thousands of
        updates, the paper's 0.9999 hundreds of thousands. Drawn by DDIM (Song et al., 2021), not by the paper's 1,000 noisy steps.
    Relations: `progressive-distillation`, `consistency-distillation`, `dmd` and `disback` make few-step generators of what it trains.
    """
    denoiser = Denoiser(student)
    denoiser.check(shape_of(data), data)
    student.sampling = Sampler("ddim", steps, guidance=guidance).said()
    return Plan([Stage("denoise", Learner(student, denoising(denoiser, drop=drop, weight=weight)), fit, data.train)], student)
