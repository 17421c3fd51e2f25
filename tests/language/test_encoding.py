"""Tokens are those that the tokenizer itself makes, but where one would reach from the prompt into the answer."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import processors
from transformers import ByT5Tokenizer

import tiny_tokenizers as tiny
from tutelage.errors import BadInput
from tutelage.language import LINES, Dialogue, Script
from tutelage.language.encoding import CHUNK, Encoder

CHAT = Dialogue("chat", (("user", "wörld 😀"), ("assistant", "first"), ("user", "two"), ("assistant", "\nsecond")))


def split(dialogue, tokenizer, **options):
    """The ids, and those of them that are learnt."""
    ((ids, learnt, _),) = Encoder(Script(tokenizer, **options)).encoded([dialogue], "data")
    assert ids.dtype == np.int32
    assert learnt.dtype == bool
    assert len(ids) == len(learnt)
    return ids.tolist(), ids[learnt].tolist()


def own(dialogue, tokenizer):
    """What the tokenizer makes of it by itself."""
    messages = [{"role": r, "content": c} for r, c in dialogue.messages]
    return list(tokenizer.apply_chat_template(messages, tokenize=True, return_dict=True)["input_ids"])


@pytest.mark.parametrize("template", [tiny.CHATML, tiny.MARKED, tiny.CLOSING])
def test_a_chat_has_the_tokens_that_the_tokenizer_gives_it(template):
    tokenizer = tiny.letters(template)
    ids, learnt = split(CHAT, tokenizer)
    assert ids == own(CHAT, tokenizer)
    assert tokenizer.decode(learnt) == "first<|im_end|>\nsecond<|im_end|>"
    end = tokenizer.convert_tokens_to_ids(tiny.END)
    assert learnt.count(end) == 2


def test_marks_agree_with_the_mask_that_transformers_makes():
    tokenizer = tiny.letters(tiny.MARKED)
    messages = [{"role": r, "content": c} for r, c in CHAT.messages]
    theirs = tokenizer.apply_chat_template(messages, tokenize=True, return_dict=True, return_assistant_tokens_mask=True)
    ((ids, learnt, _),) = Encoder(Script(tokenizer)).encoded([CHAT], "data")
    assert ids.tolist() == list(theirs["input_ids"])
    assert learnt.astype(int).tolist() == list(theirs["assistant_masks"])


def test_a_token_that_reaches_from_the_prompt_into_the_answer_is_cut():
    """The model that continues the prompt meets the prompt's own tokens, never one that holds half of the answer."""
    tokenizer = tiny.letters(tiny.CHATML, merges=[("Ċ", "Ċ"), ("f", "i")])
    both, fi = tokenizer.convert_tokens_to_ids("ĊĊ"), tokenizer.convert_tokens_to_ids("fi")
    assert both in own(CHAT, tokenizer)
    ids, learnt = split(CHAT, tokenizer)
    assert both not in ids
    assert fi in learnt
    assert tokenizer.decode(ids) == tokenizer.decode(own(CHAT, tokenizer))
    assert tokenizer.decode(learnt) == "first<|im_end|>\nsecond<|im_end|>"
    messages = [{"role": r, "content": c} for r, c in CHAT.messages]
    prompt = tokenizer.apply_chat_template(messages[:3], add_generation_prompt=True, return_dict=True)["input_ids"]
    assert ids[: len(prompt)] == list(prompt)


def test_a_pair_is_cut_at_its_border():
    tokenizer = tiny.letters(None, merges=[("a", "b")])
    ids, learnt = split(Dialogue("pair", (("user", "xa"), ("assistant", "bab"))), tokenizer)
    assert [tokenizer.decode([i]) for i in ids] == ["x", "a", "b", "ab", tiny.EOS]
    assert [tokenizer.decode([i]) for i in learnt] == ["b", "ab", tiny.EOS]


def test_a_tokenizer_that_leaves_spaces_out_of_what_it_says_of_places_is_cut_too():
    """A token " b" that is said to stand on "b" alone would hide that it begins in the prompt."""
    tokenizer = tiny.letters(None, merges=[("Ġ", "b")])
    tokenizer._tokenizer.post_processor = processors.ByteLevel(trim_offsets=True)
    assert tokenizer("a b", return_offsets_mapping=True)["offset_mapping"] == [(0, 1), (2, 3)]
    ids, learnt = split(Dialogue("pair", (("user", "a "), ("assistant", "b b"))), tokenizer)
    assert [tokenizer.decode([i]) for i in ids] == ["a", " ", "b", " b", tiny.EOS]
    assert [tokenizer.decode([i]) for i in learnt] == ["b", " b", tiny.EOS]


