"""Diffusion: noise schedules, what a denoiser says, samplers, and an exact denoiser to test them by."""

from tutelage.diffusion.analytic import GaussianMixture
from tutelage.diffusion.parametrization import Kind, Prediction, read, target
from tutelage.diffusion.sampling import Denoises, ancestral, ddim, jump, noise_of
from tutelage.diffusion.schedule import NoiseSchedule, cosine, karras, linear, schedule

__all__ = [
    "Denoises",
    "GaussianMixture",
    "Kind",
    "NoiseSchedule",
    "Prediction",
    "ancestral",
    "cosine",
    "ddim",
    "jump",
    "karras",
    "linear",
    "noise_of",
    "read",
    "schedule",
    "target",
]
