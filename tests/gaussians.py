"""For tests of diffusion: nets and oracles for data N(0, c^2), whose flow is known in closed form."""

from __future__ import annotations

from types import SimpleNamespace

import torch
from torch import nn

from tutelage.diffusion import Denoiser, GaussianMixture, linear
from tutelage.randomness import generator
from tutelage.signals import Model

SCHEDULE = linear(1000)


class Scale(nn.Module):
    """Says of an image that it is a number times what it is given, a number for each time."""

    def __init__(self, start: float = 0.0, predicts: str = "x0") -> None:
        super().__init__()
        self.rate = nn.Parameter(torch.full((1000,), start, dtype=torch.float64))
        self.predicts = predicts

    def forward(self, x, t, label):
        return self.rate[t].view(-1, *(1 for _ in x.shape[1:])) * x


class Exact:
    """The denoiser of N(0, c^2) numbers, as a loss asks one."""

    def __init__(self, deviation: float, size: int = 1) -> None:
        self.schedule, self.classes = SCHEDULE, 0
        self.model = SimpleNamespace(name="exact")
        self._mixture = GaussianMixture(SCHEDULE, torch.zeros(1, size).double(), torch.tensor([deviation]).double())

    def __call__(self, x_t, t_B, label_B=None, *, ask=None):
        return self._mixture(x_t, t_B, label_B)


def reach(deviation: float, t_B: torch.Tensor) -> torch.Tensor:
    """The deviation of x_t; x_t divided by it does not change along the flow."""
    kept = SCHEDULE.kept[t_B]
    return (kept * deviation**2 + 1 - kept).sqrt()


def ask(model, batch, taps):
    return model.observe(batch, taps)


def moment(number=0, **columns):
    """A step, as far as a loss looks at it."""
    return SimpleNamespace(
        batch=columns,
        device="cpu",
        rng=lambda purpose: generator(purpose, number),
        ask=ask,
        turn=0,
        clock=SimpleNamespace(seed=0, stage="s", step=number, steps=10),
    )


def scaled(rate: torch.Tensor | float, predicts: str = "x0") -> Denoiser:
    """A denoiser that says x0 (or what else it predicts) = rate[t] x_t."""
    net = Scale(predicts=predicts)
    with torch.no_grad():
        net.rate.copy_(torch.as_tensor(rate).double().expand(1000))
    return Denoiser(Model(net), classes=0)
