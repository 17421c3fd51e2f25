"""What a report says in words must be what its numbers say, also where they are bad."""

from __future__ import annotations

import pytest

from tutelage.evaluation import busy, gain, headline, savings
from tutelage.evaluation.wording import other_differences, percent, quantity, short, size, times, verdict


def model(accuracy=None, agreement=None, parameters=1000, ms: float | None = 1.0, least=None, **more):
    time = None if ms is None else {"median": ms, "p95": 2 * ms, "least": least or 0.9 * ms}
    shown = {"accuracy": accuracy, "agreement": agreement}
    found = {k: v for k, v in shown.items() if v is not None}
    return {**found, "parameters": parameters, "latency_ms": {"batch_1": time, "batch_64": time}, **more}


def report(student, teacher=None, alone=None, **more):
    models = {"teacher": teacher, "alone": alone, "student": student}
    models = {k: v for k, v in models.items() if v is not None}
    about = {"recipe": "hinton-kd", "samples": 630, "split": "test", "splits": {"train": {"samples": 9, "counts": [4, 5]}}}
    return {**about, "models": list(models), "teachers": ["teacher"] if teacher else [], **models, **more}


HEADLINES = {
    "smaller and faster": (
        report(model(0.9683, parameters=1182, ms=0.5), model(0.986, parameters=65834, ms=3.05)),
        "The student keeps 98.2 % of the teacher's accuracy (96.83 % against 98.60 %) with 55.7 times fewer parameters "
        "and answers 6.1 times faster (batch 1).",
    ),
    "smaller but slower": (
        report(model(0.9, parameters=500, ms=1.4), model(0.95)),
        "The student keeps 94.7 % of the teacher's accuracy (90.00 % against 95.00 %) with 2.0 times fewer parameters "
        "but answers 1.4 times slower (batch 1).",
    ),
    "bigger but faster": (
        report(model(0.9, parameters=3000, ms=0.5), model(0.95)),
        "The student keeps 94.7 % of the teacher's accuracy (90.00 % against 95.00 %) with 3.0 times as many parameters "
        "but answers 2.0 times faster (batch 1).",
    ),
    "better": (
        report(model(0.96, parameters=100), model(0.95)),
        "The student beats the teacher's accuracy (96.00 % against 95.00 %) with 10.0 times fewer parameters "
        "and answers just as fast (batch 1).",
    ),
    "better but bigger and slower": (
        report(model(0.96, parameters=2000, ms=3.0), model(0.95)),
        "The student beats the teacher's accuracy (96.00 % against 95.00 %), but with 2.0 times as many parameters "
        "and answers 3.0 times slower (batch 1).",
    ),
    "the same in everything": (
        report(model(0.95, ms=1.01), model(0.95)),
        "The student matches the teacher's accuracy (95.00 %) with as many parameters and answers just as fast (batch 1).",
    ),
    "almost all kept is not all": (
        report(model(0.98999, parameters=10), model(0.99)),
        "The student keeps 99.9 % of the teacher's accuracy (99.00 % against 99.00 %) with 100 times fewer parameters "
        "and answers just as fast (batch 1).",
    ),
    "a teacher that is never right": (
        report(model(0.5, ms=None), model(0.0)),
        "The student beats the teacher's accuracy (50.00 % against 0.00 %) with as many parameters.",
    ),
    "time unknown": (
        report(model(0.9, ms=None), model(0.95, parameters=4000)),
        "The student keeps 94.7 % of the teacher's accuracy (90.00 % against 95.00 %) with 4.0 times fewer parameters.",
    ),
    "time taken on a busy processor": (
        report(model(0.9, ms=0.1), model(0.95, ms=60.0, least=0.2, parameters=4000)),
        "The student keeps 94.7 % of the teacher's accuracy (90.00 % against 95.00 %) with 4.0 times fewer parameters.",
    ),
    "no labels": (
        report(model(agreement=0.931, parameters=100), model(agreement=1.0)),
        "The student agrees with the teacher on 93.10 % of 630 test samples with 10.0 times fewer parameters "
        "and answers just as fast (batch 1).",
    ),
    "no teacher": (
        report(model(0.9683, parameters=11820, ms=0.123456)),
        "The student is right on 96.83 % of 630 test samples; it has 11,820 parameters and answers in 0.123 ms (batch 1).",
    ),
    "neither": (
        report(model(parameters=7, ms=None)),
        "The student was trained, but there are neither labels nor a teacher to judge it by; it has 7 parameters.",
    ),
}


@pytest.mark.parametrize("case", HEADLINES)
def test_the_headline_tells_what_was_kept_and_saved(case):
    """The one sentence that everybody reads."""
    given, expected = HEADLINES[case]
    assert headline(given) == expected


def test_a_teacher_goes_by_its_role():
    """With several teachers, the sentence must say which one is meant."""
    given = report(model(0.9, parameters=500), None)
    given |= {"big_teacher": model(0.95), "models": ["big_teacher", "student"], "teachers": ["big_teacher"]}
    assert headline(given).startswith("The student keeps 94.7 % of the big teacher's accuracy")


def gap(accuracy: float, low: float, high: float, only: tuple[int, int] = (9, 7), **more):
    found = {"accuracy": accuracy, "low": low, "high": high, "only_first": only[0], "only_second": only[1]}
    return report(model(0.9), model(0.95), model(0.88), taught_minus_alone=found, **more)


