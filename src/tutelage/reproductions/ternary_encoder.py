"""Kim et al., 2023, on a real encoder: ternary MiniLM is better after a short training if it saw its teacher's attention at first."""

from __future__ import annotations

from tutelage.data import Data
from tutelage.reproductions.harness import Arm, Difference, Reproduction, each_try
from tutelage.reproductions.harness.reuters import MINILM, reuters

NET = f"hf:{MINILM}:max_length=24,hidden_dropout_prob=0.0,attention_probs_dropout_prob=0.0"
UPDATES, LENT = 60, 12
TAUGHT = {"steps": 60, "batch_size": 32, "lr": 2e-4, "warmup": 0.1}
RATES = each_try(**{"fit.lr": (1e-4, 3e-4)})


def studied(seed: int) -> Data:
    """1,000 texts, and fewer to measure on than there are: this encoder is slow on two cores."""
    return reuters(seed, 1_000, purpose="ternary-encoder", validation=300, test=800)


def _arm(schedule: str, about: str) -> Arm:
    fit = {"steps": UPDATES, "epochs": None, "batch_size": 32}
    knobs = {"levels": "ternary", "schedule": schedule, "steps": LENT, "fit": fit}
    return Arm(f"ternary weights, {UPDATES} updates {about}", NET, "teacher-intervention", "teacher", knobs=knobs, tries=RATES)


REPRODUCTION = Reproduction(
    recipe="teacher-intervention",
    claim="A real encoder whose weights are made ternary is right more often after a short training if the first updates were made with "
    "its teacher's attention.",
    bench="Teacher: all-MiniLM-L6-v2 (6 layers, width 384), 60 updates of 32 on 1,000 texts of Reuters R8, the first 24 tokens of each. "
    f"Students: its weights made ternary over 8-bit activations, {UPDATES} updates, {LENT} of them with interventions or none. Each seed "
    "cuts its own texts and trains its own teacher; 800 texts of the set's own test texts are for all.",
    data=studied,
    fixtures={"teacher": Arm("the teacher", NET, "alone", knobs={"fit": TAUGHT})},
    arms={
        "teacher": Arm("the teacher as it is, in full precision", fixture="teacher"),
        "plain": _arm("none", "by itself"),
        "intervened": _arm("gradual", "at first with the teacher's attention"),
    },
    predictions=[Difference("accuracy", "intervened", "plain", matters=0.005)],
    reported=("accuracy", "nll", "agreement"),
    seeds=5,
    minutes=20,
    prefix=2,
)
