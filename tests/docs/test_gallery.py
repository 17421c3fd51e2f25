"""The gallery: a recipe's page with what was found of it, and an index that is filtered by what the recipes say of themselves."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

import result_files as files
from tutelage.recipes import listing, load, roles

DOCS = Path(__file__).parents[2] / "docs"
NAMES = [each.name for each in listing()]
NASTY = "<script>alert(1)</script> {download}`/etc/passwd` | [x](javascript:1)\n\n# head"


@pytest.fixture
def read(module, tmp_path):
    """Puts results into a folder and reads them."""

    def put(*results):
        for result in results:
            files.put(tmp_path, result)
        return module("scoreboard").read(tmp_path)

    return put


@pytest.fixture
def page(module, read):
    """A recipe's page with some results."""
    return lambda name, *results: module("gallery").page(name, load(name), read(*results))


@pytest.mark.parametrize("verdict", list(files.PER_SEED))
def test_each_verdict_is_told_with_its_numbers(module, page, verdict):
    """What failed is told as fully as what held."""
    text = page("fitnets", files.result("fitnets", verdict))
    badge = module("claims").badge(verdict)
    head, results = text.split("## Results")
    assert badge in head
    assert results.count(badge) == 2  # of the claim and of its prediction
    numbers = {"reproduced": "+1.80 points (+1.15 to +2.45)", "reversed": "-1.80 points (-2.45 to -1.15)"}
    assert numbers.get(verdict, " points (-") in results
    assert load("fitnets").about.paper.claim.split(":")[0] in results
    assert (files.WHY in results) == (verdict != "reproduced")
    assert "```{raw} html\n:file: ../dots/fitnets-1.svg\n```" in results
    assert "$ tutelage reproduce fitnets" in results
    assert "Not yet measured: this" not in text


def test_arms_are_told_with_their_tuning_updates_and_time(page):
    """Who was tuned more, or trained longer, must be seen."""
    text = page("fitnets", files.result("fitnets"))
    alone, taught = (line for line in text.splitlines() if line.startswith(("| **alone**", "| **taught**")))
    assert "90.04 % (89.09 to 90.99) | 0.314 (0.300 to 0.328) | 940 | 2.53 |" in alone
    assert "fit.lr=0.003, alpha=0.5 chosen of 3 on validation" in alone.replace("\\", "")
    assert "chosen" not in taught


def test_an_arm_that_was_only_measured_and_one_of_another_length_say_so(page):
    """A teacher as it is has no time; and who was updated more often must say why."""
    found = files.result("fitnets")
    found["arms"]["alone"] |= {"recipe": None, "seconds": None, "tuned": None, "updates": 0}
    found["arms"]["taught"]["unequal"] = "a stage of hints comes first"
    text = page("fitnets", found).replace("\\", "")
    assert "| 0 |  |" in text
    assert "the student taught by the teacher; updates differ: a stage of hints comes first |" in text


def test_where_and_when_it_was_measured_is_told(page):
    """A number without its machine and date cannot be held against anything."""
    text = page("fitnets", files.result("fitnets")).replace("\\", "")
    assert ":Seeds: 5 (0, 1, 2, 3, 4), the same for all arms" in text
    assert ":Measured: on 2031-01-02, in 6.23 minutes, on x86_64, 2 processors, 1 thread, with tutelage 0.1.0, torch 2.13.0" in text
    assert ":Bench: digits in 1,000 samples" in text


def test_several_claims_of_one_recipe_stand_apart(page):
    """The second must not be taken for the first."""
    results = files.result("ps-kd", "reversed"), files.result("ps-kd-calibration", recipe="ps-kd")
    text = page("ps-kd", *results)
    assert re.findall(r"^### (.+)$", text, re.MULTILINE) == ["Ours: ps\\-kd\\-calibration", "Ours: ps\\-kd"]
    assert "../dots/ps-kd-1.svg" in text
    assert "../dots/ps-kd-calibration-1.svg" in text


