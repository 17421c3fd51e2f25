"""The report of a run as one HTML file that opens offline: a function of what the run folder holds.

Nothing that comes from the user's data or from a run folder is trusted: see `template`; pictures are only taken as data. The figures are in
`plots`, the words in `wording`, what stands where in `page.html.jinja`.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from tutelage.evaluation import sections, wording
from tutelage.evaluation.contents import Contents, looks_of
from tutelage.evaluation.contrast import confused, gallery_entry
from tutelage.evaluation.language_wording import judged, of_language
from tutelage.evaluation.template import breakable, cited, filled, flat

COST = (
    ("parameters", "Parameters", "", "{:,}".format),
    ("bytes", "Memory", "parameters and buffers", wording.size),
    ("flops", "Operations", "floating-point, one sample", wording.quantity),
    ("batch_1", "Time of one sample", "median (95th percentile)", None),
)
METRICS = (
    ("model", "Model", "", breakable),
    ("accuracy", "Accuracy", "higher is better", wording.percent),
    ("robust_accuracy", "Accuracy under attack", "on changed images, higher is better", wording.percent),
    ("weighted_robust_accuracy", "Mean of both", "of accuracy with and without attack", wording.percent),
    ("macro_f1", "Macro F1", "mean over classes, higher is better", wording.percent),
    ("nll", "Nats a sample", "negative log-likelihood, lower is better", "{:.3f}".format),
    ("ece", "Calibration error", "expected, 15 bins, lower is better", partial(wording.percent, digits=1)),
    ("agreement", "Agrees with the teacher", "same choice", wording.percent),
    ("probe_accuracy", "Linear probe", "accuracy of a logistic regression on frozen embeddings", wording.percent),
    ("score_correlation", "Follows the scores", "of pairs, rank correlation with the cosines", "{:.3f}".format),
    ("mrr", "Reciprocal rank", "of a text's own pair among all, higher is better", "{:.3f}".format),
    ("recall_at_10", "Pair among the nearest 10", "higher is better", wording.percent),
    ("similarity", "Similarities as the teacher's", "rank correlation of cosines", "{:.3f}".format),
    ("neighbours", "Neighbours as the teacher's", "share of its nearest 10", wording.percent),
    *COST,
    ("batch_64", "Time of a batch of 64", "median (95th percentile)", None),
    ("throughput", "Samples a second", "in batches of 64", wording.quantity),
    ("updates", "Updates in training", "", "{:,}".format),
)
LANGUAGE_METRICS = (
    ("model", "Model", "", breakable),
    ("perplexity", "Perplexity", "a token, lower is better", "{:.4g}".format),
    ("nll", "Nats a token", "negative log-likelihood, lower is better", "{:.3f}".format),
    ("forward_kl", "KL from the teacher", "KL(teacher \N{PARALLEL TO} model), nats a token", "{:.3f}".format),
    ("reverse_kl", "Reverse KL", "KL(model \N{PARALLEL TO} teacher), nats a token", "{:.3f}".format),
    ("entropy", "Entropy", "of what it expects next, nats a token", "{:.3f}".format),
    ("accuracy", "Next token right", "its likeliest, higher is better", wording.percent),
    ("agreement", "Agrees with the teacher", "on the likeliest next token", wording.percent),
    ("ece", "Calibration error", "expected, 15 bins, lower is better", partial(wording.percent, digits=1)),
    ("own_teacher_nll", "Its own text, to the teacher", "nats a token that the teacher needs for it", "{:.3f}".format),
    (
        "own_sequence_kl",
        "Its own text, from the teacher",
        "KL(model \N{PARALLEL TO} teacher) on it, nats a token",
        "{:.3f}".format,
    ),
    ("repetition", "Repeats itself", "4-grams that came before in its own text", partial(wording.percent, digits=1)),
    ("distinct", "Different pairs of tokens", "of all in its own text", partial(wording.percent, digits=1)),
    ("ended", "Ends by itself", "its own texts", partial(wording.percent, digits=1)),
    *COST,
    ("batch_8", "Time of a batch of 8", "median (95th percentile)", None),
    ("tokens_a_second", "Tokens read a second", "in batches of 8", wording.quantity),
    ("updates", "Updates in training", "", "{:,}".format),
)


def render(contents: Contents) -> str:
    """Make the page.

    Args:
        contents: what the run folder holds.

    Returns:
        HTML that needs no other file.
    """
    report = contents.report
    looks, first = looks_of(report), wording.teacher_of(report)
    return filled(
        "page.html.jinja",
        report=report,
        looks=looks,
        words=of_language(report),
        judged=judged(report) if of_language(report) else f"{report['samples']:,} {report['split']} samples",
        headline=wording.headline(report),
        gain=wording.gain(report),
        busy=wording.busy(report),
        savings=wording.savings(report),
        table=side_by_side(report),
        cost=sections.cost(report, looks),
        learning=sections.learning(contents, looks),
        stages=sections.stages(contents.journals.get("student", ())),
        calibration=sections.calibration(contents, looks),
        changes=sections.class_changes(report, looks),
        confused=confused(contents, looks),
        disagreements=[gallery_entry(each, contents, looks) for each in contents.disagreements],
        against=f"the {looks[first].name}" if first else "the labels",
        data=sections.data_of(report),
        paper=cited(report.get("paper")),
        settings=sorted(flat(contents.config)),
        versions=contents.environment.get("versions", {}),
        environment=contents.environment,
        from_python=any(isinstance(v, str) and v.startswith("<") for v in contents.config.values()),
        drawn=_drawn(report),
    )


def side_by_side(report: Mapping[str, Any]) -> list[tuple[str, str, list[str]]]:
    """The rows of the main table: metric, what it means, a cell for each model."""
    rows = []
    for key, title, hint, form in LANGUAGE_METRICS if of_language(report) else METRICS:
        cells = []
        for name in report["models"]:
            numbers = report[name]
            if form is not None:
                cells.append("" if numbers.get(key) is None else form(numbers[key]))
            else:
                time = wording.latency(numbers, key)
                cells.append("" if time is None else f"{_ms(time['median'])} ({_ms(time['p95'])})")
        if any(cells):
            rows.append((title, hint, cells))
    return rows


def _drawn(report: Mapping[str, Any]) -> str:
    kept = report.get("kept")
    if not kept or kept["samples"] == kept["of"]:
        return ""
    return f"Made from {kept['samples']:,} of the {kept['of']:,} samples, drawn by the run's seed."


def _ms(milliseconds: float) -> str:
    return f"{milliseconds:.3g} ms"
