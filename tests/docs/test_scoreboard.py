"""The scoreboard: what is no result is refused, and every claim stands on it with what was found."""

from __future__ import annotations

import json
import math

import pytest

import result_files as files
from tutelage.errors import BadInput
from tutelage.evaluation.seeds import interval
from tutelage.recipes import listing, load
from tutelage.reproductions import load as reproduction

NASTY = "<script>alert(1)</script> {download}`/etc/passwd` | [x](javascript:1) ![y](z) \x1b[31m\n\n# head\n:::{raw} html"


@pytest.fixture
def board(module):
    """What reads results."""
    return module("scoreboard")


@pytest.fixture
def claims(module):
    """What shows them."""
    return module("claims")


def test_the_committed_results_are_readable_and_their_intervals_are_those_of_their_numbers(board):
    """A number that was changed by hand, or a file of another format, must not reach the site."""
    for result in board.read().values():
        assert result.recipe in ["", *(each.name for each in listing())]  # none where the claim is a command's
        for prediction in result.predictions:
            own = interval(prediction.per_seed)
            found = prediction.found
            assert (found.mean, found.low, found.high) == pytest.approx((own.mean, own.low, own.high), abs=1e-9), result.name
        stated = reproduction(result.name).arms  # an arm may have a recipe of the claim's own file
        own_recipes = {a.recipe.__name__ for a in stated.values() if callable(a.recipe)}
        for arm in result.arms.values():
            assert arm.recipe in [None, *own_recipes, *(each.name for each in listing())]


def test_every_committed_claim_that_failed_says_why(board):
    """A bare "not reproduced" helps nobody; and a paragraph without its result is about nothing."""
    results = board.read()
    assert board.unexplained(results) == []
    for file in board.RESULTS.glob("*.md"):
        assert file.stem in results
        assert not [line for line in file.read_text().splitlines() if line.startswith(("#", "```", ":::", "<"))], "plain paragraphs"


def test_a_failed_claim_without_its_paragraph_is_found(board, tmp_path):
    """The test above must be able to fail."""
    files.put(tmp_path, files.result("hinton-kd"))
    for name, verdict in {"fitnets": "reversed", "ps-kd": "too noisy to say", "born-again": "not reproduced at this scale"}.items():
        files.put(tmp_path, files.result(name, verdict), why="" if name != "ps-kd" else files.WHY)
    assert board.unexplained(board.read(tmp_path)) == ["born-again", "fitnets"]


def test_a_result_is_read_as_it_was_written(board, tmp_path):
    """What is lost here is lost on every page."""
    written = files.result("fitnets", "reversed")
    files.put(tmp_path, written)
    (found,) = board.read(tmp_path).values()
    for key in ("name", "recipe", "claim", "bench", "date", "verdict", "seeds", "minutes", "machine", "versions"):
        assert getattr(found, key) == written[key]
    assert found.why == files.WHY
    assert found.predictions[0].per_seed == written["predictions"][0]["per_seed"]
    assert (found.arms["alone"].tries, found.arms["alone"].chosen) == (3, {"fit": {"lr": 3e-3}, "alpha": 0.5})
    assert (found.arms["taught"].tries, found.arms["taught"].chosen) == (0, {})
    assert found.arms["taught"].means["nll"].mean == pytest.approx(0.256)


def test_what_the_harness_writes_is_read(board, claims, tmp_path):
    """Both sides of the format in one place: the file of a claim whose trials are made up here, written by the harness itself."""
    from tutelage.reproductions import load as claim_of
    from tutelage.reproductions.harness.drive import Carried
    from tutelage.reproductions.harness.results import results, write

    claim = claim_of("hinton-kd")
    asked = ("accuracy", "nll", "ece", "dresses found", "others lost")

    def trials(place):
        made = {"updates": 940, "seconds": 2.0} if place else {"updates": 0}
        return [{**made, "numbers": dict.fromkeys(asked, 0.1 * place + 0.01 * seed)} for seed in range(3)]

    found = {arm: trials(place) for place, arm in enumerate(claim.arms)}
    tuned = {arm: {"tries": [{"fit.lr": 0.1}, {"fit.lr": 0.2}], "validation": [0.5, 0.6], "chosen": 1} for arm in ("alone", "taught")}
    written = results("hinton-kd", Carried(claim, range(3), found, tuned, 120.0), 1)
    write(written, tmp_path / "hinton-kd.json")
    (result,) = board.read(tmp_path).values()
    assert (result.verdict, result.claim, result.minutes) == (written["verdict"], claim.claim, 2.0)
    assert [p.says for p in result.predictions] == [p.says for p in claim.predictions]
    assert list(result.arms) == list(claim.arms)
    assert (result.arms["teacher"].recipe, result.arms["teacher"].seconds) == (None, None)
    assert result.arms["taught"].chosen == {"fit.lr": 0.2}
    assert result.metrics == ["accuracy", "nll", "ece", "dresses found", "others lost"]
    assert "| 3 |" in claims.table({"hinton-kd": result})


