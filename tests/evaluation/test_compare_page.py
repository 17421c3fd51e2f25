"""The page of a comparison: complete, self-contained, safe whatever the names, and readable where half of it is missing."""

from __future__ import annotations

import json
import math
import random
import re
import xml.etree.ElementTree as ElementTree
from itertools import pairwise
from typing import Any

import pytest

from page_reader import Reader
from tutelage.evaluation import seed_plots
from tutelage.evaluation.compare_page import commands, facts, render
from tutelage.evaluation.compare_rows import difference, duration, over_seeds, ranking, signed
from tutelage.evaluation.comparison import holm
from tutelage.evaluation.contents import picture
from tutelage.evaluation.seeds import Interval, interval, paired_interval

EVIL = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(2)>',
    "{{ 7 * 7 }}",
    "$a$ & $b$",
    'x" id="ranking',
    "日本 ☃ \u202e",
    "a\nb",
]


def summary(found: Interval) -> dict[str, Any]:
    """As compare.json holds an interval."""
    ends = {end: value if math.isfinite(value) else None for end, value in (("low", found.low), ("high", found.high))}
    return {"mean": found.mean, **ends}


def comparison(recipes=("fitnets", "hinton-kd", "ps-kd", "alone"), seeds=(0, 1, 2), metric="accuracy", **changed: Any) -> dict[str, Any]:
    """A comparison as compare.json holds it, of numbers drawn at random."""
    draw = random.Random(5)
    luck = {seed: draw.gauss(0, 0.008) for seed in seeds}
    runs: dict[str, dict[str, Any]] = {}
    for place, name in enumerate(recipes):
        level, pace = 0.955 - 0.006 * place, 10 + 5 * draw.random() * (1 + place % 3)
        runs[name] = {}
        for seed in seeds:
            reached = min(level + luck[seed] + draw.gauss(0, 0.003), 1.0)
            test = {"accuracy": reached, "macro_f1": reached - 0.002, "nll": 3 * (1 - reached), "ece": 0.02, "agreement": reached - 0.01}
            if metric == "agreement":
                test = {"agreement": reached}
            validation = {metric: min(reached + draw.gauss(0, 0.002), 1.0)}
            folder = f"trials/{name}-seed-{seed}"
            time = pace + draw.gauss(0, 0.4)
            runs[name][str(seed)] = {"validation": validation, "test": test, "seconds": time, "updates": 1000, "folder": folder}
    results = {}
    for name, own in runs.items():
        results[name] = {
            "paper": {"title": "Softer", "authors": "Doe & Roe", "year": 2031, "url": "https://example.org/paper"}
            if name != "alone"
            else None,
            "updates": 1000,
            "knobs": {"temperature": 4.0, "fit": {"lr": 0.01}},
            "tuning": None,
            "seeds": own,
            "failed": [],
            "validation": summary(interval([run["validation"][metric] for run in own.values()])),
            "test": {key: summary(interval([run["test"][key] for run in own.values()])) for key in next(iter(own.values()))["test"]},
            "seconds": summary(interval([run["seconds"] for run in own.values()])),
            "cost": 1.0 + 0.1 * len(results),
        }
    ranked = sorted(recipes, key=lambda name: -results[name]["validation"]["mean"])
    numbers = {name: [run["test"][metric] for run in own.values()] for name, own in runs.items()}
    gaps = [paired_interval(numbers[ranked[0]], numbers[name]) for name in ranked[1:]]
    pairs = [
        {
            "first": ranked[0],
            "second": name,
            "metric": metric,
            **summary(gap),
            "p": gap.chance,
            "p_holm": p,
            "better": None if p >= 0.05 else "first" if gap.mean > 0 else "second",
        }
        for name, gap, p in zip(ranked[1:], gaps, holm([gap.chance for gap in gaps]), strict=True)
    ]
    time = {"median": 1.0, "p95": 1.5, "least": 0.9}
    cost = {"flops": 2_000_000, "latency_ms": {"batch_1": time, "batch_64": time}, "throughput": 64e3}
    return {
        "format": 1,
        "data": "digits",
        "split": "test",
        "samples": 360,
        "chosen_on": {"split": "validation", "samples": 270},
        "metric": metric,
        "classes": [str(i) for i in range(10)],
        "teacher": {"model": "cnn:width=32", "parameters": 60_000, "bytes": 240_000, "test": {"accuracy": 0.98, "nll": 0.06}, **cost},
        "student": {"model": "cnn:width=4", "parameters": 1000, "bytes": 4000, **cost},
        "budget": {"kind": "updates", "amount": 1000, "seeds": list(seeds), "tune": 0},
        "recipes": ranked,
        "results": results,
        "left_out": [{"recipe": "born-again", "reason": "the teacher is no copy of the student"}],
        "differences": pairs,
        "winner": {"recipe": ranked[0], "seed": seeds[0], "folder": f"trials/{ranked[0]}-seed-{seeds[0]}"},
        "said": f"{ranked[0]} came first.",
        "seconds": 123.4,
        "date": "2031-11-23",
        "processor": "Abacus",
        "versions": {"python": "3", "tutelage": "0"},
        **changed,
    }


