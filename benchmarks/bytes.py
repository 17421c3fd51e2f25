"""Bytes: what is left of a language model's distribution at each token when it is kept in few bytes.

On held-out text, for the 49,152 classes of the model and for 151,936, most of them made up: see `wider`. Top-k keeps what it keeps and
loses the tail, so it is told by a KL to what can be made of it. What is drawn keeps the tail on average and adds noise, so it is told by
the squared error of its weights, which is that of the student's gradient, and by the KL of the mean of many draws.

Shapes: N tokens, V classes, K kept classes.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

import rowcodes
import smollm2
from rowcodes import Ids, row_bytes
from tutelage.randomness import generator
from tutelage.signals.sparse import SparseLogits, sampled, top_k

TITLE = "bytes"
Row = dict[str, Any]
KEPT = (4, 8, 12, 15, 16, 20, 24, 32, 64)
DRAWN = (8, 12, 15, 20, 32)
BITS = (4, 5, 6, 8, 16)
FORMATS: tuple[tuple[int, Ids], ...] = ((8, "narrow"), (16, "narrow"), (8, "int32"), (6, "18-bit"))
"""Bits of a log-probability and how an id is kept, of which it is told how many classes fit LIMIT."""
LIMIT = 64
WIDE = 151_936
"""Classes of the output matrix of Qwen2.5 and Qwen3."""
JITTER = 0.3
"""Of the made-up rows: the noise against the row's own standard deviation."""
EVERY = {49_152: 3, WIDE: 9}
"""Of the held-out tokens one in so many is measured, by classes."""
PART = 64
"""Tokens whose distributions are there at once."""
FREQUENT = range(32)
"""Windows, not held out, whose mean distribution ranks the classes."""
BIAS_TOKENS, BIAS_DRAWS, SINGLE = 24, 256, 32
"""Of the mean of many draws: tokens, draws of each, and likeliest classes that are compared one by one, the others in groups."""

NOTE = (
    "SmolLM2-135M-Instruct on held-out tokens of Wikipedia and the open web, temperature 1. KL in nats, mean over tokens. Of 151,936 "
    "classes all but 49,152 are made up: each added row of the output matrix is one drawn from the rarer half of the classes plus normal "
    f"noise of {JITTER:g} times its standard deviation, and a constant is taken from the logits of the added ones, so that together they "
    "have as much probability as the rarer half itself, in the mean over text that is not held out."
)


@dataclass(frozen=True)
class Vocabulary:
    """Classes and how likely they are.

    Args:
        head: the output matrix, (V, D).
        shift: what is taken from the logits, (V,).
        share: the mean probability of each class in text that is not held out, float64 (V,).
    """

    head: Tensor
    shift: Tensor
    share: Tensor

    def logits(self, states: Tensor) -> Tensor:
        """(N, V)."""
        return states @ self.head.T - self.shift

    @property
    def ranks(self) -> Tensor:
        """The place of each class when the most frequent is the first, int64 (V,)."""
        return self.share.argsort(descending=True).argsort()


def plain(teacher: smollm2.Teacher) -> Vocabulary:
    """The model's own classes."""
    shift = torch.zeros(len(teacher.head))
    return Vocabulary(teacher.head, shift, _share(teacher, teacher.head, shift))


