"""What generators are worth: how near what they draw is to real images, on the features of a judge, and what an image costs."""

from __future__ import annotations

import io
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from tutelage.data import Data, Source, Table, kind_of
from tutelage.data.condensation import grid
from tutelage.diffusion import Denoiser, Sampler, shape_of
from tutelage.errors import BadInput
from tutelage.evaluation import frechet_distance, kernel_distance, precision_recall, processor, size_of
from tutelage.extras import needed
from tutelage.jobs.estimate import flops_of
from tutelage.jobs.measurement import FORMAT, Findings, class_names, last_split, splits_of
from tutelage.randomness import derive, generator
from tutelage.recipes.alone import alone
from tutelage.signals import RESERVED, Depth, Model
from tutelage.students import cnn
from tutelage.training import Fit, Plan, Run, RunOptions, train

MOST = 1_000
"""Images that are drawn and compared, at most."""
LADDER = (1, 2, 4, 8, 16, 32)
"""Numbers of evaluations at which a sampler is tried, beside its own."""
SHOWN = 8
"""Images of a class in a grid, at most."""
JUDGED_BY = Fit(steps=400, batch_size=32, lr=3e-3)
SIDE = 8
"""Without labels images are compared as they are, this many pixels wide at most."""


class Judge:
    """Gives images the features by which generators are compared.

    Args:
        model: a classifier; None compares pixels.
        about: what it is, in a sentence.
    """

    def __init__(self, model: Model | None, about: str) -> None:
        self.model, self.about = model, about

    def __call__(self, images: Tensor, at_once: int = 512) -> tuple[Tensor, Tensor | None]:
        """Features (N, F) and, of a classifier, the class it sees (N,).

        Args:
            images: in [0, 1], (N, C, H, W).
            at_once: images a pass.
        """
        if self.model is None:
            small = F.adaptive_avg_pool2d(images, min(SIDE, *images.shape[2:]))
            return small.flatten(1), None
        rows, seen = [], []
        last: Any = Depth(1.0)
        with torch.no_grad(), self.model.mode(training=False):
            for some in images.split(at_once):
                shown = self.model.observe({"x": some, "id": torch.arange(len(some))}, {last, "logits"})
                features = shown[last]
                rows.append(features.mean(tuple(range(2, features.ndim))) if features.ndim > 2 else features)
                seen.append(shown["logits"].argmax(-1))
        return torch.cat(rows), torch.cat(seen)


def judge_for(data: Data, seed: int = 0) -> Judge:
    """A judge that was trained on images which neither the models nor the comparison see: those of the validation split.

    Args:
        data: with labels; without, pixels are compared. Without a validation split it is trained on the training images.
        seed: of its weights and order.
    """
    source = data.validation or data.train
    labels = source.labels()
    if labels is None or labels.ndim != 1 or labels.is_floating_point():
        return Judge(None, f"the images themselves, at most {SIDE} pixels wide, since {data.name} has no labels to train a judge on")
    channels, size = shape_of(data)[0], shape_of(data)[1]
    classes = int(data.class_count() or 0)
    pools = 1 if size < 16 else 2
    net = Model(lambda: cnn(classes=classes, channels=channels, width=16, pools=pools), name="judge", seed=derive("judge", seed))
    plan = alone(net, Data(_plain(source), classes=data.classes, name="judge"), fit=JUDGED_BY)
    train(plan, Run(None, seed=seed, options=RunOptions(device="cpu", quiet=True, share_every=0)))
    which = "the validation images, which nothing else here has seen" if data.validation is not None else "the training images"
    return Judge(net, f"the last features of a small classifier that was trained on {which}")


def _plain(source: Source) -> Table:
    images, labels = images_of(source)
    assert labels is not None
    return Table({"x": images, "y": labels}, source.name)


