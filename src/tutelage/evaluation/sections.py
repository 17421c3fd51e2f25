"""The sections of a report in which models are drawn: quality and cost, learning, terms, calibration, classes, data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tutelage.evaluation import plots, wording
from tutelage.evaluation.classification import reliability
from tutelage.evaluation.contents import Contents, Picture, picture, spare_look
from tutelage.evaluation.language_wording import of_language
from tutelage.evaluation.plots import Look

FEW = 24
"""Classes in a figure; of more, the most changed are shown."""
MOST_ROWS = 200
"""Classes in a table; a page is no place for a thousand rows."""
Line = tuple[list[float], list[float]]
"""Updates, and a value at each."""


def cost(report: Mapping[str, Any], looks: Mapping[str, Look]) -> list[Picture]:
    """Quality over parameters, operations and latency."""
    lower = of_language(report)
    if lower:
        key, quality = "nll", "nats a token"
    else:
        choices = (("accuracy", "accuracy, %"), ("probe_accuracy", "accuracy under a linear probe, %"))
        key, quality = next((c for c in choices if c[0] in report["student"]), ("agreement", "agreement with the teacher, %"))
    costs = (
        ("parameters", "parameters", lambda n: n.get("parameters")),
        ("operations", "operations a sample", lambda n: n.get("flops")),
        ("latency", "ms for one sample, median", lambda n: (wording.latency(n, "batch_1") or {}).get("median")),
    )
    pictures = []
    for what, axis, read in costs:
        found = [(name, read(report[name]), report[name].get(key)) for name in report["models"]]
        timed = what != "latency" or all(wording.steady(report[name], "batch_1") for name in report["models"])
        points = [(looks[name], x, y) for name, x, y in found if x and y is not None and timed]
        if len(points) >= 2:
            said = "; ".join(f"{look.name} {f'{y:.3f}' if lower else wording.percent(y)} at {wording.short(x)}" for look, x, y in points)
            pictures.append(
                picture(
                    f"cost-{what}",
                    plots.quality_against_cost(points, axis, quality, lower),
                    f"{quality} against {what}: {said}",
                    f"Quality against {what}: up is better, left is cheaper.",
                    "small",
                )
            )
    return pictures


def learning(contents: Contents, looks: Mapping[str, Look]) -> list[Picture]:
    """What was measured on the validation split meanwhile, for all that was trained in this run."""
    pictures = []
    borders = [at for at, line in _laid_out(contents.journals.get("student", ())) if line.get("first") and at]
    many = " Dotted lines: a new stage of the student begins." if borders else ""
    curves = (("accuracy", "accuracy on validation, %", 100), ("nll", "nats a sample on validation", 1))
    if of_language(contents.report):
        curves = (("nll", "nats a token on validation", 1), ("accuracy", "next token right on validation, %", 100))
    for key, axis, factor in curves:
        lines: list[tuple[Look, list[float], list[float]]] = []
        for number, (name, journal) in enumerate(contents.journals.items()):
            points = [(at, line["validation"][key] * factor) for at, line in _laid_out(journal) if key in line.get("validation", {})]
            if points:
                lines.append((looks.get(name) or spare_look(name, number), [x for x, _ in points], [y for _, y in points]))
        if lines:
            ends = "; ".join(f"{look.name} ends at {y[-1]:.3g}" for look, _, y in lines)
            caption = f"{axis[0].upper()}{axis[1:]}, as it was measured while training.{many}"
            pictures.append(picture(f"curve-{key}", plots.curves(lines, axis, borders), f"{axis} over updates: {ends}", caption))
    return pictures


def _laid_out(journal: Sequence[Mapping[str, Any]]) -> Iterator[tuple[float, Mapping[str, Any]]]:
    """The lines of a journal, each with the updates done before it in all stages; a stage is opened by a line of its own."""
    offset, last, stage = 0.0, 0.0, None
    for line in journal:
        if line["stage"] != stage:
            offset, last, stage = offset + last, 0.0, line["stage"]
            yield offset, {"first": True}
        last = max(last, line["step"])
        yield offset + line["step"], line


def stages(journal: Sequence[Mapping[str, Any]]) -> list[tuple[str, list[Picture]]]:
    """Each term's value and its share of the gradient, stage by stage."""
    found = []
    for number, stage in enumerate(dict.fromkeys(line["stage"] for line in journal)):
        own = [line for line in journal if line["stage"] == stage]
        pictures = []
        for kind, axis, caption in (
            ("terms", "value of the term", "Value of each term, before its weight, mean over the updates between two lines of the log."),
            ("shares", "share of the gradient, %", "Each term's share of the gradient on the student, by norm."),
        ):
            lines: dict[str, Line] = {}
            for line in own:
                for term, value in line.get(kind, {}).items():
                    x, y = lines.setdefault(term, ([], []))
                    x.append(line["step"])
                    y.append(value)
            if lines:
                said = "; ".join(f"{term} ends at {y[-1]:.3g}" for term, (_, y) in lines.items())
                drawn = plots.terms(lines, axis, share=kind == "shares")
                pictures.append(picture(f"stage-{number}-{kind}", drawn, f"{axis} over updates: {said}", caption))
        if pictures:
            found.append((str(stage), pictures))
    return found


