"""A model's own preprocessing as plain values: what a file of an exported model says of it, and what is made of that again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from tutelage.errors import BadInput
from tutelage.signals.columns import Columns
from tutelage.signals.images import ImageInputs
from tutelage.signals.reading import Reading
from tutelage.signals.text import HashedWords
from tutelage.signals.tokens import Tokens

CODE = "code"
"""The kind of what cannot be said in plain values."""

OURS = (ImageInputs, HashedWords, Tokens, Columns)


def described(inputs: Callable[..., Any] | None) -> dict[str, Any] | None:
    """A model's own preprocessing as plain values with a `kind`; None where it has none. A user's own function is only named."""
    if inputs is None:
        return None
    if isinstance(inputs, (*OURS, Reading)):
        return inputs.described
    return {"kind": CODE, "name": getattr(inputs, "__qualname__", type(inputs).__qualname__)}


def rebuilt(said: Mapping[str, Any] | None, tokenizer: Callable[[], Any], name: str) -> Callable[..., Any] | None:
    """The preprocessing that `described` described.

    Args:
        said: the plain values.
        tokenizer: loads the tokenizer, where one is needed.
        name: how messages call what it was read from.

    Raises:
        BadInput: it is code, or the values are damaged.
    """
    if said is None:
        return None
    try:
        own = {k: v for k, v in said.items() if k != "kind"}
        kind = said["kind"]
        if kind == CODE:
            raise BadInput(f"{name} was made from a model that sees its inputs through code of its own, {own['name']}, which is not in it")
        makers: dict[str, Callable[..., Any]] = {
            "images": ImageInputs,
            "hashed-words": HashedWords,
            "table": Columns,
            "tokens": lambda **options: Tokens(tokenizer, **options),
        }
        return makers[kind](**own)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        if isinstance(error, BadInput):
            raise
        raise BadInput(f"{name} is damaged: its preprocessing cannot be read ({type(error).__name__}: {error})") from None
