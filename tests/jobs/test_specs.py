"""The grammar in which users name models and data."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tutelage.errors import BadInput
from tutelage.jobs.specs import changed, divided, options_in, typed, write

KINDS = ("csv", "hf", "folder")


@pytest.mark.parametrize(
    ("spec", "name", "options"),
    [
        ("digits", "digits", {}),
        ("cnn:width=3,norm=false", "cnn", {"width": "3", "norm": "false"}),
        ("a/b.py:net:width=3", "a/b.py:net", {"width": "3"}),
        ("csv:a,b.csv", "csv:a,b.csv", {}),
        ("csv:dir/t.csv:label=kind,text=[a,b]", "csv:dir/t.csv", {"label": "kind", "text": "[a,b]"}),
        ('csv:C:/t.csv:label="x, y"', "csv:C:/t.csv", {"label": '"x, y"'}),
        ("folder:a:b", "folder:a:b", {}),
        ("hf:org/name:num_hidden_layers=2", "hf:org/name", {"num_hidden_layers": "2"}),
    ],
)
def test_a_spec_is_a_name_and_options(spec, name, options):
    """Paths may hold colons and commas; options begin at the first `:word=`."""
    found, text = divided(spec, KINDS)
    assert (found, options_in(text, spec)) == (name, options)


@pytest.mark.parametrize("text", ["width", "wid th=3", "=3", "a=[1,2", 'a="x', "a=1]"])
def test_what_is_no_option_is_refused(text):
    """One sentence names the part."""
    with pytest.raises(BadInput, match=r"no option|close"):
        options_in(text, f"cnn:{text}")


def make(
    path, *, width: int = 3, rate: float = 0.5, norm: bool = True, label: str = "", text: Sequence[str] = (), limit: int | None = None
):
    """Annotated as built-in functions are."""


@pytest.mark.parametrize(
    ("given_options", "expected"),
    [
        ({"width": "3"}, {"width": 3}),
        ({"rate": "1"}, {"rate": 1.0}),
        ({"norm": "false"}, {"norm": False}),
        ({"label": "3"}, {"label": "3"}),
        ({"label": "no"}, {"label": "no"}),
        ({"label": '"no"'}, {"label": "no"}),
        ({"label": "''"}, {"label": ""}),
        ({"text": "title"}, {"text": ("title",)}),
        ({"text": "[title, 3]"}, {"text": ("title", "3")}),
        ({"text": "[no, yes, 007, null]"}, {"text": ("no", "yes", "007", "null")}),
        ({"text": "[1, 2.0]"}, {"text": ("1", "2.0")}),
        ({"text": '["a, b", "\\u00df"]'}, {"text": ("a, b", "ß")}),
        ({"text": "no"}, {"text": ("no",)}),
        ({"text": "[]"}, {"text": ()}),
        ({"text": "''"}, {"text": ()}),
        ({"limit": "null"}, {"limit": None}),
        ({"limit": "4"}, {"limit": 4}),
    ],
)
def test_options_become_what_the_function_is_annotated_with(given_options, expected):
    """A column called 3 or no stays a name."""
    assert typed(given_options, make, "make") == expected


@pytest.mark.parametrize(
    "given_options", [{"width": "x"}, {"width": "1.5"}, {"width": "true"}, {"rate": "x"}, {"norm": "3"}, {"depth": "3"}]
)
def test_other_types_and_unknown_options_are_refused(given_options):
    """Before anything is built."""
    with pytest.raises(BadInput, match=r"expected|has no option"):
        typed(given_options, make, "make")


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # the first text of a fresh installation takes a second
@given(st.dictionaries(st.sampled_from(["label", "width", "text"]), st.text() | st.integers() | st.lists(st.text())))
def test_what_is_written_is_read_back(options):
    """A run folder's spec holds any column name."""
    spec = write("csv:f.csv", options)
    name, text = divided(spec, KINDS)
    read = options_in(text, spec)
    assert name == "csv:f.csv"
    assert set(read) == set(options)
    if isinstance(options.get("label"), str):
        assert typed({"label": read["label"]}, make, "make")["label"] == options["label"]


def test_the_command_line_changes_a_spec():
    """`--data.text a,b` is a list of two; what was there before is replaced."""
    assert changed("csv:f.csv:label=a", [("label", "b"), ("text", "x,y")], KINDS) == 'csv:f.csv:label=b,text=["x", "y"]'
    assert changed("digits", [("seed", "1")], KINDS) == "digits:seed=1"
    spec = changed("csv:f.csv", [("label", "my label")], KINDS)
    assert typed(options_in(divided(spec, KINDS)[1], spec), make, "make") == {"label": "my label"}
