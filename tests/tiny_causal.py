"""Small causal language models with a tokenizer, as Hugging Face folders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import transformers

from tiny_tokenizers import letters

SIZES: dict[str, dict[str, Any]] = {
    "llama": {"hidden_size": 16, "intermediate_size": 24, "num_attention_heads": 4, "num_key_value_heads": 2},
    "qwen2": {"hidden_size": 16, "intermediate_size": 24, "num_attention_heads": 4, "num_key_value_heads": 2},
    "gpt2": {"n_embd": 16, "n_head": 4},
    "gpt_neox": {"hidden_size": 16, "intermediate_size": 24, "num_attention_heads": 4},
    "opt": {"hidden_size": 16, "ffn_dim": 24, "num_attention_heads": 4, "word_embed_proj_dim": 16},
}


def config(kind: str = "llama", layers: int = 4, vocabulary: int = 264, context: int = 64, **changes: Any) -> Any:
    """The config of a small model."""
    made = transformers.AutoConfig.for_model(kind, **SIZES[kind], vocab_size=vocabulary, max_position_embeddings=context, **changes)
    made.num_hidden_layers = layers
    return made


def causal_folder(folder: Path, kind: str = "llama", *, seed: int = 0, tokenizer: Any = None, weights: bool = True, **sizes: Any) -> Path:
    """Write a model with weights of its own, and the tokenizer of letters."""
    torch.manual_seed(seed)
    made = config(kind, **sizes)
    if getattr(made, "layer_types", None):
        made.layer_types = made.layer_types[: made.num_hidden_layers]
    if weights:
        transformers.AutoModelForCausalLM.from_config(made).save_pretrained(folder)
    else:
        made.architectures = ["LlamaForCausalLM"]
        made.save_pretrained(folder)
    (tokenizer or letters()).save_pretrained(folder)
    return folder
