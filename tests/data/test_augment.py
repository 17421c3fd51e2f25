"""Augmentation: each operation against loops and libraries, and samples that are augmented alike wherever they are read.

Shapes: B=5 images of C=3 channels, H=7, W=8.
"""

from __future__ import annotations

import numpy as np
import pytest
import scipy.ndimage
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tutelage.data import Augmented, Indexed, Order, Table, augment
from tutelage.data.augment import OPERATIONS, contrasted, erased, flipped, parse, shifted, turned
from tutelage.data.loader import Slices, batches
from tutelage.errors import BadInput

B, C, H, W = 5, 3, 7, 8
ALL = "flip,shift=2,rotate=10,scale=0.1,erase=4,brightness=0.2,contrast=0.2,noise=0.02"
each_operation = pytest.mark.parametrize(
    "recipe", ["flip", "shift=2", "rotate=30", "scale=0.3", "erase=3", "brightness=0.3", "contrast=0.3", "noise=0.1", ALL]
)


def images(count=B, generator=None):
    return torch.rand(count, C, H, W, generator=generator or torch.Generator().manual_seed(1))


def table(count=B, x=None):
    x = images(count) if x is None else x
    return Table({"x": x, "y": torch.arange(len(x)) % 3, "id": 100 - 7 * torch.arange(len(x))}, "toy")


def grey(count, value=0.5):
    """Equal images, so that what differs was drawn."""
    return table(x=torch.full((count, C, H, W), value))


def read(source, positions=None, view=0, seed=0):
    positions = torch.arange(len(source)) if positions is None else torch.as_tensor(positions)
    return source.batch(positions, seed=seed, views=torch.full_like(positions, view))["x"]


@each_operation
def test_a_sample_is_augmented_alike_in_any_batch(recipe):
    """To the last bit: a resumed run and a second process read other batches."""
    source = Augmented(table(37), recipe)
    whole = read(source, view=3, seed=5)
    order = torch.randperm(37, generator=torch.Generator().manual_seed(0))
    assert torch.equal(read(source, order, view=3, seed=5), whole[order])
    for i in (0, 13, 36):
        assert torch.equal(read(source, [i], view=3, seed=5)[0], whole[i])
    views = torch.arange(37)
    mixed = source.batch(torch.arange(37), seed=5, views=views)["x"]
    assert torch.equal(mixed[9], read(source, [9], view=9, seed=5)[0])


@each_operation
def test_a_large_image_is_augmented_alike_with_any_number_of_threads(recipe):
    """Loader workers have one thread, and sums are taken in another order with more."""
    big = torch.rand(3, 3, 160, 160, generator=torch.Generator().manual_seed(1))
    source = Augmented(Table({"x": big}), recipe)
    whole, threads = read(source), torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        assert torch.equal(read(source), whole)
        assert torch.equal(read(source, [1])[0], whole[1])
    finally:
        torch.set_num_threads(threads)


@each_operation
def test_views_and_seeds_are_augmented_in_their_own_ways(recipe):
    """Epochs that repeat the first are no augmentation."""
    source = Augmented(table(64), recipe)
    seen = [read(source, view=view, seed=seed) for view, seed in ((0, 0), (1, 0), (2, 0), (0, 1))]
    for i, first in enumerate(seen):
        for second in seen[:i]:
            assert not torch.equal(first, second)


@each_operation
def test_equal_images_are_augmented_by_their_ids(recipe):
    """Not by their place, nor all alike."""
    x = images(1).expand(64, -1, -1, -1).clone()
    found = read(Augmented(table(x=x), recipe))
    assert not all(torch.equal(found[0], other) for other in found[1:])


@each_operation
def test_without_views_samples_are_plain(recipe):
    """Accuracy is measured on what was given."""
    plain, source = table(), Augmented(table(), recipe)
    found, expected = source.batch(torch.tensor([3, 1]), seed=4), plain.batch(torch.tensor([3, 1]))
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[k], expected[k]) for k in expected)