def tuned(name: str, **changed: Any) -> dict[str, Any]:
    """A comparison in which one recipe was tuned."""
    tried = [
        {"knobs": {"temperature": t}, "validation": v, "pruned": p}
        for t, v, p in ((1.0, 0.9, False), (2.0, 0.97, True), (4.0, 0.95, False))
    ]
    tried.append({"knobs": {"temperature": 8.0}, "validation": None, "pruned": False})
    made = comparison(**changed)
    made["budget"]["tune"] = 4
    made["results"][name]["tuning"] = {
        "trials": 4,
        "pruned": 1,
        "updates": 3500,
        "chosen": {"temperature": 4.0},
        "validation": 0.95,
        "tried": tried,
    }
    return made


def with_failures() -> dict[str, Any]:
    """A comparison in which one recipe lost a seed and another all."""
    made = comparison()
    made["results"]["ps-kd"]["failed"] = [{"seed": 9, "error": "<b>no memory</b>"}]
    nothing = {"mean": None, "low": None, "high": None}
    made["results"]["alone"] |= {"seeds": {}, "failed": [{"seed": s, "error": "it fell over"} for s in (0, 1, 2)], "validation": nothing}
    made["results"]["alone"] |= {"test": {}, "seconds": nothing, "cost": None}
    made["differences"] = [each for each in made["differences"] if each["second"] != "alone"]
    return made


def bare(text: str) -> str:
    """The text with plain minus signs and spaces."""
    return text.replace("\u2212", "-").replace("\u00a0", " ")


def test_the_page_holds_the_answer_and_every_section():
    """What the report promises: the answer first, then the ranking, figures, costs, tuning, seeds, what failed, and what to do next."""
    page = render(
        tuned("fitnets", said="fitnets is ahead of alone; no difference seen between it and ps-kd.", settings={"out": "here", "tune": 4})
    )
    read = Reader(page)
    assert re.search(r"<h1>fitnets is ahead of alone; no difference seen between it and ps-kd.</h1>", page)
    for words in (
        "4 recipes compared, 1 left out",
        "3 seeds the same for all recipes",
        "1,000 updates in each training, after tuning for 4 times as many",
        "360 samples of test judged by; ranked by 270 of validation",
        "2 min 3 s for all of it",
        "Ranked by the mean accuracy on validation; judged on test",
        "Doe & Roe, Softer , 2031",
        "60.0 times less memory: 4 kB instead of 240 kB",
        "4 1 3,500 95.00 % temperature 4.0",
        "born-again the teacher is no copy of the student",
        "No training failed.",
        "tutelage export trials/fitnets-seed-0 --to onnx",
        "tutelage evaluate trials/fitnets-seed-0",
        "tutelage distill --teacher trials/fitnets-seed-0 --student MODEL",
        "Holm's method",
        "Abacus",
        "tutelage compare --resume .",
        "fit.lr 0.01",
        "tune 4",
    ):
        assert words in read.text, words
    assert read.tags["h1"] == 1
    assert read.tags["figure"] == read.tags["figcaption"] == page.count('role="img" aria-label="') == 3
    assert read.tags["caption"] == read.tags["table"] == 5
    for name in ("fitnets", "hinton-kd", "ps-kd", "alone"):
        assert all(f"{name}-seed-{seed}" in read.text for seed in (0, 1, 2))


