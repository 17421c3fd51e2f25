"""The report of a search as one HTML file that opens offline: a function of what search.json holds.

Nothing in it is trusted: see `template`. What stands where is in `search.html.jinja`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tutelage.evaluation import search_plots, wording
from tutelage.evaluation.compare_rows import duration
from tutelage.evaluation.contents import picture
from tutelage.evaluation.template import breakable, filled, flat

COSTS = {
    "params": ("parameters", "{:,.0f}".format),
    "flops": ("operations of one sample", wording.quantity),
    "latency": ("milliseconds for one sample", "{:.3g}".format),
}
"""What costs are called, and how they are written."""
MOST = 1e30
"""A score beyond this stands for one that is no number."""


def render(found: Mapping[str, Any]) -> str:
    """Make the page.

    Args:
        found: the content of search.json.

    Returns:
        HTML that needs no other file.
    """
    kinds = [kind for kind in COSTS if found["nets"] and kind in found["nets"][0]["costs"]]
    parts = [name for name in ("semantic", "relation") if found["best"] and name in found["best"][0]]
    return filled(
        "search.html.jinja",
        title=f"A student for {found['data']}, searched by {found['score']}",
        over=_over(found),
        said=said(found),
        facts=facts(found),
        columns=["score", *parts, *(COSTS[kind][0] for kind in kinds)],
        rows=[_row(row, parts, kinds) for row in found["best"]],
        front=[_row(row, parts, kinds) for row in _frontier(found)],
        figures_of=_figures(found),
        commands=_commands(found),
        settings=sorted(flat(found["settings"])),
        choices=[(name, ", ".join(map(str, values))) for name, values in found["space"]["choices"].items()],
        versions=found.get("versions") or {},
        processor=found.get("processor") or "",
        score=found["score"],
        complete=found["complete"],
    )


def said(found: Mapping[str, Any]) -> str:
    """The answer, in a sentence."""
    best = found["best"][0]
    return f"{best['spec']} has the best score of {found['scored']:,} nets, with {best['costs']['params']:,.0f} parameters."


def facts(found: Mapping[str, Any]) -> list[tuple[str, str]]:
    """How much was searched: figures, and what they say."""
    best = found["best"][0]["costs"]
    rows = [(f"{found['scored']:,} nets", f"scored, of {found['space']['size']:,} candidates; none was trained")]
    for kind, limit in found["budget"].items():
        rows.append((f"{100 * best[kind] / limit:.0f} %", f"of the budget of {COSTS[kind][1](limit)} {COSTS[kind][0]} is used"))
    whole = (found.get("teacher") or {}).get("parameters")
    if whole:
        rows.append((f"{whole / best['params']:.3g} times", f"as many parameters has the teacher: {whole:,}"))
    rows.append((duration(found["seconds"]), "for all scores"))
    return rows


def _over(found: Mapping[str, Any]) -> str:
    teacher = found.get("teacher")
    return "; ".join([f"A search on {found['data']}", found["space"]["name"], *([f"teacher {teacher['name']}"] if teacher else [])])


def _row(row: Mapping[str, Any], parts: list[str], kinds: list[str]) -> tuple[str, list[str]]:
    scores = [f"{row[name]:.5g}" if abs(row[name]) < MOST else "" for name in ("score", *parts)]
    return breakable(row["spec"]), [*scores, *(COSTS[kind][1](row["costs"][kind]) for kind in kinds)]


def _frontier(found: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    by_spec = {row["spec"]: row for row in found["nets"]}
    return [by_spec[spec] for spec in found["frontier"]]


def _figures(found: Mapping[str, Any]) -> list[Any]:
    kind, name = found["cost"], found["score"]
    shown = [row for row in found["nets"] if abs(row["score"]) < MOST]
    best = [(row["costs"][kind], row["score"]) for row in _frontier(found) if abs(row["score"]) < MOST]
    if not best:
        return []
    dots = [(row["costs"][kind], row["score"]) for row in shown]
    cost, limit = COSTS[kind][0], found["budget"].get(kind)
    line = "; dashed: the budget" if limit else ""
    return [
        picture(
            "front",
            search_plots.front(dots, best, limit, cost, f"score ({name})"),
            f"Score of {len(dots)} nets over {cost}; {len(best)} are on the frontier, the best {best[-1][1]:.4g} at {best[-1][0]:,.0f}",
            f"Each dot is a net; up is better, left is cheaper. Line: those that none beats at as little cost; diamond: the best{line}.",
        ),
        picture(
            "course",
            search_plots.course([score for score in found["history"] if abs(score) < MOST], f"score ({name})"),
            f"Scores in the order in which {len(dots)} nets were tried; the best is {best[-1][1]:.4g}",
            "Each dot is a net, in the order in which it was tried; line: the best so far.",
        ),
    ]


def _commands(found: Mapping[str, Any]) -> list[tuple[str, str]]:
    teacher = (found.get("settings") or {}).get("teacher") or "TEACHER"
    return [
        ("teach it", f"tutelage distill --teacher {teacher} --student FOLDER --data {found['settings']['data']}"),
        ("score more nets", f"tutelage search --resume FOLDER --candidates {2 * found['scored']}"),
    ]
