"""The figure of a report on generators: how near images are to real ones over the number of evaluations. See `plots`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from tutelage.evaluation.plots import QUIET, Look, blank, drawing, plain_numbers

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WIDTH = 4.7


@drawing
def over_evaluations(lines: Mapping[str, tuple[Look, Sequence[tuple[int, float]]]], own: Mapping[str, int], floor: float | None) -> Figure:
    """The Frechet distance of each model over its evaluations.

    Args:
        lines: by model, its look, and (evaluations, distance), rising.
        own: the number of evaluations that each model is used with.
        floor: of real images; None where it is not known.
    """
    figure, axes = blank(3.0, WIDTH)
    for name, (look, points) in lines.items():
        at, values = [n for n, _ in points], [v for _, v in points]
        axes.plot(at, values, look.marker, color=look.colour, linestyle=look.line, markersize=4.0, linewidth=1.2, label=look.name)
        chosen = [(n, v) for n, v in points if n == own[name]]
        axes.plot([n for n, _ in chosen], [v for _, v in chosen], look.marker, color=look.colour, markersize=8.5, linestyle="none")
    if floor is not None and floor > 0:
        axes.axhline(floor, color=QUIET, linewidth=1.0, linestyle=(0, (4, 3)))
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    for axis, limits in ((axes.xaxis, axes.get_xlim()), (axes.yaxis, axes.get_ylim())):
        plain_numbers(axis, limits)
    axes.set_xlabel("evaluations of the net for an image")
    axes.set_ylabel("Frechet distance")
    axes.legend(frameon=False, loc="best")
    return figure
