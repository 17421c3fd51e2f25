"""The figures: the same bytes for the same numbers, nothing from elsewhere, whatever the names."""

from __future__ import annotations

import subprocess
import sys
import warnings
import xml.etree.ElementTree as ElementTree

import pytest

from tutelage.evaluation import plots
from tutelage.evaluation.plots import Look

TEACHER, STUDENT = Look("teacher", plots.BLUE, "s", "-"), Look("student <taught> & $x$", plots.GREEN, "o", "--")
EVIL = ["<b>&\"'", "costs $5 or $6", "日本 ☃", "a\nb", "x" * 300]
BINS = [{"samples": 0, "accuracy": None, "confidence": None}] * 14 + [{"samples": 3, "accuracy": 2 / 3, "confidence": 0.97}]

DRAWN = {
    "quality": lambda: plots.quality_against_cost([(TEACHER, 6e4, 0.99), (STUDENT, 1e3, 0.97), (TEACHER, 1e3, 0.97)], "parameters", "%"),
    "nats": lambda: plots.quality_against_cost([(TEACHER, 6e4, 2.5), (STUDENT, 1e3, 2.75)], "parameters", "nats a token", lower=True),
    "quality of equals": lambda: plots.quality_against_cost([(TEACHER, 2.0, 1.0), (STUDENT, 2.0, 1.0)], "ms", "accuracy"),
    "curves": lambda: plots.curves([(TEACHER, range(999), [0.5] * 999), (STUDENT, [3], [0.1])], "accuracy", [400.0]),
    "terms": lambda: plots.terms({name: ([1, 2, 3], [i + 1.0, 60.0, 2.0]) for i, name in enumerate(EVIL)}, "value"),
    "terms that are negative or constant": lambda: plots.terms({"a": ([1, 2], [-1.0, 5.0]), "b": ([1, 2], [0.0, 0.0])}, "value"),
    "shares": lambda: plots.terms({"labels": ([5], [0.25]), "soft": ([5], [0.75])}, "share", share=True),
    "reliability": lambda: plots.reliability_diagram(BINS, STUDENT),
    "classes": lambda: plots.class_changes([(name, [float(i), -1.0]) for i, name in enumerate(EVIL)], ["teacher", "student alone"]),
    "classes without change": lambda: plots.class_changes([("a", [0.0])], ["teacher"]),
    "heat map": lambda: plots.heat_map([[5, 1, 0, 0, 2]] * 5, EVIL, "teacher says", "student chooses", pooled=True),
    "heat map of agreement": lambda: plots.heat_map([[3, 0], [0, 4]], ["a", "b"], "rows", "columns"),
    "sizes": lambda: plots.class_sizes([5, 0, 3, 9, 1], EVIL),
    "sizes of many": lambda: plots.class_sizes(list(range(200)), [str(i) for i in range(200)]),
}


@pytest.mark.parametrize("case", DRAWN)
def test_a_figure_is_well_formed_and_the_same_each_time(case):
    """A class called `<b>` must neither break the page nor change its look; a rebuilt report must equal the first."""
    first = DRAWN[case]()
    assert first == DRAWN[case]()
    assert "http" not in first
    assert "<b>" not in first
    root = ElementTree.fromstring(first)
    assert root.tag == "svg"
    assert "viewBox" in root.attrib
    assert len({e.get("id") for e in root.iter() if e.get("id")}) == sum(e.get("id") is not None for e in root.iter())


def test_text_stays_text_and_dollars_are_no_formulas():
    """The page's own font is used, and a name with two dollar signs is no mathematics."""
    drawn = "".join(ElementTree.fromstring(DRAWN["heat map"]()).itertext())
    assert "costs $5 or $6" in drawn
    assert "<b>&\"'" in drawn


def test_a_users_own_style_does_not_reach_the_figures():
    """The same run must give the same page on two desks; and drawing must not change what the user plots."""
    import matplotlib

    plain = DRAWN["curves"]()
    with matplotlib.rc_context({"font.size": 30, "axes.facecolor": "red", "svg.fonttype": "path"}):
        assert DRAWN["curves"]() == plain
        assert matplotlib.rcParams["font.size"] == 30


def test_drawing_needs_no_display_and_opens_no_window():
    """Runs end on servers; pyplot would choose a window system and keep every figure."""
    code = (
        "import sys; from tutelage.evaluation import plots; assert 'matplotlib' not in sys.modules; "
        "plots.class_sizes([1, 2], ['a', 'b']); assert 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env={"PATH": "", "PYTHONPATH": ":".join(sys.path), "MPLBACKEND": "TkAgg"})


def test_long_curves_are_thinned_and_keep_their_end():
    """A million lines of a log would make a page of a hundred megabytes."""
    x, y = plots.thinned(range(100_001), range(100_001))
    assert len(x) <= 302
    assert (x[0], x[-1], y[-1]) == (0, 100_000, 100_000)
    assert plots.thinned([1, 2], [3, 4]) == ([1, 2], [3, 4])
    assert plots.thinned([], []) == ([], [])


def test_warnings_stay_the_users():
    """Missing glyphs are hushed while drawing, and nothing else afterwards."""
    DRAWN["sizes"]()
    with pytest.warns(UserWarning, match="mine"):
        warnings.warn("mine", UserWarning, stacklevel=1)
