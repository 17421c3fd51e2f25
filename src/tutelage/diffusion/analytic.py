"""The exact denoiser of a mixture of Gaussians: what the best net would say. The oracle that the tests of this room stand on.

Shapes: B samples, K components, D numbers of a sample.
"""

from __future__ import annotations

import torch
from torch import Tensor

from tutelage.diffusion.parametrization import Prediction
from tutelage.diffusion.schedule import NoiseSchedule
from tutelage.errors import BadInput


class GaussianMixture:
    """Data x ~ sum_k w_k N(m_k, c_k^2 I), and E[x | x_t] in closed form.

    Args:
        schedule: of the noise.
        means_KD: (K, D), or (K, ...) like a sample.
        deviations_K: c_k > 0.
        weights_K: w_k >= 0; default: all alike. They are scaled to sum to 1.
        labels_K: the class of each component, for conditional denoising; default: its number.

    Raises:
        BadInput: numbers that do not belong together.
    """

    def __init__(
        self,
        schedule: NoiseSchedule,
        means_KD: Tensor,
        deviations_K: Tensor,
        weights_K: Tensor | None = None,
        labels_K: Tensor | None = None,
    ) -> None:
        count = len(means_KD)
        weights_K = torch.ones(count, dtype=means_KD.dtype) if weights_K is None else weights_K
        fits = deviations_K.shape == weights_K.shape == (count,) and bool((deviations_K > 0).all()) and bool((weights_K >= 0).all())
        if not fits or not float(weights_K.sum()) > 0:
            raise BadInput("a mixture needs, for each mean, a deviation above 0 and a weight of at least 0, not all of them 0")
        self.schedule, self.shape = schedule, means_KD.shape[1:]
        self.means_KD, self.deviations_K = means_KD.flatten(1), deviations_K
        self.weights_K = weights_K / weights_K.sum()
        self.labels_K = torch.arange(count) if labels_K is None else labels_K

    def draw(self, count: int, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        """Samples (count, ...) and their labels."""
        chosen_B = torch.multinomial(self.weights_K, count, replacement=True, generator=rng)
        noise_BD = torch.randn(count, self.means_KD.shape[1], generator=rng, dtype=self.means_KD.dtype)
        x_BD = self.means_KD[chosen_B] + self.deviations_K[chosen_B, None] * noise_BD
        return x_BD.unflatten(1, self.shape) if self.shape else x_BD.squeeze(1), self.labels_K[chosen_B]

    def __call__(self, x_t: Tensor, t_B: Tensor, label_B: Tensor | None = None) -> Prediction:
        """E[x | x_t], and the noise that goes with it.

        Args:
            x_t: (B, ...).
            t_B: times.
            label_B: whose components alone are meant; -1 for all. None: all.
        """
        x_BD = x_t.flatten(1)
        a, s = self.schedule.levels(t_B, x_BD)
        variance_BK = (a * self.deviations_K).square() + s.square()
        apart_BKD = x_BD[:, None] - a[:, None] * self.means_KD
        size = self.means_KD.shape[1]
        log_BK = self.weights_K.log() - apart_BKD.square().sum(-1) / (2 * variance_BK) - size / 2 * variance_BK.log()
        if label_B is not None:
            meant_BK = (label_B[:, None] == self.labels_K) | (label_B[:, None] < 0)
            log_BK = log_BK.masked_fill(~meant_BK, -torch.inf)
        gain_BK = a * self.deviations_K.square() / variance_BK
        each_BKD = self.means_KD + gain_BK[..., None] * apart_BKD
        x0_BD = (torch.softmax(log_BK, -1)[..., None] * each_BKD).sum(1)
        return Prediction(x0_BD.view_as(x_t), ((x_BD - a * x0_BD) / s).view_as(x_t))
