"""Table, Indexed, Data and the loader: the same samples for the same (position, seed, view) in any process."""

from __future__ import annotations

import multiprocessing
import random

import numpy as np
import pytest
import torch
from torch.utils.data import Dataset, TensorDataset

from tutelage.data import Data, Indexed, Order, Source, Table
from tutelage.data.augment import Augmented
from tutelage.data.joined import Joined
from tutelage.data.loader import Slices, batches
from tutelage.errors import BadInput

N, D = 11, 5


def table(**columns):
    return Table({"x": torch.arange(N * D).reshape(N, D).float(), "y": torch.arange(N) % 3, **columns}, "toy")


class Noisy(Dataset):
    """Augments with all three global generators, as real data sets do."""

    def __len__(self):
        return N

    def __getitem__(self, i):
        return torch.cat([torch.rand(2), torch.tensor([np.random.rand(), random.random(), float(i)]).float()]), i % 3


def positions(*numbers):
    return torch.tensor(numbers)


def state():
    return torch.get_rng_state().tolist(), repr(np.random.get_state()), random.getstate()


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) if isinstance(a[k], torch.Tensor) else a[k] == b[k] for k in a)


def test_a_table_gives_the_rows_asked_for_with_stable_ids():
    """All that is cached or resumed is keyed by id; an id by position in the batch would mix samples up."""
    source = table(text=[f"t{i}" for i in range(N)])
    batch = source.batch(positions(7, 2, 7))
    assert batch["id"].tolist() == [7, 2, 7]
    assert batch["text"] == ["t7", "t2", "t7"]
    assert batch["y"].tolist() == [1, 2, 1]
    torch.testing.assert_close(batch["x"][1], torch.arange(10.0, 15.0))
    assert len(source) == N


def test_rows_of_a_table_keep_their_ids():
    """A split must not count anew, or two splits share ids."""
    part = table().rows(positions(4, 8), "toy/part")
    assert part.columns["id"].tolist() == [4, 8]
    assert part.rows(positions(1), "one").columns["id"].tolist() == [8]
    assert (part.name, part.labels().tolist()) == ("toy/part", [1, 2])


def test_labels_of_a_table_may_be_missing_or_a_list():
    """Unlabelled data is data too."""
    assert Table({"x": torch.zeros(N, D)}).labels() is None
    assert Table({"x": torch.zeros(3, D), "y": [0, 2, 1]}).labels().tolist() == [0, 2, 1]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({}, "one common length"),
        ({"x": torch.zeros(3), "y": torch.zeros(2)}, r"\{'x': 3, 'y': 2\}"),
        ({"x": torch.zeros(0, D)}, "empty"),
        ({"x": torch.zeros(2), "id": torch.tensor([1, 1])}, "distinct"),
        ({"x": torch.zeros(2), "id": torch.tensor([0.0, 1.0])}, "int64"),
        ({"x": torch.zeros(2), "id": torch.tensor([[0], [1]])}, "one a sample"),
        ({"x": torch.zeros(2), "id": [0, 1]}, "int64"),
    ],
)
def test_columns_that_are_no_table_are_refused(columns, message):
    """Doubled ids would read one sample's cached signals for another."""
    with pytest.raises(BadInput, match=message):
        Table(columns, "toy")


@pytest.mark.parametrize(
    "other",
    [
        {"x": torch.arange(N * D).reshape(N, D).float() + 1},
        {"x": torch.arange(N * D).float().reshape(N, D, 1)},
        {"x": torch.arange(N * D).reshape(N, D).float().view(torch.int32)},
        {"y": torch.arange(N) % 2},
        {"text": ["a"] * N},
        {"id": torch.arange(N) + 1},
    ],
    ids=["values", "shape", "type", "labels", "column", "ids"],
)
def test_the_fingerprint_of_a_table_changes_with_anything_in_it(other):
    """A run must not be resumed on other data."""
    assert table().fingerprint() == table().fingerprint()
    assert table(**other).fingerprint() != table().fingerprint()