@each_operation
def test_other_columns_and_the_sources_own_images_stay_as_they_are(recipe):
    """A table that is augmented in place is darker with each epoch."""
    plain = table()
    before = plain.columns["x"].clone()
    found = Augmented(plain, recipe).batch(torch.tensor([3, 1]), views=torch.tensor([0, 5]))
    assert torch.equal(plain.columns["x"], before)
    assert (found["id"].tolist(), found["y"].tolist()) == ([79, 93], [0, 1])
    assert (found["x"].shape, found["x"].dtype) == ((2, C, H, W), torch.float32)


@pytest.mark.parametrize("ranks", [1, 2])
def test_loader_workers_and_processes_read_the_same_augmentation(ranks):
    """Workers change where samples are read, never what is read."""

    def steps(workers, ranks):
        order = Order(11, 4, 3, "s")
        each = [list(batches(source, Slices(order, r, ranks, None), seed=3, start=0, stop=5, workers=workers)) for r in range(ranks)]
        return [torch.cat([b["x"] for rank in each for b in rank[step]]) for step in range(5)]

    source = Augmented(table(11), ALL)
    here, there = steps(0, 1), steps(2 if ranks == 1 else 0, ranks)
    assert all(torch.equal(a, b) for a, b in zip(here, there, strict=True))


def test_drawing_leaves_the_global_generators_alone():
    """The user's own draws must not depend on how many samples we read."""
    before = torch.get_rng_state(), repr(np.random.get_state())
    read(Augmented(table(), ALL))
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1] == repr(np.random.get_state())


@pytest.mark.parametrize("other", ["shift=2", "rotate=20", "erase=1", "noise=0.1"])
def test_another_operation_leaves_the_draws_of_the_first(monkeypatch, other):
    """Then the effect of one operation can be told from a change of luck."""
    drawn = []
    monkeypatch.setattr(augment, "flipped", lambda x, which: drawn.append(which) or x)
    read(Augmented(table(64), "flip"))
    read(Augmented(table(64), f"{other},flip"))
    assert torch.equal(*drawn)
    assert 0 < drawn[0].sum() < 64


def test_a_flip_swaps_left_and_right_of_half_the_views():
    """And twice is none at all."""
    x = images()
    which = torch.tensor([True, False, True, True, False])
    for i, found in enumerate(flipped(x, which)):
        np.testing.assert_array_equal(found.numpy(), x[i].numpy()[:, :, ::-1] if which[i] else x[i].numpy())
    assert torch.equal(flipped(flipped(x, which), which), x)
    source = Augmented(table(400), "flip")
    same = (read(source) == read(Augmented(table(400), "shift=0"))).flatten(1).all(1)
    mirrored = (read(source) == images(400).flip(3)).flatten(1).all(1)
    assert (same ^ mirrored).all()
    assert scipy.stats.binomtest(int(mirrored.sum()), 400).pvalue > 0.01


@pytest.mark.parametrize("down", [-6, -2, 0, 1, 9])
@pytest.mark.parametrize("right", [-8, -1, 0, 3, 7])
def test_a_shift_is_padding_and_cropping(down, right):
    """Against NumPy; pixels that come in are 0."""
    x = images()
    padded = np.pad(x.numpy(), [(0, 0), (0, 0), (10, 10), (10, 10)])
    found = shifted(x, torch.tensor([[down, right]]).expand(B, 2))
    np.testing.assert_array_equal(found.numpy(), padded[:, :, 10 - down : 10 - down + H, 10 - right : 10 - right + W])


def test_each_image_is_shifted_by_its_own_and_all_shifts_are_equally_likely():
    """With a largest shift of 1 there are nine."""
    x = torch.zeros(900, C, H, W)
    x[:, :, 3, 4] = 1
    found = read(Augmented(table(x=x), "shift=1"))
    places = [tuple(place[0, 1:].tolist()) for place in (image.nonzero() for image in found)]
    counts = {place: places.count(place) for place in set(places)}
    assert set(counts) == {(3 + down, 4 + right) for down in (-1, 0, 1) for right in (-1, 0, 1)}
    assert scipy.stats.chisquare(list(counts.values())).pvalue > 0.01


