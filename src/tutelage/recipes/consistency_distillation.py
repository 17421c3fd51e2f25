"""Song et al., "Consistency Models", ICML 2023, on a DDIM grid as in Luo et al., "Latent Consistency Models", 2023."""

from __future__ import annotations

from collections.abc import Sequence

from tutelage.data import Data
from tutelage.diffusion import Denoiser, Follower, Generator, Sampler, begin_alike, consistency, of_teacher, shape_of, twin
from tutelage.recipes import Paper, recipe
from tutelage.signals import Model
from tutelage.teachers import Frozen, Pool, Teacher
from tutelage.training import Fit, Learner, Plan, SameWeights, Stage

PAPER = Paper(
    "Consistency Models",
    authors="Song et al.",
    year=2023,
    url="https://arxiv.org/abs/2303.01469",
    claim="CIFAR-10: by consistency distillation a Frechet Inception distance of 3.55 with one evaluation, 2.93 with two; by progressive "
    "distillation 8.34 and 5.58.",
)


@recipe(paper=PAPER, matches="ends of the teacher's flow", generates=True, teachers={"teacher": "ddpm"})
def consistency_distillation(
    teacher: Teacher,
    student: Model,
    data: Data,
    *,
    grid: int = 50,
    huber: float = 1e-3,
    decay: float = 0.95,
    guidance: float = 1.0,
    times: Sequence[int] = (999,),
    fit: Fit = Fit(epochs=40, lr=5e-4, weight_decay=0.0, ema=0.95),
) -> Plan:
    """Train a net to say, at every noise level, where the teacher's flow ends; it then makes an image in one evaluation, or a few.

    Loss: d(f(x_t, t), f'(x_u, u)), mean over images and over times t of a grid; u is the next time on it, x_u one DDIM step of the teacher
    from x_t, f' a moving average of f, and f(x, t) = c_skip x + c_out x0(x, t) is x itself where nothing is noised. d is the pseudo-Huber
    distance.

    Args:
        teacher: a trained denoiser.
        student: a net of the same shape, which begins with the teacher's weights.
        data: images in [0, 1] on which both walk.
        grid: times that the teacher steps along.
        huber: width of the distance, >= 0.
        decay: of the moving average that is the target, in [0, 1).
        guidance: of the teacher, towards the class; 1 for none.
        times: at which the finished generator is asked, falling, with fresh noise before each further one.
        fit: duration and optimizer; its `ema` is what is used.

    Raises:
        BadInput: a student of another shape or noise, times that do not fall, or a number outside its range.

    Cost: one pass of the teacher (two with guidance), one of the average and one of the student a step. Memory for three nets.
    Data: labels not needed.
    Default: 50 times, decay and width are those of latent consistency models; the paper has a schedule of the grid, and LPIPS as distance.
    Relations: with `grid` as large as the schedule its steps are as small as can be. `dmd` matches distributions instead of points.
    """
    origin, shape = of_teacher(teacher, "consistency-distillation"), shape_of(data)
    real, net = Denoiser(origin, guidance=guidance), Denoiser(student)
    real.check(shape, data)
    net.check(shape, data, like=real)
    real.schedule.times(grid)
    Generator(net, times, consistent=True).check()
    student.sampling = Sampler("consistency", times=tuple(times)).said()
    average = twin(student, "average")
    target = Denoiser(average)
    loss = consistency(net, target, real, steps=grid, huber=huber)
    pool = Pool({"teacher": Frozen(origin), "average": Frozen(average)})
    begins = begin_alike(student, origin, "consistency-distillation")
    stage = Stage("follow the flow", Learner(student, loss, pool), fit, data.train, parts=[Follower(average, student, decay)])
    return Plan([begins, SameWeights(average, student, "average begins as student"), stage], student)
