"""What a cache says of itself: read as it was written, refused where it is another's, damaged, or cannot be."""

from __future__ import annotations

import contextlib
import json
import math
import shutil
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shard_folders import about_of, dense
from tutelage.errors import BadInput, Mismatch, MissingFile, TutelageError
from tutelage.signals.cache import Cache, DamagedCache, KeptLogits, KeptSplit, KeptTap, read_about, refuse_other
from tutelage.signals.cache.about import _hashed

LOGITS = KeptLogits("top-k", 100, 7, 4.0, "8-bit", True)
TAP = KeptTap("layer2.0", (3, 5), "8-bit")
SPLIT = KeptSplit(11, 4, "0a1b", LOGITS, {"hint": TAP, "0.5": KeptTap("layer1", ())}, 2, True)
ABOUT = about_of({"train": SPLIT, "test": KeptSplit(3, 4, "2c", None)}, seed=5, measured={"parameters": 3})


def written(folder, about=ABOUT, **changed):
    folder.mkdir(exist_ok=True)
    plain = {**json.loads(about.text()), **changed}
    (folder / "cache.json").write_text(json.dumps(plain))
    return folder


def test_a_description_is_read_as_it_was_written(tmp_path):
    assert read_about(written(tmp_path)) == ABOUT
    assert read_about(tmp_path).fingerprint == ABOUT.fingerprint


@pytest.mark.parametrize(
    "other",
    [
        replace(ABOUT, teacher={**ABOUT.teacher, "weights": "91c0"}),
        replace(ABOUT, teacher={**ABOUT.teacher, "preprocessing": {"kind": "images", "mean": 0.5}}),
        replace(ABOUT, data={**ABOUT.data, "classes": ["a"]}),
        replace(ABOUT, seed=6),
        replace(ABOUT, splits={"train": replace(SPLIT, data="ffff")}),
        replace(ABOUT, splits={"train": replace(SPLIT, views=3)}),
        replace(ABOUT, splits={"train": replace(SPLIT, logits=replace(LOGITS, temperature=4.5))}),
        replace(ABOUT, splits={"train": replace(SPLIT, taps={"hint": replace(TAP, path="layer3")})}),
    ],
)
def test_the_fingerprint_is_of_all_that_decides_what_is_kept(other):
    """Shards of one cache must not pass for another's."""
    assert other.fingerprint != ABOUT.fingerprint


def test_the_fingerprint_leaves_out_what_was_measured():
    assert replace(ABOUT, measured={}).fingerprint == ABOUT.fingerprint


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        (KeptLogits, {"form": "deferred", "classes": 5, "kept": 5}),
        (KeptLogits, {"form": "dense", "classes": 5, "kept": 4}),
        (KeptLogits, {"form": "dense", "classes": 5, "kept": 5, "precision": "8-bit"}),
        (KeptLogits, {"form": "top-k", "classes": 5, "kept": 6}),
        (KeptLogits, {"form": "top-k", "classes": 5, "kept": 0}),
        (KeptLogits, {"form": "top-k", "classes": 0, "kept": 0}),
        (KeptLogits, {"form": "top-k", "classes": 5.0, "kept": 2}),
        (KeptLogits, {"form": "top-k", "classes": 5, "kept": True}),
        (KeptLogits, {"form": "top-k", "classes": 1 << 40, "kept": 2}),
        (KeptLogits, {"form": "top-k", "classes": (1 << 24) + 1, "kept": 2, "precision": "8-bit"}),
        (KeptLogits, {"form": "top-k", "classes": 5, "kept": 2, "precision": "4-bit"}),
        *((KeptLogits, {"form": "top-k", "classes": 5, "kept": 2, "temperature": t}) for t in (0, -1.0, math.nan, math.inf, "1", None)),
        (KeptLogits, {"form": "top-k", "classes": 5, "kept": 2, "positions": 1}),
        (KeptTap, {"path": None, "shape": (2,)}),
        (KeptTap, {"path": "a", "shape": (0,)}),
        (KeptTap, {"path": "a", "shape": (-1, -1)}),
        (KeptTap, {"path": "a", "shape": ("2",)}),
        (KeptTap, {"path": "a", "shape": (1 << 39, 1 << 39)}),
        (KeptTap, {"path": "a", "shape": (1,) * 17}),
        (KeptTap, {"path": "a", "shape": (), "precision": "8-bit"}),
        (KeptSplit, {"samples": 0, "per_shard": 1, "data": "", "logits": None}),
        (KeptSplit, {"samples": -3, "per_shard": 1, "data": "", "logits": None}),
        (KeptSplit, {"samples": 1 << 60, "per_shard": 1 << 60, "data": "", "logits": None}),
        (KeptSplit, {"samples": 3, "per_shard": 0, "data": "", "logits": None}),
        (KeptSplit, {"samples": 3, "per_shard": 1, "data": "", "logits": None, "views": -1}),
        (KeptSplit, {"samples": 3, "per_shard": 1, "data": 7, "logits": None}),
        (KeptSplit, {"samples": 3, "per_shard": 1, "data": "", "logits": None, "ragged": "no"}),
        (KeptSplit, {"samples": 3, "per_shard": 1, "data": "", "logits": None, "taps": {"logits": TAP}}),
        (KeptSplit, {"samples": 3, "per_shard": 1, "data": "", "logits": None, "taps": {"": TAP}}),
        (KeptSplit, {"samples": 3, "per_shard": 1, "data": "", "logits": None, "taps": {"a": TAP, "a.low": TAP}}),
    ],
)
def test_a_description_of_what_cannot_be_is_refused(kind, fields):
    """A number from cache.json becomes a size in memory; a float or a negative one would be found out in the middle of a training."""
    with pytest.raises(BadInput, match="expected"):
        kind(**fields)


