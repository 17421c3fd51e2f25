"""The report of a condensed set as one HTML file that opens offline: a function of what condense.json holds, and of a picture of the set.

Nothing in it is trusted: see `template`; the picture is only taken as PNG data. What stands where is in `condense.html.jinja`.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

from tutelage.evaluation import plots, seed_plots, wording
from tutelage.evaluation.compare_rows import duration
from tutelage.evaluation.contents import picture
from tutelage.evaluation.template import breakable, cited, filled, flat

PNG = b"\x89PNG\r\n\x1a\n"
ARMS = {
    "condensed": "the condensed set",
    "random": "as many real samples, drawn",
    "k-means": "as many real samples, near the centres of clusters",
    "all": "all training samples",
}
"""What nets study, and how it is called."""


def render(found: Mapping[str, Any], grid: bytes = b"") -> str:
    """Make the page.

    Args:
        found: the content of condense.json.
        grid: a PNG of the set; empty where it holds no images.

    Returns:
        HTML that needs no other file.
    """
    nets = list(found["nets"])
    return filled(
        "condense.html.jinja",
        title=f"{found['data']} in {found['condensed']:,} samples by {found['recipe']}",
        over=f"{found['recipe']} on {found['data']}, seed {found['settings'].get('seed', 0)}",
        headline=headline(found),
        gain=gain(found),
        facts=facts(found),
        grid=f"data:image/png;base64,{base64.b64encode(grid).decode()}" if grid.startswith(PNG) else "",
        tables=[(breakable(net), number > 0, found["nets"][net], _rows(found, net)) for number, net in enumerate(nets)],
        figures_of=_figures(found),
        found=found,
        columns=found["condensed"] > found["per_class"] ** 2,
        wide=_width(found),
        paper=cited(found.get("paper")),
        commands=_commands(found),
        settings=sorted(flat(found["settings"])),
        versions=found.get("versions") or {},
        processor=found.get("processor") or "",
    )


def headline(found: Mapping[str, Any]) -> str:
    """The answer, in a sentence."""
    net = next(iter(found["nets"]))
    own, whole = _row(found, net, "condensed"), _row(found, net, "all")
    return (
        f"{found['condensed']:,} samples stand for {found['samples']:,}: a net that learns from them alone is right in "
        f"{wording.percent(own['mean'])}, and in {wording.percent(whole['mean'])} when it learns from all for as long."
    )


def gain(found: Mapping[str, Any]) -> str:
    """Whether condensing was worth more than choosing."""
    net = next(iter(found["nets"]))
    parts = []
    for each in found["differences"]:
        if each["net"] == net and each["against"] != "all":
            parts.append(
                f"{_apart(each)} to samples {'drawn at random' if each['against'] == 'random' else 'near the centres of clusters'}"
            )
    return f"Beside as many real samples: {', '.join(parts)}."


def facts(found: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What is saved: figures, and what they say."""
    net = next(iter(found["nets"]))
    own, whole = _row(found, net, "condensed")["mean"], _row(found, net, "all")["mean"]
    rows = [(f"{wording.times(found['samples'] / found['condensed'])} times", "fewer samples")]
    if whole > 0:
        rows.append((f"{100 * own / whole:.0f} %", "of the accuracy of all samples is kept"))
    rows.append((duration(found["seconds"]["condensing"]), "to condense, experts included"))
    return rows


def _width(found: Mapping[str, Any]) -> int:
    """Of the picture, in the size of letters: as wide as many images, to a limit."""
    classes, each = found["condensed"] // found["per_class"], found["per_class"]
    return min(40, 4 * max(classes, each))


def _row(found: Mapping[str, Any], net: str, arm: str) -> Mapping[str, Any]:
    row: Mapping[str, Any] = next(row for row in found["rows"] if (row["net"], row["arm"]) == (net, arm))
    return row


def _apart(each: Mapping[str, Any]) -> str:
    said = f"{each['mean'] * 100:+.2f} points"
    if each["low"] is None:
        return f"{said} (one study)"
    ends = f"{each['low'] * 100:+.2f} to {each['high'] * 100:+.2f}"
    return f"{said} ({ends}{'' if each['seen'] else ', which may be chance'})"


def _rows(found: Mapping[str, Any], net: str) -> list[tuple[str, bool, list[str]]]:
    apart = {each["against"]: each for each in found["differences"] if each["net"] == net}
    rows = []
    for arm, words in ARMS.items():
        row = _row(found, net, arm)
        ends = "" if row["low"] is None else f"{100 * row['low']:.2f} to {100 * row['high']:.2f} %"
        cells = [f"{row['samples']:,}", wording.percent(row["mean"]), ends, f"{row['lr']:.3g}", _apart(apart[arm]) if arm in apart else ""]
        rows.append((words, arm == "condensed", cells))
    return rows


def _figures(found: Mapping[str, Any]) -> list[Any]:
    spreads = [
        seed_plots.Spread(
            f"{each['against']}, {net}",
            100 * each["mean"],
            None if each["low"] is None else 100 * each["low"],
            None if each["high"] is None else 100 * each["high"],
            seen=each["seen"],
        )
        for net in found["nets"]
        for each in found["differences"]
        if each["net"] == net and each["against"] != "all"
    ]
    drawn = [
        picture(
            "apart",
            seed_plots.forest(spreads, "points of accuracy over the samples that were chosen"),
            "The condensed set beside chosen samples: " + "; ".join(f"{each.name} {each.mean:+.2f} points" for each in spreads),
            "Right of zero the condensed set is better; hollow: may be chance.",
        )
    ]
    if len(found["arrival"]) > 1:
        x, y = [step for step, _ in found["arrival"]], [value for _, value in found["arrival"]]
        drawn.append(
            picture(
                "arrival",
                plots.terms({"arrival": (x, y)}, "share of the way"),
                f"What is left of the way to the expert, from {y[0]:.3g} to {y[-1]:.3g}",
                "While condensing: how far a short training on the set ends from the expert, as a share of the squared way; 1: no nearer.",
            )
        )
    return drawn


def _commands(found: Mapping[str, Any]) -> list[tuple[str, str]]:
    net = next(iter(found["nets"]))
    return [
        ("train on the set", f"tutelage distill --recipe alone --student {net} --data condensed:FOLDER"),
        ("teach by it", f"tutelage distill --teacher TEACHER --student {net} --data condensed:FOLDER"),
        ("judge it by another net", "tutelage condense --resume FOLDER --unseen NET"),
    ]
