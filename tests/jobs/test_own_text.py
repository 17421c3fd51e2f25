"""What language models write themselves, as the report says it."""

from __future__ import annotations

import pytest
import torch

from tutelage import Model
from tutelage.data import Data, Table
from tutelage.jobs import own_text as room
from tutelage.jobs.own_text import FirstDocuments, own_text, reader_of
from tutelage.language.lessons import Lessons, Text
from tutelage.students import gpt
from tutelage.teachers import Ensemble, Frozen

V, T = 12, 16
CPU = torch.device("cpu")


class Letters(Table):
    """Tokens that can be read."""

    def text(self, tokens):
        return "".join(chr(97 + t) for t in tokens)


@pytest.fixture
def source() -> Letters:
    ids = torch.randint(0, V, (9, T + 1), generator=torch.Generator().manual_seed(0))
    return Letters({"input_ids": ids[:, :T], "y": ids[:, 1:], "mask": torch.ones(9, T, dtype=torch.bool)}, "letters")


@pytest.fixture
def models() -> dict[str, Model]:
    made = {
        name: Model(lambda: gpt(classes=V, width=8, depth=1, heads=2, context=80), seed=n) for n, name in enumerate(("teacher", "student"))
    }
    with torch.no_grad():
        for each in made.values():
            each.module.head.weight *= 4
    return made


@pytest.fixture(autouse=True)
def short(monkeypatch):
    monkeypatch.setattr(room, "PROMPTS", 6)
    monkeypatch.setattr(room, "TOKENS", 7)
    monkeypatch.setattr(room, "RUNNING", 5)


def test_all_write_after_the_same_beginnings(source, models):
    """And the teacher's view of its own text is no distance."""
    found, numbers = own_text(models, source, Data(source), 0, CPU, judge="teacher")
    assert (found["prompts"], found["tokens"], found["temperature"]) == (6, 7, 1.0)
    assert len(found["samples"]) == 4
    for each in found["samples"]:
        row = int((source.ids() == each["id"]).nonzero())
        assert each["prompt"] == source.text(source.columns["input_ids"][row, :5].tolist())
        assert {len(text) for text in each["responses"].values()} == {7}
    assert numbers["teacher"]["own_sequence_kl"] == pytest.approx(0, abs=1e-6)
    assert numbers["student"]["own_sequence_kl"] > 0
    assert set(numbers["student"]) == {"repetition", "distinct", "own_teacher_nll", "own_sequence_kl"}
    assert own_text(models, source, Data(source), 0, CPU, judge="teacher") == (found, numbers)
    assert own_text(models, source, Data(source), 1, CPU, judge="teacher")[0] != found


def test_a_teacher_that_is_no_single_model_writes_and_judges_nothing(source, models):
    """Cached ones, and several together."""
    several = Ensemble([Frozen(models["teacher"]), Frozen(models["student"])])
    found, numbers = own_text({"teacher": several, "student": models["student"]}, source, Data(source), 0, CPU, judge="teacher")
    assert set(found["samples"][0]["responses"]) == {"student"}
    assert set(numbers["student"]) == {"repetition", "distinct"}
    assert own_text({"teacher": several}, source, Data(source), 0, CPU, judge="teacher") == (None, {})


def test_tokens_that_nothing_reads_have_numbers_and_no_texts(source, models):
    """A table of tokens says nothing of letters."""
    plain = Table(source.columns, "tokens")
    found, numbers = own_text(models, plain, Data(plain), 0, CPU, judge="teacher")
    assert found["samples"] == []
    assert numbers["student"]["distinct"] > 0
    assert reader_of(Data(plain), models) is None


def test_of_packed_windows_the_first_document_begins(models):
    """What stands behind it is another text, and padding here."""
    texts = [
        Text(torch.arange(1, 1 + size).int().numpy(), torch.ones(size, dtype=torch.bool).numpy(), n, True)
        for n, size in enumerate((6, 9, 7, 8))
    ]
    packed = Lessons(texts, length=16, packing="in-order")
    first = FirstDocuments(packed)
    batch = first.batch(torch.arange(len(packed)))
    assert "position_ids" not in batch
    assert batch["attention_mask"].sum(1).tolist() == [6, 7]
    assert (batch["y"] != -100).sum(1).tolist() == [5, 6]
    assert first.fingerprint() == packed.fingerprint()
    found, numbers = own_text(models, packed, Data(packed), 0, CPU, judge="teacher")
    assert found["prompts"] == 2
    assert set(numbers) == {"teacher", "student"}


def test_where_there_is_no_room_nothing_is_written(source):
    """The report says so instead of failing after a long training."""
    tight = {"student": Model(lambda: gpt(classes=V, width=8, depth=1, heads=2, context=T), seed=0)}
    longer = own_text(tight, source, Data(source), 0, CPU)
    assert longer[0] is not None  # 5 and 7 tokens do fit
    short = {"student": Model(lambda: gpt(classes=V, width=8, depth=1, heads=2, context=8), seed=0)}
    assert own_text(short, source, Data(source), 0, CPU) == (None, {})
