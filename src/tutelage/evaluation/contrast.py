"""The sections of a report in which the student meets its teacher, or without one the labels: confusions and single samples."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from tutelage.evaluation import plots, wording
from tutelage.evaluation.classification import NO_LABEL, confusion
from tutelage.evaluation.contents import Contents, class_names, picture
from tutelage.evaluation.plots import Look

MOST_CLASSES = 20
"""Of a heat map; the rest is pooled."""


def confused(contents: Contents, looks: Mapping[str, Look]) -> dict[str, Any] | None:
    """Which classes the student chooses where the teacher, or without one the label, says another; None where neither is known."""
    if not contents.predictions:
        return None
    student, teacher = contents.predictions["student"], wording.teacher_of(contents.report)
    hard = student.hard()
    said = contents.predictions[teacher].choices() if teacher else hard
    if said is None:
        return None
    names, title = class_names(contents), looks[teacher].name if teacher else "label"
    counts, kept = _pooled(said, student.choices(), len(names))
    labels = [names[i] for i in kept] + (["all others"] if len(kept) < len(names) else [])
    pooled = f" The {len(kept)} most frequent of {len(names)} classes; the rest is pooled." if len(kept) < len(names) else ""
    pairs = [(names[a], names[b], *numbers) for a, b, *numbers in _pairs(said, student.choices(), hard if teacher else None, len(names))]
    most = "; ".join(f"{a} and {b}: {n}" for a, b, n, *_ in pairs[:3]) or "none"
    drawn = picture(
        "confusion",
        plots.heat_map(counts, labels, f"{title} says", "student chooses", pooled=bool(pooled)),
        f"Choices of the student by those of the {title}; most often confused: {most}",
        f"Rows: what the {title} says. Columns: what the student chooses. The darker, the more samples on which they differ; the diagonal, "
        f"where they agree, is left uncoloured.{pooled}",
    )
    return {"picture": drawn, "pairs": pairs, "title": title, "judged": teacher is not None and hard is not None}


def _pooled(said: Tensor, chosen: Tensor, classes: int) -> tuple[list[list[int]], list[int]]:
    """Counts of both choices over the most frequent classes, the others as one; and which classes these are."""
    known = said != NO_LABEL
    said, chosen = said[known], chosen[known]
    often = torch.bincount(said, minlength=classes) + torch.bincount(chosen, minlength=classes)
    kept = often.argsort(descending=True, stable=True)[:MOST_CLASSES].sort().values
    place = torch.full((classes,), len(kept))
    place[kept] = torch.arange(len(kept))
    size = len(kept) + (len(kept) < classes)
    return confusion(place[said], place[chosen], size).tolist(), kept.tolist()


def _pairs(said: Tensor, chosen: Tensor, hard: Tensor | None, classes: int) -> list[tuple[int, int, int, int, int]]:
    """The pairs of classes that are confused most often: both, how often, how often the student and the other were right."""
    differs = (said != chosen) & (said != NO_LABEL)
    codes, counts = torch.unique(said[differs] * classes + chosen[differs], return_counts=True)
    found = []
    for at in counts.argsort(descending=True, stable=True)[:10].tolist():
        first, second = divmod(int(codes[at]), classes)
        here = (said == first) & (chosen == second)
        ours, theirs = (0 if hard is None else int((here & (hard == each)).sum()) for each in (second, first))
        found.append((first, second, int(counts[at]), ours, theirs))
    return found


def gallery_entry(entry: Mapping[str, Any], contents: Contents, looks: Mapping[str, Look]) -> dict[str, Any]:
    """A disagreement as the template shows it."""
    names = class_names(contents)
    label = entry.get("label")
    sample = dict(entry["sample"])
    if sample.get("kind") == "image" and not str(sample.get("png")).startswith("data:image/png;base64,"):
        sample = {"kind": "none", "why": "its picture is damaged"}
    if sample.get("kind") == "numbers":
        sample["values"] = [f"{value:.4g}" for value in sample["values"]]
    said = [
        {
            "name": looks[name].name,
            "choice": names[each["choice"]],
            "confidence": wording.percent(each["confidence"], 1),
            "right": None if label is None else each["choice"] == label,
        }
        for name, each in entry["models"].items()
    ]
    return {"id": entry.get("id"), "label": None if label is None else names[label], "said": said, "sample": sample}
