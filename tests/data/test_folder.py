"""Folders of images: classes, sizes, colours, splits; files read at once or batch by batch give the same."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch

from tutelage.data import Images, Order, folder, pictures
from tutelage.data.loader import Slices, batches
from tutelage.data.pictures import Files, Look
from tutelage.errors import BadInput, MissingFile

Image = pytest.importorskip("PIL.Image")

SPLITS = ("train", "validation", "test")
GREY, COLOUR = (5, 7), (5, 7, 3)


def noise(shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def saved(path, pixels, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    (pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)).save(path, **options)
    return path


def made(root, classes=("ant", "bee"), count=10, shape=COLOUR):
    """A folder of noise: pixels are a function of class and number."""
    for c, name in enumerate(classes):
        for i in range(count):
            saved(root / name / f"{i:03d}.png", noise(shape, 100 * c + i))
    return str(root)


def everything(data):
    """All samples of all splits: x, y and id."""
    read = [getattr(data, s).batch(torch.arange(len(getattr(data, s)))) for s in SPLITS if getattr(data, s) is not None]
    return {k: torch.cat([b[k] for b in read]) for k in ("x", "y", "id")}


def read(path, **look):
    return Look.of([path], **look).read(path)


def test_a_sub_folder_is_a_class_and_each_image_keeps_its_pixels_and_label(tmp_path):
    """Images apart from their labels train to chance."""
    data = folder(made(tmp_path / "pets", ("cow", "ant", "bee")))
    assert (data.name, data.classes) == ("pets", ("ant", "bee", "cow"))
    batch = everything(data)
    expected = {noise(COLOUR, 100 * ("cow", "ant", "bee").index(name) + i).tobytes(): name for name in data.classes for i in range(10)}
    for x, y in zip(batch["x"], batch["y"], strict=True):
        pixels = (x * 255).round().byte().permute(1, 2, 0).numpy().tobytes()
        assert expected.pop(pixels) == data.classes[y]
    assert not expected


def test_images_are_numbers_between_zero_and_one(tmp_path):
    """As models expect them before their own normalisation."""
    saved(tmp_path / "a" / "white.png", np.full(GREY, 255, np.uint8))
    for i in range(5):
        saved(tmp_path / "a" / f"{i}.png", np.zeros(GREY, np.uint8))
        saved(tmp_path / "b" / f"{i}.png", np.zeros(GREY, np.uint8))
    batch = everything(folder(str(tmp_path)))
    assert batch["x"].dtype == torch.float32
    assert (batch["x"].min(), batch["x"].max()) == (0, 1)


def test_images_of_one_small_size_are_taken_as_they_are(tmp_path):
    """Also where they are no squares."""
    assert folder(made(tmp_path)).train.columns["x"].shape[1:] == (3, 5, 7)


def test_images_of_other_sizes_are_scaled_to_the_smallest_short_side_and_cut_in_the_middle(tmp_path):
    """A batch has one shape."""
    saved(tmp_path / "ant" / "wide.png", np.repeat(np.arange(4, dtype=np.uint8), 6)[None].repeat(12, 0))
    data = folder(made(tmp_path, shape=(20, 30)))
    assert data.train.columns["x"].shape[1:] == (1, 12, 12)
    wide = Look.of([tmp_path / "ant" / "wide.png"], 12).read(tmp_path / "ant" / "wide.png")
    np.testing.assert_array_equal(wide[0, 0], [1] * 6 + [2] * 6)  # 6 columns cut on either side, nothing scaled


def test_large_images_are_scaled_to_224(tmp_path):
    """What models trained on photographs expect, and what memory holds."""
    for i, name in enumerate("aabb"):
        saved(tmp_path / name / f"{i}.jpg", noise((240, 300, 3)))
    assert Look.of(sorted(tmp_path.rglob("*.jpg"))).shape == (3, 224, 224)


@pytest.mark.parametrize("size", [1, 4, 30])
def test_the_size_can_be_given(tmp_path, size):
    """Smaller trains faster; larger fits a given model."""
    assert folder(made(tmp_path), size=size).train.columns["x"].shape[1:] == (3, size, size)


def test_scaling_is_that_of_pillow(tmp_path):
    """A filter that aliases changes what a model trained elsewhere sees."""
    from PIL import ImageOps

    path = saved(tmp_path / "a.png", noise((40, 60, 3)))
    expected = np.asarray(ImageOps.fit(Image.open(path), (16, 16), Image.Resampling.BILINEAR))
    np.testing.assert_array_equal(read(path, side=16), expected.transpose(2, 0, 1))


def test_a_large_jpeg_is_scaled_while_it_is_decoded_without_a_visible_change(tmp_path):
    """Twelve megapixels are decoded at an eighth, in a fraction of the time."""
    from PIL import ImageOps

    smooth = Image.fromarray(noise((12, 16, 3))).resize((1600, 1200), Image.Resampling.BICUBIC)
    path = saved(tmp_path / "a.jpg", smooth, quality=95)
    expected = np.asarray(ImageOps.fit(Image.open(path), (64, 64), Image.Resampling.BILINEAR)).transpose(2, 0, 1)
    assert np.abs(read(path, side=64).astype(int) - expected).mean() < 1.5


@pytest.mark.parametrize("size", [0, -3])
def test_a_size_below_one_is_refused(tmp_path, size):
    """There would be no pixel."""
    with pytest.raises(BadInput, match="expected at least 1 pixel"):
        folder(made(tmp_path), size=size)


def test_grey_images_have_one_channel_unless_some_are_coloured_or_it_is_asked_for(tmp_path):
    """A third of the work, where nothing is lost."""
    path = made(tmp_path, shape=GREY)
    assert folder(path).train.columns["x"].shape[1] == 1
    assert folder(path, colour=True).train.columns["x"].shape[1] == 3
    saved(tmp_path / "ant" / "colour.png", noise(COLOUR))
    assert folder(path).train.columns["x"].shape[1] == 3
    assert folder(path, colour=False).train.columns["x"].shape[1] == 1


def palette():
    image = Image.fromarray(noise(COLOUR)).quantize(8)
    return image, np.asarray(image.convert("RGB"))


def sixteen_bits():
    values = np.random.default_rng(0).integers(0, 65536, GREY).astype(np.uint16)
    return Image.fromarray(values), np.round(values / 257).astype(np.uint8)


def dark_sixteen_bits():
    values = np.random.default_rng(0).integers(0, 256, GREY).astype(np.uint16)
    return Image.fromarray(values), np.round(values / 257).astype(np.uint8)


def one_bit():
    bits = noise(GREY) > 127
    return Image.fromarray(bits), bits.astype(np.uint8) * 255


def see_through():
    pixels = noise((5, 7, 4))
    alpha = pixels[..., 3:] / 255
    return Image.fromarray(pixels), np.round(pixels[..., :3] * alpha + 255 * (1 - alpha))


def grey_see_through():
    pixels = noise((5, 7, 2))
    alpha = pixels[..., 1] / 255
    image = Image.merge("LA", [Image.fromarray(pixels[..., i].copy()) for i in (0, 1)])
    return image, np.round(pixels[..., 0] * alpha + 255 * (1 - alpha))


@pytest.mark.parametrize(
    "kind", [palette, sixteen_bits, dark_sixteen_bits, one_bit, see_through, grey_see_through], ids=lambda k: k.__name__
)
def test_each_kind_of_image_becomes_eight_bits(tmp_path, kind):
    """A scale of 16 bits cut to 8 is noise, and what is see-through would be black. Dark images stay dark."""
    image, expected = kind()
    found = read(saved(tmp_path / "a.png", image))
    assert found.dtype == np.uint8
    expected = expected[None] if expected.ndim == 2 else expected.transpose(2, 0, 1)
    np.testing.assert_allclose(found.astype(float), expected, atol=1)


def test_a_palette_with_a_see_through_colour_lies_on_white(tmp_path):
    """Icons; Pillow warns where this is done in one step."""
    image = Image.new("P", (7, 5), 1)
    image.putpalette([0, 0, 0, 200, 100, 50])
    path = saved(tmp_path / "a.png", image, transparency=1)
    assert (read(path) == 255).all()
    saved(tmp_path / "b.png", image, transparency=bytes([0, 255]))
    np.testing.assert_array_equal(read(tmp_path / "b.png")[:, 0, 0], [200, 100, 50])


@pytest.mark.parametrize("mode", ["CMYK", "YCbCr"])
def test_colours_of_printers_and_cameras_become_red_green_and_blue(tmp_path, mode):
    """JPEG files hold them."""
    image = Image.new("RGB", (16, 16), (200, 100, 50)).convert(mode)
    path = saved(tmp_path / "a.jpg", image, quality=100)
    np.testing.assert_allclose(read(path)[:, 8, 8].astype(int), [200, 100, 50], atol=6)


@pytest.mark.parametrize(("orientation", "turned"), [(1, 0), (3, 2), (6, 3), (8, 1)])
def test_photographs_are_turned_as_the_camera_was_held(tmp_path, orientation, turned):
    """Every fourth photograph would lie on its side."""
    pixels = noise(COLOUR)
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = saved(tmp_path / "a.png", pixels, exif=exif)
    np.testing.assert_array_equal(read(path), np.rot90(pixels, turned).transpose(2, 0, 1))


def test_sizes_are_compared_after_turning(tmp_path):
    """A folder of one camera's upright photographs has one size."""
    exif = Image.Exif()
    exif[0x0112] = 6
    for i in range(6):
        saved(tmp_path / "a" / f"{i}.png", noise(COLOUR))
        saved(tmp_path / "b" / f"{i}.png", noise((7, 5, 3)), exif=exif)
    assert folder(str(tmp_path)).train.columns["x"].shape[1:] == (3, 5, 7)


