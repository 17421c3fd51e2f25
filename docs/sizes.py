"""What `python benchmarks bytes bytes_students bytes_scale` has measured, as tables and a figure: bytes a token, and what they keep."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent.parent / "benchmarks" / "results"
NOT_YET = "Not yet measured."
ALL = "all classes"
LEFT, RIGHT, TOP, BOTTOM, WIDTH = 56, 500, 14, 250, 520
"""Of the figure, in its own units."""

Row = Mapping[str, Any]


def pages(folder: Path = FOLDER) -> dict[str, str]:
    """The parts that `explanation/bytes.md` includes, by file."""
    kept, students, scale = (_read(folder / f"{name}.json") for name in ("bytes", "bytes_students", "bytes_scale"))
    parts = {
        "students": _students(students),
        "scale": _scale(students, scale),
        "text": _text(kept),
        "fits": _fits(kept),
        "top": _top(kept),
        "drawn": _drawn(kept),
        "codes": _codes(kept),
        "bias": _bias(kept),
        "ids": _ids(kept),
        "about": about(kept, students, scale),
    }
    shown = {f"bytes/{name}.txt": f"{text or NOT_YET}\n" for name, text in parts.items()}
    return {**shown, "bytes/kl.svg": figure(kept)}


def _read(file: Path) -> Mapping[str, Any]:
    return json.loads(file.read_text()) if file.is_file() else {}


def _rows(found: Mapping[str, Any], of: str) -> list[Row]:
    return [row for row in found.get("rows", []) if row["of"] == of]


def _table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    if not lines:
        return ""
    return "\n".join(f"| {' | '.join(cells)} |" for cells in [head, ["---"] * len(head), *lines])


def _number(value: float) -> str:
    """Three digits that count."""
    if value == 0:
        return "0"
    digits = 2 - math.floor(math.log10(abs(value)))
    return f"{value:.{digits}f}" if 0 < digits < 5 else f"{value:,.0f}" if digits <= 0 else f"{value:.1e}"


def _students(found: Mapping[str, Any]) -> str:
    """Each format's students, and by how much they are off those taught by all classes."""
    lines = []
    for row in found.get("rows", []):
        kl, label, same = (row[name] for name in ("kl", "cross_entropy", "agreement"))
        cells = [row["format"], f"{row['bytes']:,}", f"{kl['mean']:.4f}"]
        for one, factor, digits in ((kl, 1, 4), (label, 1, 4), (same, 100, 2)):
            less = one.get("difference")
            cells.append("" if less is None else _interval(less, factor, digits))
        lines.append(cells)
    head = [
        "kept",
        "bytes a token",
        "KL to the teacher, nats",
        "KL: more than all classes",
        "cross entropy: more",
        "agreement: more, points",
    ]
    return _table(head, lines)


def _scale(students: Mapping[str, Any], scale: Mapping[str, Any]) -> str:
    """What drawn classes cost, by how many there are and by how much text is taught."""
    whole = [{**row, "tokens": 51_200} for row in students.get("rows", []) if row["format"].endswith("drawn")]
    rows = sorted(whole + scale.get("rows", []), key=lambda row: (row["tokens"], row["bytes"])) if scale else []
    lines = [[f"{row['tokens']:,}", row["format"], str(row["bytes"]), _interval(row["kl"]["difference"], 1, 4)] for row in rows]
    return _table(["tokens taught", "kept", "bytes a token", "KL: more than all classes, nats"], lines)


def _interval(found: Mapping[str, float], factor: float, digits: int) -> str:
    mean, low, high = (f"{found[end] * factor:+.{digits}f}" for end in ("mean", "low", "high"))
    return f"{mean} ({low} to {high})"


def _text(found: Mapping[str, Any]) -> str:
    dense = {row["classes"]: row["bytes"] for row in _rows(found, "dense")}
    told = [
        f"Of {row['classes']:,} classes, over {row['tokens']:,} tokens, the teacher's distribution has an entropy of {row['entropy']:.2f} "
        f"nats in the mean, and a token's logits take {dense[row['classes']] / 1000:,.0f} kB in float16."
        for row in _rows(found, "text")
    ]
    return " ".join(told)


