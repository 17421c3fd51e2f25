"""Two vocabularies are equal, equal but for padding, or different: and what differs is named."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F

import tiny_tokenizers as tiny
from tutelage.errors import BadInput
from tutelage.language import reconciled


def tokens(vocabulary, *, template=None, **special):
    """As much of a tokenizer as is looked at."""
    known = {word: i for i, word in enumerate(vocabulary)}
    named = {role: special.get(role) for role in ("bos", "eos", "pad", "unk")}
    columns = {f"{role}_token": t for role, t in named.items()} | {f"{role}_token_id": known.get(t) for role, t in named.items()}
    return SimpleNamespace(get_vocab=lambda: dict(known), chat_template=template, **columns)


FEW = tokens(["<end>", "a", "b", "c"], eos="<end>")


def test_equal():
    found = reconciled(FEW, FEW, 4, 4)
    assert (found.size, found.outcome, found.notes) == (4, "equal", ())
    logits = torch.randn(2, 3, 4)
    assert found.common(logits) is logits
    assert reconciled(FEW, FEW, 6, 6).size == 6, "both heads are wider alike: nothing to cut"
    same = tiny.letters()
    assert reconciled(same, tiny.letters(), len(same), len(same)).outcome == "equal"


@pytest.mark.parametrize(("teacher", "student", "wider"), [(1188, 1187, "the teacher"), (1187, 1188, "the student")])
def test_heads_of_other_widths_are_cut_to_the_smaller(teacher, student, wider):
    """In small, as one family rounds its heads: 152,064 = 1,188 * 128 and 151,936 = 1,187 * 128."""
    known = tokens([f"w{i}" for i in range(1186)])
    found = reconciled(known, known, teacher, student)
    assert (found.size, found.outcome) == (1187, "padded")
    (note,) = found.notes
    assert f"the last 1 of {wider} are padding and are dropped" in note
    shown = {n: torch.randn(2, 5, n, dtype=torch.float64) for n in (teacher, student)}
    p, q = (found.common(shown[n]) for n in (teacher, student))
    assert p.shape == q.shape == (2, 5, 1187)
    expected = sum(
        (
            torch.softmax(shown[teacher][..., :1187], -1) * (torch.log_softmax(shown[teacher][..., :1187], -1) - torch.log_softmax(q, -1))
        ).unbind(-1)
    )
    torch.testing.assert_close(F.kl_div(q.log_softmax(-1), p.log_softmax(-1), reduction="none", log_target=True).sum(-1), expected)


def test_the_true_widths_of_a_family():
    """151,665 tokens, heads of 152,064 and 151,936."""
    known = tokens([f"w{i}" for i in range(151_665)])
    found = reconciled(known, known, 152_064, 151_936, names=("Big", "Small"))
    assert found.size == 151_936
    assert found.notes == (
        "Big has 152,064 logits, Small 151,936, and their tokenizers are equal: the last 128 of Big are padding and are dropped",
    )
    hidden = torch.randn(2, 3, 4)
    heads = [torch.nn.Linear(4, width, bias=False) for width in (152_064, 151_936)]
    shown = [found.common(head(hidden)) for head in heads]
    torch.testing.assert_close(shown[0], hidden @ heads[0].weight[:151_936].T)
    assert F.kl_div(shown[1].log_softmax(-1), shown[0].log_softmax(-1), reduction="sum", log_target=True).isfinite()
    with torch.device("meta"):
        assert found.common(torch.empty(2, 3, 152_064)).shape == (2, 3, 151_936)


def test_what_is_missing_is_named():
    other = tokens(["<end>", "a", "d", "b"], eos="<end>")
    with pytest.raises(BadInput) as raised:
        reconciled(FEW, other, 4, 4, names=("Big", "Small"))
    text = str(raised.value)
    assert "vocabularies of Big (4 tokens) and Small (4) differ" in text
    assert "Small lacks 1 tokens ('c' 3)" in text
    assert "Big lacks 1 tokens ('d' 2)" in text
    assert "1 tokens have other ids ('b' 2 and 3)" in text
    assert "tokenizer=FOLDER" in text
    assert "special" not in text
    assert "\n" not in text


def test_special_tokens_that_differ_are_named_as_such():
    other = tokens(["<end>", "a", "b", "c", "</s>"], eos="</s>", pad="<end>")
    with pytest.raises(BadInput, match=r"the student.*special tokens differ \(eos is '<end>' 0 and '</s>' 4, pad is none and '<end>' 0\)"):
        reconciled(FEW, other, 5, 5)


def test_few_of_many_are_shown():
    many = tokens(["<end>", *(f"word{i}" for i in range(1000))], eos="<end>")
    with pytest.raises(BadInput, match=r"lacks 1,000 tokens \('word0' 1, 'word1' 2, 'word2' 3, \.\.\.\)") as raised:
        reconciled(many, FEW, 1001, 1001)
    assert len(str(raised.value)) < 700


def test_words_of_a_tokenizer_cannot_steer_the_terminal():
    with pytest.raises(BadInput) as raised:
        reconciled(tokens(["\x1b[31m"]), tokens(["a"]), 1, 1)
    assert "\x1b" not in str(raised.value)


def test_the_same_tokens_with_another_end_are_refused_or_noted():
    """A chat model and the base of its family end texts differently: a student taught by the one never stops as the other does."""
    base = tokens(["<end>", "a", "b", "c"], eos="a", template="{{ x }}")
    with pytest.raises(BadInput, match=r"know the same 4 tokens but use other special tokens: eos is '<end>' 0 in the teacher and 'a' 1"):
        reconciled(FEW, base, 4, 4)
    found = reconciled(FEW, base, 4, 4, ends="note")
    assert found.outcome == "equal"
    (note,) = found.notes
    assert "eos is '<end>' 0" in note
    assert "chat template is none in the teacher and one of its own in the student" in note


@pytest.mark.parametrize("change", [{"pad": "a"}, {"unk": "b"}, {"template": "{{ x }}"}])
def test_other_padding_is_noted(change):
    found = reconciled(FEW, tokens(["<end>", "a", "b", "c"], eos="<end>", **change), 4, 5)
    assert found.outcome == "padded"
    assert len(found.notes) == 2


def test_a_head_that_is_too_narrow_is_refused():
    with pytest.raises(BadInput, match=r"tokenizer of the student knows the token 'c' 3, but the model has 3 logits"):
        reconciled(FEW, FEW, 4, 3)
