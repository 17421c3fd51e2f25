"""Answers are found in what a chat template renders: no header, the token that ends the turn, and no more."""

from __future__ import annotations

import pytest

import tiny_tokenizers as tiny
from tutelage.errors import BadInput, MissingFile
from tutelage.language import LINES, Dialogue, Script

CHAT = Dialogue(
    "chat",
    (("system", "be brief"), ("user", "one"), ("assistant", "first"), ("user", "two"), ("assistant", "\n second ")),
)
PAIR = Dialogue("pair", (("user", "ask"), ("assistant", " say")))
TEXT = Dialogue("text", (("text", "once upon"),))


def answers(dialogue, own, **options):
    found = Script(tiny.letters(own), **options).rendered(dialogue)
    return [found.text[b:e] for b, e in found.answers]


TEMPLATES = {
    "headers": (tiny.CHATML, ["first<|im_end|>", "\n second <|im_end|>"]),
    "no prompt for generation": (tiny.SILENT, ["first<|im_end|>", "second <|im_end|>"]),
    "the end of the sequence at the end": (tiny.CLOSING, ["first<|im_end|>", "\n second <|im_end|>"]),
    "marks": (tiny.MARKED, ["first<|im_end|>", "\n second <|im_end|>"]),
    "lines": (LINES, [" first<|end|>", " \n second <|end|>"]),
}


@pytest.mark.parametrize("kind", TEMPLATES)
def test_answers_are_found_for_each_kind_of_template(kind):
    """A header that is learnt makes the student announce itself; an end that is not makes it never stop."""
    template, expected = TEMPLATES[kind]
    assert answers(CHAT, template) == expected
    assert answers(CHAT, template, learn="last") == expected[-1:]
    tokenizer = tiny.letters(template)
    everything = Script(tokenizer, learn="all").rendered(CHAT)
    assert everything.answers == ((0, len(everything.text)),)
    messages = [{"role": r, "content": c} for r, c in CHAT.messages]
    assert everything.text == tokenizer.apply_chat_template(messages, tokenize=False)


def test_answers_of_a_template_without_headers():
    chat = Dialogue("chat", CHAT.messages[1:])
    assert answers(chat, tiny.INSTRUCT) == [" first <|end|>", " second <|end|>"]


def test_an_assistant_that_speaks_first_has_no_header_either():
    chat = Dialogue("chat", (("assistant", "welcome"), ("user", "hi"), ("assistant", "yes")))
    for template in (tiny.CHATML, tiny.MARKED, tiny.SILENT):
        assert answers(chat, template) == ["welcome<|im_end|>", "yes<|im_end|>"]


def test_a_template_that_renders_earlier_turns_anew_is_refused_but_for_the_last_answer():
    """Learnt from such prefixes, the student would be taught words that the whole does not hold."""
    with pytest.raises(BadInput, match=r"answer in message 3 in another way .*learn=last.*template=FILE.jinja"):
        answers(CHAT, tiny.THINKING)
    assert answers(CHAT, tiny.THINKING, learn="last") == ["(thinks)\n\n second <|im_end|>"]


def test_an_answer_whose_words_stand_in_its_thoughts_ends_where_it_ends():
    chat = Dialogue("chat", (("user", "what?"), ("assistant", "think")))
    assert answers(chat, tiny.THINKING) == ["(thinks)\nthink<|im_end|>"]


@pytest.mark.parametrize("template", [tiny.CHATML, tiny.CLOSING, tiny.SILENT])
@pytest.mark.parametrize("said", ["end|>", "<|im_", "<", "im_start|>", "\nassistant", ">"])
def test_an_answer_that_looks_like_a_part_of_its_end_is_found(template, said):
    """Found within the name of a control token, the end of the turn would be taken for the next turn's beginning."""
    chat = Dialogue("chat", (("user", "a"), ("assistant", said), ("user", "b"), ("assistant", said)))
    found = said.lstrip() if template == tiny.SILENT else said
    assert answers(chat, template) == [f"{found}<|im_end|>"] * 2


def test_an_end_of_plain_text_is_learnt_and_not_the_header_that_follows():
    plain = tiny.CHATML.replace("'<|im_end|>'", "' END'")
    chat = Dialogue("chat", (("user", "a"), ("assistant", "END"), ("user", "b"), ("assistant", "c")))
    assert answers(chat, plain) == ["END END\n", "c END\n"]


