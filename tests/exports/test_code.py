"""Code that is taken out of its files must be whole, and nothing else."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest

from tutelage import students
from tutelage.errors import BadInput
from tutelage.exports.code import Bundle
from tutelage.signals.columns import Columns


def bundled(path: Path, *names: str, without: tuple[str, ...] = ()) -> Bundle:
    bundle = Bundle("net")
    for name in names:
        bundle.take(path, name, without)
    return bundle


def ran(bundle: Bundle) -> dict:
    space: dict = {"__name__": "alone"}
    exec(compile("from __future__ import annotations\n" + bundle.text(), "model.py", "exec", dont_inherit=True), space)
    return space


@pytest.mark.parametrize("name", students.__all__)
def test_every_built_in_net_stands_alone_with_the_same_weights_by_name(name):
    """A net that was forgotten here could be trained but not taken home."""
    function = getattr(students, name)
    bundle = bundled(Path(inspect.getfile(function)), name)
    assert "tutelage" not in bundle.text().replace("TutelageError", "")
    made, expected = ran(bundle)[name](classes=3), function(classes=3)
    assert {k: v.shape for k, v in made.state_dict().items()} == {k: v.shape for k, v in expected.state_dict().items()}
    assert bundle.packages() == ["torch"]


def test_what_a_function_does_not_need_stays_behind(tmp_path):
    file = tmp_path / "net.py"
    file.write_text(
        "import math\nimport json\nfrom os.path import join as joined\nUNUSED = json.dumps({})\nUSED = math.pi  # why\n"
        "A, B = 1, 2\ndef helper():\n    # kept with its function\n    return USED + B\n\n"
        "def other():\n    return joined('a', 'b')\n\ndef net():\n    return helper()\n"
    )
    bundle = bundled(file, "net")
    text = bundle.text()
    assert "json" not in text
    assert "joined" not in text
    assert "other" not in text
    assert "# kept with its function" in text
    assert ran(bundle)["net"]() == pytest.approx(3.14159265 + 2)


def test_renamed_imports_stay_renamed_and_inner_packages_are_listed(tmp_path):
    file = tmp_path / "net.py"
    file.write_text(
        "import numpy.linalg as la\nfrom os.path import join as joined\n"
        "def net():\n    import safetensors\n    return joined('a', str(la.norm([3, 4])))\n"
    )
    bundle = bundled(file, "net")
    assert ran(bundle)["net"]() == "a/5.0"
    assert bundle.packages() == ["numpy", "safetensors"]


def test_methods_that_are_left_out_are_gone_and_the_rest_works():
    bundle = bundled(Path(inspect.getfile(Columns)), "Columns", without=("described", "_match", "__call__"))
    text = bundle.text()
    assert "def of" in text
    assert "def _match" not in text
    assert "@property" not in text
    made = ran(bundle)["Columns"]([{"column": "a", "mean": 1.0, "spread": 2.0}])
    assert made.of([{"a": 5}]).tolist() == [[2.0]]


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("import tutelage\ndef net():\n    return tutelage.Model\n", "as a whole"),
        ("def net():\n    from tutelage import Model\n    return Model\n", "inside net"),
        ("from tutelage.students import cnn as mine\ndef net():\n    return mine()\n", "under its own name"),
    ],
)
def test_what_cannot_be_taken_out_is_refused_with_a_mend(tmp_path, code, said):
    file = tmp_path / "net.py"
    file.write_text(code)
    with pytest.raises(BadInput, match=said):
        bundled(file, "net")


def test_one_name_for_two_things_is_refused(tmp_path):
    """Silently the second would replace the first, and the net would be another one."""
    file = tmp_path / "net.py"
    file.write_text("from tutelage.students import vgg\ndef normed():\n    return 1\ndef net():\n    return normed(), vgg\n")
    with pytest.raises(BadInput, match="'normed' means two things"):
        bundled(file, "net")


def test_a_definition_may_call_itself_and_another_in_a_circle(tmp_path):
    file = tmp_path / "net.py"
    file.write_text(
        "def even(n):\n    return n == 0 or odd(n - 1)\ndef odd(n):\n    return n > 0 and even(n - 1)\ndef net():\n    return even(4)\n"
    )
    assert ran(bundled(file, "net"))["net"]() is True
