"""Cazenavette et al., 2022: nets that learn from images made by matching trajectories beat those that learn from as many real ones."""

from __future__ import annotations

from tutelage.reproductions.harness import Arm, Difference, Reproduction
from tutelage.reproductions.harness.condensing import BENCH, JUDGED, NET, OTHER, SHORT, measured, studied, taken

UNSEEN = f"of an unseen {OTHER.partition(':')[0]}"

REPRODUCTION = Reproduction(
    claim="Nets that learn from one condensed image a class are right more often than nets that learn from one real image a class, be it "
    "drawn at random or the nearest to the centre of its class; also nets of a kind that had no part in the condensing.",
    bench=BENCH + JUDGED,
    data=studied,
    measured=measured,
    arms={
        "random": taken("random"),
        "k-means": taken("k-means"),
        "mtt": Arm("images that match trajectories", NET, "mtt", knobs={**SHORT, "start": "random"}),
        "all": taken("all"),
    },
    predictions=[
        Difference("accuracy", "mtt", "random", matters=0.02),
        Difference("accuracy", "mtt", "k-means", matters=0.02),
        Difference(UNSEEN, "mtt", "random", matters=0.02),
    ],
    reported=("accuracy", UNSEEN),
    seeds=5,
    prefix=30,  # fewer, and experts would leave no way to follow
    minutes=7,
)
