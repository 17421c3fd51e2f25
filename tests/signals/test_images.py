"""A model's own view of images."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from tutelage.errors import BadInput
from tutelage.signals.images import ImageInputs


def batch(channels: int = 3, side: int = 8) -> dict:
    return {
        "id": torch.arange(2),
        "x": torch.rand(2, channels, side, side, generator=torch.Generator().manual_seed(0)),
        "y": torch.tensor([0, 1]),
    }


def test_without_arguments_images_pass_as_they_are():
    """The batch is not touched."""
    given = batch()
    (x,) = ImageInputs()(given)
    assert x is given["x"]


def test_normalisation_is_by_channel():
    """Against NumPy."""
    given, mean, std = batch(), [0.1, 0.2, 0.3], [0.5, 0.25, 2.0]
    (x,) = ImageInputs(mean=mean, std=std)(given)
    expected = (given["x"].numpy() - np.reshape(mean, (1, 3, 1, 1))) / np.reshape(std, (1, 3, 1, 1))
    torch.testing.assert_close(x, torch.from_numpy(expected).float())


def test_one_number_serves_all_channels():
    """(x - 127) / 128 of bytes, as EfficientNet-Lite wants it."""
    (x,) = ImageInputs(mean=127 / 255, std=128 / 255)({"id": torch.arange(1), "x": torch.full((1, 3, 2, 2), 200 / 255)})
    torch.testing.assert_close(x, torch.full((1, 3, 2, 2), (200 - 127) / 128))


@pytest.mark.parametrize("size", [4, 16, (6, 10)])
def test_sizes_change(size):
    """Antialiased, so that a constant stays constant and a mean stays a mean."""
    (x,) = ImageInputs(size)(batch())
    assert tuple(x.shape[2:]) == ((size, size) if isinstance(size, int) else size)
    (flat,) = ImageInputs(size)({"id": torch.arange(1), "x": torch.full((1, 1, 8, 8), 0.3)})
    torch.testing.assert_close(flat, torch.full_like(flat, 0.3))
    if size == 4:
        # away from the edges, halving with antialiasing weighs neighbours by 1/8, 3/8, 3/8, 1/8
        line = F.interpolate(torch.arange(8.0).view(1, 1, 1, 8), (1, 4), mode="bilinear", antialias=True)[0, 0, 0]
        assert line[1].item() == pytest.approx(1 / 8 * 1 + 3 / 8 * 2 + 3 / 8 * 3 + 1 / 8 * 4)


def test_colours_follow_the_model():
    """Grey is repeated, colour averaged, and what cannot be done is refused."""
    grey, colour = batch(1), batch(3)
    (x,) = ImageInputs(channels=3)(grey)
    assert x.shape[1] == 3
    assert torch.equal(x[:, 0], x[:, 2])
    (x,) = ImageInputs(channels=1)(colour)
    torch.testing.assert_close(x[:, 0], colour["x"].mean(1))
    with pytest.raises(BadInput, match="2 channels"):
        ImageInputs(channels=3)(batch(2))


def test_the_argument_is_named_where_a_model_wants_it():
    """Hugging Face's models take pixel_values."""
    assert set(ImageInputs(argument="pixel_values")(batch())) == {"pixel_values"}


def test_what_is_saved_is_read_back(tmp_path):
    """In the form that Hugging Face's processors use."""
    ImageInputs((6, 10), [0.1, 0.2, 0.3], [1, 2, 3]).save(tmp_path)
    read = ImageInputs.read(tmp_path)
    assert (read.size, read.mean, read.std) == ((6, 10), (0.1, 0.2, 0.3), (1.0, 2.0, 3.0))
    ImageInputs().save(tmp_path)
    read = ImageInputs.read(tmp_path)
    assert (read.size, read.mean, read.std) == (None, None, None)


@pytest.mark.parametrize(
    ("said", "size"),
    [
        ({"size": 24}, (24, 24)),
        ({"size": {"shortest_edge": 20}}, (20, 20)),
        ({"size": {"height": 3, "width": 4}}, (3, 4)),
        ({}, None),
        ({"size": 24, "crop_size": {"height": 20, "width": 20}}, (20, 20)),
        ({"size": 24, "do_resize": False}, None),
    ],
)
def test_the_forms_in_which_a_size_is_written(tmp_path, said, size):
    """All that are found in the wild."""
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(said))
    assert ImageInputs.read(tmp_path).size == size


def test_bad_input_is_refused(tmp_path):
    """One sentence each."""
    (tmp_path / "preprocessor_config.json").write_text("[1")
    with pytest.raises(BadInput, match="damaged"):
        ImageInputs.read(tmp_path)
    with pytest.raises(BadInput, match="at least 1 pixel"):
        ImageInputs(0)
    with pytest.raises(BadInput, match="positive"):
        ImageInputs(std=0.0)
    with pytest.raises(BadInput, match="do not fit"):
        ImageInputs(mean=[0.1, 0.2])(batch(3))
    with pytest.raises(BadInput, match="without a column x"):
        ImageInputs()({"id": torch.arange(2), "text": ["a", "b"]})


def test_it_works_where_nothing_is_computed():
    """Dry runs count operations on the meta device."""
    (x,) = ImageInputs(16, 0.5, 0.5, 3)({"id": torch.arange(2), "x": torch.empty(2, 1, 8, 8, device="meta")})
    assert x.shape == (2, 3, 16, 16)
    assert x.is_meta
