"""A student of few bits: a transformer whose linear layers and word embedding are shown as a few levels, while full weights are trained."""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn
from torch.nn import functional as F

from tutelage.signals import Model
from tutelage.signals.attention import transformer_of
from tutelage.students.quantisers import Levels, check_levels, quantised_activation, quantised_weight


class QuantisedLinear(nn.Linear):
    """A linear layer of few levels, over inputs in 8 bits; its own weight stays as it is, and its names too.

    Args:
        of: the layer, whose parameters it shares.
        levels: of its weight.
        given: whether what it gives is in 8 bits as well, as queries, keys and values are.
    """

    def __init__(self, of: nn.Linear, levels: Levels, given: bool = False) -> None:
        super().__init__(of.in_features, of.out_features, of.bias is not None, device="meta")
        self.weight, self.levels, self.given = of.weight, levels, given
        if of.bias is not None:
            self.bias = of.bias

    def forward(self, x: Tensor) -> Tensor:
        """(..., out)."""
        y = F.linear(quantised_activation(x), quantised_weight(self.weight, self.levels), self.bias)
        return quantised_activation(y) if self.given else y


class QuantisedEmbedding(nn.Embedding):
    """An embedding of few levels, each row with a scale of its own.

    Args:
        of: the embedding, whose weight it shares.
        levels: of its weight.
    """

    def __init__(self, of: nn.Embedding, levels: Levels) -> None:
        super().__init__(of.num_embeddings, of.embedding_dim, of.padding_idx, device="meta")
        self.weight, self.levels = of.weight, levels

    def forward(self, ids: Tensor) -> Tensor:
        """(..., D); rows that are not looked up are not quantised, which gives the same."""
        rows = F.embedding(ids, self.weight, self.padding_idx)
        flat = quantised_weight(rows.flatten(0, -2), self.levels, rows=True)
        return flat.view_as(rows)


def quantise(module: nn.Module, levels: Levels, name: str = "the model") -> nn.Module:
    """Put layers of few levels in the places of all linear layers inside a transformer's blocks, and of its word embedding.

    What lies around the blocks stays in full precision: positions, layer norms, patches, the head. In place; parameters keep their names.

    Args:
        module: the transformer.
        levels: of the weights.
        name: how messages call it.

    Returns:
        The module.

    Raises:
        BadInput: a model in which attention is not found, or levels that are not known.
    """
    check_levels(levels)
    found = transformer_of(module, name)
    given = {path for block in found.blocks for path in (block.query, block.key, block.value)}
    for block in found.blocks:
        for path, part in list(module.get_submodule(block.path).named_modules(prefix=block.path)):
            if type(part) is nn.Linear:
                module.set_submodule(path, QuantisedLinear(part, levels, path in given))
    if found.words is not None:
        module.set_submodule(found.words, QuantisedEmbedding(cast("nn.Embedding", module.get_submodule(found.words)), levels))
    return module


def quantised(model: Model, levels: Levels = "ternary") -> Model:
    """A handle on a student of few bits with the architecture of another handle, and its weights as they are when it is built.

    Args:
        model: a transformer; its own module is not touched.
        levels: of the weights.

    Raises:
        BadInput: levels that are not known; when it is built, a model in which attention is not found.
    """
    check_levels(levels)
    made = model.changed(lambda module: quantise(module, levels, model.name), None if model.spec is None else f"{levels}:{model.spec}")
    made.levels = levels  # type: ignore[attr-defined]
    return made


def is_quantised(model: Model) -> bool:
    """Whether a handle was made by `quantised`."""
    return hasattr(model, "levels")
