"""A logit must mean the class that its number means in the data."""

from __future__ import annotations

import pytest

from tutelage.errors import BadInput
from tutelage.students.labels import check_order


@pytest.mark.parametrize(
    ("names", "classes"),
    [
        (["a", "b"], ["a", "b"]),
        (["A", "b"], ["a", "B"]),
        (["a", "b", "c"], ["a", "b"]),
        (["LABEL_0", "LABEL_1"], ["bad", "good"]),
        (None, ["a"]),
        (["a"], []),
        (["a", "b"], ["a", "c"]),
    ],
)
def test_labels_that_agree_or_say_nothing_pass(names, classes):
    check_order(names, classes, "the teacher")


@pytest.mark.parametrize(("names", "classes"), [(["a", "b"], ["b", "a"]), (["a", "b", "c"], ["a", "c"]), (["No", "Yes"], ["yes", "no"])])
def test_labels_in_another_order_are_refused_with_the_right_one(names, classes):
    """With one class missing in a new file, all later ones would move up and be counted wrong."""
    with pytest.raises(BadInput, match=f"the teacher numbers its labels .*--data.classes {','.join(names)}"):
        check_order(names, classes, "the teacher")
