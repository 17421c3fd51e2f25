"""Studies: nets trained from scratch on a few samples, or on all; what a condensed set is worth beside samples that were merely chosen.

What was found of each lies in studies.json as soon as it is known, so that nothing is done twice.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from tutelage.data import Data, Source, SyntheticSet, representatives
from tutelage.data.condensation import class_labels, inputs_of
from tutelage.errors import Interrupted
from tutelage.evaluation import measure, predict
from tutelage.evaluation.seeds import interval, paired_interval
from tutelage.jobs.measurement import last_split
from tutelage.jobs.trials import listening
from tutelage.language.progress import tracked
from tutelage.recipes.alone import alone
from tutelage.signals import Model
from tutelage.training import Fit, Run, RunOptions, train
from tutelage.training.checkpoint import write_text_atomically

NAME = "studies.json"
ARMS = ("condensed", "random", "k-means", "all")
"""What is studied: the condensed set, as many real samples of each class by chance or near the centres of clusters, and all samples."""
RATES = (0.2, 1.0, 5.0)
"""Times the learning rate that was asked for: each net on each arm is tried with all of them, and the best on validation is kept."""


@dataclass(frozen=True)
class Study:
    """One training from scratch.

    Args:
        net: spec of what studies.
        arm: what is studied.
        seed: of its first weights and its order; and of which samples are chosen.
        rate: times the learning rate that was asked for.
    """

    net: str
    arm: str
    seed: int
    rate: float


class Studies:
    """Trains and measures, or takes what is known from an earlier call.

    Args:
        folder: of studies.json.
        data: what was condensed.
        synthetic: the condensed set.
        per_class: its samples of each class.
        fit: duration and optimizer, of all arms alike.
        options: where to compute.
        identity: plain values that decide on results besides; what was found under others is forgotten.
    """

    def __init__(
        self,
        folder: Path,
        data: Data,
        synthetic: SyntheticSet,
        per_class: int,
        fit: Fit,
        options: RunOptions,
        identity: Mapping[str, Any],
    ) -> None:
        self.file, self.data, self.per_class, self.fit = folder / NAME, data, per_class, fit
        self.options = replace(options, quiet=True, track=())
        self.synthetic = synthetic
        self.identity = json.loads(json.dumps({**identity, "fit": asdict(fit), "data": data.fingerprint(), "per_class": per_class}))
        self.known = self._read()

    def carry_out(self, nets: Mapping[str, Model], seeds: Sequence[int], shown: bool, again: str) -> Iterator[Study]:
        """Train every net on every arm: with each rate under the first seed, with the best of them under the others.

        Args:
            nets: by spec; built anew for each study.
            seeds: of the studies; arms are paired by seed.
            shown: whether to show progress.
            again: the command that goes on, for the message of an interruption.

        Yields:
            The studies that count.

        Raises:
            Interrupted: stopped by a signal; what is finished is kept.
        """
        rates = RATES if self.data.validation is not None and self.data.test is not None else (1.0,)
        pairs = [(net, arm) for net in nets for arm in ARMS]
        with listening() as heard:
            for net, arm in tracked(pairs, len(pairs), "nets on samples", shown):
                tries = [Study(net, arm, seeds[0], rate) for rate in rates]
                for each in tries:
                    self._know(each, nets[net], heard, again)
                best = max(tries, key=lambda each: self.known[each]["validation"]).rate if len(tries) > 1 else rates[0]
                for seed in seeds:
                    chosen = Study(net, arm, seed, best)
                    self._know(chosen, nets[net], heard, again)
                    yield chosen

    def samples(self, arm: str) -> int:
        """How many samples an arm has."""
        return len(self.data.train) if arm == "all" else len(self.synthetic.y)

    def _know(self, study: Study, net: Model, heard: list[int], again: str) -> None:
        if study not in self.known:
            if heard:
                raise Interrupted(f"stopped after {len(self.known)} trainings on samples; go on with: {again}", heard[0])
            self.known[study] = self._found(study, net)
            self._write()

    def _found(self, study: Study, net: Model) -> dict[str, float]:
        model, source = net.fresh(study.seed), self._source(study)
        size = min(self.fit.batch_size, len(source))
        updates = self.fit.updates(self.samples("condensed"))
        fit = replace(self.fit, lr=self.fit.lr * study.rate, batch_size=size, epochs=None, steps=updates)
        train(alone(model, replace(self.data, train=source), fit=fit), Run(None, seed=study.seed, options=self.options))
        _, held = last_split(self.data)
        found = {"accuracy": float(measure(predict(model, held))["accuracy"])}
        if self.data.validation is not None:
            found["validation"] = float(measure(predict(model, self.data.validation))["accuracy"])
        return found

    def _source(self, study: Study) -> Source:
        if study.arm == "all":
            return self.data.train
        if study.arm == "condensed":
            return self.synthetic.source()
        labels = class_labels(self.data.train, self.per_class, self.data.class_count())
        _, x = inputs_of(self.data.train)
        how: Any = study.arm
        return self.data.train.rows(representatives(x, labels, self.per_class, how, study.seed), study.arm)

    def _read(self) -> dict[Study, dict[str, float]]:
        try:
            kept = json.loads(self.file.read_text())
            if kept["identity"] == self.identity:
                return {Study(**each["study"]): each["found"] for each in kept["studies"]}
        except (OSError, ValueError, KeyError, TypeError):  # none yet, or not ours: they are done anew
            pass
        return {}

    def _write(self) -> None:
        rows = [{"study": asdict(study), "found": found} for study, found in self.known.items()]
        write_text_atomically(self.file, json.dumps({"identity": self.identity, "studies": rows}, indent=1))


def summed_up(studies: Studies, done: Sequence[Study]) -> dict[str, Any]:
    """Means over seeds with intervals, of each net on each arm, and paired differences of the condensed set from the other arms.

    Args:
        studies: that were carried out.
        done: those that count.

    Returns:
        `rows` and `differences`, plain values; accuracies and differences as shares of 1.
    """
    step = 1 / len(last_split(studies.data)[1])
    by: dict[tuple[str, str], list[Study]] = {}
    for each in done:
        by.setdefault((each.net, each.arm), []).append(each)
    accuracies = {key: [studies.known[each]["accuracy"] for each in group] for key, group in by.items()}
    rows, differences = [], []
    for (net, arm), values in accuracies.items():
        found = interval(values, step=step)
        rate = studies.fit.lr * by[net, arm][0].rate
        ends = {"low": _end(found.low), "high": _end(found.high)}
        rows.append({"net": net, "arm": arm, "samples": studies.samples(arm), "lr": rate, "seeds": values, "mean": found.mean, **ends})
        if arm != "condensed":
            apart = paired_interval(accuracies[net, "condensed"], values, step=step)
            ends = {"low": _end(apart.low), "high": _end(apart.high)}
            differences.append({"net": net, "against": arm, "mean": apart.mean, **ends, "seen": apart.seen})
    return {"rows": rows, "differences": differences}


def _end(value: float) -> float | None:
    """An end of an interval; None where one seed says nothing of others."""
    return value if torch.isfinite(torch.tensor(value)) else None
