"""What a student may cost: parameters, operations, or the time of a pass; and whether any candidate of a space costs as little."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from tutelage.data import Data
from tutelage.errors import BadInput, TutelageError, nearest
from tutelage.evaluation import forward_flops, size_of
from tutelage.jobs import models
from tutelage.signals import Model
from tutelage.students.space import Candidate, Space

KINDS = {"params": "parameters", "flops": "floating-point operations of one sample", "latency": "milliseconds for one sample"}
UNITS = {"": 1.0, "k": 1e3, "m": 1e6, "g": 1e9, "b": 1e9, "ms": 1.0, "us": 1e-3, "s": 1e3}
TIMED = 11
"""Passes whose median is a candidate's latency, after three that are not counted."""


@dataclass(frozen=True)
class Budget:
    """Upper limits.

    Args:
        limits: by kind (params, flops, latency); none allow anything.
    """

    limits: Mapping[str, float]

    def __str__(self) -> str:
        return ",".join(f"{kind}={limit:g}" for kind, limit in self.limits.items())


def budget_in(text: str | Mapping[str, float] | None) -> Budget:
    """Read a budget: "params=100k", "flops=2M,latency=5ms", or in Python a mapping.

    Raises:
        BadInput: another kind, a number that is none, or a unit of something else.
    """
    if text is None:
        return Budget({})
    said = f"budget {text!r}"
    given = {}
    for part in text.split(",") if isinstance(text, str) else [f"{k}={v}" for k, v in text.items()]:
        kind, value = (each.strip() for each in part.partition("=")[::2])
        if kind not in KINDS:
            raise BadInput(f"{said}: {kind!r} is no kind of cost{nearest(kind, KINDS)}; expected params=100k, flops=2M or latency=5ms")
        if kind in given:
            raise BadInput(f"{said}: {kind} stands there twice; give it once")
        given[kind] = _limit(value, kind, said)
    return Budget(given)


def _limit(value: str, kind: str, said: str) -> float:
    digits = value.rstrip("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ ")
    unit = value[len(digits) :].strip().lower()
    timed = unit in ("ms", "us", "s")
    try:
        number = float(digits) * UNITS[unit]
    except (ValueError, KeyError):
        number = math.nan
    if not (number > 0 and math.isfinite(number)) or (unit and timed != (kind == "latency")):
        example = {"params": "params=100k", "flops": "flops=2M", "latency": "latency=5ms"}[kind]
        raise BadInput(f"{said}: {kind}={value!r} is no number of {KINDS[kind]} above 0; expected such as {example}")
    return number


class Costs:
    """What candidates cost, each looked at once, and no further than it must be.

    Args:
        space: of the candidates.
        data: fills in classes and sizes.
        budget: which costs are limited; latency is only measured where it is.
        device: where latency is measured.
    """

    def __init__(self, space: Space, data: Data, budget: Budget, device: torch.device) -> None:
        self.space, self.data, self.budget, self.device = space, data, budget, device
        self.known: dict[tuple[str, str], float] = {}
        self._one = data.train.batch(torch.tensor([0]))

    def model(self, spec: str, seed: int = 0) -> Model:
        """A handle on a candidate.

        Raises:
            BadInput: it cannot be built, or is trained already.
        """
        try:
            made = models.model_from(spec, "candidate", data=self.data, seed=seed)
        except TutelageError as error:
            raise BadInput(f"{self.space.name} names a net that cannot be used: {error}") from None
        if made.trained:
            raise BadInput(f"the candidate {spec!r} of {self.space.name} is trained already; expected specs of untrained nets")
        return made

    def of(self, candidate: Candidate) -> dict[str, float]:
        """`params`, `flops`, and where it is limited `latency`."""
        spec = self.space.written(candidate)
        return {kind: self._cost(spec, kind) for kind in KINDS if kind != "latency" or kind in self.budget.limits}

    def within(self, candidate: Candidate) -> bool:
        """Whether a candidate keeps the budget; what is quick to know is looked at first."""
        spec = self.space.written(candidate)
        return all(self._cost(spec, kind) <= self.budget.limits[kind] for kind in KINDS if kind in self.budget.limits)

    def share(self, candidate: Candidate) -> float:
        """How much of the budget a candidate takes: of several limits the tightest; 0 without any."""
        spec = self.space.written(candidate)
        return max((self._cost(spec, kind) / limit for kind, limit in self.budget.limits.items()), default=0.0)

    def cheapest(self) -> Candidate:
        """A candidate within the budget: from the first values on, every choice is changed to what costs least, until nothing helps.

        Raises:
            BadInput: even that costs more; says how much.
        """
        best = {key: values[0] for key, values in self.space.choices.items()}
        least, better = self.share(best), True
        while better and least > 1:
            better = False
            for key, values in self.space.choices.items():
                for value in values:
                    other = {**best, key: value}
                    share = self.share(other)
                    if share < least:
                        best, least, better = other, share, True
        if least > 1:
            costs = self.of(best)
            said = " and ".join(f"{costs[kind]:,.6g} {KINDS[kind]}" for kind in self.budget.limits)
            raise BadInput(
                f"no net of {self.space.name} was found within the budget {self.budget}: "
                f"the cheapest, {self.space.written(best)}, has {said}; allow more, or search another space"
            )
        return best

    def _cost(self, spec: str, kind: str) -> float:
        if (spec, kind) not in self.known:
            self.known[spec, kind] = self._measured(spec, kind)
        return self.known[spec, kind]

    def _measured(self, spec: str, kind: str) -> float:
        model = self.model(spec)
        try:
            with _Undrawn():
                module, device = None if kind == "latency" else model.skeleton(), torch.device("meta")
            if module is None:
                module, device = model.module.to(self.device), self.device
            if kind == "params":
                return float(size_of(module)["parameters"])
            module.eval()
            arguments = model.inputs({k: v.to(device) if isinstance(v, torch.Tensor) else v for k, v in self._one.items()}, module)
            if kind == "flops":
                return float(forward_flops(module, arguments))
            return _latency(lambda: module(**arguments) if isinstance(arguments, Mapping) else module(*arguments), self.device)
        except TutelageError:
            raise
        except Exception as error:
            raise BadInput(f"{spec} does not take a sample of {self.data.name}: {type(error).__name__}: {error}") from error


class _Undrawn(TorchFunctionMode):
    """First weights are not drawn: of a skeleton nobody sees them, and on the meta device it takes longer than all the rest."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in (torch.Tensor.normal_, torch.Tensor.uniform_):
            return args[0]
        return func(*args, **(kwargs or {}))


def _latency(call: Callable[[], object], device: torch.device) -> float:
    """The median of a few passes, in milliseconds."""
    times = []
    with torch.no_grad():
        for number in range(TIMED + 3):
            if device.type != "cpu":
                torch.accelerator.synchronize(device)
            start = time.perf_counter()
            call()
            if device.type != "cpu":
                torch.accelerator.synchronize(device)
            if number >= 3:
                times.append(time.perf_counter() - start)
    return statistics.median(times) * 1e3