GAINS = {
    "gained": (
        gap(0.0153, 0.002, 0.029),
        "Teaching gained 1.53 points of accuracy over training alone (95 % interval over these 630 samples: +0.20",
    ),
    "lost": (
        gap(-0.02, -0.03, -0.01),
        "Teaching cost 2.00 points of accuracy against training alone (95 % interval over these 630 samples: -3.00",
    ),
    "unclear": (gap(0.003, -0.009, 0.015), "Teaching and training alone cannot be told apart: +0.30 points of accuracy for teaching (95 %"),
    "as much": (gap(0.0, -0.006, 0.006), "Teaching and training alone cannot be told apart: +0.00 points of accuracy for teaching (95 %"),
    "nothing": (
        gap(0.0, -0.006, 0.006, only=(0, 0)),
        "Teaching made no difference to training alone: both are right on the same of these 630 samples",
    ),
    "nothing, in a report of an earlier version": (
        gap(0.0, 0.0, 0.0),
        "Teaching made no difference to training alone: both are right on the same of these 630 samples",
    ),
    "no baseline": (report(model(0.9), model(0.95)), "not known: no baseline was asked for"),
    "no labels": (
        report(model(agreement=0.9), model(agreement=1.0), splits={"train": {"samples": 9, "counts": None}}),
        "not known: without labels, the student cannot be trained alone",
    ),
    "no labels in test": (report(model(agreement=0.9), model(agreement=1.0), model(agreement=0.8)), "no labels among the test samples"),
    "alone": (report(model(0.9), recipe="alone"), "This was training on labels alone, without a teacher."),
}


@pytest.mark.parametrize("case", GAINS)
def test_the_gain_is_told_with_its_doubt(case):
    """One seed and 630 samples prove little; the sentence must not claim more."""
    given, expected = GAINS[case]
    assert expected in gain(given)
    assert ("one seed" in gain(given)) == ("taught_minus_alone" in given)


def test_savings_say_which_way_they_go():
    """Memory, operations and throughput against the teacher, or as they are."""
    student, teacher = (
        model(0.9, bytes=4952, flops=50_800, throughput=10_000.0),
        model(0.9, bytes=264_904, flops=50_000, throughput=40_000.0),
    )
    assert savings(report(student, teacher)) == [
        ("53.5 times", "less memory: 4.95 kB instead of 265 kB"),
        ("50,800", "as many operations a sample as the teacher"),
        ("4.0 times", "fewer samples a second in batches of 64: 10,000 instead of 40,000"),
    ]
    assert savings(report(student)) == [
        ("4.95 kB", "memory"),
        ("50,800", "operations a sample"),
        ("10,000", "samples a second in batches of 64"),
    ]
    assert savings(report(model(0.9, bytes=10, flops=None, throughput=None), teacher)) == [
        ("26,490 times", "less memory: 10 B instead of 265 kB")
    ]


def test_times_from_a_busy_processor_are_compared_with_nothing():
    """A median far above the least time is the time of something else."""
    noisy = report(model(0.9, ms=50.0, least=0.5, throughput=3.0), model(0.95, throughput=9.0))
    assert "busy" in busy(noisy)
    assert savings(noisy) == []
    assert busy(report(model(0.9), model(0.95))) == busy(report(model(0.9, ms=None), model(0.95))) == ""


@pytest.mark.parametrize(
    ("form", "number", "expected"),
    [
        (percent, 0.9683, "96.83 %"),
        (times, 6.14, "6.1"),
        (times, 1203.7, "1,204"),
        (quantity, 0, "0"),
        (quantity, 512, "512"),
        (quantity, 65_834, "65,800"),
        (quantity, 999_600, "1 million"),
        (quantity, 2_990_000, "2.99 million"),
        (quantity, 8.6e10, "86 billion"),
        (quantity, 1e15, "1,000 trillion"),
        (size, 512, "512 B"),
        (size, 4952, "4.95 kB"),
        (size, 3.3e9, "3.3 GB"),
        (short, 0.0153, "0.0153"),
        (short, 30_000, "30 k"),
        (short, 3e6, "3 M"),
    ],
)
def test_numbers_are_written_in_three_figures(form, number, expected):
    """A boss reads 2.99 million, not 2985472."""
    assert form(number) == expected


def comparison(one: int, other: int, better: str | None = None) -> dict:
    between = {"difference": 0.0123, "low": -0.004, "high": 0.0301}
    accuracy = {"difference": (one - other) / 1000, "low": -0.01, "high": 0.02}
    counts = {"first": "small", "second": "big", "only_first": one, "only_second": other, "p_holm": 0.01234, "better": better}
    return {**counts, "accuracy": accuracy, **dict.fromkeys(("macro_f1", "nll", "ece"), between)}


def test_a_verdict_says_who_is_better_only_where_the_test_does():
    """A difference that chance could have made is none, whatever its size."""
    said = verdict(comparison(31, 20, "first"), 1)
    assert said == (
        "small is right 1.10 points more often than big (95 % interval -1.00 to +2.00; only small on 31 samples, only big on 20; "
        "McNemar's exact p = 0.012): small is better."
    )
    assert verdict(comparison(20, 31, "second"), 3).startswith("small is right 1.10 points less often than big")
    assert verdict(comparison(20, 31, "second"), 3).endswith("p = 0.012, raised by Holm's method for 3 comparisons): big is better.")
    assert verdict(comparison(20, 31), 1).endswith(": no difference seen.")
    assert verdict(comparison(20, 20), 1).startswith("small is right as often as big (")


def test_other_differences_have_their_units_and_their_signs():
    """First less second, as the line says."""
    expected = "small less big: macro F1 +1.23 points (-0.40 to +3.01), nats a sample +0.012 (-0.004 to +0.030), "
    assert other_differences(comparison(1, 2)) == expected + "calibration error +0.012 (-0.004 to +0.030)"
