"""Progressive distillation: a student learns to do in one step of the sampler what its teacher does in two. Shapes: B images."""

from __future__ import annotations

import torch
from torch import Tensor

from tutelage.diffusion.denoiser import Denoiser
from tutelage.diffusion.denoising import Images, like, studied
from tutelage.diffusion.sampling import jump
from tutelage.diffusion.schedule import NoiseSchedule
from tutelage.objectives import Term
from tutelage.training.plan import LossFunction
from tutelage.training.step import Step


def landing(schedule: NoiseSchedule, x_t: Tensor, t_B: Tensor, x_u: Tensor, u_B: Tensor) -> Tensor:
    """The image that a net must see in x_t so that one DDIM step from t to u ends in x_u, (B, ...).

    (x_u - r x_t) / (a_u - r a_t), r = s_u / s_t; at u = -1, where nothing is noised, x_u itself.

    Args:
        schedule: of both.
        x_t: (B, ...).
        t_B: times of x_t.
        x_u: (B, ...).
        u_B: times of x_u, each below that of x_t; -1 for the image itself.

    Source: Salimans and Ho, "Progressive Distillation for Fast Sampling of Diffusion Models", 2022, algorithm 2.
    """
    a_t, s_t = schedule.levels(t_B, x_t)
    a_u, s_u = schedule.levels(u_B.clamp(min=0), x_t)
    clean = (u_B < 0).view(-1, *(1 for _ in x_t.shape[1:]))
    a_u, s_u = torch.where(clean, 1.0, a_u), torch.where(clean, 0.0, s_u)
    ratio = s_u / s_t
    return (x_u - ratio * x_t) / (a_u - ratio * a_t)


def halving(student: Denoiser, teacher: Denoiser, steps: int, *, images: Images = studied) -> LossFunction:
    """The loss of a student whose sampler takes `steps` steps, by a teacher whose sampler takes twice as many.

    `w(t) |x0(x_t) - x|^2`, mean over an image's numbers; x is the image whose one step lands where two steps of the teacher land, and
    w(t) = max(1, a_t^2 / s_t^2).

    Args:
        student: learns.
        teacher: what the student was before.
        steps: of the student's sampler.
        images: what is noised; default: the step's samples.

    Source: Salimans and Ho, 2022, algorithm 2, with truncated SNR weights.
    Relations: where the teacher sees one image on the whole way, that image is the target.
    """

    def loss(step: Step) -> list[Term]:
        x, label_B = images(step)
        label_B = label_B if student.classes else None
        schedule = teacher.schedule
        grid = torch.tensor([*schedule.times(2 * steps), -1], device=x.device)
        place_B = 2 * torch.randint(steps, (len(x),), generator=step.rng("halving-times"), device=x.device)
        t_B, middle_B, u_B = grid[place_B], grid[place_B + 1], grid[place_B + 2]
        x_t = schedule.noised(x, t_B, like(step, x, "halving-noise"))
        with torch.no_grad():
            x_m = jump(schedule, teacher(x_t, t_B, label_B, ask=step.ask), middle_B)
            x_u = jump(schedule, teacher(x_m, middle_B, label_B, ask=step.ask), u_B)
            goal = landing(schedule, x_t, t_B, x_u, u_B)
            a, s = schedule.levels(t_B, x)
            weight_B = (a / s).square().flatten().clamp(min=1)
        error_B = (student(x_t, t_B, label_B, ask=step.ask).x0 - goal).square().flatten(1).mean(1)
        return [Term("halving", weight_B * error_B)]

    return loss
