"""From what a user names, or makes in Python, to data; what would teach nonsense is refused."""

from __future__ import annotations

import textwrap

import pytest
import torch
from torch.utils.data import Dataset, TensorDataset

from tutelage.data import Data, Images, Indexed, Table, digits
from tutelage.errors import BadInput, MissingFile
from tutelage.jobs.sources import check, data_from, described

N = 30


def table(name="toy", **columns):
    return Table({"x": torch.zeros(N, 2), "y": torch.arange(N) % 3, **columns}, name)


@pytest.fixture
def code(tmp_path):
    """A user's file; gives the spec of one of its functions."""

    def written(text):
        file = tmp_path / "mine.py"
        file.write_text("import torch\nfrom tutelage.data import Data, Table\n" + textwrap.dedent(text))
        return f"{file}:task"

    return written


@pytest.fixture
def csv_file(tmp_path):
    pytest.importorskip("pandas")
    file = tmp_path / "t.csv"
    file.write_text("a,b,kind\n" + "".join(f"{i},{i % 7},{('no', 'yes')[i % 2]}\n" for i in range(N)))
    return file


def test_a_built_in_data_set_is_named_with_its_options():
    """As on the command line."""
    assert data_from("digits").fingerprint() == digits().fingerprint()
    assert data_from("digits:seed=3,train=0.6").fingerprint() == digits(seed=3, train=0.6).fingerprint()


def test_a_file_is_named_with_its_kind_and_options(csv_file):
    """Lists in brackets; no and yes stay words."""
    data = data_from(f"csv:{csv_file}:label=kind,columns=[a],classes=[yes,no]")
    assert (data.classes, data.train.columns["x"].shape[1], data.name) == (("yes", "no"), 1, "t")


def test_a_path_may_begin_with_the_home_folder(csv_file, monkeypatch):
    """No shell expands it behind a colon."""
    monkeypatch.setenv("HOME", str(csv_file.parent))
    assert data_from("csv:~/t.csv:label=kind").name == "t"


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("digit", "data 'digit' is not known; nearest: 'digits'; expected digits, fashion-mnist, stdlib-bytes, folder:PATH, csv:PATH"),
        ("cvs:t.csv", "nearest: 'csv'"),
        ("", "data '' is not known"),
        ("csv", "data 'csv' says nothing about where; expected csv:PATH"),
        ("folder:", "data 'folder:' says nothing about where; expected folder:PATH"),
        ("csv:label=kind", "does not exist"),
        ("digits:0", "'0' is no option"),
        ("digits:sead=1", "data digits has no option 'sead'; nearest: 'seed'"),
        ("digits:seed=one", "data digits: seed=one: expected a whole number"),
        ("digits:train=0.9,validation=0.2", "must each lie in"),
        ("csv:{file}:labl=kind", "has no option 'labl'; nearest: 'label'"),
        ("csv:{file}:seed=1.5", "seed=1.5: expected a whole number"),
        ("csv:{file}:missing=ignore", "missing='ignore'; expected refuse, drop or fill"),
        ("csv:{file}:label=kind,rare=ignore", "rare='ignore'; expected refuse, drop or keep"),
        ("csv:{file}:columns=[a", "does not close"),
        ("jsonl:{file}:separator=;", "has no option 'separator'"),
        ("csv:{file}:path=x", "has no option 'path'|takes no option|multiple values"),
        ("none.py:task", "none.py does not exist"),
    ],
)
def test_what_cannot_be_meant_is_refused_in_one_sentence(csv_file, spec, message):
    """With the nearest name, before anything is loaded."""
    with pytest.raises((BadInput, MissingFile), match=message) as raised:
        data_from(spec.replace("{file}", str(csv_file)))
    assert "\n" not in str(raised.value)


def test_a_function_in_a_file_may_give_data(code):
    """Its options come from the spec, by its annotations."""
    spec = code(
        """
        def task(size: int = 6, scale=1.0):
            return Data(Table({"x": torch.full((size, 2), scale), "y": torch.arange(size) % 2}), classes=("a", "b"), name="mine")
        """
    )
    data = data_from(f"{spec}:size=8,scale=2.5")
    assert (len(data.train), data.train.columns["x"][0, 0], data.name, data.classes) == (8, 2.5, "mine", ("a", "b"))
    with pytest.raises(BadInput, match="has no option 'sice'; nearest: 'size'"):
        data_from(f"{spec}:sice=8")
    with pytest.raises(BadInput, match="size=x: expected a whole number"):
        data_from(f"{spec}:size=x")


