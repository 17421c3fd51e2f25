"""Cut a table into training, validation and test by class, the same way for the same seed. Shapes: N samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

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

    Each part gets its share of each class up to rounding; what rounding leaves goes where it is missed most over all classes so far. A
    class of at least as many samples as there are parts is in every part.

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
    dealt: list[list[Tensor]] = [[] for _ in shares]
    owed = [0.0] * len(shares)
    for label in labels_N.unique().tolist():
        members = (labels_N == label).nonzero()[:, 0]
        members = members[torch.randperm(len(members), generator=generator("split", seed, label))]
        wished = [s * len(members) for s in shares]
        counts = [int(w) for w in wished]
        owed = [o + w - c for o, w, c in zip(owed, wished, counts, strict=True)]
        while sum(counts) < len(members):
            most = max(range(len(shares)), key=lambda i: owed[i])
            counts[most] += 1
            owed[most] -= 1
        for poor in [i for i, c in enumerate(counts) if c == 0] if len(members) >= len(shares) else []:
            rich = max(range(len(shares)), key=lambda i: counts[i])
            counts[poor], counts[rich] = 1, counts[rich] - 1
        for part, positions in zip(dealt, members.split(counts), strict=True):
            part.append(positions)
    return [torch.cat(part).sort().values for part in dealt]


def completed(
    splits: Mapping[str, Source],
    *,
    classes: Sequence[str] = (),
    name: str,
    train: float = 0.7,
    validation: float = 0.15,
    seed: int = 0,
    rare: Rare = "refuse",
) -> Data:
    """Make Data of what splits there are: those that are missing are cut from training, by class.

    Args:
        splits: sources by "train", "validation", "test"; train must be there, and be able to give some of its rows.
        classes: names of the classes in the order of the label numbers.
        name: how tables call it.
        train: share to train on where only one split is given.
        validation: share to choose on; where test is given too, the share of the given training split. The rest is test.
        seed: of the cut, apart from a run's seed, so that a teacher and its student agree on what is test.
        rare: a class with too few training samples for each split is refused, or dropped from all splits, or kept where it is.

    Raises:
        BadInput: shares that leave a split empty, a class that training lacks, or a rare class.
    """
    given = dict(splits)
    _check_shares(given, name, train, validation)
    labels = given["train"].labels()
    hard = labels is not None and not labels.is_floating_point() and labels.ndim == 1
    missing = [s for s in ("validation", "test") if s not in given]
    if hard:
        given, classes = _without_rare(given, classes, name, rare, 1 + len(missing))
        labels = given["train"].labels()
    if missing:
        share = {"validation": validation, "test": (1 - train - validation) if "validation" not in given else 1 - train}
        cut = [1 - sum(share[m] for m in missing), *(share[m] for m in missing)]
        size = len(given["train"])
        parts = stratified(labels if hard and labels is not None else torch.zeros(size, dtype=torch.int64), cut, seed)
        short = [p for p, positions in zip(("train", *missing), parts, strict=True) if not len(positions)]
        if short:
            raise BadInput(f"{name} has {size} samples, too few to cut {short[0]} from; give more, or another share")
        whole = given["train"]
        given |= {split: whole.rows(p, f"{name}/{split}") for split, p in zip(("train", *missing), parts, strict=True)}
    return Data(given["train"], given["validation"], given["test"], tuple(classes), name)


def _check_shares(given: Mapping[str, Source], name: str, train: float, validation: float) -> None:
    if "train" not in given:
        raise BadInput(f"{name} has the splits {sorted(given)}; expected train among them")
    if not (0 < train < 1 and 0 < validation < 1 and ("test" in given or train + validation < 1)):
        raise BadInput(f"{name}: shares train={train}, validation={validation} must each lie in (0, 1) and leave something for test")


def _without_rare(
    given: dict[str, Source], classes: Sequence[str], name: str, rare: Rare, parts: int
) -> tuple[dict[str, Source], Sequence[str]]:
    """Deal with classes that training lacks, or that have fewer samples than there are parts to cut."""
    if rare not in ("refuse", "drop", "keep"):
        raise BadInput(f"{name}: rare={rare!r}; expected refuse, drop or keep")
    labels = {split: y for split, source in given.items() if (y := source.labels()) is not None}
    size = max(len(classes), *(int(y.max()) + 1 for y in labels.values()))
    counts = torch.bincount(labels["train"][labels["train"] >= 0], minlength=size)
    least = torch.full((size,), parts if rare != "keep" else 1)
    shown = labels.get("validation")
    unseen = torch.bincount(shown[shown >= 0], minlength=size) == 0 if shown is not None and rare != "keep" else torch.zeros(size).bool()
    few = ((counts < least) | unseen).nonzero()[:, 0].tolist()
    if not few:
        return given, classes

    def called(c: int) -> str:
        return repr(classes[c]) if c < len(classes) else str(c)

    if rare != "drop":
        number, more = int(counts[few[0]]), f" (so it is with {len(few) - 1} more)" if len(few) > 1 else ""
        lacks = f"has {number} training samples; expected at least {int(least[0])}, one for each split" if number < least[0] else ""
        raise BadInput(
            f"class {called(few[0])} of {name} {lacks or 'is absent from validation'}{more}; "
            f"give more, or leave such classes out with --data.rare drop{'' if number == 0 else ', or take them as they are with keep'}"
        )
    kept = [c for c in range(size) if c not in set(few)]
    if not kept:
        raise BadInput(f"every class of {name} has fewer than {parts} training samples; give more")
    renumbered = torch.full((size,), -1)
    renumbered[kept] = torch.arange(len(kept))
    left = {}
    for split, source in given.items():
        y = labels[split]
        positions = (renumbered[y.clamp(min=0)] >= 0).nonzero()[:, 0]
        if not len(positions):
            raise BadInput(f"{split} of {name} has no sample left when rare classes are dropped")
        left[split] = source.rows(positions, source.name).relabelled(renumbered[y[positions]])
    return left, [classes[c] for c in kept] if classes else ()
