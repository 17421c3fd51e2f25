"""Cut a table into training, validation and test by class, the same way for the same seed. Shapes: N samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from tutelage.data.source import Data, Source
from tutelage.errors import BadInput
from tutelage.randomness import generator

Rare = Literal["refuse", "drop", "keep"]
"""What becomes of a class with too few samples for every split."""

SPLITS = {"train": "train", "training": "train", "test": "test", "testing": "test"}
SPLITS |= dict.fromkeys(("validation", "val", "valid", "dev", "eval"), "validation")
"""Names that users give to splits, and ours."""


def stratified(labels_N: Tensor, shares: Sequence[float], seed: int) -> list[Tensor]:
    """Deal positions out to parts, class by class.

    Each part gets its share of each class, rounded down or up; what rounding leaves goes where most is missing over all classes so far. A
    class of at least as many samples as there are parts is in every part, a smaller one at least in the first.

    Args:
        labels_N: class of each sample, int64 (N,).
        shares: of the parts, positive, summing to 1.
        seed: of the draw.

    Returns:
        Sorted positions of each part.

    Raises:
        BadInput: a share outside (0, 1], or a sum that is not 1.
    """
    if any(not 0 < s <= 1 for s in shares) or abs(sum(shares) - 1) > 1e-6:
        raise BadInput(f"the splits' shares {[round(s, 4) for s in shares]} must be positive and sum to 1")
    dealt: list[list[Tensor]] = [[torch.empty(0, dtype=torch.int64)] for _ in shares]
    owed = [0.0] * len(shares)
    classes, sizes = labels_N.unique(return_counts=True)
    for label, members in zip(classes.tolist(), labels_N.argsort(stable=True).split(sizes.tolist()), strict=True):
        members = members[torch.randperm(len(members), generator=generator("split", seed, label))]
        counts = _dealt([s / sum(shares) * len(members) for s in shares], len(members), owed)
        for part, positions in zip(dealt, members.split(counts), strict=True):
            part.append(positions)
    return [torch.cat(part).sort().values for part in dealt]


def _dealt(wished: Sequence[float], size: int, owed: list[float]) -> list[int]:
    """How many samples of a class each part gets; `owed`, what each part lacks over all classes so far, is brought up to date."""
    parts = range(len(wished))
    counts = [int(w + 1e-9) for w in wished]
    lacks = [o + w - c for o, w, c in zip(owed, wished, counts, strict=True)]
    for i in sorted(parts, key=lambda i: -lacks[i])[: size - sum(counts)]:
        counts[i] += 1
    for poor in [i for i in (parts if size >= len(parts) else parts[:1]) if counts[i] == 0]:
        rich = max(parts, key=lambda i: counts[i])
        counts[poor], counts[rich] = 1, counts[rich] - 1
    owed[:] = [o + w - c for o, w, c in zip(owed, wished, counts, strict=True)]
    return counts


def completed(
    splits: Mapping[str, Source],
    *,
    classes: Sequence[str] = (),
    name: str,
    train: float = 0.7,
    validation: float = 0.15,
    seed: int = 0,
    rare: Rare = "refuse",
    prepared: Mapping[str, Any] | None = None,
) -> Data:
    """Make Data of what splits there are: those that are missing are cut from training, by class.

    Args:
        splits: sources by "train", "validation", "test"; train must be there, and be able to give some of its rows.
        classes: names of the classes in the order of the label numbers.
        name: how tables call it.
        train: share to train on where only one split is given; where validation is given too, the share of the given training split.
        validation: share to choose on; where test is given too, the share of the given training split. The rest is test.
        seed: of the cut, apart from a run's seed, so that a teacher and its student agree on what is test.
        rare: a class with too few training samples for each split, or with none in a given validation split, is refused, or dropped from
            all splits, or kept where it is. Test samples decide nothing here. A kept class with one sample is trained on.
        prepared: how raw samples became these, see `Data`.

    Raises:
        BadInput: shares that leave a split empty, a class that training lacks and another split has, or a rare class.
    """
    given = dict(splits)
    missing = [s for s in ("validation", "test") if s not in given]
    if "train" not in given:
        raise BadInput(f"{name} has the splits {sorted(given)}; expected train among them")
    if not (0 < train < 1 and 0 < validation < 1 and (len(missing) < 2 or train + validation < 1 - 1e-6)):
        raise BadInput(f"{name}: shares train={train}, validation={validation} must each lie in (0, 1) and leave something for test")
    if _hard(given["train"]) is not None:
        given, classes = _without_rare(given, classes, name, rare, 1 + len(missing))
    if missing:
        share = {"validation": validation, "test": 1 - train - (validation if "validation" in missing else 0)}
        cut = [1 - sum(share[m] for m in missing), *(share[m] for m in missing)]
        whole = given["train"]
        labels = _hard(whole)
        parts = stratified(torch.zeros(len(whole), dtype=torch.int64) if labels is None else labels, cut, seed)
        short = [p for p, positions in zip(("train", *missing), parts, strict=True) if not len(positions)]
        if short:
            raise BadInput(f"{name} has {len(whole)} samples, too few to cut {short[0]} from; give more, or another share")
        given |= {split: whole.rows(p, f"{name}/{split}") for split, p in zip(("train", *missing), parts, strict=True)}
    return Data(given["train"], given["validation"], given["test"], tuple(classes), name, prepared or {})


def _hard(source: Source) -> Tensor | None:
    """One class number a sample, or None where there are no labels, or others."""
    labels = source.labels()
    return None if labels is None or labels.ndim != 1 or labels.is_floating_point() else labels.long()


def _without_rare(
    given: dict[str, Source], classes: Sequence[str], name: str, rare: Rare, parts: int
) -> tuple[dict[str, Source], Sequence[str]]:
    """Deal with classes that training lacks, or that have fewer samples than there are parts to cut."""
    if rare not in ("refuse", "drop", "keep"):
        raise BadInput(f"{name}: rare={rare!r}; expected refuse, drop or keep")
    labels = {split: y for split, source in given.items() if (y := _hard(source)) is not None}
    size = max(len(classes), *(int(y.max()) + 1 for y in labels.values()))
    if classes and size > len(classes):
        return given, classes  # Data names the label that has no class
    counts = {split: torch.bincount(y[y >= 0], minlength=size) for split, y in labels.items()}
    if rare == "keep":
        few_C = (counts["train"] == 0) & (torch.stack(list(counts.values())).sum(0) > 0)
    else:
        few_C = counts["train"] < parts
        if "validation" in counts:
            few_C |= counts["validation"] == 0
    few = few_C.nonzero()[:, 0].tolist()
    if not few:
        return given, classes
    if rare != "drop":
        number, more = int(counts["train"][few[0]]), f" (so it is with {len(few) - 1} more)" if len(few) > 1 else ""
        called = repr(classes[few[0]]) if classes else str(few[0])
        if number >= parts:
            lacks = "is absent from validation"
        else:
            lacks = f"has {number} training samples; expected at least {parts}, one for each split to be cut from them"
            lacks = lacks if parts > 1 and rare != "keep" else "has no training samples"
        mend = "" if rare == "keep" or number == 0 else ", or take them as they are with keep"
        raise BadInput(f"class {called} of {name} {lacks}{more}; give more, or leave such classes out with --data.rare drop{mend}")
    kept = (~few_C).nonzero()[:, 0]
    if len(kept) < 2:
        raise BadInput(
            f"{len(few)} of the {size} classes of {name} have fewer than {parts} training samples or none to choose on; give more"
        )
    renumbered = torch.full((size,), -1)
    renumbered[kept] = torch.arange(len(kept))
    left = dict(given)
    for split, y in labels.items():
        positions = ((y < 0) | ~few_C[y.clamp(min=0)]).nonzero()[:, 0]
        if not len(positions):
            raise BadInput(f"{split} of {name} has no sample left when rare classes are dropped")
        y = y[positions]
        left[split] = given[split].rows(positions, given[split].name).relabelled(torch.where(y < 0, y, renumbered[y.clamp(min=0)]))
    return left, [classes[c] for c in kept] if classes else ()