def images_of(source: Source, most: int | None = None, seed: int = 0) -> tuple[Tensor, Tensor | None]:
    """The images of a source, or `most` of them, drawn by the seed; and their labels."""
    chosen = torch.arange(len(source))
    if most is not None and most < len(chosen):
        chosen = torch.randperm(len(source), generator=generator("judged-images", seed))[:most].sort().values
    rows, labels = [], []
    for some in chosen.split(512):
        batch = source.batch(some)
        rows += [v for name, v in batch.items() if name not in RESERVED and isinstance(v, Tensor)]
        if "y" in batch:
            labels.append(torch.as_tensor(batch["y"]))
    return torch.cat(rows).float(), torch.cat(labels) if labels else None


@dataclass(frozen=True)
class Reference:
    """What drawn images are compared with.

    Args:
        features: of real images (N, F).
        labels: their classes (N,), which are the ones that are drawn; None without.
        judge: gave the features.
        shape: of an image.
        seed: of the first image that is drawn.
    """

    features: Tensor
    labels: Tensor | None
    judge: Judge
    shape: tuple[int, ...]
    seed: int = 0

    @staticmethod
    def of(data: Data, seed: int, judge: Judge | None = None, most: int = MOST) -> Reference:
        """That of the split that nothing was chosen on."""
        judge = judge or judge_for(data, seed)
        images, labels = images_of(last_split(data)[1], most, seed)
        if labels is not None and (labels.ndim != 1 or labels.is_floating_point()):
            labels = None
        return Reference(judge(images)[0], labels, judge, shape_of(data), seed)

    def drawn(self, model: Model, sampler: Sampler, device: torch.device | str = "cpu") -> Tensor:
        """As many images of a model as there are real ones, of the same classes, where the model knows any."""
        labels = self.labels if Denoiser(model).classes else None
        seeds = range(self.seed, self.seed + len(self.features))
        return sampler.draw(model, seeds, self.shape, labels, device=device)

    def compared(self, images: Tensor) -> dict[str, float]:
        """How near: `frechet`, `kernel`, `precision`, `recall`; and `class_accuracy`, what share the judge takes for its class."""
        features, seen = self.judge(images)
        if not bool(features.isfinite().all()):
            raise BadInput("some generated images are not finite; a generator that diverged cannot be judged")
        precision, recall = precision_recall(self.features, features)
        found = {
            "frechet": frechet_distance(self.features, features),
            "kernel": kernel_distance(self.features, features),
            "precision": precision,
            "recall": recall,
        }
        if seen is not None and self.labels is not None:
            found["class_accuracy"] = float((seen == self.labels).float().mean())
        return found


def quality(model: Model, data: Data, *, sampler: Sampler | None = None, seed: int = 0, judge: Judge | None = None) -> dict[str, float]:
    """The numbers of one generator, as in a report; see `Reference.compared`."""
    reference = Reference.of(data, seed, judge)
    return reference.compared(reference.drawn(model, sampler or Sampler.of(model)))


def generated(
    models: Mapping[str, Model], data: Data, device: torch.device | str, about: Mapping[str, Any], *, taught: Sequence[str] = ()
) -> Findings:
    """Measure generators: their own samplers, and how quality depends on the number of evaluations.

    Args:
        models: by name.
        data: the split that nothing was chosen on is what they are compared with.
        device: where to compute.
        about: `recipe`, `paper`, `data` and `seed`, as the report says them.
        taught: which of the models are teachers.

    Returns:
        A report with `kind` "generator"; under each model what `Reference.compared` gives, `size_of`, `evaluations`, `flops` of one
        evaluation, `ms_image`, and `ladder`, the Frechet distance by number of evaluations; `floor`, what real images have that the judge
        and the reference do not know. And a grid of each model's images as a PNG, by name.
    """
    if kind_of(data.train) != "images":
        raise BadInput(f"generators are compared with images, but {data.name} holds {kind_of(data.train) or 'other samples'}")
    split = last_split(data)[0]
    reference = Reference.of(data, about["seed"])
    count = len(reference.features)
    real, labels = images_of(data.train, count, about["seed"])
    names = class_names(data)
    numbers: dict[str, dict[str, Any]] = {}
    samplers = {name: Sampler.of(model) for name, model in models.items()}
    grids = {"real": _png(*_some(real, labels))}
    for name, model in models.items():
        sampler, denoiser = samplers[name], Denoiser(model)
        images = reference.drawn(model, sampler, device)
        ladder = _ladder(sampler, len(denoiser.schedule))
        numbers[name] = {
            "model": model.spec or model.name,
            **reference.compared(images),
            **size_of(model.module),
            "flops": flops_of(model, data),
            "sampler": sampler.said(),
            "evaluations": sampler.evaluations,
            "ladder": [
                {"evaluations": steps, "frechet": _frechet(reference, images if each is sampler else reference.drawn(model, each, device))}
                for steps, each in ladder.items()
            ],
        }
        grids[name] = _png(*_some(images, reference.labels))
    for name, milliseconds in _times(models, samplers, reference, device).items():
        numbers[name]["ms_image"] = milliseconds
    floor = reference.compared(real) if len(real) == count else None
    report = {
        "format": FORMAT,
        "kind": "generator",
        **about,
        "split": split,
        "samples": count,
        "classes": names,
        "splits": splits_of(data, len(names), False),
        "models": list(numbers),
        "teachers": list(taught),
        **numbers,
        "judge": reference.judge.about,
        "floor": None if floor is None else {k: v for k, v in floor.items() if k != "class_accuracy"},
        "timing": {"threads": torch.get_num_threads(), "processor": processor(device), "device": torch.device(device).type},
        "kept": None,
    }
    return Findings(report, pictures=grids)


