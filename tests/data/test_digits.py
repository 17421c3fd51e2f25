"""The bundled digits: splits that are disjoint, complete, stratified and stable."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from tutelage.data import digits


def splits(data):
    return data.train, data.validation, data.test


def ids(source):
    return set(source.columns["id"].tolist())


@pytest.mark.parametrize("seed", [0, 1])
def test_the_splits_are_disjoint_and_cover_all_digits(seed):
    """A test image that was trained on is a number that means nothing."""
    parts = [ids(s) for s in splits(digits(seed))]
    assert sum(map(len, parts)) == len(set.union(*parts)) == 1797
    assert [len(p) / 1797 for p in parts] == pytest.approx([0.5, 0.15, 0.35], abs=0.002)


@pytest.mark.parametrize(("train", "validation"), [(0.5, 0.15), (0.3, 0.3)])
def test_each_split_has_the_classes_in_equal_shares(train, validation):
    """A class that is rare in one split shifts its accuracy."""
    data = digits(0, train, validation)
    whole = np.bincount(load_digits().target)
    for source, share in zip(splits(data), (train, validation, 1 - train - validation), strict=True):
        counts = np.bincount(source.labels().numpy(), minlength=10)
        assert np.abs(counts - share * whole).max() < 3


def test_the_split_is_a_function_of_its_seed_alone():
    """Teacher and student are trained in different runs and must agree on what is test."""
    torch.rand(3)
    first, again, other = digits(0), digits(0), digits(1)
    assert first.fingerprint() == again.fingerprint()
    assert [ids(s) for s in splits(first)] == [ids(s) for s in splits(again)]
    assert ids(first.test) != ids(other.test)


def test_images_are_scaled_and_belong_to_their_labels():
    """Rows shuffled apart from their labels train to ten percent."""
    data, bunch = digits(), load_digits()
    for source in splits(data):
        batch = source.batch(torch.arange(len(source)))
        assert batch["x"].shape == (len(source), 1, 8, 8)
        assert batch["x"].dtype == torch.float32
        np.testing.assert_allclose(batch["x"][:, 0].numpy(), bunch.images[batch["id"]] / 16)
        np.testing.assert_array_equal(batch["y"].numpy(), bunch.target[batch["id"]])
    assert data.classes == tuple("0123456789")


def test_loading_leaves_the_global_generators_alone():
    """The split has a seed of its own."""
    before = torch.get_rng_state(), repr(np.random.get_state())
    digits(5)
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1] == repr(np.random.get_state())
