"""A model's own view of images: size, channels, normalisation. Shapes: B batch, C channels, H height, W width."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from tutelage.errors import BadInput
from tutelage.signals.signals import Batch

FILE = "preprocessor_config.json"


class ImageInputs:
    """Turns the batch's images into what one model takes, so that teacher and student may differ.

    Args:
        size: side, or (height, width), that images are scaled to (bilinear, antialiased); None leaves them as they are.
        mean: subtracted from each channel, in units of the [0, 1] range; None subtracts nothing.
        std: each channel is divided by; None divides by nothing.
        channels: 3 repeats grey images, 1 averages colours; None leaves them.
        argument: the name under which the model takes them; None passes them as its only argument.

    Raises:
        BadInput: a size below 1, a spread that is not positive, or colours that cannot become what is asked for.
    """

    def __init__(
        self,
        size: int | Sequence[int] | None = None,
        mean: float | Sequence[float] | None = None,
        std: float | Sequence[float] | None = None,
        channels: int | None = None,
        argument: str | None = None,
    ) -> None:
        self.size = None if size is None else ((size, size) if isinstance(size, int) else (int(size[0]), int(size[1])))
        self.mean, self.std = _each(mean), _each(std)
        self.channels, self.argument = channels, argument
        if self.size is not None and min(self.size) < 1:
            raise BadInput(f"image size {self.size}: expected at least 1 pixel")
        if self.std is not None and min(self.std) <= 0:
            raise BadInput(f"image std {self.std}: expected positive numbers")

    @classmethod
    def read(cls, folder: Path, **changes: Any) -> ImageInputs:
        """Read size and normalisation from a Hugging Face folder's preprocessor_config.json, where there is one.

        Args:
            folder: holds the file, or not.
            changes: arguments that are known already; they hold.

        Raises:
            BadInput: the file is damaged.
        """
        found: dict[str, Any] = {}
        if (folder / FILE).is_file():
            try:
                said = json.loads((folder / FILE).read_text())
                if said.get("do_normalize", True) and "image_mean" in said:
                    found = {"mean": said["image_mean"], "std": said["image_std"]}
                if said.get("do_resize", True) and said.get("size") is not None:
                    found["size"] = _side(said.get("crop_size") or said["size"])
            except (ValueError, KeyError, TypeError, AttributeError):
                raise BadInput(f"{folder / FILE} is damaged: expected JSON with size, image_mean and image_std") from None
        return cls(**{**found, **{k: v for k, v in changes.items() if v is not None}})

    def save(self, folder: Path) -> None:
        """Write preprocessor_config.json, as `read` and Hugging Face's processors read it."""
        said: dict[str, Any] = {"do_rescale": True, "rescale_factor": 1 / 255, "do_resize": self.size is not None, "do_normalize": False}
        if self.size is not None:
            said["size"] = {"height": self.size[0], "width": self.size[1]}
        if self.mean is not None or self.std is not None:
            said |= {"do_normalize": True, "image_mean": list(self.mean or (0.0,)), "image_std": list(self.std or (1.0,))}
        (folder / FILE).write_text(json.dumps(said, indent=1))

    @property
    def described(self) -> dict[str, Any]:
        """As plain values, from which `preprocessing.rebuilt` makes it again."""
        names = ("size", "mean", "std", "channels", "argument")
        return {"kind": "images", **{n: list(v) if isinstance(v := getattr(self, n), tuple) else v for n in names}}

    def __call__(self, batch: Batch) -> tuple[Tensor] | dict[str, Tensor]:
        """What the model is called with."""
        x_BCHW = batch.get("x")
        if not isinstance(x_BCHW, Tensor) or x_BCHW.ndim != 4:
            raise BadInput("a model of images met a batch without a column x of shape (B, C, H, W)")
        if self.channels is not None and x_BCHW.shape[1] != self.channels:
            x_BCHW = _recoloured(x_BCHW, self.channels)
        if self.size is not None and tuple(x_BCHW.shape[2:]) != self.size:
            x_BCHW = F.interpolate(x_BCHW, self.size, mode="bilinear", antialias=True)
        if self.mean is not None:
            x_BCHW = x_BCHW - _channelwise(self.mean, x_BCHW)
        if self.std is not None:
            x_BCHW = x_BCHW / _channelwise(self.std, x_BCHW)
        return {self.argument: x_BCHW} if self.argument else (x_BCHW,)


def _each(value: float | Sequence[float] | None) -> tuple[float, ...] | None:
    return None if value is None else (float(value),) if isinstance(value, (int, float)) else tuple(map(float, value))


def _side(size: Any) -> tuple[int, int]:
    if isinstance(size, dict):
        side = size.get("shortest_edge")
        return (int(side), int(side)) if side is not None else (int(size["height"]), int(size["width"]))
    return (int(size), int(size)) if isinstance(size, int) else (int(size[0]), int(size[1]))


def _recoloured(x_BCHW: Tensor, channels: int) -> Tensor:
    if x_BCHW.shape[1] == 1:
        return x_BCHW.expand(-1, channels, -1, -1)
    if channels == 1:
        return x_BCHW.mean(1, keepdim=True)
    raise BadInput(f"images of {x_BCHW.shape[1]} channels cannot become images of {channels}")


def _channelwise(values: tuple[float, ...], x_BCHW: Tensor) -> Tensor:
    if len(values) not in (1, x_BCHW.shape[1]):
        raise BadInput(f"{len(values)} numbers of normalisation do not fit images of {x_BCHW.shape[1]} channels")
    return torch.tensor(values, dtype=x_BCHW.dtype, device=x_BCHW.device).view(1, -1, 1, 1)
