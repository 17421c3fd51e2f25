"""A small U-Net that sees a noised image, its time and its class, and predicts the noise or the image; for sides of 8 to 64 pixels.

Shapes: B batch, C channels, H W space, D width of embeddings.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tutelage.errors import BadInput
from tutelage.signals import RESERVED, Batch
from tutelage.students.takes import takes

PERIOD = 10_000
"""Longest wavelength of the time's sines, in times."""


def time_waves(t_B: Tensor, width: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Sines and cosines of a time, (B, width).

    Args:
        t_B: times, whole numbers or not.
        width: even.
        dtype: of the waves.

    Source: Ho et al., 2020, appendix B; Vaswani et al., 2017, section 3.5.
    """
    rates = torch.exp(-math.log(PERIOD) * torch.arange(width // 2, device=t_B.device, dtype=torch.float32) / (width // 2))
    angles = t_B.float()[:, None] * rates
    return torch.cat([angles.sin(), angles.cos()], 1).to(dtype)


class Told(nn.Module):
    """What a net is told beside the image: the time, and the class, of which the last number means none."""

    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        self.width = width
        self.time = nn.Sequential(nn.Linear(width, 2 * width), nn.SiLU(), nn.Linear(2 * width, width))
        self.label = nn.Embedding(classes + 1, width)

    def forward(self, t_B: Tensor, label_B: Tensor) -> Tensor:
        """(B, D)."""
        return self.time(time_waves(t_B, self.width, self.label.weight.dtype)) + self.label(label_B)


def _norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(math.gcd(8, channels), channels)


class Block(nn.Module):
    """Two convolutions after norms, between them a shift and scale by what is told, beside a shortcut."""

    def __init__(self, taken: int, given: int, told: int) -> None:
        super().__init__()
        self.norm1, self.first = _norm(taken), nn.Conv2d(taken, given, 3, padding=1)
        self.told = nn.Linear(told, 2 * given)
        self.norm2, self.second = _norm(given), nn.Conv2d(given, given, 3, padding=1)
        self.shortcut: nn.Module = nn.Identity() if taken == given else nn.Conv2d(taken, given, 1)
        nn.init.zeros_(self.second.weight)
        nn.init.zeros_(self.second.bias)  # type: ignore[arg-type]

    def forward(self, x_BCHW: Tensor, told_BD: Tensor) -> Tensor:
        """Features (B, given, H, W)."""
        h_BCHW = self.first(F.silu(self.norm1(x_BCHW)))
        scale, shift = self.told(F.silu(told_BD))[..., None, None].chunk(2, 1)
        return self.shortcut(x_BCHW) + self.second(F.silu(self.norm2(h_BCHW) * (1 + scale) + shift))


class UNet(nn.Module):
    """Blocks at falling resolutions, one in the middle, and blocks back up that also see what the way down made; build it with `unet`.

    Attributes:
        predicts: kind of prediction; see `diffusion.parametrization`.
        noise: name of the noise schedule.
        times: how many times it has.
        classes: how many classes; class number `classes` means none.
        shape: of an image, (C, H, W).
        inner: module path of its innermost features, and their channels.
    """

    def __init__(self, channels: int, size: int, classes: int, width: int, levels: int, depth: int) -> None:
        super().__init__()
        self.predicts, self.noise, self.times = "eps", "linear", 1000
        self.classes, self.shape = classes, (channels, size, size)
        told = 2 * width
        self.told = Told(told, classes)
        self.stem = nn.Conv2d(channels, width, 3, padding=1)
        wide = [width * min(i + 1, 4) for i in range(levels + 1)]
        self.down, self.smaller = nn.ModuleList(), nn.ModuleList()
        kept, now = [width], width
        for level in range(levels + 1):
            for _ in range(depth):
                self.down.append(Block(now, wide[level], told))
                now = wide[level]
                kept.append(now)
            if level < levels:
                self.smaller.append(nn.Conv2d(now, now, 3, stride=2, padding=1))
        self.middle, now_inside = Block(now, now, told), now
        self.up, self.larger = nn.ModuleList(), nn.ModuleList()
        for level in reversed(range(levels + 1)):
            for _ in range(depth):
                self.up.append(Block(now + kept.pop(), wide[level], told))
                now = wide[level]
            if level:
                self.larger.append(nn.Conv2d(now, now, 3, padding=1))
        self.last_norm, self.last = _norm(now), nn.Conv2d(now, channels, 3, padding=1)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)  # type: ignore[arg-type]
        self.levels, self.depth = levels, depth
        self.inner = ("middle", now_inside)

    def forward(self, x: Tensor, t: Tensor, label: Tensor) -> Tensor:
        """A prediction of the shape of x.

        Args:
            x: noised images (B, C, H, W).
            t: times, int64 (B,).
            label: classes, int64 (B,); the number of classes itself means none.
        """
        told_BD = self.told(t, label)
        h = self.stem(x)
        seen, number = [], 0
        for level in range(self.levels + 1):
            for _ in range(self.depth):
                h = self.down[number](h, told_BD)
                number += 1
                seen.append(h)
            if level < self.levels:
                h = self.smaller[level](h)
        h = self.middle(h, told_BD)
        number = 0
        for level in reversed(range(self.levels + 1)):
            for _ in range(self.depth):
                h = self.up[number](torch.cat([h, seen.pop()], 1), told_BD)
                number += 1
            if level:
                h = self.larger[self.levels - level](F.interpolate(h, scale_factor=2.0, mode="nearest"))
        return self.last(F.silu(self.last_norm(h)))


def noised_inputs(options: Mapping[str, Any]) -> Callable[[Batch], dict[str, Any]]:
    """What a net is called with: its own columns; for samples that have none of them, their images as if they were noise, at the last time.

    The latter is how a net is counted and timed on a data set.

    Args:
        options: of the net.
    """
    times, classes = int(options.get("times", 1000)), int(options.get("classes", 0))

    def inputs(batch: Batch) -> dict[str, Any]:
        if "t" in batch:
            return {name: batch[name] for name in ("x", "t", "label")}
        images = [v for name, v in batch.items() if name not in RESERVED and isinstance(v, Tensor) and v.ndim == 4]
        if len(images) != 1:
            raise BadInput(f"a unet takes images, one column (B, C, H, W), but the samples have {sorted(batch)}")
        x = 2 * images[0] - 1
        every = torch.ones(len(x), dtype=torch.int64, device=x.device)
        return {"x": x, "t": every * (times - 1), "label": every * classes}

    return inputs


@takes("images", inputs_for=noised_inputs)
def unet(
    *,
    classes: int = 0,
    channels: int = 1,
    size: int = 8,
    width: int = 32,
    levels: int = 1,
    depth: int = 1,
    predicts: str = "eps",
    noise: str = "linear",
    times: int = 1000,
) -> nn.Module:
    """A small denoiser for images.

    The last layer begins at zero, so that a fresh net predicts nothing.

    Args:
        classes: number of classes that images may be asked of; one more number means none. 0 for a net that knows none.
        channels: channels of the images.
        size: side of the images, in pixels; halving it `levels` times must leave whole numbers.
        width: channels at full size; the second level has twice, the third three times as many.
        levels: how often the side is halved.
        depth: blocks of a level on each way.
        predicts: eps, x0, v or edm.
        noise: schedule: linear or cosine.
        times: of the schedule.

    Raises:
        BadInput: sizes below 1, or a side that cannot be halved so often.

    Source: Ho et al., 2020, appendix B, without attention; shifts and scales by time as in Nichol and Dhariwal, 2021.
    """
    if min(channels, size, width, depth) < 1 or min(levels, classes) < 0 or width % 2:
        raise BadInput(
            f"unet(classes={classes}, size={size}, width={width}, levels={levels}, depth={depth}): "
            "expected sizes of at least 1, an even width, and no negative number"
        )
    if size % 2**levels:
        raise BadInput(
            f"unet(size={size}, levels={levels}): the side cannot be halved {levels} times; give images of another size, or levels=0"
        )
    net = UNet(channels, size, classes, width, levels, depth)
    net.predicts, net.noise, net.times = predicts, noise, times
    return net
