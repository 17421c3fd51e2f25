"""How near generated images are to real ones, on features: Frechet distance, kernel distance, precision and recall.

None of them looks at single images. The features come from a judge, a network that was trained on other data than whatever was generated
by or taught from; the numbers mean nothing across judges.

Shapes: R real and G generated samples, F features.
"""

from __future__ import annotations

import numpy as np
import scipy.linalg
import torch
from torch import Tensor

from tutelage.errors import BadInput, ShapeMismatch

NEIGHBOURS = 3
"""k of the precision and recall."""


def frechet_distance(real_RF: Tensor, generated_GF: Tensor) -> float:
    """The Frechet distance of the Gaussians that have the samples' means and covariances.

    `|m_r - m_g|^2 + tr(C_r + C_g - 2 (C_r C_g)^(1/2))`, in float64.

    Args:
        real_RF: features of real images.
        generated_GF: features of generated ones.

    Returns:
        At least 0; 0 for the same samples. It is biased upwards by few samples: compare numbers of equal counts only.

    Raises:
        ShapeMismatch: other features.
        BadInput: fewer than two samples on a side, or numbers that are not finite.

    Source: Heusel et al., "GANs Trained by a Two Time-Scale Update Rule Converge to a Local Nash Equilibrium", 2017, eq. 6.
    """
    real, generated = _checked(real_RF, generated_GF)
    means = real.mean(0) - generated.mean(0)
    ours, theirs = (np.atleast_2d(np.cov(each, rowvar=False)) for each in (real, generated))
    # tr (C_r C_g)^(1/2) is the sum of singular values of the product of both square roots, which is symmetric enough to be stable
    cross = scipy.linalg.svdvals(_root(ours) @ _root(theirs)).sum()
    return max(0.0, float(means @ means + np.trace(ours) + np.trace(theirs) - 2 * cross))


def kernel_distance(real_RF: Tensor, generated_GF: Tensor) -> float:
    """The squared maximum mean discrepancy under the kernel (x y / F + 1)^3, unbiased: its mean over samples of one source is 0.

    Args:
        real_RF: features of real images.
        generated_GF: features of generated ones.

    Returns:
        Also below 0 by chance; unlike `frechet_distance` it does not grow when there are few samples.

    Raises:
        ShapeMismatch: other features.
        BadInput: fewer than two samples on a side, or numbers that are not finite.

    Source: Binkowski et al., "Demystifying MMD GANs", 2018, section 4.
    """
    real, generated = _checked(real_RF, generated_GF)

    def kernel(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return (x @ y.T / x.shape[1] + 1) ** 3

    def within(x: np.ndarray) -> float:
        own = kernel(x, x)
        return float((own.sum() - np.trace(own)) / (len(x) * (len(x) - 1)))

    return within(real) + within(generated) - 2 * float(kernel(real, generated).mean())


def precision_recall(real_RF: Tensor, generated_GF: Tensor, neighbours: int = NEIGHBOURS) -> tuple[float, float]:
    """What share of the generated images looks real, and what share of the real ones could have been generated.

    A sample looks like one of a side if it is no further from some sample there than that sample's k-th nearest neighbour on its side.

    Args:
        real_RF: features of real images.
        generated_GF: features of generated ones.
        neighbours: k.

    Returns:
        Precision and recall, each from 0 to 1. Few samples make balls wide and both numbers high.

    Raises:
        ShapeMismatch: other features.
        BadInput: k is not smaller than the number of samples on a side, or numbers that are not finite.

    Source: Kynkaanniemi et al., "Improved Precision and Recall Metric for Assessing Generative Models", 2019, eq. 1 and 2.
    """
    real, generated = (torch.from_numpy(each) for each in _checked(real_RF, generated_GF))
    if not 1 <= neighbours < min(len(real), len(generated)):
        raise BadInput(
            f"precision and recall by {neighbours} neighbours need more samples than that; there are {len(real)}, {len(generated)}"
        )
    apart_RG = torch.cdist(real, generated, compute_mode="donot_use_mm_for_euclid_dist")

    def reach(own: Tensor) -> Tensor:
        apart = torch.cdist(own, own, compute_mode="donot_use_mm_for_euclid_dist")
        return apart.kthvalue(neighbours + 1, dim=1).values  # the nearest is the sample itself

    precision = (apart_RG <= reach(real)[:, None]).any(0).double().mean()
    recall = (apart_RG <= reach(generated)[None]).any(1).double().mean()
    return float(precision), float(recall)


def _checked(real_RF: Tensor, generated_GF: Tensor) -> tuple[np.ndarray, np.ndarray]:
    if real_RF.ndim != 2 or generated_GF.ndim != 2 or real_RF.shape[1] != generated_GF.shape[1]:
        raise ShapeMismatch(
            f"features of real images {tuple(real_RF.shape)} and generated ones {tuple(generated_GF.shape)}; "
            "expected (samples, features) alike"
        )
    if min(len(real_RF), len(generated_GF)) < 2:
        raise BadInput(f"{len(real_RF)} real and {len(generated_GF)} generated samples cannot be compared; expected two of each at least")
    found = real_RF.detach().double().cpu().numpy(), generated_GF.detach().double().cpu().numpy()
    for side, values in zip(("real", "generated"), found, strict=True):
        if not np.isfinite(values).all():
            raise BadInput(f"some features of {side} images are not finite; images of a generator that diverged cannot be judged")
    return found


def _root(covariance: np.ndarray) -> np.ndarray:
    """The square root of a matrix that is positive but for rounding."""
    values, vectors = np.linalg.eigh(covariance)
    return (vectors * np.sqrt(np.clip(values, 0, None))) @ vectors.T