def test_names_of_control_tokens_stay_text():
    """A user who writes the end of a turn must not end it."""
    said = f"a {tiny.END}{tiny.START} b{tiny.EOS}"
    chat = Dialogue("chat", (("user", said), ("assistant", said)))
    tokenizer = tiny.letters()
    ids, learnt = split(chat, tokenizer)
    start, end, eos = map(tokenizer.convert_tokens_to_ids, (tiny.START, tiny.END, tiny.EOS))
    assert [ids.count(i) for i in (start, end, eos)] == [2, 2, 0]
    assert learnt.count(end) == 1
    assert tokenizer.decode(learnt) == said + tiny.END
    read, known = split(chat, tokenizer, control="tokens")
    assert [read.count(i) for i in (start, end, eos)] == [4, 4, 2]
    assert read == own(chat, tokenizer)
    assert known.count(end) == 2


@pytest.mark.parametrize("bos", [False, True])
@pytest.mark.parametrize("kind", ["text", "pair"])
def test_the_beginning_and_the_end_are_added_once(bos, kind):
    tokenizer = tiny.letters(None, bos=bos)
    said = (("text", "once"),) if kind == "text" else (("user", "on"), ("assistant", "ce"))
    first, last = tokenizer.convert_tokens_to_ids("<s>"), tokenizer.eos_token_id
    ids, learnt = split(Dialogue(kind, said), tokenizer)
    assert tokenizer.decode(ids) == ("<s>" if bos else "") + "once" + tiny.EOS
    assert learnt[-1] == last
    assert first not in learnt
    # rendered before: both are there already
    said = (*said[:-1], (said[-1][0], said[-1][1] + tiny.EOS))
    said = ((said[0][0], ("<s>" if bos else "") + said[0][1]), *said[1:])
    again, known = split(Dialogue(kind, said), tokenizer, control="tokens")
    assert again == ids
    assert known[-len(learnt) :] == learnt


def test_a_chat_template_has_its_own_beginning():
    tokenizer = tiny.letters("{{ bos_token }}" + tiny.CHATML, bos=True)
    ids, _ = split(CHAT, tokenizer)
    assert ids.count(tokenizer.bos_token_id) == 1
    assert tokenizer.eos_token_id not in ids
    ids, _ = split(CHAT, tokenizer, template="turns")
    assert ids.count(tokenizer.bos_token_id) == 1
    assert ids[0] == tokenizer.bos_token_id
    assert ids.count(tokenizer.eos_token_id) == 2


def test_a_tokenizer_that_forgets_white_space_is_read_too():
    tokenizer = tiny.words("user", "assistant", "one", "first", "two", "second", template=tiny.CHATML)
    chat = Dialogue("chat", (("user", "one"), ("assistant", "first"), ("user", "two"), ("assistant", " second ")))
    ids, learnt = split(chat, tokenizer)
    assert ids == own(chat, tokenizer)
    assert tokenizer.convert_ids_to_tokens(learnt) == ["first", tiny.END, "second", tiny.END]


def test_a_tokenizer_that_does_not_say_where_tokens_stand_is_read_too():
    """Those written in Python give no offsets; the text is then cut at each border."""
    tokenizer = ByT5Tokenizer(extra_ids=0)
    assert not tokenizer.is_fast
    chat = Dialogue("chat", (("user", "hé </s> you"), ("assistant", "first"), ("user", "two"), ("assistant", " second")))
    ids, learnt = split(chat, tokenizer, template="turns")
    assert ids.count(tokenizer.eos_token_id) == 2
    assert tokenizer.decode(learnt) == " first</s>  second</s>"
    assert tokenizer.decode(ids) == "User: hé </s> you\nAssistant: first</s>\nUser: two\nAssistant:  second</s>\n"