def test_every_kind_of_prediction_of_the_harness_is_known(board):
    """A new kind must be thought of here: what unit it has."""
    from tutelage.reproductions.harness import Difference, Level, NonInferior, RankCorrelation, Trend

    assert set(board.KINDS) == {kind.kind for kind in (Difference, Level, NonInferior, RankCorrelation, Trend)}


def test_no_folder_is_no_result(board, tmp_path):
    """A recipe without a file is one that nobody has measured yet."""
    assert board.read(tmp_path / "none") == {}


def test_one_seed_has_no_interval(board, claims, tmp_path):
    """Its ends are null or infinite in the file; a number would be made up."""
    predicted = files.prediction("too noisy to say", per_seed=[0.01]) | {"low": None, "high": None}
    arm = files.result("hinton-kd")["arms"]["alone"] | {"means": {"accuracy": {"mean": 0.9, "low": None, "high": None}}}
    alone = {"arms": {"alone": arm}, "numbers": {"alone": {"accuracy": [0.9]}}}
    one = files.result("hinton-kd", "too noisy to say", seeds=[0], predictions=[predicted], **alone)
    files.put(tmp_path, one)
    result = board.read(tmp_path)["hinton-kd"]
    assert (result.predictions[0].found.low, result.predictions[0].found.high) == (-math.inf, math.inf)
    assert "+1.00 points (one seed, no interval)" in claims.table({"hinton-kd": result})


GOOD = files.result("hinton-kd", "reversed")
BAD = [
    (files.without(GOOD, "claim"), "hinton-kd.json: claim"),
    (files.without(GOOD, "format", put_instead=2), "format 2; expected 1"),
    (files.without(GOOD, "name", put_instead="other"), "name"),
    (files.without(GOOD, "verdict", put_instead="proved"), "one of reproduced"),
    (files.without(GOOD, "verdict", put_instead="reproduced"), "the worst of its predictions"),
    (files.without(GOOD, "seeds", put_instead=[0, 1]), "one number for each of 2 seeds"),
    (files.without(GOOD, "seeds", 0, put_instead="a"), "seeds"),
    (files.without(GOOD, "predictions", put_instead=[]), "predictions: expected at least one"),
    (files.without(GOOD, "predictions", 0, "rule"), "predictions 1: rule"),
    (files.without(GOOD, "predictions", 0, "kind", put_instead="guess"), "kind: expected one of difference"),
    (files.without(GOOD, "predictions", 0, "mean", put_instead=5.0), "a number within its interval"),
    (files.without(GOOD, "predictions", 0, "per_seed", 2, put_instead=True), "per_seed"),
    (files.without(GOOD, "predictions", 0, "per_seed", 2, put_instead=math.nan), "finite numbers"),
    (files.without(GOOD, "predictions", put_instead=["text"]), "predictions 1"),
    (files.without(GOOD, "numbers", "alone"), "those of each arm"),
    (files.without(GOOD, "numbers", "alone", "nll"), "only metrics that have numbers"),
    (files.without(GOOD, "arms", "alone", "tuned", "chosen"), "arms alone: tuned: chosen"),
    (files.without(GOOD, "arms", "alone", "tuned", "chosen", put_instead=3), "the place of one of the tries"),
    (files.without(GOOD, "arms", "alone", "tuned"), "arms alone: tuned"),
    (files.without(GOOD, "arms", "taught", "updates", put_instead="many"), "arms taught: updates"),
    (files.without(GOOD, "machine", "cpus"), "machine: cpus"),
    (files.without(GOOD, "minutes", put_instead="six"), "minutes"),
    ([], "hinton-kd.json: format"),
]


@pytest.mark.parametrize(("found", "said"), BAD, ids=[said for _, said in BAD])
def test_what_is_no_result_is_refused_in_one_sentence_that_names_it(board, tmp_path, found, said):
    """A page made from half a result would look like one made from a whole."""
    (tmp_path / "hinton-kd.json").write_text(json.dumps(found))
    with pytest.raises(BadInput, match=r"hinton-kd\.json") as refused:
        board.read(tmp_path)
    assert said in str(refused.value)


def test_a_file_that_is_cut_off_is_refused(board, tmp_path):
    """It was written by a run that was killed, or merged badly."""
    file = files.put(tmp_path, GOOD)
    file.write_text(file.read_text()[:-20])
    with pytest.raises(BadInput, match="cannot be read as JSON"):
        board.read(tmp_path)


def test_a_name_that_would_lead_out_of_the_folder_or_the_page_is_refused(board, tmp_path):
    """Names become paths and ids."""
    name = "a' onload='x"
    files.put(tmp_path, files.result(name, recipe="hinton-kd"))
    with pytest.raises(BadInput, match="small letters"):
        board.read(tmp_path)


def test_a_result_on_an_unknown_recipe_is_refused(board, claims, tmp_path):
    """A recipe that was renamed would lose its results without a word."""
    files.put(tmp_path, files.result("old-name"))
    with pytest.raises(BadInput, match="'old-name' is not one of"):
        claims.table(board.read(tmp_path))