@pytest.mark.parametrize("name", ["../train", "a/b", "/etc", "a\\b", "..", ".", ".hidden", "", "a\n", "x" * 101, "tr\u00e4in", "a:b"])
def test_a_split_whose_name_is_a_path_is_refused(tmp_path, name):
    """A stranger's cache must not make us read, or write, elsewhere."""
    with pytest.raises(BadInput, match="split's name"):
        about_of({name: SPLIT})
    plain = ABOUT.plain
    plain["splits"] = {name: plain["splits"]["train"]}
    with pytest.raises(DamagedCache, match=r"cache\.json is damaged"):
        read_about(written(tmp_path, **plain, fingerprint=_hashed({k: v for k, v in plain.items() if k != "measured"})))


def test_a_folder_without_a_cache_says_how_to_write_one(tmp_path):
    with pytest.raises(MissingFile, match="write one with: tutelage cache"):
        read_about(tmp_path)
    (tmp_path / "cache.json").mkdir()
    with pytest.raises(MissingFile, match="holds no cache"):
        read_about(tmp_path)


@pytest.mark.parametrize("number", [0, 2, -1, "1", 1.0, True, None, [1], 10**30])
def test_another_format_is_refused_with_both_numbers(tmp_path, number):
    with pytest.raises(Mismatch, match="this version reads 1"):
        read_about(written(tmp_path, format=number))


@pytest.mark.parametrize(
    "text",
    [b"", b"{", b"[]", b"null", b"7", b"{}", b"\xff\xfe{}", b'{"format": 1}', b'{"format": 1, "splits": 3}', b"[" * 100_000, b"9" * 5000],
    ids=range(11),
)
def test_what_is_no_description_is_one_clear_error(tmp_path, text):
    (tmp_path / "cache.json").write_bytes(text)
    with pytest.raises(DamagedCache, match=r"cache\.json is damaged .* write the cache anew"):
        read_about(tmp_path)


def test_a_description_that_would_fill_the_memory_is_not_read(tmp_path):
    with (tmp_path / "cache.json").open("wb") as file:
        file.truncate(1 << 30)
    with pytest.raises(DamagedCache, match="more than any description"):
        read_about(tmp_path)


def test_a_description_of_too_many_shards_is_refused(tmp_path):
    """Each would be looked for on the disk."""
    about = about_of({"train": KeptSplit(1 << 40, 1, "", None)})
    with pytest.raises(DamagedCache, match="shards"):
        read_about(written(tmp_path, about))