def test_a_recipe_without_results_says_so(page):
    """An empty place would read as nothing to tell."""
    other = files.result("fitnets")
    assert "Not yet measured: this method's tests hold" in page("hinton-kd", other)
    assert "There is no claim to compare with" in page("alone", other)
    assert "Our verdict" not in page("alone", other)


def test_nothing_in_a_result_acts_on_a_recipes_page(module, page):
    """Every text of a result passes through here."""
    from markdown_it import MarkdownIt

    nasty = files.result("hinton-kd", claim=NASTY, bench=NASTY, date=NASTY, versions={NASTY: NASTY})
    nasty["machine"]["processor"] = NASTY
    for key in ("says", "rule"):
        nasty["predictions"][0][key] = NASTY
    for arm in nasty["arms"].values():
        arm["about"] = arm["unequal"] = NASTY
        arm["means"] = {NASTY: arm["means"]["nll"]}
    for own in nasty["numbers"].values():
        own[NASTY] = own.pop("nll")
    nasty["arms"]["alone"]["tuned"] = {"tries": [{NASTY: NASTY}], "validation": [1.0], "chosen": 0}
    nasty["reported"] = [NASTY]
    for where in ("arms", "numbers"):
        nasty[where] = {NASTY if name == "taught" else name: each for name, each in nasty[where].items()}
    text = page("hinton-kd", nasty).split("## Results")[1].split("## The code")[0]
    html = MarkdownIt("commonmark").enable("table").render(text)
    assert html.count("&lt;script&gt;") == 17
    assert "<script" not in html
    assert "<h1" not in html
    assert 'href="javascript' not in html
    assert not re.search(r"(?<!\\)\{(?!\.|raw\} html\n:file: \.\./dots/)", text), "a brace that could open a role"


def test_every_page_says_what_the_method_costs(module, page):
    """Measured, over plain distillation, for one update and for the whole."""
    costs = module("costs")
    for name in NAMES:
        text = page(name)
        if name in costs.REFERENCES:
            assert ":Measured: 1, by definition" in text
            continue
        rows = costs.measured(name)
        for kind in ("update", "training", "memory"):
            assert f"{rows[kind]['ratio']['median']:.2f}" in text
        assert f"{rows['training']['ratio']['lower_quartile']:.2f} to {rows['training']['ratio']['upper_quartile']:.2f}" in text
        own, plain = re.search(r"\((\d+) updates to (\d+)\)", rows["training"]["what"]).groups()
        assert ("with as many updates" in text) == (own == plain)


def test_costs_that_were_not_measured_are_not_made_up(module, tmp_path):
    """A copy without the benchmarks builds its pages, too."""
    costs = module("costs")
    assert costs.sentence("fitnets", tmp_path / "none.json") == "Not yet measured."
    assert costs.brief("fitnets", tmp_path / "none.json") == "cost not yet measured"
    (tmp_path / "some.json").write_text(json.dumps({"rows": []}))
    assert costs.sentence("fitnets", tmp_path / "some.json") == "Not yet measured."


def cards_of(text: str) -> dict[str, list[str]]:
    """The classes of each card."""
    return {name: classes.split() for name, classes in re.findall(r"grid-item-card\} (\S+)\n.*?:class-item: ([^\n]*)", text, re.DOTALL)}


def test_what_a_card_is_filtered_by_is_what_its_recipe_says(module, read):
    """A method that is hidden from those it would serve, or shown to those whom it fails, is worse than no filter."""
    cards = module("cards")
    text = cards.index(read(files.result("fitnets", "reversed")))
    found = cards_of(text)
    assert list(found) == NAMES
    for name, classes in found.items():
        about = load(name).about
        assert ("labels-needed" in classes) == about.needs_labels
        assert ("labels-optional" in classes) != about.needs_labels
        assert ("teacher-needed" in classes) == any(str(role).endswith("Teacher") for role in roles(load(name)).values())
        assert ("teacher-none" in classes) != ("teacher-needed" in classes)
        words = [each.removeprefix("matches-").replace("-", " ") for each in classes if each.startswith("matches-")]
        said = about.matches.replace("'", " ")
        assert words
        assert all(word in said for word in words)
    assert "verdict-reversed" in found["fitnets"]
    assert "verdict-not-yet-measured" in found["ps-kd"]
    assert not [each for each in found["alone"] if each.startswith("verdict")]
    assert {"matches-features", "matches-logits"} < set(found["fitnets"])