@pytest.mark.parametrize("shape", [(2, 3, 7, 7), (2, 1, 6, 6)])
def test_turns_by_quarters_are_exact_and_counter_clockwise(rng, shape):
    """An image that turns about a corner, or half a pixel off its centre, drifts out of the frame."""
    x = torch.rand(shape, generator=rng)
    for quarters in range(-1, 3):
        found = turned(x, torch.full((2,), 90.0 * quarters), torch.ones(2))
        torch.testing.assert_close(found, torch.rot90(x, quarters, (2, 3)), atol=1e-5, rtol=0)


@settings(deadline=None, max_examples=30)
@given(st.floats(-180, 180), st.floats(0.2, 3))
def test_a_turn_and_a_zoom_are_one_bilinear_interpolation(degrees, zoom):
    """Against SciPy, on an image that is no square."""
    x, angle = images(2), np.deg2rad(degrees)
    matrix = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]]) / zoom  # on (row, column)
    centre = np.array([(H - 1) / 2, (W - 1) / 2])
    found = turned(x, torch.tensor([degrees, 0.0]), torch.tensor([zoom, 1.0]))
    for channel in range(C):
        expected = scipy.ndimage.affine_transform(
            x[0, channel].double().numpy(), matrix, centre - matrix @ centre, order=1, mode="grid-constant"
        )
        np.testing.assert_allclose(found[0, channel], expected, atol=1e-4)
    torch.testing.assert_close(found[1], x[1], atol=1e-5, rtol=0)


@pytest.mark.parametrize(("recipe", "angle", "share"), [("rotate=20", 20, 0), ("scale=0.3", 0, 0.3), ("rotate=20,scale=0.3", 20, 0.3)])
def test_angles_and_zooms_are_uniform_about_none_and_together(monkeypatch, recipe, angle, share):
    """Both ways alike, or what is learned leans to one side."""
    drawn = []
    monkeypatch.setattr(augment, "turned", lambda x, degrees, zoom: drawn.append((degrees, zoom)) or x)
    read(Augmented(table(500), recipe))
    ((degrees, zoom),) = drawn
    for values, middle, half in ((degrees, 0, angle), (zoom, 1, share)):
        if half:
            assert scipy.stats.kstest(values.numpy(), "uniform", (middle - half, 2 * half)).pvalue > 0.01
        else:
            assert (values == middle).all()