def _frechet(reference: Reference, images: Tensor) -> float:
    return frechet_distance(reference.features, reference.judge(images)[0])


def _ladder(sampler: Sampler, times: int) -> dict[int, Sampler]:
    """The same way to draw, with other numbers of evaluations; its own last or in its place."""
    own = len(sampler.times) if sampler.few else sampler.steps
    wanted = sorted({own, *(n for n in LADDER if n <= times)})
    if sampler.how == "generator":
        wanted = list(range(1, own + 1))
    elif sampler.how == "consistency":
        wanted = [n for n in wanted if n <= max(4, own)]
    return {n: sampler if n == own else sampler.within(n, times) for n in wanted}


def _times(
    models: Mapping[str, Model], samplers: Mapping[str, Sampler], reference: Reference, device: torch.device | str, rounds: int = 5
) -> dict[str, float]:
    """Milliseconds an image takes, drawn alone; the median of some, the models in turns."""
    found: dict[str, list[float]] = {name: [] for name in models}
    for turn in range(rounds + 1):
        for name, model in models.items():
            labels = None if reference.labels is None or not Denoiser(model).classes else reference.labels[:1]
            start = time.perf_counter()
            samplers[name].draw(model, [turn], reference.shape, labels, device=device)
            if turn:  # the first one warms up
                found[name].append(time.perf_counter() - start)
    return {name: sorted(seconds)[rounds // 2] * 1e3 for name, seconds in found.items()}


def _some(images: Tensor, labels: Tensor | None) -> tuple[Tensor, Tensor]:
    """The first images of each class; of images without classes, the first in rows."""
    if labels is None:
        first = images[: SHOWN * SHOWN]
        return first, torch.arange(len(first)) // SHOWN
    chosen = torch.cat([torch.nonzero(labels == label).flatten()[:SHOWN] for label in labels.unique().tolist()[:20]])
    return images[chosen], labels[chosen]


def _png(images: Tensor, rows: Tensor) -> bytes:
    """A grid as a PNG, every pixel as large as makes small images visible."""
    image = needed("PIL.Image", "images", "a grid of images")
    zoom = max(1, round(24 / images.shape[3]))
    larger = images.repeat_interleave(zoom, 2).repeat_interleave(zoom, 3)
    file = io.BytesIO()
    image.fromarray(grid(larger, rows, gap=2)).save(file, format="PNG", optimize=True)
    return file.getvalue()


def findings(
    plans: Mapping[str, Plan], teachers: Mapping[str, Model], data: Data, device: torch.device, about: Mapping[str, Any]
) -> Findings:
    """The report of a job that made a generator: its teachers, and its product."""
    found = generated({**teachers, "student": plans["student"].product}, data, device, about, taught=list(teachers))
    found.report["student"]["updates"] = plans["student"].updates(plans["student"].product)
    return replace(found)