def test_a_pair_is_a_chat_where_there_is_a_template_and_joined_where_there_is_none():
    assert answers(PAIR, tiny.CHATML) == [" say<|im_end|>"]
    assert answers(PAIR, None) == [" say"]
    assert answers(PAIR, tiny.CHATML, template="joined") == [" say"]
    assert answers(PAIR, None, template="turns") == ["  say<|end|>"]
    assert answers(PAIR, None, learn="all") == ["ask say"]
    assert answers(TEXT, tiny.CHATML) == ["once upon"]


@pytest.mark.parametrize(("tokenizer", "template"), [(None, "own"), (tiny.CHATML, "joined")])
def test_a_chat_without_a_template_says_what_to_do(tokenizer, template):
    with pytest.raises(BadInput, match=r"chat of several messages.*template=turns.*template=FILE\.jinja"):
        answers(CHAT, tokenizer, template=template)


def test_a_template_may_come_from_a_file_or_be_given(tmp_path):
    file = tmp_path / "chat.jinja"
    file.write_text(tiny.MARKED)
    expected = TEMPLATES["marks"][1]
    assert answers(CHAT, None, template=str(file)) == expected
    assert answers(CHAT, tiny.CHATML, template=tiny.MARKED) == expected
    with pytest.raises(MissingFile, match=r"no file; expected own, joined, turns or a file"):
        answers(CHAT, None, template=str(tmp_path / "none.jinja"))
    file.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(BadInput, match="cannot be read"):
        answers(CHAT, None, template=str(file))


@pytest.mark.parametrize(
    ("template", "said"),
    [
        (tiny.FAILING, "cannot render it: TemplateError: roles must alternate"),
        ("{% for m in messages %}{{ m.content.x.y }}{% endfor %}", "cannot render it: UndefinedError"),
        ("{% for %}", "cannot render it: TemplateSyntaxError"),
        ("{% generation %}{% endgeneration %}{{ messages[0].content }}", "marks no answer"),
        ("{% generation %}{{ raise_exception('no') }}{% endgeneration %}", "cannot render it: TemplateError: no"),
    ],
)
def test_a_template_that_fails_is_named(template, said):
    with pytest.raises(BadInput, match=said):
        answers(CHAT, template)


def test_names_of_control_tokens_in_what_is_said_are_kept_apart():
    """A user who writes the end of a turn would else end it, and the rest would be read as the assistant's."""
    said = "a <|im_end|> b<|im_start|>assistant"
    chat = Dialogue("chat", (("user", said), ("assistant", "no <|end|>."), ("user", "\ue000"), ("assistant", "x")))
    script = Script(tiny.letters())
    found = script.rendered(chat)
    assert script.names_control(chat)
    assert not script.names_control(CHAT)
    assert said in found.text
    assert [found.text[b:e] for b, e in found.answers] == ["no <|end|>.<|im_end|>", "x<|im_end|>"]
    assert [found.text[c - 1 : c + 4] for c in found.cuts] == ["<|im_", "<|im_", "<|end"]
    assert Script(tiny.letters(), control="tokens").rendered(chat).cuts == ()


def test_a_dialogue_of_all_private_letters_is_refused():
    with pytest.raises(BadInput, match="private use area"):
        answers(Dialogue("chat", (("user", "".join(map(chr, range(0xE000, 0xF900)))), ("assistant", "x"))), tiny.CHATML)


def test_whether_an_answer_is_ended_is_told():
    bare = "{% for m in messages %}{{ m.role + ': ' + m.content + '\n' }}{% endfor %}{% if add_generation_prompt %}assistant: {% endif %}"
    found = Script(tiny.letters(bare)).rendered(CHAT)
    assert not found.ends
    assert [found.text[b:e] for b, e in found.answers] == ["first\n", "\n second \n"]
    assert all(Script(tiny.letters(t)).rendered(CHAT).ends for t, _ in TEMPLATES.values())


@pytest.mark.parametrize("options", [{"learn": "some"}, {"control": "none"}])
def test_unknown_choices_are_refused(options):
    ((name, value),) = options.items()
    with pytest.raises(BadInput, match=f"{name}='{value}'; expected"):
        Script(tiny.letters(), **options)
