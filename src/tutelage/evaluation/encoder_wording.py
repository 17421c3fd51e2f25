"""What a report on encoders says in words: what of the teacher's embeddings was kept. Takes report.json as a mapping."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

FIGURES = (
    ("probe_accuracy", "linear probe", "{:.2%}"),
    ("score_correlation", "follows the scores", "{:.3f}"),
    ("mrr", "reciprocal rank", "{:.3f}"),
    ("recall_at_10", "pair among 10", "{:.2%}"),
    ("similarity", "similarities as teacher's", "{:.3f}"),
    ("neighbours", "neighbours as teacher's", "{:.2%}"),
)
"""What a table shows of an encoder: the key in report.json, what it is called, and its form."""


def of_encoders(report: Mapping[str, Any]) -> bool:
    """Whether a report is on encoders."""
    return bool(report.get("encoders"))


def kept(student: Mapping[str, Any], teacher: Mapping[str, Any], who: str, report: Mapping[str, Any]) -> str:
    """What the student kept, the beginning of a sentence.

    Args:
        student: its numbers.
        teacher: its numbers; empty where there is none.
        who: how the sentence calls the teacher.
        report: the content of report.json.
    """
    judged = f"of {report['samples']:,} {report['split']} samples"
    for key, what in (("probe_accuracy", "accuracy under a linear probe"), ("recall_at_10", "recall of pairs")):
        if key in student and key in teacher and teacher[key] > 0:
            said = f"The student keeps {int(student[key] / teacher[key] * 1000) / 10:.1f} % of {who}'s {what}"
            return f"{said} ({student[key]:.2%} against {teacher[key]:.2%})".replace("%)", " %)").replace("% against", " % against")
    if "similarity" in student:
        return f"The student's similarities {judged} follow {who}'s with a rank correlation of {student['similarity']:.3f}"
    if "probe_accuracy" in student:
        return f"A linear probe on the student is right on {student['probe_accuracy'] * 100:.2f} % {judged}"
    return f"The student encodes {judged.removeprefix('of ')}"
