"""Lessons: dialogues as tokens, padded or packed into windows. The one place that shifts labels.

Position i of the logits goes with y[i], the token that follows it, everywhere else. All tokens are kept in memory, eight bytes each (the
token, and what follows it); a batch is cut out of them, so that any process reads the same. Shapes: B samples, T positions, N samples of a
split.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from tutelage.data import Source
from tutelage.errors import BadInput
from tutelage.language.packing import Packing, packed
from tutelage.signals import Batch

Padding = Literal["longest", "length"]
"""How long the rows of a batch are: as its longest sample, or all alike."""

Cut = Literal["end", "start"]
"""Where a dialogue that is too long loses tokens."""

NOTHING = -100
"""What y holds where no token follows, or none that is to be learnt."""


@dataclass(frozen=True, slots=True)
class Text:
    """The tokens of one document.

    Args:
        ids: int32 (T,).
        learnt: which of them are to be learnt, bool (T,).
        id: of the dialogue.
        running: whether it is text that may be cut into windows, not a dialogue that would lose its beginning.
    """

    ids: np.ndarray
    learnt: np.ndarray
    id: int
    running: bool = False


class Lessons(Source):
    """Tokens of dialogues, as samples of a language model.

    A batch has `input_ids` int64 (B, T); `y` int64 (B, T), the token that follows each position, -100 where there is none or none to be
    learnt; `mask` bool (B, T), where y is one; `id` int64 (B,); and `attention_mask` int64 (B, T), 0 on the padding at the end, or, where
    windows are packed, `position_ids` int64 (B, T), which begin at 0 with each document and with the padding. Where the tokens beyond the
    last position were cut away, y still holds the next. Models of transformers keep packed documents apart by their positions, but only
    where they are called with use_cache=False: with a cache they let all documents of a window see each other, and say nothing.

    Args:
        texts: the documents, in order.
        length: most tokens of a sample.
        packing: "none" (a sample is a dialogue and has its id), or how documents are packed into windows, which are counted.
        padding: to the longest sample of a batch, or to `length`.
        cut: which side of a dialogue that is longer loses tokens. Running text is cut into windows instead, where they are packed.
        pad: the token that stands on padding; it is never attended to nor learnt, so that any will do.
        name: how tables call it.
        first: number of the first window.
        counts: what is to be said of how the documents were made, each with how many it is true of.

    Raises:
        BadInput: a length below 2, another choice than those named, or nothing that is to be learnt.
    """

    def __init__(
        self,
        texts: Sequence[Text],
        *,
        length: int = 512,
        packing: Packing = "none",
        padding: Padding = "longest",
        cut: Cut = "end",
        pad: int = 0,
        name: str = "data",
        first: int = 0,
        counts: Mapping[str, int] | None = None,
    ) -> None:
        check_layout(length, packing, padding, cut)
        self.length, self.packing, self.padding, self.cut, self.pad, self.name = length, packing, padding, cut, pad, name
        self.counts, self.read = dict(counts or {}), len(texts)
        ends = np.cumsum([len(text.ids) for text in texts], dtype=np.int64)
        self._tokens = torch.from_numpy(np.concatenate([text.ids for text in texts] or [np.empty(0, np.int32)]))
        self._follows = torch.from_numpy(np.concatenate([_shifted(text) for text in texts] or [np.empty(0, np.int32)]))
        self.largest = int(self._tokens.max()) if len(self._tokens) else -1
        self.cut_dialogues = self.cut_tokens = self.left_out = 0
        pieces: list[tuple[int, int]] = []
        ids: list[int] = []
        for text, end in zip(texts, ends.tolist(), strict=True):
            own = [p for p in self._pieces(text, end - len(text.ids), end) if (self._follows[p[0] : p[1]] != NOTHING).any()]
            self.left_out += not own
            pieces += own
            ids += [text.id] * len(own)
        if not pieces:
            raise BadInput(
                f"{name} leaves nothing to learn: all positions of its {len(texts):,} dialogues are masked within {length} tokens; "
                "give a greater length, cut=start, or answers that are not empty"
            )
        if packing == "none":
            windows, self._ids = [[i] for i in range(len(pieces))], torch.tensor(ids)
        else:
            windows = packed([end - begin for begin, end in pieces], length, packing)
            self._ids = torch.arange(first, first + len(windows))
        self._pieces_of = torch.tensor([pieces[i] for window in windows for i in window])
        self._window_ends = torch.tensor([len(window) for window in windows]).cumsum(0)
        self.documents = len(pieces)

    def _pieces(self, text: Text, begin: int, end: int) -> list[tuple[int, int]]:
        """Where in all tokens the parts of a document stand that are studied."""
        over = end - begin - self.length
        if over <= 0:
            return [(begin, end)]
        if text.running and self.packing != "none":
            return [(place, min(place + self.length, end)) for place in range(begin, end, self.length)]
        self.cut_dialogues += 1
        self.cut_tokens += over
        return [(begin, end - over) if self.cut == "end" else (begin + over, end)]

    def __len__(self) -> int:
        return len(self._ids)

    @property
    def tokens(self) -> int:
        """How many tokens are studied."""
        return int((self._pieces_of[:, 1] - self._pieces_of[:, 0]).sum())

    @property
    def learnt(self) -> int:
        """How many of them are to be predicted."""
        return sum(int((self._follows[begin:end] != NOTHING).sum()) for begin, end in self._pieces_of.tolist())

    @property
    def longest(self) -> int:
        """Tokens of the longest sample."""
        ends = (self._pieces_of[:, 1] - self._pieces_of[:, 0]).cumsum(0)[self._window_ends - 1]
        return int(ends.diff(prepend=ends.new_zeros(1)).max())

    def remarks(self) -> list[str]:
        """What a user should know of how these were cut and packed, in sentences."""
        said = []
        if self.cut_dialogues:
            lost = f"{self.cut_tokens:,} of {len(self._tokens):,} tokens"
            said.append(
                f"longer than {self.length:,} tokens and cut at the {self.cut}: {self.cut_dialogues:,} of {self.read:,}, losing {lost}"
            )
        if self.left_out:
            said.append(f"left out, with nothing to learn within {self.length:,} tokens: {self.left_out:,} of {self.read:,}")
        if self.packing != "none":
            full = self.tokens / (len(self) * self.length)
            said.append(f"packed into windows of {self.length:,} tokens: {self.documents:,} documents into {len(self):,}, {full:.0%} full")
        return [f"{self.name}: {sentence}" for sentence in said]

    def _window(self, position: int) -> list[tuple[int, int]]:
        begin = int(self._window_ends[position - 1]) if position else 0
        return [(b, e) for b, e in self._pieces_of[begin : int(self._window_ends[position])].tolist()]

    def batch(self, positions: Tensor, *, seed: int = 0, views: Tensor | None = None) -> Batch:
        """Cut samples out of the tokens; nothing is drawn."""
        windows = [self._window(p) for p in positions.tolist()]
        sizes = [sum(end - begin for begin, end in window) for window in windows]
        T = self.length if self.padding == "length" else max(sizes, default=0)
        input_ids_BT = torch.full((len(windows), T), self.pad)
        y_BT = torch.full((len(windows), T), NOTHING)
        positions_BT = torch.zeros(len(windows), T, dtype=torch.int64)
        attention_BT = torch.zeros(len(windows), T, dtype=torch.int64)
        for row, (window, size) in enumerate(zip(windows, sizes, strict=True)):
            place = 0
            for begin, end in window:
                own = slice(place, place + end - begin)
                input_ids_BT[row, own] = self._tokens[begin:end].long()
                y_BT[row, own] = self._follows[begin:end].long()
                positions_BT[row, own] = torch.arange(end - begin)
                place += end - begin
            positions_BT[row, size:] = torch.arange(T - size)
            attention_BT[row, :size] = 1
        shown = {"attention_mask": attention_BT} if self.packing == "none" else {"position_ids": positions_BT}
        return {"input_ids": input_ids_BT, **shown, "y": y_BT, "mask": y_BT != NOTHING, "id": self._ids[positions]}

    def labels(self) -> Tensor:
        """The tokens to be predicted, (N, T), T that of the longest sample; made anew each time."""
        sizes = [sum(end - begin for begin, end in self._window(p)) for p in range(len(self))]
        y_NT = torch.full((len(self), max(sizes)), NOTHING)
        for row in range(len(self)):
            found = torch.cat([self._follows[begin:end] for begin, end in self._window(row)])
            y_NT[row, : len(found)] = found
        return y_NT

    @property
    def labelled(self) -> bool:
        """There is something to learn, or it could not have been made."""
        return True

    def ids(self) -> Tensor:
        """Those of the dialogues, or the numbers of the windows."""
        return self._ids

    def varies(self) -> bool:
        """Nothing is drawn."""
        return False

    def fingerprint(self) -> str:
        """Hash of the tokens, what is learnt of them, how they are cut and packed, and the ids; not of the padding, which shows nothing."""
        digest = hashlib.sha256(f"{self.packing != 'none'}".encode())
        for column in (self._tokens, self._follows, self._pieces_of, self._window_ends, self._ids):
            digest.update(f"{tuple(column.shape)}:".encode())
            digest.update(column.contiguous().numpy().tobytes())
        return digest.hexdigest()[:16]


def check_layout(length: int, packing: str, padding: str, cut: str) -> None:
    """Refuse a layout that is none.

    Raises:
        BadInput: names the choice and what there is.
    """
    if not isinstance(length, int) or isinstance(length, bool) or length < 2:
        raise BadInput(f"length={length!r}; expected at least 2 tokens")
    for called, value, among in (
        ("packing", packing, ("none", "in-order", "first-fit")),
        ("padding", padding, ("longest", "length")),
        ("cut", cut, ("end", "start")),
    ):
        if value not in among:
            raise BadInput(f"{called}={value!r}; expected {', '.join(among[:-1])} or {among[-1]}")


def _shifted(text: Text) -> np.ndarray:
    """For each token the one that follows, int32 (T,), where that one is to be learnt; `NOTHING` elsewhere."""
    follows = np.full(len(text.ids), NOTHING, dtype=np.int32)
    follows[:-1] = np.where(text.learnt[1:], text.ids[1:], NOTHING)
    return follows