def test_any_changed_byte_of_the_description_is_found(tmp_path):
    """Unless it says the same in JSON."""
    about = about_of({"t": KeptSplit(3, 2, "0a1b", KeptLogits("dense", 5, 5), {"hint": KeptTap("a", (2,))})})
    text = about.text().encode()
    unharmed = 0
    for at in range(len(text)):
        (tmp_path / "cache.json").write_bytes(bytes([*text[:at], text[at] ^ (1, 32)[at % 2], *text[at + 1 :]]))
        try:
            assert read_about(tmp_path) == about
            unharmed += 1
        except TutelageError:
            pass
    assert unharmed < 5


LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(-3, 3),
    st.floats(),
    st.text(max_size=5),
    st.sampled_from(["../x", "dense", "top-k", "8-bit", "full", 1 << 31, 1 << 39, 1e300]),
    st.lists(st.integers(0, 9), max_size=3),
    st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
)


def _paths(value, at=()):
    yield at
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, each in items:
        yield from _paths(each, (*at, key))


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    return dense(tmp_path_factory.mktemp("strange"), views=1).folder


@given(st.data())
@settings(max_examples=50, deadline=None)
def test_a_strangers_description_at_worst_raises_our_errors(sound, data):
    """With fingerprints that fit, as somebody would make them who means harm: what is read is then no more than the shards hold."""
    plain = json.loads((sound / "cache.json").read_text())
    del plain["fingerprint"]
    for _ in range(data.draw(st.integers(1, 2))):
        *path, last = data.draw(st.sampled_from([p for p in _paths(plain) if p]))
        into = plain
        for key in path:
            into = into[key]
        if data.draw(st.integers(0, 3)):
            into[last] = data.draw(LEAVES)
        else:
            del into[last]
    fingerprint = _hashed({key: value for key, value in plain.items() if key != "measured"})
    strange = sound.with_name(f"{sound.name}-changed")
    shutil.copytree(sound, strange, dirs_exist_ok=True)
    (strange / "cache.json").write_text(json.dumps({**plain, "fingerprint": fingerprint}))
    for note in strange.glob("*/*.json"):
        note.write_text(json.dumps({**json.loads(note.read_text()), "cache": fingerprint}))
    with contextlib.suppress(TutelageError):
        cache = Cache(strange)
        for name in cache.about.splits:
            split = cache.split(name)
            read = split.read(split.ids[:2], taps=list(split.kept.taps), logits=split.kept.logits is not None)
            assert all(tuple(signal.shape) in ((2, 5), (2, 2, 3)) for signal in read.values())
    shutil.rmtree(strange)


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (replace(ABOUT, teacher={**ABOUT.teacher, "weights": "91c0", "name": "large"}), '"toy" .*"large"'),
        (replace(ABOUT, teacher={**ABOUT.teacher, "weights": "91c0"}), 'teacher weights = "3f2a" \\(toy\\).* "91c0" \\(toy\\)'),
        (replace(ABOUT, seed=6), "seed = 5.* has 6"),
        (replace(ABOUT, splits={**ABOUT.splits, "train": replace(SPLIT, logits=None)}), "splits train logits = .* has null"),
        (replace(ABOUT, splits={"train": SPLIT}), "splits test = .* has null"),
    ],
)
def test_another_description_is_refused_with_both_sides(tmp_path, other, said):
    refuse_other(ABOUT, replace(ABOUT, measured={}), tmp_path)
    with pytest.raises(Mismatch, match=said):
        refuse_other(ABOUT, other, tmp_path)


def test_long_lists_that_differ_late_are_shown_where_they_differ(tmp_path):
    """Two hundred equal class names on both sides tell nobody what is wrong."""
    names = [f"class {i}" for i in range(200)]
    one, two = (replace(ABOUT, data={"name": "d", "classes": [*names, last]}) for last in ("cat", "dog"))
    with pytest.raises(Mismatch, match=r'data classes 200 = "cat".* has "dog"'):
        refuse_other(one, two, tmp_path)