def calibration(contents: Contents, looks: Mapping[str, Look]) -> list[Picture]:
    """A reliability diagram of each model."""
    pictures = []
    known = contents.report.get("reliability") or {name: reliability(each) for name, each in contents.predictions.items()}
    for number, (name, bins) in enumerate(known.items()):
        if bins:
            error = contents.report[name].get("ece")
            said = "" if error is None else f"; calibration error {wording.percent(error, 1)}"
            look = looks[name]
            label = f"Reliability of the {look.name}: share right over confidence{said}"
            caption = f"{look.name[0].upper()}{look.name[1:]}{said}."
            pictures.append(picture(f"reliability-{number}", plots.reliability_diagram(bins, look), label, caption, "small"))
    return pictures


def class_changes(report: Mapping[str, Any], looks: Mapping[str, Look]) -> dict[str, Any] | None:
    """Gains and losses of the student by class: a figure of the largest, and a table; None without labels."""
    rows = report.get("per_class")
    if not rows:
        return None
    others = [name for name in report["models"] if name in (wording.teacher_of(report), "alone")]

    def changes(row: Mapping[str, Any]) -> list[float]:
        return [(row["student"] - row[other]) * 100 for other in others if row["samples"]]

    names = [name for name in report["models"] if name in rows[0]]
    shown = rows if len(rows) <= MOST_ROWS else sorted(rows, key=lambda row: -max(map(abs, changes(row)), default=0.0))[:MOST_ROWS]
    cells = [(r["class"], r["samples"], ["" if r[n] is None else wording.percent(r[n], 1) for n in names]) for r in shown]
    changed = [(row["class"], changes(row)) for row in rows if changes(row)]
    drawn = _changes_picture(changed, [looks[other].name for other in others]) if changed else None
    return {"table": cells, "names": [looks[name].name for name in names], "all": len(rows), "picture": drawn}


def _changes_picture(changes: Sequence[tuple[str, list[float]]], against: Sequence[str]) -> Picture:
    ordered = sorted(changes, key=lambda item: -item[1][0])
    few = len(ordered) <= FEW
    chosen = ordered if few else ordered[: FEW // 2] + ordered[-FEW // 2 :]
    which = "" if few else f" Of {len(ordered)} classes, the {FEW // 2} best and the {FEW // 2} worst against the {against[0]}."
    extremes = "; ".join(f"{name} {change[0]:+.1f}" for name, change in (chosen[0], chosen[-1]))
    return picture(
        "classes",
        plots.class_changes(chosen, against),
        f"Change of recall by class against the {against[0]}, in points; extremes: {extremes}",
        f"Share of each class's samples that the student recognises, less that of the other, sorted; hatched bars are losses.{which}",
    )


def data_of(report: Mapping[str, Any]) -> dict[str, Any]:
    """The splits in numbers, the imbalance of the training classes in a sentence, and their sizes as a figure."""
    names, rows = report["classes"], []
    if of_language(report):
        rows = [(split, f"{about['samples']:,}", f"{about['tokens']:,}") for split, about in report["splits"].items()]
        return {"rows": rows, "columns": ("split", "samples", "tokens to predict"), "balance": "", "picture": None}
    columns = ("split", "samples", "largest class", "smallest class")
    for split, about in report["splits"].items():
        counts = about["counts"]
        extremes = [f"{names[counts.index(n)]} ({n:,})" for n in (max(counts), min(counts))] if counts else ["", ""]
        rows.append((split, f"{about['samples']:,}", *extremes))
    counts = report["splits"]["train"]["counts"]
    if not counts:
        return {"rows": rows, "columns": columns, "balance": "There are no classes to count.", "picture": None}
    empty = sum(n == 0 for n in counts)
    if empty:
        balance = f"{empty} of {len(counts)} classes {'has' if empty == 1 else 'have'} no samples to train on."
    else:
        balance = f"The largest class has {max(counts) / min(counts):.2f} times as many samples to train on as the smallest."
    drawn = plots.class_sizes(counts, names)
    return {
        "rows": rows,
        "columns": columns,
        "balance": balance,
        "picture": picture("sizes", drawn, f"Samples of each class: {balance}", "Training samples by class."),
    }
