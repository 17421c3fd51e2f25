"""Reduction: means over the whole optimizer step, whatever the number of micro-batches and processes.

Each term gives a sum per micro-batch; this gives the count of the whole step. One micro-batch: counted after its pass. Several: the count
must be known before the first backward, so it is taken from the batches, in the way the dry run has shown for each term.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from tutelage.errors import BadInput
from tutelage.objectives import Objective, Term, count_of, safe_count
from tutelage.signals import Batch
from tutelage.training.plan import Learner
from tutelage.training.run import Run
from tutelage.training.step import Step

Counts = dict[tuple[str, str], Tensor | float]
Found = Mapping[str, "list[Term] | None"]


def shown(found: Found) -> Counts:
    """The counts of a micro-batch's terms, by learner and name."""
    return {(name, term.name): count_of(term) for name, terms in found.items() for term in terms or ()}


def predicted(learners: Mapping[str, Learner], rehearsed: Mapping[str, Mapping[str, Term]], steps: Sequence[Step]) -> list[Counts]:
    """Count each term on each micro-batch from the batches alone, those of views included.

    Args:
        learners: of the turn.
        rehearsed: terms of the dry run, by learner and name.
        steps: the micro-batches.

    Returns:
        Counts by learner and name for each micro-batch; under no learner's name, what plain terms count, whatever they are called.
    """
    counts: list[Counts] = []
    for step in steps:
        each: Counts = {("", "sample"): float(len(step.batch["id"])), ("", "batch"): 1.0}
        for name, learner in learners.items():
            for leaf in learner.loss.leaves() if isinstance(learner.loss, Objective) else ():
                if leaf.name in rehearsed[name]:
                    each[name, leaf.name] = _count(leaf, rehearsed[name][leaf.name], step.seen_in(leaf.view))
        counts.append(each)
    return counts


def _count(leaf: Objective, term: Term, batch: Batch) -> Tensor | float:
    rows = len(batch["id"])
    shape = (rows, *term.values.shape[1:])
    mask = leaf.mask(batch) if term.mask is not None else None
    if mask is None:
        return count_of(Term(leaf.name, torch.empty(shape if term.values.ndim else (), device="meta"), term.over))
    if mask.ndim < len(shape):
        mask = mask.reshape(rows, 1).expand(shape)
    return count_of(Term(leaf.name, torch.zeros(mask.shape, device=mask.device), term.over, mask))


def counted(counts: Counts, learner: str, term: Term) -> Tensor | float | None:
    """What a term counts among some counts; None where they do not show it."""
    if (learner, term.name) in counts:
        return counts[learner, term.name]
    return counts.get(("", term.over)) if term.mask is None else None


def agree(found: Found, foretold: Counts, read: bool) -> None:
    """Check that the counts of a micro-batch are those foretold.

    Args:
        found: the terms.
        foretold: the counts.
        read: also compare counts that have to be read off the device, so only asked for at a stage's first step.

    Raises:
        BadInput: a term cannot be accumulated.
    """
    for learner, terms in found.items():
        for term in terms or ():
            count, told = count_of(term), counted(foretold, learner, term)
            if not read and (isinstance(count, Tensor) or isinstance(told, Tensor)):
                continue
            if told is None or float(told) != float(count):
                raise BadInput(
                    f"term {term.name!r} of learner {learner!r} counts {float(count):g} in a micro-batch where the batch itself shows "
                    f"{'nothing' if told is None else format(float(told), 'g')}: its mean over the whole step is not known before the "
                    "passes. Put its mask into the batch, or run without micro_batch"
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
    return {key: safe_count(count) for key, count in totals.items()}
