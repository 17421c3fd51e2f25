"""From text to numbers: words and runs of words, hashed into a fixed number of buckets, so that there is no vocabulary to keep."""

from __future__ import annotations

import re
import zlib
from dataclasses import dataclass
from typing import Any

import torch

from tutelage.errors import BadInput
from tutelage.signals.signals import Batch

WORD = re.compile(r"\w+")


@dataclass(frozen=True)
class HashedWords:
    """Turn the column `text` of a batch into hashed words and runs of words: a model's `inputs`.

    Words are runs of letters, digits and underscores in lower case; a run of n words is hashed as those words with blanks between. The
    same text gives the same buckets in every process and on every machine.

    Args:
        buckets: how many numbers there are; 0 stands for a text without words and for nothing else.
        ngrams: longest run of words.

    Raises:
        BadInput: fewer than 2 buckets, or ngrams below 1.
    """

    buckets: int
    ngrams: int = 2

    def __post_init__(self) -> None:
        if self.buckets < 2 or self.ngrams < 1:
            raise BadInput(
                f"HashedWords(buckets={self.buckets}, ngrams={self.ngrams}): expected at least 2 buckets and ngrams of at least 1"
            )

    @property
    def described(self) -> dict[str, Any]:
        """As plain values, from which `preprocessing.rebuilt` makes it again."""
        return {"kind": "hashed-words", "buckets": self.buckets, "ngrams": self.ngrams}

    def of(self, text: str) -> list[int]:
        """Buckets of one text: its single words in order, then its pairs, and so on; [0] where it has no word."""
        words = WORD.findall(text.lower())
        runs = [" ".join(words[i : i + n]) for n in range(1, self.ngrams + 1) for i in range(len(words) - n + 1)]
        return [zlib.crc32(run.encode()) % (self.buckets - 1) + 1 for run in runs] or [0]

    def __call__(self, batch: Batch) -> dict[str, Any]:
        """What an embedding bag takes.

        Args:
            batch: with the column `text`, one string a sample.

        Returns:
            `ids`, the buckets of all texts one after another, int64 (N,), and `offsets`, where each text begins, int64 (B,), on the
            device of the batch's `id`.

        Raises:
            BadInput: no column `text`, or an entry that is no string.
        """
        texts = batch.get("text")
        if texts is None:
            raise BadInput(f"the batch has no column 'text' to read words from: its columns are {sorted(batch)}")
        wrong = {type(text).__name__ for text in texts if not isinstance(text, str)}
        if wrong:
            raise BadInput(f"column 'text' must hold strings, not {', '.join(sorted(wrong))}")
        each = [self.of(text) for text in texts]
        lengths = torch.tensor([0, *map(len, each)][: len(each)], dtype=torch.int64)
        device = batch["id"].device if "id" in batch else None
        return {
            "ids": torch.tensor([i for ids in each for i in ids], dtype=torch.int64).to(device),
            "offsets": lengths.cumsum(0).to(device),
        }
