"""What a report says in words: what was kept, what was saved, what the teaching was worth. Takes report.json as a mapping."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from tutelage.evaluation import encoder_wording as encoders
from tutelage.evaluation import generator_wording as images
from tutelage.evaluation import language_wording as words

SAME = 1.05
"""Ratios of costs below this one are told as no difference."""
STEADY = 2.0
"""A median time above so many times the least one was taken on a busy processor, and is compared with nothing."""

FIGURES = (
    ("accuracy", "accuracy", "{:.2%}"),
    ("robust_accuracy", "under attack", "{:.2%}"),
    ("weighted_robust_accuracy", "mean of both", "{:.2%}"),
    ("macro_f1", "macro F1", "{:.2%}"),
    ("nll", "nats a sample", "{:.3f}"),
    ("ece", "calibration error", "{:.3f}"),
    ("agreement", "agrees with teacher", "{:.2%}"),
    *encoders.FIGURES,
    ("parameters", "parameters", "{:,}"),
    ("bytes", "bytes", "{:,}"),
)
"""What a table shows of each model: the key in report.json, what it is called, and its form."""


def figures_of(report: Mapping[str, Any]) -> tuple[tuple[str, str, str], ...]:
    """What a table shows of each model of a report: keys, what they are called, and their forms."""
    if images.of_generators(report):
        return images.FIGURES
    return words.FIGURES if words.of_language(report) else FIGURES


def headline(report: Mapping[str, Any]) -> str:
    """What was kept and what was saved, in one sentence.

    Args:
        report: the content of report.json.
    """
    if images.of_generators(report):
        return images.headline(report)
    student = report["student"]
    name = teacher_of(report)
    teacher = report[name] if name else {}
    who = f"the {name.replace('_', ' ')}" if name else ""
    judged = f"of {report['samples']:,} {report['split']} samples"
    if words.of_language(report):
        said = words.kept(student, teacher or None, who, report)
    elif encoders.of_encoders(report):
        said = encoders.kept(student, teacher, who, report)
    elif "accuracy" in student and "accuracy" in teacher:
        said = _kept(student["accuracy"], teacher["accuracy"], who)
    elif "agreement" in student and name:
        said = f"The student agrees with {who} on {percent(student['agreement'])} {judged}"
    elif "accuracy" in student:
        return f"The student is right on {percent(student['accuracy'])} {judged}; {_absolute(student)}."
    else:
        return f"The student was trained, but there are neither labels nor a teacher to judge it by; {_absolute(student)}."
    if "parameters" not in teacher:  # a teacher that is not there, of which nobody noted what it costs
        return f"{said}; {_absolute(student)}."
    size, smaller = _size(student, teacher)
    speed, faster = _speed(student, teacher)
    joined = ", but with" if smaller < 0 and _as_good(student, teacher) else " with"
    if not speed:
        return f"{said}{joined} {size}."
    return f"{said}{joined} {size} {'but' if smaller * faster < 0 else 'and'} {speed}."


def teacher_of(report: Mapping[str, Any]) -> str | None:
    """The key of the teacher that the student is compared with, the first one; None where nobody taught."""
    return next(iter(report["teachers"]), None)


def busy(report: Mapping[str, Any]) -> str:
    """A sentence where times cannot be compared, else nothing."""
    if all(steady(report[name], batch) for name in report["models"] for batch in ("batch_1", many(report))):
        return ""
    return "Not all times are compared: the processor was busy with something else while they were measured."


def gain(report: Mapping[str, Any]) -> str:
    """What teaching was worth against training alone, with its interval and what the interval does not know; or why it is not known."""
    if images.of_generators(report):
        return images.gain(report)
    gap = report.get("taught_minus_alone")
    if report["recipe"] == "alone":
        return f"This was training on {'the text' if words.of_language(report) else 'labels'} alone, without a teacher."
    if gap is None:
        return f"What the teaching was worth is not known: {_why_not_alone(report)}."
    seeds = "This is one run with one seed; another seed may tell otherwise."
    if words.of_language(report):
        return f"{words.gained(gap, report)}. {seeds}"
    points, low, high = (gap[k] * 100 for k in ("accuracy", "low", "high"))
    interval = f"95 % interval over these {report['samples']:,} samples: {low:+.2f} to {high:+.2f}"
    if low == high == 0 or gap.get("only_first") == gap.get("only_second") == 0:
        said = f"Teaching made no difference to training alone: both are right on the same of these {report['samples']:,} samples"
    elif low <= 0 <= high:
        said = f"Teaching and training alone cannot be told apart: {points:+.2f} points of accuracy for teaching ({interval})"
    elif points > 0:
        said = f"Teaching gained {points:.2f} points of accuracy over training alone ({interval})"
    else:
        said = f"Teaching cost {-points:.2f} points of accuracy against training alone ({interval})"
    return f"{said}. {seeds}"


def _why_not_alone(report: Mapping[str, Any]) -> str:
    if encoders.of_encoders(report):
        return "an encoder without a head has no task that it could be trained on alone"
    if "alone" in report["models"]:
        return f"there are no labels among the {report['split']} samples to compare the two by"
    if report["splits"]["train"]["counts"] is None and not words.of_language(report):
        return "without labels, the student cannot be trained alone"
    return "no baseline was asked for"


def verdict(comparison: Mapping[str, Any], several: int) -> str:
    """Which of two models is right more often, in one sentence.

    Args:
        comparison: as `comparison.judged` gives it.
        several: how many comparisons were made, which its p-value was raised for.
    """
    first, second, gap = comparison["first"], comparison["second"], comparison["accuracy"]
    points, low, high = (gap[k] * 100 for k in ("difference", "low", "high"))
    often = "as often as" if points == 0 else f"{abs(points):.2f} points {'more' if points > 0 else 'less'} often than"
    alone = f"only {first} on {comparison['only_first']:,} samples, only {second} on {comparison['only_second']:,}"
    raised = f", raised by Holm's method for {several} comparisons" if several > 1 else ""
    chance = f"McNemar's exact p = {comparison['p_holm']:.2g}{raised}"
    end = "no difference seen" if comparison["better"] is None else f"{comparison[comparison['better']]} is better"
    return f"{first} is right {often} {second} (95 % interval {low:+.2f} to {high:+.2f}; {alone}; {chance}): {end}."


def other_differences(comparison: Mapping[str, Any]) -> str:
    """The differences of two models in macro F1, nats and calibration error, with their intervals, in one line."""
    found = []
    for key, name, factor, form in (
        ("macro_f1", "macro F1", 100, "+.2f"),
        ("nll", "nats a sample", 1, "+.3f"),
        ("ece", "calibration error", 1, "+.3f"),
    ):
        value, low, high = (format(comparison[key][k] * factor, form) for k in ("difference", "low", "high"))
        found.append(f"{name} {value}{' points' if factor == 100 else ''} ({low} to {high})")
    return f"{comparison['first']} less {comparison['second']}: {', '.join(found)}"


def savings(report: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Memory, operations and throughput: a figure and what it says, as far as they are known."""
    if images.of_generators(report):
        return images.savings(report)
    student = report["student"]
    name = teacher_of(report)
    teacher = report[name] if name else None
    batch = many(report)
    batches = f" in batches of {batch.removeprefix('batch_')}"
    units = (
        ("bytes", "memory", "", size),
        ("flops", "operations a sample", "", quantity),
        ("tokens_a_second", "tokens read a second", batches, quantity)
        if words.of_language(report)
        else ("throughput", "samples a second", batches, quantity),
    )
    found = []
    for key, what, where, form in units:
        ours = student.get(key)
        if ours is None:
            continue
        theirs = teacher.get(key) if teacher else None
        if where and not all(steady(each, batch) for each in (student, teacher) if each):
            continue
        if not theirs or not ours:
            found.append((form(ours), what + where))
            continue
        ratio = max(ours / theirs, theirs / ours)
        if ratio < SAME:
            found.append((form(ours), f"as {'much' if key == 'bytes' else 'many'} {what}{where} as the teacher"))
            continue
        more = "more" if ours > theirs else "less" if key == "bytes" else "fewer"
        found.append((f"{times(ratio)} times", f"{more} {what}{where}: {form(ours)} instead of {form(theirs)}"))
    return found


