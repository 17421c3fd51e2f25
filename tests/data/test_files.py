"""CSV, JSON lines and Parquet: the same table gives the same samples; what is damaged is refused in one sentence."""

from __future__ import annotations

import gzip
import inspect
import json
import os

import numpy as np
import pytest
import torch

from tutelage.data import csv, jsonl, parquet
from tutelage.errors import BadInput, MissingFile, TutelageError

pd = pytest.importorskip("pandas")
pytest.importorskip("pyarrow")

N = 40
SPLITS = ("train", "validation", "test")


def table():
    """Numbers with all their digits, a category, truth values and classes."""
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "height": rng.normal(size=N) * 1e3,
            "count": rng.integers(0, 9, N),
            "colour": rng.choice(["red", "green"], N),
            "flag": rng.integers(0, 2, N).astype(bool),
            "label": ["ant", "bee"] * (N // 2),
        }
    )


def written(folder, text, name="t.csv"):
    file = folder / name
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return str(file)


def all_forms(folder, frame):
    frame.to_csv(folder / "t.csv", index=False)
    (folder / "t.jsonl").write_text("".join(json.dumps(row) + "\n" for row in frame.to_dict("records")))
    frame.to_parquet(folder / "t.parquet")
    return [(csv, str(folder / "t.csv")), (jsonl, str(folder / "t.jsonl")), (parquet, str(folder / "t.parquet"))]


def texts(data, key="text"):
    """A column of strings over all splits, in the order of the ids."""
    parts = [getattr(data, s).columns for s in SPLITS]
    return [t for _, t in sorted((i, t) for p in parts for i, t in zip(p["id"].tolist(), p[key], strict=True))]


def simple(*rows, columns="a,b,label"):
    """A CSV of thirty good rows, after those given."""
    good = [f"{i},{i * i},{'xy'[i % 2]}" for i in range(30)]
    return "\n".join([columns, *rows, *good]) + "\n"


def test_the_three_forms_of_a_table_give_the_same_samples(tmp_path):
    """A file that is saved in another form must not be another data set."""
    found = [load(path) for load, path in all_forms(tmp_path, table())]
    assert len({d.fingerprint() for d in found}) == 1
    assert found[0].train.columns["x"].shape == (28, 5)
    assert found[0].name == "t"