def test_nothing_is_fetched_from_elsewhere_and_ids_are_unique():
    """It opens offline, tells nobody that it was opened, and no figure takes the clip of another."""
    page = render(tuned("fitnets"))
    read = Reader(page)
    assert {a for a in read.addresses if not a.startswith("#")} == {"https://example.org/paper"}
    assert read.tags["script"] == read.tags["link"] == read.tags["iframe"] == read.tags["img"] == 0
    assert "@import" not in page
    assert max(read.ids.values()) == 1
    assert {a[1:] for a in read.addresses if a.startswith("#")} <= set(read.ids)
    assert set(re.findall(r"url\(#([^)]+)\)", page)) <= set(read.ids)
    assert render(tuned("fitnets")) == page


def test_names_and_errors_are_no_code():
    """A recipe may be a path, and an error may hold what a file said."""
    made = tuned(
        EVIL[0], recipes=EVIL, data=EVIL[0], processor=EVIL[1], date=EVIL[0], versions={EVIL[0]: EVIL[1]}, settings={EVIL[0]: EVIL[1]}
    )
    for name, result in made["results"].items():
        result["failed"] = [{"seed": EVIL[1], "error": EVIL[0]}]
        result["knobs"] = {name: EVIL[1]}
        result["paper"] = {"title": EVIL[0], "authors": EVIL[1], "year": 1, "url": "javascript:alert(3)"}
    made["left_out"] = [{"recipe": EVIL[0], "reason": EVIL[1]}]
    made["winner"] = {"recipe": EVIL[0], "folder": "trials/x; rm -rf ~"}
    made["said"] = EVIL[0]
    made["teacher"]["model"] = made["student"]["model"] = EVIL[1]
    read = Reader(render(made))
    assert read.tags["script"] == read.tags["img"] == 0
    assert "onerror" not in read.attributes
    assert max(read.ids.values()) == 1
    assert read.ids["ranking"] == 1
    assert not [a for a in read.addresses if not a.startswith("#")]
    assert "49" not in read.text.split()
    assert EVIL[0] in read.text
    assert 'x" id="ranking' in read.text
    assert "tutelage export 'trials/x; rm -rf ~' --to onnx" in read.text


ODD = {
    "one recipe": (comparison(recipes=("hinton-kd",)), ["1 recipe compared", "Differences are left out", "student by hinton-kd"]),
    "one seed": (comparison(seeds=(3,)), ["1 seed says nothing of how others", "One seed has no interval", "one seed: no interval"]),
    "no labels": (comparison(metric="agreement"), ["mean agreement with the teacher on validation", "points of agreement"]),
    "no teacher": (comparison(teacher=None), ["There is no teacher to compare with", "What the student costs Quality on test"]),
    "failures": (
        with_failures(),
        ["1 of 4 trainings failed", "3 of 3 trainings failed", "ps-kd 9 <b>no memory</b>", "alone 2 it fell over", "4 trainings failed"],
    ),
    "by minutes": (comparison(budget={"kind": "minutes", "amount": 1, "seeds": [0, 1, 2]}), ["1 minute in each training"]),
    "half a minute": (comparison(budget={"kind": "minutes", "amount": 0.5, "seeds": [0, 1, 2]}), ["0.5 minutes in each training"]),
    "no test split": (comparison(split="validation"), ["There is no test split", "There were no other samples to rank by"]),
    "nothing ended": (
        {"metric": "accuracy", "split": "test", "recipes": [], "results": {}},
        ["No training ended, so there is nothing to compare", "There is nothing to rank", "No recipe was left out", "no winner"],
    ),
}


@pytest.mark.parametrize("case", ODD)
def test_odd_comparisons_say_what_is_odd(case):
    """Whatever a comparison ended with, its owner reads a page and not a traceback."""
    made, expected = ODD[case]
    read = Reader(render(made))
    for words in expected:
        assert words in read.text, words
    assert max(read.ids.values()) == 1
    assert "None" not in read.text
    assert "nan" not in read.text.lower().split()


