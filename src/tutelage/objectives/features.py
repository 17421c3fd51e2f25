"""Distances between features: mean squared error, cosine.

Vectors (B, D) and maps (B, C, H, W) give one value a sample, (B,); token features (B, T, D) give one a token, (B, T), so that a mask of
positions applies. Shapes: B batch, T positions, D width, C channels, H W space.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from tutelage.objectives.match import Distance
from tutelage.objectives.objective import alike


def squared_error(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean of the squared differences over each sample's elements, or over each token's: see `mse`."""
    student, teacher = alike("mse", student, teacher)
    squares = F.mse_loss(student, teacher, reduction="none")  # keeps no difference for the way back
    return squares.mean(-1) if squares.ndim == 3 else squares.flatten(1).mean(1)


def cosine_gap(student: Tensor, teacher: Tensor) -> Tensor:
    """1 - cosine similarity of each sample's features, flattened, or of each token's: see `cosine`."""
    student, teacher = alike("cosine", student, teacher)
    if student.ndim != 3:
        student, teacher = student.flatten(1), teacher.flatten(1)
    return 1 - F.cosine_similarity(student, teacher, dim=-1, eps=1e-8)


def mse() -> Distance:
    """Mean squared error of features.

    Returns:
        A distance: (B, D) or (B, C, H, W) gives (B,), the mean over a sample's elements; (B, T, D) gives (B, T).

    Raises:
        ShapeMismatch: the sides differ in shape; connect them with `through=regressor()`.

    Source: the hint loss of Romero et al., "FitNets", 2015, eq. 3, is half of the sum where this is the mean: the same up to a factor.
    Relations: for vectors of unit length it is 2/D times `cosine`.
    """
    return Distance(squared_error, name="mse")


def cosine() -> Distance:
    """One minus the cosine of the angle between features: direction counts, length does not.

    Returns:
        A distance in [0, 2]: (B, D) or (B, C, H, W), flattened, gives (B,); (B, T, D) gives (B, T). A zero vector gives 1.

    Raises:
        ShapeMismatch: the sides differ in shape.

    Relations: unchanged when either side is scaled by a positive number; `mse` of the normalised vectors times D/2.
    """
    return Distance(cosine_gap, name="cosine")
