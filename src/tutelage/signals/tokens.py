"""A model's own view of text: its tokenizer, applied to the batch's strings. Shapes: B batch, T tokens."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tutelage.errors import BadInput
from tutelage.signals.signals import Batch

REMEMBERED = 100_000
"""Texts whose tokens are remembered, so that the second epoch need not split them again."""


class Tokens:
    """Turns column `text` (and `text_pair`) into padded token ids for one model, so that teacher and student may differ.

    Args:
        load: gives the tokenizer (Hugging Face's interface) when the first text is met.
        max_length: tokens after which a text is cut.

    Raises:
        BadInput: a maximum below 2, or a batch without text.
    """

    def __init__(self, load: Callable[[], Any], max_length: int = 128) -> None:
        if max_length < 2:
            raise BadInput(f"max_length={max_length}: expected at least 2 tokens")
        self._load, self.max_length = load, max_length
        self._tokenizer: Any = None
        self._known: dict[Any, dict[str, list[int]]] = {}

    @property
    def tokenizer(self) -> Any:
        """The tokenizer, loaded when first asked for."""
        if self._tokenizer is None:
            self._tokenizer = self._load()
        return self._tokenizer

    @property
    def described(self) -> dict[str, Any]:
        """As plain values; the tokenizer's files lie beside them, see `save`."""
        return {"kind": "tokens", "max_length": self.max_length}

    def save(self, folder: Path) -> None:
        """Write the tokenizer's files; whoever asks it to cut texts without saying where gets them cut as here."""
        self.tokenizer.save_pretrained(folder)
        config = folder / "tokenizer_config.json"
        if config.is_file():
            said = json.loads(config.read_text(encoding="utf8"))
            config.write_text(json.dumps({**said, "model_max_length": self.max_length}, indent=2, ensure_ascii=False), encoding="utf8")

    def __call__(self, batch: Batch) -> dict[str, Tensor]:
        """What the model is called with: input_ids, attention_mask and what else its tokenizer makes, each (B, T)."""
        texts = batch.get("text")
        if not isinstance(texts, (list, tuple)):
            raise BadInput(f"a model of text met a batch without a column of strings called 'text'; its columns are {sorted(batch)}")
        pairs = batch.get("text_pair")
        keys = list(zip(texts, pairs, strict=True)) if pairs is not None else list(texts)
        self._split([k for k in dict.fromkeys(keys) if k not in self._known])
        rows = [self._known[k] for k in keys]
        if len(self._known) > REMEMBERED:
            self._known.clear()
        return self._padded(rows, batch["id"].device if "id" in batch else None)

    def _split(self, keys: list[Any]) -> None:
        if not keys:
            return
        first = [k[0] if isinstance(k, tuple) else k for k in keys]
        second = [k[1] for k in keys] if isinstance(keys[0], tuple) else None
        made = self.tokenizer(first, second, truncation=True, max_length=self.max_length)
        for row, key in enumerate(keys):
            self._known[key] = {name: made[name][row] for name in made}

    def _padded(self, rows: list[dict[str, list[int]]], device: torch.device | None) -> dict[str, Tensor]:
        # up to a multiple of 8, so that there are few shapes to compile for
        longest = -(-max(1, *(len(r["input_ids"]) for r in rows)) // 8) * 8
        fill = {"input_ids": self.tokenizer.pad_token_id or 0}
        left = self.tokenizer.padding_side == "left"
        padded = {}
        for name in rows[0]:
            value = fill.get(name, 0)
            pads = [[value] * (longest - len(r[name])) for r in rows]
            padded[name] = torch.tensor([p + r[name] if left else r[name] + p for p, r in zip(pads, rows, strict=True)], device=device)
        return padded
