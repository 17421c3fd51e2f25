"""Small tokenizers, made on the spot, and chat templates of the kinds that models come with."""

from __future__ import annotations

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

START, END, EOS = "<|im_start|>", "<|im_end|>", "<|end|>"

CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
"""Most chat models: headers, a token that ends each turn, a prompt for generation."""

SILENT = "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}{% endfor %}"
"""The same, but it ignores add_generation_prompt."""

INSTRUCT = (
    "{% for message in messages %}{% if message['role'] == 'user' %}{{ '[INST] ' + message['content'] | trim + ' [/INST]' }}"
    "{% else %}{{ ' ' + message['content'] | trim + ' <|end|>' }}{% endif %}{% endfor %}"
)
"""As the second Llama: no header before an answer, a space on either side of it."""

CLOSING = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% else %}{{ eos_token }}{% endif %}"
)
"""As the third Phi: the end of the sequence follows the last turn, so that what is rendered up to an earlier one is no prefix."""

THINKING = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' }}"
    "{% if message['role'] == 'assistant' and loop.last %}{{ '(thinks)\n' }}{% endif %}"
    "{{ message['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
"""As the third Qwen: only the last answer is rendered with its thoughts."""

MARKED = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' }}{% if message['role'] == 'assistant' %}"
    "{% generation %}{{ message['content'] + '<|im_end|>' }}{% endgeneration %}{% else %}{{ message['content'] + '<|im_end|>' }}{% endif %}"
    "{{ '\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
"""Marks what the assistant says."""

FAILING = "{{ raise_exception('roles must alternate') }}"


def letters(
    template: str | None = CHATML, *, merges: list[tuple[str, str]] | None = None, bos: bool = False, **special
) -> PreTrainedTokenizerFast:
    """A token for each byte, for each of `merges` (in the alphabet of such tokenizers: "Ġ" space, "Ċ" newline), and for control."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = [*alphabet, *("".join(pair) for pair in merges or [])]
    made = Tokenizer(models.BPE(vocab={w: i for i, w in enumerate(words)}, merges=merges or []))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in (START, END, EOS, "<s>")])
    if bos:
        made.post_processor = processors.TemplateProcessing(
            single="<s> $A", pair="<s> $A $B", special_tokens=[("<s>", made.token_to_id("<s>"))]
        )
    named = {"eos_token": EOS, "pad_token": EOS} | ({"bos_token": "<s>"} if bos else {}) | special
    found = PreTrainedTokenizerFast(tokenizer_object=made, **{k: v for k, v in named.items() if v is not None})
    found.chat_template = template
    return found


def words(*vocabulary: str, template: str | None = None) -> PreTrainedTokenizerFast:
    """A token for each word of a list, white space forgotten."""
    known = ["<unk>", EOS, START, END, *vocabulary]
    made = Tokenizer(models.WordLevel({w: i for i, w in enumerate(known)}, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in (EOS, START, END)])
    found = PreTrainedTokenizerFast(tokenizer_object=made, unk_token="<unk>", eos_token=EOS)
    found.chat_template = template
    return found


def pieces(template: str | None = CHATML, *, scheme: str = "first", **special) -> PreTrainedTokenizerFast:
    """A token for each letter, spaces as "▁", and one put before a text that has none, as the tokenizers of the Llama family do."""
    alphabet = ["▁", "\n", *(chr(i) for i in range(33, 127))]
    made = Tokenizer(models.BPE(vocab={w: i for i, w in enumerate(["<unk>", *alphabet])}, merges=[], unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme, split=False)
    made.decoder = decoders.Metaspace(prepend_scheme=scheme)
    made.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in (START, END, EOS)])
    found = PreTrainedTokenizerFast(tokenizer_object=made, unk_token="<unk>", eos_token=EOS)
    found.chat_template = template
    return found
