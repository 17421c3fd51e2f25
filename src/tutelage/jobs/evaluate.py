"""evaluate: every number of the report for any model, with intervals, and paired tests between models.

All intervals are over samples: they say how far another draw of as many samples could have come out, and nothing of other seeds.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

import torch

from tutelage.data import Augmented, Data, Joined, Source
from tutelage.errors import BadInput, nearest
from tutelage.evaluation import Predictions, difference, processor
from tutelage.evaluation.bootstrap import Drawn, calibration_interval, draw, interval
from tutelage.evaluation.classification import NO_LABEL
from tutelage.evaluation.comparison import compared, judged
from tutelage.evaluation.encoders import Embedded
from tutelage.evaluation.intervals import LEVEL, exact
from tutelage.evaluation.language import Told, token_difference, token_intervals
from tutelage.jobs.attacks import attack_from, attacked
from tutelage.jobs.cached import answering
from tutelage.jobs.estimate import check_weights
from tutelage.jobs.lineup import Lineup, lineup
from tutelage.jobs.measurement import by_class, class_names, last_split, measured
from tutelage.jobs.recorded import ABOUT, against
from tutelage.jobs.taps import check_classes
from tutelage.signals import Model

FORMAT = 1
Split = Literal["train", "validation", "test", "all"]


@dataclass(frozen=True)
class Evaluation:
    """What was measured, as plain values.

    Args:
        data: name of the data.
        split: which of their splits.
        samples: how many it has, and
        labelled: how many of these have a label.
        classes: names of the classes.
        models: by name, in order, `model`, `accuracy`, `macro_f1`, `nll` (nats a sample), `ece`, `agreement` (with the teacher),
            `parameters`, `bytes`, `flops`, `latency_ms` and `throughput`, as far as they are known; and `intervals`, for the first five
            `low` and `high`. Of language models `measure_tokens`' numbers, with intervals.
        teacher: name of the model that the others may agree with; None where there is none.
        per_class: for each class its name as `class`, its `samples`, and `recall`, of each model by name: `value`, `low` and `high`; empty
            without labels.
        comparisons: what `evaluation.comparison` says of pairs of models; empty without labels. Of language models `first`, `second`, `nll`
            (`difference`, `low` and `high`, in nats a token), and `better`: "first", "second", or None where the interval holds 0.
        recorded: of a run whose numbers should be those of its report.json, see `recorded.against`; None otherwise.
        notes: what else should be known, in sentences.
        level: of all intervals.
        seed: of what the intervals drew.
        timing: `threads`, `processor` and `device`.
        tokens: how many were predicted by language models; None of other models.
        attack: under which models were measured, too: each then has `robust_accuracy`, and `weighted_robust_accuracy`, the mean of that and
            of its accuracy; None without.
    """

    data: str
    split: str
    samples: int
    labelled: int
    classes: list[str]
    models: dict[str, dict[str, Any]]
    teacher: str | None
    per_class: list[dict[str, Any]]
    comparisons: list[dict[str, Any]]
    recorded: dict[str, Any] | None
    notes: list[str]
    level: float
    seed: int
    timing: dict[str, Any]
    tokens: int | None = None
    attack: str | None = None

    def as_json(self) -> dict[str, Any]:
        """All of it with the number of its format, as --json and --out give it."""
        return {"format": FORMAT, **vars(self)}


def evaluate(
    *models: Any,
    data: Any = None,
    split: str | None = None,
    teacher: Any = None,
    seed: int = 0,
    device: str = "auto",
    trust_code: bool = False,
    attack: Any = None,
) -> Evaluation:
    """Measure models again, with intervals, and compare them.

    Args:
        models: what `distill` takes as a teacher: run folders, exported folders, FILE.onnx, hf:FOLDER_OR_ID, built-in nets with
            weights=FILE, file.py:function, or in Python a module or Model. One run alone stands for all of its models, as in its report,
            and its numbers are held against report.json; among several models, a run stands for its student.
        data: what is measured on, as for `distill`; default: the data of the run, or of the run in whose folder the first model lies.
        split: train, validation, test, or all of them together (new samples that no model was trained on); default: test where there is
            one, else validation, else train.
        teacher: with whose answers the models' are compared; default: the run's own, or none.
        seed: of what the intervals draw.
        device: auto, or cpu.
        trust_code: let a run folder name a .py file whose code then runs.
        attack: also measure each model on images changed so that it errs: pgd:eps=0.1,steps=20, fgsm:eps=0.1, or, by another package,
            apgd:eps=0.1 and square:eps=0.1 (the extra `robust`); or in Python an `Attack`.

    Returns:
        The numbers. Intervals of shares (accuracy, agreement, recall) are exact, those of macro F1, nats and calibration error come from
        1000 draws of the samples. The first model, or the student of a run, is compared with each other.

    Raises:
        BadInput: a model or data that cannot be used, a split that is not there, a run that is not finished, logits that are not finite.
        MissingFile: a path that does not exist.
    """
    if not isinstance(seed, int):
        raise BadInput(f"seed={seed!r}: expected a whole number")
    if device not in ("auto", "cpu"):
        raise BadInput(f"device={device!r}: expected one of 'auto', 'cpu'")
    if split is not None and split not in get_args(Split):
        raise BadInput(f"split {split!r} is not known{nearest(str(split), get_args(Split))}; expected one of {', '.join(get_args(Split))}")
    searched = None if attack is None else attack_from(attack)
    found = lineup(models, data=data, teacher=teacher, trust_code=trust_code)
    chosen, source = _split(found.data, split)
    found = _answering(found, chosen, source)
    single = {name: each for name, each in found.models.items() if isinstance(each, Model)}
    check_weights(single)
    for name, each in single.items():
        if each.sampling:
            raise BadInput(f"{name} draws images, and answers for none; measure it by: tutelage sample RUN --data DATA --out FOLDER")
    check_classes(single, found.data)
    there = torch.accelerator.current_accelerator(check_available=True) if device == "auto" else None
    place = there or torch.device("cpu")
    train = found.data.train if chosen in ("test", "validation") else None
    shown, numbers = measured(found.models, source, place, reference=found.teacher, strict=True, train=train)
    language = {name: said for name, said in shown.items() if isinstance(said, Told)}
    if language:
        if searched is not None:
            raise BadInput(f"an attack changes images, but {found.data.name} holds text")
        return _of_language(found, chosen, source, language, numbers, data is None, seed, place)
    if all(isinstance(each, Embedded) for each in shown.values()):
        if searched is not None:
            raise BadInput("an attack changes images so that a classifier errs, but these are encoders without a head")
        return _of_encoders(found, chosen, source, numbers, data is None, seed, place)
    names = class_names(found.data)
    labelled = _labelled(shown)
    notes = [*found.notes, *_missing(found, chosen, len(source), labelled)]
    if searched is not None:
        robust, left_out = attacked(found.models, shown, source, searched, place, seed)
        numbers = {name: {**each, **robust.get(name, {})} for name, each in numbers.items()}
        notes += left_out
    rows = by_class(shown, names) if labelled else None
    drawn = draw(shown, seed=seed) if labelled else {}
    for name in shown:
        agrees = name != found.teacher  # of how far a model agrees with itself there is nothing to learn
        numbers[name]["intervals"] = _intervals(numbers[name], shown[name], labelled, drawn.get(name), agrees)
    return Evaluation(
        data=found.data.name,
        split=chosen,
        samples=len(source),
        labelled=labelled,
        classes=names,
        models=numbers,
        teacher=found.teacher,
        per_class=[_recalls(row) for row in rows or []],
        comparisons=_comparisons(shown, found.first, drawn) if labelled else [],
        recorded=_recorded(found, data is None, chosen, numbers, rows),
        notes=notes,
        level=LEVEL,
        seed=seed,
        timing={"threads": torch.get_num_threads(), "processor": processor(place), "device": place.type},
        attack=None if searched is None else searched.named,
    )


def _of_language(
    found: Lineup,
    split: str,
    source: Source,
    shown: Mapping[str, Told],
    numbers: dict[str, dict[str, Any]],
    own: bool,
    seed: int,
    place: torch.device,
) -> Evaluation:
    for name, said in shown.items():
        ends = token_intervals(said, seed=seed)
        if name == found.teacher:  # of how far a model is from itself there is nothing to learn
            ends = {key: value for key, value in ends.items() if key not in ("forward_kl", "reverse_kl", "agreement")}
        numbers[name]["intervals"] = {key: {"low": low, "high": high} for key, (low, high) in ends.items()}
    comparisons = []
    for name, said in shown.items():
        if name != found.first:
            gap = token_difference(shown[found.first], said, seed=seed)
            better = "first" if gap["high"] < 0 else "second" if gap["low"] > 0 else None
            ends = {"difference": gap["nll"], "low": gap["low"], "high": gap["high"]}
            comparisons.append({"first": found.first, "second": name, "nll": ends, "better": better})
    return Evaluation(
        data=found.data.name,
        split=split,
        samples=len(source),
        labelled=len(source),
        classes=[],
        models=numbers,
        teacher=found.teacher,
        per_class=[],
        comparisons=comparisons,
        recorded=_recorded(found, own, split, numbers, None),
        notes=found.notes,
        level=LEVEL,
        seed=seed,
        timing={"threads": torch.get_num_threads(), "processor": processor(place), "device": place.type},
        tokens=int(next(iter(shown.values())).tokens.sum()),
    )


def _of_encoders(
    found: Lineup, split: str, source: Source, numbers: dict[str, dict[str, Any]], own: bool, seed: int, place: torch.device
) -> Evaluation:
    for each in numbers.values():
        right = each.get("probe_accuracy")
        low, high = exact(round(right * len(source)), len(source)) if right is not None else (0.0, 0.0)
        each["intervals"] = {} if right is None else {"probe_accuracy": {"low": low, "high": high}}
    return Evaluation(
        data=found.data.name,
        split=split,
        samples=len(source),
        labelled=len(source) if source.labelled else 0,
        classes=class_names(found.data),
        models=numbers,
        teacher=found.teacher,
        per_class=[],
        comparisons=[],
        recorded=_recorded(found, own, split, numbers, None),
        notes=found.notes,
        level=LEVEL,
        seed=seed,
        timing={"threads": torch.get_num_threads(), "processor": processor(place), "device": place.type},
    )


def _answering(found: Lineup, split: str, source: Source) -> Lineup:
    """The lineup with each cache asked about the split, and without those that hold nothing of it."""
    answers = {name: answering(each, split, source) for name, each in found.models.items()}
    silent = [name for name, who in answers.items() if who is None]
    notes = [f"{name} is left out: its cache holds no dense logits of these {split} samples." for name in silent]
    there = {name: who for name, who in answers.items() if who is not None}
    if found.first not in there:
        raise BadInput(f"{found.first} cannot be measured: a cache that holds no dense logits of these {split} samples")
    return replace(found, models=there, teacher=found.teacher if found.teacher in there else None, notes=[*found.notes, *notes])


def _split(data: Data, wanted: str | None) -> tuple[str, Source]:
    if wanted is None:
        return last_split(data)
    there = {name: each for name in ("train", "validation", "test") if (each := getattr(data, name)) is not None}
    there = {name: each.source if isinstance(each, Augmented) else each for name, each in there.items()}  # samples as they are
    if wanted == "all":
        return "all", Joined(list(there.values()), data.name)
    source = there.get(wanted)
    if source is None:
        raise BadInput(f"{data.name} has no split {wanted!r}; it has {', '.join(there)}")
    return wanted, source


def _labelled(shown: Mapping[str, Predictions]) -> int:
    """How many samples have a label, one class a sample."""
    hard = next(iter(shown.values())).hard()
    if hard is None or any(each.logits.ndim != 2 for each in shown.values()):
        return 0
    return int((hard != NO_LABEL).sum())


def _intervals(numbers: Mapping[str, Any], said: Predictions, labelled: int, drawn: Drawn | None, agrees: bool) -> dict[str, Any]:
    """By number its `low` and `high`; none for agreement on positions, which are not drawn one by one."""
    found = {}
    if drawn is not None:
        found["accuracy"] = exact(round(numbers["accuracy"] * labelled), labelled)
        if "robust_accuracy" in numbers:
            found["robust_accuracy"] = exact(round(numbers["robust_accuracy"] * labelled), labelled)
        found |= {"macro_f1": interval(drawn.macro_f1), "nll": interval(drawn.nll), "ece": calibration_interval(drawn)}
    if agrees and "agreement" in numbers and said.logits.ndim == 2:
        found["agreement"] = exact(round(numbers["agreement"] * len(said.logits)), len(said.logits))
    return {key: {"low": low, "high": high} for key, (low, high) in found.items()}


def _recalls(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row of `by_class`, each recall with its interval."""
    found = {}
    for name, value in row.items():
        if name not in ABOUT:
            low, high = exact(round((value or 0.0) * row["samples"]), row["samples"])
            found[name] = {"value": value, "low": low, "high": high}
    return {"class": row["class"], "samples": row["samples"], "recall": found}


