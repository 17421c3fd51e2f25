"""Consistency distillation: a net that maps every point of the teacher's flow to the flow's end. Shapes: B images."""

from __future__ import annotations

import torch
from torch import Tensor

from tutelage.diffusion.denoiser import Ask, Denoiser
from tutelage.diffusion.denoising import Images, like, studied
from tutelage.diffusion.parametrization import SIGMA_DATA
from tutelage.diffusion.sampling import jump
from tutelage.errors import BadInput
from tutelage.objectives import Term
from tutelage.signals import Model
from tutelage.state import State, Stateful
from tutelage.training.plan import LossFunction
from tutelage.training.step import Step

TIME_SCALE = 10.0
"""How fast the boundary's weight falls with time; that of latent consistency models."""


def boundary(t_B: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    """How much of what a net is given, and of what it says, is in a consistent answer: c_skip and c_out, of a shape that multiplies x.

    c_skip = d^2 / ((k (t + 1))^2 + d^2), c_out = k (t + 1) / sqrt((k (t + 1))^2 + d^2), k = 10, d = 0.5. At time -1, where an image is
    clean, they are 1 and 0.

    Args:
        t_B: times, whole numbers of at least -1.
        x: (B, ...).

    Source: Song et al., "Consistency Models", 2023, eq. 5 and appendix C; Luo et al., "Latent Consistency Models", 2023, for k.
    """
    scaled = (TIME_SCALE * (t_B + 1)).to(x.dtype).view(-1, *(1 for _ in x.shape[1:]))
    below = scaled.square() + SIGMA_DATA**2
    return SIGMA_DATA**2 / below, scaled / below.sqrt()


def consistent(denoiser: Denoiser, x_t: Tensor, t_B: Tensor, label_B: Tensor | None = None, *, ask: Ask | None = None) -> Tensor:
    """Where the flow through x_t ends, as the net has it: c_skip x_t + c_out x0(x_t, t).

    Args:
        denoiser: the net.
        x_t: (B, ...).
        t_B: its times.
        label_B: classes.
        ask: how the net is asked.
    """
    skip, out = boundary(t_B, x_t)
    return skip * x_t + out * denoiser(x_t, t_B, label_B, ask=ask).x0


def pseudo_huber(error: Tensor, width: float) -> Tensor:
    """sqrt(e^2 + c^2) - c, mean over all but the first dimension: like a square below c, like an absolute value above."""
    return ((error.square() + width**2).sqrt() - width).flatten(1).mean(1)


def consistency(
    student: Denoiser, target: Denoiser, teacher: Denoiser, *, steps: int = 50, huber: float = 1e-3, images: Images = studied
) -> LossFunction:
    """The loss of a consistent student: at a noised image it says what its own slow copy says one step of the teacher further on.

    d(f(x_t, t), f'(x_u, u)), u the time after t on a grid, x_u one DDIM step of the teacher from x_t; at the grid's end f' is x_u itself.
    d is the pseudo-Huber distance.

    Args:
        student: f.
        target: f', a copy of the student that follows it (see `Follower`); gets no gradient.
        teacher: makes the step, with its guidance.
        steps: times on the grid.
        huber: width c of the distance; 0 for the mean absolute error.
        images: what is noised; default: the step's samples.

    Raises:
        BadInput: a negative width; when it is first used, a number of steps that the schedule does not have.

    Source: Song et al., 2023, algorithm 2, on a DDIM grid as in Luo et al., 2023, algorithm 1.
    """
    if not huber >= 0:
        raise BadInput(f"huber={huber}: expected a width of at least 0")

    def loss(step: Step) -> list[Term]:
        x, label_B = images(step)
        label_B = label_B if student.classes else None
        schedule = teacher.schedule
        grid = torch.tensor([*schedule.times(steps), -1], device=x.device)
        place_B = torch.randint(steps, (len(x),), generator=step.rng("consistency-times"), device=x.device)
        t_B, u_B = grid[place_B], grid[place_B + 1]
        x_t = schedule.noised(x, t_B, like(step, x, "consistency-noise"))
        with torch.no_grad():
            x_u = jump(schedule, teacher(x_t, t_B, label_B, ask=step.ask), u_B)
            said = consistent(target, x_u, u_B.clamp(min=0), label_B, ask=step.ask)
            goal = torch.where((u_B < 0).view(-1, *(1 for _ in x.shape[1:])), x_u, said)
        return [Term("consistency", pseudo_huber(consistent(student, x_t, t_B, label_B, ask=step.ask) - goal, huber))]

    return loss


class Follower(Stateful):
    """Keeps a model the moving average of another that trains: after each step, w <- decay w + (1 - decay) w'.

    Name it in `Stage(parts=[...])`; both begin alike where a `SameWeights` stands before the stage. Buffers are taken over as they are.

    Args:
        follower: the average.
        of: who trains.
        decay: in [0, 1).

    Raises:
        BadInput: a decay outside its range.
    """

    def __init__(self, follower: Model, of: Model, decay: float) -> None:
        if not 0 <= decay < 1:
            raise BadInput(f"decay={decay}: expected a number in [0, 1)")
        self.decay = decay
        self._pair = lambda: (follower, of)  # hidden from the walk: it is no part of what is trained

    @torch.no_grad()
    def after_step(self, step: Step) -> None:
        """Follow."""
        follower, of = (model.module for model in self._pair())
        for ours, theirs in zip(follower.parameters(), of.parameters(), strict=True):
            ours.lerp_(theirs.detach(), 1 - self.decay)
        for kept, now in zip(follower.buffers(), of.buffers(), strict=True):
            kept.copy_(now)

    def state_dict(self) -> State:
        """The average."""
        return dict(self._pair()[0].module.state_dict())

    def load_state_dict(self, state: State) -> None:
        """Take back the average."""
        self._pair()[0].module.load_state_dict({name: value for name, value in state.items() if isinstance(value, Tensor)})
