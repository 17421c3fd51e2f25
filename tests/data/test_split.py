"""Cutting by class: disjoint, complete, in proportion, the same for the same seed; test decides nothing."""

from __future__ import annotations

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tutelage.data import Data, Table, completed, stratified
from tutelage.data.source import Part
from tutelage.errors import BadInput

SPLITS = ("train", "validation", "test")
labels = st.lists(st.integers(0, 5), min_size=1, max_size=80).map(torch.tensor)
shares = st.lists(st.integers(1, 20), min_size=1, max_size=4).map(lambda parts: [p / sum(parts) for p in parts])


def source(*counts, first=0, name="toy", **columns):
    """A table of so many samples of each class, whose inputs tell them apart."""
    y = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    ids = torch.arange(first, first + len(y))
    return Table({"x": ids[:, None].float(), "y": y, "id": ids, **columns}, name)


def made(train, test=None, **options):
    return completed({"train": train} | ({} if test is None else {"test": test}), name="toy", **options)


def counts(source, size):
    return torch.bincount(source.labels(), minlength=size).tolist()


@settings(deadline=None, max_examples=150)
@given(labels, shares, st.integers(0, 3))
def test_parts_are_disjoint_complete_and_sorted(y, cut, seed):
    """A sample in two parts is trained on and tested on."""
    parts = stratified(y, cut, seed)
    assert len(parts) == len(cut)
    assert sorted(torch.cat(parts).tolist()) == list(range(len(y)))
    assert all(p.tolist() == sorted(p.tolist()) for p in parts)


@settings(deadline=None, max_examples=150)
@given(labels, shares)
def test_each_class_is_dealt_within_one_sample_of_its_shares(y, cut):
    """A class that is over-represented in a part shifts its accuracy."""
    parts = stratified(y, cut, 0)
    for label in y.unique():
        size = int((y == label).sum())
        if min(cut) * size >= 1:  # below, each part must still get one
            assert all(abs(int((y[p] == label).sum()) - s * size) < 1 + 1e-6 for p, s in zip(parts, cut, strict=True))


@settings(deadline=None, max_examples=100)
@given(st.lists(st.integers(8, 60), min_size=1, max_size=12), st.lists(st.integers(1, 4), min_size=2, max_size=3))
def test_the_parts_have_their_sizes_over_all_classes(sizes, weights):
    """Rounding each class down alone would make the last part too large by half a sample a class."""
    cut = [w / sum(weights) for w in weights]
    assume(min(cut) * min(sizes) >= 1)
    y = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
    assert [len(p) for p in stratified(y, cut, 0)] == pytest.approx([s * len(y) for s in cut], abs=1 + 1e-6)


@settings(deadline=None, max_examples=150)
@given(labels, shares)
def test_a_class_is_in_every_part_where_it_can_be_and_else_in_the_first(y, cut):
    """A class that is only in test cannot be learnt."""
    parts = stratified(y, cut, 0)
    for label in y.unique():
        size = int((y == label).sum())
        present = [bool((y[p] == label).any()) for p in parts]
        assert all(present) if size >= len(cut) else present[0]


@settings(deadline=None, max_examples=50)
@given(labels, shares, st.integers(0, 3))
def test_a_cut_is_a_function_of_labels_shares_and_seed(y, cut, seed):
    """Teacher and student are trained in different runs and must agree on what is test."""
    first = stratified(y, cut, seed)
    torch.rand(3)
    assert all(torch.equal(a, b) for a, b in zip(first, stratified(y, cut, seed), strict=True))


def test_another_seed_gives_another_cut():
    """Repeats over seeds would measure one cut."""
    y = torch.arange(40) % 2
    assert len({tuple(stratified(y, [0.5, 0.5], seed)[0].tolist()) for seed in range(5)}) == 5


