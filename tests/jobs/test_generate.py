"""generate: prompts go in, rows to teach by come out, from a model at hand or from a server; what is done once is never done again."""

from __future__ import annotations

import json
import os

import pytest

pytest.importorskip("transformers")
pytest.importorskip("pandas")

import tutelage
from answering_server import answering
from tiny_causal import causal_folder
from tiny_tokenizers import letters
from tutelage import Fit, Model, RunOptions
from tutelage.cli.main import main
from tutelage.errors import BadInput, Failed
from tutelage.jobs.generate import generate
from tutelage.jobs.models import model_from
from tutelage.language.server import KEY
from tutelage.students import gpt

QUIET = {"quiet": True, "tokens": 9, "temperature": 0.0}
CHATS = [[{"role": "user", "content": f"say {i}"}, {"role": "assistant", "content": "old"}] for i in range(30)]


def rows_in(file) -> list[dict]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def write(file, rows):
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return f"lessons:{file}"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return causal_folder(tmp_path_factory.mktemp("generate") / "model", seed=3)


@pytest.fixture
def there(monkeypatch):
    monkeypatch.delenv(KEY, raising=False)
    with answering() as server:
        yield server


@pytest.fixture
def chats(tmp_path):
    return write(tmp_path / "chats.jsonl", [{"messages": chat} for chat in CHATS])


# servers


def test_a_server_answers_and_a_student_studies_it(there, chats, folder, tmp_path, capsys):
    """From the command line, end to end: its text is all that the student gets of the teacher."""
    out = tmp_path / "said.jsonl"
    assert main(["generate", f"server:{there.url}", "--data", chats, "--tokens", "7", "--seed", "3", "--out", str(out), "--quiet"]) == 0
    said = capsys.readouterr().out
    assert f"parrot wrote 30 of 30 answers into {out}" in said
    assert [row["messages"][1]["content"] for row in rows_in(out)] == [f"SAY {i}" for i in range(30)]
    assert all(body is None or (body["max_tokens"], body["temperature"]) == (7, 1.0) for _, body, _ in there.seen)
    run = tutelage.distill(
        None,
        f"hf:{folder}:layers=1",
        f"lessons:{out}:length=40",
        recipe="alone",
        out=tmp_path / "run",
        fit=Fit(steps=2, batch_size=4),
        options=RunOptions(quiet=True),
    )
    assert run.report["student"]["perplexity"] > 1


def test_the_only_model_of_a_server_need_not_be_named(there, chats, tmp_path):
    there.models = ["one", "two"]
    with pytest.raises(BadInput, match=r"does not say which model of the server; write server:.*:model=NAME \(it has one, two\)"):
        generate(f"server:{there.url}", chats, out=tmp_path / "a.jsonl", **QUIET)
    assert generate(f"server:{there.url}:model=two", chats, out=tmp_path / "a.jsonl", **QUIET).by == "two"


def test_a_server_that_fails_costs_nothing_that_was_answered(there, chats, tmp_path):
    """The same call goes on; the file appears when it is whole, and not before."""
    there.fails = lambda number, body: (400, {}, "bad") if number > 4 else None
    spec = f"server:{there.url}:concurrency=1"
    with pytest.raises(BadInput, match="status 400"):
        generate(spec, chats, out=tmp_path / "a.jsonl", **QUIET)
    assert not (tmp_path / "a.jsonl").exists()
    there.fails = lambda number, body: None
    there.seen.clear()
    found = generate(spec, chats, out=tmp_path / "a.jsonl", **QUIET)
    assert sum(body is not None for _, body, _ in there.seen) == 26
    assert found.rows == 30
    assert sorted(os.listdir(tmp_path)) == ["a.jsonl", "chats.jsonl"]


def test_an_answer_for_each_output(there, tmp_path):
    """Under ids and seeds of their own."""
    data = write(tmp_path / "p.jsonl", [{"prompt": "a"}, {"prompt": "b", "response": "never read"}])
    found = generate(f"server:{there.url}", data, out=tmp_path / "a.jsonl", outputs=3, **QUIET)
    rows = rows_in(found.file)
    assert [(row["prompt"], row["response"]) for row in rows] == [("a", "A")] * 3 + [("b", "B")] * 3
    assert len({row["id"] for row in rows}) == 6
    assert len({body["seed"] for _, body, _ in there.seen if body}) == 6


def test_splits_that_the_data_have_are_kept(there, tmp_path):
    """What was test must not be trained on; where nothing is said, nothing is invented."""
    rows = [{"prompt": f"p{i}", "part": part} for i, part in enumerate(["train", "val", "test", "train"])]
    data = write(tmp_path / "p.jsonl", rows)
    generate(f"server:{there.url}", f"{data}:split=part", out=tmp_path / "a.jsonl", **QUIET)
    said = {row["prompt"]: row["split"] for row in rows_in(tmp_path / "a.jsonl")}
    assert said == {"p0": "train", "p3": "train", "p1": "validation", "p2": "test"}
    generate(f"server:{there.url}", data, out=tmp_path / "b.jsonl", **QUIET)
    assert [sorted(row) for row in rows_in(tmp_path / "b.jsonl")] == [["id", "prompt", "response"]] * 4


def test_what_is_cut_or_empty_is_left_out_and_counted(there, tmp_path):
    """A student would learn to stop anywhere."""
    there.finish = "length"
    data = write(tmp_path / "p.jsonl", [{"prompt": "a"}])
    with pytest.raises(BadInput, match="none of 1 answers of parrot can be learnt from; the first has an answer that was cut"):
        generate(f"server:{there.url}", data, out=tmp_path / "a.jsonl", **QUIET)