def test_floating_point_images_are_refused(tmp_path):
    """Nobody knows what their white is."""
    path = tmp_path / "a" / "0.tiff"
    saved(path, noise(GREY).astype(np.float32))
    with pytest.raises(BadInput, match=r"0\.tiff holds numbers other than 8 or 16 bits a pixel"):
        read(path)


@pytest.mark.parametrize("names", [("train", "val", "test"), ("training", "validation", "testing"), ("Train", "dev", "Test")])
def test_folders_of_splits_are_taken_as_they_are(tmp_path, names):
    """The common layout, under its common names."""
    for split, count in zip(names, (6, 3, 2), strict=True):
        made(tmp_path / split, count=count)
    data = folder(str(tmp_path))
    assert [len(getattr(data, s)) for s in SPLITS] == [12, 6, 4]
    assert data.classes == ("ant", "bee")
    assert everything(data)["id"].unique().numel() == 22


def test_splits_that_are_missing_are_cut_from_training(tmp_path):
    """Test stays what it is; other folders beside train are no classes."""
    made(tmp_path / "train", count=20)
    made(tmp_path / "test", count=3)
    (tmp_path / "notes").mkdir()
    data = folder(str(tmp_path), validation=0.2)
    assert [len(getattr(data, s)) for s in SPLITS] == [32, 8, 6]


