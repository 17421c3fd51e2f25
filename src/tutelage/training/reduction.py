"""Reduction: means over the whole optimizer step, whatever the number of micro-batches and processes.

Each term gives a sum per micro-batch; this gives the count of the whole step. One micro-batch: counted after its pass. Several: the count
must be known before the first backward, so it is taken from the batches, in the way the dry run has shown for each term.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from tutelage.errors import BadInput
from tutelage.objectives import Objective, Term, count_of
from tutelage.signals import Batch
from tutelage.training.plan import Learner
from tutelage.training.run import Run

Counts = dict[tuple[str, str], Tensor | float]


def predicted(learners: Mapping[str, Learner], shown: Mapping[str, Mapping[str, Term]], batches: Sequence[Batch]) -> list[Counts]:
    """Count each term on each micro-batch from the batches alone.

    Args:
        learners: of the turn.
        shown: terms of the dry run, by learner and name.
        batches: the micro-batches.
    """
    return [
        {
            (name, leaf.name): _count(leaf, shown[name].get(leaf.name), batch)
            for name, learner in learners.items()
            if isinstance(learner.loss, Objective)
            for leaf in learner.loss.leaves()
        }
        for batch in batches
    ]


def _count(leaf: Objective, shown: Term | None, batch: Batch) -> Tensor | float:
    rows = float(len(batch["id"]))
    if shown is None or shown.over == "batch":
        return 1.0
    mask = leaf.mask(batch) if shown.mask is not None else None
    if mask is None or mask.ndim != shown.values.ndim:
        return rows
    return count_of(Term(leaf.name, torch.zeros(mask.shape, device=mask.device), shown.over, mask))


def agree(found: Counts, foretold: Counts) -> None:
    """Check that the counts of a micro-batch are those foretold; read off the device, so only done at a stage's first step.

    Raises:
        BadInput: a term cannot be accumulated.
    """
    for (learner, name), count in found.items():
        told = foretold.get((learner, name))
        if told is None or float(told) != float(count):
            raise BadInput(
                f"term {name!r} of learner {learner!r} counts {float(count):g} in a micro-batch where the batch itself shows "
                f"{'nothing' if told is None else format(float(told), 'g')}: its mean over the whole step is not known before the passes. "
                "Put its mask into the batch, or run without micro_batch"
            )


def whole(run: Run, counts: Sequence[Counts]) -> Counts:
    """Add the counts of all micro-batches and processes; an empty total is 1, so that a fully masked step gives 0 and not NaN."""
    totals: Counts = {}
    for each in counts:
        for key, count in each.items():
            totals[key] = totals[key] + count if key in totals else count
    if run.ranks > 1 and totals:
        stacked = torch.stack([torch.as_tensor(c, dtype=torch.float32, device=run.device) for c in totals.values()])
        totals = dict(zip(totals, run.total(stacked).unbind(), strict=True))
    return {k: torch.where(c > 0, c, torch.ones_like(c)) if isinstance(c, Tensor) else (c or 1.0) for k, c in totals.items()}