def test_every_card_fits_some_answer_of_each_question(module, read):
    """What no answer shows, or what shows nothing, is a mistake of the filter."""
    cards = module("cards")
    results = read(files.result("fitnets", "reversed"), files.result("ps-kd"))
    found = cards_of(cards.index(results))
    used = {each for classes in found.values() for each in classes}
    for question, choices in cards.groups(results).items():
        assert choices[0][0] == "", question
        assert {name for name, _ in choices[1:]} <= used, question
    offered = {name for choices in cards.groups(results).values() for name, _ in choices}
    assert used - offered == {"method", "labels-needed", "teacher-needed"}


def test_without_javascript_all_cards_are_there_and_the_filter_is_not(module, read):
    """The page is complete without it."""
    text = module("cards").index(read())
    form = text[: text.index("</form>")]
    assert form.startswith('<form class="filter"')
    assert " hidden>" in form.splitlines()[0]
    assert "\n\n" not in form, "an empty line ends the block of HTML"
    assert not re.search(r"<[^>]*\shidden[\s>=]|^\s*:hidden:", text[len(form) :], re.MULTILINE)
    assert [line.split()[-1] for line in text.splitlines() if "grid-item-card" in line] == NAMES


def test_verdicts_and_costs_stand_on_the_cards(module, read):
    """The index is where one chooses."""
    text = module("cards").index(read(files.result("fitnets", "too noisy to say"), files.result("fitnets-two", recipe="fitnets")))
    card = text[text.index("} fitnets") : text.index("} hinton-kd")]
    badge = module("claims").badge
    assert f"{badge('reproduced')} {badge('too noisy to say')}" in card
    assert f"· {module('costs').brief('fitnets')}\n" in card


STAGE = """
const cards = CARDS.map((names) => ({ hidden: false, classList: { contains: (name) => names.includes(name) } }));
let chosen = [], heard = {};
const said = {}, form = { hidden: true, querySelector: () => said, addEventListener: (name, f) => (heard[name] = f) };
global.FormData = class { values() { return chosen; } };
global.document = { querySelector: () => form, querySelectorAll: () => cards };
global.window = { addEventListener: () => {} };
eval(require("fs").readFileSync(process.argv[1], "utf8"));
const told = [[form.hidden, said.textContent]];
for (chosen of CHOICES) { heard.change(); told.push([cards.map((card) => card.hidden), said.textContent]); }
console.log(JSON.stringify(told));
"""


@pytest.mark.skipif(shutil.which("node") is None, reason="needs node")
def test_the_script_hides_what_does_not_fit_all_answers(module, read):
    """Two answers together, and back to none."""
    found = cards_of(module("cards").index(read(files.result("hinton-kd"))))
    choices = [["labels-optional", "", ""], ["labels-optional", "teacher-none"], ["", "verdict-reproduced", "matches-logits"], ["", ""]]
    stage = STAGE.replace("CARDS", json.dumps(list(found.values()))).replace("CHOICES", json.dumps(choices))
    script = str(DOCS / "_static" / "filter.js")
    ran = subprocess.run(["node", "-e", stage, script], capture_output=True, text=True, check=True, timeout=60)
    (form_hidden, first), *told = json.loads(ran.stdout)
    assert (form_hidden, first) == (False, f"{len(NAMES)} of {len(NAMES)} methods fit.")
    for (hidden, said), wanted in zip(told, choices, strict=True):
        fits = [all(name in classes for name in wanted if name) for classes in found.values()]
        assert hidden == [not each for each in fits]
        assert said == f"{sum(fits)} of {len(NAMES)} methods fit."
    unlabelled = sum(not load(name).about.needs_labels for name in NAMES)
    assert [sum(not each for each in hidden) for hidden, _ in told] == [unlabelled, len(["ddpm"]), 1, len(NAMES)]
