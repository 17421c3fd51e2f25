"""What tells one teacher from another: its weights, its architecture and how it sees its inputs."""

from __future__ import annotations

import functools
import hashlib
import inspect
import re
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from tutelage.signals.model import Model
from tutelage.signals.preprocessing import CODE, described
from tutelage.signals.tokens import Tokens

_PLAIN = (bool, int, float, str, list, tuple, Tensor)
_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")


def weights_of(module: nn.Module) -> str:
    """A hash of a module's parameters and buffers, and of its parts as they print themselves: their kinds, strides, rates.

    The same in every process and on every machine. What a part neither holds as a tensor nor prints does not count.
    """
    digest = hashlib.sha256()
    for path, part in module.named_modules():
        digest.update(f"{path}:{type(part).__qualname__}({_ADDRESS.sub('', part.extra_repr())});".encode())
    for name, tensor in sorted(module.state_dict().items()):
        if isinstance(tensor, Tensor):
            plain = tensor.detach().cpu().contiguous()
            digest.update(f"{name}:{tuple(plain.shape)}:{plain.dtype};".encode())
            digest.update(plain.reshape(-1).view(torch.uint8).numpy().data)
        else:
            digest.update(f"{name}:{tensor!r};".encode())
    return digest.hexdigest()[:16]


def preprocessing_of(model: Model) -> dict[str, Any]:
    """How a model sees its inputs, as plain values.

    Of a user's own function its name and a hash of its text, as far as it can be read; of an object or a partial function also its plain
    values: numbers, texts, tensors.
    """
    said = described(model.preprocessing)
    if said is None:
        return {"kind": "none"}
    if said.get("kind") == CODE and model.preprocessing is not None:
        return {**said, "text": text_hash(model.preprocessing)}
    if isinstance(model.preprocessing, Tokens):
        return {**said, "tokenizer": _tokenizer_hash(model.preprocessing.tokenizer)}
    return said


def _tokenizer_hash(tokenizer: Any) -> str:
    """A hash of what a tokenizer makes of its vocabulary: its pieces, their numbers, and on which side it pads and cuts."""
    said = [sorted(tokenizer.get_vocab().items()), tokenizer.padding_side, getattr(tokenizer, "truncation_side", None)]
    return hashlib.sha256(repr(said).encode()).hexdigest()[:16]


def text_hash(function: Callable[..., Any]) -> str | None:
    """A hash of a function's or an object's class's text, and of the plain values that it holds; None where there is no text to read."""
    held: dict[str, Any] = {}
    if isinstance(function, functools.partial):
        held = {**{str(i): value for i, value in enumerate(function.args)}, **function.keywords}
        function = function.func
    elif not inspect.isroutine(function):
        held = dict(getattr(function, "__dict__", {}))
    known = function if inspect.isroutine(function) else type(function)
    plain = {name: value.tolist() if isinstance(value, Tensor) else value for name, value in held.items() if isinstance(value, _PLAIN)}
    try:
        return hashlib.sha256(
            (inspect.getsource(known) + (_ADDRESS.sub("", repr(sorted(plain.items()))) if plain else "")).encode()
        ).hexdigest()[:16]
    except (OSError, TypeError):
        return None