def test_half_precision_columns_have_a_fingerprint():
    """NumPy knows no bfloat16; embeddings are often kept in it."""
    first, second = (Table({"x": torch.full((3, 2), v, dtype=torch.bfloat16)}) for v in (1.0, 2.0))
    assert first.fingerprint() != second.fingerprint()


def test_indexed_reads_pairs_and_mappings_and_stacks_them():
    """Both customs of torch data sets."""
    x, y = torch.arange(N * D).reshape(N, D).float(), torch.arange(N) % 3
    pairs = Indexed(TensorDataset(x, y)).batch(positions(7, 2))
    named = Indexed([{"pixels": x[i], "y": y[i], "id": 100 + i} for i in range(N)]).batch(positions(7, 2))
    torch.testing.assert_close(pairs["x"], x[[7, 2]])
    assert (pairs["y"].tolist(), pairs["id"].tolist()) == ([1, 2], [7, 2])
    torch.testing.assert_close(named["pixels"], x[[7, 2]])
    assert named["id"].tolist() == [107, 102]


def test_random_transforms_are_a_function_of_seed_sample_and_view():
    """A resumed run and a second process must see the same augmentation; two epochs must not."""
    source = Indexed(Noisy())
    first = source.batch(positions(7, 2), seed=1, views=positions(0, 4))["x"]
    again = source.batch(positions(3, 2, 7), seed=1, views=positions(0, 4, 0))["x"]
    assert torch.equal(first, again[[2, 1]])
    for other in (
        source.batch(positions(7, 2), seed=2, views=positions(0, 4)),
        source.batch(positions(7, 2), seed=1, views=positions(1, 5)),
    ):
        assert ((first != other["x"])[:, :4]).all()
    assert torch.equal(source.batch(positions(7))["x"], source.batch(positions(7), seed=0, views=positions(0))["x"])


def test_reading_samples_leaves_the_global_generators_alone():
    """The user's own draws must not depend on how many samples we read."""
    before = state()
    source = Indexed(Noisy())
    source.batch(positions(7, 2), seed=1)
    source.labels()
    source.fingerprint()
    assert state() == before


class Items(Dataset):
    def __init__(self, items):
        self.items = items

    def __len__(self):
        return len(self.items)

    def __getitem__(self, i):
        return self.items[i]


@pytest.mark.parametrize("item", [3, (1, 2, 3), torch.zeros(2)])
def test_an_item_that_is_neither_a_pair_nor_a_mapping_is_refused(item):
    """A triple of unknown meaning must not become input and label."""
    with pytest.raises(BadInput, match="sample 1 of toy"):
        Indexed(Items([(0, 0), item]), "toy").batch(positions(1))


@pytest.mark.parametrize(("dataset", "message"), [([], "empty"), (iter([1, 2]), "read by index")])
def test_data_that_cannot_be_read_by_index_is_refused(dataset, message):
    """A stream has no stable order to shuffle."""
    with pytest.raises(BadInput, match=message):
        Indexed(dataset)


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ([1, 0, 2], [1, 0, 2]),
        ([torch.tensor(1), torch.tensor(0), torch.tensor(2)], [1, 0, 2]),
        ([torch.tensor([0.25, 0.75]), torch.tensor([1.0, 0.0]), torch.tensor([0.5, 0.5])], [[0.25, 0.75], [1.0, 0.0], [0.5, 0.5]]),
        ([np.array([0.25, 0.75]), np.array([1.0, 0.0]), np.array([0.5, 0.5])], [[0.25, 0.75], [1.0, 0.0], [0.5, 0.5]]),
    ],
    ids=["numbers", "tensors", "rows", "NumPy rows"],
)
def test_labels_are_read_from_the_samples_once(labels, expected):
    """Class numbers or soft rows; a large data set is not read again for each question."""
    source = Indexed(Items([(torch.zeros(2), y) for y in labels]))
    assert source.labels().tolist() == expected
    assert source.labels() is source.labels()


