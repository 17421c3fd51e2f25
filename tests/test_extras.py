"""Optional packages: what is missing is said in one sentence with the mend."""

from __future__ import annotations

import json
import sys

import pytest

from tutelage.errors import BadInput
from tutelage.extras import needed


def test_a_module_that_is_there_is_given():
    """Sub-modules too."""
    assert needed("json", "none", "this") is json
    assert needed("json.decoder", "none", "this") is sys.modules["json.decoder"]


@pytest.mark.parametrize("module", ["no_such_package", "no_such_package.part"])
def test_a_missing_package_names_the_extra_that_brings_it(module):
    """A user copies the line and goes on."""
    with pytest.raises(BadInput) as raised:
        needed(module, "tables", "a csv file")
    assert str(raised.value) == "a csv file needs no_such_package, which is not installed: pip install 'tutelage[tables]'"


def test_a_package_that_was_blocked_counts_as_missing(monkeypatch):
    """None in sys.modules is how imports are switched off."""
    monkeypatch.setitem(sys.modules, "colorsys", None)
    with pytest.raises(BadInput, match="needs colorsys, which is not installed"):
        needed("colorsys", "tables", "this")


@pytest.mark.parametrize("line", ["import no_such_dependency", "raise ImportError('libfoo.so.3: cannot open shared object file')"])
def test_a_package_that_cannot_be_imported_says_why(tmp_path, monkeypatch, line):
    """To install again what is installed would not help."""
    (tmp_path / "broken_package.py").write_text(line)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(BadInput, match=r"this needs broken_package, which cannot be imported here: (No module named|libfoo)"):
        needed("broken_package", "hf", "this")


@pytest.mark.parametrize(
    ("kind", "blocked", "message"),
    [
        ("csv", "pandas", r"a csv file needs pandas, which is not installed: pip install 'tutelage\[tables\]'"),
        ("jsonl", "pandas", r"a jsonl file needs pandas"),
        ("parquet", "pyarrow", r"a parquet file needs pyarrow, .*'tutelage\[tables\]'"),
        ("folder", "PIL.Image", r"an image needs PIL, .*'tutelage\[images\]'"),
        ("hf", "datasets", r"hf:.* needs datasets, .*'tutelage\[hf\]'"),
    ],
)
def test_each_kind_of_data_says_what_it_needs(tmp_path, monkeypatch, kind, blocked, message):
    """Before anything else goes wrong."""
    from tutelage.data import LOCATED

    monkeypatch.setitem(sys.modules, blocked, None)
    path = tmp_path / "set"
    if kind == "folder":
        for name in ("a", "b"):
            (path / name).mkdir(parents=True)
            (path / name / "0.png").write_bytes(b"x")
    else:
        path.write_text("a,b\n1,2\n")
    with pytest.raises(BadInput, match=message):
        LOCATED[kind](str(path))
