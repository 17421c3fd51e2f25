"""Lessons shift labels once, pad and pack without touching what a model says of a document, and are the same in every process."""

from __future__ import annotations

import itertools
import pickle

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader
from transformers import LlamaConfig, LlamaForCausalLM

from tutelage.data import Order
from tutelage.data.loader import Slices, batches
from tutelage.errors import BadInput
from tutelage.language import Lessons, Text

V = 53


def text(size, id=0, *, learnt=None, running=False, seed=0):
    draw = np.random.default_rng((seed, id))
    ids = draw.integers(1, V, size).astype(np.int32)
    flags = draw.random(size) < 0.6 if learnt is None else np.array(learnt, dtype=bool)
    flags[-1] = True
    return Text(ids, flags, id, running)


TEXTS = [text(size, 10 + i) for i, size in enumerate((5, 11, 3, 7, 2, 6))]


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "max_position_embeddings": 64}
    return LlamaForCausalLM(LlamaConfig(vocab_size=V, initializer_range=0.5, pad_token_id=None, **sizes)).eval()


def said(model, **inputs):
    with torch.no_grad():
        return model(**inputs, use_cache=False).logits


def whole(lessons):
    return lessons.batch(torch.arange(len(lessons)))


def test_labels_are_what_a_loop_gives():
    """Shifted twice or not at all, a student learns to copy or to skip."""
    batch = whole(Lessons(TEXTS, length=20))
    assert batch["input_ids"].shape == (6, 11)
    for row, given in enumerate(TEXTS):
        for place in range(11):
            inside = place < len(given.ids)
            follows = place + 1 < len(given.ids) and bool(given.learnt[place + 1])
            assert batch["attention_mask"][row, place] == inside
            assert batch["input_ids"][row, place] == (given.ids[place] if inside else 0)
            assert batch["y"][row, place] == (given.ids[place + 1] if follows else -100)
            assert batch["mask"][row, place] == follows
    assert batch["id"].tolist() == [t.id for t in TEXTS]
    assert [batch[k].dtype for k in ("input_ids", "y", "mask", "attention_mask", "id")] == [torch.int64] * 2 + [torch.bool] + [
        torch.int64
    ] * 2


