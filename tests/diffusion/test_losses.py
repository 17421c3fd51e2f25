"""Losses of denoisers and generators, on Gaussians whose answer is known, and inside the training loop."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from tutelage.data import Table
from tutelage.diffusion import GaussianMixture, ddim, linear, noise_of
from tutelage.diffusion.denoiser import Denoiser
from tutelage.diffusion.denoising import denoising, denoising_error, studied
from tutelage.diffusion.generator import Generator
from tutelage.diffusion.matching import matching, moved, score_gap
from tutelage.diffusion.parametrization import SIGMA_DATA
from tutelage.errors import BadInput
from tutelage.randomness import generator
from tutelage.signals import Model
from tutelage.training import Fit, Learner, Plan, Run, RunOptions, Stage, train

SCHEDULE = linear(1000)
QUIET = RunOptions(device="cpu", quiet=True, log_every=1)


def ask(model, batch, taps):
    return model.observe(batch, taps)


def moment(number=0, **columns):
    return SimpleNamespace(batch=columns, device="cpu", rng=lambda purpose: generator(purpose, number), ask=ask)


class Scale(nn.Module):
    """Predicts a number of its own for each time, times the image it is given: enough for Gaussian data."""

    def __init__(self, start: float = 0.0) -> None:
        super().__init__()
        self.rate = nn.Parameter(torch.full((1000,), start, dtype=torch.float64))

    def forward(self, x, t, label):
        return self.rate[t].view(-1, *(1 for _ in x.shape[1:])) * x


def exact(deviation: float, t: int) -> float:
    """By which the noised number is multiplied to give the noise, for data N(0, deviation^2)."""
    kept = float(SCHEDULE.kept[t])
    return (1 - kept) ** 0.5 / (kept * deviation**2 + 1 - kept)


def test_the_exact_denoiser_has_the_smallest_error(rng):
    """And its error is the variance of the noise that cannot be known: a^2 c^2 / (a^2 c^2 + s^2)."""
    c, t = 0.6, 300
    x = c * torch.randn(20_000, 1, generator=rng, dtype=torch.float64)
    noise = torch.randn(20_000, 1, generator=rng, dtype=torch.float64)
    t_B = torch.full((20_000,), t)
    errors = []
    for rate in (exact(c, t), exact(c, t) + 0.05, exact(c, t) - 0.05):
        denoiser = Denoiser(Model(Scale(rate)), classes=0)
        errors.append(denoising_error(denoiser, x, t_B, noise, None, "eps", ask).mean().item())
    kept = float(SCHEDULE.kept[t])
    assert errors[0] == pytest.approx(kept * c**2 / (kept * c**2 + 1 - kept), rel=0.03)
    assert errors[0] < min(errors[1:])


def test_weights_are_those_of_one_error(rng):
    x, noise = torch.randn(2, 3, 1, 5, 7, generator=rng, dtype=torch.float64)
    t_B = torch.tensor([10, 400, 900])
    a, s = (each.flatten() for each in SCHEDULE.levels(t_B, x))
    denoiser = Denoiser(Model(Scale(0.3)), classes=0)
    found = {w: denoising_error(denoiser, x, t_B, noise, None, w, ask) for w in ("eps", "x0", "snr", "edm")}
    snr = (a / s).square()
    torch.testing.assert_close(found["eps"], found["x0"] * snr)
    torch.testing.assert_close(found["snr"], found["x0"] * torch.clamp(snr, min=1))
    sigma = s / a
    torch.testing.assert_close(found["edm"], found["x0"] * (sigma**2 + SIGMA_DATA**2) / (sigma * SIGMA_DATA) ** 2)


def test_the_bound_is_a_divergence_of_steps(rng):
    """KL between the true step back, given the image, and the model's, with the same variance: |difference of means|^2 / (2 variance)."""
    x, noise = torch.randn(2, 3, 1, 2, 2, generator=rng, dtype=torch.float64)
    t_B = torch.tensor([3, 400, 998])
    denoiser = Denoiser(Model(Scale(0.3)), classes=0)
    found = denoising_error(denoiser, x, t_B, noise, None, "bound", ask)
    for i, t in enumerate(t_B.tolist()):
        kept, before = float(SCHEDULE.kept[t]), float(SCHEDULE.kept[t - 1])
        variance = 1 - kept / before
        x_t = kept**0.5 * x[i] + (1 - kept) ** 0.5 * noise[i]

        def mean(eps, x_t=x_t, kept=kept, variance=variance):
            return (x_t - variance / (1 - kept) ** 0.5 * eps) / (1 - variance) ** 0.5

        divergence = (mean(noise[i]) - mean(0.3 * x_t)).square().mean() / (2 * variance)
        torch.testing.assert_close(found[i], divergence)


