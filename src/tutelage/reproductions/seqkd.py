"""Kim & Rush, 2016: what a teacher wrote teaches a small student more than as much of the text that the teacher learnt from."""

from __future__ import annotations

import functools

from tutelage.reproductions.gkd import FIXTURES, STUDENT
from tutelage.reproductions.harness import Arm, Difference, Reproduction
from tutelage.reproductions.harness.benches import ANSWER, python_prompts
from tutelage.reproductions.harness.language import freely
from tutelage.reproductions.lm_kd import CARE

FIT = {"steps": 150, "lr": 1e-3, "warmup": 0.1, **CARE}
WINDOWS = 600


def studying(about: str, temperature: float) -> Arm:
    """The warm student on what the teacher wrote."""
    knobs = {"fit": FIT, "temperature": temperature, "tokens": ANSWER, "at_once": 150}
    return Arm(about, STUDENT, "seqkd", "teacher", knobs=knobs, start="warm")


REPRODUCTION = Reproduction(
    claim="Going on from the same weights, a small language model that studies what its teacher wrote after some prompts comes nearer to "
    "the teacher than on the text that was there, on given text as in what it writes itself; and where the teacher wrote what it found "
    "likeliest, the student becomes surer of itself.",
    bench="Bytes of Python's standard library, split by file, 600 windows of 65: 32 bytes are the prompt, and the 33 after them, or as "
    "many that the teacher wrote, count. Teacher and students are those of lm-kd (0.88 M and 0.09 M parameters, the students 500 updates "
    "on all of the text); all arms go on for 150 updates of 16 windows, 4 epochs, by cross entropy, at one learning rate. Each student "
    "then writes 33 bytes, drawn at temperature 1, after 384 prompts of held-out files; over these texts the teacher's likelihood is held "
    "against its own.",
    data=functools.partial(python_prompts, samples=WINDOWS),
    measured=freely,
    fixtures=FIXTURES,
    arms={
        "given": Arm("on the text that was there", STUDENT, "lm-kd", "teacher", knobs={"fit": FIT, "alpha": 0.0}, start="warm"),
        "written": studying("on what the teacher wrote, drawn from its distribution", 1.0),
        "likeliest": studying("on what the teacher wrote, always the likeliest byte", 0.0),
    },
    predictions=[
        Difference("forward kl", "written", "given", lower=True, matters=0.01),
        Difference("sequence kl", "written", "given", lower=True, matters=0.01),
        Difference("entropy", "likeliest", "written", lower=True, matters=0.01),
    ],
    reported=("forward kl", "own forward kl", "sequence kl", "teacher bits", "entropy", "bits"),
    seeds=6,
    minutes=11,
)
