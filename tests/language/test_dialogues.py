"""Dialogues come out of every kind of table alike, are cut by dialogue, and keep their ids."""

from __future__ import annotations

import gzip
import itertools
import json

import pytest
import torch

from tutelage.data import Data, Indexed, Source, Table
from tutelage.errors import BadInput, MissingFile
from tutelage.language import Dialogue, Dialogues, as_dialogues, dialogues, from_rows, holds_dialogues

pd = pytest.importorskip("pandas")
pytest.importorskip("pyarrow")

N = 20
CHATS = [{"messages": [{"role": "user", "content": f"ask {i}"}, {"role": "assistant", "content": f"say {i}"}]} for i in range(N)]
PAIRS = [{"prompt": f"ask {i}", "response": f"say {i}"} for i in range(N)]


def said(data: Data) -> dict[str, list[tuple[int, str]]]:
    """The id and last words of each dialogue, by split."""
    parts = {"train": data.train, "validation": data.validation, "test": data.test}
    return {s: list(zip(p.ids().tolist(), (d.messages[-1][1] for d in p.dialogues), strict=True)) for s, p in parts.items()}


def everything(data: Data) -> list[tuple[int, str]]:
    return list(itertools.chain(*said(data).values()))


def written(folder, rows, name):
    file = folder / name
    text = "".join(json.dumps(row) + "\n" for row in rows)
    if name.endswith(".gz"):
        file.write_bytes(gzip.compress(text.encode()))
    elif "json" in name:
        file.write_text(text)
    elif name.endswith(".parquet"):
        pd.DataFrame(rows).to_parquet(file)
    else:
        pd.DataFrame(rows).to_csv(file, index=False, sep="\t" if name.endswith(".tsv") else ",")
    return str(file)


@pytest.mark.parametrize("rows", [CHATS, PAIRS])
def test_every_form_of_file_gives_the_same_dialogues(tmp_path, rows):
    names = ["a.jsonl", "a.json", "a.ndjson", "a.jsonl.gz", "a.parquet", *(["a.csv", "a.tsv"] if rows is PAIRS else [])]
    found = [said(dialogues(written(tmp_path, rows, name))) for name in names]
    assert all(f == found[0] for f in found)
    assert {split: len(part) for split, part in found[0].items()} == {"train": 14, "validation": 3, "test": 3}
    assert sorted(itertools.chain(*found[0].values())) == [(i, f"say {i}") for i in range(N)]


def test_a_folder_of_a_hugging_face_data_set_gives_the_same_dialogues(tmp_path):
    datasets = pytest.importorskip("datasets")
    datasets.Dataset.from_list(CHATS).save_to_disk(tmp_path / "set")
    expected = said(from_rows(CHATS))
    assert said(dialogues(str(tmp_path / "set"))) == expected
    assert said(from_rows(datasets.Dataset.from_list(CHATS))) == expected
    parts = datasets.DatasetDict({"train": datasets.Dataset.from_list(CHATS[:12]), "test": datasets.Dataset.from_list(CHATS[12:])})
    found = said(from_rows(parts))
    assert [w for _, w in found["test"]] == [f"say {i}" for i in range(12, N)]
    assert len(found["train"]) + len(found["validation"]) == 12


def test_words_that_look_missing_are_text_in_csv(tmp_path):
    """An answer "None" is an answer."""
    rows = [{"prompt": "NA", "response": "None"} for _ in range(N)]
    data = dialogues(written(tmp_path, rows, "a.csv"))
    assert data.train.dialogues[0] == Dialogue("pair", (("user", "NA"), ("assistant", "None")))


def test_the_cut_is_by_seed_and_ids_are_rows_or_a_column():
    first, again, other = (from_rows(PAIRS, seed=s) for s in (0, 0, 1))
    assert said(first) == said(again)
    assert first.fingerprint() == again.fingerprint()
    assert said(first) != said(other)
    named = from_rows([{**row, "key": f"k{i}"} for i, row in enumerate(PAIRS)], id="key")
    turned = from_rows([{**row, "key": f"k{i}"} for i, row in reversed(list(enumerate(PAIRS)))], id="key")
    assert dict(map(reversed, everything(named))) == dict(map(reversed, everything(turned)))
    with pytest.raises(BadInput, match="'key' of data does not tell its rows apart"):
        from_rows([{**row, "key": 1} for row in PAIRS], id="key")


