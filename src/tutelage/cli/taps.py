"""`tutelage taps MODEL [MODEL]`: where signals can be read, and which places of two models match by depth."""

from __future__ import annotations

from collections.abc import Sequence

from tutelage.cli.console import console
from tutelage.cli.parser import Parser, data_options


def run(words: Sequence[str]) -> int:
    """Parse, trace, print."""
    words, changes = data_options(words)
    parser = Parser(
        prog="tutelage taps",
        description="List a model's module paths with shapes, and how two models match by depth.",
        epilog="example: tutelage taps cnn:width=64 mlp",
    )
    parser.add_argument("model", type=str, help="a built-in net, hf:FOLDER_OR_ID, timm:NAME, file.py:function, or a run folder")
    parser.add_argument("other", nargs="?", type=str, help="a second model (the student), to match by depth")
    parser.add_argument("--data", type=str, default="digits", help="what the models are run on, for shapes")
    parser.add_argument("--trust_code", action="store_true", help="let a run folder name a .py file whose code then runs")
    given = parser.read(words)

    from rich.table import Table

    from tutelage.jobs.sources import LOCATED
    from tutelage.jobs.specs import changed
    from tutelage.jobs.taps import matching, taps

    out = console()
    studied = changed(given.get("data", "digits"), changes, LOCATED)
    traced = [taps(m, studied, given.get("trust_code", False)) for m in (given["model"], given.get("other")) if m]
    for model, found in traced:
        table = Table(
            title=f"{model.name}: {found.layers} weighted layers; a tap is the first output of a module in a pass", title_justify="left"
        )
        for column in ("tap", "module", "shape"):
            table.add_column(column)
        table.add_column("depth", justify="right")
        table.add_column("calls", justify="right")
        for visit in found.visits:
            shape = "" if visit.shape is None else f"({', '.join(['B', *map(str, visit.shape[1:])])})"
            table.add_row(visit.path, visit.kind, shape, f"{visit.layers / max(found.layers, 1):.2f}", str(visit.calls))
        if found.logits is not None:
            table.add_row("logits", "", f"({', '.join(['B', *map(str, found.logits[1:])])})", "1.00", "1")
        out.print(table)
    if len(traced) == 2:
        table = Table(title="Default matching by depth", title_justify="left")
        for column in ("depth", traced[0][0].name, traced[1][0].name + (" (second)" if traced[0][0].name == traced[1][0].name else "")):
            table.add_column(column)
        for depth, first, second in matching(traced[0][1], traced[1][1]):
            table.add_row(f"{depth:.2f}", first, second)
        out.print(table)
    return 0