def test_the_three_forms_agree_on_missing_values(tmp_path):
    """A null in a column of numbers must not make it a column of words."""
    frame = table().astype({"flag": object})
    for row, column in ((3, "height"), (5, "count"), (7, "colour"), (9, "flag")):
        frame = frame.astype({column: object})
        frame.loc[row, column] = None
    frame["height"], frame["count"] = frame["height"].astype(float), frame["count"].astype(float)
    frame.to_csv(tmp_path / "t.csv", index=False)
    rows = [{k: None if v != v else v for k, v in row.items()} for row in frame.to_dict("records")]
    (tmp_path / "t.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    frame.to_parquet(tmp_path / "t.parquet")
    for missing in ("drop", "fill"):
        found = [load(str(tmp_path / f"t.{load.__name__}"), missing=missing) for load in (csv, jsonl, parquet)]
        assert len({d.fingerprint() for d in found}) == 1
    for load in (csv, jsonl, parquet):
        with pytest.raises(BadInput, match=r"column 'height' of t lacks 1 of 40 values"):
            load(str(tmp_path / f"t.{load.__name__}"))


def test_options_are_those_of_csv_but_for_the_separator():
    """`tutelage data --options jsonl` must not list what jsonl does not take."""
    own = set(inspect.signature(csv).parameters)
    for load in (jsonl, parquet):
        assert set(inspect.signature(load).parameters) == own - {"separator"}
        assert "separator" not in load.__doc__
        assert "missing: rows" in load.__doc__
        assert load.__doc__.startswith("Load a table from a ")


def test_a_second_file_is_the_test_split(tmp_path):
    """With all its rows, and ids that count on."""
    for load, path in all_forms(tmp_path, table()):
        data = load(path, test=path)
        assert data.test.ids().tolist() == list(range(N, 2 * N))
    with pytest.raises(MissingFile, match=r"data file 'none\.csv' does not exist"):
        csv(str(tmp_path / "t.csv"), test="none.csv")


@pytest.mark.parametrize("name", ["t.csv", "t.tsv", "t.tab", "t.tsv.gz", "t.csv.gz"])
def test_the_separator_goes_by_the_files_name(tmp_path, name):
    """Tabs in .tsv and .tab, packed or not."""
    text = simple().replace(",", "\t" if "csv" not in name else ",").encode()
    data = csv(written(tmp_path, gzip.compress(text) if name.endswith(".gz") else text, name))
    assert data.train.columns["x"].shape[1] == 2


@pytest.mark.parametrize("separator", [";", "|", "\t", "\\t"])
def test_the_separator_can_be_given(tmp_path, separator):
    """Half of Europe writes semicolons."""
    path = written(tmp_path, simple().replace(",", separator.replace("\\t", "\t")))
    assert csv(path, separator=separator).train.columns["x"].shape[1] == 2


@pytest.mark.parametrize("separator", ["", "::", r"\s+"])
def test_a_separator_is_one_character(tmp_path, separator):
    """A pattern would be read slowly, and with a warning."""
    with pytest.raises(BadInput, match="expected one character"):
        csv(written(tmp_path, simple()), separator=separator)


def test_a_byte_order_mark_is_no_part_of_the_first_name(tmp_path):
    """Spreadsheets write one."""
    marked = b"\xef\xbb\xbf"
    assert csv(written(tmp_path, marked + simple().encode()), columns=("a",)).train.columns["x"].shape[1] == 1
    lines = "".join(json.dumps({"a": i, "label": i % 2}) + "\n" for i in range(30)).encode()
    assert jsonl(written(tmp_path, marked + lines, "t.jsonl"), columns=("a",)).train.columns["x"].shape[1] == 1


def test_quoted_cells_may_hold_commas_quotes_and_line_ends(tmp_path):
    """Mails do."""
    said = ["one,\ntwo", 'she said "no"', "Größe 🐜", " blanks "]
    frame = pd.DataFrame({"text": said * 10, "label": ["x", "y"] * 20})
    for load, path in all_forms(tmp_path, frame):
        assert texts(load(path, text=("text",)))[:4] == said


def test_columns_may_have_names_in_any_script_and_be_numbers(tmp_path):
    """Blanks around a name are a slip; a column called 0 is asked for as '0'."""
    path = written(tmp_path, simple(columns=" größe ,身長, label "))
    assert csv(path, columns=("größe", "身長")).train.columns["x"].shape[1] == 2
    frame = pd.DataFrame({0: np.arange(30.0), 1: ["x", "y"] * 15})
    frame.to_parquet(tmp_path / "t.parquet")
    frame.to_csv(tmp_path / "u.csv", index=False)
    first, second = parquet(str(tmp_path / "t.parquet"), label="1", columns=("0",)), csv(str(tmp_path / "u.csv"), label="1")
    assert torch.equal(first.train.columns["x"], second.train.columns["x"])


def test_text_and_ids_are_read_as_they_are_written(tmp_path):
    """'007' is no seven, and a review may consist of the word None."""
    cells = ["007", "1e3", "None", "NA", "true"]
    rows = "".join(f"{cells[i % 5]},{i:03d},{'xy'[i % 2]}\n" for i in range(30))
    data = csv(written(tmp_path, "text,key,label\n" + rows), text=("text",), id="key")
    order = {i: t for s in SPLITS for i, t in zip(getattr(data, s).ids().tolist(), getattr(data, s).columns["text"], strict=True)}
    assert sorted(order.values()) == sorted(cells * 6)
    rows = "".join(json.dumps({"text": cells[i % 5], "key": f"{i:03d}", "label": "xy"[i % 2]}) + "\n" for i in range(30))
    same = jsonl(written(tmp_path, rows, "t.jsonl"), text=("text",), id="key")
    assert same.fingerprint() == data.fingerprint()


@pytest.mark.parametrize("nothing", ["", "NA", "NaN", "null", "None"])
def test_words_for_nothing_are_missing_values_in_numbers_and_labels(tmp_path, nothing):
    """A column of numbers stays one, and no class is called NA by accident."""
    with pytest.raises(BadInput, match="column 'b' of t lacks 1 of 31 values"):
        csv(written(tmp_path, simple(f"1,{nothing},x")))
    with pytest.raises(BadInput, match="column 'label' of t lacks 1 of 31 values"):
        csv(written(tmp_path, simple(f"1,2,{nothing}")))


def test_columns_without_a_name_are_left_out(tmp_path):
    """The first column that pandas writes is the row's number: in a sorted file it tells the class."""
    table().sort_values("label").reset_index(drop=True).to_csv(tmp_path / "t.csv")
    assert csv(str(tmp_path / "t.csv")).train.columns["x"].shape[1] == 5
    trailing = simple(columns="a,b,label,").replace("\n", ",\n").replace("label,,", "label,")
    assert csv(written(tmp_path, trailing, "u.csv")).train.columns["x"].shape[1] == 2


def test_an_index_with_a_name_is_a_column(tmp_path):
    """Where a frame was saved by its key."""
    frame = table().assign(key=[f"k{i}" for i in range(N)]).set_index("key")
    frame.to_parquet(tmp_path / "t.parquet")
    frame.iloc[::2].reset_index(drop=True).iloc[5:].to_parquet(tmp_path / "u.parquet")
    assert len(parquet(str(tmp_path / "t.parquet"), id="key").train) == 28
    assert parquet(str(tmp_path / "u.parquet"), rare="keep", label="").train.columns["x"].shape[1] == 6


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "is no csv that can be read: it is empty"),
        ("\n\n", "is no csv that can be read"),
        ("a,b,label\n", "holds no rows"),
        (simple(columns="a,label,label"), "two columns called 'label'; rename one"),
        (simple(columns="a,a ,label"), "two columns called 'a'; rename one"),
        (simple("1,2,x,4"), "more cells than the 3 column names"),
        ("a,b\n" + "1,2,x\n" * 30, "more cells than the 2 column names"),
        (simple().replace("5,25,y", "5,25,y,6,7"), "Expected 3 fields in line 7, saw 5"),
        (simple("1,2"), "column 'label' of t lacks 1 of 31 values"),
        (simple('1,"2,x'), "is no csv that can be read"),
        (bytes(range(128, 256)) * 20, "is no csv that can be read"),
        (b"\x00\x01\x02" * 300, "holds no rows"),
        (simple().encode("utf-16"), "is no csv that can be read"),
        (simple("1e400,2,x"), "column 'a' of t holds infinite values"),
    ],
)
def test_what_is_no_table_is_refused_in_one_sentence(tmp_path, text, message):
    """A row too many must not shift the labels by a column."""
    with pytest.raises(BadInput, match=message) as raised:
        csv(written(tmp_path, text))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "it is empty"),
        ("\n \n", "holds no rows"),
        ('{"a": 1}\n{"a": 2\n', r"line 2: .* at character 9"),
        ("[1, 2]\n", "line 1 is no mapping"),
        ('{"a": 1}\n3\n', "line 2 is no mapping"),
        (b"\xff\xfe\x00", "is no jsonl that can be read"),
    ],
)
def test_lines_that_are_no_json_are_refused_with_their_number(tmp_path, text, message):
    """Line 80,312 of a large file is not found by eye."""
    with pytest.raises(BadInput, match=message) as raised:
        jsonl(written(tmp_path, text, "t.jsonl"))
    assert "\n" not in str(raised.value)