def test_a_cut_stays_what_it_is_from_release_to_release():
    """A teacher of last year must not have trained on this year's test samples: never change this line."""
    found = stratified(torch.tensor([0, 1, 0, 1, 0, 1, 0, 0, 0, 1]), [0.5, 0.25, 0.25], 0)
    assert [p.tolist() for p in found] == [[0, 2, 4, 5, 9], [1, 6, 8], [3, 7]]


def test_a_cut_does_not_depend_on_how_other_classes_lie():
    """Each class has a draw of its own: more of one class does not reshuffle another."""
    few, many = torch.tensor([0, 0, 0, 0, 1, 1, 1, 1]), torch.tensor([0, 0, 0, 0] + [1] * 40)
    first, second = (stratified(y, [0.5, 0.5], 0)[0] for y in (few, many))
    assert first[first < 4].tolist() == second[second < 4].tolist()


def test_cutting_leaves_the_global_generator_alone():
    """What the user draws next must not depend on us."""
    before = torch.get_rng_state()
    stratified(torch.arange(10) % 2, [0.5, 0.5], 0)
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("cut", [[0.5, 0.6], [0.5, 0.4], [1.5, -0.5], [1.0, 0.0], [0.5, float("nan")]])
def test_shares_that_are_none_are_refused(cut):
    """A negative share would take samples from nowhere."""
    with pytest.raises(BadInput, match="must be positive and sum to 1"):
        stratified(torch.zeros(4, dtype=torch.int64), cut, 0)


def test_no_samples_make_empty_parts():
    """The caller says what is empty."""
    assert [len(p) for p in stratified(torch.empty(0, dtype=torch.int64), [0.5, 0.5], 0)] == [0, 0]


def test_one_split_is_cut_in_three():
    """Test is what neither training nor choosing sees."""
    data = made(train=source(20, 40), classes=("a", "b"))
    assert [counts(getattr(data, s), 2) for s in SPLITS] == [[14, 28], [3, 6], [3, 6]]
    ids = [set(getattr(data, s).ids().tolist()) for s in SPLITS]
    assert sum(map(len, ids)) == len(set.union(*ids)) == 60
    assert data.test.batch(torch.tensor([0]))["x"].item() == data.test.ids()[0]
    assert ([getattr(data, s).name for s in SPLITS], data.name) == (["toy/train", "toy/validation", "toy/test"], "toy")


def test_a_given_test_split_is_left_as_it_is_and_validation_cut_from_training():
    """Choosing on the test split is the commonest cheat."""
    test = source(3, 3, first=100)
    data = made(train=source(20, 40), test=test, validation=0.25)
    assert data.test is test
    assert (counts(data.train, 2), counts(data.validation, 2)) == ([15, 30], [5, 10])


def test_a_given_validation_split_is_left_as_it_is_and_test_cut_from_training():
    """`train` is then a share of the training split, and `validation` counts for nothing."""
    validation = source(3, 3, first=100)
    data = completed({"train": source(20, 40), "validation": validation}, name="toy", train=0.9, validation=0.5)
    assert data.validation is validation
    assert (counts(data.train, 2), counts(data.test, 2)) == ([18, 36], [2, 4])


def test_three_given_splits_are_taken_as_they_are():
    """Benchmarks come with their splits."""
    splits = {s: source(2, 2, first=10 * i) for i, s in enumerate(SPLITS)}
    data = completed(splits, classes=("a", "b"), name="toy")
    assert all(getattr(data, s) is splits[s] for s in SPLITS)


@pytest.mark.parametrize(
    ("given_splits", "options"),
    [
        (("train",), {"train": 0.7, "validation": 0.3}),
        (("train",), {"train": 0.9, "validation": 0.2}),
        (("train",), {"train": 0.0}),
        (("train",), {"validation": 1.0}),
        (("train", "test"), {"validation": 1.5}),
        (("train", "validation"), {"train": -0.5}),
    ],
)
def test_shares_that_leave_a_split_empty_are_refused(given_splits, options):
    """An empty test split gives an accuracy of NaN."""
    with pytest.raises(BadInput, match=r"must each lie in \(0, 1\) and leave something for test"):
        completed({s: source(20, 20, first=50 * i) for i, s in enumerate(given_splits)}, name="toy", **options)


