"""Connectors: small trained modules that bring one side's features to the other side's shape.

A connector factory is `(from_shape, to_shape) -> nn.Module`, from the student to the teacher unless a Match says otherwise; the dry run at
the start of a stage calls it with real shapes.
Shapes: B batch, T positions, D width, C channels, H W space.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from torch import Size, Tensor, nn
from torch.nn import functional as F

from tutelage.errors import ShapeMismatch


class Connector(nn.Module):
    """A connector that may also have to bring the teacher's tensor to a comparable shape, without parameters."""

    def target(self, goal: Tensor) -> Tensor:
        """The teacher's tensor as the distance shall see it."""
        return goal


class _ValidConv(Connector):
    def __init__(self, student: Size, teacher: Size) -> None:
        super().__init__()
        (own_h, own_w), (goal_h, goal_w) = student[2:], teacher[2:]
        kernel = (max(own_h - goal_h + 1, 1), max(own_w - goal_w + 1, 1))
        self.size = (min(own_h, goal_h), min(own_w, goal_w))
        self.pools = self.size != tuple(teacher[2:])
        self.conv = nn.Conv2d(student[1], teacher[1], kernel)

    def forward(self, own_BCHW: Tensor) -> Tensor:
        return self.conv(own_BCHW)

    def target(self, goal: Tensor) -> Tensor:
        return F.adaptive_avg_pool2d(goal, self.size) if self.pools else goal


def valid_conv() -> Callable[[Size, Size], nn.Module]:
    """A convolution without padding whose kernel makes the student's map as large as the teacher's.

    Kernel size = H_student - H_teacher + 1, and alike for W; 1x1 where the maps are equally large. Where the student's map is the smaller
    one, the kernel is 1 and the teacher's map is average-pooled to the student's size.

    Returns:
        A connector factory for two (B, C, H, W) shapes.

    Raises:
        ShapeMismatch: a side is not (B, C, H, W).

    Source: Romero et al., "FitNets", 2015, section 2.2, eq. 3: a convolutional regressor needs far fewer parameters than a dense one.
    Relations: equals a 1x1 projection on maps of equal size; `regressor` chooses it for maps.
    """

    def make(student: Size, teacher: Size) -> nn.Module:
        if len(student) != 4 or len(teacher) != 4:
            raise ShapeMismatch(f"valid_conv connects (B, C, H, W) maps, not {tuple(student)} with {tuple(teacher)}; use regressor()")
        return _ValidConv(student, teacher)

    return make


def laid_out(features: Tensor) -> Tensor:
    """Features as a map: (B, T, D) tokens become (B, D, H, H), row by row, T being a square; (B, C, H, W) stays."""
    return features if features.ndim == 4 else features.transpose(1, 2).unflatten(2, (math.isqrt(features.shape[1]), -1))


class _Grid(Connector):
    def __init__(self, student: Size, teacher: Size) -> None:
        super().__init__()
        self.on_maps = _ValidConv(student, teacher)

    def forward(self, own: Tensor) -> Tensor:
        return self.on_maps(laid_out(own))

    def target(self, goal: Tensor) -> Tensor:
        return self.on_maps.target(laid_out(goal))


def grid_conv() -> Callable[[Size, Size], nn.Module]:
    """`valid_conv` for tokens, too: those of image patches are laid out as the map of squares that they stand for.

    So a transformer learns from a convolutional net place by place, or the other way round, where `regressor` would only compare means
    over all places. Tokens must stand for the squares of a square image, row by row, without a class token.

    Returns:
        A connector factory for two shapes, each (B, C, H, W) or (B, T, D) with a square T.

    Raises:
        ShapeMismatch: a side is neither, or its tokens are no square.

    Relations: equals `valid_conv` on two maps; on two token sequences of equal length, a linear map token by token, as in `regressor`.
    """

    def make(student: Size, teacher: Size) -> nn.Module:
        return _Grid(*(_grid_shape(side, shape) for side, shape in (("student", student), ("teacher", teacher))))

    return make


def _grid_shape(side: str, shape: Size) -> Size:
    if len(shape) == 4:
        return shape
    if len(shape) != 3:
        raise ShapeMismatch(f"grid_conv connects maps (B, C, H, W) and tokens (B, T, D); the {side}'s tap has shape {tuple(shape)}")
    rows = math.isqrt(shape[1])
    if rows**2 != shape[1]:
        first = "; the first may be a class token" if math.isqrt(shape[1] - 1) ** 2 == shape[1] - 1 else ""
        raise ShapeMismatch(f"grid_conv lays tokens out as a square, but the {side} has {shape[1]}{first}; use regressor()")
    return Size((shape[0], shape[2], rows, rows))


def pooled(features: Tensor) -> Tensor:
    """Features as one vector a sample: (B, C, H, W) and (B, T, D) are averaged over their positions, (B, D) stays."""
    if features.ndim == 4:
        return features.mean((2, 3))
    return features.mean(1) if features.ndim == 3 else features


class _Linear(Connector):
    def __init__(self, student: Size, teacher: Size) -> None:
        super().__init__()
        self.pools = len(student) != len(teacher) or (len(student) == 3 and student[1] != teacher[1])
        own, goal = (shape[1] if len(shape) == 4 else shape[-1] for shape in (student, teacher))
        self.linear = nn.Linear(own, goal)

    def forward(self, own: Tensor) -> Tensor:
        return self.linear(pooled(own) if self.pools else own)

    def target(self, goal: Tensor) -> Tensor:
        return pooled(goal) if self.pools else goal


def regressor() -> Callable[[Size, Size], nn.Module]:
    """The FitNets regressor for whatever the two sides are.

    Two (B, C, H, W) maps: `valid_conv`. Two vectors (B, D), or two token sequences (B, T, D) of equal length: a linear map by vector or
    token. Anything else (a map against tokens, sequences of different length): both sides averaged over positions, then a linear map.

    Returns:
        A connector factory.

    Raises:
        ShapeMismatch: a side has one dimension or more than four.

    Source: Romero et al., 2015, section 2.2, for maps and vectors; the pooled case is ours.
    """

    def make(student: Size, teacher: Size) -> nn.Module:
        for side, shape in (("student", student), ("teacher", teacher)):
            if not 2 <= len(shape) <= 4:
                raise ShapeMismatch(f"regressor() connects features of 2 to 4 dimensions; the {side}'s tap has shape {tuple(shape)}")
        if len(student) == len(teacher) == 4:
            return _ValidConv(student, teacher)
        return _Linear(student, teacher)

    return make