def test_a_class_may_be_called_train(tmp_path):
    """Cars, buses and trains."""
    assert folder(made(tmp_path, ("bus", "car", "train"))).classes == ("bus", "car", "train")


def test_splits_without_classes_are_refused(tmp_path):
    """Train and test would become the classes, and any model would tell them apart badly."""
    with pytest.raises(BadInput, match="holds test, train; expected one sub-folder a class, or train with one a class in it"):
        folder(made(tmp_path, ("train", "test")))


def test_two_folders_for_one_split_are_refused(tmp_path):
    """One of them would be ignored."""
    for split in ("train", "val", "valid"):
        made(tmp_path / split)
    with pytest.raises(BadInput, match="holds both val and valid, two names for validation; keep one"):
        folder(str(tmp_path))


def test_a_class_that_training_lacks_is_refused_or_dropped(tmp_path):
    """Nothing could teach it; an empty sub-folder is such a class."""
    made(tmp_path / "train")
    made(tmp_path / "test", ("ant", "bee", "cow"))
    with pytest.raises(BadInput, match=r"class 'cow' of .* has 0 training samples"):
        folder(str(tmp_path))
    assert folder(str(tmp_path), rare="drop").classes == ("ant", "bee")
    (tmp_path / "other").mkdir()
    made(tmp_path / "other")
    (tmp_path / "other" / "empty").mkdir()
    with pytest.raises(BadInput, match="class 'empty' of other has 0 training samples"):
        folder(str(tmp_path / "other"))