def test_data_without_training_is_refused():
    """There is nothing to study."""
    with pytest.raises(BadInput, match=r"has the splits \['test'\]; expected train"):
        completed({"test": source(2, 2)}, name="toy")


def test_a_class_too_small_for_the_splits_is_refused_by_name():
    """It would be missing from training or from test, and nobody would know."""
    with pytest.raises(BadInput, match=r"class 'b' of toy has 2 training samples; expected at least 3.*--data.rare drop.*keep"):
        made(train=source(20, 2), classes=("a", "b"))
    with pytest.raises(BadInput, match=r"class 1 of toy has 1 training samples; expected at least 2.*1 more"):
        made(train=source(20, 1, 1), test=source(2, 2, 2, first=50))


def test_dropped_classes_leave_names_and_numbers_that_agree():
    """Numbers with a gap would train a head with an output that nothing teaches, and shift the names of those behind."""
    data = made(train=source(20, 2, 30, 1, 10), classes=("a", "b", "c", "d", "e"), rare="drop")
    assert data.classes == ("a", "c", "e")
    assert data.class_count() == 3
    whole = [getattr(data, s).batch(torch.arange(len(getattr(data, s)))) for s in SPLITS]
    named = {int(i): data.classes[int(y)] for b in whole for i, y in zip(b["id"], b["y"], strict=True)}
    assert named == dict.fromkeys(range(20), "a") | dict.fromkeys(range(22, 52), "c") | dict.fromkeys(range(53, 63), "e")


def test_dropped_classes_leave_given_splits_too():
    """A test sample of a class that was dropped would count as a mistake."""
    data = made(train=source(9, 1, 9), test=source(2, 3, 4, first=50), classes=("a", "b", "c"), rare="drop")
    assert data.classes == ("a", "c")
    assert counts(data.test, 2) == [2, 4]
    assert data.test.ids().tolist() == [50, 51, 55, 56, 57, 58]


def test_dropping_leaves_ignored_labels_and_unlabelled_splits_as_they_are():
    """-100 is no class, and a test split may have no labels."""
    y = torch.tensor([0] * 6 + [1] + [2] * 6 + [-100] * 6)
    data = made(train=Table({"x": torch.zeros(19, 1), "y": y}), test=Table({"x": torch.zeros(3, 1)}), classes=("a", "b", "c"), rare="drop")
    assert data.classes == ("a", "c")
    found = torch.cat([data.train.labels(), data.validation.labels()]).tolist()
    assert sorted(found) == [-100] * 6 + [0] * 6 + [1] * 6
    assert data.test.labels() is None
    assert len(data.test) == 3


def test_a_kept_class_of_one_sample_is_studied():
    """Kept in test alone it could not be learnt."""
    data = made(train=source(30, 1, 1, 1, 1, 2, 2), rare="keep")
    assert all(counts(data.train, 7))
    assert sum(len(getattr(data, s)) for s in SPLITS) == 38


def test_a_class_that_training_lacks_is_refused_unless_dropped():
    """No sample of it could teach it."""
    splits = {"train": source(9, 0, 9), "test": source(1, 1, 1, first=50)}
    for rare in ("refuse", "keep"):
        with pytest.raises(BadInput, match=r"class 'b' of toy has (0|no) training samples"):
            completed(splits, classes=("a", "b", "c"), name="toy", rare=rare)
    assert counts(completed(splits, classes=("a", "b", "c"), name="toy", rare="drop").test, 2) == [1, 1]


def test_a_class_that_no_split_has_may_be_kept():
    """A teacher of ten classes stays a teacher of ten where the data at hand have nine."""
    with pytest.raises(BadInput, match="class 'b' of toy has 0 training samples"):
        made(train=source(9, 0, 9), classes=("a", "b", "c"))
    data = made(train=source(9, 0, 9), classes=("a", "b", "c"), rare="keep")
    assert (data.classes, data.class_count()) == (("a", "b", "c"), 3)