def test_json_lines_may_leave_keys_out_and_hold_more(tmp_path):
    """A key that is left out is a missing value; what is nested is refused where it would be read."""
    rows = [{"a": i, "label": i % 2, "more": {"x": [1]}} for i in range(30)]
    del rows[4]["a"]
    path = written(tmp_path, "\n".join(map(json.dumps, rows)) + "\n\n", "t.jsonl")
    with pytest.raises(BadInput, match="column 'a' of t lacks 1 of 30 values"):
        jsonl(path, columns=("a",))
    assert sum(len(getattr(jsonl(path, columns=("a",), missing="drop"), s)) for s in SPLITS) == 29
    with pytest.raises(BadInput, match="column 'more' of t holds values of type dict"):
        jsonl(path, missing="drop")


def test_numbers_that_are_written_as_words_stay_words(tmp_path):
    """JSON says which is which."""
    rows = [{"a": str(i % 3), "b": i, "2": 1.5, "date": "2031-01-01", "label": i % 2} for i in range(30)]
    data = jsonl(written(tmp_path, "\n".join(map(json.dumps, rows)), "t.jsonl"))
    assert data.train.columns["x"].shape[1] == 2 + 3 + 1


def test_packed_json_lines_are_read(tmp_path):
    """As CSV is."""
    packed = gzip.compress("\n".join(json.dumps({"a": i, "label": i % 2}) for i in range(30)).encode())
    data = jsonl(written(tmp_path, packed, "t.jsonl.gz"))
    assert (len(data.train), data.name) == (21, "t")
    with pytest.raises(BadInput, match="no jsonl that can be read"):
        jsonl(written(tmp_path, packed[:-20], "u.jsonl.gz"))
    with pytest.raises(BadInput, match="no csv that can be read"):
        csv(written(tmp_path, gzip.compress(simple().encode())[:-20], "u.csv.gz"))


