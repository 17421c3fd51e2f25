"""What a report on language models says in words must be what its numbers say, also where they are bad."""

from __future__ import annotations

import pytest
import torch

from page_reader import Reader
from tutelage.evaluation import gain, headline, savings
from tutelage.evaluation.contents import Contents
from tutelage.evaluation.page import render
from tutelage.evaluation.wording import figures_of

ENVIRONMENT = {"versions": {"tutelage": "0"}, "accelerators": [], "platform": "any"}
TIME = {"median": 1.0, "p95": 1.5, "least": 0.9}


def model(perplexity, **more):
    nll = float(torch.tensor(float(perplexity)).log())
    found = {"perplexity": perplexity, "nll": nll, "accuracy": 0.4, "ece": 0.02, "entropy": 1.5, "forward_kl": 0.2, "reverse_kl": 0.3}
    cost = {
        "parameters": 1000,
        "bytes": 4000,
        "flops": 2000,
        "latency_ms": {"batch_1": TIME, "batch_8": TIME},
        "throughput": 8e3,
        "tokens_a_second": 5e5,
    }
    return {**found, "agreement": 0.7, **cost, **more}


def report(student, teacher=None, alone=None, **more):
    models = {k: v for k, v in {"teacher": teacher, "alone": alone, "student": student}.items() if v is not None}
    about = {
        "recipe": "lm-kd",
        "samples": 64,
        "tokens": 8192,
        "split": "test",
        "splits": {"train": {"samples": 9, "counts": None, "tokens": 99}},
    }
    return {**about, "models": list(models), "teachers": ["teacher"] if teacher else [], **models, **more}


SIZES = "with 2.0 times fewer parameters and answers just as fast (batch 1)."
BIG = model(10.0, parameters=2000)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (report(model(12.3), BIG), f"The student's perplexity is 23.0 % above the teacher's (12.3 against 10) {SIZES}"),
        (report(model(10.001), BIG), f"The student matches the teacher's perplexity (10) {SIZES}"),
        (report(model(10.011), BIG), f"The student's perplexity is 0.2 % above the teacher's (10.01 against 10) {SIZES}"),
        (report(model(9.5), BIG), f"The student beats the teacher's perplexity (9.5 against 10) {SIZES}"),
        (report(model(84.6), BIG), f"The student's perplexity is 8.5 times the teacher's (84.6 against 10) {SIZES}"),
        (
            report(model(84.6)),
            "The student's perplexity is 84.6 on 8,192 tokens of test; it has 1,000 parameters and answers in 1 ms (batch 1).",
        ),
        (
            report(model(9.0), model(10.0, parameters=500)),
            "The student beats the teacher's perplexity (9 against 10), but with 2.0 times as many parameters "
            "and answers just as fast (batch 1).",
        ),
    ],
)
def test_the_headline_says_how_far_the_perplexity_is_from_the_teachers(given, said):
    """Rounded so that no more is ever claimed than there is; a lower perplexity is the better one."""
    assert headline(given) == said


@pytest.mark.parametrize(
    ("gap", "said"),
    [
        ((-0.1, -0.2, -0.05), "Teaching gained 0.1000 nats a token over training alone"),
        ((0.1, 0.05, 0.2), "Teaching cost 0.1000 nats a token against training alone"),
        ((-0.1, -0.2, 0.05), "Teaching and training alone cannot be told apart: +0.1000 nats a token for teaching"),
    ],
)
def test_fewer_nats_are_a_gain(gap, said):
    """The interval is turned round with the number."""
    nll, low, high = gap
    found = gain(report(model(9.0, forward_kl=0.125), BIG, model(9.5), taught_minus_alone={"nll": nll, "low": low, "high": high}))
    assert found.startswith(said)
    assert f"{-high:+.4f} to {-low:+.4f})" in found
    assert "its KL from the teacher is 0.125 nats a token, alone 0.200" in found
    assert "another seed may tell otherwise" in found


def test_a_run_without_a_baseline_or_a_teacher_says_so():
    """Text needs no labels, so that this is never the reason."""
    assert gain(report(model(9.0), BIG)) == "What the teaching was worth is not known: no baseline was asked for."
    assert gain(report(model(9.0), recipe="alone")) == "This was training on the text alone, without a teacher."


def test_tokens_and_not_samples_are_saved():
    """What a language model is bought for."""
    said = {words: figure for figure, words in savings(report(model(9.0, tokens_a_second=1e6), BIG))}
    assert said["more tokens read a second in batches of 8: 1 million instead of 500,000"] == "2.0 times"
    assert figures_of(report(model(9.0)))[0][0] == "perplexity"
    assert figures_of({"models": []})[0][0] == "accuracy"


def test_the_page_of_language_models_has_their_numbers_and_none_of_classes():
    """No section that could only say that it is left out."""
    bins = [{"samples": 3, "accuracy": 0.5, "confidence": 0.5}, {"samples": 0, "accuracy": None, "confidence": None}]
    journal = [{"stage": "distil", "step": 9, "epoch": 0, "validation": {"nll": 2.5, "perplexity": 12.2, "accuracy": 0.3}}]
    given = report(
        model(12.0),
        BIG,
        model(13.0),
        data="text",
        seed=0,
        classes=[],
        timing={"threads": 1, "processor": "Abacus", "device": "cpu"},
        reliability=dict.fromkeys(("teacher", "alone", "student"), bins),
        kept=None,
        paper=None,
        own_text={
            "prompts": 16,
            "tokens": 48,
            "temperature": 1.0,
            "samples": [{"id": 7, "prompt": "if a <b>", "responses": {"teacher": "<script>alert(1)</script>", "student": "and so on"}}],
        },
    )
    page = render(Contents(given, journals={"alone": journal, "student": journal}, environment=ENVIRONMENT))
    read = Reader(page)
    for word in (
        "8,192 tokens of test",
        "if a <b>",
        "<script>alert(1)</script>",
        "over 16 texts",
        "Perplexity",
        "Nats a token",
        "Reverse KL",
        "Next token right",
        "Tokens read a second",
        "tokens to predict",
    ):
        assert word in read.text, word
    assert read.tags["figure"] == 3 + 2 + 3
    for word in ("Accuracy", "Macro F1", "class", "Confusion", "batch of 64"):
        assert word not in read.text, word
    assert {a[1:] for a in read.addresses if a.startswith("#")} <= set(read.ids)
    assert read.tags["script"] == read.tags["b"] == 0
