"""Condense data by trajectory matching: samples on which a short training ends where a long one on real data did.

Experts train on real data and leave snapshots; samples are then changed, by the gradient through a differentiable inner loop, until the
loop leads from one snapshot to a later one. Shapes: B batch, P parameters of the net, N condensed samples.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from tutelage.data import SyntheticSet
from tutelage.errors import BadInput
from tutelage.objectives import Term
from tutelage.randomness import derive
from tutelage.signals import Batch, Model
from tutelage.state import Number, PerEpoch, Stateful, per_epoch, value_of
from tutelage.training.action import Action
from tutelage.training.plan import View
from tutelage.training.step import Step
from tutelage.training.trajectory import Trajectory
from tutelage.training.unrolled import Layout, distance_left, logits_with, unrolled_sgd

LEAST_RATE = 1e-6
"""Of the inner loop, whatever it is trained to."""


def clipped_loss(start: float = 0.5, rise: float = 0.05) -> PerEpoch:
    """The factor of an expert's loss that keeps its first epochs short: min(1, start + rise * epoch).

    Args:
        start: in the first epoch, in (0, 1]; 1 is no clipping.
        rise: gained with each epoch, >= 0.

    Raises:
        BadInput: a value outside its range.

    Source: AST (Shen et al., 2023), "clipping loss": 0.5, 0.55, ..., 0.95 in the first ten epochs.
    """
    if not 0 < start <= 1 or not 0 <= rise < math.inf:
        raise BadInput(f"clipped_loss(start={start}, rise={rise}): expected start in (0, 1] and rise from 0")
    return per_epoch(lambda epoch, epochs: min(1.0, start + rise * epoch))


def opened(step: Step, model: Model) -> Batch:
    """A view of the samples as leaves that gradients reach, for penalties on the slope of a model."""
    return {k: v.detach().requires_grad_() if isinstance(v, Tensor) and v.is_floating_point() else v for k, v in step.batch.items()}


def input_gradient_penalty(logits_BV: Tensor, x: Tensor, target: float = 1.0, over: str = "sample") -> Tensor:
    """(|| d sum_v logits_v / dx || - target)^2 of each sample, (B,), with a way back for gradients.

    Args:
        logits_BV: (B, V), computed from `x`.
        x: inputs that want a gradient, (B, ...).
        target: the slope that is wanted.
        over: the norm is that of a whole "sample", as in the paper's formula; or that over the "channels" of each pixel, then averaged, as
            in the authors' code.

    Raises:
        BadInput: inputs that want no gradient, or that the logits do not depend on.
    """
    if not x.requires_grad:
        raise BadInput("input_gradient_penalty: the inputs want no gradient; look at the samples in the view `opened`")
    (slope,) = torch.autograd.grad(logits_BV.sum(), x, create_graph=True, allow_unused=True)
    if slope is None:
        raise BadInput("input_gradient_penalty: the logits do not depend on these inputs")
    squares = slope.flatten(1).square().sum(1, keepdim=True) if over == "sample" else slope.square().sum(1).flatten(1)
    # a slope of exactly 0 has no direction: its root is taken just above
    return (squares.clamp_min(torch.finfo(squares.dtype).tiny).sqrt() - target).square().mean(1)


class SmoothExpert(Stateful):
    """An expert's loss: kappa * cross entropy + weight * gradient penalty; give ``Learner(views=SmoothExpert.views)``.

    Args:
        factor: kappa, of the cross entropy.
        penalty: weight of the gradient penalty; 0 leaves it out.
    """

    views: ClassVar[Mapping[str, View]] = {"opened": opened}

    def __init__(self, factor: Number = 1.0, penalty: float = 0.0) -> None:
        self.factor, self.penalty = factor, penalty

    def __call__(self, step: Step) -> list[Term]:
        """Terms "labels" and, with a penalty, "gradient-penalty"."""
        batch = step.seen_in("opened") if self.penalty else step.batch
        logits_BV = step.signals("student", {"logits"}, view="opened" if self.penalty else None)["logits"]
        assert isinstance(logits_BV, Tensor)
        terms = [Term("labels", F.cross_entropy(logits_BV, batch["y"], reduction="none"), weight=value_of(self.factor))]
        if self.penalty:
            x = next(v for v in batch.values() if isinstance(v, Tensor) and v.requires_grad)
            terms.append(Term("gradient-penalty", input_gradient_penalty(logits_BV, x), weight=self.penalty))
        return terms


def balance(start: int, starts: int) -> float:
    """The factor of the inner losses by where the loop starts: above 1 for late parts of a trajectory, below 1 for early ones.

    With h = starts / 2: log_5(start - h + 8) from the middle on, 1 / log_5(h - start + 8) before it.

    Args:
        start: number of the snapshot where the loop starts, from 0.
        starts: how many snapshots loops start from.

    Source: AST (Shen et al., 2023), "balanced inner loss", as in the authors' code.
    """
    half = starts / 2
    return math.log(start - half + 8, 5) if start >= half else 1 / math.log(half - start + 8, 5)


def perturbed(flat_P: Tensor, layout: Layout, alpha: float, rng: torch.Generator) -> Tensor:
    """Parameters with noise on the kernels of convolutions: W + alpha * (d / ||d||) * W, elementwise, d standard normal.

    Args:
        flat_P: parameters, (P,).
        layout: which of them are kernels (four-dimensional); the others stay.
        alpha: size; 0 changes nothing. No kernel moves by more than alpha * max |W| in norm.
        rng: draws the noise.

    Source: AST (Shen et al., 2023), "weight perturbation".
    """
    parts = dict(layout.named(flat_P))
    for name, part in parts.items():
        if part.ndim == 4 and alpha:
            noise = torch.randn(part.shape, generator=rng, dtype=part.dtype, device=part.device)
            parts[name] = part + alpha * noise / noise.norm() * part
    return layout.flat(parts)


def match_points(steps: int, ahead: int) -> list[int]:
    """After how many inner updates the snapshots on the way are met: floor(steps / ahead) * i, for i = 1 .. ahead - 1."""
    return [steps // ahead * i for i in range(1, ahead)]


@dataclass(frozen=True)
class Inner:
    """The inner loop, and what is compared at its end.

    Args:
        steps: inner updates, >= 1.
        ahead: how many snapshots after the start its end is compared with, 1 to `steps`.
        starts: loops start from so many first snapshots of an expert, >= 1; recipes take fewer where there are fewer.
        batch: condensed samples of an inner update; None takes all.
        momentum: of the inner updates, in [0, 1).
        intermediate: weight of the same comparison at each snapshot on the way.
        balanced: multiply the inner losses by `balance`.
        perturbation: size of the noise on the kernels where a loop starts.
        segment: inner updates whose graph is kept at a time; None keeps all. Bounds memory, changes nothing else.

    Raises:
        BadInput: a value outside its range.
    """

    steps: int = 20
    ahead: int = 2
    starts: int = 5
    batch: int | None = None
    momentum: float = 0.0
    intermediate: float = 0.0
    balanced: bool = False
    perturbation: float = 0.0
    segment: int | None = None

    def __post_init__(self) -> None:
        rules = {
            "steps": (self.steps >= 1, "at least 1"),
            "ahead": (1 <= self.ahead <= max(self.steps, 1), f"1 to steps={self.steps}"),
            "starts": (self.starts >= 1, "at least 1"),
            "batch": (self.batch is None or self.batch >= 1, "at least 1, or null for all"),
            "momentum": (0 <= self.momentum < 1, "a number in [0, 1)"),
            "intermediate": (0 <= self.intermediate < math.inf, "a number from 0"),
            "perturbation": (0 <= self.perturbation < math.inf, "a number from 0"),
            "segment": (self.segment is None or self.segment >= 1, "at least 1, or null for no segments"),
        }
        for name, (holds, expected) in rules.items():
            if not holds:
                raise BadInput(f"Inner({name}={getattr(self, name)}): expected {expected}")


class TrajectoryMatching(Stateful):
    """A learner's loss: how far an inner loop on the condensed samples stays from an expert's later snapshot.

    ||end - target||^2 / ||start - target||^2, with an expert and a start drawn for each step; likewise at the snapshots on the way, with
    weight `inner.intermediate`. With all extras of `Inner` off it is MTT; with them it is AST.

    Args:
        net: the experts' architecture; its own weights are neither used nor changed.
        synthetic: the `SyntheticSet` that the learner trains.
        trajectory: the experts' snapshots, a stage each.
        inner: the loop.
        first: an action before this stage that gives "x", where the samples begin; None leaves them as they are.

    Raises:
        BadInput: the experts left too few snapshots, or the set is no `SyntheticSet`.

    Source: MTT: Cazenavette et al., "Dataset Distillation by Matching Training Trajectories", CVPR 2022. AST: Shen, Yang & Lam, "Efficient
        Dataset Distillation through Alignment with Smooth and High-Quality Expert Trajectories", 2023.
    """

    def __init__(self, net: Model, synthetic: Model, trajectory: Trajectory, inner: Inner = Inner(), first: Action | None = None) -> None:
        self.net, self.synthetic, self.inner, self.first = net, synthetic, inner, first
        self.reader = trajectory.reader()

    def begin_stage(self, run: object) -> None:
        """Let the samples begin where the action said."""
        if self.first is not None and self.first.done:
            x = self.first.result["x"]
            assert isinstance(x, Tensor)
            self._set().start(x)

    def after_step(self, step: Step) -> None:
        """Keep the inner loop's learning rate above 0: one below would lead away from what the samples teach."""
        self._set().lr.data.clamp_(min=LEAST_RATE)

    def _set(self) -> SyntheticSet:
        module = self.synthetic.module
        if not isinstance(module, SyntheticSet):
            raise BadInput(f"trajectory matching trains a SyntheticSet, not a {type(module).__name__}")
        return module

    def __call__(self, step: Step) -> list[Term]:
        """Terms "arrival" and, with intermediate matching, "passage-1" and so on."""
        inner, module, rng = self.inner, self.net.module.to(step.device), step.rng("trajectory")
        trajectory, condensed = self.reader.trajectory, self._set()
        stage = trajectory.stages[int(torch.randint(len(trajectory.stages), (), generator=rng, device=step.device))]
        starts = max(1, min(inner.starts, len(trajectory.of(stage)) - inner.ahead))  # an expert that was cut short has fewer
        start = int(torch.randint(starts, (), generator=rng, device=step.device))
        way = trajectory.segment(stage, start, inner.ahead)
        layout = Layout.of(module)
        flat = [layout.flat({k: v.to(step.device) for k, v in snapshot.items() if k in set(layout.names)}) for snapshot in way]
        begin_P = perturbed(flat[0], layout, inner.perturbation, rng)
        points = match_points(inner.steps, inner.ahead) if inner.intermediate else []
        factor = balance(start, inner.starts) if inner.balanced else 1.0
        chosen = self._batches(condensed, rng)

        def loss(parameters_P: Tensor, number: int, x: Tensor) -> Tensor:
            positions = chosen[number]
            y = condensed.y if positions is None else condensed.y[positions]
            return factor * F.cross_entropy(logits_with(self.net, layout, parameters_P, condensed.batch(x, positions)), y)

        with self.net.mode(training=True):
            seed = derive("inner", step.clock.seed, step.clock.step, step.rank)
            how = {"momentum": inner.momentum, "keep": points, "segment": inner.segment, "seed": seed}
            *passed, end_P = unrolled_sgd(loss, begin_P, condensed.lr, inner.steps, others=[condensed.x], **how)  # type: ignore[arg-type]
        terms = [Term("arrival", distance_left(end_P, begin_P, flat[-1]), over="batch")]
        for number, passed_P in enumerate(passed, 1):
            left = distance_left(passed_P, begin_P, flat[number])
            terms.append(Term(f"passage-{number}", left, over="batch", weight=inner.intermediate))
        return terms

    def _batches(self, condensed: SyntheticSet, rng: torch.Generator) -> list[Tensor | None]:
        """The samples of each inner update: all, or parts of one permutation after the other."""
        size, count = self.inner.batch, len(condensed.y)
        if size is None or size >= count:
            return [None] * self.inner.steps
        parts: list[Tensor | None] = []
        while len(parts) < self.inner.steps:
            order = torch.randperm(count, generator=rng, device=rng.device)
            parts += [order[at : at + size] for at in range(0, count - size + 1, size)]
        return parts[: self.inner.steps]


def synthetic_model(shape: tuple[int, ...], labels: Tensor, lr: float, column: str) -> Model:
    """A handle on a `SyntheticSet` that is built when it is needed.

    Args:
        shape: of a sample.
        labels: of the samples, (N,).
        lr: first learning rate, > 0.
        column: name of the inputs.
    """
    return Model(lambda: SyntheticSet(shape, labels, lr, column), name=f"{len(labels)} condensed samples")
