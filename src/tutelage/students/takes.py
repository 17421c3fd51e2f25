"""What a built-in student takes, written on its function, so that a caller can choose one for the data at hand."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal, TypeVar

from tutelage.signals import Batch

F = TypeVar("F", bound=Callable[..., Any])


def takes(
    *kinds: Literal["images", "numbers", "text", "tokens"],
    inputs_for: Callable[[Mapping[str, Any]], Callable[[Batch], dict[str, Any]]] | None = None,
) -> Callable[[F], F]:
    """Write on a function which samples its networks take.

    Args:
        kinds: images (B, C, H, W), numbers (B, ...) that are flattened, a column of text, or tokens (B, T).
        inputs_for: gives, for the options of a network, what `Model(..., inputs=)` needs; None where the batch's only input column will do.

    Returns:
        A decorator; the function itself comes back, with the attributes `takes` and `inputs_for`.
    """

    def mark(function: F) -> F:
        function.takes = kinds  # type: ignore[attr-defined]
        function.inputs_for = inputs_for  # type: ignore[attr-defined]
        return function

    return mark
