"""Yin et al., "One-step Diffusion with Distribution Matching Distillation", CVPR 2024, and its second version, NeurIPS 2024."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from tutelage.data import Data
from tutelage.diffusion import Denoiser, Extras, Generator, Sampler, begin_alike, blanks, learners, of_teacher, pairs_of, shape_of, twin
from tutelage.diffusion.matching import Weight
from tutelage.errors import BadInput
from tutelage.recipes import Paper, recipe
from tutelage.signals import Model
from tutelage.teachers import Teacher
from tutelage.training import Action, Fit, Plan, SameWeights, Stage

PAPER = Paper(
    "Improved Distribution Matching Distillation for Fast Image Synthesis",
    authors="Yin et al.",
    year=2024,
    url="https://arxiv.org/abs/2405.14867",
    claim="ImageNet 64x64: a one-step generator has a Frechet Inception distance of 1.28, its teacher 2.32 with 511 evaluations; the first "
    "version, with regression and without a critic, 2.62.",
)


@recipe(paper=PAPER, matches="distributions of images", generates=True, teachers={"teacher": "ddpm"})
def dmd(
    teacher: Teacher,
    student: Model,
    data: Data,
    *,
    times: Sequence[int] = (399,),
    start: Literal["teacher", "own"] = "teacher",
    guidance: float = 1.0,
    gap: Weight = "dmd",
    updates: int = 5,
    fake_lr: float | None = None,
    adversarial: float = 0.0,
    critic: float = 1e-2,
    regression: float = 0.0,
    pairs: int = 1000,
    pair_steps: int = 50,
    fit: Fit = Fit(epochs=30, lr=2e-4, weight_decay=0.0, ema=0.95),
) -> Plan:
    """Make a generator of one or a few evaluations out of a denoiser, by the gap between what two denoisers say of its images.

    Generator: gradient (x_fake - x_real) / mean|x - x_real| on its image x, where x_real is the image that the teacher sees in x noised at
    a time t ~ U(0.02 T, 0.98 T), and x_fake that of a second denoiser; + adversarial * softplus(-D(x_t)) + regression * |x(z) - y(z)|^2 on
    pairs of noise z and the teacher's image y. The second denoiser is trained all the while on what the generator makes, `updates` times
    for each update of the generator, and with it the critic D on its innermost features.

    Args:
        teacher: a trained denoiser.
        student: a denoiser's net, which becomes the generator.
        data: says which images it is about. Nothing but the labels is studied, unless there is a critic, which compares with the images.
        times: at which the generator is asked, falling; several make a generator of as many evaluations.
        start: whose weights the generator begins with; own for a student of another shape, which needs far longer.
        guidance: of the teacher, towards the class; 1 for none.
        gap: dmd: as above; diff-instruct: (x_fake - x_real) a^2 / s^2, the gap of Diff-Instruct.
        updates: of the second denoiser for one of the generator, >= 1.
        fake_lr: learning rate of the second denoiser; null for that of `fit`.
        adversarial: weight of the critic, >= 0; the paper's is 3e-3 to 5e-3. 0 for no critic.
        critic: weight of the critic's own loss beside the second denoiser's.
        regression: weight of the pairs, >= 0; the first version's is 0.25. 0 for no pairs.
        pairs: how many are made before training.
        pair_steps: evaluations of the teacher for each.
        fit: duration and optimizer of the generator; its `ema` is what is used.

    Raises:
        BadInput: a teacher that is a cache or several models, denoisers of other images, classes or noise than each other's, times that do
            not fall, guidance without classes, a critic on a net that does not show its features, or a number outside its range.

    Cost: a step is two passes of the generator and of the second denoiser, one of the teacher (two with guidance), and updates - 1 times a
        pass of the generator and one, forward and backward, of the second denoiser. Memory for three nets.
    Data: labels not needed; images only with a critic.
    Default: without critic and regression, with the second version's 5 updates; its generator begins with the teacher's weights, asked at
        time 399. Learning rate and duration are ours, for small nets.
    Relations: with gap=diff-instruct it is Diff-Instruct (Luo et al., 2023). `disback` puts a path of easier teachers before it.
    """
    real, net, shape = Denoiser(of_teacher(teacher, "dmd"), guidance=guidance), Denoiser(student), shape_of(data)
    if min(adversarial, critic, regression) < 0 or pairs < 1 or pair_steps < 1 or updates < 1:
        raise BadInput(
            f"dmd: adversarial={adversarial}, critic={critic}, regression={regression}, updates={updates}, pairs={pairs}, "
            f"pair_steps={pair_steps}; expected weights of at least 0, counts of at least 1"
        )
    generator = Generator(net, times)
    real.check(shape, data)
    net.check(shape, data, like=real)
    generator.check()
    student.sampling = Sampler("generator", times=tuple(times)).said()
    fake = twin(real.model, "fake")
    before: list[Action] = [SameWeights(fake, real.model, "fake begins as teacher")]
    if start == "teacher":
        before.append(begin_alike(student, real.model, "dmd"))
    made = None
    if regression > 0:
        labels = data.train.labels() if real.classes else None
        made = pairs_of(real, shape, pairs, pair_steps, labels)
        before.append(made)
    extras = Extras(adversarial, critic, regression, made)
    both = learners(generator, real, fake, shape, fit=fit, fake_lr=fake_lr, updates=updates, weight=gap, extras=extras)
    return Plan([*before, Stage("match", both, fit, data.train if adversarial > 0 else blanks(data))], student)