def test_a_dropped_row_moves_no_other_id():
    """Cached signals are kept by id."""
    rows = [*PAIRS[:5], {"prompt": "x", "response": ""}, *PAIRS[6:]]
    data = from_rows(rows, missing="drop")
    assert data.train.dropped == {"has an empty response": 1}
    assert sorted(everything(data)) == [(i, f"say {i}") for i in range(N) if i != 5]


def test_splits_may_be_given():
    rows = [{**row, "part": "test" if i < 4 else "val" if i < 8 else "Train"} for i, row in enumerate(PAIRS)]
    found = said(from_rows(rows, split="part"))
    assert [w for _, w in found["test"]] == [f"say {i}" for i in range(4)]
    assert [w for _, w in found["validation"]] == [f"say {i}" for i in range(4, 8)]
    given = said(from_rows({"train": PAIRS[:10], "dev": PAIRS[10:15], "test": PAIRS[15:]}))
    assert [i for i, _ in given["test"]] == list(range(15, 20))


def test_a_second_file_is_the_test(tmp_path):
    data = dialogues(written(tmp_path, PAIRS, "a.jsonl"), test=written(tmp_path, PAIRS[:3], "b.jsonl"))
    assert len(data.test) == 3


@pytest.mark.parametrize(
    ("rows", "options", "said"),
    [
        ([], {}, "data holds no rows"),
        ({"train": [], "test": []}, {"columns": ["text"]}, "data holds no rows"),
        ({"train": [], "test": PAIRS}, {}, "data/train holds no rows"),
        ([{"label": 1}], {}, "expected messages, prompt and response"),
        ([{"text": ""}] * 3, {"missing": "drop"}, "no row left to learn from: each lacks something; the first has an empty text"),
        (PAIRS[:2], {}, "too few to cut"),
        ([{**r, "part": "x"} for r in PAIRS], {"split": "part"}, "says 'x'; expected train, validation or test"),
        ({"train": PAIRS, "part": PAIRS}, {}, "has the splits 'train', 'part'"),
        ({"prompt": ["a"], "response": ["b"]}, {}, "given as a mapping of 'prompt', 'response'; expected rows"),
        ({"train": PAIRS, "test": CHATS}, {}, "data/test has no column 'prompt'"),
        ("text", {}, "given as str; expected a list of rows"),
        (PAIRS, {"id": "prompt"}, "a column is named twice"),
        (PAIRS, {"id": "key"}, "no column 'key'"),
    ],
)
def test_rows_that_cannot_be_used_are_refused(rows, options, said):
    with pytest.raises(BadInput, match=said):
        from_rows(rows, **options)


@pytest.mark.parametrize(
    ("name", "content", "error", "said"),
    [
        ("a.jsonl", "", BadInput, "it is empty"),
        ("a.jsonl", "\n\n", BadInput, "holds no rows"),
        ("a.jsonl", '{"text": "a"}\n{', BadInput, "line 2"),
        ("a.jsonl", "[1]", BadInput, "line 1 is no mapping"),
        ("a.parquet", "x", BadInput, "no parquet that can be read"),
        ("./a.txt", None, MissingFile, "does not exist"),
        ("b.jsonl", None, MissingFile, "does not exist"),
    ],
)
def test_files_that_cannot_be_read_are_refused(tmp_path, monkeypatch, name, content, error, said):
    monkeypatch.chdir(tmp_path)
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(error, match=said):
        dialogues(name)


def test_a_test_file_beside_a_data_set_is_refused(tmp_path):
    with pytest.raises(BadInput, match="has no place"):
        dialogues(str(tmp_path), test="b.jsonl")


def test_tables_of_text_hold_dialogues_too():
    table = Table({"text": ["a", "b"], "id": torch.tensor([7, 3])}, "t")
    found = as_dialogues(table)
    assert found.ids().tolist() == [7, 3]
    assert [d.kind for d in found.dialogues] == ["text", "text"]
    assert as_dialogues(found) is found
    with pytest.raises(BadInput, match="expected dialogues"):
        as_dialogues(Indexed([(torch.zeros(1), 0)], "pictures"))


def test_dialogues_tell_themselves_apart():
    data = from_rows(PAIRS)
    assert holds_dialogues(data)
    assert not holds_dialogues(Data(Table({"x": torch.zeros(3, 2)})))
    assert isinstance(data.train, Source)
    assert isinstance(data.train.rows(torch.tensor([0]), "some"), Dialogues)
    assert data.train.labels() is None