def test_a_server_that_is_not_there_is_said(chats, tmp_path):
    with pytest.raises(Failed, match="gave no answer in 1 try"):
        generate("server:http://127.0.0.1:9/v1:model=m,retries=0", chats, out=tmp_path / "a.jsonl", **QUIET)
    assert os.listdir(tmp_path) == ["chats.jsonl"]


# models at hand


def test_running_text_is_written_on(folder, tmp_path):
    """Whole texts come out, to be studied as they are."""
    data = write(tmp_path / "t.jsonl", [{"text": "abcdefgh"}, {"text": "hgfe"}])
    found = generate(f"hf:{folder}", data, out=tmp_path / "a.jsonl", prompt=3, **QUIET)
    assert [row["text"][:3] for row in rows_in(found.file)] == ["abc", "hgf"]
    assert all(len(row["text"]) > 3 for row in rows_in(found.file))


def test_a_run_writes_as_its_folder_would(folder, tmp_path):
    """By the student that was trained, with the tokenizer that it was trained with."""
    data = write(tmp_path / "t.jsonl", [{"text": f"text {i}"} for i in range(30)])
    out = tmp_path / "run"
    fit = Fit(steps=2, batch_size=4)
    tutelage.distill(None, f"hf:{folder}", f"{data}:length=20", recipe="alone", out=out, fit=fit, options=RunOptions(quiet=True))
    one = generate(out, data, out=tmp_path / "a.jsonl", **QUIET)
    other = generate(f"hf:{out / 'model'}", data, out=tmp_path / "b.jsonl", **QUIET)
    assert rows_in(one.file) == rows_in(other.file)


def test_objects_made_in_python(folder, tmp_path):
    """A handle and rows instead of names."""
    handle = model_from(f"hf:{folder}", "model", data=_any_text(), seed=0)
    rows = [{"text": "abcdefgh"}]
    one = generate(handle, rows, out=tmp_path / "a.jsonl", **QUIET)
    other = generate(f"hf:{folder}", write(tmp_path / "t.jsonl", rows), out=tmp_path / "b.jsonl", **QUIET)
    assert rows_in(one.file) == rows_in(other.file)


def _any_text():
    from tutelage.language import from_rows, lessons

    return lessons(from_rows([{"text": f"text {i}"} for i in range(9)]), letters())


WRONG = {
    "nothing to write": ({"out": ""}, "expected a file to write that ends in .jsonl"),
    "another ending": ({"out": "a.csv"}, "expected a file to write that ends in .jsonl"),
    "no output": ({"outputs": 0}, "outputs=0; expected at least 1"),
    "no token": ({"tokens": 0}, "tokens=0; expected a whole number, at least 1"),
    "no prompt": ({"prompt": 0}, "prompt=0; expected at least 1"),
    "no batch": ({"batch_size": 0}, "batch_size=0; expected at least 1"),
    "no device": ({"device": "moon"}, "device='moon'"),
    "data of another kind": ({"data": "digits"}, "asks no language model; expected lessons:PATH"),
    "data from nowhere": ({"data": "lessons:"}, "asks no language model"),
    "an option of lessons that is none here": ({"data": "lessons:{chats}:length=9"}, "length"),
    "a server without an address": ({"model": "server:"}, "says nothing about where"),
    "a server that is no address": ({"model": "server:here:model=m"}, "is no address"),
    "an option that a server has not": ({"model": "server:http://localhost/v1:modle=m"}, "nearest: 'model'"),
    "a template for a server": (
        {"model": "server:http://localhost/v1:model=m", "data": "lessons:{chats}:template=turns"},
        "renders chats itself",
    ),
    "a cache": ({"model": "cache:x"}, "cache"),
    "a net without tokens": ({"model": "gpt:width=8"}, "nothing says how texts are split into tokens"),
    "a net without weights": ({"model": "gpt:width=8,heads=2,depth=1", "data": "lessons:{chats}:tokenizer={folder}"}, "no trained weights"),
}


@pytest.mark.parametrize(("changes", "said"), WRONG.values(), ids=WRONG.keys())
def test_what_cannot_be_used_is_refused(changes, said, folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "chats.jsonl", [{"messages": chat} for chat in CHATS])
    given = {"model": f"hf:{folder}", "data": "lessons:chats.jsonl", "out": "a.jsonl", **QUIET, **changes}
    given["data"] = given["data"].format(chats="chats.jsonl", folder=folder)
    with pytest.raises(BadInput, match=said):
        generate(given.pop("model"), given.pop("data"), **given)
    assert os.listdir(tmp_path) == ["chats.jsonl"]


def test_a_file_that_is_there_is_not_replaced(folder, chats, tmp_path):
    (tmp_path / "a.jsonl").write_text("precious")
    with pytest.raises(BadInput, match=r"a.jsonl exists; name another file, or delete it"):
        generate(f"hf:{folder}", chats, out=tmp_path / "a.jsonl", **QUIET)
    assert (tmp_path / "a.jsonl").read_text() == "precious"


def test_a_server_is_no_teacher_of_logits(chats, folder, tmp_path):
    """It says how to learn from it all the same."""
    with pytest.raises(BadInput, match=r"shows text only; let it answer \(tutelage generate server:http://localhost/v1"):
        tutelage.distill("server:http://localhost/v1", f"hf:{folder}", chats, recipe="lm-kd", out=tmp_path / "run")


def test_a_handle_without_a_tokenizer_cannot_read_prompts(tmp_path):
    with pytest.raises(BadInput, match="nothing says how texts are split into tokens"):
        generate(Model(lambda: gpt(classes=11, width=8, depth=1, heads=2, context=6)), [{"prompt": "a"}], out=tmp_path / "a.jsonl", **QUIET)
