"""Hugging Face data sets: made in memory, saved to disk, as folders of files; no hub is asked."""

from __future__ import annotations

import json
import pickle

import numpy as np
import pytest
import torch

from tutelage.data import from_datasets, hf, is_hf, pictures
from tutelage.errors import BadInput, MissingFile
from tutelage.jobs.sources import data_from

datasets = pytest.importorskip("datasets")
pd = pytest.importorskip("pandas")

SPLITS = ("train", "validation", "test")
NAMES = ["ham", "eggs", "spam"]
N = 30


@pytest.fixture(autouse=True)
def _quiet(tmp_path_factory, monkeypatch):
    """No bars, and no cache outside the tests' own folder."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))
    datasets.disable_progress_bars()


def mails(count=N, **columns):
    """Texts whose classes have names."""
    made = {"text": [f"mail {i}" for i in range(count)], "label": [i % 3 for i in range(count)]} | columns
    features = {
        k: datasets.ClassLabel(names=NAMES) if k == "label" else datasets.Value("string" if k == "text" else "float32") for k in made
    }
    return datasets.Dataset.from_dict(made, features=datasets.Features(features))


def noise(shape, seed):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def photographs(count=N, shape=(6, 5, 3), first=0, label=None):
    """Images, stored as their files."""
    from PIL import Image

    made = {"image": [Image.fromarray(noise(shape, first + i)) for i in range(count)], "label": label or [i % 3 for i in range(count)]}
    return datasets.Dataset.from_dict(
        made, features=datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=NAMES)})
    )


def column(data, key):
    """A column over all splits, in the order of the ids."""
    read = [getattr(data, s).batch(torch.arange(len(getattr(data, s)))) for s in SPLITS]
    return [v for _, v in sorted(((i, v) for b in read for i, v in zip(b["id"].tolist(), b[key], strict=True)), key=lambda pair: pair[0])]


def test_texts_and_the_names_of_their_classes_are_read():
    """Names in the order of the numbers, which is no alphabet."""
    data = from_datasets(mails(), name="mails")
    assert (data.classes, data.name) == (tuple(NAMES), "mails")
    assert column(data, "text") == [f"mail {i}" for i in range(N)]
    assert [int(y) for y in column(data, "y")] == [i % 3 for i in range(N)]


def test_the_only_column_that_names_its_classes_is_the_label():
    """Whatever it is called."""
    assert from_datasets(mails().rename_column("label", "kind"), name="mails").classes == tuple(NAMES)


def test_a_label_without_names_is_read_as_in_a_table():
    """Numbers or words."""
    plain = datasets.Dataset.from_dict({"text": [f"m{i}" for i in range(N)], "label": [i % 3 for i in range(N)]})
    assert from_datasets(plain, name="m").classes == ("0", "1", "2")
    words = datasets.Dataset.from_dict({"text": [f"m{i}" for i in range(N)], "label": [NAMES[i % 3] for i in range(N)]})
    assert from_datasets(words, name="m").classes == ("eggs", "ham", "spam")
    assert from_datasets(words, name="m", classes=NAMES).classes == tuple(NAMES)


def test_splits_are_taken_under_their_common_names_and_cut_where_missing():
    """Others, such as IMDB's `unsupervised`, are passed over."""
    splits = datasets.DatasetDict({"train": mails(), "dev": mails(6), "unsupervised": mails(3)})
    data = from_datasets(splits, name="m")
    assert [len(getattr(data, s)) for s in SPLITS] == [21, 6, 9]
    both = from_datasets({"train": mails(), "test": mails(6)}, name="m", validation=0.2)
    assert [len(getattr(both, s)) for s in SPLITS] == [24, 6, 6]
    assert torch.cat([getattr(both, s).ids() for s in SPLITS]).unique().numel() == 36


def test_splits_without_train_are_refused():
    """There is nothing to study."""
    with pytest.raises(BadInput, match="m has the splits test, extra; expected train among them"):
        from_datasets(datasets.DatasetDict({"test": mails(), "extra": mails()}), name="m")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"label": "lable"}, "has no column 'lable'; nearest: 'label'; its columns are text, label, score; name the one"),
        ({"text": ("txt",)}, "has no column 'txt'; nearest: 'text'"),
        ({"columns": ("scores",)}, "has no column 'scores'; nearest: 'score'"),
        ({"text": ("label",)}, "column 'label' of m is named twice"),
        ({"missing": "ignore"}, "expected refuse, drop or fill"),
    ],
)
def test_columns_that_are_not_there_are_refused(options, message):
    """Each with the nearest."""
    with pytest.raises(BadInput, match=message):
        from_datasets(mails(score=[0.5] * N), name="m", **options)