def test_what_stands_above_the_page_may_be_missing(monkeypatch):
    """Only the ranking itself is needed; an older or a newer job may leave out the rest."""
    for name in ("quality_over_time", "forest", "tuned"):
        monkeypatch.setattr(seed_plots, name, lambda *_: '<svg viewBox="0 0 288 100"></svg>')
    whole = json.loads(json.dumps(tuned("fitnets")))  # as it is read from the file
    needed = {"metric", "split", "recipes", "results"}
    for key in set(whole) - needed:
        Reader(render({k: v for k, v in whole.items() if k != key}))
        Reader(render({**whole, key: None}))
    for key in next(iter(whole["results"].values())):
        Reader(render({**whole, "results": {name: {k: v for k, v in r.items() if k != key} for name, r in whole["results"].items()}}))
    read = Reader(render({**{key: whole[key] for key in needed}, "results": {name: {} for name in whole["recipes"]}}))
    assert "No training ended" in read.text


def test_thirty_recipes_with_long_names_fit():
    """The page stays one that can be sent by mail, and each recipe is named in both figures by its place."""
    names = [f"a/long/path/to/the/file_{i}.py:a_function_that_has_a_name_{i}" for i in range(30)]
    page = render(comparison(recipes=names))
    assert len(page.encode()) < 1_000_000
    read = Reader(page)
    for place, name in enumerate(ranking(comparison(recipes=names))[1], 1):
        assert read.text.count(f"{place} …{name['name'][-19:]}") == (1 if place == 1 else 2)
    assert "All 90 trainings as a table" in read.text


def test_the_cells_of_the_ranking_are_what_the_file_says():
    """A sign that is turned makes the loser the winner."""
    made = comparison()
    columns, rows = ranking(made)
    assert [column[0] for column in columns[:3]] == ["Validation", "Test", "Difference"]
    assert [row["name"] for row in rows] == made["recipes"]
    assert [row["first"] for row in rows] == [True, False, False, False]
    for row, pair in zip(rows[1:], made["differences"], strict=True):
        test = made["results"][row["name"]]["test"]["accuracy"]
        assert bare(row["cells"][1][0]) == f"{test['mean'] * 100:.2f} %"
        assert bare(row["cells"][1][1]) == f"{test['low'] * 100:.2f} to {test['high'] * 100:.2f} %".removesuffix(" %")
        assert row["cells"][2][0] == signed(-pair["mean"] * 100)
        assert bare(row["cells"][2][1]) == f"{signed(-pair['high'] * 100)} to {signed(-pair['low'] * 100)}"
        assert rows[0]["cells"][2] == ("the winner",)


@pytest.mark.parametrize(
    ("better", "ends", "expected"),
    [
        (None, (-0.01, 0.02), ("-0.50", "-2.00 to +1.00", "no difference seen, p 0.04")),
        ("first", (0.001, 0.009), ("-0.50", "-0.90 to -0.10", "behind, p 0.04")),
        ("second", (-0.009, -0.001), ("+0.50", "+0.10 to +0.90", "ahead, p 0.04")),
        (None, (None, None), ("-0.50", "one seed: no interval")),
    ],
)
def test_a_difference_is_told_from_the_others_side(better, ends, expected):
    """The file says the winner less the other; the table is read by the other's row."""
    mean = -0.005 if better == "second" else 0.005
    cell = difference({"mean": mean, "low": ends[0], "high": ends[1], "p": 0.01, "p_holm": 0.04, "better": better})
    assert tuple(map(bare, cell)) == expected


def test_numbers_in_words():
    """Rounding must not make a negative nothing, and no unit may stand alone on a line."""
    assert [bare(duration(s)) for s in (0.421, 12.34, 99.9, 99.99, 245, 5999, 6000, 7399)] == [
        "0.421 s",
        "12.3 s",
        "99.9 s",
        "1 min 40 s",
        "4 min 5 s",
        "99 min 59 s",
        "1 h 40 min",
        "2 h 3 min",
    ]
    assert [signed(points) for points in (-0.004, 0.0, 0.004, 1.0, -1.0)] == ["0.00", "0.00", "0.00", "+1.00", "-1.00"]
    assert tuple(map(bare, over_seeds({"mean": 12.0, "low": 11.0, "high": 13.0}, duration))) == ("12 s", "11 to 13 s")
    assert over_seeds({"mean": 0.5, "low": None, "high": None}, "{:.1f}".format) == ("0.5",)
    assert over_seeds(None, str) == over_seeds({"mean": None}, str) == ("",)


