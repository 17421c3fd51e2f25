"""The numbers of a job: what the teacher, the student alone and the student taught are worth, before and after, and what they cost."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from tutelage.attacks import Attack
from tutelage.data import Data, Source, kind_of
from tutelage.errors import BadInput, printable
from tutelage.evaluation import Predictions, class_counts, costs, difference, disagreements, measure, predict, processor, recalls, size_of
from tutelage.evaluation.cost import BATCHES
from tutelage.evaluation.encoders import PROBED, Embedded, embed, measure_encoder
from tutelage.evaluation.language import Told, is_language, measure_tokens, reliability_of_tokens, token_difference, tokens_of, told
from tutelage.jobs.attacks import JUDGED, attacked
from tutelage.jobs.cached import Handle, answering, counted_before
from tutelage.jobs.own_text import own_text
from tutelage.randomness import generator
from tutelage.signals import Model
from tutelage.teachers import Cached, Ensemble, Teacher
from tutelage.training import Plan

WORDS = (1, 8)
"""Samples a pass of language data that are timed."""
FORMAT = 2
"""Of report.json."""
KEPT = 20_000
KEPT_NUMBERS = 2**24
"""Predictions of so many samples at most are kept in the run folder, and so many logits (64 MiB)."""


@dataclass(frozen=True)
class Findings:
    """What was found out about the models of a job.

    Args:
        report: the content of report.json.
        predictions: what is kept of the models' answers, by name: `id` and `labels` (n,) where there are any, `logits.NAME` (n, V); empty
            where a model's logits are not one row a sample.
        disagreements: the most confident ones, see `evaluation.disagreements`.
        pictures: PNG files by name, grids of what generators drew.
    """

    report: dict[str, Any]
    predictions: dict[str, Tensor] = field(default_factory=dict)
    disagreements: list[dict[str, Any]] = field(default_factory=list)
    pictures: Mapping[str, bytes] = field(default_factory=dict)


def say_before(teachers: Mapping[str, Handle], student: Model, data: Data, device: torch.device, quiet: bool) -> None:
    """Say, before anything is taught, how good the teacher is and how far the student stands from it: a wrong input shows here."""
    split, source = ("validation", data.validation) if data.validation is not None else ("test", data.test)
    if quiet or source is None or student.encodes:
        return
    there = {role: who for role, each in teachers.items() if (who := answering(each, split, source)) is not None}
    if is_language(source):
        _say_before_words(there, student, source, device)
        return
    now = predict(student, source, device=device) if there else None
    for role, model in there.items():
        shown = predict(model, source, device=device)
        numbers = measure(shown)
        if now is None or now.logits.shape != shown.logits.shape:
            continue  # the dry run refuses this with a better message
        agreement = measure(now, shown)["agreement"]
        if "accuracy" in numbers:
            said = f"before: the {role} is right on {numbers['accuracy']:.1%} of {source.name}"
            print(printable(said), file=sys.stderr, end="; ")
        else:
            print("before:", file=sys.stderr, end=" ")
        print(f"the student agrees with it on {agreement:.1%}", file=sys.stderr)


def _say_before_words(there: Mapping[str, Model | Teacher], student: Model, source: Source, device: torch.device) -> None:
    for role, model in there.items():
        found = {
            name: measure_tokens(each)
            for name, each in told({role: model, "student": student}, source, reference=role, device=device).items()
        }
        print(
            printable(
                f"before: the {role} has a perplexity of {found[role]['perplexity']:.4g} on {source.name}; the student has "
                f"{found['student']['perplexity']:.4g}, and a KL to it of {found['student']['forward_kl']:.3f} nats a token"
            ),
            file=sys.stderr,
        )


def watched(model: Model, source: Source, device: torch.device | str) -> Mapping[str, float]:
    """The numbers of a model on the validation split, as they are followed while it trains; of an encoder there are none."""
    if model.encodes:
        return {}
    if is_language(source):
        return measure_tokens(told({"model": model}, source, device=device)["model"])
    return measure(predict(model, source, device=device))


def findings_of(
    plans: Mapping[str, Plan],
    teachers: Mapping[str, Handle],
    data: Data,
    device: torch.device,
    about: Mapping[str, Any],
    *,
    timed: bool = True,
    attack: Attack | None = None,
) -> Findings:
    """Measure teachers, baseline and product on the split that nothing was chosen on.

    Args:
        plans: by what they make.
        teachers: by role; the first is the one that the others are compared with. A cache that holds nothing of the split is left out.
        data: test is taken where there is one, else validation, else train; the report says which.
        device: where to compute.
        about: `recipe`, `paper`, `data` and `seed`, as the report says them.
        timed: count and time the models' passes too; of several processes only one should.
        attack: also measure models under it, on at most 1,000 samples; the report says which as `attack`, its `name` and `samples`.

    Returns:
        The report has, besides `about`: `format`, `split`, `samples`, `classes`; `splits`, for each its `samples` and the `counts` of its
        classes (None without labels), or the `tokens` to predict; `models` and `teachers`, names in order, and under each name what
        `measure`, `size_of` and `costs` give, with `model` and `updates`, of an ensemble its `members` and `mean`; `taught_minus_alone`
        (see `difference`) and `per_class` (recalls) where there are labels; `timing`; `kept`, how many predictions are kept, None where
        logits are not one row a sample.
        Of language data also `tokens`, how many were predicted, `reliability`, bins by model, and `own_text`, what the models write
        themselves; `taught_minus_alone` is in nats a token.
    """
    split, source = last_split(data)
    ended = {key: plans[label] for label, key in (("baseline", "alone"), ("student", "student")) if label in plans}
    there = {role: who for role, each in teachers.items() if (who := answering(each, split, source)) is not None}
    models: dict[str, Model | Teacher] = {**there, **{key: plan.product for key, plan in ended.items()}}
    taught_by = next(iter(there), None)
    also = plans["student"].also
    # an ensemble of what was made; the single models are kept, each under its name
    ensembles = {name: thing for name, thing in also.items() if isinstance(thing, Teacher)}
    answered, numbers = measured({**models, **ensembles}, source, device, reference=taught_by, timed=timed, train=data.train)
    shown = {name: answered[name] for name in models}
    for name, model in models.items():
        trained = next((plan for plan in plans.values() if plan.product is model), None)
        numbers[name] |= {} if trained is None else {"updates": trained.updates(trained.product)}
    for name, each in ensembles.items():
        numbers[name] |= _members(each, also)
    language, encoders = (all(isinstance(each, kind) for each in shown.values()) for kind in (Told, Embedded))
    rows = not language and not encoders and all(each.logits.ndim == 2 for each in shown.values())
    names = [] if language else class_names(data)
    report: dict[str, Any] = {
        "format": FORMAT,
        **about,
        "split": split,
        "samples": len(source),
        "classes": names,
        "splits": splits_of(data, len(names), language),
        "models": list(numbers),
        "teachers": list(there),
        **numbers,
    }
    timing = {"threads": torch.get_num_threads(), "processor": processor(device), "device": torch.device(device).type}
    if encoders:
        return Findings({**report, "encoders": True, "timing": timing, "kept": None})
    if language:
        report["tokens"] = int(shown["student"].tokens.sum())
        if "alone" in shown:
            report["taught_minus_alone"] = token_difference(shown["student"], shown["alone"], seed=about["seed"])
        report["reliability"] = {name: reliability_of_tokens(each) for name, each in shown.items()}
        report["own_text"], own = own_text(models, source, data, about["seed"], device, judge=taught_by)
        for name, found in own.items():
            report[name] |= found
        return Findings({**report, "timing": timing, "kept": None})
    if attack is not None and kind_of(source) == "images" and source.labelled:
        report["attack"], robust = _under(attack, models, source, device, about["seed"])
        for name, said in robust.items():
            report[name] |= said
    gap = difference(shown["student"], shown["alone"]) if "alone" in shown else None
    if gap is not None:
        report["taught_minus_alone"] = gap
    per_class = by_class(shown, names)
    if per_class is not None:
        report["per_class"] = per_class
    report["timing"] = timing
    if not rows:
        return Findings({**report, "kept": None})
    kept = _kept(shown, about["seed"])
    report["kept"] = {"samples": len(next(iter(kept.values()))), "of": len(source)}
    return Findings(report, kept, disagreements(shown, source, reference=taught_by))


def _under(
    attack: Attack, models: Mapping[str, Model | Teacher], source: Source, device: torch.device, seed: int
) -> tuple[dict[str, Any], dict[str, dict[str, float]]]:
    """What models are worth under attack, on samples drawn where there are more than are judged; the mean with accuracy is of these."""
    chosen = torch.arange(len(source))
    if len(source) > JUDGED:
        chosen = torch.randperm(len(source), generator=generator("attacked-samples", seed))[:JUDGED].sort().values
    some = source.rows(chosen, source.name)
    single = {name: each for name, each in models.items() if isinstance(each, Model)}
    plain = {name: predict(each, some, device=device) for name, each in single.items()}
    return {"name": attack.named, "samples": len(some)}, attacked(single, plain, some, attack, device, seed)[0]


def measured(
    models: Mapping[str, Model | Teacher],
    source: Source,
    device: torch.device,
    *,
    reference: str | None = None,
    timed: bool = True,
    strict: bool = False,
    train: Source | None = None,
) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """Measure models on a source.

    Args:
        models: by name. Of a teacher that is no single model, only the answers are measured; what a cached one costs was noted with it.
        source: the samples.
        device: where to compute.
        reference: name of the model that the others may agree with.
        timed: count and time the models' passes, too.
        strict: refuse answers that cannot be measured.
        train: what the probes of encoders are fitted to.

    Returns:
        What each says (`Predictions`; of language data `Told`, of encoders `Embedded`), and by name `model` and what `measure`
        (`measure_tokens`, `measure_encoder`), `size_of` and `costs` give.

    Raises:
        BadInput: encoders beside models with a head. Or `strict`, and a model gives NaN or infinite logits, or none for a label that
            occurs.
    """
    shown: dict[str, Any] = {}
    numbers: dict[str, dict[str, Any]]
    language = is_language(source)
    if language:
        shown = dict(told(models, source, reference=reference, device=device))
        numbers = {name: dict(measure_tokens(each)) for name, each in shown.items()}
        for name in (name for name, each in numbers.items() if strict and not math.isfinite(each["nll"])):
            raise BadInput(f"{name} gives NaN or infinite logits for {source.name}; it cannot be measured")
    elif any(isinstance(each, Model) and each.encodes for each in models.values()):
        shown, numbers = _encoded(models, source, device, reference, train)
    else:
        for name, each in models.items():
            shown[name] = predict(each, source, device=device)
            if strict:
                _check(shown[name], name, source)
        compared = shown[reference] if reference else None
        numbers = {name: dict(measure(each, compared)) for name, each in shown.items()}
    single = {name: each for name, each in models.items() if isinstance(each, Model)}
    cost = costs(single, source, device=device, batches=WORDS if language else BATCHES) if timed else {}
    for name, model in single.items():
        numbers[name] = {"model": model.spec or model.name, **numbers[name], **size_of(model.module), **cost.get(name, {})}
    for name, each in models.items():
        if isinstance(each, Cached):
            numbers[name] = {**counted_before(each), **numbers[name]}
    return shown, numbers


def _encoded(
    models: Mapping[str, Model | Teacher], source: Source, device: torch.device, reference: str | None, train: Source | None
) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    single = {name: each for name, each in models.items() if isinstance(each, Model) and each.encodes}
    other = next((name for name in models if name not in single), None)
    if other is not None:
        encoder = next(iter(single))
        raise BadInput(f"{other} is no encoder, but {encoder} is; only encoders are measured together (hf:FOLDER:encoder=true)")
    shown = {name: embed(each, source, device=device) for name, each in single.items()}
    bad = next((name for name, each in shown.items() if not each.vectors.isfinite().all()), None)
    if bad is not None:
        raise BadInput(f"{bad} gives NaN or infinite embeddings for {source.name}; it cannot be measured")
    studied: dict[str, Embedded] = {}
    if train is not None and train is not source and train.labelled and next(iter(shown.values())).others is None:
        chosen = torch.arange(len(train))
        if len(train) > PROBED:
            chosen = torch.randperm(len(train), generator=generator("probed", 0))[:PROBED].sort().values
        some = train.rows(chosen, train.name)
        studied = {name: embed(each, some, device=device) for name, each in single.items()}
    its = shown[reference] if reference else None
    return shown, {name: dict(measure_encoder(each, studied.get(name), its if name != reference else None)) for name, each in shown.items()}


def _check(said: Predictions, name: str, source: Source) -> None:
    bad = int((~said.logits.isfinite()).flatten(1).any(1).sum())
    if bad:
        raise BadInput(f"{name} gives NaN or infinite logits for {bad} of {len(source)} samples of {source.name}; it cannot be measured")
    hard, given = said.hard(), said.logits.shape[-1]
    largest = -1 if hard is None else int(hard.max())
    if largest >= given:
        raise BadInput(f"{name} gives {given} logits, but {source.name} has the label {largest}, counted from 0; it must know all classes")


def by_class(shown: Mapping[str, Predictions], names: Sequence[str]) -> list[dict[str, Any]] | None:
    """For each class its name as `class`, its `samples`, and each model's recall; None where there are no classes or no rows of logits."""
    hard = next(iter(shown.values())).hard()
    if hard is None or not names or any(each.logits.ndim != 2 for each in shown.values()):
        return None
    found = {name: recalls(each, len(names)) for name, each in shown.items()}
    counts = class_counts(hard, len(names)) or []
    return [{"class": names[i], "samples": counts[i], **{name: each[i] for name, each in found.items()}} for i in range(len(names))]


