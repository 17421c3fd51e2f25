"""Shen, Yang and Lam, 2023: smooth experts and a steadier inner loop make better condensed images than plain trajectory matching."""

from __future__ import annotations

from tutelage.reproductions.harness import Arm, Difference, Reproduction
from tutelage.reproductions.harness.condensing import BENCH, JUDGED, NET, OTHER, SHORT, measured, studied, taken

UNSEEN = f"of an unseen {OTHER.partition(':')[0]}"

REPRODUCTION = Reproduction(
    claim="With the extras of the paper nets learn more from one condensed image a class than from one by plain trajectory matching, or "
    "from one by the same extras but experts that are strong without being smooth.",
    bench=BENCH + "Experts of the second and third kind: momentum 0.9 and weight decay. " + JUDGED,
    data=studied,
    measured=measured,
    arms={
        "k-means": taken("k-means"),
        "mtt": Arm("plain trajectory matching, from random images", NET, "mtt", knobs={**SHORT, "start": "random"}),
        "mtt from k-means": Arm("the same from images near the centres of clusters", NET, "mtt", knobs={**SHORT, "start": "k-means"}),
        "rough experts": Arm("all extras, but no clipping and no penalty", NET, "ast", knobs={**SHORT, "clipping": 1.0, "penalty": 0.0}),
        "ast": Arm("smooth experts and all extras", NET, "ast", knobs=SHORT),
    },
    predictions=[
        Difference("accuracy", "ast", "mtt", matters=0.02),
        Difference("accuracy", "ast", "rough experts", matters=0.02),
    ],
    reported=("accuracy", UNSEEN),
    seeds=5,
    prefix=30,  # fewer, and experts would leave no way to follow
    minutes=13,
)
