"""The page: complete, small, self-contained, and safe whatever the data say."""

from __future__ import annotations

import base64
import re

import pytest
import torch

from page_reader import Reader
from tutelage.evaluation import Predictions, class_counts, difference, measure, plots, recalls
from tutelage.evaluation.contents import Contents
from tutelage.evaluation.page import render

FIGURES = ("quality_against_cost", "curves", "terms", "reliability_diagram", "class_changes", "heat_map", "class_sizes")


def contents(samples=60, classes=4, models=("teacher", "alone", "student"), labelled=True, names=None, **changed) -> Contents:
    """A run of random numbers."""
    made = torch.Generator().manual_seed(1)
    labels = torch.randint(0, classes, (samples,), generator=made) if labelled else None
    if labelled:
        labels[::7] = -100
    shown = {name: Predictions(torch.randn(samples, classes, generator=made), labels, torch.arange(samples)) for name in models}
    teacher = shown.get("teacher")
    names = names or [f"class {i}" for i in range(classes)]
    time = {"median": 1.0, "p95": 1.5, "least": 0.9}
    cost = {"parameters": 100, "bytes": 400, "flops": 2_000_000, "latency_ms": {"batch_1": time, "batch_64": time}, "throughput": 64e3}
    counts = class_counts(labels, classes) if labelled else None
    report = {
        "format": 2,
        "recipe": "hinton-kd",
        "paper": {"title": "Softer", "authors": "Doe", "year": 2031, "url": "https://example.org/paper"},
        "data": "random",
        "split": "test",
        "samples": samples,
        "seed": 0,
        "classes": names if labelled else [],
        "splits": {"train": {"samples": samples, "counts": counts}, "test": {"samples": samples, "counts": counts}},
        "models": list(models),
        "teachers": [name for name in models if name not in ("alone", "student")],
        **{name: {"model": "mlp:width=3,depth=2", **measure(each, teacher), **cost} for name, each in shown.items()},
        "timing": {"threads": 2, "processor": "Abacus", "device": "cpu"},
        "kept": {"samples": samples, "of": samples},
    }
    if labelled and "alone" in shown:
        report["taught_minus_alone"] = difference(shown["student"], shown["alone"])
    if labelled:
        found = {name: recalls(each, classes) for name, each in shown.items()}
        report["per_class"] = [{"class": names[i], "samples": counts[i], **{n: f[i] for n, f in found.items()}} for i in range(classes)]
    entry = {"id": 3, "label": 1 if labelled else None, "models": {name: {"choice": 0, "confidence": 0.9} for name in models}}
    journal = [
        {"stage": "distil", "step": 20, "epoch": 0, "terms": {"labels": 2.0, "soft": 0.5}, "shares": {"labels": 0.3, "soft": 0.7}},
        {"stage": "distil", "step": 30, "epoch": 0, "validation": {"accuracy": 0.5, "nll": 1.0} if labelled else {}},
    ]
    given = {
        "report": {**report, **changed.pop("report", {})},
        "predictions": shown,
        "disagreements": [{**entry, "sample": {"kind": "text", "text": "some words", "cut": False}}],
        "journals": {"teacher": journal[1:], "alone": journal, "student": journal},
        "config": {"recipe": "hinton-kd", "fit": {"lr": 0.01, "ema": None}, "train_teacher": True},
        "environment": {"versions": {"python": "3", "tutelage": "0"}, "accelerators": [], "platform": "any"},
    }
    return Contents(**{**given, **changed})


def test_the_page_holds_every_section_and_the_main_numbers():
    """What the report promises: the three models side by side, costs, curves, terms, calibration, classes, confusions, samples."""
    page = render(contents())
    read = Reader(page)
    for word in (
        "teacher",
        "student alone",
        "student taught",
        "Accuracy",
        "Macro F1",
        "Calibration error",
        "Memory",
        "2 million",
        "Time of one sample",
        "1 ms (1.5 ms)",
        "Abacus, 2 threads",
        "Quality against cost",
        "Stage “distil”",
        "some words",
        "fit.lr 0.01",
        "fit.ema null",
        "tutelage distill --config config.yaml --out again",
        "Doe, “Softer”, 2031",
        "The largest class has",
    ):
        assert word in read.text, word
    assert read.tags["figure"] == 3 + 2 + 2 + 3 + 1 + 1 + 1
    assert read.tags["h1"] == 1
    assert read.text.count("Left out") == 0
    assert page.count('role="img" aria-label="') == read.tags["figure"] == read.tags["figcaption"]
    assert read.tags["caption"] == read.tags["table"]


