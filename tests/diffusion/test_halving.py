"""Halving: where one step must land that stands for two."""

from __future__ import annotations

import itertools

import torch

from gaussians import SCHEDULE, Exact, moment, scaled
from tutelage.diffusion import halving, jump, landing
from tutelage.diffusion.parametrization import Prediction

C = 0.6


def test_a_step_to_the_landing_lands_there(rng):
    """Whatever the two points are; at the end of the way the landing is the image itself."""
    x_t, x_u = torch.randn(2, 5, 3, generator=rng, dtype=torch.float64)
    t_B, u_B = torch.tensor([999, 700, 500, 20, 400]), torch.tensor([500, 699, 0, -1, -1])
    x0 = landing(SCHEDULE, x_t, t_B, x_u, u_B)
    a, s = SCHEDULE.levels(t_B, x_t)
    torch.testing.assert_close(jump(SCHEDULE, Prediction(x0, (x_t - a * x0) / s), u_B), x_u, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(x0[3:], x_u[3:])


def test_where_the_teacher_sees_one_image_on_the_way_that_is_the_target(rng):
    """Two steps along a straight line are one."""
    x_t, image = torch.randn(2, 6, 3, generator=rng, dtype=torch.float64)
    t_B, m_B, u_B = torch.full((6,), 900), torch.full((6,), 600), torch.full((6,), 300)

    def seen(x, at):
        a, s = SCHEDULE.levels(at, x)
        return Prediction(image, (x - a * image) / s)

    x_m = jump(SCHEDULE, seen(x_t, t_B), m_B)
    x_u = jump(SCHEDULE, seen(x_m, m_B), u_B)
    torch.testing.assert_close(landing(SCHEDULE, x_t, t_B, x_u, u_B), image)


def test_a_student_that_takes_the_teachers_two_steps_in_one_has_no_loss():
    """For Gaussian data the exact student of one step is a number times the noise."""
    steps = 1
    teacher = Exact(C)
    x_t = torch.ones(1, 1).double()
    grid = [*SCHEDULE.times(2 * steps), -1]
    x = x_t
    for t, u in itertools.pairwise(grid):
        x = jump(SCHEDULE, teacher(x, torch.tensor([t])), torch.tensor([u]))
    images = lambda step: (C * torch.randn(32, 1, generator=torch.Generator().manual_seed(2), dtype=torch.float64), None)  # noqa: E731
    right = halving(scaled(float(x)), teacher, steps, images=images)(moment())[0].values
    wrong = halving(scaled(float(x) + 0.1), teacher, steps, images=images)(moment())[0].values
    assert right.abs().max().item() < 1e-14
    assert wrong.mean().item() > 1e-3


def test_errors_weigh_by_what_is_left_of_the_image(rng):
    """max(1, a^2 / s^2), against a loop; the teacher gets no gradient."""
    student, teacher, step = scaled(0.2), scaled(0.7), moment(5)
    x = torch.randn(16, 2, generator=rng, dtype=torch.float64)
    values = halving(student, teacher, 8, images=lambda _: (x, None))(step)[0].values
    grid = [*SCHEDULE.times(16), -1]
    places = 2 * torch.randint(8, (16,), generator=step.rng("halving-times"))
    noise = torch.randn(x.shape, generator=step.rng("halving-noise"), dtype=x.dtype)
    for i, place in enumerate(places.tolist()):
        t, m, u = (torch.tensor([grid[place + k]]) for k in range(3))
        a, s = (float(each) for each in SCHEDULE.levels(t, x[:1]))
        x_t = a * x[i : i + 1] + s * noise[i : i + 1]
        x_m = jump(SCHEDULE, teacher(x_t, t), m)
        goal = landing(SCHEDULE, x_t, t, jump(SCHEDULE, teacher(x_m, m), u), u)
        expected = max(1.0, a**2 / s**2) * (0.2 * x_t - goal).square().mean()
        torch.testing.assert_close(values[i], expected.detach())
    values.sum().backward()
    assert student.model.module.rate.grad is not None
    assert teacher.model.module.rate.grad is None
