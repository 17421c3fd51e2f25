"""Score distillation as learners: a generator, and a denoiser that is taught all the while what the generator makes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as F

from tutelage.diffusion.critic import Adversary, together
from tutelage.diffusion.denoiser import Denoiser
from tutelage.diffusion.denoising import denoising, studied
from tutelage.diffusion.generator import Generator
from tutelage.diffusion.making import made_by
from tutelage.diffusion.matching import Weight, matching
from tutelage.errors import BadInput
from tutelage.objectives import Term
from tutelage.signals import Model
from tutelage.teachers import Frozen, Teacher
from tutelage.training import Action, Fit, Learner, SameWeights
from tutelage.training.plan import LossFunction
from tutelage.training.step import Step


@dataclass(frozen=True)
class Extras:
    """What may be added to score distillation; all of it is off by default.

    Args:
        adversarial: weight of the critic in the generator's loss; 0 for no critic.
        critic: weight of the critic's own loss beside the fake denoiser's.
        regression: weight of the error against the teacher's own images; 0 for none.
        pairs: the action that makes these, where there is regression.
    """

    adversarial: float = 0.0
    critic: float = 1e-2
    regression: float = 0.0
    pairs: Action | None = None


def of_teacher(teacher: Teacher, recipe: str) -> Model:
    """The one net behind a teacher.

    Raises:
        BadInput: it is a cache, or several together.
    """
    found = teacher.models()
    if len(found) != 1:
        raise BadInput(f"{recipe}: the teacher ({teacher.name}) cannot be asked at noised images; expected one model")
    return found[0]


def twin(model: Model, name: str) -> Model:
    """Another model of the same architecture, whose weights something else decides; see `SameWeights`."""
    try:
        made = model.fresh(model.seed)
    except BadInput:
        made = model.copy()
    made.name = name
    return made


def begin_alike(student: Model, teacher: Model, recipe: str) -> SameWeights:
    """The action by which a student takes its teacher's weights.

    Raises:
        BadInput: it is another net.
    """
    ours, theirs = (skeleton.state_dict() if (skeleton := m.skeleton()) is not None else None for m in (student, teacher))
    if ours is not None and theirs is not None:
        differ = sorted(ours.keys() ^ theirs.keys()) or [name for name in ours if ours[name].shape != theirs[name].shape]
        if differ:
            raise BadInput(
                f"{recipe}: the student {student.spec or student.name} cannot begin with the weights of the teacher "
                f"{teacher.spec or teacher.name}: they differ in {differ[0]}; give a student of the teacher's shape, or start=own"
            )
    return SameWeights(student, teacher, f"{student.name} begins as {teacher.name}")


def learners(
    generator: Generator,
    teacher: Denoiser,
    fake: Model,
    shape: Sequence[int],
    *,
    fit: Fit,
    fake_lr: float | None,
    updates: int,
    weight: Weight = "dmd",
    extras: Extras = Extras(),
) -> Mapping[str, Learner]:
    """The two learners of score distillation, in the order in which they are updated.

    Args:
        generator: of the student.
        teacher: what its images should be like.
        fake: the denoiser of its images.
        shape: of an image.
        fit: of both.
        fake_lr: learning rate of the fake denoiser; None for the same.
        updates: of the fake denoiser for one of the generator.
        weight: of the gap; see `score_gap`.
        extras: what is added.

    Returns:
        "fake" and "generator".
    """
    student = generator.denoiser.model
    other = Denoiser(fake)
    drawn, given = made_by(generator, shape, gradient=False), made_by(generator, shape, gradient=True)
    learn: LossFunction = denoising(other, images=drawn, name="fake")
    trains: dict[str, Model] = {"fake": fake}
    adversary = None
    if extras.adversarial > 0:
        adversary = Adversary(other)
        trains["critic"] = adversary.model
        learn = together(learn, adversary.judging(drawn, studied, extras.critic))

    def loss(step: Step) -> list[Term]:
        x, label_B = given(step)
        found = list(matching(lambda _: (x, label_B), other, teacher, weight=weight)(step) or ())
        if adversary is not None:
            found.append(adversary.misleading(step, x, label_B, extras.adversarial))
        if extras.regression > 0 and extras.pairs is not None:
            found.append(_regressed(step, generator, extras.pairs, extras.regression))
        return found

    own = fit if fake_lr is None else replace(fit, lr=fake_lr)
    return {
        "fake": Learner(trains, learn, fit=replace(own, ema=None), repeat=updates),
        "generator": Learner(student, loss, Frozen(teacher.model), fit=fit),
    }


def _regressed(step: Step, generator: Generator, pairs: Action, weight: float) -> Term:
    """How far the generator is from the teacher's image of the same noise, on pairs that are drawn for the step."""
    noise, image, label = (pairs.result[name] for name in ("noise", "image", "label"))
    assert isinstance(noise, Tensor)
    assert isinstance(image, Tensor)
    assert isinstance(label, Tensor)
    count = len(step.batch["id"])
    chosen = torch.randint(len(noise), (count,), generator=step.rng("pairs"), device=step.device).cpu()
    z, y, label_B = (each[chosen].to(step.device) for each in (noise, image, label))
    made = Generator(generator.denoiser, generator.times[:1])([z], label_B if generator.denoiser.classes else None, ask=step.ask)
    return Term("regression", F.mse_loss(made, y, reduction="none").flatten(1).mean(1), weight=weight)
