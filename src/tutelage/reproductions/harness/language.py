"""What is measured of a language model: how well it tells the next token, and how far it is from its teacher."""

from __future__ import annotations

import math
from collections.abc import Mapping

from tutelage.evaluation.language import measure_tokens, told
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
