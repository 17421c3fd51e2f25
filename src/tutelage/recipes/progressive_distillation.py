"""Salimans and Ho, "Progressive Distillation for Fast Sampling of Diffusion Models", ICLR 2022."""

from __future__ import annotations

from tutelage.data import Data
from tutelage.diffusion import Denoiser, Sampler, begin_alike, halving, of_teacher, shape_of, twin
from tutelage.errors import BadInput
from tutelage.recipes import Paper, recipe
from tutelage.signals import Model
from tutelage.teachers import Frozen, Teacher
from tutelage.training import Action, Fit, Learner, Plan, SameWeights, Stage

PAPER = Paper(
    "Progressive Distillation for Fast Sampling of Diffusion Models",
    authors="Salimans & Ho",
    year=2022,
    url="https://arxiv.org/abs/2202.00512",
    claim="CIFAR-10 without classes: Frechet Inception distances of 2.57, 3.00, 4.51 and 9.12 with 8, 4, 2, 1 evaluations, from a teacher "
    "that needs 8,192 for 2.40 or so.",
)


@recipe(paper=PAPER, matches="steps of a sampler", generates=True, teachers={"teacher": "ddpm"})
def progressive_distillation(
    teacher: Teacher,
    student: Model,
    data: Data,
    *,
    first: int = 8,
    last: int = 1,
    fit: Fit = Fit(epochs=10, lr=5e-4, weight_decay=0.0, schedule="linear", ema=0.95),
) -> Plan:
    """Halve the evaluations of a sampler again and again: a student does in one step what its teacher does in two, and teaches next.

    Loss of each halving: max(1, a_t^2 / s_t^2) |x(x_t) - x'|^2, where one DDIM step to the image x' lands where two steps of the teacher
    land; t is drawn from the student's own times. After each stage the student is the next one's teacher.

    Args:
        teacher: a trained denoiser that predicts the image or the velocity.
        student: a net of the same shape, which begins with the teacher's weights.
        data: images in [0, 1] on which both walk.
        first: evaluations of the student of the first stage; the teacher takes twice as many.
        last: evaluations of the student of the last stage, a power of two below.
        fit: duration and optimizer of each stage.

    Raises:
        BadInput: a student of another shape or noise, numbers of evaluations that no halving joins, or nets that predict the noise, which
            says nothing of the image where there is only noise.

    Cost: two passes of the teacher and one of the student a step; log2(first / last) + 1 stages.
    Data: labels not needed.
    Default: the weights are the paper's truncated SNR; the paper halves from 8,192 evaluations, with 50,000 updates each time.
    Relations: `consistency-distillation` and `dmd` need no stages.
    """
    halvings = []
    while first >= max(last, 1):
        halvings.append(first)
        if first == last:
            break
        first = first // 2 if first % 2 == 0 else 0
    if not halvings or halvings[-1] != last or last < 1:
        raise BadInput(f"progressive-distillation: no halving leads from first={halvings[0] if halvings else first} to last={last}")
    origin, shape = of_teacher(teacher, "progressive-distillation"), shape_of(data)
    real, net = Denoiser(origin), Denoiser(student)
    real.check(shape, data)
    net.check(shape, data, like=real)
    for each in (real, net):
        if each.kind == "eps":
            raise BadInput(
                f"progressive-distillation: {each.model.name} predicts the noise, from which no image can be told where there is nothing "
                "but noise; train a teacher that predicts the velocity (unet:predicts=v), or take dmd"
            )
    student.sampling = Sampler("ddim", last).said()
    before = twin(origin, "before")
    asked = Denoiser(before, kind=real.kind)
    parts: list[Action | Stage] = [begin_alike(student, origin, "progressive-distillation")]
    for steps in halvings:
        parts.append(SameWeights(before, student, f"teacher of {2 * steps}"))
        parts.append(Stage(f"to {steps}", Learner(student, halving(net, asked, steps), Frozen(before)), fit, data.train))
    return Plan(parts, student)
