"""Where attention lives in a model: the modules that give queries, keys, values and a block's output, by the model's type.

Scores and what heads see are computed here from queries, keys and values, so that it does not matter which kernel the model itself runs.
Shapes: B batch, T tokens, D width, N heads, H width of a head.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from tutelage.errors import BadInput
from tutelage.signals.model import Model
from tutelage.signals.signals import Batch

Valid: TypeAlias = "Callable[[Batch], Tensor | None]"
"""Gives which tokens of a batch are no padding, (B, T); None where all are tokens."""


@dataclass(frozen=True)
class Block:
    """One block of a transformer, by module paths.

    Args:
        path: of the block; its output are the hidden states after it.
        query: linear map that gives queries of all heads, (B, T, D).
        key: of keys.
        value: of values.
        output: linear map from what the heads saw.
        normed: the layer norm after the attention and its shortcut.
    """

    path: str
    query: str
    key: str
    value: str
    output: str
    normed: str


@dataclass(frozen=True)
class Transformer:
    """The blocks of a transformer.

    Args:
        blocks: in order.
        heads: of each block.
        embedding: module whose output the first block takes.
        words: embedding of words; None where there is none.
    """

    blocks: tuple[Block, ...]
    heads: int
    embedding: str
    words: str | None


@dataclass(frozen=True)
class _Kind:
    base: str
    blocks: str
    parts: tuple[str, str, str, str, str]
    embedding: str
    words: str | None = None


_BERT = ("attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense", "attention.output")
_KINDS = {
    "bert": _Kind("bert", "encoder.layer", _BERT, "embeddings", "embeddings.word_embeddings"),
    "roberta": _Kind("roberta", "encoder.layer", _BERT, "embeddings", "embeddings.word_embeddings"),
    "electra": _Kind("electra", "encoder.layer", _BERT, "embeddings", "embeddings.word_embeddings"),
    "distilbert": _Kind(
        "distilbert",
        "transformer.layer",
        ("attention.q_lin", "attention.k_lin", "attention.v_lin", "attention.out_lin", "sa_layer_norm"),
        "embeddings",
        "embeddings.word_embeddings",
    ),
    "vit": _Kind(
        "vit",
        "layers",
        ("attention.q_proj", "attention.k_proj", "attention.v_proj", "attention.o_proj", "layernorm_after"),
        "embeddings",
    ),
    "Vit": _Kind("", "blocks", ("attention.query", "attention.key", "attention.value", "attention.project", "norm2"), "dropout"),
}
"""By `model_type` of a Hugging Face config, or by the class's name."""


def transformer_of(module: nn.Module, name: str) -> Transformer:
    """Find the blocks of a transformer.

    Args:
        module: the model.
        name: how messages call it.

    Raises:
        BadInput: a model of another type, or one whose modules are named otherwise.
    """
    config: Any = getattr(module, "config", None)
    type_ = getattr(config, "model_type", None) or type(module).__name__
    kind = _KINDS.get(type_)
    if kind is None:
        raise BadInput(
            f"where attention lives in {name}, a {type_}, is not known; expected a model of one of the types {', '.join(_KINDS)}"
        )
    paths = {path for path, _ in module.named_modules()}
    before = f"{kind.base}." if f"{kind.base}.{kind.blocks}" in paths else ""
    blocks: list[Block] = []
    while (at := f"{before}{kind.blocks}.{len(blocks)}") in paths:
        blocks.append(Block(at, *(f"{at}.{part}" for part in kind.parts)))
    heads = next((h for h in (getattr(config, key, None) for key in ("num_attention_heads", "n_heads")) if h), None)
    if heads is None and blocks:
        heads = getattr(module.get_submodule(blocks[0].query.rpartition(".")[0]), "heads", None)
    words = None if kind.words is None else before + kind.words
    wanted = [before + kind.embedding, *(p for b in blocks for p in (b.query, b.key, b.value, b.output, b.normed))]
    missing = next((path for path in wanted if path not in paths), None)
    if not blocks or missing is not None or not isinstance(heads, int):
        raise BadInput(
            f"{name} is a {type_}, but has no module {missing or before + kind.blocks + '.0'!r}; give a model as its library makes it"
        )
    return Transformer(tuple(blocks), heads, before + kind.embedding, words)


def valid_tokens(model: Model) -> Valid:
    """Which tokens of a batch are no padding, by the attention mask that the model is called with."""

    def valid(batch: Batch) -> Tensor | None:
        if model.preprocessing is None and "attention_mask" not in batch:
            return None
        given = model.inputs(batch)
        mask = given.get("attention_mask") if isinstance(given, dict) else None
        return None if mask is None else mask.bool()

    return valid


def scores(query_BTD: Tensor, key_BTD: Tensor, heads: int) -> Tensor:
    """Attention scores before the softmax, q . k / sqrt(H): (B, N, T, T)."""
    query, key = (x.unflatten(-1, (heads, -1)).transpose(1, 2) for x in (query_BTD, key_BTD))
    return query @ key.mT / math.sqrt(query.shape[-1])


def context(scores_BNTT: Tensor, value_BTD: Tensor, valid_BT: Tensor | None = None) -> Tensor:
    """What the heads see: probabilities from scores, times values, (B, T, D).

    Args:
        scores_BNTT: before the softmax.
        value_BTD: values of all heads.
        valid_BT: tokens that are no padding; others are not looked at.
    """
    if valid_BT is not None:
        scores_BNTT = scores_BNTT.masked_fill(~valid_BT[:, None, None], torch.finfo(scores_BNTT.dtype).min)
    value = value_BTD.unflatten(-1, (scores_BNTT.shape[1], -1)).transpose(1, 2)
    return (scores_BNTT.softmax(-1).to(value.dtype) @ value).transpose(1, 2).flatten(2)