@pytest.mark.parametrize(
    "body",
    [
        "return torch.utils.data.TensorDataset(torch.zeros(6, 2), torch.arange(6) % 2)",
        "return {'train': torch.utils.data.TensorDataset(torch.zeros(6, 2), torch.arange(6) % 2)}",
        "return Table({'x': torch.zeros(6, 2), 'y': torch.arange(6) % 2})",
        "return Data(Table({'x': torch.zeros(6, 2), 'y': torch.arange(6) % 2}))",
    ],
    ids=["torch", "mapping", "source", "data"],
)
def test_a_function_in_a_file_may_give_what_python_may_give(code, body):
    """Named after its spec, where it has no name."""
    spec = code(f"def task():\n    {body}\n")
    data = data_from(spec)
    assert data.train.labels().tolist() == [0, 1] * 3
    assert data.name == spec


def test_a_function_in_a_file_may_give_a_hugging_face_data_set_or_a_spec(code):
    """Either is data."""
    pytest.importorskip("datasets")
    made = "datasets.Dataset.from_dict({'text': [str(i) for i in range(30)], 'label': [i % 2 for i in range(30)]})"
    assert data_from(code(f"import datasets\ndef task():\n    return {made}\n")).classes == ("0", "1")


def test_a_function_in_a_file_may_name_data(code):
    """Digits with other shares, for instance."""
    assert data_from(code("def task():\n    return 'digits:seed=1'\n")).fingerprint() == digits(seed=1).fingerprint()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("def task():\n    return 3\n", "not int"),
        ("def task():\n    return None\n", "not NoneType"),
        ("def task():\n    raise ValueError('no such year')\n", r"cannot be made: ValueError: no such year"),
        ("def task(a):\n    return a\n", "cannot be made: .*missing 1 required"),
        ("def other():\n    return 3\n", "has no function 'task'"),
        ("def task(:\n", "cannot be run: SyntaxError"),
        ("def task():\n    return {'train': [3, 4]}\n", None),
    ],
)
def test_a_function_that_gives_no_data_is_refused(code, text, message):
    """The file and the reason."""
    if message is None:
        with pytest.raises(BadInput, match="sample 0 of train is a int"):
            data_from(code(text)).train.batch(torch.tensor([0]))
        return
    with pytest.raises(BadInput, match=message):
        data_from(code(text))


def test_objects_made_in_python_are_taken_as_they_are():
    """Data, a source, a torch data set, a mapping of either."""
    whole = Data(table())
    assert data_from(whole) is whole
    source = table()
    assert data_from(source).train is source
    torch_set = TensorDataset(torch.zeros(N, 2), torch.arange(N) % 3)
    assert isinstance(data_from(torch_set).train, Indexed)
    mixed = data_from({"train": torch_set, "validation": source})
    assert (mixed.validation, mixed.test, len(mixed.train)) == (source, None, N)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"test": table()}, r"has splits \['test'\]; expected train"),
        ({"train": table(), "val": table()}, r"has splits \['train', 'val'\]"),
        ({}, "expected train"),
        ({"train": 3}, "must be read by index: a int lacks"),
        ({"train": []}, "train is empty"),
        (3, "not int"),
        (None, "not NoneType"),
        ([(torch.zeros(2), 1)], "not list"),
        (b"digits", "not bytes"),
    ],
)
def test_objects_that_are_no_data_are_refused(given, message):
    """With what was expected."""
    with pytest.raises(BadInput, match=message):
        data_from(given)