KINDS = {"narrow": "as in a cache", "int32": "4 bytes", "18-bit": "18 bits, with the code in 3 bytes"}


def _fits(found: Mapping[str, Any]) -> str:
    rows = _rows(found, "fits")
    kinds = list(dict.fromkeys((row["ids"], row["bits"]) for row in rows))
    counts = {(row["ids"], row["bits"], row["classes"]): f"{row['k']} in {row['bytes']}" for row in rows}
    sizes = list(dict.fromkeys(row["classes"] for row in rows))
    lines = [[KINDS[ids], _precision(bits), *(counts[ids, bits, size] for size in sizes)] for ids, bits in kinds]
    return _table(["ids", "log-probabilities", *(f"of {size:,}" for size in sizes)], lines)


def _precision(bits: int) -> str:
    return "float16" if bits == 16 else f"{bits} bits"


def _top(found: Mapping[str, Any]) -> str:
    lines = [
        [f"all in {row['format']}", f"{row['classes']:,}", f"{row['bytes']:,}", "", _number(row["kl"]), "", ""]
        for row in _rows(found, "dense")
    ]
    for row in _rows(found, "top-k"):
        numbers = (row["spread_kl"], row["frequent_kl"], row["renormalised_error"])
        lines.append(
            [f"top {row['k']}", f"{row['classes']:,}", str(row["bytes"]), f"{100 * row['rest']:.1f}\u00a0%", *map(_number, numbers)]
        )
    head = [
        "kept",
        "of",
        "bytes a token",
        "left over",
        "KL, the rest spread evenly",
        "KL, spread by frequency",
        "squared error if renormalised",
    ]
    return _table(head, lines)


def _drawn(found: Mapping[str, Any]) -> str:
    counts = {(row["classes"], row["k"]): row for row in _rows(found, "counts")}
    lines = []
    for row in _rows(found, "drawn"):
        other = counts[row["classes"], row["k"]]
        cells = [
            str(row["k"]),
            f"{row['classes']:,}",
            str(row["bytes"]),
            f"{row['sure']:.1f}",
            _number(row["error"]),
            _number(row["read_error"]),
        ]
        lines.append([*cells, str(other["draws"]), _number(other["error"])])
    head = ["kept", "of", "bytes a token", "of them for sure", "squared error", "after rounding"]
    return _table([*head, "draws with replacement for as many", "their squared error"], lines)


def _codes(found: Mapping[str, Any]) -> str:
    rows = [row for row in _rows(found, "codes") if row["k"] in (12, 20)]
    lines = [[_precision(row["bits"]), str(row["k"]), f"{row['classes']:,}", str(row["bytes"]), _number(row["kl"])] for row in rows]
    return _table(["log-probabilities", "kept", "of", "bytes a token", "KL that rounding adds"], lines)


def _bias(found: Mapping[str, Any]) -> str:
    lines = [
        [str(row["k"]), "not rounded" if row["bits"] == "none" else _precision(row["bits"]), f"{row['draws']:,}", _number(row["kl"])]
        for row in _rows(found, "bias")
    ]
    return _table(["drawn", "log-probabilities", "draws", "KL of their mean"], lines)


def _ids(found: Mapping[str, Any]) -> str:
    """How an id could be kept; what is ranked is 7 bits a byte, the bound is what a perfect coder with these frequencies needs."""
    lines = []
    for row in _rows(found, "top-k") + _rows(found, "drawn"):
        if row["k"] != 20:
            continue
        plain = 2 if row["classes"] <= 1 << 16 else 3
        cells = ["top 20" if row["of"] == "top-k" else "20 drawn", f"{row['classes']:,}", str(plain)]
        lines.append([*cells, f"{row['rank_bytes']:.2f}", f"{row['rank_bits'] / 8:.2f}", f"{100 * row['beyond']:.1f} %"])
    return _table(["kept", "of", "whole bytes", "ranked, as varint", "bound", "ranked beyond two bytes"], lines)