def test_labels_that_are_given_are_not_read():
    """Reading 14 million images to count their labels takes a day."""

    class Unreadable(Items):
        def __getitem__(self, i):
            raise AssertionError

    assert Indexed(Unreadable([0, 0]), labels=torch.tensor([1, 0])).labels().tolist() == [1, 0]
    assert Indexed(Items([{"x": torch.zeros(2)}])).labels() is None


def test_the_fingerprint_of_an_indexed_source_changes_with_length_labels_and_first_sample():
    """As far as it can be told without reading everything."""

    def source(first=0.0, label=0, count=3):
        return Indexed(Items([(torch.tensor([first + i]), label) for i in range(count)])).fingerprint()

    assert source() == source()
    assert len({source(), source(first=1.0), source(label=1), source(count=4)}) == 4


def read(source, *, workers, start=0, stop=5, ranks=1, micro_batch=None):
    order = Order(len(source), 4, 3, "s")
    per_rank = [
        list(batches(source, Slices(order, r, ranks, micro_batch), seed=3, start=start, stop=stop, workers=workers)) for r in range(ranks)
    ]
    return [[b for rank in per_rank for b in rank[step]] for step in range(stop - start)]


@pytest.mark.parametrize("make", [lambda: Indexed(Noisy()), table], ids=["indexed", "table"])
def test_loader_workers_give_the_same_batches_and_leave_the_generators_alone(make):
    """Workers change where samples are read, never what is read."""
    here = read(make(), workers=0, micro_batch=3)
    before = state()
    there = read(make(), workers=2, micro_batch=3)
    assert state() == before
    assert [len(step) for step in there] == [2] * 5
    assert all(same(a, b) for x, y in zip(here, there, strict=True) for a, b in zip(x, y, strict=True))


def test_a_resumed_reader_goes_on_where_the_first_one_stood():
    """Step 3 is step 3, whether or not steps 0 to 2 were read."""
    source = Indexed(Noisy())
    whole, rest = read(source, workers=0, stop=6), read(source, workers=0, start=3, stop=6)
    assert all(same(a, b) for x, y in zip(whole[3:], rest, strict=True) for a, b in zip(x, y, strict=True))


def test_processes_read_the_samples_and_augmentations_of_one():
    """A sample's augmentation must not depend on which process reads it."""
    one, two = read(Indexed(Noisy()), workers=0), read(Indexed(Noisy()), workers=0, ranks=2)
    for x, y in zip(one, two, strict=True):
        assert torch.equal(torch.cat([b["x"] for b in x]), torch.cat([b["x"] for b in y]))


@pytest.mark.parametrize("workers", [0, 2])
def test_a_data_set_that_fails_says_so_and_ends_its_workers(workers):
    """The error of a worker must reach the run, and no worker wait for a collection that may never come."""
    with pytest.raises(BadInput, match=r"expected \(input, label\)"):
        read(Indexed(Items([3] * N)), workers=workers)
    assert multiprocessing.active_children() == []


@pytest.mark.parametrize("split", ["train", "validation", "test"])
@pytest.mark.parametrize("label", [3, -1])
def test_a_label_outside_the_classes_is_refused_with_its_split(split, label):
    """On a GPU it is a device assert that names nothing."""
    good, bad = table(), table(y=torch.tensor([0] * (N - 1) + [label]))
    splits = {"train": good, "validation": good, "test": good, split: bad}
    with pytest.raises(BadInput, match=f"{split} of toy has the label {label}, but there are 3 classes"):
        Data(**splits, classes=("a", "b", "c"), name="toy")


def test_ignored_labels_soft_labels_and_no_classes_pass_the_check():
    """-100 is no class; rows are no numbers; other tasks have no classes."""
    Data(table(y=torch.tensor([0] * (N - 1) + [-100])), classes=("a", "b", "c"))
    Data(table(y=torch.full((N, 3), 1 / 3)), classes=("a", "b", "c"))
    Data(table(y=torch.full((N,), 99)))
    Data(Table({"x": torch.zeros(N)}), classes=("a",))


