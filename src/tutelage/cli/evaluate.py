"""`tutelage evaluate MODEL_OR_RUN ...`: measure models again, with intervals, and compare them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tutelage.cli.console import console
from tutelage.cli.parser import Parser, dashes_to_underscores, data_options
from tutelage.errors import BadInput, printable

if TYPE_CHECKING:
    from tutelage.jobs.evaluate import Evaluation

EXAMPLES = """\
examples:
  tutelage evaluate runs/first
  tutelage evaluate runs/first runs/second --out both.json
  tutelage evaluate runs/first/exported/onnx runs/first --teacher runs/first/teacher
  tutelage evaluate student.onnx --data csv:new-mails.csv --data.label kind --split all

One run alone stands for all of its models, as in its report: they are measured on the run's data, and their
numbers are held against report.json. Among several models, a run stands for its student. Without --data, the
data are those of the run, or of the run in whose folder the first model lies. The first model, or the student of
a run, is compared with each other. What comes without splits is cut as in `tutelage distill`; --split all
measures on the whole of it.

Intervals are over samples, at 95 %; they know nothing of other seeds of a training. Those of accuracy, agreement
and recall are exact (Clopper-Pearson); those of macro F1, nats and calibration error come from 1000 draws of the
samples, the same for all models. Which of two models is right more often is judged by McNemar's exact test at
0.05, by Holm's method where there are several comparisons. Language models are compared by nats a token; their
samples are drawn with all of their tokens.
"""

FEW = 3
"""Classes at either end that are shown."""
SHOWN = 8
"""Numbers unlike those of the report that are named."""


def run(words: Sequence[str]) -> int:
    """Parse, measure, print."""
    words, changes = data_options(dashes_to_underscores(words))
    parser = Parser(
        prog="tutelage evaluate",
        description="Compute every number of the report again for any model, with intervals, and compare models by paired tests.",
    )
    parser.epilog = EXAMPLES
    parser.add_argument("models", nargs="+", type=str, metavar="MODEL_OR_RUN", help="a run folder, or any model that distill takes")
    parser.add_argument("--data", type=str, metavar="DATA", help="what is measured on, as in `tutelage distill`; default: that of the run")
    parser.add_argument(
        "--split", type=str, metavar="SPLIT", help="train, validation, test, or all of them; default: test where there is one"
    )
    parser.add_argument("--teacher", type=str, metavar="MODEL_OR_RUN", help="with whose answers the models' are compared")
    parser.add_argument(
        "--attack",
        type=str,
        metavar="ATTACK",
        help="also measure on images changed so that a model errs: pgd:eps=0.1,steps=20, or fgsm, apgd, square",
    )
    parser.add_argument("--seed", type=int, default=0, help="of what the intervals draw")
    parser.add_argument("--device", type=str, default="auto", help="where to compute: auto takes an accelerator where there is one, or cpu")
    parser.add_argument("--trust_code", action="store_true", help="let a run folder name a .py file whose code then runs")
    parser.add_argument("--json", action="store_true", help="print all numbers as JSON on stdout, those of each class too")
    parser.add_argument("--out", type=str, metavar="FILE.json", help="write all numbers into a file, too; one that is there is replaced")
    given = parser.read(words)
    as_json, out = given.pop("json", False), given.pop("out", None)
    if changes and given.get("data") is None:
        raise BadInput(f"--data.{changes[0][0]} is an option of --data, which is not given")
    target = None if out is None else _target(out)

    from tutelage.jobs.evaluate import evaluate
    from tutelage.jobs.sources import LOCATED
    from tutelage.jobs.specs import changed
    from tutelage.training.checkpoint import write_text_atomically

    if changes:
        given["data"] = changed(given["data"], changes, LOCATED)
    found = evaluate(*given.pop("models"), **given)
    text = json.dumps(found.as_json(), indent=1, allow_nan=False)
    if target is not None:
        write_text_atomically(target, text)
    if as_json:
        print(text)
    else:
        _print(found, target)
    return 0


def _target(out: str) -> Path:
    """Where the numbers go, before anything is measured."""
    target = Path(out)
    if not out or target.is_dir():
        raise BadInput(f"--out {out!r} is no file; expected one to write, such as numbers.json")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:  # a ValueError where the name holds a null byte
        raise BadInput(f"--out {out} cannot be made: {getattr(error, 'strerror', None) or error}") from None
    return target


def _print(found: Evaluation, target: Path | None) -> None:
    from rich.table import Table
    from rich.text import Text

    from tutelage.evaluation import busy, language_wording
    from tutelage.evaluation.wording import other_differences, verdict

    out = console()
    judged = "" if found.tokens is None else f", {found.tokens:,} tokens"
    title = f"{found.data}, {found.samples:,} {found.split} samples{judged}; in brackets: 95 % intervals over samples"
    table = Table(title=Text(printable(title)), title_justify="left")
    table.add_column("")
    for name in found.models:
        table.add_column(Text(printable(name)), justify="right", overflow="fold")
    for what, cells in _rows(found):
        table.add_row(what, *(Text("\n".join(printable(line) for line in cell.splitlines())) for cell in cells))
    out.print(table)
    lines = []
    for each in found.comparisons:
        if found.tokens is None:
            lines += [verdict(each, len(found.comparisons)), f"  {other_differences(each)}"]
        else:
            lines.append(language_wording.verdict(each))
    lines += [*filter(None, [busy({"models": list(found.models), **found.models}), _held(found.recorded)]), *found.notes]
    for line in [*lines, *([] if target is None else [f"Numbers: {target}"])]:
        out.print(printable(line), highlight=False, markup=False, soft_wrap=True)


def _rows(found: Evaluation) -> list[tuple[str, list[str]]]:
    """The rows of the table: what, and a cell for each model."""
    from tutelage.evaluation.wording import latency, percent, size

    def share(value: float) -> str:
        return f"{value * 100:.2f}"

    def time(batch: str) -> Callable[[Mapping[str, Any]], float | None]:
        return lambda numbers: (latency(numbers, batch) or {}).get("median")

    def cell(numbers: Mapping[str, Any], key: str, form: Callable[[float], str], unit: str) -> str:
        if numbers.get(key) is None:
            return ""
        ends = numbers["intervals"].get(key)
        between = f" ({form(ends['low'])} to {form(ends['high'])})" if ends else ""
        return f"{form(numbers[key])}{unit}{between}"

    every = list(found.models.values())
    teacher = f"agrees with {printable(found.teacher)}" if found.teacher else ""
    measured: tuple[tuple[str, str, Callable[[float], str], str], ...] = (
        ("accuracy", "accuracy", share, " %"),
        ("robust_accuracy", f"under {found.attack}", share, " %"),
        ("weighted_robust_accuracy", "mean of both", share, " %"),
        ("macro_f1", "macro F1", share, " %"),
        ("nll", "nats a sample", "{:.3f}".format, ""),
        ("ece", "calibration error", "{:.3f}".format, ""),
        ("agreement", teacher, share, " %"),
        ("probe_accuracy", "linear probe", share, " %"),
        ("score_correlation", "follows the scores", "{:.3f}".format, ""),
        ("mrr", "reciprocal rank", "{:.3f}".format, ""),
        ("recall_at_10", "pair among 10", share, " %"),
        ("similarity", "similarities as the teacher's", "{:.3f}".format, ""),
        ("neighbours", "neighbours as the teacher's", share, " %"),
    )
    if found.tokens is not None:
        measured = (
            ("perplexity", "perplexity", "{:.4g}".format, ""),
            ("nll", "nats a token", "{:.4f}".format, ""),
            ("forward_kl", "KL from the teacher", "{:.4f}".format, ""),
            ("reverse_kl", "reverse KL", "{:.4f}".format, ""),
            ("entropy", "entropy, nats", "{:.4f}".format, ""),
            ("accuracy", "next token right", share, " %"),
            ("ece", "calibration error", "{:.3f}".format, ""),
            ("agreement", teacher, share, " %"),
        )
    rows = [(what, [cell(numbers, key, form, unit) for numbers in every]) for key, what, form, unit in measured]
    batch = "batch_64" if found.tokens is None else "batch_8"
    costs: tuple[tuple[str, Callable[[Mapping[str, Any]], float | None], Callable[[float], str]], ...] = (
        ("parameters", lambda n: n.get("parameters"), "{:,}".format),
        ("memory", lambda n: n.get("bytes"), size),
        ("operations a sample", lambda n: n.get("flops"), "{:,}".format),
        ("ms, batch 1", time("batch_1"), "{:.3g}".format),
        (f"ms, {batch.replace('_', ' ')}", time(batch), "{:.3g}".format),
    )
    for what, read, form in costs:
        rows.append((what, ["" if (value := read(numbers)) is None else form(value) for numbers in every]))
    judged = [row for row in found.per_class if row["samples"]]
    few = min(FEW, len(judged) // 2)
    for what, end in (("least recognised", slice(None, few)), ("best recognised", slice(-1, -few - 1, -1))) if few else ():
        cells = []
        for name in found.models:
            ordered = sorted(judged, key=lambda row: row["recall"][name]["value"])[end]
            cells.append("\n".join(f"{row['class'][:40]}: {percent(row['recall'][name]['value'], 1)}" for row in ordered))
        rows.append((what, cells))
    return [(what, cells) for what, cells in rows if any(cells)]


def _held(recorded: Mapping[str, Any] | None) -> str:
    """Whether the numbers are those of the report."""
    if recorded is None:
        return ""
    rows = recorded["numbers"]
    unlike = [f"{row['name']} {row['here']} instead of {row['report']}" for row in rows if not row["equal"]]
    changed = "" if recorded["same_data"] else " The data are not those that the run was begun with."
    if not unlike:
        return f"All {len(rows):,} numbers are those of report.json, to 1e-6; times are not compared.{changed}"
    more = f", and {len(unlike) - SHOWN} more" if len(unlike) > SHOWN else ""
    are = "is not that" if len(unlike) == 1 else "are not those"
    return f"{len(unlike):,} of {len(rows):,} numbers {are} of report.json: {'; '.join(unlike[:SHOWN])}{more}.{changed}"
