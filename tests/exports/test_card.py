"""A card must say what the report says, and no name may become more than text in it."""

from __future__ import annotations

import pytest

from tutelage.exports.card import card, plain, short

ABOUT = {"exported": "onnx", "name": "net", "classes": ["a", "b"], "prepared": {}, "preprocessing": None, "files": {"model.onnx": 3}}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("cnn:width=8,num_hidden_layers=2", "cnn:width=8,num_hidden_layers=2"),
        ("<script>alert(1)</script>", "&lt;script&gt;alert(1)&lt;/script&gt;"),
        ("[click](http://x.y)", r"\[click\](http:\//x.y)"),
        ("a\n\n# b", "a \\# b"),
        ("a | b", r"a \| b"),
        ("**bold** _it_ `code`", r"\*\*bold\*\* \_it\_ \`code\`"),
        ("@someone", r"\@someone"),
        ("1. first", r"1\. first"),
        ("- item", r"\- item"),
        ("\x1b[31mred", r" \[31mred"),
        ("&lt;", "&amp;lt;"),
    ],
)
def test_a_name_is_text(text, said):
    assert plain(text) == said


def test_folders_of_this_machine_stay_out():
    assert short("hf:/home/me/secret/models/bert:max_length=48") == "hf:models/bert:max_length=48"
    assert short("cnn:width=8") == "cnn:width=8"
    assert short("runs/first/teacher") == "runs/first/teacher"


def test_names_of_classes_and_columns_become_no_markdown():
    about = {
        **ABOUT,
        "classes": ["<img src=x>", "a\n\n# Title"],
        "prepared": {"kind": "text", "columns": ["| a |"]},
        "inputs": [{"name": "x`<b>", "type": "float32", "shape": ["batch", 3]}],
    }
    text = card(about, None, "student", "use")
    assert "<img" not in text
    assert "\n# Title" not in text
    assert r"\| a \|" in text
    assert text.count("`") % 2 == 0


def test_without_a_report_nothing_is_claimed():
    text = card(ABOUT, None, "student", "use")
    assert "worth" not in text
    assert "# net, exported" in text
