"""What a report on generators says in words: how near the images are to real ones, and in how few evaluations. Takes report.json."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

FIGURES = (
    ("evaluations", "evaluations", "{:,}"),
    ("frechet", "Frechet distance", "{:.3g}"),
    ("kernel", "kernel distance", "{:.3g}"),
    ("precision", "precision", "{:.1%}"),
    ("recall", "recall", "{:.1%}"),
    ("class_accuracy", "of its class", "{:.1%}"),
    ("ms_image", "ms an image", "{:.3g}"),
    ("parameters", "parameters", "{:,}"),
)
"""What a table shows of each model: the key in report.json, what it is called, and its form."""


def of_generators(report: Mapping[str, Any]) -> bool:
    """Whether a report is on models that draw images."""
    return report.get("kind") == "generator"


def headline(report: Mapping[str, Any]) -> str:
    """What the student does in how few evaluations, in one sentence."""
    student, teacher = report["student"], _teacher(report)
    if teacher is None:
        return (
            f"The model draws images at a Frechet distance of {student['frechet']:.3g} from real ones in "
            f"{_evaluations(student['evaluations'])}{_floor(report)}."
        )
    said = (
        f"The student draws images in {_evaluations(student['evaluations'])} at a Frechet distance of {student['frechet']:.3g} from real "
        f"ones, the teacher in {teacher['evaluations']:,} at {teacher['frechet']:.3g}"
    )
    faster = _faster(student, teacher)
    return f"{said}{f'; {faster}' if faster else ''}."


def gain(report: Mapping[str, Any]) -> str:
    """What teaching was worth: against the teacher with as few evaluations."""
    student, teacher = report["student"], _teacher(report)
    if teacher is None:
        return "This was training on images, without a teacher."
    passes = student["evaluations"]
    few = next((row["frechet"] for row in teacher["ladder"] if row["evaluations"] == passes), None)
    seeds = "This is one run with one seed; another seed may tell otherwise."
    if few is None:
        return seeds
    return f"In {_evaluations(passes)} the teacher itself comes to {few:.3g}, the student to {student['frechet']:.3g}. {seeds}"


def savings(report: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Evaluations and time: a figure and what it says."""
    student, teacher = report["student"], _teacher(report)
    if teacher is None:
        return [(f"{student['ms_image']:.3g} ms", "an image, drawn alone")]
    found = []
    if teacher["evaluations"] > student["evaluations"]:
        times = teacher["evaluations"] / student["evaluations"]
        found.append((f"{times:.3g} times", f"fewer evaluations: {student['evaluations']:,} instead of {teacher['evaluations']:,}"))
    speed = teacher["ms_image"] / student["ms_image"]
    if speed > 1:
        found.append((f"{speed:.3g} times", f"less time for an image: {student['ms_image']:.3g} instead of {teacher['ms_image']:.3g} ms"))
    return found


def _teacher(report: Mapping[str, Any]) -> Mapping[str, Any] | None:
    name = next(iter(report["teachers"]), None)
    return report[name] if name else None


def _evaluations(count: int) -> str:
    return "one evaluation" if count == 1 else f"{count:,} evaluations"


def _floor(report: Mapping[str, Any]) -> str:
    floor = report.get("floor")
    return f"; other real images are at {floor['frechet']:.3g}" if floor else ""


def _faster(student: Mapping[str, Any], teacher: Mapping[str, Any]) -> str:
    ratio = teacher["ms_image"] / student["ms_image"]
    return f"an image takes it {ratio:.3g} times less time" if ratio > 1.05 else ""
