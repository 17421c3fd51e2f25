"""Head: the last layer of a language model, which makes its logits, found and passed by, so that a pass ends with hidden states.

The module stays as it is: a hook on the head keeps what the head is given and shows it no position, so that nothing as wide as the
vocabulary is made, whatever the model does with its logits afterwards. What it does with them must be known, and is compared in the first
pass, at one position.

Shapes: B batch, T positions, D width, V vocabulary.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from tutelage.errors import BadInput
from tutelage.randomness import seeded
from tutelage.signals.deferred import DeferredLogits
from tutelage.signals.observe import marked
from tutelage.signals.signals import Batch
from tutelage.signals.taps import LOGITS

if TYPE_CHECKING:
    from tutelage.signals.model import Model

NAMES = ("lm_head", "head", "embed_out", "output")
"""What heads are called in models that do not say which layer it is."""

LARGE = 16_384
"""Size of a vocabulary from which on logits are deferred by themselves: below it the dense ones are as fast, or faster."""

TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-4}
"""How far the logits may be from what the head is found to make, as a share of the largest one; in half precision 0.05."""


def head_of(module: nn.Module, name: str) -> nn.Linear:
    """The linear layer that makes a model's logits.

    Args:
        module: one of transformers' own kind says which layer it is; of others, a direct child with a usual name is taken.
        name: how messages call the model.

    Raises:
        BadInput: there is none, or it is more than a linear layer, such as one with adapters.
    """
    ask = getattr(module, "get_output_embeddings", None)
    found = ask() if callable(ask) else next((child for key, child in module.named_children() if key in NAMES), None)
    if found is None:
        raise BadInput(f"{name} has no head that is known to make its logits ({', '.join(NAMES)}), so they cannot be deferred")
    if type(found) is not nn.Linear:
        raise BadInput(f"the head of {name} is a {type(found).__name__}, not a plain linear layer, so its logits cannot be deferred")
    return found


def finish_of(module: nn.Module) -> tuple[float, float | None]:
    """What a model does with its head's output, by its config: the scale and the bound of `DeferredLogits`."""
    config = getattr(module, "config", None)
    ask = getattr(config, "get_text_config", None)
    config = ask() if callable(ask) else config
    scale = 1.0
    if getattr(config, "logit_scale", None):  # Cohere multiplies
        scale *= float(config.logit_scale)  # type: ignore[union-attr]
    if getattr(config, "logits_scaling", None):  # Granite divides
        scale /= float(config.logits_scaling)  # type: ignore[union-attr]
    softcap = getattr(config, "final_logit_softcapping", None)  # Gemma
    return scale, float(softcap) if softcap else None


class Head:
    """A hook on a model's head, which rests but for passes in `passing`; removed by `close`.

    Args:
        module: the model.
        name: how messages call it.

    Raises:
        BadInput: no head is found.

    Attributes:
        classes: the size of its vocabulary.
    """

    def __init__(self, module: nn.Module, name: str) -> None:
        self.name, self.layer = name, head_of(module, name)
        self.scale, self.softcap = finish_of(module)
        self.active, self.checked = False, False
        self.hidden: Tensor | None = None
        self.handle = self.layer.register_forward_pre_hook(self._keeping())

    @property
    def classes(self) -> int:
        """The size of the vocabulary, V."""
        return self.layer.weight.shape[0]

    def _keeping(self) -> Callable[..., Any]:
        def hook(_layer: nn.Module, given: tuple[Any, ...]) -> tuple[Any, ...] | None:
            if not self.active or given[0].ndim != 3:
                return None
            self.hidden = given[0]
            return (given[0][:, : 0 if self.checked else 1],)

        return marked(hook)

    @contextlib.contextmanager
    def passing(self) -> Iterator[None]:
        """Let passes in here end with hidden states."""
        self.active, self.hidden = True, None
        try:
            yield
        finally:
            self.active, self.hidden = False, None

    def logits(self, shown: Tensor) -> DeferredLogits:
        """The logits of the pass that has just ended.

        Args:
            shown: what the model gave as logits, of one position in the first pass, and of none later. Where it is narrower than the head,
                the model's own function cuts them there.

        Raises:
            BadInput: the head was not asked with positions, or something unknown is done with its logits.
        """
        hidden, width, learns = self.hidden, shown.shape[-1], torch.is_grad_enabled()
        if hidden is None or shown.shape[:-1] != (len(hidden), 0 if self.checked else 1) or width > self.classes:
            raise BadInput(f"the logits of {self.name} are not those of its head at each position, so they cannot be deferred")
        weight, bias = (
            each if each is None or (learns and each.requires_grad) else each.detach() for each in (self.layer.weight, self.layer.bias)
        )  # as they are in this pass, whatever is asked of them before the loss
        assert weight is not None
        if width < self.classes:
            weight, bias = weight[:width], None if bias is None else bias[:width]
        kind = hidden.device.type
        precision = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else None
        found = DeferredLogits(hidden, weight, bias, self.scale, self.softcap, precision)
        if not self.checked:
            with torch.no_grad():
                made, given = found.at((slice(None), slice(1))).dense().double(), shown.double()
            least = TOLERANCE.get(found.dtype, 0.05)
            if not torch.allclose(made, given, rtol=least, atol=least * float(given.abs().amax())):
                raise BadInput(
                    f"{self.name} changes its logits behind the head in a way that is not known here (a factor or a bound of its own), "
                    "so they cannot be deferred"
                )
            self.checked = True
        return found

    def close(self) -> None:
        """Remove the hook."""
        self.handle.remove()


@contextlib.contextmanager
def held(model: Model, batch: Batch, least: int = LARGE) -> Iterator[str | None]:
    """Keep a hook on a model's head for passes in `Model.deferring`, if a first pass in evaluation mode shows that it can defer its logits.

    Args:
        model: the model.
        batch: some samples.
        least: smallest vocabulary for which it is tried.

    Returns:
        A context that gives None, or why not, and then there is no hook.
    """
    with contextlib.ExitStack() as stack:
        try:
            size = len(head_of(model.module, model.name).weight)
            if size < least:
                raise BadInput(f"{model.name} has {size:,} logits, too few to be worth deferring")
            stack.enter_context(model.deferring(now=False))
            with seeded("deferring"), model.mode(training=False), torch.no_grad(), model.deferring():
                model.observe(batch, {LOGITS})
            why = None
        except BadInput as error:
            stack.close()
            why = str(error)
        yield why
