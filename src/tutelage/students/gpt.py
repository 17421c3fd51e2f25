"""A small causal transformer over bytes or other tokens. Shapes: B batch, T positions, V vocabulary, D width, N heads."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tutelage.errors import BadInput
from tutelage.students.takes import takes


class CausalAttention(nn.Module):
    """Multi-head self-attention that looks back only."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.project = nn.Linear(width, width)

    def forward(self, x_BTD: Tensor, seen_BTT: Tensor | None = None) -> Tensor:
        """What each token takes from itself and those before it, of them only from those that `seen` shows; (B, T, D)."""
        q, k, v = (part(x_BTD).unflatten(2, (self.heads, -1)).transpose(1, 2) for part in (self.query, self.key, self.value))
        mask = None if seen_BTT is None else seen_BTT.unsqueeze(1)
        taken_BNTD = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=mask is None)
        return self.project(taken_BNTD.transpose(1, 2).flatten(2))


class Block(nn.Module):
    """Attention and an MLP, each after a layer norm and beside a shortcut."""

    def __init__(self, width: int, heads: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attention = CausalAttention(width, heads)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))
        self.dropout = nn.Dropout(dropout)

    def forward(self, x_BTD: Tensor, seen_BTT: Tensor | None = None) -> Tensor:
        """Tokens (B, T, D)."""
        x_BTD = x_BTD + self.dropout(self.attention(self.norm1(x_BTD), seen_BTT))
        return x_BTD + self.dropout(self.mlp(self.norm2(x_BTD)))


class Gpt(nn.Module):
    """Token and position embeddings, causal blocks, layer norm, one linear layer to the vocabulary; build it with `gpt`."""

    def __init__(self, classes: int, width: int, depth: int, heads: int, context: int, hidden: int, dropout: float, tied: bool) -> None:
        super().__init__()
        self.context = context
        self.tokens = nn.Embedding(classes, width)
        self.positions = nn.Embedding(context, width)
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(Block(width, heads, hidden, dropout) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, classes, bias=False)
        for name, part in self.named_modules():
            if isinstance(part, nn.Embedding):
                nn.init.normal_(part.weight, std=0.02)
            elif isinstance(part, nn.Linear):
                # what 2 * depth layers add to the stream shall together be as large as what one adds
                adds = name.endswith(("project", "mlp.2"))
                nn.init.normal_(part.weight, std=(part.in_features * (2 * depth if adds else 1)) ** -0.5)
                if part.bias is not None:
                    nn.init.zeros_(part.bias)
        if tied:
            self.head.weight = self.tokens.weight

    def forward(self, input_ids: Tensor, position_ids: Tensor | None = None) -> Tensor:
        """Logits of the next token, (B, T, V), of tokens int64 (B, T).

        Args:
            input_ids: tokens; what pads a sequence at its end is seen by none before it, so it needs no mask.
            position_ids: place of each token in its document, int64 (B, T); a 0 begins another document, which sees nothing of those
                before it. None: each row is one document.

        Raises:
            BadInput: more positions than the context has.
        """
        length = input_ids.shape[1]
        if length > self.context:
            raise BadInput(f"gpt was built for a context of {self.context} tokens and got {length}; give it context={length}")
        seen_BTT = None
        if position_ids is None:
            place = torch.arange(length, device=input_ids.device)
        else:
            place, document_BT = position_ids, (position_ids == 0).cumsum(1)
            seen_BTT = (document_BT.unsqueeze(2) == document_BT.unsqueeze(1)).tril()
        x_BTD = self.dropout(self.tokens(input_ids) + self.positions(place))
        for block in self.blocks:
            x_BTD = block(x_BTD, seen_BTT)
        return self.head(self.norm(x_BTD))


@takes("tokens")
def gpt(
    *,
    classes: int = 256,
    width: int = 48,
    depth: int = 2,
    heads: int = 4,
    context: int = 128,
    mlp_ratio: float = 4.0,
    dropout: float = 0.0,
    tied: bool = False,
) -> nn.Module:
    """A small language model: pre-norm causal blocks with learned positions.

    Args:
        classes: size of the vocabulary; 256 for bytes.
        width: numbers of a token.
        depth: blocks.
        heads: attention heads; they must divide `width`.
        context: most tokens that it takes at once.
        mlp_ratio: hidden units of a block's MLP, as a factor on `width`.
        dropout: share left out after embeddings, attention and MLPs while training, in [0, 1).
        tied: use the token embeddings as the last layer, too.

    Raises:
        BadInput: a size below 1, heads that do not divide the width, a dropout outside [0, 1).

    Source: Radford et al., "Language Models are Unsupervised Multitask Learners" (GPT-2), 2019, section 2.3, but for two things: its last
        layer is always tied; and its linear layers begin at a deviation of 0.02, which is too small for such widths, so here 1 / root of
        the fan-in, with its factor for what is added to the stream.
    """
    hidden = int(width * mlp_ratio)
    if min(classes, width, depth, heads, context, hidden) < 1 or not 0 <= dropout < 1:
        raise BadInput(
            f"gpt(classes={classes}, width={width}, depth={depth}, heads={heads}, context={context}, mlp_ratio={mlp_ratio}, "
            f"dropout={dropout}): sizes must be at least 1, dropout in [0, 1)"
        )
    if width % heads:
        raise BadInput(
            f"gpt(width={width}, heads={heads}): the heads must divide the width; nearest width: {width // heads * heads or heads}"
        )
    return Gpt(classes, width, depth, heads, context, hidden, dropout, tied)