@pytest.mark.parametrize("side", [1, 2, 3, 6])
def test_a_square_is_erased_and_what_reaches_over_the_edge_is_left_out(side):
    """Against a loop over pixels; off by one, and the centre of small images is erased more often than their edge."""
    x = images(H * W) + 0.1
    centres = torch.tensor([[i, j] for i in range(H) for j in range(W)])
    found = erased(x, centres, side)
    for image, before, (row, column) in zip(found, x, centres.tolist(), strict=True):
        expected = before.clone()
        for i in range(row - side // 2, row - side // 2 + side):
            for j in range(column - side // 2, column - side // 2 + side):
                if 0 <= i < H and 0 <= j < W:
                    expected[:, i, j] = 0
        assert torch.equal(image, expected)


def test_the_erased_square_is_centred_on_any_pixel_alike():
    """As in Cutout; with a side of 1 it is that pixel."""
    zeros = read(Augmented(grey(1120), "erase=1")).eq(0)
    assert (zeros.flatten(1).sum(1) == C).all()
    assert scipy.stats.chisquare(zeros[:, 0].sum(0).flatten().numpy()).pvalue > 0.01


def test_brightness_is_one_factor_for_an_image():
    """Uniform about 1; a factor for each pixel would be noise."""
    found = read(Augmented(grey(500), "brightness=0.4")) / 0.5
    factors = found[:, 0, 0, 0]
    torch.testing.assert_close(found, factors[:, None, None, None].expand_as(found))
    assert scipy.stats.kstest(factors.numpy(), "uniform", (0.6, 0.8)).pvalue > 0.01


def test_contrast_is_one_factor_on_the_distances_from_the_images_mean():
    """The mean stays; against NumPy in float64."""
    x, factors = images(), torch.tensor([0.0, 0.5, 1.0, 1.5, 2.0])
    mean = x.double().numpy().mean((1, 2, 3), keepdims=True)
    expected = mean + (x.double().numpy() - mean) * factors.numpy()[:, None, None, None]
    np.testing.assert_allclose(contrasted(x, factors), expected, atol=1e-6)
    x = 0.4 + 0.2 * images(500)
    found = read(Augmented(table(x=x), "contrast=0.4"))
    drawn = found.flatten(1).std(1) / x.flatten(1).std(1)
    assert scipy.stats.kstest(drawn.numpy(), "uniform", (0.6, 0.8)).pvalue > 0.01


def test_noise_is_normal_and_of_the_deviation_asked_for():
    """Pixel by pixel, channel by channel."""
    found = ((read(Augmented(grey(50), "noise=0.05")) - 0.5) / 0.05).flatten()
    assert scipy.stats.kstest(found.numpy(), "norm").pvalue > 0.01


@pytest.mark.parametrize("recipe", [ALL, "brightness=1,contrast=1,noise=1", "rotate=180,scale=0.9"])
def test_numbers_stay_in_the_range_of_images(recipe):
    """What the net never sees in a test image it need not learn."""
    found = read(Augmented(table(64), recipe))
    assert found.min() >= 0
    assert found.max() <= 1


@pytest.mark.parametrize("recipe", ["flip", "shift=2,flip", "erase=3"])
@pytest.mark.parametrize("x", [torch.randint(0, 256, (9, C, H, W), dtype=torch.uint8), 50 * torch.randn(9, C, H, W).double()])
def test_operations_that_only_move_pixels_take_any_images(recipe, x):
    """Bytes and normalised images: nothing is computed, nothing cut off."""
    found = read(Augmented(table(x=x), recipe))
    assert found.dtype == x.dtype
    for image, before in zip(found, x, strict=True):
        assert set(image.flatten().tolist()) <= {0, *before.flatten().tolist()}


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_images_keep_their_type(dtype):
    """Half precision is computed with in float32."""
    x = images().to(dtype)
    found = read(Augmented(table(x=x), ALL))
    assert found.dtype == dtype
    assert torch.equal(found, read(Augmented(table(x=x.float()), ALL)).to(dtype))


def test_the_sources_own_transforms_see_the_views_too():
    """A data set with random crops of its own is augmented after them."""

    class Drawing(torch.utils.data.Dataset):
        def __len__(self):
            return 5

        def __getitem__(self, i):
            return torch.rand(C, H, W), i % 3

    inner, views = Indexed(Drawing()), torch.arange(5)
    found = Augmented(inner, "shift=0").batch(torch.arange(5), seed=2, views=views)["x"]
    assert torch.equal(found, inner.batch(torch.arange(5), seed=2, views=views)["x"])


def test_an_augmented_source_is_its_source_but_for_the_images():
    """Name, length and labels are asked for by tables and samplers."""
    source = Augmented(table(), "flip")
    assert (source.name, len(source), source.labels().tolist()) == ("toy", B, [0, 1, 2, 0, 1])


def test_the_fingerprint_changes_with_the_recipe_and_the_samples_and_not_with_how_it_is_written():
    """A run must not be resumed with other augmentation."""
    found = {recipe: Augmented(table(), recipe).fingerprint() for recipe in ("flip", "shift=1", "shift=2", "flip,shift=2", "rotate=2", ALL)}
    assert len({table().fingerprint(), Augmented(table(4), "flip").fingerprint(), *found.values()}) == 8
    for written in ("shift=2,flip", " flip , shift = 2 ", "flip,shift=2.0,noise=0"):
        assert Augmented(table(), written).fingerprint() == found["flip,shift=2"]
    fixed = Table({"x": torch.linspace(0, 1, 16).view(1, 1, 4, 4)})
    assert Augmented(fixed, ALL.replace("erase=4", "erase=3")).fingerprint() == "6fb3fd9359c44774"


def test_a_recipe_is_read_in_the_order_of_application_without_what_changes_nothing():
    """Two ways of writing it are one recipe."""
    assert parse("noise=0.02,flip,shift=2,rotate=0") == {"flip": 1, "shift": 2, "noise": 0.02}
    assert list(parse("erase=1,noise=1,contrast=1,brightness=1,shift=1,scale=.5,rotate=1,flip")) == list(OPERATIONS)


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        ("flp", "'flp' is not known; nearest: 'flip'; expected some of flip, rotate=DEGREES, .* erase=PIXELS"),
        ("flip,rotat=3", "'rotat' is not known; nearest: 'rotate'"),
        ("", "'' is not known; expected some of"),
        ("flip,", "'' is not known"),
        ("flip=1", "flip takes no value"),
        ("flip=", "flip takes no value"),
        ("flip,flip", "has flip twice"),
        ("shift", "expected shift=PIXELS, a whole number from 0 on"),
        ("shift=1.5", "shift=1.5: expected shift=PIXELS, a whole number"),
        ("shift=-1", "a whole number from 0 on"),
        ("shift=inf", "a whole number from 0 on"),
        ("rotate=many", "rotate=many: expected rotate=DEGREES, a number from 0 to 180"),
        ("rotate=181", "from 0 to 180"),
        ("rotate=nan", "from 0 to 180"),
        ("scale=1", "from 0 to 0.9"),
        ("brightness=1.1", "from 0 to 1"),
        ("contrast=-0.1", "from 0 to 1"),
        ("noise=2", "noise=DEVIATION, a number from 0 to 1"),
        ("shift=7", "shift=7 leaves nothing of images of 7x8"),
        ("erase=7", "erase=7 leaves nothing of images of 7x8"),
    ],
)
def test_recipes_that_cannot_be_are_refused(recipe, message):
    """Before any training, with what can be written."""
    with pytest.raises(BadInput, match=message):
        Augmented(table(), recipe)


