"""A bag of hashed words: the mean of embeddings and an MLP, the smallest classifier of text that is worth having."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from tutelage.errors import BadInput
from tutelage.signals.text import HashedWords
from tutelage.students.takes import takes

BUCKETS = 32768


def hashed_words(options: Mapping[str, Any]) -> HashedWords:
    """The preprocessing that a bag of these options needs: single words and pairs, in as many buckets."""
    return HashedWords(options.get("buckets", BUCKETS))


class Bag(nn.Module):
    """The mean of the embeddings of a text's words and pairs, hidden layers, one linear layer; build it with `bag`."""

    def __init__(self, classes: int, buckets: int, width: int, depth: int, dropout: float) -> None:
        super().__init__()
        self.embedding = nn.EmbeddingBag(buckets, width, mode="mean")
        nn.init.uniform_(self.embedding.weight, -1 / width, 1 / width)
        layers: list[nn.Module] = [nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Dropout(dropout)) for _ in range(depth)]
        self.blocks = nn.Sequential(*layers)
        self.head = nn.Linear(width, classes)

    def forward(self, ids: Tensor, offsets: Tensor) -> Tensor:
        """Logits (B, classes) of the buckets of all words (N,) and where each text begins among them (B,), both int64."""
        return self.head(self.blocks(self.embedding(ids, offsets)))


@takes("text", inputs_for=hashed_words)
def bag(*, classes: int = 2, buckets: int = BUCKETS, width: int = 64, depth: int = 1, dropout: float = 0.0) -> nn.Module:
    """A classifier of text that knows no order beyond pairs of words: hashed words and pairs, their mean embedding, an MLP.

    The module takes buckets, not text: its handle is `Model(..., inputs=bag.inputs_for(options))`.

    Args:
        classes: number of classes.
        buckets: rows of the embedding; words that share one are not told apart. Bucket 0 stands for a text without words.
        width: numbers of an embedding, and units of each hidden layer.
        depth: number of hidden layers; 0 is the linear classifier of the paper.
        dropout: share of hidden units left out while training, in [0, 1).

    Raises:
        BadInput: a size below 1, fewer than 2 buckets, or a dropout outside [0, 1).

    Source: Joulin et al., "Bag of Tricks for Efficient Text Classification", 2016, sections 2 and 2.2.
    """
    if min(classes, width) < 1 or buckets < 2 or depth < 0 or not 0 <= dropout < 1:
        raise BadInput(
            f"bag(classes={classes}, buckets={buckets}, width={width}, depth={depth}, dropout={dropout}): "
            "sizes must be at least 1, buckets at least 2, depth at least 0, dropout in [0, 1)"
        )
    return Bag(classes, buckets, width, depth, dropout)
