"""The report of a generator as one HTML file that opens offline: a function of what the run folder holds.

Nothing in it is trusted: see `template`; grids of images are only taken as PNG data. What stands where is in `generator.html.jinja`.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

from tutelage.evaluation import generator_plots, sections, wording
from tutelage.evaluation import generator_wording as words
from tutelage.evaluation.contents import Contents, looks_of, picture
from tutelage.evaluation.template import breakable, cited, filled, flat

PNG = b"\x89PNG\r\n\x1a\n"
METRICS = (
    ("model", "Model", "", breakable),
    ("evaluations", "Evaluations", "of the net for an image, lower is cheaper", "{:,}".format),
    ("frechet", "Frechet distance", "from real images, lower is better", "{:.3g}".format),
    ("kernel", "Kernel distance", "from real images, lower is better", "{:.3g}".format),
    ("precision", "Precision", "generated images that look real", wording.percent),
    ("recall", "Recall", "real images that could have been generated", wording.percent),
    ("class_accuracy", "Of its class", "images that the judge takes for what was asked", wording.percent),
    ("ms_image", "Time of an image", "drawn alone, median", lambda ms: f"{ms:.3g} ms"),
    ("parameters", "Parameters", "", "{:,}".format),
    ("bytes", "Memory", "parameters and buffers", wording.size),
    ("flops", "Operations", "floating-point, one evaluation", wording.quantity),
    ("updates", "Updates in training", "", "{:,}".format),
)


def render(contents: Contents, grids: Mapping[str, bytes]) -> str:
    """Make the page.

    Args:
        contents: what the run folder holds.
        grids: PNG files by model, and of "real" images.

    Returns:
        HTML that needs no other file.
    """
    report = contents.report
    looks = looks_of(report)
    floor = (report.get("floor") or {}).get("frechet")
    return filled(
        "generator.html.jinja",
        report=report,
        looks=looks,
        headline=words.headline(report),
        gain=words.gain(report),
        savings=words.savings(report),
        table=[
            (title, hint, cells)
            for key, title, hint, form in METRICS
            if any(cells := ["" if report[name].get(key) is None else form(report[name][key]) for name in report["models"]])
        ],
        floor=floor,
        ladder=[_ladder(report, looks, floor)],
        grids=[(looks[n].name if n in looks else "real images", _data(grids[n])) for n in (*report["models"], "real") if n in grids],
        stages=sections.stages(contents.journals.get("student", ())),
        paper=cited(report.get("paper")),
        settings=sorted(flat(contents.config)),
        versions=contents.environment.get("versions", {}),
        environment=contents.environment,
    )


def _ladder(report: Mapping[str, Any], looks: Mapping[str, Any], floor: float | None) -> Any:
    lines, own = {}, {}
    for name in report["models"]:
        lines[name] = (looks[name], [(int(row["evaluations"]), float(row["frechet"])) for row in report[name]["ladder"]])
        sampler = report[name]["sampler"]
        own[name] = len(sampler["times"]) if sampler["how"] in ("generator", "consistency") else int(sampler["steps"])
    said = "; ".join(f"{look.name}: " + ", ".join(f"{v:.3g} at {n}" for n, v in points) for look, points in lines.values())
    dashed = "; dashed: other real images" if floor is not None else ""
    return picture(
        "ladder",
        generator_plots.over_evaluations(lines, own, floor),
        f"Frechet distance over evaluations: {said}",
        f"Down is better, left is cheaper. Large marks: as the model is used{dashed}.",
    )


def _data(content: bytes) -> str:
    """A PNG as an address; nothing for other files."""
    return f"data:image/png;base64,{base64.b64encode(content).decode()}" if content.startswith(PNG) else ""
