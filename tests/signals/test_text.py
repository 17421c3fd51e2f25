"""Hashed words: the same buckets everywhere, runs of words, and texts without any."""

from __future__ import annotations

import pickle

import pytest
import torch

from tutelage.errors import BadInput
from tutelage.signals.text import HashedWords


def batch(*texts):
    return {"id": torch.arange(len(texts)), "text": list(texts)}


def parts(words, *texts):
    """The buckets of each text, cut at the offsets."""
    made = words(batch(*texts))
    ends = [*made["offsets"].tolist()[1:], len(made["ids"])]
    return [made["ids"][start:end].tolist() for start, end in zip(made["offsets"].tolist(), ends, strict=True)]


def test_a_bucket_is_the_crc_of_the_word():
    """The check value of CRC-32 is 0xCBF43926; a hash with a salt would give another net in each process."""
    assert HashedWords(2**32).of("123456789") == [0xCBF43926 + 1]
    assert HashedWords(1001).of("123456789") == [0xCBF43926 % 1000 + 1]


def crc(data):
    """CRC-32 bit by bit: the reflected polynomial 0xEDB88320."""
    value = 0xFFFFFFFF
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = value >> 1 ^ (0xEDB88320 if value & 1 else 0)
    return value ^ 0xFFFFFFFF


@pytest.mark.parametrize("word", ["good", "größe", "小さい"])
def test_words_are_hashed_as_utf_8(word):
    """In every process and on every machine."""
    assert HashedWords(32768).of(word) == [crc(word.encode("utf-8")) % 32767 + 1]


def test_single_words_come_first_then_each_longer_run():
    """Pairs tell 'not good' from 'good'."""
    one = {word: HashedWords(9973, ngrams=1).of(word)[0] for word in ("not", "very", "good")}
    words = HashedWords(9973, ngrams=3)
    assert HashedWords(9973, ngrams=1).of("not very good") == list(one.values())
    found = words.of("not very good")
    assert len(found) == 6
    assert found[:3] == list(one.values())
    assert len(set(found)) == 6
    assert words.of("good") == [one["good"]]
    assert HashedWords(9973).of("very good")[2] == words.of("not very good")[4]


def test_case_and_punctuation_do_not_matter_and_other_scripts_do():
    """Words are runs of letters, digits and underscores."""
    words = HashedWords(9973)
    assert words.of("It's GOOD!") == words.of("it s good")
    assert words.of("ÄRGER") == words.of("ärger") != words.of("rger")
    assert words.of("x_1") != words.of("x 1")


@pytest.mark.parametrize("text", ["", "   ", "?! ...", "\ud800"])
def test_a_text_without_words_is_bucket_zero_and_nothing_else_is(text):
    """An empty bag has no mean; and no word may share what stands for none."""
    assert HashedWords(2).of(text) == [0]
    assert set(HashedWords(2).of("any word is bucket one")) == {1}
    assert 0 not in HashedWords(5).of(" ".join(map(str, range(300))))


def test_a_batch_is_its_texts_one_after_another():
    """Offsets that are off by one give each text a word of its neighbour."""
    words = HashedWords(9973)
    texts = ["", "one", "two words", "", "and three more"]
    assert parts(words, *texts) == [words.of(text) for text in texts]
    made = words(batch(*texts))
    assert (made["ids"].dtype, made["offsets"].dtype) == (torch.int64, torch.int64)
    assert made["offsets"].tolist() == [0, 1, 2, 5, 6]


def test_the_numbers_are_where_the_ids_are():
    """Text stays behind when a batch goes to an accelerator."""
    made = HashedWords(7)({**batch("a b"), "id": torch.arange(1, device="meta")})
    assert made["ids"].is_meta
    assert made["offsets"].is_meta


def test_hashed_words_go_to_workers_and_compare():
    """As settings do."""
    assert pickle.loads(pickle.dumps(HashedWords(7, 3))) == HashedWords(7, 3) != HashedWords(7)


@pytest.mark.parametrize("bad", [{"buckets": 1}, {"buckets": 0}, {"buckets": 7, "ngrams": 0}])
def test_numbers_that_cannot_be_are_refused(bad):
    """One bucket is for texts without words."""
    with pytest.raises(BadInput, match="at least 2 buckets and ngrams of at least 1"):
        HashedWords(**bad)


def test_batches_without_text_are_refused():
    """With the columns that there are."""
    with pytest.raises(BadInput, match=r"no column 'text' .*\['id', 'x'\]"):
        HashedWords(7)({"id": torch.arange(2), "x": torch.zeros(2)})
    with pytest.raises(BadInput, match="must hold strings, not NoneType"):
        HashedWords(7)(batch("a", None))
