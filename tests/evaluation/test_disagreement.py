"""The samples on which two models are sure of different things."""

from __future__ import annotations

import base64
import io
import json
import sys

import pytest
import torch

from tutelage.data import Table
from tutelage.evaluation import Predictions, disagreements
from tutelage.evaluation.disagreement import picture


def sure(*confidences: tuple[int, float]) -> torch.Tensor:
    """Logits of two classes: for each sample the choice and how sure."""
    rows = [[c, 1 - c] if choice == 0 else [1 - c, c] for choice, c in confidences]
    return torch.tensor(rows, dtype=torch.float64).log()


TEXTS = Table({"text": [f"text {i}" for i in range(5)], "id": torch.tensor([50, 51, 52, 53, 54])})
LABELS = torch.tensor([0, 1, 1, -100, 0])
TEACHER = Predictions(sure((0, 0.9), (1, 0.99), (1, 0.7), (0, 0.95), (0, 0.6)), LABELS, TEXTS.columns["id"])
STUDENT = Predictions(sure((1, 0.8), (1, 0.99), (0, 0.9), (1, 0.9), (1, 0.99)), LABELS, TEXTS.columns["id"])


def test_the_surest_disagreement_is_the_one_where_both_are_sure():
    """A sample on which only one side is sure says little: the smaller confidence decides."""
    found = disagreements({"teacher": TEACHER, "student": STUDENT}, TEXTS, reference="teacher")
    assert [each["id"] for each in found] == [53, 50, 52, 54]
    assert found[0]["label"] is None
    assert found[1]["label"] == 0
    assert found[1]["models"]["student"] == {"choice": 1, "confidence": pytest.approx(0.8)}
    assert found[1]["models"]["teacher"] == {"choice": 0, "confidence": pytest.approx(0.9)}
    assert found[1]["sample"] == {"kind": "text", "text": "text 0", "cut": False}
    assert [e["id"] for e in disagreements({"teacher": TEACHER, "student": STUDENT}, TEXTS, reference="teacher", count=2)] == [53, 50]
    json.dumps(found)


def test_without_a_teacher_the_labels_are_the_other_side():
    """The surest mistakes, and no sample without a label."""
    found = disagreements({"student": STUDENT}, TEXTS, reference=None)
    assert [each["id"] for each in found] == [54, 52, 50]
    assert disagreements({"student": Predictions(STUDENT.logits, None)}, TEXTS, reference=None) == []


def test_models_that_never_differ_have_none():
    """An empty list, not the least different samples."""
    assert disagreements({"teacher": STUDENT, "student": STUDENT}, TEXTS, reference="teacher") == []


def test_long_texts_are_cut_and_numbers_are_few():
    """The page stays small whatever the data."""
    assert picture({"text": ["x" * 501], "id": torch.tensor([0])}) == {"kind": "text", "text": "x" * 500, "cut": True}
    found = picture({"x": torch.arange(40.0).unsqueeze(0), "y": torch.tensor([1])})
    assert found == {"kind": "numbers", "name": "x", "values": [float(i) for i in range(12)], "of": 40}
    assert picture({"x": torch.zeros(1, 2, 3, 4, 5)})["kind"] == "none"


@pytest.mark.parametrize(("shape", "mode"), [((1, 5, 3), "L"), ((3, 5, 3), "RGB"), ((4, 5, 3), "RGB")])
def test_images_become_the_same_pixels_as_png(rng, shape, mode):
    """Rows, columns and channels in their places, values in 0 to 255."""
    image_module = pytest.importorskip("PIL.Image")
    image = torch.rand(1, *shape, generator=rng)
    found = picture({"x": image, "y": torch.tensor([0])})
    head, _, body = found["png"].partition(",")
    assert head == "data:image/png;base64"
    read = image_module.open(io.BytesIO(base64.b64decode(body)))
    assert (read.mode, read.size) == (mode, (3, 5))
    for row, column in ((0, 0), (4, 2), (1, 2)):
        pixel = read.getpixel((column, row))
        expected = [round(float(v) * 255) for v in image[0, :3, row, column]]
        assert list(pixel if isinstance(pixel, tuple) else [pixel]) == expected
    assert not found["scaled"]


def test_normalised_and_large_images_are_made_to_fit(rng):
    """Users normalise their images; a black rectangle would show nothing."""
    image_module = pytest.importorskip("PIL.Image")
    found = picture({"x": 4 * torch.randn(1, 3, 300, 600, generator=rng)})
    assert found["scaled"]
    read = image_module.open(io.BytesIO(base64.b64decode(found["png"].partition(",")[2])))
    assert read.size == (128, 64)
    assert picture({"x": torch.full((1, 1, 2, 2), 7.0)})["scaled"]


def test_without_pillow_the_picture_is_left_out_and_the_reason_given(monkeypatch):
    """Pillow is optional."""
    monkeypatch.setitem(sys.modules, "PIL", None)
    found = picture({"x": torch.zeros(1, 1, 2, 2)})
    assert found["kind"] == "none"
    assert "Pillow" in found["why"]
