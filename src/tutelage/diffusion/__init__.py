"""Diffusion: noise schedules, denoisers and samplers, and the losses of few-step generators; an exact denoiser to test them by."""

from tutelage.diffusion.analytic import GaussianMixture
from tutelage.diffusion.backtracking import Backtracking
from tutelage.diffusion.consistency import Follower, boundary, consistency, consistent, pseudo_huber
from tutelage.diffusion.critic import Adversary, Critic, together
from tutelage.diffusion.denoiser import Denoiser, same_noise
from tutelage.diffusion.denoising import denoising, denoising_error
from tutelage.diffusion.distilling import Extras, begin_alike, learners, of_teacher, twin
from tutelage.diffusion.generator import Generator
from tutelage.diffusion.halving import halving, landing
from tutelage.diffusion.making import blanks, made_by, pairs_of, shape_of
from tutelage.diffusion.matching import matching, moved, score_gap
from tutelage.diffusion.parametrization import Kind, Prediction, read, target
from tutelage.diffusion.pipeline import PipelineNet, diffusers
from tutelage.diffusion.sampler import Sampler
from tutelage.diffusion.sampling import Denoises, ancestral, ddim, jump, noise_of
from tutelage.diffusion.schedule import NoiseSchedule, cosine, karras, linear, schedule

__all__ = [
    "Adversary",
    "Backtracking",
    "Critic",
    "Denoiser",
    "Denoises",
    "Extras",
    "Follower",
    "GaussianMixture",
    "Generator",
    "Kind",
    "NoiseSchedule",
    "PipelineNet",
    "Prediction",
    "Sampler",
    "ancestral",
    "begin_alike",
    "blanks",
    "boundary",
    "consistency",
    "consistent",
    "cosine",
    "ddim",
    "denoising",
    "denoising_error",
    "diffusers",
    "halving",
    "jump",
    "karras",
    "landing",
    "learners",
    "linear",
    "made_by",
    "matching",
    "moved",
    "noise_of",
    "of_teacher",
    "pairs_of",
    "pseudo_huber",
    "read",
    "same_noise",
    "schedule",
    "score_gap",
    "shape_of",
    "target",
    "together",
    "twin",
]
