"""A small llama as a GGUF file, written tensor by tensor: what llama.cpp would read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import transformers

NAMES = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}
OUTSIDE = {"model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight", "lm_head.weight": "output.weight"}


def interleaved(weights: np.ndarray, heads: int) -> np.ndarray:
    """Rows of a projection in the order in which GGUF's rotary embedding pairs them."""
    return weights.reshape(heads, 2, -1, weights.shape[1]).swapaxes(1, 2).reshape(weights.shape)


def write_gguf(folder: Path, file: Path) -> Path:
    """Write the llama in a Hugging Face folder as a GGUF file, in float32 and without a tokenizer."""
    import gguf

    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    config = model.config
    writer = gguf.GGUFWriter(file, "llama")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_embedding_length(config.hidden_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_rope_dimension_count(config.hidden_size // config.num_attention_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)
    for name, tensor in model.state_dict().items():
        array = tensor.numpy()
        if name in OUTSIDE:
            writer.add_tensor(OUTSIDE[name], array)
            continue
        number, _, part = name.removeprefix("model.layers.").removesuffix(".weight").partition(".")
        if part.endswith(("q_proj", "k_proj")):
            array = interleaved(array, config.num_attention_heads if part.endswith("q_proj") else config.num_key_value_heads)
        writer.add_tensor(f"blk.{number}.{NAMES[part]}.weight", np.ascontiguousarray(array))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file