def test_without_a_winner_there_are_no_commands_and_no_facts_are_made_up():
    """A command with a folder that is not there would be the reader's first error."""
    made = {"metric": "accuracy", "split": "test", "recipes": [], "results": {}}
    assert commands(made) == []
    assert facts(made)[0] == ("0 recipes", "compared")
    assert len(facts(made)) == 2


@pytest.mark.parametrize("places", [[0.5] * 5, [0.0, 0.01, 0.9, 0.99, 1.0], [0.2, 0.4, 0.6], [1.4, 1.5], [-1.0, 0.5]])
def test_labels_are_apart_in_order_and_within(places):
    """Labels over each other cannot be read."""
    found = seed_plots.apart(places, 0.1)
    assert all(b - a >= 0.1 - 1e-9 for a, b in pairwise(found))
    assert min(found) >= -1e-9
    assert max(found) <= 1 + 1e-9


DRAWN = {
    "one point": lambda: seed_plots.quality_over_time([seed_plots.Spread("a", 90.0, None, None, 3.0, [(3.0, 90.0)], True)], "s", "%"),
    "wide costs": lambda: seed_plots.quality_over_time(
        [seed_plots.Spread(name, 90.0 + i, 80.0, 100.0, 10.0**i, [(10.0**i, 90.0 + i)]) for i, name in enumerate(EVIL)],
        "s",
        "%",
        ("teacher", 99.0),
    ),
    "teacher far above": lambda: seed_plots.quality_over_time(
        [seed_plots.Spread(name, 50.0 + i, None, None, 1.0, [(1.0, 50.0 + i)]) for i, name in enumerate("ab")], "s", "%", ("teacher", 99.0)
    ),
    "no time at all": lambda: seed_plots.quality_over_time([seed_plots.Spread("a", 90.0, None, None, 0.0)], "s", "%"),
    "differences": lambda: seed_plots.forest([seed_plots.Spread(name, -1.0, -2.0, 0.1, seeds=[-1.0]) for name in EVIL], "points"),
    "no differences": lambda: seed_plots.forest([seed_plots.Spread("a", 0.0, 0.0, 0.0, seeds=[0.0, 0.0])], "points"),
    "tuning": lambda: seed_plots.tuned([(None, False), (90.0, True), (91.0, False)], 2, "%"),
    "tuning without a choice": lambda: seed_plots.tuned([(90.0, True)], None, "%"),
}


@pytest.mark.parametrize("case", DRAWN)
def test_a_figure_is_well_formed_and_the_same_each_time(case):
    """Names must neither break a figure nor look like a formula, and equal numbers must not divide by nothing."""
    first = DRAWN[case]()
    assert first == DRAWN[case]()
    root = ElementTree.fromstring(first)
    assert root.tag == "svg"
    assert "http" not in first
    assert "nan" not in first
    if "costs" in case:
        assert "$a$ & $b$" in "".join(root.itertext())


def test_a_teacher_far_above_is_named_and_not_drawn():
    """Drawn, it would press all students into one line."""
    assert "↑ teacher 99.00 %" in "".join(ElementTree.fromstring(DRAWN["teacher far above"]()).itertext())


def test_a_name_that_looks_like_an_id_is_left_alone():
    """Ids of a figure are made unique; a label is not one."""
    drawn = picture("own", DRAWN["differences"](), "label", "caption").svg
    assert 'x" id="ranking' in "".join(ElementTree.fromstring(drawn).itertext())
    assert all(each.startswith("own-") for each in re.findall(r'<\w+[^>]*\bid="([^"]*)"', drawn))


def test_the_teacher_is_no_line_where_students_are_held_against_it():
    """It agrees with itself on every sample: a line at 100 % says nothing and presses the rest."""
    made = comparison(metric="agreement")
    made["teacher"]["test"] = {"agreement": 1.0}
    assert "teacher 100.00 %" not in Reader(render(made)).text
    assert "teacher 98.00 %" in Reader(render(comparison())).text
