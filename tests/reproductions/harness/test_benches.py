"""Benches: a seed's own cut of the data, the same in any process; larger ones hold smaller ones."""

from __future__ import annotations

import pytest
import torch

from tutelage.data.fashion_mnist import DEBIAN
from tutelage.errors import BadInput
from tutelage.reproductions.harness.benches import fm14, without

pytestmark = pytest.mark.skipif(not DEBIAN.is_dir(), reason="needs Debian's dataset-fashion-mnist")


def test_images_are_averages_of_four():
    from tutelage.data.fashion_mnist import fashion_mnist

    small, whole = fm14(0, 100).test, fashion_mnist().test
    assert small.ids().equal(whole.ids())
    first, image = small.batch(torch.tensor([7]))["x"][0, 0], whole.batch(torch.tensor([7]))["x"][0, 0]
    assert first.shape == (14, 14)
    assert first[3, 5] == pytest.approx(float(image[6:8, 10:12].mean()))


def test_cuts_are_apart_nested_and_each_seeds_own():
    few, many, other = fm14(1, 1_000), fm14(1, 20_000), fm14(2, 1_000)
    ids = set(few.train.ids().tolist())
    assert ids < set(many.train.ids().tolist())
    assert not ids & set(few.validation.ids().tolist())
    assert not ids & set(few.test.ids().tolist())
    assert few.validation.ids().equal(many.validation.ids())
    assert ids != set(other.train.ids().tolist())
    assert (len(few.train), len(few.validation), len(few.test)) == (1_000, 5_000, 10_000)
    assert few.fingerprint() == fm14(1, 1_000).fingerprint() != other.fingerprint()


def test_a_class_that_is_left_out_is_only_missing_from_what_is_studied():
    data = without(fm14(0, 1_000), 3)
    assert 3 not in data.train.labels()
    assert 3 in data.validation.labels()
    assert 3 in data.test.labels()
    assert data.class_count() == 10
    assert data.train.batch(torch.arange(5))["y"].equal(data.train.labels()[:5])


def test_more_than_there_is_is_refused():
    with pytest.raises(BadInput, match="1 to 55000"):
        fm14(0, 60_000)
