"""What a report on language models says in words: perplexity kept, nats gained. Takes report.json as a mapping."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

FIGURES = (
    ("perplexity", "perplexity", "{:.4g}"),
    ("nll", "nats a token", "{:.3f}"),
    ("forward_kl", "KL from teacher", "{:.3f}"),
    ("accuracy", "next token right", "{:.2%}"),
    ("agreement", "agrees with teacher", "{:.2%}"),
    ("parameters", "parameters", "{:,}"),
    ("bytes", "bytes", "{:,}"),
)
"""What a table shows of each model, as far as a terminal has room: the key in report.json, what it is called, and its form."""


def of_language(report: Mapping[str, Any]) -> bool:
    """Whether a report is on language models: it then says how many tokens were predicted."""
    return "tokens" in report


def judged(report: Mapping[str, Any]) -> str:
    """On what: "24,576 tokens of test"."""
    return f"{report['tokens']:,} tokens of {report['split']}"


def kept(student: Mapping[str, Any], teacher: Mapping[str, Any] | None, who: str, report: Mapping[str, Any]) -> str:
    """How near the student's perplexity comes to the teacher's, the beginning of a sentence.

    Args:
        student: its numbers.
        teacher: its numbers; None where nobody taught, or where it said nothing of these tokens.
        who: how the sentence calls the teacher.
        report: the content of report.json.
    """
    ours = student["perplexity"]
    if teacher is None or "perplexity" not in teacher:
        return f"The student's perplexity is {ours:.4g} on {judged(report)}"
    theirs = teacher["perplexity"]
    against = f"({ours:.4g} against {theirs:.4g})"
    if f"{ours:.4g}" == f"{theirs:.4g}":
        return f"The student matches {who}'s perplexity ({ours:.4g})"
    if ours < theirs:
        return f"The student beats {who}'s perplexity {against}"
    above = math.ceil((ours / theirs - 1) * 1000) / 10  # rounded up, so that no less is ever claimed
    if above >= 100:
        return f"The student's perplexity is {ours / theirs:.1f} times {who}'s {against}"
    return f"The student's perplexity is {above:.1f} % above {who}'s {against}"


def gained(gap: Mapping[str, float], report: Mapping[str, Any]) -> str:
    """What teaching was worth against training alone, in nats a token, without the end of the sentence.

    Args:
        gap: `nll`, the student taught less the student alone, and its interval `low` to `high`.
        report: the content of report.json.
    """
    nats, low, high = -gap["nll"], -gap["high"], -gap["low"]
    interval = f"95 % interval over these {report['samples']:,} samples: {low:+.4f} to {high:+.4f}"
    if low <= 0 <= high:
        said = f"Teaching and training alone cannot be told apart: {nats:+.4f} nats a token for teaching ({interval})"
    elif nats > 0:
        said = f"Teaching gained {nats:.4f} nats a token over training alone ({interval})"
    else:
        said = f"Teaching cost {-nats:.4f} nats a token against training alone ({interval})"
    taught, alone = (report[name].get("forward_kl") for name in ("student", "alone"))
    if taught is None or alone is None:
        return said
    return f"{said}; its KL from the teacher is {taught:.3f} nats a token, alone {alone:.3f}"


def verdict(comparison: Mapping[str, Any]) -> str:
    """Which of two language models tells the text better, in one sentence; see `jobs.evaluate` for the comparison."""
    first, second, gap = comparison["first"], comparison["second"], comparison["nll"]
    less = f"{abs(gap['difference']):.4f} nats a token {'less' if gap['difference'] < 0 else 'more'} than"
    end = "no difference seen" if comparison["better"] is None else f"{comparison[comparison['better']]} is better"
    return f"{first} needs {less} {second} (95 % interval {gap['low']:+.4f} to {gap['high']:+.4f}): {end}."