def test_a_label_that_only_training_has_is_refused():
    """A public test split often comes without."""
    with pytest.raises(BadInput, match="m/test has no column 'label'"):
        from_datasets({"train": mails(), "test": mails().remove_columns("label")}, name="m")


def test_numbers_are_read_as_in_a_table():
    """Standardised, in float32."""
    rng = np.random.default_rng(0)
    data = from_datasets(mails(a=rng.normal(size=N).tolist(), b=rng.normal(size=N).tolist()), name="m", columns=("a", "b"))
    x = data.train.columns["x"]
    assert (x.shape[1], x.dtype) == (2, torch.float32)
    torch.testing.assert_close(x.mean(0), torch.zeros(2), atol=1e-6, rtol=0)
    assert "text" not in data.train.columns


@pytest.mark.parametrize("form", ["torch", "numpy", "pandas", "arrow"])
def test_a_format_that_was_set_changes_nothing(form):
    """Users set torch's for their own loops."""
    assert from_datasets(mails().with_format(form), name="m").fingerprint() == from_datasets(mails(), name="m").fingerprint()
    one, other = from_datasets(photographs().with_format(form), name="m"), from_datasets(photographs(), name="m")
    assert one.fingerprint() == other.fingerprint()


def test_tokens_and_other_lists_are_refused():
    """They are a model's own; the text is what all models take."""
    tokens = mails().add_column("input_ids", [[1, 2, 3]] * N)
    with pytest.raises(BadInput, match=r"column 'input_ids' of m holds values of type ndarray; .*--data.text"):
        from_datasets(tokens, name="m")
    assert column(from_datasets(tokens, name="m", text=("text",)), "text")[3] == "mail 3"


def test_rows_without_a_label_are_refused_or_dropped():
    """The hub writes -1 or nothing."""
    some = mails(label=[-1, None, *[i % 3 for i in range(N - 2)]])
    with pytest.raises(BadInput, match="column 'label' of m lacks 2 of 30 values"):
        from_datasets(some, name="m")
    data = from_datasets(some, name="m", missing="drop")
    assert column(data, "text") == [f"mail {i}" for i in range(2, N)]
    assert [int(y) for y in column(data, "y")] == [i % 3 for i in range(N - 2)]


@pytest.mark.parametrize("make", [mails, photographs], ids=["text", "images"])
def test_a_test_split_without_labels_is_cut_anew_when_such_rows_are_dropped(make):
    """As GLUE's are."""
    splits = {"train": make(), "test": make(label=[-1] * N)}
    with pytest.raises(BadInput, match="column 'label' of m lacks 30 of 60 values"):
        from_datasets(splits, name="m")
    data = from_datasets(splits, name="m", missing="drop")
    assert sum(len(getattr(data, s)) for s in SPLITS) == N
    assert max(data.test.ids().tolist()) < N


def test_images_keep_their_pixels_labels_and_names():
    """Stored as PNG, read as bytes."""
    data = from_datasets({"train": photographs(), "test": photographs(9, first=500, label=[2, 1, 0] * 3)}, name="photographs")
    assert data.classes == tuple(NAMES)
    assert data.train.columns["x"].shape[1:] == (3, 6, 5)
    assert data.test.ids().tolist() == list(range(N, N + 9))
    for i, (x, y) in enumerate(zip(column(data, "x"), column(data, "y"), strict=True)):
        np.testing.assert_array_equal((x * 255).round().byte().permute(1, 2, 0), noise((6, 5, 3), i if i < N else 500 + i - N))
        assert y == (i % 3 if i < N else 2 - (i - N) % 3)


def test_grey_images_have_one_channel_and_others_are_scaled():
    """As in folders."""
    assert from_datasets(photographs(shape=(6, 5)), name="m").train.columns["x"].shape[1:] == (1, 6, 5)
    mixed = datasets.concatenate_datasets([photographs(shape=(8, 20, 3)), photographs(shape=(9, 7))])
    assert from_datasets(mixed, name="m").train.columns["x"].shape[1:] == (3, 7, 7)
    assert from_datasets(mixed, name="m", size=4).train.columns["x"].shape[1:] == (3, 4, 4)


def test_images_without_a_label_are_refused_or_dropped():
    """An image of class -1 would be a device assert."""
    some = photographs(label=[-1, *[i % 3 for i in range(N - 1)]])
    with pytest.raises(BadInput, match="column 'label' of m lacks 1 of 30 values"):
        from_datasets(some, name="m")
    data = from_datasets(some, name="m", missing="drop")
    assert torch.cat([getattr(data, s).ids() for s in SPLITS]).sort().values.tolist() == list(range(1, N))
    np.testing.assert_array_equal((column(data, "x")[0] * 255).round().byte().permute(1, 2, 0), noise((6, 5, 3), 1))


