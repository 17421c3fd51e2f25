"""Whether teacher and student mean the same tokens by their logits: equal, equal but for padding, or different. Shapes: V tokens."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor

from tutelage.errors import BadInput, printable

SHOWN = 3
"""Tokens that a message names."""

ROLES = ("bos", "eos", "pad", "unk")
DECISIVE = ("bos", "eos")
"""Where texts begin and end decides what is learnt; padding is never learnt, and what is unknown never occurs twice alike."""


@dataclass(frozen=True)
class Vocabulary:
    """What two models have in common.

    Args:
        size: logits that both have and that mean the same tokens.
        outcome: "equal", or "padded" where one of them has more.
        notes: what a user should know, in sentences.
    """

    size: int
    outcome: Literal["equal", "padded"]
    notes: tuple[str, ...] = ()

    def common(self, logits: Tensor) -> Tensor:
        """The logits that both have, (..., V) to (..., size)."""
        return logits if logits.shape[-1] == self.size else logits[..., : self.size]


def reconciled(
    teacher: Any,
    student: Any,
    teacher_width: int,
    student_width: int,
    *,
    names: tuple[str, str] = ("the teacher", "the student"),
    ends: Literal["refuse", "note"] = "refuse",
) -> Vocabulary:
    """Compare the vocabularies of two models.

    Heads are often wider than their tokenizer knows tokens, rounded up to what computes fast; the rows beyond stand for nothing, and where
    two models were rounded otherwise, both are cut to the smaller.

    Args:
        teacher: its tokenizer, Hugging Face's interface.
        student: its tokenizer.
        teacher_width: logits that it gives.
        student_width: logits that it gives.
        names: how messages call the two.
        ends: what becomes of two that share all tokens but begin or end texts with others: refused, or noted.

    Raises:
        BadInput: a head narrower than its tokenizer, or vocabularies that differ; names what is missing and what stands elsewhere.
    """
    own, other = teacher.get_vocab(), student.get_vocab()
    for name, known, width in ((names[0], own, teacher_width), (names[1], other, student_width)):
        most = max(known.values(), default=-1)
        if most >= width:
            last = next(t for t, i in known.items() if i == most)
            raise BadInput(
                f"the tokenizer of {name} knows the token {_shown(last, most)}, but the model has {width:,} logits, counted from 0; "
                "give the tokenizer that it was trained with"
            )
    special = _special(teacher, student)
    if own != other:
        raise BadInput(_differ(own, other, special, names))
    said = [f"{role} is {a} in {names[0]} and {b} in {names[1]}" for role, (a, b) in special.items()]
    if ends == "refuse" and set(special) & set(DECISIVE):
        raise BadInput(
            f"{names[0]} and {names[1]} know the same {len(own):,} tokens but use other special tokens: {', '.join(said)}; "
            "give both one tokenizer (tokenizer=FOLDER), that of the model whose texts are studied"
        )
    notes = [f"special tokens differ: {', '.join(said)}; those of the tokenizer that reads the data count"] if said else []
    if teacher_width == student_width:
        return Vocabulary(teacher_width, "equal", tuple(notes))
    size = min(teacher_width, student_width)
    wider = names[teacher_width < student_width]
    notes.insert(
        0,
        f"{names[0]} has {teacher_width:,} logits, {names[1]} {student_width:,}, and their tokenizers are equal: the last "
        f"{max(teacher_width, student_width) - size:,} of {wider} are padding and are dropped",
    )
    return Vocabulary(size, "padded", tuple(notes))


def _special(teacher: Any, student: Any) -> dict[str, tuple[str, str]]:
    """Special tokens that are not the same, by role: what each has."""
    found = {}
    for role in ROLES:
        sides = [(getattr(t, f"{role}_token", None), getattr(t, f"{role}_token_id", None)) for t in (teacher, student)]
        if sides[0] != sides[1]:
            found[role] = (_called(*sides[0]), _called(*sides[1]))
    templates = [getattr(t, "chat_template", None) for t in (teacher, student)]
    if templates[0] != templates[1]:
        said = [("none" if t is None else "one of its own") for t in templates]
        found["chat template"] = (said[0], said[1] if said[0] != said[1] or said[0] == "none" else "another")
    return found


def _differ(own: Mapping[str, int], other: Mapping[str, int], special: Mapping[str, tuple[str, str]], names: tuple[str, str]) -> str:
    said = []
    for known, lacking, name in ((own, other, names[1]), (other, own, names[0])):
        missing = sorted((i, t) for t, i in known.items() if t not in lacking)
        if missing:
            some = ", ".join(_shown(t, i) for i, t in missing[:SHOWN])
            said.append(f"{name} lacks {len(missing):,} tokens ({some}{', ...' if len(missing) > SHOWN else ''})")
    moved = sorted((i, t) for t, i in own.items() if t in other and other[t] != i)
    if moved:
        some = ", ".join(f"{_shown(t, i)} and {other[t]}" for i, t in moved[:SHOWN])
        said.append(f"{len(moved):,} tokens have other ids ({some}{', ...' if len(moved) > SHOWN else ''})")
    apart = [f"{role} is {a} and {b}" for role, (a, b) in special.items() if role != "chat template"]
    if apart:
        said.append(f"special tokens differ ({', '.join(apart)})")
    return (
        f"the vocabularies of {names[0]} ({len(own):,} tokens) and {names[1]} ({len(other):,}) differ: {'; '.join(said)}; "
        "their logits do not speak of the same tokens, so give models of one family, or train a student from scratch with the "
        "teacher's tokenizer (tokenizer=FOLDER)"
    )


def _shown(token: Any, id: int) -> str:
    return f"{printable(str(token))[:30]!r} {id}"


def _called(token: Any, id: int | None) -> str:
    return "none" if token is None or id is None else _shown(token, id)
