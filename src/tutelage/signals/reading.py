"""A language model's own view of a batch: tokens, and what of its logits counts. Shapes: B batch, T positions, V vocabulary."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tutelage.errors import BadInput
from tutelage.signals.signals import Batch

ARGUMENTS = ("input_ids", "attention_mask", "position_ids")


class Reading:
    """What a causal model is called with, and what of its output counts; the columns are those of `tutelage.language.Lessons`.

    Args:
        load: gives the tokenizer (Hugging Face's interface) when it is first asked for.
        width: logits that the model gives.
        context: most positions that it takes; None where its config does not say.
        name: how messages call the model.
        source: where the tokenizer is.
    """

    def __init__(self, load: Callable[[], Any], width: int, context: int | None, name: str, source: str = "") -> None:
        self._load, self.width, self.context, self.name, self.source = load, width, context, name, source
        self.common = width
        self._tokenizer: Any = None

    @property
    def tokenizer(self) -> Any:
        """The tokenizer, loaded when first asked for."""
        if self._tokenizer is None:
            self._tokenizer = self._load()
        return self._tokenizer

    @property
    def described(self) -> dict[str, Any]:
        """As plain values; the tokenizer's files lie beside them, see `save`."""
        return {"kind": "causal"}

    def save(self, folder: Path) -> None:
        """Write the tokenizer's files, its chat template among them."""
        self.tokenizer.save_pretrained(folder)

    def __call__(self, batch: Batch) -> dict[str, Any]:
        """Tokens with their mask or places. No cache is made: it would let the documents of a packed window see each other."""
        tokens = batch.get("input_ids")
        if not isinstance(tokens, Tensor) or tokens.ndim != 2:
            raise BadInput(f"{self.name} reads tokens, a column input_ids of (B, T); the batch has {', '.join(sorted(batch))}")
        self.check_length(tokens.shape[1])
        if tokens.is_meta:  # an estimate has shapes only; transformers looks into any mask that is not whole
            B, T = tokens.shape
            return {"input_ids": tokens, "attention_mask": tokens.new_ones(B, 1, T, T, dtype=torch.bool), "use_cache": False}
        return {name: batch[name] for name in ARGUMENTS if name in batch} | {"use_cache": False}

    def logits(self, output: Any) -> Tensor:
        """The logits (B, T, V) in what the model gave, as far as the other model has them, too."""
        logits: Tensor = output.logits
        return logits if logits.shape[-1] == self.common else logits[..., : self.common]

    def check_length(self, length: int) -> None:
        """Refuse samples that are longer than the model can read.

        Raises:
            BadInput: says how long they may be.
        """
        if self.context is not None and length > self.context:
            raise BadInput(f"{self.name} reads {self.context:,} tokens at most and got {length:,}; give data with length={self.context}")
