"""The bytes of the standard library: windows that belong to one file, the shift, splits by file, and what is refused."""

from __future__ import annotations

import sysconfig
from pathlib import Path

import pytest
import torch

from tutelage.data import Order, kind_of, stdlib_bytes
from tutelage.data.stdlib_bytes import CLASSES, Windows
from tutelage.errors import BadInput, MissingFile
from tutelage.jobs.models import model_from
from tutelage.jobs.sources import data_from

FILES = tuple(bytes([65 + i]) * (10 * i) + bytes(range(i)) for i in range(20))
"""Files by whose bytes one tells which window is of which."""


@pytest.fixture
def few(monkeypatch):
    """Only a few files, small enough to count by hand."""
    import importlib

    monkeypatch.setattr(importlib.import_module("tutelage.data.stdlib_bytes"), "sources", lambda: FILES)


def every(source):
    return source.batch(torch.arange(len(source)))


def by_loop(content, length):
    """Windows from the start of a file, each with what follows it, as long as there is something that follows."""
    return [content[at : at + length + 1] for at in range(0, len(content), length) if at + length < len(content)]


def splits(data):
    return data.train, data.validation, data.test


@pytest.mark.parametrize("length", [1, 3, 8])
def test_the_windows_are_those_of_a_loop_over_files(few, length):
    """A window over the border of two files would teach what follows nothing."""
    data = stdlib_bytes(length, held_out=None, validation=0.2, test=0.2)
    found = [bytes(row) for s in splits(data) for row in s.columns["window"].tolist()]
    assert sorted(found) == sorted(w for f in FILES for w in by_loop(f, length))


def test_each_position_is_labelled_with_the_byte_that_follows_it(few):
    """The shift is made here, once; made twice it trains on the byte after the next."""
    for source in splits(stdlib_bytes(8, validation=0.2, test=0.2)):
        batch, raw = every(source), source.columns["window"].long()
        assert torch.equal(batch["input_ids"], raw[:, :-1])
        assert torch.equal(batch["y"], raw[:, 1:])
        assert torch.equal(batch["input_ids"][:, 1:], batch["y"][:, :-1])
        assert batch["mask"].all()
        assert batch["mask"].shape == batch["y"].shape
        assert torch.equal(source.labels().long(), batch["y"])
        assert (batch["y"].dtype, batch["mask"].dtype) == (torch.int64, torch.bool)


def test_no_file_is_in_two_splits_and_ids_are_distinct(few):
    """Windows of one file resemble each other: a split by window would measure what was learned by heart."""
    data = stdlib_bytes(1, held_out=None, validation=0.2, test=0.2)
    letters = [set(every(s)["input_ids"][:, 0].tolist()) - set(range(20)) for s in splits(data)]
    assert sum(map(len, letters)) == 19  # the first file is empty
    assert not letters[0] & letters[1]
    assert not letters[0] & letters[2]
    assert not letters[1] & letters[2]
    ids = torch.cat([s.ids() for s in splits(data)])
    assert len(ids.unique()) == len(ids)


def test_the_split_is_a_function_of_its_seed_alone(few):
    """A teacher and its student are trained in different runs and must agree on what is test."""
    torch.rand(3)
    first, again, other = (stdlib_bytes(4, validation=0.2, test=0.2, seed=seed) for seed in (0, 0, 1))
    assert first.fingerprint() == again.fingerprint() != other.fingerprint()


def test_fewer_windows_are_drawn_from_all_files_and_held_out_ones_spread(few):
    """The first so many windows would be those of one file."""
    whole, part = (
        stdlib_bytes(4, held_out=None, validation=0.2, test=0.2),
        stdlib_bytes(4, samples=40, held_out=10, validation=0.2, test=0.2),
    )
    assert [len(s) for s in splits(part)] == [40, 10, 10]
    for a, b in zip(splits(whole), splits(part), strict=True):
        assert set(b.ids().tolist()) < set(a.ids().tolist())
        rows = {int(i): row for i, row in zip(a.ids(), a.columns["window"], strict=True)}
        assert all(torch.equal(rows[int(i)], row) for i, row in zip(b.ids(), b.columns["window"], strict=True))
    ends = [int(part.test.ids()[i] - whole.test.ids()[i]) for i in (0, -1)]
    assert ends[0] == 0
    assert ends[1] > -len(whole.test) // 10 - 1


@pytest.mark.parametrize(
    "bad",
    [
        {"length": 0},
        {"samples": 0},
        {"held_out": 0},
        {"validation": 0.0},
        {"validation": 0.6, "test": 0.5},
        {"samples": 10**9},
        {"length": 500},
    ],
)
def test_numbers_that_cannot_be_are_refused(few, bad):
    with pytest.raises(BadInput, match=rf"stdlib-bytes.*{next(iter(bad))}"):
        stdlib_bytes(**bad)


def test_the_real_library_is_read(rng):
    """What this very Python holds: its own json module is in one of the splits, its tests in none."""
    data = stdlib_bytes(length=64)
    known = (Path(sysconfig.get_path("stdlib")) / "json" / "decoder.py").read_bytes()[:65]
    assert any(
        (s.columns["window"] == torch.tensor(list(known), dtype=torch.uint8)).all(1).any() for s in splits(stdlib_bytes(64, held_out=None))
    )
    assert len(data.train) > 50_000
    assert (len(data.validation), len(data.test)) == (512, 512)
    assert (data.class_count(), kind_of(data.train)) == (256, "tokens")
    text = bytes(every(data.test)["input_ids"].flatten().tolist())
    assert b"def " in text
    assert b"import " in text


def test_a_python_without_sources_says_so(monkeypatch, tmp_path):
    """Some distributions hold compiled files only."""
    from tutelage.data.stdlib_bytes import sources

    monkeypatch.setattr("sysconfig.get_path", lambda name: str(tmp_path))
    sources.cache_clear()
    try:
        with pytest.raises(MissingFile, match="0 sources"):
            stdlib_bytes()
    finally:
        sources.cache_clear()


def test_it_has_a_name_and_fits_a_language_model(few):
    """`--data stdlib-bytes --student gpt` needs no sizes."""
    data = data_from("stdlib-bytes:length=6,validation=0.2,test=0.2")
    assert data.name == "stdlib-bytes"
    assert len(CLASSES) == len(set(CLASSES)) == 256
    model = model_from("gpt:width=8", "student", data=data, seed=0)
    assert (model.module.context, model.module.head.out_features) == (6, 256)
    assert model.observe(every(data.test), {"logits"})["logits"].shape == (len(data.test), 6, 256)
    with pytest.raises(BadInput, match="cnn takes images, but stdlib-bytes holds tokens"):
        model_from("cnn", "student", data=data, seed=0)


def test_rows_and_orders_read_the_same_windows(few):
    """As with any other source: what is read at a place is that sample."""
    source = stdlib_bytes(4, validation=0.2, test=0.2).train
    places, _ = Order(len(source), 5, 0, "s").batch(3)
    batch, part = source.batch(places), source.rows(places, "part")
    assert isinstance(part, Windows)
    assert torch.equal(every(part)["y"], batch["y"])
    assert torch.equal(part.ids(), batch["id"])
    assert not source.varies()
