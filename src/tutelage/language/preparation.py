"""From dialogues to lessons for one tokenizer: each split is rendered, split into tokens once, and padded or packed."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence
from typing import Any

from tutelage.data import Data, Source
from tutelage.errors import BadInput
from tutelage.language.chat import OWN, Control, Learn, Script
from tutelage.language.dialogues import Dialogues, as_dialogues, from_rows
from tutelage.language.encoding import Encoder
from tutelage.language.lessons import Cut, Lessons, Padding, Text, check_layout
from tutelage.language.packing import Packing
from tutelage.language.progress import tracked


def lessons(
    given: Any,
    tokenizer: Any,
    *,
    length: int = 512,
    packing: Packing = "none",
    padding: Padding = "longest",
    cut: Cut = "end",
    learn: Learn = "responses",
    template: str = OWN,
    control: Control = "text",
    vocabulary: int | None = None,
    quiet: bool = True,
) -> Data:
    """Make lessons of dialogues, for one tokenizer.

    Args:
        given: `Data` of dialogues (or of tables with messages, a prompt and its response, or text), or rows as in `from_rows`.
        tokenizer: Hugging Face's interface; teacher and student share it.
        length: most tokens of a sample.
        packing: "none" (a sample is a dialogue), or windows of `length` tokens that hold several, filled "in-order" or by "first-fit".
        padding: to the longest sample of a batch, or to `length`.
        cut: where a dialogue that is longer loses tokens, at its end or its start. Packed running text is cut into windows and loses none.
        learn: the tokens of all answers ("responses"), of each dialogue's last one ("last"), or all; of running text always all.
        template: how messages become text, see `Script`: the tokenizer's own, "joined", "turns", or a file with a Jinja template.
        control: names of control tokens in the rows are plain "text", or "tokens", for rows that were rendered before.
        vocabulary: how many tokens the model knows; None where that is not known yet.
        quiet: whether to show no progress.

    Returns:
        Data of the same splits; `remarks_on` says what was cut and left out.

    Raises:
        BadInput: a choice that is none, a tokenizer that lacks a chat template or an end where one is needed, a template that fails, a
            token that the model does not know, or nothing to learn.
        MissingFile: no such template.
    """
    check_layout(length, packing, padding, cut)
    script = Script(tokenizer, template, learn, control)
    encoder = Encoder(script)
    data = given if isinstance(given, Data) else from_rows(given)
    layout: dict[str, Any] = {"length": length, "packing": packing, "padding": padding, "cut": cut, "pad": _pad(tokenizer)}
    made: dict[str, Lessons] = {}
    first = 0
    for split in ("train", "validation", "test"):
        source: Source | None = getattr(data, split)
        if source is None:
            continue
        said = as_dialogues(source)
        texts, counts, stop = _texts(said, encoder, quiet)
        if split == "train":
            counts = Counter({f"rows dropped, since each {lack}": n for lack, n in said.dropped.items()}) + counts
        made[split] = Lessons(texts, **layout, name=said.name, first=first, counts=counts, stop=stop)
        _known(made[split], vocabulary)
        first += len(made[split]) if packing != "none" else 0  # no two windows of all splits have one number
    prepared = {"kind": "lessons", "length": length, "packing": packing, "learn": learn, "template": template, "control": control}
    return dataclasses.replace(
        data, train=made["train"], validation=made.get("validation"), test=made.get("test"), classes=(), prepared=prepared
    )


def remarks_on(data: Data) -> list[str]:
    """What a user should know of how lessons came about, in sentences: rows that were dropped, how chats were read, what was cut."""
    made = [source for source in (data.train, data.validation, data.test) if isinstance(source, Lessons)]
    counts: Counter[str] = sum((Counter(source.counts) for source in made), Counter())
    return [*(f"{data.name}: {what}: {count:,}" for what, count in counts.items()), *(r for source in made for r in source.remarks())]


def _texts(source: Dialogues, encoder: Encoder, quiet: bool) -> tuple[list[Text], Counter[str], set[int]]:
    """The tokens of each dialogue, what is to be said of how they were made, and the tokens that end answers: that of the sequence, and
    the control tokens that stand at the end of what is learnt.
    """
    script, counts = encoder.script, Counter[str]()
    control = {script.tokenizer.convert_tokens_to_ids(name) for name in script.named}
    stop = {script.tokenizer.eos_token_id} - {None}
    dialogues, ids = source.dialogues, source.ids().tolist()
    encoded = tracked(encoder.encoded(dialogues, source.name), len(dialogues), f"splitting {source.name} into tokens", not quiet)
    made: list[Text] = []
    how = "joined with their responses as they are, since the tokenizer has no chat template"
    how = how if script.source is None else "rendered with their responses by the chat template"
    read = "plain text (control=tokens reads them as tokens)" if script.control == "text" else "tokens"
    for dialogue, id, (tokens, learnt, ends) in zip(dialogues, ids, encoded, strict=True):
        made.append(Text(tokens, learnt, id, running=dialogue.kind == "text"))
        stop |= {int(t) for t in tokens[learnt][-1:]} & control
        if dialogue.kind == "pair" and script.template == OWN:
            counts[f"prompts {how}"] += 1
        if script.names_control(dialogue):
            counts[f"dialogues that hold names of control tokens, read as {read}"] += 1
        if not ends:
            counts["dialogues whose last answer no control token ends, so that a student may not learn to stop"] += 1
    return made, counts, stop


def _known(made: Lessons, vocabulary: int | None) -> None:
    if vocabulary is not None and made.largest >= vocabulary:
        raise BadInput(
            f"{made.name} holds the token {made.largest}, but the model knows {vocabulary:,} tokens, counted from 0; "
            "give the tokenizer that it was trained with"
        )


def _pad(tokenizer: Any) -> int:
    known: Sequence[int | None] = (tokenizer.pad_token_id, tokenizer.eos_token_id)
    return next((i for i in known if i is not None), 0)