def _members(ensemble: Teacher, also: Mapping[str, Any]) -> dict[str, Any]:
    """What an ensemble is made of, by the names under which its members are kept; empty where it is made of other things."""
    names = {id(thing): name for name, thing in also.items()}
    members = [names.get(id(model)) for model in ensemble.models()]
    return {"members": members, "mean": ensemble.mean} if isinstance(ensemble, Ensemble) and None not in members else {}


def _kept(shown: Mapping[str, Predictions], seed: int) -> dict[str, Tensor]:
    """The predictions of at most so many samples, drawn where there are more, in their order."""
    samples = len(shown["student"].logits)
    width = sum(each.logits.shape[1] for each in shown.values())
    most = max(1, min(KEPT, KEPT_NUMBERS // width))
    chosen = torch.arange(samples)
    if samples > most:
        chosen = torch.randperm(samples, generator=generator("kept-predictions", seed))[:most].sort().values
    hard, ids = shown["student"].hard(), shown["student"].ids
    kept = {} if ids is None else {"id": ids[chosen]}
    kept |= {} if hard is None else {"labels": hard[chosen]}
    return kept | {f"logits.{name}": each.logits[chosen].float().contiguous() for name, each in shown.items()}


def splits_of(data: Data, classes: int, language: bool) -> dict[str, dict[str, Any]]:
    """Of each split its `samples` and the `counts` of its classes, None without labels; of language the `tokens` to predict."""
    found: dict[str, dict[str, Any]] = {}
    for name, source in (("train", data.train), ("validation", data.validation), ("test", data.test)):
        if source is not None:
            if language:
                found[name] = {"samples": len(source), "counts": None, "tokens": tokens_of(source)}
            else:
                labels = source.labels()
                found[name] = {"samples": len(source), "counts": None if labels is None else class_counts(labels, classes)}
    return found


def class_names(data: Data) -> list[str]:
    """The classes by name, else by number; empty without labels, and of language."""
    if is_language(data.train):
        return []
    return [str(name) for name in data.classes] or [str(number) for number in range(data.class_count() or 0)]


def last_split(data: Data) -> tuple[str, Source]:
    """The split that nothing was chosen on, or what comes nearest to it, with its name."""
    if data.test is not None:
        return "test", data.test
    return ("validation", data.validation) if data.validation is not None else ("train", data.train)