def _comparisons(shown: Mapping[str, Predictions], first: str, drawn: dict[str, Drawn]) -> list[dict[str, Any]]:
    gaps = {name: difference(shown[first], each) for name, each in shown.items() if name != first}
    return judged([compared(first, name, gap, drawn) for name, gap in gaps.items() if gap is not None])


def _recorded(
    found: Lineup, own: bool, split: str, numbers: Mapping[str, Mapping[str, Any]], rows: Sequence[Mapping[str, Any]] | None
) -> dict[str, Any] | None:
    if found.run is None or found.report is None or split != found.report["split"]:
        return None
    same = _fingerprint(found.run) in (None, found.data.fingerprint())
    if not own and not same:
        return None
    own_teacher = found.teacher == next(iter(found.report["teachers"]), None)
    return {"same_data": same, **against(found.report, numbers, rows, agreement=own_teacher)}


def _fingerprint(run: Path) -> str | None:
    """Of the data that the run was begun with; None where it is not known."""
    try:
        said = json.loads((run / "splits.json").read_text())["data"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return said if isinstance(said, str) else None


def _missing(found: Lineup, split: str, samples: int, labelled: int) -> list[str]:
    """What cannot be said, and why."""
    notes = []
    if not labelled:
        left = "only agreement with the teacher is known" if found.teacher else "give --teacher to know how far the models follow one"
        notes.append(f"There are no labels, one class a sample, among the {samples:,} {split} samples of {found.data.name}: {left}.")
    elif labelled < samples:
        notes.append(f"{samples - labelled:,} of the {samples:,} samples have no label; they count for agreement alone.")
    return notes
