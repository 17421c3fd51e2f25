"""Diffusion: noise schedules, denoisers and samplers, and the losses of few-step generators; an exact denoiser to test them by."""

from tutelage.diffusion.analytic import GaussianMixture
from tutelage.diffusion.denoiser import Denoiser, same_noise
from tutelage.diffusion.denoising import denoising, denoising_error
from tutelage.diffusion.generator import Generator
from tutelage.diffusion.matching import matching, moved, score_gap
from tutelage.diffusion.parametrization import Kind, Prediction, read, target
from tutelage.diffusion.sampling import Denoises, ancestral, ddim, jump, noise_of
from tutelage.diffusion.schedule import NoiseSchedule, cosine, karras, linear, schedule

__all__ = [
    "Denoiser",
    "Denoises",
    "GaussianMixture",
    "Generator",
    "Kind",
    "NoiseSchedule",
    "Prediction",
    "ancestral",
    "cosine",
    "ddim",
    "denoising",
    "denoising_error",
    "jump",
    "karras",
    "linear",
    "matching",
    "moved",
    "noise_of",
    "read",
    "same_noise",
    "schedule",
    "score_gap",
    "target",
]
