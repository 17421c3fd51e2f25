"""Models of PyTorch Image Models: `timm:NAME`, where timm is installed and imports."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import nn

from tutelage.errors import BadInput, in_short, nearest
from tutelage.extras import needed
from tutelage.signals import Model
from tutelage.signals.images import ImageInputs

ELSEWHERE = ("checkpoint_path", "pretrained_cfg", "pretrained_cfg_overlay", "cache_dir")
"""Arguments by which timm would read weights from anywhere, which its older versions unpickle."""


def timm(
    where: str,
    *,
    kind: str | None,
    classes: Sequence[str],
    count: int | None,
    seed: int = 0,
    pretrained: bool = False,
    size: int | None = None,
    weights: Path | None = None,
    **changes: Any,
) -> Model:
    """Make a handle on a timm model as a classifier, with the size and normalisation it was trained with where it is pretrained.

    Args:
        where: a name that `timm.list_models()` lists.
        kind: of the data; must be "images".
        classes: names of the data's classes; only their number is used.
        count: number of the data's classes.
        seed: of weights that are drawn.
        pretrained: fetch weights from the hub; the model counts as trained where it has as many classes as the data.
        size: side that images are scaled to; by default the model's own where pretrained, else the data's.
        weights: a file to read instead, which an earlier run wrote; what `pretrained` says of size and normalisation holds.
        changes: further arguments of `timm.create_model`.

    Raises:
        BadInput: timm is missing or does not import, no such model, data that are no images, or an argument that names a file of weights.
    """
    for key in ELSEWHERE:
        if key in changes:
            raise BadInput(
                f"timm:{where} takes no option {key!r}: its weights come from the hub with pretrained=true, or from a run folder"
            )
    library = needed("timm", "timm", f"timm:{where}")
    if not library.is_model(where):
        raise BadInput(f"timm has no model {where!r}{nearest(where, library.list_models())}")
    if kind != "images" or count is None:
        raise BadInput(
            f"timm:{where} classifies images, but the data hold {kind or 'something else'}; give a model of {kind}, or other data"
        )
    own = library.get_pretrained_cfg(where)
    mean, std, shape = (getattr(own, key, None) for key in ("mean", "std", "input_size"))
    side: Any = size or (tuple(shape[1:]) if pretrained and shape else None)
    inputs = ImageInputs(side, mean, std, 3) if pretrained else ImageInputs(side, channels=3)

    def blueprint() -> nn.Module:
        return library.create_model(where, num_classes=count, **changes)

    def make() -> nn.Module:
        if not pretrained:
            return blueprint()
        try:
            return library.create_model(where, pretrained=True, num_classes=count, **changes)
        except (OSError, RuntimeError, ValueError) as error:
            raise BadInput(f"the weights of timm:{where} cannot be fetched: {in_short(error)}") from None

    fits = pretrained and getattr(own, "num_classes", None) == count
    source = make if weights is None else blueprint
    return Model(source, name=where, seed=seed, weights=weights, inputs=inputs, trained=fits, blueprint=blueprint)
