"""Condensed sets: which samples stand for a class, how a set is kept, and what is refused."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image

from tutelage.data import Data, Table, condensed
from tutelage.data.condensation import CHOICES, SyntheticSet, class_labels, grid, inputs_of, keep, read, representatives, upright
from tutelage.errors import BadInput, MissingFile
from tutelage.jobs.sources import data_from


@pytest.fixture
def cloud(rng):
    """Three classes of twelve points around their own centres."""
    labels = torch.arange(36) % 3
    return torch.randn(36, 4, generator=rng) + 5 * labels[:, None], labels


@pytest.mark.parametrize("how", CHOICES)
def test_representatives_are_distinct_and_of_their_class(cloud, how):
    features, labels = cloud
    found = representatives(features, labels, 4, how)
    assert labels[found].tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert len(set(found.tolist())) == 12
    assert torch.equal(found, representatives(features, labels, 4, how))
    assert sorted(representatives(features, labels, 12, how).tolist()) == list(range(36))


@pytest.mark.parametrize("how", ["k-means", "herding"])
def test_one_representative_is_the_sample_nearest_to_the_mean(cloud, how):
    features, labels = cloud
    for label, place in enumerate(representatives(features, labels, 1, how).tolist()):
        apart = (features - features[labels == label].mean(0)).norm(dim=1)
        apart[labels != label] = float("inf")
        assert place == int(apart.argmin())


def test_k_means_takes_one_of_each_cluster(rng):
    centres = torch.tensor([[0.0, 0.0], [9.0, 0.0], [0.0, 9.0]])
    features = (centres[:, None] + 0.1 * torch.randn(3, 5, 2, generator=rng)).flatten(0, 1)
    found = representatives(features, torch.zeros(15, dtype=torch.long), 3)
    assert sorted((found // 5).tolist()) == [0, 1, 2]


def test_herding_keeps_the_mean_better_than_drawing(cloud):
    features, labels = cloud
    apart = {}
    for how in ("herding", "random"):
        found = representatives(features, labels, 6, how)
        apart[how] = sum(float((features[found[labels[found] == c]].mean(0) - features[labels == c].mean(0)).norm()) for c in range(3))
    assert apart["herding"] < apart["random"]


def test_drawing_depends_on_the_seed_and_equal_samples_can_be_chosen(cloud):
    features, labels = cloud
    assert not torch.equal(representatives(features, labels, 4, "random"), representatives(features, labels, 4, "random", seed=1))
    for how in CHOICES:
        assert len(set(representatives(torch.ones(8, 2), torch.arange(8) % 2, 3, how).tolist())) == 6


def test_what_cannot_be_chosen_is_refused(cloud):
    features, labels = cloud
    for wrong, said in (
        ({"per_class": 13}, "class 0 has 12 samples"),
        ({"per_class": 0}, "per_class=0"),
        ({"how": "k-median"}, "expected random, k-means, herding"),
        ({"features": features / 0}, "all finite"),
        ({"features": features[:5]}, "as many features"),
    ):
        with pytest.raises(BadInput, match=said):
            representatives(**{"features": features, "labels": labels, "per_class": 2, **wrong})


def test_a_source_that_cannot_be_condensed_is_refused(cloud):
    features, labels = cloud
    assert torch.equal(class_labels(Table({"x": features, "y": labels}), 12), labels)
    for columns, count, said in (
        ({"x": features}, 1, "has no labels"),
        ({"x": features, "y": features}, 1, "no class numbers"),
        ({"x": features, "y": labels}, 13, "fewer than per_class=13"),
        ({"x": features, "y": labels}, 0, "at least 1"),
    ):
        with pytest.raises(BadInput, match=said):
            class_labels(Table(columns), count)
    with pytest.raises(BadInput, match="class 3 of data has 0"):
        class_labels(Table({"x": features, "y": labels}), 1, classes=4)
    with pytest.raises(BadInput, match="no samples can be condensed"):
        inputs_of(Table({"text": ["a", "b"], "y": torch.tensor([0, 1])}))


def task(rng, channels: int = 1) -> tuple[SyntheticSet, Data]:
    made = SyntheticSet((channels, 4, 5), torch.tensor([0, 0, 1, 1, 2, 2]), lr=0.03)
    made.start(torch.randn(6, channels, 4, 5, generator=rng))
    return made, Data(made.source(), classes=("a", "b", "c"), name="tiny", prepared={"kind": "images"})


@pytest.mark.parametrize("channels", [1, 3])
def test_a_set_is_kept_bit_for_bit_and_shown_as_images(tmp_path, rng, channels):
    made, data = task(rng, channels)
    keep(tmp_path / "run" / "condensed", made, data)
    keep(tmp_path / "run" / "condensed", made, data)  # replaces what is there
    assert [f.name for f in (tmp_path / "run").iterdir()] == ["condensed"]
    for place in (tmp_path / "run", tmp_path / "run" / "condensed"):
        found = condensed(str(place))
        batch = found.train.batch(torch.arange(6))
        assert torch.equal(batch["x"], made.x)
        assert torch.equal(batch["y"], made.y)
        assert (found.classes, dict(found.prepared)) == (("a", "b", "c"), {"kind": "images"})
    assert read(tmp_path / "run")[0].lr.item() == pytest.approx(0.03)
    folder = tmp_path / "run" / "condensed"
    assert sorted(f.name for f in (folder / "images").iterdir()) == [f"00{c}-00{n}.png" for c in range(3) for n in range(2)]
    shown = np.asarray(Image.open(folder / "images" / "001-001.png")).reshape(4, 5, channels)
    assert np.array_equal(shown, (made.x[3].detach().clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy())
    assert np.asarray(Image.open(folder / "grid.png")).shape[:2] == (2 * 5 + 1, 3 * 6 + 1)  # more classes than samples of each


def test_a_grid_has_a_row_for_each_class():
    whole = grid(torch.zeros(3, 1, 2, 2), torch.tensor([0, 1, 1]))
    assert (whole == 0).sum() == 12
    assert whole.shape == (7, 7)
    assert (whole[1:3, 4:6] == 255).all()  # class 0 has no second image
    assert (whole[4:6, 4:6] == 0).all()


def test_few_samples_of_many_classes_stand_in_columns():
    """One a class would be a tower."""
    x, y = torch.arange(6.0)[:, None, None, None].expand(6, 1, 2, 2) / 10, torch.tensor([0, 0, 1, 1, 2, 2])
    assert upright(y)
    assert not upright(torch.tensor([0, 0, 1, 1]))
    turned = grid(x, y, columns=True)
    assert turned.shape == (2 * 3 + 1, 3 * 3 + 1)
    assert np.array_equal(turned, grid(x, y).T)


def test_rows_of_numbers_are_kept_without_images(tmp_path, rng):
    made = SyntheticSet((4,), torch.tensor([0, 1]))
    made.start(torch.randn(2, 4, generator=rng))
    keep(tmp_path / "set", made, Data(made.source(), classes=("a", "b")))
    assert sorted(f.name for f in (tmp_path / "set").iterdir()) == ["condensed.json", "condensed.safetensors"]
    assert torch.equal(condensed(str(tmp_path / "set")).train.batch(torch.arange(2))["x"], made.x)


def test_a_set_can_be_named_as_data_with_the_held_out_samples_of_others(tmp_path):
    real = data_from("digits")
    labels = class_labels(real.train, 2)
    name, x = inputs_of(real.train)
    chosen = representatives(x, labels, 2)
    made = SyntheticSet((1, 8, 8), labels[chosen], name=name)
    made.start(x[chosen])
    keep(tmp_path / "condensed", made, real, {"source": "digits"})
    found = data_from(f"condensed:{tmp_path}")
    assert len(found.train) == 20
    assert found.test.fingerprint() == real.test.fingerprint()
    assert found.validation.fingerprint() == real.validation.fingerprint()
    assert data_from(f"condensed:{tmp_path}:of=digits,").classes == real.classes
    with pytest.raises(BadInput, match="classes"):
        data_from(f"condensed:{tmp_path}:of=stdlib-bytes")
    with pytest.raises(BadInput, match="itself condensed"):
        data_from(f"condensed:{tmp_path}:of=condensed:{tmp_path}")


def test_code_that_a_file_names_is_not_run(tmp_path, rng):
    made, data = task(rng)
    keep(tmp_path / "set", made, data, {"source": "own.py:load"})
    assert data_from(f"condensed:{tmp_path / 'set'}").test is None


def test_what_is_missing_or_damaged_is_named(tmp_path, rng):
    with pytest.raises(MissingFile, match="holds no condensed set"):
        condensed(str(tmp_path))
    made, data = task(rng)
    for damage in ("{}", "[", json.dumps({"format": 2, "column": "x"}), json.dumps({"format": 1, "column": "z"})):
        keep(tmp_path / "set", made, data)
        (tmp_path / "set" / "condensed.json").write_text(damage)
        with pytest.raises(BadInput, match="is damaged"):
            condensed(str(tmp_path / "set"))
    keep(tmp_path / "set", made, data)
    (tmp_path / "set" / "condensed.safetensors").write_bytes(b"nothing")
    with pytest.raises(BadInput, match="is damaged"):
        condensed(str(tmp_path / "set"))


def test_a_set_refuses_what_it_cannot_be():
    with pytest.raises(BadInput, match="expected labels"):
        SyntheticSet((2,), torch.tensor([]))
    with pytest.raises(BadInput, match="lr above 0"):
        SyntheticSet((2,), torch.tensor([0]), lr=0.0)
    with pytest.raises(BadInput, match="cannot begin with"):
        SyntheticSet((2,), torch.tensor([0])).start(torch.zeros(2, 2))
