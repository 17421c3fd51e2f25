"""Where attention lives in a model: the modules that give queries, keys, values and a block's output, by the model's type.

Scores and what heads see are computed here from queries, keys and values, so that it does not matter which kernel the model itself runs.
Shapes: B batch, T tokens, D width, N heads, H width of a head.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias, cast

import torch
from torch import Tensor, nn

from tutelage.errors import BadInput, Mismatch
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
        shared: query heads that look at one head of keys and values; 1 where each has its own.
        plain: whether scores are products of queries and keys as the modules give them: nothing rotates them, no token is hidden from
            those before it.
    """

    blocks: tuple[Block, ...]
    heads: int
    embedding: str
    words: str | None
    shared: int = 1
    plain: bool = True


@dataclass(frozen=True)
class _Kind:
    base: str
    blocks: str
    parts: tuple[str, str, str, str, str]
    embedding: str
    words: str | None = None
    plain: bool = True


_LLAMA = _Kind(
    "model",
    "layers",
    ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj", "post_attention_layernorm"),
    "embed_tokens",
    "embed_tokens",
    plain=False,
)
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
    **dict.fromkeys(("llama", "mistral", "qwen2"), _LLAMA),
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
    seen = getattr(config, "num_key_value_heads", None) or heads
    return Transformer(tuple(blocks), heads, before + kind.embedding, words, heads // seen, kind.plain)


@dataclass(frozen=True)
class Outline:
    """A transformer and its sizes.

    Args:
        found: its blocks.
        width: of the queries of all heads.
        head: width of one head.
    """

    found: Transformer
    width: int
    head: int


def outline_of(model: Model) -> Outline:
    """The blocks of a model's transformer and their sizes, found without reading its weights where it can be built without them.

    Args:
        model: the handle.

    Raises:
        BadInput: as for `transformer_of`.
    """
    module = model.module if model.built else model.skeleton() or model.module
    found = transformer_of(module, model.name)
    width = int(cast("Tensor", module.get_submodule(found.blocks[0].query).weight).shape[0])
    return Outline(found, width, width // found.heads)


def valid_tokens(model: Model) -> Valid:
    """Which tokens of a batch are no padding, by the attention mask that the model is called with."""

    def valid(batch: Batch) -> Tensor | None:
        if model.preprocessing is None and "attention_mask" not in batch:
            return None
        given = model.inputs(batch)
        mask = given.get("attention_mask") if isinstance(given, dict) else None
        return None if mask is None else mask.bool()

    return valid


def same_tokens(student: Model, teacher: Model) -> Valid:
    """Which tokens are no padding, of two models that must look at the same ones: each may split a text by a tokenizer of its own.

    Args:
        student: one side, whose mask it is.
        teacher: the other.

    Raises:
        Mismatch: when called, with a batch in which the sides have other tokens, or are padded in another way.
    """
    last: list[tuple[Batch, Tensor | None]] = []

    def valid(batch: Batch) -> Tensor | None:
        if not (last and last[0][0] is batch):  # several terms ask about one batch
            last[:] = [(batch, _common(batch, student, teacher))]
        return last[0][1]

    return valid


def _common(batch: Batch, student: Model, teacher: Model) -> Tensor | None:
    sides = [model.inputs(batch) if model.preprocessing is not None else batch for model in (student, teacher)]
    own, its = (side if isinstance(side, Mapping) else {} for side in sides)
    mask, goal = (None if (m := side.get("attention_mask")) is None else m.bool() for side in (own, its))
    ids, asked = own.get("input_ids"), its.get("input_ids")
    if isinstance(ids, Tensor) and isinstance(asked, Tensor):
        who = f"{student.name} and {teacher.name}"
        if ids.shape != asked.shape or (mask is not None and goal is not None and not torch.equal(mask, goal)):
            raise Mismatch(
                f"{who} split the same texts into different numbers of tokens, {_lengths(ids, mask)} and {_lengths(asked, goal)} in the "
                "first row; what is compared token by token needs one tokenizer and one max_length for both"
            )
        differ = (ids != asked) if mask is None else (ids != asked) & mask
        if differ.any():
            row, place = (int(i) for i in differ.nonzero()[0])
            raise Mismatch(
                f"{who} have different tokens for the same text: {int(ids[row, place])} and {int(asked[row, place])} at place {place}; "
                "what is compared token by token needs one tokenizer for both (tokenizer=FOLDER)"
            )
    return mask


def _lengths(ids_BT: Tensor, mask_BT: Tensor | None) -> int:
    return int(ids_BT.shape[1] if mask_BT is None else mask_BT[0].sum())


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