def test_nothing_is_fetched_from_elsewhere():
    """It opens offline, and tells nobody that it was opened."""
    page = render(contents())
    read = Reader(page)
    assert [a for a in read.addresses if not a.startswith("#")] == ["https://example.org/paper"]
    assert read.tags["script"] == read.tags["link"] == read.tags["iframe"] == 0
    assert "@import" not in page
    assert max(read.ids.values()) == 1
    inner = {a[1:] for a in read.addresses if a.startswith("#")}
    assert inner <= set(read.ids)
    assert set(re.findall(r"url\(#([^)]+)\)", page)) <= set(read.ids)


def test_names_and_texts_of_the_data_are_no_code():
    """A class called <script> is shown as it is called."""
    evil = ["<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "{{ 7 * 7 }}", "$a$ & $b$"]
    entry = {"id": 1, "label": 0, "models": {"student": {"choice": 1, "confidence": 0.5}}}
    shown = [
        {**entry, "sample": {"kind": "text", "text": "<script>alert(2)</script>", "cut": True}},
        {**entry, "sample": {"kind": "image", "png": "https://example.org/spy.png", "scaled": False}},
        {**entry, "sample": {"kind": "image", "png": 'data:image/png;base64,AA" onerror="alert(3)', "scaled": False}},
        {**entry, "sample": {"kind": "numbers", "name": "<script>", "values": [1.23456], "of": 9}},
        {**entry, "sample": {"kind": "none", "why": "<script>"}},
    ]
    journal = [{"stage": "<script>", "step": 2, "epoch": 0, "terms": {"<script>alert(4)</script>": 1.0}}]
    report = {
        "data": "<script>",
        "recipe": "<script>",
        "paper": {"title": "<script>", "authors": "a", "year": 1, "url": "javascript:alert(5)"},
    }
    page = render(
        contents(names=evil, disagreements=shown, journals={"student": journal}, report=report, config={"out": "</style><script>"})
    )
    read = Reader(page)
    assert read.tags["script"] == 0
    assert read.tags["img"] == 1
    assert "49" not in read.text.split()
    assert evil[0] in read.text
    assert "{{ 7 * 7 }}" in read.text
    assert "onerror" not in {
        name for tag in re.findall(r"<img[^>]*>", page) for name in re.findall(r'\s(\w+)="', re.sub(r'"[^"]*"', '""', tag))
    }
    assert not [a for a in read.addresses if not a.startswith(("#", "data:image/png;base64,"))]


MISSING = {
    "no labels": (contents(labelled=False), ["this needs labels", "agreement with the teacher", "There are no classes to count"]),
    "no teacher": (contents(models=("alone", "student")), ["Where the student differs from the labels", "a wrong class"]),
    "no teacher and no baseline": (contents(models=("student",)), ["no other model to compare with", "there are no two models"]),
    "no baseline": (contents(models=("teacher", "student")), ["not known: no baseline was asked for"]),
    "neither labels nor teacher": (
        contents(models=("student",), labelled=False, disagreements=[]),
        ["neither a teacher nor a label to compare with", "nothing to compare with"],
    ),
    "no journals": (contents(journals={}), ["nothing was measured while training", "no log of the terms"]),
    "one term": (
        contents(journals={"student": [{"stage": "a", "step": 1, "epoch": 0, "terms": {"labels": 1.0}}]}),
        ["only taken where there are several terms"],
    ),
    "not one class a sample": (
        contents(labelled=False, predictions={}, disagreements=[], report={"kept": None}),
        ["the models do not choose one class a sample"],
    ),
    "two teachers": (contents(models=("clean", "noisy", "alone", "student")), ["Where the student differs from the clean", "noisy"]),
    "no disagreement": (contents(disagreements=[]), ["the two agree on all samples"]),
    "no test split": (contents(report={"split": "train"}), ["There is no test split"]),
    "chosen on": (contents(report={"split": "validation"}), ["may have been chosen"]),
    "given in Python": (contents(config={"teacher": "<Sequential given in Python>"}), ["This run was given Python objects"]),
    "a part of the predictions": (contents(report={"kept": {"samples": 60, "of": 90_000}}), ["Made from 60 of the 90,000 samples"]),
    "an empty class": (
        contents(report={"splits": {"train": {"samples": 9, "counts": [9, 0, 3, 1]}}}),
        ["1 of 4 classes has no samples to train on"],
    ),
    "no pictures": (
        contents(
            disagreements=[
                {
                    "id": None,
                    "label": 1,
                    "models": {"student": {"choice": 2, "confidence": 0.5}},
                    "sample": {"kind": "none", "why": "no Pillow"},
                }
            ]
        ),
        ["not shown: no Pillow"],
    ),
    "an ensemble without costs": (
        contents(report={"models": ["teacher", "alone", "student", "ensemble"], "ensemble": {"accuracy": 0.5, "agreement": 0.25}}),
        ["ensemble"],
    ),
    "busy": (
        contents(report={"student": {"parameters": 1, "latency_ms": {"batch_1": {"median": 9.0, "p95": 9.0, "least": 1.0}}}}),
        ["the processor was busy"],
    ),
}


@pytest.mark.parametrize("case", MISSING)
def test_what_is_missing_is_said(case, monkeypatch):
    """A section that is silently gone looks like a mistake."""
    given, expected = MISSING[case]
    if case not in ("no labels", "no teacher", "no teacher and no baseline", "two teachers"):  # these are drawn
        for name in FIGURES:
            monkeypatch.setattr(plots, name, lambda *_, **__: '<svg viewBox="0 0 288 100"></svg>')
    read = Reader(render(given))
    for words in expected:
        assert words in read.text, words


def test_a_large_run_gives_a_small_page():
    """50 classes, long names, 24 noisy pictures, a long log: under 3 MB, or it could not be sent by mail."""
    made = torch.Generator().manual_seed(0)
    noise = bytes(torch.randint(0, 256, (128 * 128 * 3,), generator=made, dtype=torch.uint8).tolist())
    png = "data:image/png;base64," + base64.b64encode(noise).decode()
    entry = {"id": 1, "label": 0, "models": {n: {"choice": 1, "confidence": 0.5} for n in ("teacher", "alone", "student")}}
    lines = [{"stage": f"s{i // 5000}", "step": i % 5000, "epoch": 0, "terms": {f"t{k}": 1.0 + k for k in range(6)}} for i in range(15_000)]
    page = render(
        contents(
            samples=3000,
            classes=50,
            names=["a name that is much longer than any axis " * 9 + str(i) for i in range(50)],
            disagreements=[{**entry, "sample": {"kind": "image", "png": png, "scaled": True}}] * 24,
            journals={"student": lines},
        )
    )
    assert len(page.encode()) < 3_000_000
    read = Reader(page)
    assert "The 20 most frequent of 50 classes; the rest is pooled" in read.text
    assert "Of 50 classes, the 12 best and the 12 worst" in read.text
    assert "each was stretched to it" in read.text


def test_a_thousand_classes_are_not_listed():
    """A table of the most changed is enough; report.json has them all."""
    page = render(contents(samples=400, classes=1000, models=("teacher", "student")))
    assert "the 200 most changed of 1000 classes" in Reader(page).text
    assert len(page) < 3_000_000


def test_the_same_contents_give_the_same_page():
    """A rebuilt report can be compared with the first one by its bytes."""
    assert render(contents()) == render(contents())


def test_classes_that_only_models_know_go_by_their_number():
    """A teacher with more classes than the data must not break the confusion."""
    shown = {name: Predictions(torch.eye(6)[[5, 4, 0]], torch.tensor([0, 1, 2])) for name in ("teacher", "student")}
    shown["student"] = Predictions(torch.eye(6)[[4, 4, 0]], torch.tensor([0, 1, 2]))
    page = render(contents(classes=3, models=("teacher", "student"), predictions=shown))
    assert "most often confused: 5 and 4: 1" in page
