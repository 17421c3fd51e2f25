"""Tiny Hugging Face folders, made on the spot."""

from __future__ import annotations

import json
from pathlib import Path

import transformers

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "good", "bad", "fine", "dull", "film", "book", "very", "not", "##s"]


def tokenizer(folder: Path) -> None:
    """A WordPiece tokenizer of fourteen words."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.txt").write_text("\n".join(WORDS))
    transformers.BertTokenizerFast(vocab={w: i for i, w in enumerate(WORDS)}).save_pretrained(folder)


def bert(folder: Path, *, head: int | None = None, labels: list[str] | None = None, weights: bool = True, layers: int = 2) -> Path:
    """A BERT of width 16: an encoder, or a classifier with `head` labels; config only without weights."""
    sizes = {"hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 32, "max_position_embeddings": 40}
    config = transformers.BertConfig(vocab_size=len(WORDS), num_hidden_layers=layers, **sizes)
    if head:
        names = labels or [f"LABEL_{i}" for i in range(head)]
        config.id2label, config.label2id = dict(enumerate(names)), {n: i for i, n in enumerate(names)}
    kind = transformers.BertForSequenceClassification if head else transformers.BertModel
    if weights:
        kind(config).save_pretrained(folder)
    else:
        config.save_pretrained(folder)
    tokenizer(folder)
    return folder


def vit(folder: Path, *, head: int | None = None, weights: bool = True, size: int = 8) -> Path:
    """A ViT of width 16 for images of `size`."""
    config = transformers.ViTConfig(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32, image_size=size, patch_size=4, num_channels=3
    )
    if head:
        config.num_labels = head
    kind = transformers.ViTForImageClassification if head else transformers.ViTModel
    if weights:
        kind(config).save_pretrained(folder)
    else:
        config.save_pretrained(folder)
    seen = {"size": {"height": size, "width": size}, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    (folder / "preprocessor_config.json").write_text(json.dumps(seen))
    return folder
