"""The report of a run as one HTML file that opens offline: a function of what the run folder holds.

Nothing that comes from the user's data or from a run folder is trusted: the template escapes all text, pictures are only taken as data, and
the paper's address only as a web address. The figures are in `plots`, the words in `wording`, the looks in `page.html.jinja`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import partial
from importlib.resources import files
from typing import Any

from tutelage.evaluation import sections, wording
from tutelage.evaluation.contents import Contents, looks_of
from tutelage.evaluation.contrast import confused, gallery_entry

METRICS = (
    ("model", "Model", "", lambda spec: re.sub(r"(?<=[,:/])", "\u200b", spec)),  # where it may be broken
    ("accuracy", "Accuracy", "higher is better", wording.percent),
    ("macro_f1", "Macro F1", "mean over classes, higher is better", wording.percent),
    ("nll", "Nats a sample", "negative log-likelihood, lower is better", "{:.3f}".format),
    ("ece", "Calibration error", "expected, 15 bins, lower is better", partial(wording.percent, digits=1)),
    ("agreement", "Agrees with the teacher", "same choice", wording.percent),
    ("parameters", "Parameters", "", "{:,}".format),
    ("bytes", "Memory", "parameters and buffers", wording.size),
    ("flops", "Operations", "floating-point, one sample", wording.quantity),
    ("batch_1", "Time of one sample", "median (95th percentile)", None),
    ("batch_64", "Time of a batch of 64", "median (95th percentile)", None),
    ("throughput", "Samples a second", "in batches of 64", wording.quantity),
    ("updates", "Updates in training", "", "{:,}".format),
)


def render(contents: Contents) -> str:
    """Make the page.

    Args:
        contents: what the run folder holds.

    Returns:
        HTML that needs no other file.
    """
    from jinja2 import Environment, StrictUndefined

    report = contents.report
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["unbroken"] = unbroken
    template = environment.from_string(files("tutelage.evaluation").joinpath("page.html.jinja").read_text(encoding="utf-8"))
    looks, first = looks_of(report), wording.teacher_of(report)
    return template.render(
        report=report,
        looks=looks,
        headline=wording.headline(report),
        gain=wording.gain(report),
        busy=wording.busy(report),
        savings=wording.savings(report),
        table=side_by_side(report),
        cost=sections.cost(report, looks),
        learning=sections.learning(contents, looks),
        stages=sections.stages(contents.journals.get("student", ())),
        calibration=sections.calibration(contents, looks),
        changes=sections.class_changes(report, looks),
        confused=confused(contents, looks),
        disagreements=[gallery_entry(each, contents, looks) for each in contents.disagreements],
        against=f"the {looks[first].name}" if first else "the labels",
        data=sections.data_of(report),
        paper=_paper(report.get("paper")),
        settings=sorted(_flat(contents.config)),
        versions=contents.environment.get("versions", {}),
        environment=contents.environment,
        from_python=any(isinstance(v, str) and v.startswith("<") for v in contents.config.values()),
        drawn=_drawn(report),
    )


def side_by_side(report: Mapping[str, Any]) -> list[tuple[str, str, list[str]]]:
    """The rows of the main table: metric, what it means, a cell for each model."""
    rows = []
    for key, title, hint, form in METRICS:
        cells = []
        for name in report["models"]:
            numbers = report[name]
            if form is not None:
                cells.append("" if numbers.get(key) is None else form(numbers[key]))
            else:
                time = wording.latency(numbers, key)
                cells.append("" if time is None else f"{_ms(time['median'])} ({_ms(time['p95'])})")
        if any(cells):
            rows.append((title, hint, cells))
    return rows


def _drawn(report: Mapping[str, Any]) -> str:
    kept = report.get("kept")
    if not kept or kept["samples"] == kept["of"]:
        return ""
    return f"Made from {kept['samples']:,} of the {kept['of']:,} samples, drawn by the run's seed."


def _paper(paper: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if not isinstance(paper, dict):
        return None
    url = str(paper.get("url") or "")
    return {**paper, "url": url if url.startswith(("https://", "http://")) else ""}


def _flat(settings: Mapping[str, Any], before: str = "") -> list[tuple[str, str]]:
    found = []
    for key, value in settings.items():
        name = f"{before}{key}".replace("_", "-")
        found += (
            _flat(value, f"{name}.")
            if isinstance(value, Mapping)
            else [(name, str(value) if isinstance(value, str) else json.dumps(value))]
        )
    return found


def unbroken(text: str) -> str:
    """Text in which numbers stay with their units, and minus signs are minus signs."""
    text = re.sub(r"(?<=\d) (?=(?:%|[kMGT]?B|[kMGT]|ms|times|million|billion|trillion)(?:\W|$))", "\u00a0", text)
    return re.sub(r"(?<![\w.\-])-(?=\d)", "\u2212", text)


def _ms(milliseconds: float) -> str:
    return f"{milliseconds:.3g} ms"
