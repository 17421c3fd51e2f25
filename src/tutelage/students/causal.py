"""Hugging Face causal language models: from a folder, the hub, a GGUF file or a config; with fewer layers, or with LoRA adapters."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import nn

from tutelage.errors import BadInput, MissingFile, in_short
from tutelage.extras import needed
from tutelage.signals import Model
from tutelage.signals.reading import Reading
from tutelage.students.adapters import EXTRA, adapt
from tutelage.students.hf import config_of, quiet, refuse_outside, tokenizer_of
from tutelage.students.layers import cut, kept_layers


def causal(
    where: str,
    *,
    seed: int = 0,
    pretrained: bool | None = None,
    layers: Any = None,
    lora: int | None = None,
    lora_alpha: float | None = None,
    tokenizer: str | None = None,
    checkpointing: bool = False,
    **changes: Any,
) -> Model:
    """Make a handle on a causal language model; nothing but its config is read before it is used.

    Args:
        where: a folder with config.json, a GGUF file, or a name on the hub.
        seed: of weights that are drawn: all of them without `pretrained`, else those of adapters.
        pretrained: whether to read weights; by default where the folder has some.
        layers: how many of its blocks to keep, spread evenly from the first to the last; or which, a list, counted from 0. None keeps all.
        lora: rank of adapters beside all linear layers but the head, which are then all that is trained; None for the model itself.
        lora_alpha: scale of the adapters, as peft means it; twice the rank by default.
        tokenizer: where its tokenizer is, if not in `where`.
        checkpointing: compute activations again in the backward pass instead of keeping them.
        changes: settings of the config, such as num_hidden_layers=2 for one that is drawn anew.

    Returns:
        A handle that takes the batches of `tutelage.language.Lessons`; its preprocessing is a `Reading`. It counts as trained where it
        has weights of its own, all layers or not.

    Raises:
        MissingFile: no such folder or file.
        BadInput: no config, no causal language model, a setting that it does not have, layers that it does not have.

    Source: https://huggingface.co/docs/transformers/model_doc/auto#transformers.AutoModelForCausalLM; Hu et al., "LoRA: Low-Rank Adaptation
        of Large Language Models", 2022. Layers that are left out: Sanh et al., "DistilBERT", 2019, section 3.
    """
    refuse_outside(where, changes)
    transformers = needed("transformers", "hf", f"hf:{where}")
    place, read = _place(where)
    with quiet():
        config = config_of(transformers, where, place, {**changes, **read}, file=bool(read))
    auto = transformers.AutoModelForCausalLM
    if type(config) not in auto._model_mapping:
        raise BadInput(f"hf:{where} is a {config.model_type} model, which is no causal language model; give one, or other data")
    if pretrained is None:
        pretrained = bool(read) or not place.is_dir() or any(place.glob("*.safetensors")) or any(place.glob("pytorch_model*.bin"))
    text = config.get_text_config()
    chosen = None if layers is None else kept_layers(layers, text.num_hidden_layers, f"hf:{where}")
    if lora is not None and (isinstance(lora, bool) or lora < 1):
        raise BadInput(f"hf:{where}:lora={lora}: expected the rank of the adapters, at least 1")
    if lora is not None:
        needed("peft", EXTRA, "lora")
    config.use_cache = False
    source = str(place) if read else where

    def finished(module: nn.Module) -> nn.Module:
        if chosen is not None:
            cut(module, chosen)
        if lora is not None:
            adapt(module, lora, lora_alpha)
        if checkpointing:
            enable = getattr(module, "activation_checkpointing_enable", None) or module.gradient_checkpointing_enable
            enable({"use_reentrant": False})  # type: ignore[operator]
        return module

    def blueprint() -> nn.Module:
        with quiet():
            return finished(auto.from_config(copy.deepcopy(config)))

    def make() -> nn.Module:
        if not pretrained:
            return blueprint()
        try:
            with quiet():
                made = auto.from_pretrained(source, config=copy.deepcopy(config), dtype=torch.float32, trust_remote_code=False, **read)
        except (OSError, ValueError, RuntimeError, KeyError, SafetensorError, pickle.UnpicklingError) as error:
            raise BadInput(f"the weights of hf:{where} cannot be read: {in_short(error)}") from None
        if read:
            _plain(made)
        return finished(made)

    inputs = Reading(
        lambda: tokenizer_of(tokenizer or where, text.vocab_size),
        text.vocab_size,
        getattr(text, "max_position_embeddings", None),
        f"hf:{where}",
        tokenizer or (str(place / read["gguf_file"]) if read else where),
    )
    name = place.resolve().parent.name if place.name == "model" else Path(where).stem if read else place.name
    return Model(make, name=name, seed=seed, inputs=inputs, logits=inputs.logits, trained=bool(pretrained), blueprint=blueprint)


def _plain(module: Any) -> None:
    """Forget that the weights were compressed in their file: they are plain numbers now, and are saved as such."""
    module.hf_quantizer, module.is_quantized = None, False
    module.config.__dict__.pop("quantization_config", None)


def _place(where: str) -> tuple[Path, dict[str, str]]:
    """The folder of a model, and what else transformers must be told to read it: the file, where it is a GGUF."""
    place = Path(where).expanduser()
    if place.suffix == ".gguf":
        if not place.is_file():
            raise MissingFile(f"hf:{where} does not exist as a file")
        needed("gguf", EXTRA, f"hf:{where}")
        return place.parent, {"gguf_file": place.name}
    if not place.is_dir() and (place.exists() or where.startswith((".", "/", "~"))):
        raise MissingFile(f"hf:{where} does not exist as a folder")
    return place, {}