def test_images_that_do_not_fit_in_memory_are_read_batch_by_batch(monkeypatch):
    """The same images."""
    at_once = from_datasets(photographs(), name="m")
    monkeypatch.setattr(pictures, "IN_MEMORY", 0)
    lazily = from_datasets(photographs(), name="m")
    assert not hasattr(lazily.train, "columns")
    assert all(torch.equal(a, b) for key in ("x", "y") for a, b in zip(column(at_once, key), column(lazily, key), strict=True))
    sent = pickle.loads(pickle.dumps(lazily.train))  # as to a loader worker
    assert torch.equal(sent.batch(torch.tensor([3, 1]))["x"], lazily.train.batch(torch.tensor([3, 1]))["x"])
    assert lazily.fingerprint() == from_datasets(photographs(), name="m").fingerprint()
    assert lazily.fingerprint() != from_datasets(photographs(first=1), name="m").fingerprint()


def test_images_that_are_damaged_or_missing_are_refused():
    """In one sentence."""
    broken = datasets.Dataset.from_dict({"image": [{"bytes": b"x", "path": None}] * N, "label": [0, 1] * (N // 2)})
    with pytest.raises(BadInput, match=r"image .* is no image that can be read"):
        from_datasets(broken.cast_column("image", datasets.Image()), name="m")
    empty = datasets.Dataset.from_dict({"image": [None] * N, "label": [0, 1] * (N // 2)})
    with pytest.raises(BadInput, match="is no image that can be read"):
        from_datasets(empty.cast_column("image", datasets.Image()), name="m")


def test_a_saved_data_set_is_read_from_its_folder(tmp_path):
    """One split or several, text or images."""
    mails().save_to_disk(tmp_path / "one")
    datasets.DatasetDict({"train": photographs(), "test": photographs(9)}).save_to_disk(tmp_path / "two")
    assert hf(str(tmp_path / "one")).classes == tuple(NAMES)
    data = data_from(f"hf:{tmp_path}/two:size=4,validation=0.2")
    assert (data.name, data.train.columns["x"].shape[1:], len(data.test)) == ("two", (3, 4, 4), 9)
    assert hf(str(tmp_path / "one")).fingerprint() == hf(str(tmp_path / "one")).fingerprint()


def test_a_folder_of_files_is_read(tmp_path):
    """CSV or JSON files, a split each."""
    for split in ("train", "test"):
        rows = [{"text": f"m{i}", "label": NAMES[i % 3]} for i in range(N)]
        (tmp_path / f"{split}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    data = hf(str(tmp_path))
    assert len(data.test) == N
    assert data.classes == ("eggs", "ham", "spam")


def test_what_cannot_be_loaded_is_said_in_one_sentence(tmp_path, monkeypatch):
    """A name that the hub does not know, no network, a folder that is not there, empty or damaged."""
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    with pytest.raises(BadInput, match=r"hf:nobody/nothing cannot be loaded: ") as raised:
        hf("nobody/nothing")
    assert "\n" not in str(raised.value)
    with pytest.raises(MissingFile, match="does not exist"):
        hf("./none")
    (tmp_path / "empty").mkdir()
    with pytest.raises(BadInput, match="cannot be loaded"):
        hf(str(tmp_path / "empty"))
    mails().save_to_disk(tmp_path / "one")
    next((tmp_path / "one").glob("*.arrow")).write_bytes(b"x")
    with pytest.raises(BadInput, match="cannot be loaded"):
        hf(str(tmp_path / "one"))
    (tmp_path / "one" / "dataset_info.json").write_text("{")
    with pytest.raises(BadInput, match="cannot be loaded"):
        hf(str(tmp_path / "one"))


def test_a_stream_is_refused():
    """It has no order to shuffle, and no length."""
    with pytest.raises(BadInput, match=r"m is a stream.*without streaming=True"):
        from_datasets(mails().to_iterable_dataset(), name="m")


def test_objects_are_known_without_importing_anything():
    """A mapping of torch data sets is something else."""
    assert is_hf(mails())
    assert is_hf(datasets.DatasetDict({"train": mails()}))
    assert is_hf({"train": mails()})
    assert not is_hf({"train": torch.utils.data.TensorDataset(torch.zeros(2, 2))})
    assert not is_hf({})
    assert not is_hf([1, 2])


def test_objects_made_in_python_are_data():
    """`tutelage.distill(..., data={"train": ..., "test": ...})`."""
    for given in (mails(), datasets.DatasetDict({"train": mails()}), {"train": mails(), "test": mails(6)}):
        data = data_from(given)
        assert data.classes == tuple(NAMES)
        assert data.validation is not None