@pytest.mark.parametrize("lazily", [False, True])
def test_rare_classes_can_be_dropped_however_images_are_read(tmp_path, monkeypatch, lazily):
    """Names and labels must agree afterwards."""
    monkeypatch.setattr(pictures, "IN_MEMORY", 0 if lazily else pictures.IN_MEMORY)
    made(tmp_path, ("ant", "cow"))
    made(tmp_path, ("bee",), count=1)
    data = folder(str(tmp_path), rare="drop")
    assert data.classes == ("ant", "cow")
    batch = everything(data)
    assert torch.bincount(batch["y"]).tolist() == [10, 10]
    cows = {noise(COLOUR, 100 + i).tobytes() for i in range(10)}
    for x, y in zip(batch["x"], batch["y"], strict=True):
        assert ((x * 255).round().byte().permute(1, 2, 0).numpy().tobytes() in cows) == (y == 1)


def test_hidden_files_and_what_systems_leave_are_passed_over(tmp_path):
    """Notebooks keep copies of images in .ipynb_checkpoints: they would be in training and in test."""
    path = made(tmp_path)
    (tmp_path / "ant" / ".DS_Store").write_bytes(b"x")
    (tmp_path / "bee" / "Thumbs.db").write_bytes(b"x")
    (tmp_path / "bee" / "desktop.ini").write_bytes(b"x")
    saved(tmp_path / "ant" / ".ipynb_checkpoints" / "000-checkpoint.png", noise(COLOUR))
    saved(tmp_path / "__MACOSX" / "000.png", noise(COLOUR))
    (tmp_path / ".git").mkdir()
    assert len(everything(folder(path))["id"]) == 20
    assert folder(path).classes == ("ant", "bee")


def test_images_may_lie_deeper_in_a_class(tmp_path):
    """By year, for instance."""
    saved(tmp_path / "ant" / "2031" / "may" / "000.png", noise(COLOUR))
    assert len(everything(folder(made(tmp_path)))["id"]) == 21


def test_ids_stay_when_files_are_added_or_the_folder_moves(tmp_path):
    """What was cached under an id must stay that image's."""
    first = everything(folder(made(tmp_path / "one")))
    made(tmp_path / "two", count=13)
    second = everything(folder(str(tmp_path / "two")))
    pixels = dict(zip(second["id"].tolist(), second["x"], strict=True))
    assert all(torch.equal(pixels[i], x) for i, x in zip(first["id"].tolist(), first["x"], strict=True))
    assert len(pixels) == 26


@pytest.mark.parametrize("content", [b"", b"not an image", b"\x89PNG\r\n\x1a\n", b"GIF89a"])
def test_a_file_that_is_no_image_is_refused_by_name(tmp_path, content):
    """A read-me among the images."""
    path = made(tmp_path)
    (tmp_path / "ant" / "notes.txt").write_bytes(content)
    with pytest.raises(BadInput, match=r"notes\.txt is (no image that can be read|a damaged image)"):
        folder(path)