def test_the_fingerprint_of_data_covers_all_its_splits():
    """Choosing on other validation data is another run."""
    whole = Data(table(), table(), name="toy")
    assert whole.fingerprint() == Data(table(), table(), name="toy").fingerprint()
    assert whole.fingerprint() != Data(table(), table(y=torch.zeros(N, dtype=torch.long)), name="toy").fingerprint()
    assert whole.fingerprint() != Data(table(), name="toy").fingerprint()


def test_a_source_must_write_its_methods():
    """The base reads nothing."""
    for call in (len, Source.labels, Source.fingerprint, lambda s: s.batch(positions(0))):
        with pytest.raises(NotImplementedError):
            call(Source())


def test_our_error_in_a_loader_worker_reaches_the_user_as_one_sentence():
    """A worker's traceback inside the message would bury what is wrong with the data."""
    from tutelage.data.loader import Slices, batches
    from tutelage.data.order import Order

    class Odd(torch.utils.data.Dataset):
        def __len__(self):
            return 5

        def __getitem__(self, i):
            return (1, 2, 3)

    source = Indexed(Odd(), "odd", labels=torch.zeros(5))
    with pytest.raises(BadInput) as raised:
        next(batches(source, Slices(Order(5, 2, 0, "s")), seed=0, start=0, stop=2, workers=1))
    assert "\n" not in str(raised.value)
    assert "odd is a tuple" in str(raised.value)


def test_an_indexed_source_has_the_ids_of_its_samples():
    """splits.json must name the samples as the batches do."""
    own = Indexed(Items([{"x": torch.zeros(2), "id": 100 + i} for i in range(3)]))
    assert own.ids().tolist() == own.batch(torch.arange(3))["id"].tolist() == [100, 101, 102]
    assert own.rows(positions(2, 0), "part").ids().tolist() == [102, 100]
    assert Indexed(TensorDataset(torch.zeros(3, 2))).rows(positions(2), "part").ids().tolist() == [2]


@pytest.mark.parametrize(
    ("columns", "count"),
    [
        ({}, None),
        ({"y": torch.linspace(0, 1, N)}, None),
        ({"y": torch.full((N, 4), 0.25)}, 4),
        ({"y": torch.arange(N) % 3}, 3),
    ],
    ids=["no labels", "numbers", "soft", "hard"],
)
def test_data_count_their_classes(columns, count):
    """A head is as wide as there are classes; targets that are numbers have none."""
    assert Data(Table({"x": torch.zeros(N), **columns})).class_count() == count
    assert Data(Table({"x": torch.zeros(N)}), classes=("a", "b")).class_count() == 2


class Drawing(Table):
    """A user's own table that draws as it reads."""

    def batch(self, positions, *, seed=0, views=None):
        read = super().batch(positions)
        return read if views is None else {**read, "x": read["x"] + views[:, None]}


def test_a_source_knows_whether_its_views_differ():
    """A cache of plain samples must not teach a student that studies augmented ones."""
    plain, drawing = table(), Drawing(table().columns, "drawing")
    quiet = Indexed(TensorDataset(torch.randn(N, D), torch.zeros(N).long()))
    assert not plain.varies()
    assert not quiet.varies()
    assert drawing.varies()
    assert Indexed(Noisy()).varies()
    assert drawing.rows(positions(1, 2), "some").varies()
    assert not plain.relabelled(torch.zeros(N).long()).varies()
    assert Joined([plain, drawing], "both").varies()
    assert not Joined([plain, quiet], "both").varies()
    images = Table({"x": torch.rand(3, 1, 8, 8)})
    assert Augmented(images, "shift=1").varies()
    assert not Augmented(images, "shift=0").varies()
