"""The pages that are written from the code leave nothing of it out."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tutelage.cli.main import COMMANDS
from tutelage.recipes import knobs, listing, load

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture
def generate(monkeypatch):
    """The generator, as the site's configuration finds it."""
    monkeypatch.syspath_prepend(DOCS)
    import generate

    return generate


def test_each_option_of_each_command_is_on_its_page(generate):
    """An option that the page leaves out does not exist for its reader."""
    sections = re.split(r"^## tutelage ", generate.commands(), flags=re.MULTILINE)[1:]
    text = {section.split("\n", 1)[0]: section for section in sections}
    assert set(text) == set(COMMANDS)
    for verb in COMMANDS:
        options = [o for a in generate.parser_of(verb)._actions if a.help != "==SUPPRESS==" for o in a.option_strings if o.startswith("--")]
        for option in set(options) - {"--help", "--print_config"}:
            if "--no_" not in option:
                assert f"`{option.replace('_', '-')}" in text[verb], (verb, option)


def test_each_recipe_has_a_page_with_its_knobs_and_the_papers_claim(generate):
    """The gallery is how a user chooses."""
    pages = generate.gallery.pages({})
    assert list(pages) == [each.name for each in listing()]
    for name, page in pages.items():
        function = load(name)
        for knob in knobs(function):
            assert f"`--{knob.replace('_', '-')}" in page, (name, knob)
        assert function.about.paper is None or function.about.paper.url in page
        assert ("Not yet measured: this method's tests hold" in page) == (name != "alone")


def test_sections_of_docstrings_are_found_on_the_line_of_their_title_and_below_it(generate):
    """A source that is not found is not shown."""

    def function():
        """Do something.

        In some way,
        with a formula.

        Args:
            x: this
                and that.

        Source: Doe, 2031,
            section 2.
        Relations: none
        """

    import docstrings

    found = docstrings.described(function)
    assert (found.summary, found.text) == ("Do something.", "In some way,\nwith a formula.")
    assert found.arguments == {"x": "this and that."}
    assert found.sections == {"Source": "Doe, 2031, section 2.", "Relations": "none"}


def test_an_unchanged_page_is_not_written_again_and_an_old_one_goes(generate, tmp_path):
    """Sphinx builds anew what has changed, and complains of pages that nobody names."""
    generate.write(tmp_path)
    page, old = tmp_path / "generated" / "nets.md", tmp_path / "generated" / "gallery" / "gone.md"
    before = page.stat().st_mtime_ns
    old.write_text("# gone")
    generate.write(tmp_path)
    assert page.stat().st_mtime_ns == before
    assert not old.exists()
