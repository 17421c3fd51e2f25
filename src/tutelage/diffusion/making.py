"""Making: what a generator makes at a step, for the losses that look at its images. Shapes: B images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext

import torch
from torch import Tensor

from tutelage.data import Data, Table
from tutelage.diffusion.denoiser import Denoiser
from tutelage.diffusion.denoising import like
from tutelage.diffusion.generator import Generator
from tutelage.diffusion.sampling import ddim
from tutelage.errors import BadInput
from tutelage.randomness import generator as seeded_generator
from tutelage.signals import RESERVED
from tutelage.training import Action, Run
from tutelage.training.step import Step


def blanks(data: Data) -> Table:
    """Samples without images, as many as a data set trains on: an id, and the label that is to be drawn where there are labels.

    A recipe that studies these reads no image, but its epochs and the shares of its classes are those of the data.

    Args:
        data: of which the number of samples and the labels are taken.
    """
    columns = {"id": torch.arange(len(data.train))}
    labels = data.train.labels()
    if labels is not None and labels.ndim == 1 and not labels.is_floating_point():
        columns["y"] = labels.clone()
    return Table(columns, f"{data.train.name}, without images")


def shape_of(data: Data) -> tuple[int, ...]:
    """The shape of an image, (C, H, W), read off the first sample.

    Raises:
        BadInput: the samples are no images.
    """
    found = [v for name, v in data.train.batch(torch.tensor([0])).items() if name not in RESERVED]
    if len(found) != 1 or not isinstance(found[0], Tensor) or found[0].ndim != 4 or not found[0].is_floating_point():
        raise BadInput(f"{data.name} holds no images; expected one column of floating point (B, C, H, W), in [0, 1]")
    return tuple(found[0].shape[1:])


def made_by(generator: Generator, shape: Sequence[int], gradient: bool) -> Callable[[Step], tuple[Tensor, Tensor | None]]:
    """A function that makes, at each step, an image for each sample of the batch, of the sample's class.

    A generator of several evaluations is stopped after a number of them that is drawn for the step, each as likely; what came before the
    last one is an input to it and gets no gradient. So the generator studies images like those that it will meet when it is used.

    Args:
        generator: makes them.
        shape: of an image.
        gradient: whether there is a way back to the generator.

    Source: Yin et al., "Improved Distribution Matching Distillation for Fast Image Synthesis", 2024, section 4.5 (backward simulation).
    """

    def make(step: Step) -> tuple[Tensor, Tensor | None]:
        ids, label_B = step.batch["id"], step.batch.get("y")
        label_B = label_B if isinstance(label_B, Tensor) and generator.denoiser.classes else None
        some = torch.empty(len(ids), *shape, device=step.device)
        stop = generator.steps
        if stop > 1:
            # one number for all processes and micro-batches, so that they do equally much
            at = step.clock
            drawn = seeded_generator("evaluations", at.seed, at.stage, at.step, step.turn)
            stop = 1 + int(torch.randint(generator.steps, (), generator=drawn))
        noise = [like(step, some, f"making-{number}") for number in range(stop)]
        with nullcontext() if gradient else torch.no_grad():
            return generator(noise, label_B, ask=step.ask), label_B

    return make


def pairs_of(teacher: Denoiser, shape: Sequence[int], count: int, steps: int, labels: Tensor | None, at_once: int = 256) -> Action:
    """An action that follows the teacher's probability flow from `count` noises to images; each noise with its image is a pair to regress.

    Args:
        teacher: whose flow.
        shape: of an image.
        count: pairs.
        steps: evaluations of the teacher for each.
        labels: classes to draw from, with their shares; None for none.
        at_once: pairs that are made at a time.

    Returns:
        The action; its result has `noise` and `image` (count, C, H, W), and `label` (count,), -1 for none.

    Source: Yin et al., "One-step Diffusion with Distribution Matching Distillation", 2024, section 3.3.
    """

    def run(run: Run) -> dict[str, Tensor]:
        drawn = seeded_generator("pairs", run.seed)
        noise = torch.randn(count, *shape, generator=drawn)
        chosen = torch.full((count,), -1)
        if labels is not None and teacher.classes:
            chosen = labels[torch.randint(len(labels), (count,), generator=drawn)].cpu()
        teacher.model.module.to(run.device)
        with torch.no_grad(), teacher.model.mode(training=False):
            rows = [
                ddim(teacher, z.to(run.device), steps, label.to(run.device)).cpu()
                for z, label in zip(noise.split(at_once), chosen.split(at_once), strict=True)
            ]
        return {"noise": noise, "image": torch.cat(rows), "label": chosen}

    return Action("pairs", run)
