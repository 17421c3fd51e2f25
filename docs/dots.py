"""A dot plot as SVG: each seed's number, their mean and its interval. Drawn for a page in light or dark: lines and text take its colour."""

from __future__ import annotations

import html
import math

from numerals import POINTS, decimals, difference, name_of, rounded
from scoreboard import Prediction
from tutelage.errors import printable

WIDTH, LEFT, RIGHT = 480, 24, 452
RADIUS = 4.5
ROWS = 6
"""Dots that would touch stand above each other, in so many rows at most."""


def plot(prediction: Prediction, seeds: list[int], key: str) -> str:
    """The drawing.

    Args:
        prediction: what is drawn.
        seeds: whose numbers they are.
        key: sets its ids apart from those of other drawings on the page.
    """
    unit = prediction.unit
    values = [value * unit.factor for value in prediction.per_seed]
    mean, low, high = (number * unit.factor for number in (prediction.found.mean, prediction.found.low, prediction.found.high))
    ticks = _ticks([0.0, *values, mean, *(end for end in (low, high) if math.isfinite(end))])
    first, last = ticks[0], ticks[-1]

    def x(value: float) -> float:
        return round(LEFT + (value - first) / (last - first) * (RIGHT - LEFT), 1)

    rows = _rows([x(value) for value in values])
    top = 10 + max(rows) * 2 * RADIUS
    middle, axis = top + 22, top + 40
    digits = 2 if unit is POINTS else decimals(values)
    told = [f"seed {seed}: {rounded(value, digits, '+')}" for seed, value in zip(seeds, values, strict=True)]
    what = "rank correlation" if prediction.kind == "rank" else f"{'points of ' if unit is POINTS else ''}{name_of(prediction.metric)}"
    shown = {"title": prediction.says, "desc": f"{'; '.join(told)}; mean {difference(prediction.found, unit)}"}
    label = [f"<{tag} id='{key}-{tag}'>{_text(said)}</{tag}>" for tag, said in shown.items()]
    drawn = [_line(x(0.0), 2, x(0.0), axis, "zero", "1", dash="3 3"), _line(LEFT, axis, RIGHT, axis, "axis", "1")]
    for tick in ticks:
        drawn.append(_line(x(tick), axis, x(tick), axis + 4, "axis", "1"))
        drawn.append(f"<text x='{x(tick)}' y='{axis + 17}' text-anchor='middle'>{rounded(tick, _step_digits(ticks), '+')}</text>")
    drawn.append(f"<text x='{(LEFT + RIGHT) / 2}' y='{axis + 34}' text-anchor='middle'>{_text(what)}; to the right: as predicted</text>")
    for seed, value, row in zip(told, values, rows, strict=True):
        at = f"cx='{x(value)}' cy='{round(top - row * 2 * RADIUS, 1)}' r='{RADIUS}'"
        drawn.append(f"<circle class='seed' {at} fill='currentColor' fill-opacity='0.5'><title>{_text(seed)}</title></circle>")
    if math.isfinite(low) and math.isfinite(high):
        drawn.append(_line(x(low), middle, x(high), middle, "interval", "2.5"))
        drawn += [_line(x(end), middle - 5, x(end), middle + 5, "interval", "2.5") for end in (low, high)]
    diamond = f"{x(mean)},{middle - 7} {x(mean) + 6},{middle} {x(mean)},{middle + 7} {x(mean) - 6},{middle}"
    drawn.append(f"<polygon class='mean' points='{diamond}' fill='currentColor'/>")
    head = (
        f"<svg class='dots' xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {WIDTH} {axis + 40}' role='img' "
        f"aria-labelledby='{key}-title {key}-desc' fill='currentColor' font-family='sans-serif' font-size='12'>"
    )
    return "\n".join([head, *label, *drawn, "</svg>"]) + "\n"


def _line(x1: float, y1: float, x2: float, y2: float, name: str, width: str, dash: str = "") -> str:
    dashes = f" stroke-dasharray='{dash}'" if dash else ""
    return f"<line class='{name}' x1='{x1}' y1='{y1}' x2='{x2}' y2='{y2}' stroke='currentColor' stroke-width='{width}'{dashes}/>"


def _text(said: str) -> str:
    return html.escape(printable(" ".join(said.split())))


def _ticks(values: list[float]) -> list[float]:
    """Round numbers around all of the values, 0 among them."""
    from matplotlib.ticker import MaxNLocator

    least, most = min(values), max(values)
    if least == most:  # all are 0
        least, most = -1.0, 1.0
    return [float(tick) for tick in MaxNLocator(nbins=6, steps=[1, 2, 2.5, 5, 10], min_n_ticks=3).tick_values(least, most)]


def _step_digits(ticks: list[float]) -> int:
    """Decimals that tell the ticks apart."""
    step = ticks[1] - ticks[0]
    return next((digits for digits in range(9) if math.isclose(step, round(step, digits), rel_tol=1e-6)), 9)


def _rows(places: list[float]) -> list[int]:
    """For each dot the lowest row in which it touches none."""
    taken: list[list[float]] = [[] for _ in range(ROWS)]
    rows = [0] * len(places)
    for number in sorted(range(len(places)), key=lambda number: places[number]):
        free = (row for row in range(ROWS) if not taken[row] or places[number] - taken[row][-1] >= 2 * RADIUS)
        rows[number] = next(free, ROWS - 1)
        taken[rows[number]].append(places[number])
    return rows