def test_the_loss_is_that_of_transformers_own_shift(model):
    batch = whole(Lessons(TEXTS, length=20))
    given = torch.full_like(batch["input_ids"], -100)
    for row, one in enumerate(TEXTS):
        given[row, : len(one.ids)] = torch.from_numpy(np.where(one.learnt, one.ids, -100)).long()
    with torch.no_grad():
        shown = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], labels=given, use_cache=False)
    torch.testing.assert_close(F.cross_entropy(shown.logits.flatten(0, 1), batch["y"].flatten()), shown.loss)


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("padding", ["longest", "length"])
def test_padding_changes_nothing_that_is_said_of_a_dialogue(model, attention, padding):
    model.set_attn_implementation(attention)
    batch = whole(Lessons(TEXTS, length=20, padding=padding, pad=7))
    assert batch["input_ids"].shape[1] == {"longest": 11, "length": 20}[padding]
    shown = said(model, input_ids=batch["input_ids"], attention_mask=batch["attention_mask"])
    for row, given in enumerate(TEXTS):
        alone = said(model, input_ids=torch.from_numpy(given.ids).long()[None])
        torch.testing.assert_close(shown[row, : len(given.ids)], alone[0], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("packing", ["in-order", "first-fit"])
def test_a_packed_document_is_read_as_if_it_were_alone(model, attention, packing):
    """Documents that see each other would teach a student to expect what no prompt will show it."""
    model.set_attn_implementation(attention)
    lessons = Lessons(TEXTS, length=13, packing=packing, pad=7)
    batch = whole(lessons)
    assert "attention_mask" not in batch
    assert len(lessons) < len(TEXTS)
    assert batch["id"].tolist() == list(range(len(lessons)))
    shown = said(model, input_ids=batch["input_ids"], position_ids=batch["position_ids"])
    found = []
    for row in range(len(lessons)):
        begins = [*(batch["position_ids"][row] == 0).nonzero()[:, 0].tolist(), batch["input_ids"].shape[1]]
        for begin, end in itertools.pairwise(begins):
            ids = batch["input_ids"][row, begin:end]
            if (ids == 7).all() and (batch["y"][row, begin:end] == -100).all():
                continue
            alone = said(model, input_ids=ids[None])
            torch.testing.assert_close(shown[row, begin:end], alone[0], rtol=1e-5, atol=1e-5)
            found.append((ids.tolist(), batch["y"][row, begin:end].tolist()))
    expected = whole(Lessons(TEXTS, length=13))
    sizes = [len(t.ids) for t in TEXTS]
    rows = [(i[:n].tolist(), y[:n].tolist()) for i, y, n in zip(expected["input_ids"], expected["y"], sizes, strict=True)]
    assert sorted(found) == sorted(rows)


@pytest.mark.parametrize(("cut", "kept"), [("end", slice(0, 4)), ("start", slice(7, 11))])
def test_a_dialogue_that_is_too_long_is_cut_and_it_is_said(cut, kept):
    lessons = Lessons([TEXTS[1], TEXTS[2]], length=4, cut=cut, name="train")
    batch = whole(lessons)
    ids, learnt = TEXTS[1].ids, TEXTS[1].learnt
    assert batch["input_ids"][0].tolist() == ids[kept].tolist()
    follows = [*np.where(learnt, ids, -100)[1:], -100]
    assert batch["y"][0].tolist() == follows[kept], "what follows the last position is known, though it was cut away"
    assert (lessons.cut_dialogues, lessons.cut_tokens) == (1, 7)
    assert lessons.remarks() == [f"train: longer than 4 tokens and cut at the {cut}: 1 of 2, losing 7 of 14 tokens"]


def test_a_dialogue_with_nothing_left_to_learn_is_left_out():
    """A sample without a label would divide by zero, or count for nothing."""
    prompt = text(9, 1, learnt=[False] * 9)
    lessons = Lessons([prompt, TEXTS[0]], length=6, name="train")
    assert lessons.ids().tolist() == [TEXTS[0].id]
    assert lessons.remarks()[-1] == "train: left out, with nothing to learn within 6 tokens: 1 of 2"
    assert Lessons([prompt, TEXTS[0]], length=6, cut="start").ids().tolist() == [1, TEXTS[0].id]
    with pytest.raises(BadInput, match=r"all positions of its 1 dialogues are masked within 6 tokens"):
        Lessons([prompt], length=6)
    with pytest.raises(BadInput, match="nothing to learn"):
        Lessons([text(1, 2)], length=6)
    with pytest.raises(BadInput, match="nothing to learn"):
        Lessons([], length=6)


@pytest.mark.parametrize("size", [4, 5, 8, 9, 11])
def test_running_text_is_cut_into_windows_and_every_token_is_predicted_once(size):
    """Where text is cut, the first token of a window is predicted from the last of the window before."""
    given = text(size, 3, learnt=[True] * size, running=True)
    lessons = Lessons([given], length=4, packing="in-order")
    batch = whole(lessons)
    y = batch["y"][batch["mask"]]
    assert y.tolist() == given.ids[1:].tolist()
    assert batch["input_ids"][batch["mask"]].tolist() == given.ids[:-1].tolist()
    assert lessons.cut_tokens == 0
    windows = [min(4, size - begin) for begin in range(0, size, 4)]
    assert [p[:w].tolist() for p, w in zip(batch["position_ids"], windows, strict=False)] == [list(range(w)) for w in windows][
        : len(lessons)
    ]
    alone = Lessons([given], length=4)
    assert len(alone) == 1
    assert alone.cut_tokens == size - 4


def test_dialogues_are_cut_also_where_they_are_packed():
    lessons = Lessons([TEXTS[1], TEXTS[2]], length=7, packing="in-order", name="train")
    assert lessons.tokens == 10
    assert lessons.cut_tokens == 4
    assert lessons.remarks()[-1] == "train: packed into windows of 7 tokens: 2 documents into 2, 71% full"


def test_an_end_that_is_also_the_padding_is_learnt():
    """Many models have one token for both; told apart by its id, the end would be masked with the padding."""
    ended = Text(np.array([3, 4, 2], dtype=np.int32), np.array([False, True, True]), 0)
    batch = whole(Lessons([ended, TEXTS[1]], length=20, pad=2))
    assert batch["y"][0].tolist() == [4, 2] + [-100] * 9
    assert batch["attention_mask"][0].tolist() == [1] * 3 + [0] * 8


def test_ids_stay_when_other_dialogues_change():
    """Cached signals are found by id."""
    longer = [TEXTS[0], text(9, TEXTS[1].id, seed=1), *TEXTS[2:]]
    one, other = Lessons(TEXTS, length=20), Lessons(longer, length=20)
    assert one.ids().tolist() == other.ids().tolist()
    assert one.fingerprint() != other.fingerprint()
    before, after = one.batch(torch.tensor([3])), other.batch(torch.tensor([3]))
    assert all(torch.equal(before[k], after[k]) for k in before)


def test_the_fingerprint_tells_what_is_shown_and_nothing_else():
    found = {}
    for key, options in {
        "as it is": {},
        "shorter": {"length": 6},
        "its start": {"length": 6, "cut": "start"},
        "in order": {"packing": "in-order"},
        "first fit": {"packing": "first-fit"},
        "other numbers": {"packing": "in-order", "first": 3},
    }.items():
        found[key] = Lessons(TEXTS, **{"length": 13, **options}).fingerprint()
    assert len(set(found.values())) == len(found)
    assert Lessons(TEXTS, length=13, padding="length", pad=9, name="other").fingerprint() == found["as it is"]
    unlearnt = [Text(t.ids, np.array([*[False] * (len(t.ids) - 1), True]), t.id) for t in TEXTS]
    assert Lessons(unlearnt, length=13).fingerprint() != found["as it is"]


def test_labels_are_those_of_the_batches():
    for options in ({}, {"packing": "in-order"}, {"length": 4}):
        lessons = Lessons(TEXTS, **{"length": 13, **options})
        assert torch.equal(lessons.labels(), whole(lessons)["y"])
    assert not lessons.varies()
    assert lessons.learnt == int((lessons.labels() != -100).sum())
    assert lessons.largest == max(int(t.ids.max()) for t in TEXTS)


def test_a_part_keeps_ids():
    part = Lessons(TEXTS, length=20).rows(torch.tensor([4, 1]), "some")
    assert part.ids().tolist() == [14, 11]
    assert part.batch(torch.tensor([1]))["id"].tolist() == [11]


def test_batches_are_the_same_in_loader_workers():
    lessons = pickle.loads(pickle.dumps(Lessons(TEXTS, length=13, packing="first-fit")))
    slices = Slices(Order(len(lessons), 2, 0, "stage"))
    here, there = (list(batches(lessons, slices, seed=0, start=0, stop=4, workers=w)) for w in (0, 2))
    for one, other in zip(here, there, strict=True):
        assert all(torch.equal(one[0][k], other[0][k]) for k in one[0])


class Reader:
    def __init__(self, lessons):
        self.lessons = lessons

    def __len__(self):
        return len(self.lessons)

    def __getitem__(self, place):
        return self.lessons.batch(torch.tensor([place]))


@pytest.mark.slow
def test_batches_are_the_same_in_spawned_workers():
    lessons = Lessons(TEXTS, length=13)
    found = DataLoader(Reader(lessons), batch_size=None, num_workers=1, multiprocessing_context="spawn")
    assert [b["id"].item() for b in found] == lessons.ids().tolist()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"length": 1}, "length=1; expected at least 2 tokens"),
        ({"length": True}, "length=True"),
        ({"packing": "windows"}, "packing='windows'; expected none, in-order or first-fit"),
        ({"padding": "max"}, "padding='max'; expected longest or length"),
        ({"cut": "left"}, "cut='left'; expected end or start"),
    ],
)
def test_unknown_layouts_are_refused(options, said):
    with pytest.raises(BadInput, match=said):
        Lessons(TEXTS, **options)
