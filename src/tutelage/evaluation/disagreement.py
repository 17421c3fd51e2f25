"""Where a student and its teacher are sure of different things, with the samples themselves to look at. Shapes: N samples, C H W pixels."""

from __future__ import annotations

import base64
import importlib.util
import io
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from tutelage.data import Source
from tutelage.evaluation.classification import NO_LABEL, Predictions
from tutelage.signals import RESERVED

SHOWN = 24
LONGEST = 500
"""Characters of a text that are kept."""
WIDEST = 128
"""Pixels of an image's longer side, so that the page stays small."""
MOST_NUMBERS = 12


def disagreements(shown: Mapping[str, Predictions], source: Source, *, reference: str | None, count: int = SHOWN) -> list[dict[str, Any]]:
    """The samples on which the student chooses another class than a reference, the surest first.

    How sure two models are of different things is the smaller of their confidences; a label is sure of itself.

    Args:
        shown: what each model says of all samples; "student" among them.
        source: the samples.
        reference: the teacher's name in `shown`; None compares with the labels.
        count: how many.

    Returns:
        For each its `id`, `label` (a class number or None), the `choice` and `confidence` of each model by name, and `sample`, as `picture`
        gives it. Empty where there is nothing to compare with.
    """
    student = shown["student"]
    hard = student.hard()
    if reference is None and hard is None:
        return []
    sure = {name: each.probabilities().max(-1) for name, each in shown.items()}
    confidence_N, choice_N = sure["student"]
    if reference is None:
        assert hard is not None
        other_N, together_N = hard, confidence_N
    else:
        together_N = torch.minimum(confidence_N, sure[reference].values)
        other_N = sure[reference].indices
    differs = (choice_N != other_N) & (other_N != NO_LABEL)
    order = together_N.masked_fill(~differs, -1).argsort(descending=True, stable=True)[: min(count, int(differs.sum()))]
    return [
        {
            "id": None if student.ids is None else int(student.ids[position]),
            "label": None if hard is None or hard[position] == NO_LABEL else int(hard[position]),
            "models": {
                name: {"choice": int(best.indices[position]), "confidence": float(best.values[position])} for name, best in sure.items()
            },
            "sample": picture(source.batch(order[at : at + 1])),
        }
        for at, position in enumerate(order.tolist())
    ]


def picture(batch: Mapping[str, Any]) -> dict[str, Any]:
    """One sample in a form that a page can show.

    Args:
        batch: of one sample. Its first input column that can be shown is: a text, an image (1, C, H, W) of 1, 3 or 4 channels, or numbers
            (1, F).

    Returns:
        `kind` and what belongs to it. "text": `text`, its first 500 characters, and `cut`. "image": `png`, a data address, and `scaled`,
        whether its values were not in [0, 1] and were stretched to it. "numbers": `name`, `values`, and `of`, how many there are.
        "none": `why`.
    """
    why = "its columns hold no text, image or row of numbers"
    for name, column in batch.items():
        if name in RESERVED:
            continue
        if isinstance(column, (list, tuple)) and isinstance(column[0], str):
            return {"kind": "text", "text": column[0][:LONGEST], "cut": len(column[0]) > LONGEST}
        if not isinstance(column, Tensor):
            continue
        if column.ndim == 4 and column.shape[1] in (1, 3, 4):
            if importlib.util.find_spec("PIL") is None:
                why = "pictures need Pillow: pip install 'tutelage[images]'"
                continue
            return {"kind": "image", **_png(column[0].detach().float().cpu())}
        if column.ndim == 2:
            values = column[0].tolist()
            return {"kind": "numbers", "name": name, "values": values[:MOST_NUMBERS], "of": len(values)}
    return {"kind": "none", "why": why}


def _png(image_CHW: Tensor) -> dict[str, Any]:
    from PIL import Image

    low, high = float(image_CHW.min()), float(image_CHW.max())
    scaled = low < 0 or high > 1
    if scaled:
        image_CHW = (image_CHW - low) / max(high - low, 1e-12)
    pixels_HWC = image_CHW[:3].mul(255).round().byte().permute(1, 2, 0).numpy()
    made = Image.fromarray(pixels_HWC.squeeze(2) if pixels_HWC.shape[2] == 1 else pixels_HWC)
    made.thumbnail((WIDEST, WIDEST))
    buffer = io.BytesIO()
    made.save(buffer, format="PNG", optimize=True)
    return {"png": "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode(), "scaled": scaled}