@pytest.mark.parametrize("form", ["png", "jpg", "gif", "tiff"])
def test_an_image_that_is_cut_short_is_refused_by_name(tmp_path, form):
    """Half a download must not be half grey."""
    path = made(tmp_path)
    kept = io.BytesIO()
    Image.fromarray(noise((60, 70, 3))).save(kept, form.replace("jpg", "jpeg"))
    (tmp_path / "bee" / f"999.{form}").write_bytes(kept.getvalue()[: len(kept.getvalue()) // 2])
    with pytest.raises(BadInput, match=rf"999\.{form} is (a damaged image|no image that can be read)") as raised:
        folder(path)
    assert "\n" not in str(raised.value)


def test_what_is_no_folder_of_classes_is_refused(tmp_path):
    """Each with what was expected."""
    with pytest.raises(MissingFile, match="does not exist; expected a folder of images"):
        folder(str(tmp_path / "none"))
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(MissingFile, match="is a file; expected a folder of images"):
        folder(str(tmp_path / "file"))
    with pytest.raises(BadInput, match="has 0 sub-folders; expected one for each class"):
        folder(str(tmp_path))
    with pytest.raises(BadInput, match="has 1 sub-folders"):
        folder(made(tmp_path / "one", ("ant",)))
    for name in ("ant", "bee"):
        (tmp_path / "empty" / name).mkdir(parents=True)
    with pytest.raises(BadInput, match="holds no files in its sub-folders"):
        folder(str(tmp_path / "empty"))


def test_files_read_batch_by_batch_give_what_images_in_memory_give(tmp_path, monkeypatch):
    """A set that grows beyond memory must not become another set."""
    path = made(tmp_path, shape=(9, 8, 3))
    saved(tmp_path / "ant" / "grey.png", noise((20, 30)))
    at_once = folder(path)
    monkeypatch.setattr(pictures, "IN_MEMORY", 0)
    lazily = folder(path)
    assert isinstance(at_once.train, Images)
    assert not isinstance(lazily.train, Images)
    for split in SPLITS:
        one, other = getattr(at_once, split), getattr(lazily, split)
        assert torch.equal(one.ids(), other.ids())
        assert torch.equal(one.labels(), other.labels())
        positions = torch.arange(len(one)).flip(0)
        first, second = one.batch(positions), other.batch(positions)
        assert all(torch.equal(first[k], second[k]) for k in ("x", "y", "id"))
        assert second["x"].is_contiguous()
    assert (at_once.classes, at_once.name) == (lazily.classes, lazily.name)


def test_loader_workers_read_files_as_this_process_does(tmp_path, monkeypatch):
    """Files are what workers are for."""
    monkeypatch.setattr(pictures, "IN_MEMORY", 0)
    source = folder(made(tmp_path)).train
    slices = Slices(Order(len(source), 4, 0, "s"))
    here, there = (list(batches(source, slices, seed=0, start=0, stop=4, workers=w)) for w in (0, 2))
    for one, other in zip(here, there, strict=True):
        assert all(torch.equal(one[0][k], other[0][k]) for k in ("x", "y", "id"))


def test_the_fingerprint_of_files_changes_with_names_sizes_labels_and_look(tmp_path, monkeypatch):
    """A run must not be resumed on other images."""
    monkeypatch.setattr(pictures, "IN_MEMORY", 0)

    def found(name, classes=("ant", "bee"), change=None, **options):
        path = made(tmp_path / name / "set", classes, count=4)
        if change:
            saved(tmp_path / name / "set" / change, np.zeros(COLOUR, np.uint8))
        return folder(path, **options).fingerprint()

    assert found("a") == found("b")
    others = [found("c", ("ant", "cow")), found("d", change="ant/999.png"), found("e", size=5), found("f", colour=False)]
    assert len({found("a"), found("g", change="ant/000.png"), *others}) == 6


def test_a_file_of_another_size_than_the_first_is_named_when_none_was_asked_for(tmp_path):
    """Files that change under a run."""
    path = saved(tmp_path / "a.png", noise(COLOUR))
    look = Look.of([path])
    with pytest.raises(BadInput, match=r"b\.png is 9x8, not 7x5 like the first; give --data\.size PIXELS"):
        look.read(saved(tmp_path / "b.png", noise((8, 9, 3))))


def test_files_are_a_source_of_their_own(tmp_path):
    """The parts that a split is made of."""
    paths = [saved(tmp_path / f"{i}.png", noise(GREY, i)) for i in range(3)]
    source = Files(paths, torch.tensor([1, 0, 1]), torch.tensor([7, 8, 9]), Look.of(paths), "toy")
    assert (len(source), source.labels().tolist(), source.ids().tolist()) == (3, [1, 0, 1], [7, 8, 9])
    batch = source.batch(torch.tensor([2, 0]))
    assert (batch["y"].tolist(), batch["id"].tolist()) == ([1, 1], [9, 7])
    np.testing.assert_array_equal((batch["x"][0, 0] * 255).round().numpy(), noise(GREY, 2))
