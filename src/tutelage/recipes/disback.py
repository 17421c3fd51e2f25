"""Zhang et al., "Distribution Backtracking Builds A Faster Convergence Trajectory for Diffusion Distillation", ICLR 2025."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from tutelage.data import Data
from tutelage.diffusion import (
    Backtracking,
    Denoiser,
    Generator,
    Sampler,
    begin_alike,
    blanks,
    denoising,
    learners,
    made_by,
    of_teacher,
    shape_of,
    twin,
)
from tutelage.diffusion.matching import Weight
from tutelage.errors import BadInput
from tutelage.recipes import Paper, recipe
from tutelage.signals import Model
from tutelage.teachers import Frozen, Teacher
from tutelage.training import Action, Fit, Learner, Plan, SameWeights, Stage
from tutelage.training.trajectory import Trajectory

PAPER = Paper(
    "Distribution Backtracking Builds A Faster Convergence Trajectory for Diffusion Distillation",
    authors="Zhang et al.",
    year=2024,
    url="https://arxiv.org/abs/2408.15991",
    claim="ImageNet 64x64: a one-step generator has a Frechet Inception distance of 1.38, and comes near it in fewer updates than by score "
    "distillation without the path.",
)


@recipe(paper=PAPER, matches="distributions of images", generates=True, teachers={"teacher": "ddpm"})
def disback(
    teacher: Teacher,
    student: Model,
    data: Data,
    *,
    nodes: int = 4,
    walk: float = 0.2,
    times: Sequence[int] = (399,),
    start: Literal["teacher", "own"] = "teacher",
    guidance: float = 1.0,
    gap: Weight = "dmd",
    updates: int = 5,
    fake_lr: float | None = None,
    degrade_fit: Fit = Fit(epochs=5, lr=2e-4, weight_decay=0.0),
    fit: Fit = Fit(epochs=25, lr=2e-4, weight_decay=0.0, ema=0.95),
) -> Plan:
    """Spoil a copy of the teacher until it knows the untrained generator's images, then lead the generator back along the way it took.

    Stage "degrade": the copy is trained, by the denoising loss, on what the generator makes as it is; snapshots c_0 (the teacher) ... c_M
    are kept on the way. Stage "match": score distillation as in `dmd`, whose second denoiser begins as c_M, and whose teacher is c_{M-1} at
    first, then c_{M-2}, ..., and the teacher itself after a share `walk` of the updates.

    Args:
        teacher: a trained denoiser.
        student: a denoiser's net, which becomes the generator.
        data: says which images it is about; nothing but the labels is studied.
        nodes: snapshots after the first, M, >= 0; with 0 there is no path, and it is `dmd`.
        walk: share of the updates of "match" with snapshots as teacher, in [0, 1].
        times: at which the generator is asked, falling.
        start: whose weights the generator begins with; own for a student of another shape.
        guidance: of the teacher and of its snapshots, towards the class; 1 for none.
        gap: dmd or diff-instruct; see `dmd`.
        updates: of the second denoiser for one of the generator, >= 1.
        fake_lr: learning rate of the second denoiser in "match"; null for that of `fit`.
        degrade_fit: duration and optimizer of the first stage.
        fit: duration and optimizer of the second; its `ema` is what is used.

    Raises:
        BadInput: as in `dmd`; also a negative number of nodes, or more of them than updates of the first stage.

    Cost: that of `dmd`, and before it a pass of the generator and one, forward and backward, of the copy for each update of the first.
        Snapshots on disk, each as large as the teacher; memory for four nets.
    Data: labels not needed; no images.
    Default: the paper's official code walks 1,000 updates for each of 10 nodes; here a fifth of the updates in all. Updates, learning rate
        and duration are as in `dmd`, with the first stage taken off the second one's duration.
    Relations: `dmd` with a schedule of teachers; with nodes=0 it is that, to the bit.
    """
    first = of_teacher(teacher, "disback")
    shape, net = shape_of(data), Denoiser(student)
    if nodes < 0 or updates < 1:
        raise BadInput(f"disback: nodes={nodes}, updates={updates}; expected at least 0 and at least 1")
    generator = Generator(net, times)
    real = Denoiser(first, guidance=guidance)
    real.check(shape, data)
    net.check(shape, data, like=real)
    generator.check()
    student.sampling = Sampler("generator", times=tuple(times)).said()
    fake, source = twin(first, "fake"), blanks(data)
    parts: list[Action | Stage] = [SameWeights(fake, first, "fake begins as teacher")]
    if start == "teacher":
        parts.append(begin_alike(student, first, "disback"))
    if nodes == 0:
        both = learners(generator, real, fake, shape, fit=fit, fake_lr=fake_lr, updates=updates, weight=gap)
        return Plan([*parts, Stage("match", both, fit, source)], student)
    spoiling = degrade_fit.updates(len(source))
    if nodes > spoiling:
        raise BadInput(f"disback: nodes={nodes}, but the teacher is spoilt in {spoiling} updates; give fewer, or a longer degrade_fit")
    path = Trajectory(every=spoiling // nodes, name="path")
    spoil = denoising(fake, images=made_by(generator, shape, gradient=False), name="fake")
    parts.append(Stage("degrade", Learner(fake, spoil, teacher=Frozen(student)), degrade_fit, source, parts=[path]))
    target = twin(first, "target")
    scheduled = Denoiser(target, guidance=guidance)
    both = learners(generator, scheduled, fake, shape, fit=fit, fake_lr=fake_lr, updates=updates, weight=gap)
    way_back = Backtracking(target, first, path, walk)
    parts.append(Stage("match", both, fit, source, parts=[way_back, path.reader()]))
    return Plan(parts, student)