def test_a_class_that_a_given_validation_lacks_is_refused_dropped_or_kept():
    """A choice made without a class may be the worst for it."""
    splits = {"train": source(9, 9, 9), "validation": source(2, 0, 2, first=50), "test": source(2, 2, 2, first=80)}
    with pytest.raises(BadInput, match=r"class 1 of toy is absent from validation.*drop.*keep"):
        completed(splits, name="toy")
    dropped, kept = (completed(splits, name="toy", rare=r) for r in ("drop", "keep"))
    assert [counts(getattr(dropped, s), 2) for s in SPLITS] == [[9, 9], [2, 2], [2, 2]]
    assert kept.test is splits["test"]


def test_a_class_that_test_lacks_decides_nothing():
    """What is in test must not change what is studied or chosen."""
    splits = {"train": source(9, 9), "validation": source(2, 2, first=50), "test": source(4, 0, first=80)}
    assert completed(splits, classes=("a", "b"), name="toy", rare="drop").classes == ("a", "b")


@pytest.mark.parametrize(
    ("splits", "message"),
    [
        ({"train": source(9, 1, 1)}, "2 of the 3 classes of toy"),
        ({"train": source(1, 1, 1)}, "3 of the 3 classes of toy"),
        ({"train": source(9, 9, 1), "test": source(0, 0, 3, first=50)}, "test of toy has no sample left"),
    ],
)
def test_dropping_must_leave_two_classes_and_some_of_each_split(splits, message):
    """One class is no task."""
    with pytest.raises(BadInput, match=message):
        completed(splits, name="toy", rare="drop")


def test_a_word_for_rare_classes_that_is_none_is_refused():
    """A misspelt keep must not refuse or drop."""
    with pytest.raises(BadInput, match="rare='kep'; expected refuse, drop or keep"):
        made(train=source(9, 9), rare="kep")


@pytest.mark.parametrize("columns", [{}, {"y": torch.full((20, 2), 0.5)}, {"y": torch.linspace(0, 1, 20)}], ids=["none", "soft", "numbers"])
def test_data_without_class_numbers_are_cut_all_the_same(columns):
    """Distillation needs no labels."""
    data = made(train=Table({"x": torch.arange(20), **columns}))
    assert [len(getattr(data, s)) for s in SPLITS] == [14, 3, 3]


def test_two_samples_are_too_few_for_three_splits():
    """Which split is empty is said, not found out in training."""
    with pytest.raises(BadInput, match="toy has 2 samples, too few to cut validation from"):
        made(train=Table({"x": torch.arange(2)}))


def test_labels_outside_the_classes_are_left_to_data_to_refuse():
    """One sentence about the label, none about a class that has no name."""
    with pytest.raises(BadInput, match="train of toy has the label 2, but there are 2 classes"):
        made(train=source(9, 9, 1), classes=("a", "b"), rare="drop")


def test_narrow_integers_are_class_numbers():
    """uint8 labels as an index would be read as a mask."""
    whole = source(9, 9, 1)
    narrow = Table({**whole.columns, "y": whole.labels().to(torch.uint8)})
    assert counts(made(train=narrow, rare="drop").train, 2) == counts(made(train=whole, rare="drop").train, 2)


def test_sources_that_are_no_tables_are_cut_as_parts():
    """Files on disk are not copied."""
    whole = source(20, 1, 20)
    data = made(train=Part(whole, torch.arange(41), "part"), rare="drop")
    assert isinstance(data, Data)
    batch = data.test.batch(torch.arange(len(data.test)))
    assert batch["y"].tolist() == [0 if i < 20 else 1 for i in batch["id"].tolist()]
    assert batch["x"][:, 0].long().tolist() == batch["id"].tolist() == data.test.ids().tolist()
