"""The dot plot: what it draws is where the numbers are, and it says the same to those who do not see it."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest

import result_files as files

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture
def draw(module):
    """Draws a prediction, and gives the drawing's root."""
    dots, scoreboard = module("dots"), module("scoreboard")

    def drawn(said):
        count = len(said["per_seed"])
        prediction = scoreboard._prediction(scoreboard.Part("x", said), count)
        return ET.fromstring(dots.plot(prediction, list(range(10, 10 + count)), "key"))

    return drawn


def places(root) -> dict[float, float]:
    """Where the axis has its numbers: place by number."""
    ticks = [text for text in root.findall(f"{SVG}text") if "predicted" not in text.text]
    return {float(text.text): float(text.get("x")) for text in ticks}


@pytest.mark.parametrize("verdict", list(files.PER_SEED))
def test_each_dot_the_mean_and_its_interval_stand_where_their_numbers_are(draw, verdict):
    """A plot that flatters is worse than none."""
    said = files.prediction(verdict)
    root = draw(said)
    (a, at_a), *_, (b, at_b) = sorted(places(root).items())

    def place(number):
        return pytest.approx(at_a + (number * 100 - a) / (b - a) * (at_b - at_a), abs=0.2)

    assert [float(circle.get("cx")) for circle in root.findall(f"{SVG}circle")] == [place(number) for number in said["per_seed"]]
    first = root.find(f"{SVG}line[@class='interval']")
    assert (float(first.get("x1")), float(first.get("x2"))) == (place(said["low"]), place(said["high"]))
    tip = root.find(f"{SVG}polygon").get("points").split()[0].split(",")[0]
    assert float(tip) == place(said["mean"])
    assert float(root.find(f"{SVG}line[@class='zero']").get("x1")) == place(0.0)
    assert all(0 < float(circle.get("cx")) < 480 for circle in root.iter(f"{SVG}circle"))


def test_it_says_its_numbers_to_those_who_do_not_see_it(draw):
    """Each seed, the mean and the interval."""
    root = draw(files.prediction("reproduced"))
    assert root.get("role") == "img"
    assert root.get("aria-labelledby").split() == [root.find(f"{SVG}{tag}").get("id") for tag in ("title", "desc")]
    assert root.find(f"{SVG}title").text == "accuracy of taught above that of alone"
    assert root.find(f"{SVG}desc").text.startswith("seed 10: +2.10; seed 11: +1.40;")
    assert root.find(f"{SVG}desc").text.endswith("mean +1.80 points (+1.15 to +2.45)")


def test_colours_are_those_of_the_page(draw, module):
    """A black line on a dark page is not there."""
    drawing = ET.tostring(draw(files.prediction("reversed"))).decode()
    assert "#" not in drawing.replace("&#", "")
    assert drawing.count("currentColor") >= 10


def test_seeds_with_equal_numbers_stand_above_each_other(draw):
    """Else five seeds look like one."""
    circles = draw(files.prediction("reproduced", per_seed=[0.01] * 5)).findall(f"{SVG}circle")
    assert len({(circle.get("cx"), circle.get("cy")) for circle in circles}) == 5


def test_numbers_that_are_all_zero_have_an_axis(draw):
    """Two arms that do the same are a result, too."""
    root = draw(files.prediction("reproduced", per_seed=[0.0] * 3) | {"verdict": "not reproduced at this scale"})
    assert min(places(root)) < 0 < max(places(root))


def test_one_seed_has_a_dot_and_no_interval(draw):
    """A bar of no width would claim certainty."""
    root = draw(files.prediction("too noisy to say", per_seed=[0.01]) | {"low": None, "high": None})
    assert root.find(f"{SVG}line[@class='interval']") is None
    assert len(root.findall(f"{SVG}circle")) == 1


def test_text_from_a_result_stays_text(draw):
    """The drawing becomes a part of the page."""
    root = draw(files.prediction("reproduced", says="</title><script>alert(1)</script>&\x00'"))
    assert root.find(f"{SVG}title").text == "</title><script>alert(1)</script>&?'"
    assert root.find(f".//{SVG}script") is None


def test_what_is_plotted_is_named_with_its_unit(draw):
    """Points of accuracy, or plain nats."""
    said = " ".join(text.text for text in draw(files.prediction("reproduced")).findall(f"{SVG}text"))
    assert "points of accuracy; to the right: as predicted" in said
    said = " ".join(text.text for text in draw(files.prediction("reproduced", "nll")).findall(f"{SVG}text"))
    assert "nats a sample; to the right" in said
    said = " ".join(text.text for text in draw(files.prediction("reproduced", kind="rank")).findall(f"{SVG}text"))
    assert "rank correlation; to the right" in said