def about(*measured: Mapping[str, Any]) -> str:
    """How, where and with what."""
    told = []
    for found in measured:
        if found:
            at = found["surroundings"]
            told.append(
                f"**{found['title']}**: {found['note']} Measured on {at['date']}, with tutelage {at['tutelage']}, torch {at['torch']} and "
                f"Python {at['python']}, on {at['cores']} cores of {at['processor']}."
            )
    return "\n\n".join(told)


def figure(found: Mapping[str, Any]) -> str:
    """Bytes a token against what top-k loses, both logarithmic; in the colours of the page."""
    lines: dict[str, list[tuple[float, float]]] = {}
    for row in _rows(found, "top-k"):
        for name, what in (("spread_kl", "spread evenly"), ("frequent_kl", "by frequency")):
            lines.setdefault(f"{row['classes']:,} classes, {what}", []).append((row["bytes"], row[name]))
    points = [point for line in lines.values() for point in line]
    if not points:
        return "<svg xmlns='http://www.w3.org/2000/svg'/>\n"
    x_ticks, y_ticks = (_doublings([point[axis] for point in points]) for axis in (0, 1))

    def place(x: float, y: float) -> tuple[float, float]:
        across, up = (math.log(v / t[0]) / math.log(t[-1] / t[0]) for v, t in ((x, x_ticks), (y, y_ticks)))
        return round(LEFT + across * (RIGHT - LEFT), 1), round(BOTTOM - up * (BOTTOM - TOP), 1)

    drawn = [f"<path class='axis' d='M{LEFT} {TOP}V{BOTTOM}H{RIGHT}' fill='none' stroke='currentColor'/>"]
    for x in x_ticks:
        drawn.append(f"<text x='{place(x, y_ticks[0])[0]}' y='{BOTTOM + 17}' text-anchor='middle'>{x:g}</text>")
    for y in y_ticks:
        drawn.append(f"<text x='{LEFT - 8}' y='{place(x_ticks[0], y)[1] + 4}' text-anchor='end'>{y:g}</text>")
    if x_ticks[0] < 64 < x_ticks[-1]:
        at = place(64, y_ticks[0])[0]
        drawn.append(f"<line class='zero' x1='{at}' y1='{TOP}' x2='{at}' y2='{BOTTOM}' stroke='currentColor' stroke-dasharray='3 3'/>")
    drawn.append(f"<text x='{(LEFT + RIGHT) / 2}' y='{BOTTOM + 36}' text-anchor='middle'>bytes a token</text>")
    drawn.append(f"<text x='{LEFT + 6}' y='{TOP + 4}'>KL in nats, of top-k with the rest</text>")
    for number, (name, line) in enumerate(lines.items()):
        dash = ("", "6 3", "2 2", "8 3 2 3")[number % 4]
        path = "M" + "L".join(f"{x} {y}" for x, y in (place(*point) for point in line))
        drawn.append(f"<path d='{path}' fill='none' stroke='currentColor' stroke-width='1.5' stroke-dasharray='{dash or 'none'}'/>")
        for point in line:
            x, y = place(*point)
            drawn.append(f"<circle cx='{x}' cy='{y}' r='2.5'><title>{name}: {point[0]:g} bytes, {point[1]:.3f} nats</title></circle>")
        y = TOP + 22 + 16 * number
        drawn.append(f"<path d='M{RIGHT - 250} {y - 4}h36' stroke='currentColor' stroke-width='1.5' stroke-dasharray='{dash or 'none'}'/>")
        drawn.append(f"<text x='{RIGHT - 208}' y='{y}'>{name}</text>")
    head = (
        f"<svg class='dots' xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {WIDTH} {BOTTOM + 46}' role='img' "
        "aria-labelledby='bytes-title' fill='currentColor' font-family='sans-serif' font-size='12'>"
    )
    return "\n".join([head, "<title id='bytes-title'>Bytes a token against what top-k loses</title>", *drawn, "</svg>"]) + "\n"


def _doublings(values: Sequence[float]) -> list[float]:
    """Powers of 2 around all values."""
    low, high = math.floor(math.log2(min(values))), math.ceil(math.log2(max(values)))
    return [2.0**power for power in range(low, max(high, low + 1) + 1)]
