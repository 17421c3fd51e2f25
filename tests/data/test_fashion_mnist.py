"""Fashion-MNIST from its four files: generated ones, damaged ones, and the real ones where they are installed."""

from __future__ import annotations

import gzip
import struct

import numpy as np
import pytest
import torch

from tutelage.data import fashion_mnist
from tutelage.data.fashion_mnist import CLASSES, DEBIAN
from tutelage.errors import BadInput, MissingFile

SPLITS = ("train", "validation", "test")
STEMS = {"train": 60, "t10k": 20}


def idx(values, magic=None):
    """Values in IDX form: two zero bytes, the type, the rank, the sizes, the bytes."""
    head = struct.pack(">HBB", 0, 8, values.ndim) if magic is None else magic
    return head + struct.pack(f">{values.ndim}I", *values.shape) + values.tobytes()


def contents(stem, side=4):
    """Images and labels of a part: noise, and the classes in turn."""
    count = STEMS[stem]
    rng = np.random.default_rng(count)
    return rng.integers(0, 256, (count, side, side), dtype=np.uint8), np.arange(count, dtype=np.uint8) % 10


@pytest.fixture(params=[True, False], ids=["gz", "plain"])
def place(request, tmp_path):
    """A folder with the four files."""
    for stem in STEMS:
        for name, values in zip(("images-idx3", "labels-idx1"), contents(stem), strict=True):
            written(tmp_path, f"{stem}-{name}", idx(values), packed=request.param)
    return tmp_path


def written(place, name, content, packed=False):
    file = place / f"{name}-ubyte{'.gz' if packed else ''}"
    file.write_bytes(gzip.compress(content) if packed else content)


def test_images_labels_and_ids_are_those_of_the_files(place):
    """Ids count through training, then test, whatever is cut."""
    data = fashion_mnist(str(place))
    assert (data.classes, data.name) == (CLASSES, "fashion-mnist")
    assert [len(getattr(data, s)) for s in SPLITS] == [50, 10, 20]  # a tenth of six, and at least one, of each class
    images, labels = (np.concatenate(both) for both in zip(*(contents(stem) for stem in STEMS), strict=True))
    seen = []
    for split in SPLITS:
        batch = getattr(data, split).batch(torch.arange(len(getattr(data, split))))
        ids = batch["id"].numpy()
        np.testing.assert_allclose(batch["x"][:, 0], images[ids] / np.float32(255), rtol=1e-6)
        np.testing.assert_array_equal(batch["y"], labels[ids])
        seen.append(set(ids.tolist()))
    assert seen[0] | seen[1] == set(range(60))
    assert seen[2] == set(range(60, 80))


def test_validation_has_its_share_of_each_class_and_test_never_changes(place):
    """The test set is the benchmark's own."""
    first, second = fashion_mnist(str(place), validation=0.5), fashion_mnist(str(place), validation=0.5, seed=1)
    assert torch.bincount(first.validation.labels()).tolist() == [3] * 10
    assert set(first.validation.ids().tolist()) != set(second.validation.ids().tolist())
    assert first.test.fingerprint() == second.test.fingerprint()


def test_fewer_samples_are_drawn_by_class(place):
    """For a first try; the same for the same seed."""
    data = fashion_mnist(str(place), samples=30, validation=1 / 3)
    assert [len(getattr(data, s)) for s in SPLITS] == [20, 10, 10]
    for split, each in zip(SPLITS, (2, 1, 1), strict=True):
        assert torch.bincount(getattr(data, split).labels()).tolist() == [each] * 10
    assert data.fingerprint() == fashion_mnist(str(place), samples=30, validation=1 / 3).fingerprint()
    assert data.fingerprint() != fashion_mnist(str(place), samples=30, validation=1 / 3, seed=1).fingerprint()
    assert fashion_mnist(str(place), samples=60).train.fingerprint() == fashion_mnist(str(place)).train.fingerprint()


@pytest.mark.parametrize("samples", [-1, 0, 19, 61])
def test_too_few_or_too_many_samples_are_refused(place, samples):
    """Each class must be in training and in validation."""
    with pytest.raises(BadInput, match=f"samples={samples}; expected 20 to 60"):
        fashion_mnist(str(place), samples=samples)


