"""What a report page is made of: what the run folder holds, the looks of the models, and pictures that fit into a page."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tutelage.evaluation import plots, wording
from tutelage.evaluation.classification import Predictions
from tutelage.evaluation.plots import Look

if TYPE_CHECKING:
    from markupsafe import Markup

SPARE = ((plots.PURPLE, "D", "-."), (plots.SKY, "v", ":"), (plots.VERMILION, "P", "-."), (plots.INK, "X", ":"))
"""Colour, marker and dashes of models that have none of their own."""


@dataclass(frozen=True)
class Contents:
    """What a page is made of.

    Args:
        report: report.json.
        predictions: of each model by name; empty where a model does not give one row of logits a sample.
        disagreements: the most confident ones.
        journals: the lines of metrics.jsonl by what was trained: teachers, "alone", "student".
        config: config.yaml.
        environment: environment.json.
    """

    report: Mapping[str, Any]
    predictions: Mapping[str, Predictions] = field(default_factory=dict)
    disagreements: Sequence[Mapping[str, Any]] = ()
    journals: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)
    environment: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Picture:
    """A figure on the page.

    Args:
        svg: its drawing.
        label: what it shows, for those who cannot see it.
        caption: what it says below.
        kind: "plain" or "small".
        width: in the figure's own inches.
    """

    svg: Markup
    label: str
    caption: str
    kind: str = "plain"
    width: float = plots.WIDTH


def looks_of(report: Mapping[str, Any]) -> dict[str, Look]:
    """How each model is called and drawn: the first teacher, the student alone and the taught one always alike."""
    first, others = wording.teacher_of(report), 0
    found = {}
    for name in report["models"]:
        if name == "alone":
            found[name] = Look("student alone", plots.ORANGE, "^", "--")
        elif name == "student":
            found[name] = Look("student taught" if "alone" in report["models"] else "student", plots.GREEN, "o", "-")
        elif name == first:
            found[name] = Look(name.replace("_", " "), plots.BLUE, "s", "-")
        else:
            found[name] = spare_look(name, others)
            others += 1
    return found


def spare_look(name: str, number: int = 0) -> Look:
    """The look of a model besides the three."""
    return Look(name.replace("_", " "), *SPARE[number % len(SPARE)])


def class_names(contents: Contents) -> list[str]:
    """The classes by name, and those that only models know by number."""
    widest = max([each.logits.shape[1] for each in contents.predictions.values()], default=0)
    names = [str(name) for name in contents.report["classes"]]
    return names + [str(number) for number in range(len(names), widest)]


def picture(name: str, svg: str, label: str, caption: str, kind: str = "plain") -> Picture:
    """Make a drawing fit into a page.

    Args:
        name: unique on the page; of our own, since it is written into the drawing as it stands.
        svg: as `plots` gives it.
        label: what it shows, for those who cannot see it.
        caption: what it says below.
        kind: see `Picture`.
    """
    from markupsafe import Markup, escape

    points = re.search(r'viewBox="0 0 ([\d.]+)', svg)
    # ids are unique in a drawing; on a page there are several. Only in tags: a class may be called id="x"
    svg = re.sub(r"<[^>]*>", lambda tag: re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{name}-", tag[0]), svg)
    svg = svg.replace("<svg", f'<svg role="img" aria-label="{escape(label)}"', 1)
    width = float(points.group(1)) / 72 if points else plots.WIDTH
    return Picture(Markup(svg), label, caption, kind, width)  # drawn by us; matplotlib escapes what it is given
