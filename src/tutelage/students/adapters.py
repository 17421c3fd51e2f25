"""LoRA adapters beside the weights of a transformers model, by peft; and how they go into the weights at the end."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from torch import nn

from tutelage.extras import needed

EXTRA = "language"


def adapt(module: nn.Module, rank: int, alpha: float | None = None) -> None:
    """Put adapters beside all linear layers but the head of a transformers model, in place; they alone are trained from then on.

    Args:
        module: the model.
        rank: of the adapters, at least 1.
        alpha: their scale is alpha / rank; None for twice the rank.

    Raises:
        BadInput: peft is not installed.

    Source: Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", 2022.
    """
    peft = needed("peft", EXTRA, "lora")

    head = module.get_output_embeddings()  # type: ignore[operator]
    kinds = ("Linear", "Conv1D")
    names = [name for name, part in module.named_modules() if type(part).__name__ in kinds and part is not head]
    given: Mapping[str, Any] = {"r": rank, "lora_alpha": 2 * rank if alpha is None else alpha, "target_modules": names}
    fan = any(type(part).__name__ == "Conv1D" for part in module.modules())
    peft.inject_adapter_in_model(peft.LoraConfig(fan_in_fan_out=fan, **given), module)


def merged(module: nn.Module) -> nn.Module:
    """The module with its adapters added into the weights: a copy where it has some, else itself."""
    if not any(hasattr(part, "lora_A") for part in module.modules()):
        return module
    found = copy.deepcopy(module)
    for name, part in list(found.named_modules()):
        if hasattr(part, "lora_A"):
            part.merge()
            above, _, own = name.rpartition(".")
            setattr(found.get_submodule(above), own, part.get_base_layer())
    return found