def test_many_dialogues_come_out_in_their_order():
    tokenizer = tiny.letters()
    many = [Dialogue("chat", (("user", f"ask {i}"), ("assistant", f"<|im_end|> {i}" if i % 3 else f"{i}"))) for i in range(CHUNK + 7)]
    together = list(Encoder(Script(tokenizer)).encoded(many, "data"))
    assert len(together) == len(many)
    for dialogue, (ids, learnt, _) in zip(many, together, strict=True):
        assert (ids.tolist(), ids[learnt].tolist()) == split(dialogue, tokenizer)


def test_a_dialogue_that_cannot_be_rendered_is_named():
    many = [Dialogue("text", (("text", "a"),))] * (CHUNK + 2) + [CHAT]
    with pytest.raises(BadInput, match=rf"dialogue {CHUNK + 3:,} of data: it is a chat"):
        list(Encoder(Script(tiny.letters(None))).encoded(many, "data"))


def test_an_end_is_needed_where_no_template_has_one():
    tokenizer = tiny.letters(eos_token=None, pad_token=None)
    for dialogue, options in ((Dialogue("text", (("text", "a"),)), {}), (CHAT, {"template": "turns"})):
        with pytest.raises(BadInput, match=r"no end-of-sequence token.*eos_token"):
            split(dialogue, tokenizer, **options)
    assert split(CHAT, tokenizer)[0] == own(CHAT, tokenizer)


def test_no_space_is_put_where_a_text_is_cut():
    """Some tokenizers begin each text with a space; in the middle of one it would be a token that nobody wrote."""
    tokenizer = tiny.pieces()
    chat = Dialogue("chat", (("user", f"ab{tiny.END}cd"), ("assistant", "e f")))
    ids, learnt = split(chat, tokenizer)
    shown = "".join(tokenizer.convert_ids_to_tokens(ids))
    assert shown == f"{tiny.START}user\nab{tiny.END}cd{tiny.END}\n{tiny.START}assistant\ne▁f{tiny.END}\n"
    assert "".join(tokenizer.convert_ids_to_tokens(learnt)) == f"e▁f{tiny.END}"
    ids, _ = split(Dialogue("chat", (("user", "ab"), ("assistant", "e"))), tiny.pieces(tiny.INSTRUCT))
    assert "".join(tokenizer.convert_ids_to_tokens(ids)) == f"▁[INST]▁ab▁[/INST]▁e▁{tiny.EOS}"


SAID = st.lists(
    st.sampled_from([tiny.START, tiny.END, tiny.EOS, "<|im_", "end|>", " ", "\n", "a", "ab", "é😀", "user", "assistant\n", "\ue000"]),
    min_size=1,
)
TEMPLATES = [tiny.CHATML, tiny.MARKED, tiny.CLOSING, LINES, tiny.SILENT]


@settings(deadline=None)
@given(st.lists(SAID.map("".join).filter(str.strip), min_size=4, max_size=4), st.sampled_from(TEMPLATES))
def test_whatever_is_said_the_tokens_spell_it_and_the_answers_are_learnt(said, template):
    """However odd a dialogue is: its text comes out whole, its control tokens are the template's, the answers and their ends are learnt."""
    chat = Dialogue("chat", tuple(zip(("user", "assistant") * 2, said, strict=True)))
    script = Script(JOINING, template)
    ((ids, learnt, _),) = Encoder(script).encoded([chat], "data")
    plain = JOINING.apply_chat_template([{"role": r, "content": c} for r, c in chat.messages], chat_template=template, tokenize=False)
    assert JOINING.decode(ids, clean_up_tokenization_spaces=False) == plain
    control = [JOINING.convert_tokens_to_ids(t) for t in (tiny.START, tiny.END, tiny.EOS)]
    empty = JOINING.apply_chat_template([{"role": r, "content": "x"} for r, _ in chat.messages], chat_template=template, tokenize=False)
    assert [i for i in ids.tolist() if i in control] == [i for i in JOINING(empty)["input_ids"] if i in control]
    end, lead = (tiny.EOS, " ") if template == LINES else (tiny.END, "")
    answers = [s.lstrip() if template == tiny.SILENT else s for s in (said[1], said[3])]  # which has no other sign where one begins
    assert JOINING.decode(ids[learnt], clean_up_tokenization_spaces=False) == "".join(f"{lead}{a}{end}" for a in answers)


JOINING = tiny.letters(merges=[("Ċ", "Ċ"), ("a", "b"), ("Ġ", "a"), ("Ċ", "a"), (">", "Ċ")])
