"""sample: let a trained generator draw images, one for each seed, and write them as PNGs with a grid of all."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tutelage.data import Data, Table
from tutelage.data.condensation import grid
from tutelage.diffusion import Denoiser, Sampler, shape_of
from tutelage.errors import BadInput, nearest
from tutelage.extras import needed
from tutelage.jobs import folder, models, sources
from tutelage.jobs.estimate import check_weights
from tutelage.jobs.generators import quality
from tutelage.language.progress import tracked
from tutelage.signals import Model
from tutelage.training.checkpoint import write_text_atomically

MOST = 1_000_000
"""Images of a call, at most."""
ACROSS = 16
"""Images in a row of a grid without classes."""


@dataclass(frozen=True)
class Sampled:
    """What was drawn.

    Args:
        folder: where the images lie.
        by: the model.
        images: how many.
        evaluations: of the net for each.
        seconds: that it took.
        quality: how near as many images are to real ones, where data were given; see `jobs.generators.Reference.compared`.
    """

    folder: Path
    by: str
    images: int
    evaluations: int
    seconds: float
    quality: Mapping[str, float] = field(default_factory=dict)


def sample(
    model: Any,
    *,
    out: str | Path,
    count: int = 64,
    labels: str | Sequence[int | str] | None = None,
    steps: int | None = None,
    guidance: float | None = None,
    seed: int = 0,
    data: Any = None,
    batch_size: int = 256,
    device: str = "auto",
    trust_code: bool = False,
    quiet: bool = False,
) -> Sampled:
    """Draw images from a model that was trained to, as it was meant to be used, or with other steps or guidance.

    An image is a function of its seed and class: not of how many are drawn, nor of the batch size.

    Args:
        model: a run folder of `ddpm`, `dmd`, `disback`, `progressive-distillation` or `consistency-distillation`,
            diffusers:FOLDER_OR_ID, or in Python a Model.
        out: folder for the images, 000000.png, ..., grid.png, and samples.json, which says how they were drawn; must be new or empty.
        count: images.
        labels: classes to draw in turn, by name or number ("3,7" or a list), or "none"; default: all that the model knows.
        steps: evaluations of the net; default: as the model was saved.
        guidance: towards the class; default: as the model was saved.
        seed: of the first image; the next ones have the following.
        data: also compare with these images; takes about as long as `evaluate`.
        batch_size: images a pass.
        device: auto, or cpu.
        trust_code: let a run folder name a .py file whose code then runs.
        quiet: show no progress.

    Raises:
        BadInput: a model that draws no images, classes that it does not know, steps that it was not made for, a number outside its range.
        MissingFile: a path that does not exist.
    """
    if isinstance(count, bool) or not 1 <= count <= MOST or batch_size < 1:
        raise BadInput(f"count={count}, batch_size={batch_size}: expected from 1 to {MOST:,} images, in batches of at least 1")
    if device not in ("auto", "cpu"):
        raise BadInput(f"device={device!r}: expected one of 'auto', 'cpu'")
    compared = None if data is None else sources.data_from(data)
    about = compared or _blank(model)
    handle = models.model_from(model, "model", data=about, seed=0, trust_code=trust_code)
    if not handle.sampling and not isinstance(model, Model):
        raise BadInput(f"{model} draws no images; expected a run of a recipe for generators, such as dmd (tutelage recipes)")
    check_weights({"model": handle})
    shape = _shape(handle, about)
    sampler = _sampler(handle, steps, guidance)
    names = list(about.classes) or list(handle.classes)
    wanted = _labels(handle, labels, names, count)
    target = Path(out)
    folder.prepare(target, False)
    place = torch.accelerator.current_accelerator(check_available=True) if device == "auto" else None
    start = time.perf_counter()
    image = needed("PIL.Image", "images", "writing images")
    seeds = list(range(seed, seed + count))
    drawn = []
    starts = range(0, count, batch_size)
    for first in tracked(starts, len(starts), "batches of images", shown=not quiet):
        part = slice(first, first + batch_size)
        some = sampler.draw(handle, seeds[part], shape, None if wanted is None else wanted[part], device=place or "cpu")
        for number, picture in enumerate(_pixels(some), first):
            image.fromarray(picture).save(target / f"{number:06d}.png")
        drawn.append(some)
    seconds = time.perf_counter() - start
    images = torch.cat(drawn)
    rows = torch.arange(count) // ACROSS if wanted is None else wanted
    image.fromarray(grid(images, rows)).save(target / "grid.png")
    described = {
        "model": str(model) if isinstance(model, (str, Path)) else handle.name,
        "sampler": sampler.said(),
        "seeds": [seeds[0], seeds[-1]],
        "labels": None if wanted is None else [names[i] if i < len(names) else str(i) for i in wanted.tolist()],
    }
    found = {} if compared is None else quality(handle, compared, sampler=sampler, seed=seed)
    write_text_atomically(target / "samples.json", json.dumps({**described, "quality": found}, indent=1))
    return Sampled(target, handle.name, count, sampler.evaluations, seconds, found)


def _blank(model: Any) -> Data:
    """Data like those that a run was trained on, as far as its model must know: one empty image."""
    if isinstance(model, Model):
        size = getattr(model.module, "shape", None)
        if size is None:
            raise BadInput(f"{model.name} does not say how large its images are; give data, or an attribute `shape` of its module")
        return Data(Table({"x": torch.zeros(1, *size)}), name="images")
    if str(model).startswith("diffusers:"):
        some = Data(Table({"x": torch.zeros(1, 1, 1, 1)}), name=str(model))
        return _blank(models.model_from(str(model), "model", data=some, seed=0))
    where = Path(str(model))
    file = next((f for f in (where / models.FILE, where / models.FILE.name) if f.is_file()), None)
    if file is None:
        raise BadInput(f"{model} is no run folder, so its images' size is not known; give --data, what it was trained on")
    said = models.read_model(file)
    prepared = said.get("prepared") or {}
    try:
        size = tuple(int(prepared[name]) for name in ("channels", "height", "width"))
    except (KeyError, TypeError, ValueError):
        raise BadInput(
            f"{model} was not trained on images of one size, so it draws none; expected a run of a recipe for generators"
        ) from None
    labels = {"y": torch.zeros(1, dtype=torch.int64)} if said.get("classes") else {}
    return Data(Table({"x": torch.zeros(1, *size), **labels}), classes=tuple(said.get("classes") or ()), name=str(model), prepared=prepared)


def _shape(model: Model, data: Data) -> tuple[int, ...]:
    found = getattr(model.module, "shape", None)
    return tuple(found) if found is not None else shape_of(data)


def _sampler(model: Model, steps: int | None, guidance: float | None) -> Sampler:
    sampler, denoiser = Sampler.of(model), Denoiser(model)
    if steps is not None:
        denoiser.schedule.times(steps)
        sampler = sampler.within(steps, len(denoiser.schedule))
    if guidance is not None:
        if guidance != 1 and not denoiser.classes:
            raise BadInput(f"{model.name} knows no classes, so it cannot be guided towards one; expected guidance=1")
        if sampler.few and guidance != 1:
            raise BadInput(f"{model.name} is a few-step generator, which has its guidance within; expected guidance=1")
        sampler = replace(sampler, guidance=guidance)
    return sampler


def _labels(model: Model, given: str | Sequence[int | str] | None, names: Sequence[str], count: int) -> Tensor | None:
    """The class of each image, in turn."""
    known = Denoiser(model).classes
    words = [word.strip() for word in given.split(",")] if isinstance(given, str) else given
    if words is not None and list(words) == ["none"]:
        return None
    if not known:
        if words:
            raise BadInput(f"{model.name} knows no classes; leave labels out")
        return None
    chosen = []
    for word in range(known) if words is None else words:
        number = names.index(str(word)) if str(word) in names else int(word) if str(word).isdecimal() else known
        if number >= known:
            raise BadInput(
                f"{model.name} knows no class {word!r}{nearest(str(word), names)}; expected names, numbers below {known}, or none"
            )
        chosen.append(number)
    if not chosen:
        raise BadInput("labels is empty; expected classes, or none")
    return torch.tensor([chosen[i % len(chosen)] for i in range(count)])


def _pixels(images: Tensor) -> Any:
    """Bytes (N, H, W) or (N, H, W, 3) of images in [0, 1]."""
    if images.shape[1] not in (1, 3):
        raise BadInput(f"images of {images.shape[1]} channels cannot be written as PNGs; expected 1 or 3")
    found = (images * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
    return found[..., 0] if images.shape[1] == 1 else found