@pytest.mark.parametrize("split", ["train", "validation", "test"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_that_are_not_finite_are_refused_by_split_column_and_count(split, value):
    """One NaN makes every weight NaN."""
    x = torch.zeros(N, 2)
    x[3, 1] = x[7] = value
    splits = {s: table(f"toy/{s}") for s in ("train", "validation", "test")} | {split: table(f"toy/{split}", x=x)}
    with pytest.raises(BadInput, match=f"column 'x' of toy/{split} is NaN or infinite in 2 of 30 samples; mend or drop them"):
        check(Data(**splits))
    weights = torch.ones(N)
    weights[0] = value
    with pytest.raises(BadInput, match="column 'weight' of toy is NaN or infinite in 1 of 30"):
        check(Data(table(weight=weights)))


def test_a_class_that_training_lacks_is_refused_by_name():
    """Each such sample would count as a mistake, or break the loss."""
    train = table(y=torch.arange(N) % 2)
    with pytest.raises(BadInput, match="class 'c' is in toy but not in training; give samples of it, or leave it out"):
        check(Data(train, test=table(), classes=("a", "b", "c")))
    with pytest.raises(BadInput, match="class 2 is in toy but not in training"):
        check(Data(train, validation=table()))


def test_what_can_be_studied_passes():
    """Labels or none, ignored or soft, numbers or text, in memory or not."""
    ignored = torch.arange(N) % 3
    ignored[4] = -100
    for data in (
        Data(table(), table(), table()),
        Data(table(), test=table(y=ignored)),
        Data(Table({"x": torch.zeros(N)}), test=table()),
        Data(table(y=torch.full((N, 3), 1 / 3)), test=table()),
        Data(Table({"text": ["a"] * N, "y": torch.arange(N) % 2})),
        Data(Indexed(TensorDataset(torch.zeros(N, 2), torch.arange(N) % 2))),
        digits(),
    ):
        check(data)


def test_data_are_described_by_split_class_and_balance():
    """What `tutelage data` prints."""
    y = torch.tensor([0] * 20 + [1] * 8 + [2] * 2)
    found = described(Data(table(y=y), test=table(), classes=("ant", "bee", "cow"), name="toy"))
    assert found == {
        "name": "toy",
        "kind": "numbers",
        "columns": {"x": "(2,)", "y": "()"},
        "classes": ["ant", "bee", "cow"],
        "splits": {"train": {"samples": N, "counts": [20, 8, 2]}, "test": {"samples": N, "counts": [10, 10, 10]}},
        "imbalance": 10.0,
        "examples": [],
    }


def test_texts_are_shown_on_a_line_each():
    """A mail of a hundred lines would hide the others."""
    texts = ["one\n\ntwo  three", "x" * 500, *["z"] * (N - 2)]
    found = described(Data(Table({"text": texts, "text_pair": texts})))
    assert (found["kind"], found["columns"]) == ("text", {"text": "str", "text_pair": "str"})
    assert found["examples"] == ["one two three", "x" * 110, "z"]


@pytest.mark.parametrize(
    ("columns", "classes", "counts", "imbalance"),
    [
        ({}, [], None, None),
        ({"y": torch.linspace(0, 1, N)}, [], None, None),
        ({"y": torch.full((N, 3), 1 / 3)}, [], None, None),
        ({"y": torch.full((N,), -100)}, [], [], None),
        ({"y": torch.tensor([0] * 20 + [2] * 5 + [-100] * 5)}, ["0", "1", "2"], [20, 0, 5], 4.0),
    ],
    ids=["none", "numbers", "soft", "ignored", "gap"],
)
def test_balance_is_told_where_there_are_classes(columns, classes, counts, imbalance):
    """A class without samples is shown as such, and does not make the others look even."""
    found = described(Data(Table({"x": torch.zeros(N, 2), **columns})))
    assert (found["classes"], found["splits"]["train"]["counts"], found["imbalance"]) == (classes, counts, imbalance)


def test_kinds_are_told_by_shape():
    """Images, numbers, text, or something else."""
    pixels = torch.zeros(N, 1, 4, 4, dtype=torch.uint8)
    assert described(Data(Images({"x": pixels})))["kind"] == "images"
    assert described(Data(Table({"a": torch.zeros(N, 2), "b": torch.zeros(N, 2)})))["kind"] is None
    assert described(Data(Table({"tokens": torch.zeros(N, 2, dtype=torch.int64)})))["kind"] is None


def test_options_of_a_torch_data_set_of_ones_own_are_read_by_index():
    """It need not inherit: a length and an index will do inside a mapping."""

    class Own(Dataset):
        def __len__(self):
            return 4

        def __getitem__(self, i):
            return {"pixels": torch.zeros(3), "y": i % 2, "id": 100 + i}

    data = data_from({"train": Own(), "test": [(torch.zeros(3), 0)] * 2})
    assert data.train.ids().tolist() == [100, 101, 102, 103]
    assert data.test.labels().tolist() == [0, 0]
