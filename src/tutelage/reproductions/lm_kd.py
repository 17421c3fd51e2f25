"""Ko et al., 2024, and the divergences before it: which one a small language model should be taught by, on the next token of given text."""

from __future__ import annotations

from tutelage.reproductions.harness import Arm, Difference, Reproduction
from tutelage.reproductions.harness.benches import python_sources
from tutelage.reproductions.harness.language import in_bits

TEACHER, STUDENT = "gpt:width=128,depth=4", "gpt:width=48,depth=2"
CARE = {"batch_size": 16, "clip": 1.0}
"""A batch is 2,048 bytes."""
LENGTH = {"fit": {"steps": 400, "lr": 3e-3, "warmup": 0.075, **CARE}}
WARM = Arm("the student on the text", STUDENT, "alone", knobs={"fit": {"steps": 500, "lr": 3e-3, "warmup": 0.06, **CARE}})
TRAINED = Arm("the teacher", TEACHER, "alone", knobs={"fit": {"steps": 1_250, "lr": 2e-3, "warmup": 0.025, **CARE}}, seed=0)


def taught(about: str, divergence: str) -> Arm:
    """The warm student, taught by a divergence."""
    return Arm(about, STUDENT, "lm-kd", "teacher", knobs={**LENGTH, "divergence": divergence}, start="warm")


REPRODUCTION = Reproduction(
    claim="Going on from the same weights, a small language model taught by forward KL comes nearer to its teacher than on the text alone; "
    "reverse KL comes nearer by its own measure and is surer of itself; and skew reverse KL tells the text better than reverse KL.",
    bench="Bytes of Python's standard library, split by file, windows of 128. Teacher: a causal transformer of width 128, 4 blocks, 0.88 M "
    "parameters, 1,250 updates, one for all seeds. Students: width 48, 2 blocks, 0.09 M parameters; each seed trains one on the text for "
    "500 updates, and all arms go on from it for 400, at one learning rate. Measured on 24,576 bytes of held-out files.",
    data=python_sources,
    measured=in_bits,
    fixtures={
        "teacher": TRAINED,
        "warm": WARM,
    },
    arms={
        "teacher": Arm("the teacher as it is", fixture="teacher"),
        "text": Arm("on the text alone", STUDENT, "lm-kd", "teacher", knobs={**LENGTH, "alpha": 0.0}, start="warm"),
        "forward": taught("KL(teacher || student)", "forward"),
        "reverse": taught("KL(student || teacher)", "reverse"),
        "jsd": taught("Jensen-Shannon, both sides alike", "jsd"),
        "skew": taught("KL(teacher || mixture), a tenth of it the teacher's", "skew"),
        "skew-reverse": taught("KL(student || mixture), a tenth of it the student's", "skew-reverse"),
    },
    predictions=[
        Difference("forward kl", "forward", "text", lower=True, matters=0.01),
        Difference("reverse kl", "reverse", "forward", lower=True, matters=0.01),
        Difference("entropy", "reverse", "forward", lower=True, matters=0.01),
        Difference("bits", "skew-reverse", "reverse", lower=True, matters=0.01),
    ],
    reported=("bits", "forward kl", "reverse kl", "entropy"),
    seeds=5,
    minutes=10,
)
