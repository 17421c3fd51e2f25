"""The report of a comparison as one HTML file that opens offline: a function of what compare.json holds.

Nothing in it is trusted: see `template`. The figures are in `compare_figures`, the tables in `compare_rows`, what stands where in
`compare.html.jinja`.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

from tutelage.evaluation import compare_figures, compare_rows, wording
from tutelage.evaluation.compare_figures import known, quality_of
from tutelage.evaluation.compare_rows import duration
from tutelage.evaluation.page import side_by_side
from tutelage.evaluation.template import filled, flat


def render(compare: Mapping[str, Any]) -> str:
    """Make the page.

    Args:
        compare: the content of compare.json. Only `recipes`, `results`, `metric` and `split` have to be there.

    Returns:
        HTML that needs no other file.
    """
    columns, ranked = compare_rows.ranking(compare)
    seed_columns, seeds = compare_rows.seeds(compare)
    return filled(
        "compare.html.jinja",
        title=f"Recipes compared{_on(compare)}",
        over=_over(compare),
        said=said(compare),
        facts=facts(compare),
        quality=quality_of(compare),
        split=compare["split"],
        chosen=(compare.get("chosen_on") or {}).get("split", "validation"),
        winner=(compare.get("winner") or {}).get("recipe"),
        columns=columns,
        ranked=ranked,
        single=_most_seeds(compare) <= 1,
        costs_known=any(each.get("cost") is not None for each in compare["results"].values()),
        differences_known=bool(compare_figures.against_winner(compare)),
        figures_of=[each for each in (compare_figures.cost(compare), compare_figures.differences(compare)) if each],
        student=against_teacher(compare),
        tuning=compare_rows.tuning(compare),
        tuned=[drawn for _, drawn in compare_figures.tuning(compare)],
        seed_columns=seed_columns,
        seeds=seeds,
        failed=compare_rows.failed(compare),
        left_out=[(each["recipe"], each.get("reason") or "") for each in compare.get("left_out") or ()],
        commands=commands(compare),
        knobs=[(name, flat(compare["results"][name].get("knobs") or {})) for name in compare["recipes"]],
        settings=sorted(flat(compare.get("settings") or {})),
        versions=compare.get("versions") or {},
        made=[(title, compare[key]) for key, title in (("processor", "Ran on"), ("date", "Date")) if compare.get(key)],
    )


def said(compare: Mapping[str, Any]) -> str:
    """The answer: what the comparison says itself, or else who came first."""
    if compare.get("said"):
        return str(compare["said"])
    winner = (compare.get("winner") or {}).get("recipe")
    return f"{winner} came first." if winner else "No training ended, so there is nothing to compare."


def facts(compare: Mapping[str, Any]) -> list[tuple[str, str]]:
    """How much was compared: figures, and what they say."""
    count, left, lost = len(compare["recipes"]), len(compare.get("left_out") or ()), len(compare_rows.failed(compare))
    more = (f", {left} left out" if left else "") + (f", {_several(lost, 'training')} failed" if lost else "")
    found = [(_several(count, "recipe"), f"compared{more}")]
    budget = compare.get("budget") or {}
    several = len(budget.get("seeds") or ()) or _most_seeds(compare)
    found.append((_several(several, "seed"), "the same for all recipes" if several > 1 else "says nothing of how others would have ended"))
    if budget.get("amount") is not None:
        amount, kind = budget["amount"], str(budget.get("kind", "updates"))
        tuned = f", after tuning for {budget['tune']} times as many" if budget.get("tune") else ""
        each = f"{amount:g} {kind}" if kind != "updates" else f"{amount:,} {kind}"
        found.append((each.removesuffix("s") if amount == 1 else each, f"in each training{tuned}"))
    if compare.get("samples") is not None:
        chosen = compare.get("chosen_on") or {}
        ranks = f"; ranked by {chosen['samples']:,} of {chosen['split']}" if chosen.get("samples") is not None else ""
        found.append((_several(compare["samples"], "sample"), f"of {compare['split']} judged by{ranks}"))
    if compare.get("seconds") is not None:
        found.append((duration(compare["seconds"]), "for all of it"))
    return found


def against_teacher(compare: Mapping[str, Any]) -> dict[str, Any] | None:
    """What the student costs against the teacher: figures, a table, and a sentence where times cannot be compared."""
    if not compare.get("student"):
        return None
    winner = (compare.get("winner") or {}).get("recipe")
    test = (compare["results"].get(winner) or {}).get("test") or {}
    student = {**compare["student"], **{key: found["mean"] for key, found in test.items() if known(found)}}
    models = {"student": student}
    if compare.get("teacher"):
        models = {"teacher": {**compare["teacher"], **(compare["teacher"].get("test") or {})}, **models}
    report = {"models": list(models), "teachers": [name for name in models if name == "teacher"], **models}
    return {
        "names": [f"student by {winner}" if name == "student" and winner else name for name in models],
        "table": side_by_side(report),
        "savings": wording.savings(report),
        "busy": wording.busy(report),
        "teacher": "teacher" in models,
        "seeds": len((compare["results"].get(winner) or {}).get("seeds") or {}),
    }


def commands(compare: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What can be done with the winner's folder, from the folder of the page."""
    folder = (compare.get("winner") or {}).get("folder")
    if not folder:
        return []
    folder = shlex.quote(str(folder))
    form = "hf" if compare["metric"] == "likelihood" else "onnx"
    return [
        ("write it so that it can be used without tutelage", f"tutelage export {folder} --to {form}"),
        ("measure it again, with intervals over samples", f"tutelage evaluate {folder}"),
        ("let it teach a smaller one", f"tutelage distill --teacher {folder} --student MODEL --data DATA"),
    ]


def _on(compare: Mapping[str, Any]) -> str:
    return f" on {compare['data']}" if compare.get("data") else ""


def _over(compare: Mapping[str, Any]) -> str:
    models = [f"{role} {compare[role]['model']}" for role in ("student", "teacher") if (compare.get(role) or {}).get("model")]
    classes = f", {len(compare['classes']):,} classes" if compare.get("classes") else ""
    return "; ".join([f"Recipes compared{_on(compare)}{classes}", *models])


def _most_seeds(compare: Mapping[str, Any]) -> int:
    return max((len(each.get("seeds") or {}) for each in compare["results"].values()), default=0)


def _several(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"
