"""Agarwal et al., 2024: a student that is taught on its own text follows its teacher better where it writes itself."""

from __future__ import annotations

from dataclasses import replace

from tutelage.reproductions.harness import Arm, Difference, Reproduction
from tutelage.reproductions.harness.benches import ANSWER, python_prompts, python_sources
from tutelage.reproductions.harness.language import freely
from tutelage.reproductions.lm_kd import CARE, TRAINED, WARM
from tutelage.reproductions.lm_kd import STUDENT as SHORT

STUDENT = f"{SHORT},context=128"
FIXTURES = {
    "teacher": replace(TRAINED, student=f"{TRAINED.student},context=128", data=python_sources),
    "warm": replace(WARM, student=STUDENT, data=python_sources),
}
"""Those of lm-kd, trained on windows of 128 bytes; they keep their context where shorter ones are studied."""
FIT = {"steps": 200, "lr": 1e-3, "warmup": 0.1, **CARE}


def taught(about: str, share: float) -> Arm:
    """The warm student, taught by forward KL on text of which it wrote a share."""
    knobs = {"fit": FIT, "divergence": "forward", "on_policy": share, "tokens": ANSWER}
    return Arm(about, STUDENT, "gkd", "teacher", knobs=knobs, start="warm")


REPRODUCTION = Reproduction(
    claim="Going on from the same weights by the same divergence, as many updates and as many tokens, a small language model that is "
    "taught on what it writes itself comes nearer to its teacher there than one that is taught on given text, and there is less of a gap "
    "between the two; half of either lies between.",
    bench="Bytes of Python's standard library, split by file, windows of 65: 32 bytes are given, and the 33 after them count. Teacher and "
    "students are those of lm-kd (0.88 M and 0.09 M parameters, the students 500 updates on the text); all arms go on for 200 updates of "
    "16 windows by forward KL, at one learning rate. Each student then writes 33 bytes, drawn at temperature 1, after 384 prompts of "
    "held-out files, and is compared with the teacher there: KL(teacher || student) after what it wrote, and, over whole texts, the "
    "teacher's likelihood against its own.",
    data=python_prompts,
    measured=freely,
    fixtures=FIXTURES,
    arms={
        "given": taught("on given text", 0.0),
        "mixed": taught("on given text and its own, half of the updates each", 0.5),
        "own": taught("on what it writes itself", 1.0),
    },
    predictions=[
        Difference("own forward kl", "own", "given", lower=True, matters=0.01),
        Difference("gap", "own", "given", lower=True, matters=0.01),
        Difference("sequence kl", "own", "given", lower=True, matters=0.01),
        Difference("own forward kl", "mixed", "given", lower=True, matters=0.01),
    ],
    reported=("own forward kl", "gap", "sequence kl", "teacher bits", "forward kl", "bits"),
    seeds=6,
    minutes=12,
)
