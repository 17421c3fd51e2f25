"""What is measured of a language model: how well it tells the next token, and how far it is from its teacher."""

from __future__ import annotations

import math
from collections.abc import Mapping

from tutelage.evaluation.language import measure_tokens, told
from tutelage.language.free_running import answers, measure_own_text
from tutelage.language.sampling import Sampling
from tutelage.reproductions.harness.benches import ANSWER
from tutelage.reproductions.harness.design import Made


def in_bits(made: Made) -> Mapping[str, float]:
    """`bits` a token and `entropy` in nats a token; where there is a teacher its `forward kl` and `reverse kl` in nats a token.

    The means run over all tokens that have a label. forward is KL(teacher || student).
    """
    assert made.data.test is not None
    there = {"student": made.product} | ({} if made.teacher is None else {"teacher": made.teacher})
    said = told(there, made.data.test, reference=None if made.teacher is None else "teacher")
    found = measure_tokens(said["student"])
    also = {} if made.teacher is None else {"forward kl": found["forward_kl"], "reverse kl": found["reverse_kl"]}
    return {"bits": found["nll"] / math.log(2), "entropy": found["entropy"], **also}


def freely(made: Made) -> Mapping[str, float]:
    """The numbers of `in_bits`; and of what the model writes itself after the prompts of the test, drawn at temperature 1, where it has a
    teacher: `own forward kl` and `own reverse kl` to it after what the model wrote, and `gap`, by how much the former exceeds `forward kl`,
    which is that on given text; `sequence kl`, an estimate of KL(model || teacher) of whole texts, all four in nats a token; `teacher
    bits`, what the teacher makes of the text, in bits a token. See `language.free_running`. All arms of a seed draw by the same numbers.
    """
    found = dict(in_bits(made))
    if made.teacher is None:
        return found
    assert made.data.test is not None
    written = answers(made.product, made.data.test, Sampling(ANSWER), at_once=128)
    own = measure_own_text(made.product, made.teacher, written, masked=False)
    found |= {f"own {name.replace('_', ' ')}": own[name] for name in ("forward_kl", "reverse_kl")}
    found["gap"] = own["forward_kl"] - found["forward kl"]
    return {**found, "sequence kl": own["sequence_kl"], "teacher bits": own["teacher_nll"] / math.log(2)}