def test_samples_are_brought_from_zero_one_to_minus_one_one():
    x, label = studied(moment(image=torch.tensor([0.0, 0.5, 1.0]).view(3, 1, 1, 1), y=torch.tensor([1, 2, 3]), id=torch.arange(3)))
    assert x.flatten().tolist() == [-1, 0, 1]
    assert label.tolist() == [1, 2, 3]
    with pytest.raises(BadInput, match="studies images"):
        studied(moment(text=["a"], id=torch.arange(1)))


def test_training_finds_the_exact_denoiser():
    """In the loop, from images of one pixel whose distribution is known."""
    draws = torch.Generator().manual_seed(0)
    images = (0.5 + 0.15 * torch.randn(4_096, 1, 1, 1, generator=draws, dtype=torch.float64)).clamp(0, 1)
    model = Model(Scale())
    fit = Fit(steps=600, batch_size=512, optimizer="adam", lr=0.05, weight_decay=0.0, schedule="linear")
    stage = Stage("denoise", Learner(model, denoising(Denoiser(model, classes=0))), fit, Table({"image": images}))
    train(Plan([stage], model), Run(None, seed=1, options=QUIET))
    deviation = float((2 * images - 1).std())
    for t in (200, 500, 800):
        near = model.module.rate[t - 20 : t + 20].mean().item()
        assert near == pytest.approx(sum(exact(deviation, u) for u in range(t - 20, t + 20)) / 40, abs=0.03)


def test_classes_are_dropped_in_their_share():
    """Without any it never learns to do without them; with all it never hears of one."""
    heard = []

    class Hears(nn.Module):
        classes = 3

        def forward(self, x, t, label):
            heard.append(label)
            return x

    batch = {"image": torch.rand(2_000, 1, 1, 1), "y": torch.randint(3, (2_000,), generator=torch.Generator().manual_seed(0))}
    for drop in (0.0, 0.25, 1.0):
        heard.clear()
        denoising(Model(Hears()), drop=drop)(moment(**batch))
        gone = heard[0] == 3
        assert float(gone.double().mean()) == pytest.approx(drop, abs=0.03)
        assert torch.equal(heard[0][~gone], batch["y"][~gone])
    with pytest.raises(BadInput, match="share"):
        denoising(Model(Hears()), drop=1.5)


def test_a_one_step_generator_at_the_end_of_the_schedule_is_ddim(rng):
    mixture = GaussianMixture(SCHEDULE, torch.tensor([[-1.0, 0.5]]).double(), torch.tensor([0.4]).double())
    made = Generator.__new__(Generator)
    made.consistent, made.times, made.denoiser = False, (999,), lambda x, t, label, ask=None: mixture(x, t, label)
    made.denoiser.schedule = SCHEDULE
    noise = torch.randn(5, 2, generator=rng, dtype=torch.float64)
    torch.testing.assert_close(made([noise]), ddim(mixture, noise, 1))


def test_a_few_step_generator_noises_its_own_image_anew(rng):
    model = Model(Scale(0.2))
    made = Generator(Denoiser(model, classes=0), times=(999, 500, 100))
    noise = torch.randn(3, 4, 2, generator=rng, dtype=torch.float64)
    x = noise[0]
    for number, t in enumerate((999, 500, 100)):
        kept = float(SCHEDULE.kept[t])
        x_t = x if number == 0 else kept**0.5 * x + (1 - kept) ** 0.5 * noise[number]
        x = (x_t - (1 - kept) ** 0.5 * 0.2 * x_t) / kept**0.5
    torch.testing.assert_close(made(list(noise)), x)
    alone = made.sample([7], (2,)), made.sample([5, 7, 9], (2,))[1:2]
    torch.testing.assert_close(*alone)
    for times in ((), (5, 5), (3, 9), (-1,)):
        with pytest.raises(BadInput, match="falling"):
            Generator(model, times)