def test_a_missing_file_says_how_to_get_it(place):
    """The first thing that goes wrong."""
    for file in place.glob("t10k-labels*"):
        file.unlink()
    with pytest.raises(
        MissingFile, match=r"t10k-labels-idx1-ubyte \(or \.gz\) does not exist; install .*dataset-fashion-mnist.*--data\.folder"
    ):
        fashion_mnist(str(place))
    with pytest.raises(MissingFile, match="dataset-fashion-mnist"):
        fashion_mnist(str(place / "none"))


IMAGES, LABELS = contents("train")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("train-images-idx3", idx(IMAGES)[:-1]),
        ("train-images-idx3", idx(IMAGES) + b"x"),
        ("train-images-idx3", idx(IMAGES)[:9]),
        ("train-images-idx3", b""),
        ("train-images-idx3", idx(IMAGES, magic=struct.pack(">HBB", 0, 9, 3))),
        ("train-images-idx3", idx(IMAGES, magic=struct.pack(">HBB", 1, 8, 3))),
        ("train-images-idx3", idx(LABELS)),
        ("train-labels-idx1", idx(IMAGES)),
        ("train-images-idx3", struct.pack(">HBB3I", 0, 8, 3, 2**32 - 1, 2**32 - 1, 2**32 - 1)),
    ],
    ids=["short", "long", "head cut", "empty", "type", "zeros", "labels", "images", "huge"],
)
def test_a_file_that_is_no_idx_file_is_refused_by_name(tmp_path, name, content):
    """Images shifted by a byte still look like clothes."""
    for stem in STEMS:
        for part, values in zip(("images-idx3", "labels-idx1"), contents(stem), strict=True):
            written(tmp_path, f"{stem}-{part}", idx(values))
    written(tmp_path, name, content)
    with pytest.raises(BadInput, match=rf"{name}-ubyte is damaged or no IDX file of bytes"):
        fashion_mnist(str(tmp_path))


@pytest.mark.parametrize("damage", [lambda b: b[:-12], lambda b: b[:40] + bytes([b[40] ^ 255]) + b[41:], lambda b: b"plain"])
def test_a_damaged_archive_is_refused_by_name(tmp_path, damage):
    """A download that broke off, or a flipped bit."""
    for stem in STEMS:
        for part, values in zip(("images-idx3", "labels-idx1"), contents(stem), strict=True):
            written(tmp_path, f"{stem}-{part}", idx(values), packed=True)
    file = tmp_path / "train-images-idx3-ubyte.gz"
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(BadInput, match=r"train-images-idx3-ubyte\.gz is damaged") as raised:
        fashion_mnist(str(tmp_path))
    assert "\n" not in str(raised.value)


def test_images_and_labels_must_be_as_many(place):
    """The rest would be paired by chance."""
    written(place, "train-labels-idx1", idx(LABELS[:-1]), packed=bool(list(place.glob("*.gz"))))
    with pytest.raises(BadInput, match="60 train images but 59 labels"):
        fashion_mnist(str(place))


def test_a_label_beyond_the_ten_classes_is_refused(place):
    """EMNIST's files have the same names."""
    written(place, "train-labels-idx1", idx(LABELS + 1), packed=bool(list(place.glob("*.gz"))))
    with pytest.raises(BadInput, match="has the label 10, but there are 10 classes"):
        fashion_mnist(str(place))


@pytest.mark.skipif(not DEBIAN.is_dir(), reason="Debian's dataset-fashion-mnist is not installed")
def test_the_real_images_are_sixty_thousand_and_ten_thousand_of_ten_classes():
    """As the paper says: 6,000 and 1,000 of each."""
    data = fashion_mnist()
    assert [len(getattr(data, s)) for s in SPLITS] == [54_000, 6_000, 10_000]
    for split, each in zip(SPLITS, (5400, 600, 1000), strict=True):
        assert torch.bincount(getattr(data, split).labels()).tolist() == [each] * 10
    assert data.train.batch(torch.arange(2))["x"].shape == (2, 1, 28, 28)
    some = fashion_mnist(samples=1234)
    assert [len(some.train) + len(some.validation), len(some.test)] == [1234, 205]