@pytest.mark.parametrize(
    ("columns", "recipe", "message"),
    [
        ({"x": torch.zeros(3, 5)}, "flip", r"expected images 'x' of shape \(C, H, W\), not 'x' of shape \(5,\)"),
        ({"text": ["a", "b"]}, "flip", r"not columns \['id', 'text'\]"),
        (
            {"x": torch.zeros(3, 1, 8, 8) - 1},
            "flip,noise=0.1",
            "by flip, noise: expected floating-point images in .* float32 from -1 to -1",
        ),
        ({"x": torch.ones(3, 1, 8, 8) + 1}, "rotate=1", "from 2 to 2; scale them first"),
        ({"x": torch.ones(3, 1, 8, 8).byte()}, "brightness=0.1", "not uint8 from 1 to 1"),
        ({"x": torch.full((3, 1, 8, 8), torch.nan)}, "contrast=0.1", "from nan to nan"),
    ],
)
def test_samples_that_are_no_images_are_refused(columns, recipe, message):
    """Normalised images would be cut to [0, 1] without a word."""
    with pytest.raises(BadInput, match=message):
        Augmented(Table(columns, "toy"), recipe)


def test_ids_are_those_of_the_source():
    """What splits.json lists must name the samples, not their places."""
    source = Table({"x": torch.rand(3, 1, 8, 8), "id": torch.tensor([7, 5, 9])})
    assert Augmented(source, "flip").ids().tolist() == [7, 5, 9]