def test_the_gap_is_the_formula(rng):
    x, fake, real = torch.randn(3, 2, 1, 3, 5, generator=rng, dtype=torch.float64)
    found = score_gap(x, fake, real)
    for i in range(2):
        torch.testing.assert_close(found[i], (fake[i] - real[i]) / (x[i] - real[i]).abs().mean())
    # DMD's own way of writing it
    ours, theirs = x - real, x - fake
    torch.testing.assert_close(found, (ours - theirs) / ours.abs().mean((1, 2, 3), keepdim=True))
    torch.testing.assert_close(score_gap(x, fake, real, "diff-instruct", 3.0), 3 * (fake - real))
    assert torch.equal(score_gap(x, fake, fake), torch.zeros_like(x))
    assert bool(score_gap(real, fake, real).isfinite().all())  # nothing to divide by
    with pytest.raises(BadInput, match="diff-instruct"):
        score_gap(x, fake, real, "vsd")


def test_the_gap_of_two_gaussians_is_that_of_their_scores():
    """diff-instruct: s a (score_fake - score_real), in closed form."""
    t, c, d = 300, 0.5, 0.9
    x_t = torch.tensor([[0.7]], dtype=torch.float64)
    kept = float(SCHEDULE.kept[t])
    each = [GaussianMixture(SCHEDULE, torch.zeros(1, 1).double(), torch.tensor([w]).double())(x_t, torch.tensor([t])).x0 for w in (c, d)]
    scores = [-x_t / (kept * w**2 + 1 - kept) for w in (c, d)]
    gap = score_gap(x_t, *each, weight="diff-instruct", snr=kept / (1 - kept))
    torch.testing.assert_close(gap, kept**0.5 * (scores[0] - scores[1]))


def test_the_surrogate_has_the_gap_as_its_gradient(rng):
    x = torch.randn(3, 1, 2, 5, generator=rng, dtype=torch.float64, requires_grad=True)
    gap = torch.randn(3, 1, 2, 5, generator=rng, dtype=torch.float64)
    loss = moved(x, gap)
    loss.sum().backward()
    torch.testing.assert_close(x.grad, gap / 10)
    torch.testing.assert_close(loss, 0.5 * gap.square().flatten(1).mean(1))


def test_matching_moves_a_generator_onto_the_teachers_mean():
    """Made images are z + b; with the exact denoisers of both sides, b walks to the teacher's mean and stays."""
    mean = 1.5

    class Shift(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.b = nn.Parameter(torch.zeros((), dtype=torch.float64))

        def forward(self, x, t, label):
            return x + self.b

    shift = Model(Shift())

    class Exact:
        """Asked for N(m, 1): x0 = m + a (x_t - a m)."""

        schedule = SCHEDULE

        def __init__(self, at) -> None:
            self.at = at

        def __call__(self, x_t, t_B, label_B=None, *, ask=None):
            a, _ = SCHEDULE.levels(t_B, x_t)
            return SimpleNamespace(x0=self.at() + a * (x_t - a * self.at()))

    def made(step):
        noise = torch.randn(64, 1, generator=step.rng("z"), dtype=torch.float64)
        label = torch.zeros(64, dtype=torch.int64)
        return step.ask(shift, {"x": noise, "t": label, "label": label}, {"logits"})["logits"], None

    loss = matching(made, Exact(lambda: shift.module.b.detach()), Exact(lambda: mean), weight="diff-instruct", span=(0.3, 0.7))
    fit = Fit(steps=150, batch_size=64, optimizer="sgd", lr=0.5, momentum=0.0, weight_decay=0.0, schedule="constant")
    train(Plan([Stage("match", Learner(shift, loss), fit)], shift), Run(None, seed=0, options=QUIET))
    assert shift.module.b.item() == pytest.approx(mean, abs=0.02)
    with pytest.raises(BadInput, match="span"):
        matching(made, Exact(float), Exact(float), span=(0.5, 0.5))


def test_noise_of_an_image_is_its_own():
    torch.testing.assert_close(noise_of([3, 4], (2, 2))[1], noise_of([4], (2, 2))[0])
    assert not torch.equal(noise_of([3], (2, 2)), noise_of([3], (2, 2), number=1))