def _kept(ours: float, theirs: float, who: str) -> str:
    if ours == theirs:
        return f"The student matches {who}'s accuracy ({percent(ours)})"
    against = f"({percent(ours)} against {percent(theirs)})"
    if ours > theirs:
        return f"The student beats {who}'s accuracy {against}"
    kept = math.floor(ours / theirs * 1000) / 10  # rounded down, so that 100 % is never claimed for less
    return f"The student keeps {kept:.1f} % of {who}'s accuracy {against}"


def _size(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> tuple[str, int]:
    ratio = theirs["parameters"] / max(ours["parameters"], 1)
    if 1 / SAME < ratio < SAME:
        return "as many parameters", 0
    if ratio >= SAME:
        return f"{times(ratio)} times fewer parameters", 1
    return f"{times(1 / max(ratio, 1e-12))} times as many parameters", -1


def _speed(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> tuple[str, int]:
    first, second = (latency(each, "batch_1") for each in (ours, theirs))
    if first is None or second is None or not (steady(ours, "batch_1") and steady(theirs, "batch_1")):
        return "", 0
    ratio = second["median"] / first["median"]
    if 1 / SAME < ratio < SAME:
        return "answers just as fast (batch 1)", 0
    if ratio >= SAME:
        return f"answers {times(ratio)} times faster (batch 1)", 1
    return f"answers {times(1 / ratio)} times slower (batch 1)", -1


def _as_good(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> bool:
    if "perplexity" in ours:
        return bool(ours["perplexity"] <= theirs.get("perplexity", 0.0))
    return bool(ours.get("accuracy", 0.0) >= theirs.get("accuracy", 1.0))


def _absolute(numbers: Mapping[str, Any]) -> str:
    found = latency(numbers, "batch_1")
    answers = f" and answers in {found['median']:.3g} ms (batch 1)" if found and steady(numbers, "batch_1") else ""
    return f"it has {numbers['parameters']:,} parameters{answers}"


def latency(numbers: Mapping[str, Any], batch: str) -> Mapping[str, float] | None:
    """A model's `median`, `p95` and `least` at "batch_1" or at the larger batch; None where they were not measured."""
    return (numbers.get("latency_ms") or {}).get(batch)


def many(report: Mapping[str, Any]) -> str:
    """The larger batch that was timed: "batch_64", or of language "batch_8"."""
    return next((list(times)[-1] for name in report["models"] if (times := report[name].get("latency_ms"))), "batch_64")


def steady(numbers: Mapping[str, Any], batch: str) -> bool:
    """Whether a model's time can be compared with another's: an unmeasured one counts as steady."""
    found = latency(numbers, batch)
    return found is None or found["median"] <= STEADY * found["least"]


def percent(share: float, digits: int = 2) -> str:
    """A share as "96.83 %"."""
    return f"{share * 100:.{digits}f} %"


def times(ratio: float) -> str:
    """A ratio with three figures at most: 6.1, 55.7, 1,204."""
    return f"{ratio:,.0f}" if ratio >= 100 else f"{ratio:.1f}"


def quantity(number: float) -> str:
    """A count in words, three figures exact: 512; 50,800; 2.99 million."""
    return _three_figures(number, ((1e12, " trillion"), (1e9, " billion"), (1e6, " million"), (1.0, "")))


def size(number: float) -> str:
    """A number of bytes: 512 B, 4.95 kB, 86.6 MB."""
    return _three_figures(number, ((1e12, " TB"), (1e9, " GB"), (1e6, " MB"), (1e3, " kB"), (1.0, " B")))


def short(number: float) -> str:
    """A number beside an axis: 0.15, 50 k, 3 M."""
    return _three_figures(number, ((1e12, " T"), (1e9, " G"), (1e6, " M"), (1e3, " k"), (1.0, ""))) if number >= 1 else f"{number:.3g}"


def _three_figures(number: float, units: tuple[tuple[float, str], ...]) -> str:
    rounded = float(f"{number:.3g}")
    one, unit = next((each for each in units if rounded >= each[0]), units[-1])
    scaled = rounded / one
    return (f"{scaled:,.0f}" if scaled >= 100 else f"{scaled:.3g}") + unit
