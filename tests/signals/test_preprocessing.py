"""What is said of preprocessing must be enough to do it again."""

from __future__ import annotations

import json

import pytest
import torch

from tutelage.errors import BadInput
from tutelage.signals.columns import Columns
from tutelage.signals.images import ImageInputs
from tutelage.signals.preprocessing import described, rebuilt
from tutelage.signals.text import HashedWords


@pytest.mark.parametrize(
    ("inputs", "batch"),
    [
        (ImageInputs(5, (0.1, 0.2, 0.3), 0.5, 3, "pixel_values"), {"x": torch.rand(2, 1, 7, 7)}),
        (ImageInputs(), {"x": torch.rand(2, 1, 7, 7)}),
        (HashedWords(11, 3), {"text": ["one two three", ""]}),
        (Columns([{"column": "a", "mean": 1.0, "spread": 2.0}]), {"x": torch.rand(2, 1)}),
    ],
)
def test_it_is_the_same_after_a_round_trip_through_json(inputs, batch):
    again = rebuilt(json.loads(json.dumps(described(inputs))), lambda: None, "file")
    torch.testing.assert_close(again(batch), inputs(batch), rtol=0, atol=0)


def test_none_stays_none_and_code_is_only_named():
    assert described(None) is None
    assert rebuilt(None, lambda: None, "file") is None
    said = described(lambda batch: (batch["x"],))
    assert said["kind"] == "code"
    with pytest.raises(BadInput, match=r"model\.onnx was made .* through code of its own"):
        rebuilt(said, lambda: None, "model.onnx")


@pytest.mark.parametrize("said", [{"kind": "unheard"}, {"kind": "images", "sides": 3}, {}, {"kind": "tokens", "max_length": 1}, 3])
def test_damaged_values_are_one_sentence(said):
    with pytest.raises(BadInput):
        rebuilt(said, lambda: None, "model.json")
