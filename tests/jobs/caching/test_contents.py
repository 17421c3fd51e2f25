"""Looking at a cache: what is there, what is not, and what a stranger may have written."""

from __future__ import annotations

import contextlib
import json
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from small_caches import N, break_byte, bytes_of, net, signed, table, task, teacher, written
from tutelage import Data, Model
from tutelage.errors import BadInput, Mismatch, MissingFile
from tutelage.jobs.cache import show
from tutelage.signals.cache import Cache, DamagedCache

pytestmark = pytest.mark.usefixtures("untimed_caches")

# looking at a cache


def test_show_says_what_is_there(tmp_path):
    """And a cache that is whole is called so."""
    written(tmp_path / "c", keep="top-2", taps="2", taps_as="float16", temperature=3)
    found = show(tmp_path / "c", teacher(), task())
    assert found["finished"]
    assert found["others"] == []
    train = found["splits"]["train"]
    assert (train["samples"], train["views"], train["shards"], train["missing"], train["damaged"]) == (N, 0, 3, [], {})
    assert train["logits"]["temperature"] == 3
    assert train["taps"]["2"]["shape"] == [4, 4, 4]
    assert train["bytes_a_sample"]["2"] == 2 * 64
    assert train["bytes_a_sample"]["logits"] == 2 * (1 + 1) + 2
    assert found["bytes"] == sum(map(len, bytes_of(tmp_path / "c").values()))
    assert json.loads(json.dumps(found)) == found


def test_show_counts_what_is_missing_and_what_is_damaged(tmp_path):
    """Which shards, by name."""
    written(tmp_path / "c")
    (tmp_path / "c" / "train" / "plain-00000.safetensors").unlink()
    break_byte(tmp_path / "c" / "test" / "plain-00001.safetensors")
    found = show(tmp_path / "c")
    assert not found["finished"]
    assert found["splits"]["train"]["missing"] == ["train/plain-00000.safetensors"]
    assert list(found["splits"]["test"]["damaged"]) == ["test/plain-00001.safetensors"]
    assert found["splits"]["validation"]["missing"] == []


def test_show_names_both_sides_of_another_teacher_and_of_other_data(tmp_path):
    """Before a student is taught nonsense."""
    written(tmp_path / "c")
    other = Data(table(12), task().validation, task().test, ("a", "b", "c"), "toy")
    found = show(tmp_path / "c", teacher(4), other)["others"]
    assert len(found) == 2
    assert "the signals in" in found[0]
    assert "train" in found[0]
    weights = Cache(tmp_path / "c").about.teacher["weights"]
    assert f"a teacher with weights {weights} (net), this one has " in found[1]
    scaled = Model(net, name="net", seed=3, inputs=lambda batch: (batch["x"] / 2,))
    assert "preprocessing {'kind': 'none'}" in show(tmp_path / "c", scaled, task())["others"][0]
    with pytest.raises(BadInput, match="give --data"):
        show(tmp_path / "c", teacher())


def test_show_of_nothing_is_one_sentence(tmp_path):
    with pytest.raises(MissingFile, match="holds no cache"):
        show(tmp_path)


SPLIT = {
    "samples": 13,
    "per_shard": 5,
    "data": "x",
    "logits": {"form": "dense", "classes": 3, "kept": 3, "temperature": 1.0, "precision": "full", "positions": False},
    "taps": {"2": {"path": "2", "shape": [4], "precision": "full", "positions": False}},
    "views": 0,
    "ragged": False,
}
TRAIN = ("splits", "train")
ODD = (-1, 10**15, 10**400, "7", None, [], 1.5, True)
NAMES = ("../x", "..", "/etc", "a/b", "", "\x1b[31m", "x" * 300, ".hidden", "a\0b")
PLACES = [
    *(((*TRAIN, key), value) for key in ("samples", "per_shard", "views") for value in ODD),
    *(((*TRAIN, key), 0) for key in ("samples", "per_shard")),
    *(((*TRAIN, "logits", key), value) for key in ("classes", "kept", "temperature") for value in (0, -1, "x", None, [], {})),
    *(((*TRAIN, "logits", key), value) for key in ("form", "precision") for value in (0, "x", None, [], {})),
    *(((*TRAIN, "taps", "2", "shape"), value) for value in ([-1], ["x"], [10**400], "abc", [[1]])),
    *((("splits", name), SPLIT) for name in NAMES),
    *(((key,), value) for key in ("teacher", "data", "measured") for value in (3, None, [], "x")),
    *((("seed",), value) for value in (10**500, None, [], "x")),
]


@pytest.fixture(scope="module")
def sound(tmp_path_factory) -> Path:
    """A small cache."""
    folder = tmp_path_factory.mktemp("sound") / "c"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tutelage.jobs.cache.costs", lambda models, *_, **__: {name: {} for name in models})
        written(folder, taps="2")
    return folder


@pytest.mark.parametrize(("place", "value"), PLACES, ids=lambda v: str(v)[:40])
def test_a_description_that_cannot_be_is_damaged(place, value, sound, tmp_path):
    """A stranger's cache: paths for names, numbers without end, types of another kind. Nothing is read elsewhere, no memory is filled."""
    folder = Path(shutil.copytree(sound, tmp_path / "c"))

    def change(said):
        for key in place[:-1]:
            said = said[key]
        said[place[-1]] = value

    signed(folder, change)
    with pytest.raises(DamagedCache):
        show(folder)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5) | st.sampled_from(["../x", 10**30, -1, 0]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@settings(max_examples=40, derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.sampled_from(
        ["format", "teacher", "data", "splits", "seed", "measured", "splits.train", "splits.train.logits", "splits.train.taps"]
    ),
    JSON,
    st.booleans(),
)
def test_any_description_is_shown_or_refused_in_a_sentence(place, value, right):
    """With a fingerprint that is right, or none."""

    with tempfile.TemporaryDirectory() as root:
        folder = Path(shutil.copytree(any_description.sound, Path(root) / "c"))

        def change(said):
            *above, last = place.split(".")
            for key in above:
                said = said[key]
            said[last] = value

        if right:
            signed(folder, change)
        else:
            said = json.loads((folder / "cache.json").read_text())
            change(said)
            (folder / "cache.json").write_text(json.dumps(said))
        with contextlib.suppress(DamagedCache, Mismatch):
            show(folder)


class any_description:  # noqa: N801
    """Where the property above finds its cache; hypothesis takes no fixtures of functions."""

    sound: Path


@pytest.fixture(scope="module", autouse=True)
def _given(sound):
    any_description.sound = sound
