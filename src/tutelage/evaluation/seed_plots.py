"""The figures of a comparison over seeds, as SVG text: quality over cost, differences from the winner, what tuning tried.

Intervals are lines, means are large marks, single seeds small dots; filled and hollow say the same as the colours. See `plots`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tutelage.evaluation.plots import BLUE, GREEN, INK, QUIET, VERMILION, blank, drawing, plain_numbers, shortened
from tutelage.evaluation.wording import short

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH = 4.7
"""Inches: two figures side by side fill a page, and one fills a telephone."""
FAR = 1.5
"""What lies further from all single seeds than so many times their range is left outside: it would press them into a line."""
POINTS = 72.0
"""Of paper, an inch."""


@dataclass(frozen=True)
class Spread:
    """A recipe over its seeds.

    Args:
        name: how figures call it.
        mean: of the number on the axis of quality, in its unit.
        low: lower end of its interval; None for one seed.
        high: upper end.
        at: mean of what it costs, where costs are drawn.
        seeds: the number of each seed, or (cost, number).
        seen: whether it stands out: the winner, or a difference that was seen.
    """

    name: str
    mean: float
    low: float | None
    high: float | None
    at: float = 0.0
    seeds: Sequence[Any] = field(default_factory=tuple)
    seen: bool = False


@drawing
def quality_over_time(spreads: Sequence[Spread], time: str, quality: str, line: tuple[str, float] | None = None) -> Figure:
    """Quality of each recipe over the time of one training, its name at the side.

    Args:
        spreads: one a recipe, their single seeds as (time, quality); the one that is `seen` is the winner.
        time: label of the axis.
        quality: label of the axis.
        line: a name and a quality that all are held against, such as the teacher's.
    """
    height = max(3.0, 1.0 + 0.155 * len(spreads))
    figure, axes = blank(height, WIDTH)
    dots = [dot for each in spreads for dot in each.seeds] or [(each.at, each.mean) for each in spreads]
    far = line is not None and not _held(line[1], [y for _, y in dots])
    ends = [end for each in spreads for end in (each.low, each.high) if end is not None]
    bottom, top = _range([y for _, y in dots], ends + ([line[1]] if line and not far else []), most=100.0)
    axes.set_ylim(bottom, top)
    _time_scale(axes, [x for x, _ in dots])
    if line:
        _held_against(axes, *line, far=far, top=top)
    for each in spreads:
        colour = GREEN if each.seen else BLUE
        axes.plot([x for x, _ in each.seeds], [y for _, y in each.seeds], "o", color=colour, markersize=2.6, alpha=0.6, linestyle="none")
        if each.low is not None:
            axes.plot([each.at, each.at], [each.low, each.high], color=colour, linewidth=1.3)
        axes.plot([each.at], [each.mean], "D" if each.seen else "o", color=colour, markersize=7, markeredgecolor=INK, markeredgewidth=0.6)
    paper = (height - 0.55) * POINTS
    ordered = sorted(spreads, key=lambda each: (each.mean, -each.at))
    places = apart([(each.mean - bottom) / (top - bottom) for each in ordered], 11 / paper)
    for each, place in zip(ordered, places, strict=True):
        axes.annotate(
            shortened(each.name, 24),
            (each.at, each.mean),
            (1.03, place),
            textcoords="axes fraction",
            va="center",
            fontweight="bold" if each.seen else "normal",
            annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": QUIET, "linewidth": 0.5, "alpha": 0.55, "shrinkA": 1, "shrinkB": 4},
        )
    axes.set_xlabel(time)
    axes.set_ylabel(quality)
    return figure


@drawing
def forest(spreads: Sequence[Spread], label: str) -> Figure:
    """Differences from the winner with their intervals, one a row; left of zero is worse.

    Args:
        spreads: one a row, from the top; hollow where no difference was `seen`.
        label: of the axis.
    """
    figure, axes = blank(0.75 + 0.24 * max(len(spreads), 2), WIDTH)
    dots = [dot for each in spreads for dot in each.seeds] or [each.mean for each in spreads]
    ends = [end for each in spreads for end in (each.low, each.high) if end is not None]
    axes.set_xlim(*_range([*dots, 0.0], ends))
    axes.axvline(0, color=INK, linewidth=0.9)
    for row, each in enumerate(spreads):
        colour = QUIET if not each.seen else VERMILION if each.mean < 0 else GREEN
        axes.plot(each.seeds, [row + 0.27] * len(each.seeds), "o", color=colour, markersize=2.4, alpha=0.75, linestyle="none")
        if each.low is not None:
            axes.plot([each.low, each.high], [row, row], color=colour, linewidth=1.6, solid_capstyle="butt")
        filled = {"markerfacecolor": colour if each.seen else "white", "markeredgecolor": colour, "markeredgewidth": 1.3}
        axes.plot([each.mean], [row], "s" if each.seen else "o", markersize=6, **filled)
    axes.set_yticks(range(len(spreads)), labels=[shortened(each.name, 24) for each in spreads])
    axes.set_ylim(len(spreads) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="y", visible=False)
    axes.set_xlabel(label)
    return figure


@drawing
def tuned(tried: Sequence[tuple[float | None, bool]], chosen: int | None, quality: str) -> Figure:
    """What each trial of a tuning reached, and the best so far.

    Args:
        tried: validation in percent, None where it was given up before; whether it was pruned.
        chosen: the place of the trial whose knobs were taken.
        quality: label of the axis.
    """
    figure, axes = blank(1.9, 3.1)
    known = [(at + 1, value, pruned) for at, (value, pruned) in enumerate(tried) if value is not None]
    best, line = -math.inf, []
    for at, value, pruned in known:
        best = best if pruned else max(best, value)
        if math.isfinite(best):
            line.append((at, best))
    axes.step([at for at, _ in line], [value for _, value in line], where="post", color=QUIET, linewidth=0.9)
    for pruned in (False, True):
        shown = [(at, value) for at, value, cut in known if cut is pruned]
        style = {"markerfacecolor": "white" if pruned else BLUE, "markeredgecolor": BLUE, "linestyle": "none"}
        axes.plot([at for at, _ in shown], [value for _, value in shown], "o", markersize=4.5, **style)
    none = [at + 1 for at, (value, _) in enumerate(tried) if value is None]
    axes.plot(none, [0.04] * len(none), "x", color=QUIET, markersize=4.5, transform=axes.get_xaxis_transform())
    if chosen is not None and tried[chosen][0] is not None:
        axes.plot([chosen + 1], [tried[chosen][0]], "D", color=GREEN, markersize=7, markeredgecolor=INK, markeredgewidth=0.6)
    axes.set_xlim(0.4, len(tried) + 0.6)
    axes.locator_params(axis="x", nbins=6, integer=True)
    axes.set_xlabel("trial")
    axes.set_ylabel(quality)
    return figure


def apart(places: Sequence[float], gap: float) -> list[float]:
    """Places in rising order, moved as far as it needs for none to be nearer to the next than a gap, within 0 and 1 as far as all fit.

    Args:
        places: where each would like to be, rising.
        gap: least distance.
    """
    found: list[float] = []
    for place in places:
        found.append(max(place, 0.0 if not found else found[-1] + gap))
    limit = 1.0
    for at in range(len(found) - 1, -1, -1):
        found[at] = min(found[at], limit)
        limit = found[at] - gap
    return found


def _held(value: float, among: Sequence[float]) -> bool:
    span = (max(among) - min(among)) or math.inf  # a single point is pressed by nothing
    return min(among) - FAR * span <= value <= max(among) + FAR * span


def _range(dots: Sequence[float], ends: Sequence[float], most: float = math.inf) -> tuple[float, float]:
    """Limits of an axis that hold all dots, and the ends of intervals that do not lie too far from them."""
    span = (max(dots) - min(dots)) or max(map(abs, (*(e - dots[0] for e in ends), 0.0))) or 1.0
    low = min(dots) - FAR * span
    high = max(dots) + FAR * span
    shown = [*dots, *(min(max(end, low), high) for end in ends)]
    room = 0.08 * ((max(shown) - min(shown)) or 10.0)
    return min(shown) - room, min(max(shown) + room, most + room / 2)


def _time_scale(axes: Axes, times: Sequence[float]) -> None:
    least, most = min(times), max(times)
    if least > 0 and most > 4 * least:
        room = (most / least) ** 0.12
        axes.set_xscale("log")
        axes.set_xlim(least / room, most * room)
        plain_numbers(axes.xaxis, axes.get_xlim())
        return
    axes.set_xlim(0, most * 1.12 or 1.0)
    axes.locator_params(axis="x", nbins=5)
    axes.xaxis.set_major_formatter(lambda value, _: short(value))


def _held_against(axes: Axes, name: str, value: float, far: bool, top: float) -> None:
    side: dict[str, Any] = {"textcoords": "offset points", "color": QUIET}
    if not far:
        axes.axhline(value, color=QUIET, linewidth=1.0, linestyle=(0, (4, 3)))
        axes.annotate(f"{name} {value:.2f} %", (0.0, value), (3, 2), ("axes fraction", "data"), va="bottom", **side)
    elif value >= top:
        axes.annotate(f"↑ {name} {value:.2f} %", (0.0, 1.0), (3, 3), "axes fraction", va="bottom", **side)
    else:
        axes.annotate(f"↓ {name} {value:.2f} %", (0.0, 0.0), (3, 3), "axes fraction", va="bottom", **side)
