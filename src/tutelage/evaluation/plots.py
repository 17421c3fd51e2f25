"""The report's figures as SVG text: one function a figure, drawn without a display.

Colours are Okabe and Ito's, which the colour-blind can tell apart; markers, dashes and hatches say the same again for print without
colour. Text stays text, so that the page's font is used. The same numbers give the same bytes.
"""

from __future__ import annotations

import io
import math
import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tutelage.evaluation.wording import short

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

INK, QUIET, RULE = "#222222", "#5c5c5c", "#d9d9d9"
BLUE, ORANGE, GREEN, VERMILION, SKY, PURPLE = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#56B4E9", "#CC79A7"
LINES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 3)))
CYCLE = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY, "#000000")
WIDTH = 4.0
"""Inches: about the width of a telephone; text then keeps its size there."""
SMALL = 3.1
STYLE = {
    "svg.fonttype": "none",
    "text.parse_math": False,
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 8.5,
    "axes.edgecolor": QUIET,
    "axes.labelcolor": INK,
    "axes.titlesize": 9,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.7,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": RULE,
    "grid.linewidth": 0.6,
    "xtick.color": QUIET,
    "ytick.color": QUIET,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.major.width": 0.7,
    "ytick.major.width": 0.7,
    "text.color": INK,
    "legend.frameon": False,
    "legend.handlelength": 2.6,
    "hatch.linewidth": 0.6,
    "lines.linewidth": 1.5,
    "lines.markersize": 5,
}


@dataclass(frozen=True)
class Look:
    """How a model is drawn everywhere.

    Args:
        name: how figures call it.
        colour: of its lines and markers.
        marker: of its points.
        line: dashes of its lines.
    """

    name: str
    colour: str
    marker: str
    line: Any


@contextmanager
def _sheet() -> Iterator[None]:
    import matplotlib.style

    with matplotlib.style.context(["default", STYLE]), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a glyph that the measuring font lacks is drawn by the reader's own
        yield


def drawing(function: Callable[..., Figure]) -> Callable[..., str]:
    """Let a function that draws a figure give it as SVG to be put into a page."""

    def draw(*args: Any, **kwargs: Any) -> str:
        import matplotlib

        with _sheet():
            figure = function(*args, **kwargs)
            buffer = io.StringIO()
            empty = {"Date": None, "Creator": None, "Format": None, "Type": None}
            with matplotlib.rc_context({"svg.hashsalt": function.__name__}):
                figure.savefig(buffer, format="svg", metadata=empty)
        return _for_a_page(buffer.getvalue())

    draw.__doc__, draw.__name__ = function.__doc__, function.__name__
    return draw


def _for_a_page(svg: str) -> str:
    """Leave out what only a file of its own needs; the page makes ids unique and gives a size and a label."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'\s(?:xmlns(?::\w+)?|width|height|version)="[^"]*"', "", svg[: svg.index(">")]) + svg[svg.index(">") :]
    return re.sub(r"\n\s*", "\n", svg.replace("xlink:href", "href"))


def blank(height: float, width: float = WIDTH, **kwargs: Any) -> tuple[Figure, Any]:
    """An empty figure of that size in inches, and its axes; what else is given goes to `subplots`."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    figure.patch.set_visible(False)
    return figure, figure.subplots(**kwargs)


@drawing
def quality_against_cost(points: Sequence[tuple[Look, float, float]], cost: str, quality: str, lower: bool = False) -> Figure:
    """Quality of each model over its cost; the scale of costs is logarithmic where they differ by more than four times.

    Args:
        points: (look, cost, quality) of each model; the quality in [0, 1], or a number of which less is better.
        cost: label of the axis.
        quality: label of the axis.
        lower: whether less is better; such numbers are drawn downwards, so that up is better in any case.
    """
    figure, axes = blank(2.6, SMALL)
    points = [(look, x, -y if lower else y * 100) for look, x, y in points]
    costs, qualities = [x for _, x, _ in points], [y for _, _, y in points]
    logarithmic = max(costs) > 4 * min(costs)
    span = (max(qualities) - min(qualities)) or 1.0
    bottom, top = min(qualities) - 0.2 * span, min(max(qualities) + 0.2 * span, (0 if lower else 100) + 0.05 * span)
    axes.set_ylim(bottom, top)
    if lower:
        axes.yaxis.set_major_formatter(lambda value, _: f"{abs(value):.3g}")
    if logarithmic:
        room = (max(costs) / min(costs)) ** 0.25
        axes.set_xscale("log")
        axes.set_xlim(min(costs) / room, max(costs) * room)
        plain_numbers(axes.xaxis, axes.get_xlim())
    else:
        axes.set_xlim(0, max(costs) * 1.15)
        axes.locator_params(axis="x", nbins=5)
        axes.xaxis.set_major_formatter(lambda value, _: short(value))
    middle = math.sqrt(max(costs) * min(costs)) if logarithmic else max(costs) / 2
    height, taken = 130 / (top - bottom), {True: -math.inf, False: -math.inf}  # points of paper a point of quality; the last label's place
    for look, x, y in sorted(points, key=lambda point: point[2]):
        axes.plot([x], [y], look.marker, color=look.colour, markersize=8, markeredgecolor=INK, markeredgewidth=0.6)
        left = x <= middle
        place = max((y - bottom) * height, taken[left] + 11)
        taken[left] = place
        shift = place - (y - bottom) * height
        axes.annotate(
            look.name, (x, y), (9 if left else -9, shift), textcoords="offset points", ha="left" if left else "right", va="center"
        )
    axes.set_xlabel(f"{cost} (logarithmic)" if logarithmic else cost)
    axes.set_ylabel(quality)
    return figure