@pytest.mark.parametrize("damage", [lambda b: b[:-30], lambda b: b[: len(b) // 2], lambda b: b"PAR1" * 9, lambda b: b"a,b\n1,2\n"])
def test_a_damaged_parquet_file_is_refused(tmp_path, damage):
    """A download that broke off."""
    table().to_parquet(tmp_path / "t.parquet")
    path = written(tmp_path, damage((tmp_path / "t.parquet").read_bytes()), "u.parquet")
    with pytest.raises(BadInput, match="is no parquet that can be read"):
        parquet(path)


@pytest.mark.parametrize("load", [csv, jsonl, parquet])
def test_a_path_must_be_a_file(tmp_path, load):
    """A folder is another kind of data."""
    with pytest.raises(MissingFile, match=f"is a folder; expected a {load.__name__} file"):
        load(str(tmp_path))
    with pytest.raises(MissingFile, match="does not exist"):
        load(str(tmp_path / "none"))


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_is_refused(tmp_path):
    """One sentence, exit code 2."""
    path = written(tmp_path, simple())
    os.chmod(path, 0)
    with pytest.raises(TutelageError, match="can be read"):
        csv(path)


def test_ids_are_row_numbers_and_stay_when_the_file_grows(tmp_path):
    """New rows at the end leave the ids of the old."""
    fewer, more = csv(written(tmp_path, simple())), csv(written(tmp_path, simple() + "30,900,x\n31,961,y\n", "u.csv"))
    labels = [dict(zip(d.train.ids().tolist(), d.train.labels().tolist(), strict=True)) for d in (fewer, more)]
    assert all(label == i % 2 for found in labels for i, label in found.items())
    assert sorted(i for s in SPLITS for i in getattr(more, s).ids().tolist()) == list(range(32))


def test_a_large_file_of_mixed_values_is_read_without_a_warning(tmp_path):
    """pandas reads in pieces and warns where they differ in type."""
    rows = "".join(f"{i if i < 70000 else 'x'},{i % 7},{'xy'[i % 2]}\n" for i in range(70010))
    with pytest.raises(BadInput, match=r"column 'a' of t holds \d+ distinct strings"):
        csv(written(tmp_path, "a,b,label\n" + rows))