def wider(teacher: smollm2.Teacher, own: Vocabulary, classes: int = WIDE) -> Vocabulary:
    """More classes, made up: noisy copies of rows of the rarer half, which together are as likely as that half."""
    rarer = own.share.argsort()[: len(own.share) // 2]
    draw = generator("wider", classes)
    copied = own.head[rarer[torch.randint(len(rarer), (classes - len(own.head),), generator=draw)]]
    head = torch.cat([own.head, copied + JITTER * copied.std(-1, keepdim=True) * torch.randn(copied.shape, generator=draw)])
    shift = torch.zeros(classes)
    for _ in range(3):  # the added ones take part in the sum by which all are divided
        share = _share(teacher, head, shift)
        shift[len(own.head) :] += (share[len(own.head) :].sum() / share[rarer].sum()).log().float()
    return Vocabulary(head, shift, _share(teacher, head, shift))


def _share(teacher: smollm2.Teacher, head: Tensor, shift: Tensor) -> Tensor:
    """The mean distribution over one token in eight of some windows."""
    states = torch.from_numpy(teacher.hidden[FREQUENT.start : FREQUENT.stop, ::8].copy()).flatten(0, 1)
    parts = [torch.softmax(part @ head.T - shift, -1).double().sum(0) for part in states.split(PART)]
    return torch.stack(parts).sum(0) / len(states)


def held_out(teacher: smollm2.Teacher, words: Vocabulary, every: int) -> Iterator[Tensor]:
    """Logits (N, V) at one held-out token in so many, a part at a time."""
    for window in smollm2.held_out():
        states = torch.from_numpy(teacher.hidden[window][window % every :: every].copy())
        for part in states.split(PART):
            yield words.logits(part)


@dataclass(frozen=True)
class Sums:
    """Of each row's distribution p, float64 (N,): what any KL to a reconstruction is made of.

    Args:
        entropy: -sum p log p.
        frequent: sum p log u, u the share of a class in other text.
        squares: sum p^2.
    """

    entropy: Tensor
    frequent: Tensor
    squares: Tensor

    @classmethod
    def of(cls, log_probs: Tensor, log_share: Tensor) -> Sums:
        """From log-probabilities (N, V)."""
        p = log_probs.exp()
        return cls(*(total.double() for total in (-(p * log_probs).sum(-1), p @ log_share, (p * p).sum(-1))))


def spread_kl(sums: Sums, sparse: SparseLogits) -> Tensor:
    """KL(p || the kept classes as they are and the left-over mass in equal parts on all others)."""
    each = sparse.rest.double() - math.log(sparse.classes - sparse.kept)
    return _kept_entropy(sparse) - sums.entropy - sparse.rest.double().exp() * each


def frequent_kl(sums: Sums, sparse: SparseLogits, share: Tensor) -> Tensor:
    """KL(p || the kept classes as they are and the left-over mass on all others in the proportions of their shares in other text)."""
    rest, own = sparse.rest.double(), share[sparse.ids]
    p = sparse.log_probs.double().exp()
    tail = sums.frequent - (p * own.log()).sum(-1) + rest.exp() * (rest - torch.log1p(-own.sum(-1)))
    return _kept_entropy(sparse) - sums.entropy - tail


def _kept_entropy(sparse: SparseLogits) -> Tensor:
    log_probs = sparse.log_probs.double()
    return -(log_probs.exp() * log_probs).sum(-1)


def bucket_kl(exact: SparseLogits, read: SparseLogits) -> Tensor:
    """KL of the kept classes and one bucket of all others, as they were, to how they are read again: what rounding costs."""
    true, found = (torch.cat([s.log_probs.double(), s.rest.double().unsqueeze(-1)], -1) for s in (exact, read))
    found = found.log_softmax(-1)
    return (true.exp() * (true - found)).sum(-1)


def squared_error(sums: Sums, exact: SparseLogits, log_weights: Tensor) -> Tensor:
    """||weights - p||^2 over all classes: the squared error of a student's gradient on its logits."""
    p = exact.log_probs.double().exp()
    return sums.squares - (p * p).sum(-1) + ((log_weights.double().exp() - p) ** 2).sum(-1)


def draws_for(log_probs: Tensor, distinct: float) -> int:
    """How many draws with replacement have so many distinct classes, in the mean over rows."""
    missed = torch.log1p(-log_probs.double().exp().clamp(max=1 - 1e-12))
    low, high = 0, 1
    while _distinct(missed, high) < distinct:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if _distinct(missed, middle) >= distinct else (middle, high)
    return high


def _distinct(missed: Tensor, draws: int) -> float:
    return float(-torch.expm1(draws * missed).sum(-1).mean())


class Means:
    """Means over tokens of numbers that come a part at a time, by name."""

    def __init__(self) -> None:
        self.values: dict[str, list[Tensor]] = defaultdict(list)

    def add(self, **numbers: Tensor) -> None:
        """Some rows more."""
        for name, values in numbers.items():
            self.values[name].append(values.double())

    def means(self) -> dict[str, float]:
        """By name."""
        return {name: float(torch.cat(values).mean()) for name, values in self.values.items()}


def measured(teacher: smollm2.Teacher, words: Vocabulary) -> list[Row]:
    """All rows of one vocabulary."""
    classes = len(words.head)
    log_share, ranks = words.share.log().float(), words.ranks
    found: dict[tuple[Any, ...], Means] = defaultdict(Means)
    uniforms = generator("draws", classes)
    for logits in held_out(teacher, words, EVERY[classes]):
        log_probs = torch.log_softmax(logits, -1)
        sums = Sums.of(log_probs, log_share)
        found["text", classes].add(entropy=sums.entropy)
        for name, dtype in (("float16", torch.float16), ("bfloat16", torch.bfloat16)):
            kept = torch.log_softmax(logits.to(dtype).float(), -1)
            found["dense", name].add(kl=(log_probs.exp() * (log_probs - kept)).sum(-1))
        for k in KEPT:
            exact = top_k(log_probs, k)
            sharp = exact.log_probs - exact.log_probs.logsumexp(-1, keepdim=True)
            found["top-k", k].add(
                rest=exact.rest.exp(),
                spread_kl=spread_kl(sums, exact),
                frequent_kl=frequent_kl(sums, exact, words.share),
                error=squared_error(sums, exact, exact.log_probs),
                renormalised_error=squared_error(sums, exact, sharp),
                rank_bytes=rowcodes.varint_bytes(ranks[exact.ids]).double().mean(-1),
                rank_bits=-(log_share[exact.ids] / math.log(2)).mean(-1),
                beyond=(ranks[exact.ids] >= 1 << 16).double().mean(-1),
            )
            if k in DRAWN:
                for bits in BITS:
                    found["codes", k, bits].add(kl=bucket_kl(exact, rowcodes.kept(exact, bits)))
        for k in DRAWN:
            drawn = sampled(log_probs, k, torch.rand(len(log_probs), generator=uniforms))
            read = rowcodes.kept(drawn, 8)
            found["drawn", k].add(
                sure=(drawn.log_probs >= drawn.rest.unsqueeze(-1)).double().sum(-1),
                threshold=drawn.rest.exp(),
                error=squared_error(sums, drawn, drawn.log_weights),
                read_error=squared_error(sums, drawn, read.log_weights),
                rank_bytes=rowcodes.varint_bytes(ranks[drawn.ids]).double().mean(-1),
                rank_bits=-(log_share[drawn.ids] / math.log(2)).mean(-1),
                beyond=(ranks[drawn.ids] >= 1 << 16).double().mean(-1),
            )
    return list(_rows(found, classes)) + replaced(teacher, words)


def replaced(teacher: smollm2.Teacher, words: Vocabulary) -> list[Row]:
    """Draws with replacement, kept as counts: how many have as many distinct classes as a row of ours, and their squared error."""
    states = torch.from_numpy(teacher.hidden[smollm2.TRAIN :, 63::128].copy()).flatten(0, 1)
    log_probs = torch.log_softmax(words.logits(states), -1)
    chance = float((1 - log_probs.double().exp().square().sum(-1)).mean())
    told = []
    for k in DRAWN:
        draws = draws_for(log_probs, k)
        told.append({"of": "counts", "classes": len(words.head), "k": k, "tokens": len(states), "draws": draws, "error": chance / draws})
    return told


def _rows(found: dict[tuple[Any, ...], Means], classes: int) -> Iterator[Row]:
    for (of, *what), means in found.items():
        row: Row = {"of": of, "classes": classes}
        if of == "text":
            row |= {"tokens": sum(map(len, means.values["entropy"]))}
        elif of == "dense":
            row |= {"format": what[0], "bytes": 2 * classes}
        elif of == "codes":
            row |= {"k": what[0], "bits": what[1], "bytes": row_bytes(what[0], classes, what[1])}
        else:
            row |= {"k": what[0], "bytes": row_bytes(what[0], classes)}
        yield {**row, **means.means()}


def fitting(classes: int) -> list[Row]:
    """How many classes a row can keep in less than LIMIT bytes, by format."""
    told: list[Row] = []
    for bits, ids in FORMATS:
        k = rowcodes.fits(LIMIT, classes, bits, ids)
        told.append({"of": "fits", "classes": classes, "bits": bits, "ids": ids, "k": k, "bytes": row_bytes(k, classes, bits, ids)})
    return told


def bias(teacher: smollm2.Teacher, words: Vocabulary, k: int, bits: int | None) -> Row:
    """KL(p || the mean of many draws) over groups of classes: the likeliest one by one, the others by how likely they are.

    Draws of finite number leave a KL of their own, so it is to be compared with that of draws that were not rounded (`bits` None).
    """
    means, draw = Means(), generator("bias", k)
    windows = list(smollm2.held_out())[:BIAS_TOKENS]
    for window in windows:
        log_probs = torch.log_softmax(words.logits(torch.from_numpy(teacher.hidden[window][100:101].copy())), -1)
        place = log_probs[0].argsort(descending=True).argsort()
        group = torch.where(place < SINGLE, place, SINGLE + (2 * (place.clamp(min=1) / SINGLE).log2()).floor().long())
        mean = torch.zeros(int(group.max()) + 1, dtype=torch.float64)
        for size in torch.arange(BIAS_DRAWS).split(PART):
            drawn = sampled(log_probs.expand(len(size), -1), k, torch.rand(len(size), generator=draw))
            read = drawn if bits is None else rowcodes.kept(drawn, bits)
            mean.index_add_(0, group[read.ids].flatten(), read.log_weights.double().exp().flatten() / BIAS_DRAWS)
        true = torch.zeros_like(mean).index_add_(0, group, log_probs[0].double().exp())
        means.add(kl=(true * (true.log() - mean.clamp(min=1e-30).log())).sum().unsqueeze(0), total=mean.sum().unsqueeze(0))
    said = {"of": "bias", "classes": len(words.head), "k": k, "bits": bits or "none", "draws": BIAS_DRAWS, "tokens": len(windows)}
    return {**said, **means.means()}


def note() -> str:
    """How it was measured."""
    return NOTE


def rows() -> list[Row]:
    """What was measured, by what it is of."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        teacher = smollm2.load()
        own = plain(teacher)
        found = measured(teacher, own) + fitting(len(own.head))
        found += [bias(teacher, own, k, bits) for k in (12, 20) for bits in (None, 8, 4)]
        wide = wider(teacher, own)
        return found + measured(teacher, wide) + fitting(len(wide.head))
    finally:
        torch.set_num_threads(threads)


def told(row: Row) -> str:
    """A row in one line."""
    return ", ".join(f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}" for key, value in row.items())