@drawing
def curves(lines: Sequence[tuple[Look, Sequence[float], Sequence[float]]], quality: str, borders: Sequence[float] = ()) -> Figure:
    """A number over the updates of each model.

    Args:
        lines: (look, updates, values) of each model.
        quality: label of the axis.
        borders: updates at which a new stage of the student begins.
    """
    figure, axes = blank(2.6)
    for border in borders:
        axes.axvline(border, color=QUIET, linewidth=0.8, linestyle=(0, (2, 2)))
    for look, x, y in lines:
        x, y = thinned(x, y)
        axes.plot(x, y, color=look.colour, linestyle=look.line, marker=look.marker, markevery=max(1, len(x) // 8), label=look.name)
    return _over_updates(figure, axes, quality)


@drawing
def terms(lines: Mapping[str, tuple[Sequence[float], Sequence[float]]], quality: str, share: bool = False) -> Figure:
    """Each term's value, or share of the gradient, over the updates of a stage.

    Args:
        lines: (updates, values) by term.
        quality: label of the axis.
        share: whether values are shares in [0, 1].
    """
    figure, axes = blank(2.6)
    everything = []
    for number, (name, (x, y)) in enumerate(lines.items()):
        x, y = thinned(x, [v * 100 for v in y] if share else y)
        everything += y
        few = len(x) <= 12
        style = {"color": CYCLE[number % len(CYCLE)], "linestyle": LINES[number % len(LINES)], "marker": "osD^vPX"[number % 7]}
        axes.plot(x, y, markevery=1 if few else len(x) // 6, label=name, **style)
    if share:
        axes.set_ylim(0, 100)
    elif everything and min(everything) > 0 and max(everything) > 20 * min(everything):
        axes.set_yscale("log")
        plain_numbers(axes.yaxis, axes.get_ylim())
    return _over_updates(figure, axes, quality)


@drawing
def reliability_diagram(bins: Sequence[Mapping[str, Any]], look: Look) -> Figure:
    """How often a model is right when it is so sure, and how often it is so sure.

    Args:
        bins: as `reliability` gives them.
        look: the model's.
    """
    figure, (axes, below) = blank(3.2, SMALL, nrows=2, sharex=True, height_ratios=[3.6, 1])
    width = 1 / len(bins)
    middles = [(i + 0.5) * width * 100 for i in range(len(bins))]
    filled = [(m, b) for m, b in zip(middles, bins, strict=True) if b["samples"]]
    axes.plot([0, 100], [0, 100], color=INK, linewidth=0.9, linestyle=(0, (4, 3)))
    axes.bar(
        [m for m, _ in filled], [b["accuracy"] * 100 for _, b in filled], width * 92, color=look.colour, alpha=0.35, edgecolor=look.colour
    )
    axes.plot([b["confidence"] * 100 for _, b in filled], [b["accuracy"] * 100 for _, b in filled], look.marker, color=look.colour)
    axes.set_ylabel("right, %")
    axes.set_ylim(0, 104)
    total = sum(b["samples"] for b in bins)
    below.bar(middles, [b["samples"] / total * 100 for b in bins], width * 92, color=QUIET)
    below.set_ylabel("samples, %")
    below.set_xlim(0, 100)
    below.set_xlabel("confidence, %")
    for each in (axes, below):
        each.grid(axis="x", visible=False)
    return figure


@drawing
def class_changes(rows: Sequence[tuple[str, Sequence[float]]], against: Sequence[str]) -> Figure:
    """Gains and losses of the student, class by class, in points of recall.

    Args:
        rows: class, and the changes against each of the others, in points.
        against: names of what the student is compared with, one or two.
    """
    figure, all_axes = blank(0.75 + 0.2 * len(rows), ncols=len(against), sharey=True, sharex=True, squeeze=False)
    places = list(range(len(rows)))
    most = max(abs(value) for _, changes in rows for value in changes) or 1.0
    for column, (axes, name) in enumerate(zip(all_axes[0], against, strict=True)):
        values = [changes[column] for _, changes in rows]
        bars = axes.barh(places, values, 0.72, color=[GREEN if v > 0 else VERMILION for v in values], edgecolor=INK, linewidth=0.4)
        for bar, value in zip(bars, values, strict=True):
            bar.set_hatch("" if value > 0 else "/////")
        axes.axvline(0, color=INK, linewidth=0.8)
        axes.set_title(f"against {name}")
        axes.set_xlim(-most * 1.1, most * 1.1)
        axes.set_xlabel("points of recall")
        axes.set_yticks(places, labels=[shortened(name) for name, _ in rows])
        axes.tick_params(axis="y", length=0)
        axes.grid(axis="y", visible=False)
    all_axes[0][0].set_ylim(len(rows) - 0.4, -0.6)
    return figure


@drawing
def heat_map(counts: Sequence[Sequence[int]], names: Sequence[str], rows: str, columns: str, pooled: bool = False) -> Figure:
    """How often two choose which pair of classes; the diagonal, where they agree, is left uncoloured.

    Args:
        counts: (V, V), rows by the first.
        names: of the classes.
        rows: who chooses the row.
        columns: who chooses the column.
        pooled: whether the last row and column are many classes together; they then have no say in how dark the others are.
    """
    size = len(names)
    side = min(max(3.2, 1.1 + 0.3 * size), 7.4)
    figure, axes = blank(side * 0.96, side)
    shown = [[0 if i == j else n for j, n in enumerate(row)] for i, row in enumerate(counts)]
    own = size - pooled
    most = max([n for row in shown[:own] for n in row[:own]], default=0) or 1
    axes.pcolormesh(shown, cmap="Blues", vmin=0, vmax=most * 1.25, edgecolors="white", linewidth=0.8)
    for i, row in enumerate(counts):
        for j, number in enumerate(row):
            if number:
                pale = i == j or shown[i][j] < 0.6 * most
                axes.text(
                    j + 0.5,
                    i + 0.5,
                    f"{number}",
                    ha="center",
                    va="center",
                    color=QUIET if i == j else INK if pale else "white",
                    fontsize=7.5,
                )
    places = [i + 0.5 for i in range(size)]
    _name_below(axes, places, names, 0.8 * side)
    axes.set_yticks(places, labels=[shortened(n) for n in names])
    axes.tick_params(length=0)
    axes.set_ylabel(rows)
    axes.set_xlabel(columns)
    axes.grid(visible=False)
    axes.invert_yaxis()
    for spine in axes.spines.values():
        spine.set_visible(False)
    return figure


@drawing
def class_sizes(counts: Sequence[int], names: Sequence[str]) -> Figure:
    """Samples of each class, the largest first.

    Args:
        counts: by class.
        names: of the classes; left out where there are more than 30.
    """
    ordered = sorted(zip(counts, names, strict=True), key=lambda pair: -pair[0])
    figure, axes = blank(2.5)
    axes.bar(range(len(ordered)), [n for n, _ in ordered], 0.8 if len(ordered) <= 60 else 1.0, color=BLUE)
    if len(ordered) <= 30:
        _name_below(axes, range(len(ordered)), [name for _, name in ordered], 0.85 * WIDTH)
        axes.tick_params(axis="x", length=0)
    else:
        axes.set_xlabel("classes, the largest first")
    axes.set_ylabel("samples to train on")
    axes.grid(axis="x", visible=False)
    return figure


def thinned(x: Sequence[float], y: Sequence[float], most: int = 300) -> tuple[list[float], list[float]]:
    """At most so many points of a line, evenly chosen, the last among them."""
    every = -(-len(x) // most)
    kept = sorted({*range(0, len(x), max(1, every)), len(x) - 1} if len(x) else set())
    return [x[i] for i in kept], [y[i] for i in kept]


def shortened(name: str, most: int = 18) -> str:
    """A name that fits beside an axis."""
    name = " ".join(name.split())
    return name if len(name) <= most else name[: most - 1] + "…"


def _name_below(axes: Axes, places: Sequence[float], names: Sequence[str], inches: float) -> None:
    """Write names below an axis of so many inches, slanted where they would meet."""
    short_names = [shortened(name, 14) for name in names]
    slanted = max(map(len, short_names)) * 0.085 > inches / len(names)
    axes.set_xticks(places, labels=short_names, rotation=60 if slanted else 0, ha="right" if slanted else "center", rotation_mode="anchor")


def _over_updates(figure: Figure, axes: Axes, quality: str) -> Figure:
    axes.set_xlim(left=0)
    axes.set_xlabel("updates")
    axes.set_ylabel(quality)
    _legend(figure, axes)
    return figure


def _legend(figure: Figure, axes: Axes) -> None:
    handles, labels = axes.get_legend_handles_labels()
    if labels:
        figure.legend(
            handles, [shortened(label, 28) for label in labels], loc="outside upper left", ncols=3 if max(map(len, labels)) < 16 else 2
        )


def plain_numbers(axis: Axis, limits: tuple[float, float]) -> None:
    """Write a logarithmic axis in plain numbers, and enough of them."""
    from matplotlib.ticker import LogLocator, NullFormatter

    ratio = max(limits) / min(limits)
    axis.set_major_locator(LogLocator(subs=(1.0,) if ratio > 300 else (1.0, 3.0) if ratio > 30 else (1.0, 2.0, 5.0)))
    axis.set_major_formatter(lambda value, _: short(value))
    axis.set_minor_formatter(NullFormatter())
