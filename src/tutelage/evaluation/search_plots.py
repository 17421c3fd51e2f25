"""The figures of a search: the score of each net over what it costs, and the best score as the search went on. See `plots`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from tutelage.evaluation.plots import BLUE, GREEN, INK, QUIET, blank, drawing, plain_numbers

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WIDTH = 4.7


@drawing
def front(dots: Sequence[tuple[float, float]], best: Sequence[tuple[float, float]], limit: float | None, cost: str, score: str) -> Figure:
    """The score of each net over its cost, and the line of those that no other beats at as little cost.

    Args:
        dots: (cost, score) of all nets.
        best: of those on the frontier, by rising cost; the last is the one that was chosen.
        limit: of the budget; None where the cost has none.
        cost: label of the axis.
        score: label of the axis.
    """
    figure, axes = blank(3.0, WIDTH)
    axes.plot([x for x, _ in dots], [y for _, y in dots], "o", color=BLUE, markersize=3.2, alpha=0.5, linestyle="none")
    axes.step([x for x, _ in best], [y for _, y in best], where="post", color=GREEN, linewidth=1.1)
    axes.plot([x for x, _ in best], [y for _, y in best], "o", color=GREEN, markersize=4.5, linestyle="none")
    axes.plot([best[-1][0]], [best[-1][1]], "D", color=GREEN, markersize=8, markeredgecolor=INK, markeredgewidth=0.7)
    if limit is not None:
        axes.axvline(limit, color=QUIET, linewidth=1.0, linestyle=(0, (4, 3)))
    least, most = min(x for x, _ in dots), max([x for x, _ in dots] + ([limit] if limit else []))
    if least > 0 and most > 4 * least:
        axes.set_xscale("log")
        axes.set_xlim(least / (most / least) ** 0.05, most * (most / least) ** 0.05)
        plain_numbers(axes.xaxis, axes.get_xlim())
    axes.set_xlabel(cost)
    axes.set_ylabel(score)
    return figure


@drawing
def course(scores: Sequence[float], score: str) -> Figure:
    """The score of each net in the order in which it was tried, and the best so far.

    Args:
        scores: by order.
        score: label of the axis.
    """
    figure, axes = blank(3.0, WIDTH)
    places, best, line = range(1, len(scores) + 1), -math.inf, []
    for value in scores:
        best = max(best, value)
        line.append(best)
    axes.plot(places, scores, "o", color=BLUE, markersize=3.0, alpha=0.5, linestyle="none")
    axes.step(places, line, where="post", color=GREEN, linewidth=1.3)
    axes.locator_params(axis="x", nbins=6, integer=True)
    axes.set_xlabel("nets scored")
    axes.set_ylabel(score)
    return figure