def test_a_claim_of_a_command_stands_on_the_board_with_a_page_of_its_own(board, claims, module, tmp_path):
    """What is no recipe's has no page in the gallery."""
    files.put(tmp_path, {**files.result("diswot", "reversed"), "recipe": ""}, why=files.WHY)
    results = board.read(tmp_path)
    (row,) = [line for line in claims.table(results).splitlines() if "claims/diswot" in line]
    assert "[diswot](generated/claims/diswot.md)" in row
    assert "Li and Wei" in row
    page = module("found").pages(results)["diswot"]
    assert page.startswith("---\norphan: true\n---\n\n# diswot\n")
    assert "## What was found" in page
    assert files.WHY.strip() in page


def test_all_claims_stand_on_the_scoreboard_whatever_came_of_them(board, claims, tmp_path):
    """A board of successes is an advertisement."""
    for name, verdict in zip(("born-again", "fitnets", "hinton-kd", "ps-kd"), board.VERDICTS, strict=True):
        files.put(tmp_path, files.result(name, verdict))
    text = claims.table(board.read(tmp_path))
    rows = [line for line in text.splitlines() if line.startswith("| [")]
    claimed = sum(load(each.name).about.paper is not None for each in listing())
    assert len(rows) == claimed
    rows = [row for row in rows if "2031" in row]
    for row, verdict in zip(rows, board.VERDICTS, strict=True):
        assert claims.badge(verdict) in row
    assert ": **+1.80 points (+1.15 to +2.45)**]{.found} | 5 |" in rows[0]
    assert "-1.80 points (-2.45 to -1.15)" in rows[2]
    assert all(f"| 5 | {claims.plain('2031-01-02')} |" in row for row in rows)
    assert text.startswith(f"{claimed} claims: 1 [reproduced]")


def test_of_several_predictions_each_has_its_own_verdict(board, claims, tmp_path):
    """A claim fails by the worst of them; the others must not look as if they had failed, too."""
    both = [files.prediction("reproduced"), files.prediction("reversed", "nll", says="nats of taught below those of alone")]
    files.put(tmp_path, files.result("hinton-kd", "reversed", predictions=both))
    (row,) = [line for line in claims.table(board.read(tmp_path)).splitlines() if "[hinton-kd]" in line]
    _, verdict, _, found, *_ = row.strip("| ").split(" | ")
    assert verdict == claims.badge("reversed")
    first, second, rest = found.split("{.found}")
    assert first.endswith(f"**+1.80 points (+1.15 to +2.45)** {claims.badge('reproduced')}]")
    assert second.endswith(f"**-0.0180 (-0.0245 to -0.0115)** {claims.badge('reversed')}]")
    assert rest == ""


def test_claims_that_were_not_measured_are_counted_as_such(board, claims, tmp_path):
    """They are neither failed nor forgotten."""
    files.put(tmp_path, files.result("fitnets"))
    files.put(tmp_path, files.result("fitnets-hints", "reversed", recipe="fitnets"))
    results = board.read(tmp_path)
    papers = [each.name for each in listing() if load(each.name).about.paper]
    assert [name for name, _ in claims.claims(results)] == sorted([*papers, "fitnets"])
    counted = claims.counts(results)
    assert counted.startswith(f"{len(papers) + 1} claims: 1 [reproduced]")
    assert f"1 {claims.badge('reversed')}, {len(papers) - 1} {claims.badge('not yet measured')}." in counted


def test_nothing_in_a_result_acts_on_the_page(board, claims, tmp_path):
    """Results may come from anyone's machine."""
    from markdown_it import MarkdownIt

    nasty = files.result("hinton-kd", claim=NASTY, date=NASTY)
    nasty["predictions"][0]["says"] = NASTY
    files.put(tmp_path, nasty)
    text = claims.table(board.read(tmp_path))
    html = MarkdownIt("commonmark").enable("table").render(text)
    assert html.count("<table>") == 1
    assert "<script" not in html
    assert "<img" not in html
    assert "<h1" not in html
    assert "javascript" not in "".join(html.split("href=")[1:]).split(">")[0]
    (row,) = [line for line in text.splitlines() if "[hinton-kd]" in line]
    assert html.count("&lt;script&gt;alert(1)&lt;/script&gt; {download}`/etc/passwd` | [x](javascript:1)") == 3
    assert "\\{download\\}\\`" in row
    assert "\x1b" not in text


def test_escaped_text_means_itself_to_the_parser_of_the_site(claims):
    """Roles such as {download} are MyST's own, and copy files into the site."""
    pytest.importorskip("myst_parser")
    from docutils.core import publish_doctree
    from myst_parser.docutils_ import Parser

    tree = publish_doctree(claims.plain(NASTY), parser=Parser(), settings_overrides={"report_level": 5})
    assert [type(node).__name__ for node in tree.findall()] == ["document", "paragraph", "Text"]
    assert tree.astext() == " ".join(NASTY.replace("\x1b", "?").split())
