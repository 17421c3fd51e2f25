"""Bytes, in a student: the same small language model taught by what each format keeps of a teacher, against one taught by all classes.

Each arm has the same first weights, text, order and updates, seed by seed; the teacher's signals are made once and read again in each
epoch, as from a cache. Measured on held-out text against the teacher's full distribution.

Shapes: N tokens, V classes, K kept classes, D width.
"""

from __future__ import annotations

import concurrent.futures
import multiprocessing
import os
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import rowcodes
import smollm2
from tutelage.evaluation.seeds import Interval, interval, paired_interval
from tutelage.randomness import derive, generator
from tutelage.signals.sparse import SparseLogits, sampled, top_k

TITLE = "bytes, in students"
ALL = "all classes"
SEEDS = 4
EPOCHS, WINDOWS, RATE = 2, 1, 1e-2
"""Passes over the text, windows an update, and the highest rate of Adam."""
WIDTH, LAYERS, HEADS = 64, 2, 4
CHUNK = 128
"""Tokens whose logits are there at once."""
MEASURED = ("kl", "cross_entropy", "agreement")

NOTE = (
    "A transformer of {layers} layers and width {width} over all {classes} classes; its embedding, tied with the head, begins as the "
    "teacher's in its principal components, its bias as the logarithm of counts. {updates} updates of {tokens} tokens ({epochs} passes "
    "over {distinct}), Adam at {rate:g} with a linear rise and fall, {seeds} seeds (of first weights and draws), loss "
    "KL(teacher || student) at temperature 1, mean over tokens; measured on {held_out} others."
)


class Signal(NamedTuple):
    """What an arm keeps of a row: ids (N, K), what they weigh (N, K), and what the bucket of all others weighs (N,), if there is one."""

    ids: Tensor
    weights: Tensor
    bucket: Tensor | None


def of_sparse(sparse: SparseLogits, tail: str) -> Signal:
    """Weights that sum to 1, those of the bucket included."""
    weights = sparse.log_weights.exp()
    if tail == "bucket":
        return Signal(sparse.ids, weights, sparse.rest.exp())
    return Signal(sparse.ids, weights / weights.sum(-1, keepdim=True), None)


Arm = Callable[[Tensor, Tensor, Tensor], Signal]
"""(log-probabilities (N, V), next tokens (N,), uniform numbers (N,)) to what is kept."""


def drawn(k: int) -> Arm:
    """K drawn classes in eight bits."""
    return lambda log_probs, _next, uniforms: of_sparse(rowcodes.kept(sampled(log_probs, k, uniforms), 8), "drawn")


def arms() -> dict[str, tuple[int, Arm]]:
    """Bytes a token and the format, by name; that with all classes keeps no signal, it is given the teacher anew."""
    V = 49_152

    def top(k: int, tail: str) -> Arm:
        return lambda log_probs, _next, _uniforms: of_sparse(rowcodes.kept(top_k(log_probs, k), 8), tail)

    def label(_log_probs: Tensor, following: Tensor, _uniforms: Tensor) -> Signal:
        return Signal(following.unsqueeze(-1), torch.ones(len(following), 1), None)

    return {
        "20 drawn": (rowcodes.row_bytes(20, V), drawn(20)),
        "12 drawn": (rowcodes.row_bytes(12, V), drawn(12)),
        "top 20, the others a bucket": (rowcodes.row_bytes(20, V), top(20, "bucket")),
        "top 20, renormalised": (rowcodes.row_bytes(20, V), top(20, "renormalize")),
        "labels": (rowcodes.id_bits(V) // 8, label),
    }


class Pupil(nn.Module):
    """A small causal transformer that ends in the hidden state before the head.

    Args:
        embedding: (V, D), its first; tied with the head.
        bias: (V,), the head's first.
    """

    def __init__(self, embedding: Tensor, bias: Tensor) -> None:
        super().__init__()
        self.embedding, self.bias = nn.Parameter(embedding.clone()), nn.Parameter(bias.clone())
        self.place = nn.Parameter(0.02 * torch.randn(smollm2.POSITIONS, WIDTH))
        layer = nn.TransformerEncoderLayer(WIDTH, HEADS, 4 * WIDTH, dropout=0.0, batch_first=True, norm_first=True)
        last = nn.LayerNorm(WIDTH)
        nn.init.constant_(last.weight, 0.1)  # so that the first logits are about the bias
        self.layers = nn.TransformerEncoder(layer, LAYERS, last, enable_nested_tensor=False)

    def forward(self, tokens: Tensor) -> Tensor:
        """Hidden states (N, D) of windows of tokens."""
        mask = nn.Transformer.generate_square_subsequent_mask(tokens.shape[1])
        hidden = self.layers(F.embedding(tokens, self.embedding) + self.place, mask=mask, is_causal=True)
        return hidden.flatten(0, 1)

    def logits(self, hidden: Tensor) -> Tensor:
        """(N, V)."""
        return torch.addmm(self.bias, hidden, self.embedding.T, alpha=WIDTH**-0.5)


def cross_entropy(logits: Tensor, signal: Signal) -> Tensor:
    """Sum over rows of KL(kept || student) but for what does not hang on the student; a bucket is one class of student, too."""
    log_probs_K = logits.gather(-1, signal.ids) - logits.logsumexp(-1, keepdim=True)
    loss = -(signal.weights * log_probs_K).sum()
    if signal.bucket is not None:
        others = torch.log(-torch.expm1(log_probs_K.logsumexp(-1).clamp(max=-1e-6)))
        loss = loss - (signal.bucket * others).sum()
    return loss


def dense_cross_entropy(logits: Tensor, probs: Tensor) -> Tensor:
    """The same with all classes."""
    return logits.logsumexp(-1).sum() - (probs * logits).sum()


def beginning(teacher: smollm2.Teacher, windows: int = smollm2.TRAIN) -> tuple[Tensor, Tensor]:
    """A first embedding and bias: the teacher's in its WIDTH principal components, and the logarithms of counts."""
    centred = teacher.head - teacher.head.mean(0)
    _, directions = torch.linalg.eigh(centred.T @ centred)
    embedding = centred @ directions[:, -WIDTH:]
    seen = torch.bincount(teacher.tokens[:windows].flatten(), minlength=len(embedding))
    return embedding / embedding.std(), (seen + 0.1).log() - (seen + 0.1).sum().log()


class Study:
    """All arms of one seed, which take their steps together, so that the teacher's distribution is made once for all.

    Args:
        teacher: the teacher.
        start: of all students, embedding and bias.
        seed: of first weights and draws.
        formats: arms besides ALL.
    """

    def __init__(self, teacher: smollm2.Teacher, start: tuple[Tensor, Tensor], seed: int, formats: dict[str, tuple[int, Arm]]) -> None:
        self.teacher, self.seed, self.formats = teacher, seed, formats
        self.kept: dict[tuple[str, int], Signal] = {}
        self.pupils: dict[str, Pupil] = {}
        for name in (ALL, *formats):
            torch.manual_seed(derive("pupil", seed))
            self.pupils[name] = Pupil(*start)
        self.optimizers = {name: torch.optim.Adam(pupil.parameters(), lr=RATE, betas=(0.9, 0.98)) for name, pupil in self.pupils.items()}

    def step(self, windows: list[int], log_probs: Tensor, rate: float) -> None:
        """One update of each arm; what a format keeps is made at the first sight of a window and read again later."""
        signals = {name: [self.signal(name, window, log_probs[at]) for at, window in enumerate(windows)] for name in self.formats}
        tokens = self.teacher.tokens[windows]
        probs = log_probs.flatten(0, 1).exp()
        for name, pupil in self.pupils.items():
            hidden = pupil(tokens)
            leaf = hidden.detach().requires_grad_()
            whole = None if name == ALL else joined(signals[name])
            for at in range(0, len(leaf), CHUNK):
                rows = slice(at, at + CHUNK)
                logits = pupil.logits(leaf[rows])
                loss = dense_cross_entropy(logits, probs[rows]) if whole is None else cross_entropy(logits, cut(whole, rows))
                (loss / len(leaf)).backward()
            assert leaf.grad is not None
            hidden.backward(leaf.grad)
            optimizer = self.optimizers[name]
            for group in optimizer.param_groups:
                group["lr"] = rate
            nn.utils.clip_grad_norm_(pupil.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()

    def signal(self, name: str, window: int, log_probs: Tensor) -> Signal:
        """What a format keeps of a window."""
        if (name, window) not in self.kept:
            tokens = self.teacher.tokens
            following = torch.cat([tokens[window, 1:], tokens[(window + 1) % len(tokens), :1]])
            uniforms = torch.rand(len(log_probs), generator=generator("draw", self.seed, window, name))
            self.kept[name, window] = self.formats[name][1](log_probs, following, uniforms)
        return self.kept[name, window]

    @torch.no_grad()
    def measure(self, window: int, log_probs: Tensor) -> dict[str, list[float]]:
        """Sums over the tokens of a held-out window, by arm: KL(teacher || student), cross entropy of the next token, agreement."""
        tokens = self.teacher.tokens[window : window + 1]
        probs, best = log_probs.exp(), log_probs.argmax(-1)
        entropy = float((probs * log_probs).sum())
        found = {}
        for name, pupil in self.pupils.items():
            said = torch.log_softmax(pupil.logits(pupil(tokens)), -1)
            kl = entropy - float((probs * said).sum())
            label = float(F.nll_loss(said[:-1], tokens[0, 1:], reduction="mean")) * len(said)
            found[name] = [kl, label, float((said.argmax(-1) == best).sum())]
        return found


def joined(signals: list[Signal]) -> Signal:
    """Windows one after the other."""
    buckets = [signal.bucket for signal in signals if signal.bucket is not None]
    return Signal(torch.cat([s.ids for s in signals]), torch.cat([s.weights for s in signals]), torch.cat(buckets) if buckets else None)


def cut(signal: Signal, rows: slice) -> Signal:
    """Some rows."""
    return Signal(signal.ids[rows], signal.weights[rows], None if signal.bucket is None else signal.bucket[rows])


def rates(updates: int) -> list[float]:
    """A linear rise over the first twentieth, then a linear fall to 0."""
    rise = max(1, updates // 20)
    return [RATE * min((at + 1) / rise, (updates - at) / (updates - rise)) for at in range(updates)]


def trained(
    seeds: list[int], formats: dict[str, tuple[int, Arm]] | None = None, windows: int = smollm2.TRAIN
) -> dict[int, dict[str, list[float]]]:
    """Train all arms of some seeds, in turns, and measure them: means over tokens by seed and arm, in the order of MEASURED.

    Args:
        seeds: of first weights and draws.
        formats: arms besides ALL; None for all of them.
        windows: of text that they are taught on.
    """
    torch.set_num_threads(1)
    teacher = smollm2.load()
    start = beginning(teacher, windows)
    studies = [Study(teacher, start, seed, arms() if formats is None else formats) for seed in seeds]
    order = [
        batch.tolist()
        for epoch in range(EPOCHS)
        for batch in torch.randperm(windows, generator=generator("order", 0, epoch)).split(WINDOWS)
    ]
    begun = time.monotonic()
    for at, (chosen, rate) in enumerate(zip(order, rates(len(order)), strict=True)):
        log_probs = teacher.log_probs(chosen).unflatten(0, (len(chosen), -1))
        for study in studies:
            study.step(chosen, log_probs, rate)
        if at % 20 == 19:
            print(f"seeds {seeds}: update {at + 1} of {len(order)}, {time.monotonic() - begun:.0f} s", flush=True)
    sums: dict[int, dict[str, list[float]]] = {}
    for window in smollm2.held_out():
        log_probs = teacher.log_probs([window])
        for study in studies:
            own = sums.setdefault(study.seed, {})
            for name, found in study.measure(window, log_probs).items():
                own[name] = [a + b for a, b in zip(own.get(name, [0.0] * len(found)), found, strict=True)]
    count = smollm2.HELD_OUT * smollm2.POSITIONS
    return {seed: {name: [value / count for value in values] for name, values in own.items()} for seed, own in sums.items()}


def note() -> str:
    """How it was measured."""
    tokens = WINDOWS * smollm2.POSITIONS
    updates = EPOCHS * smollm2.TRAIN // WINDOWS
    return NOTE.format(
        layers=LAYERS,
        width=WIDTH,
        classes="49,152",
        updates=updates,
        tokens=tokens,
        distinct=f"{smollm2.TRAIN * smollm2.POSITIONS:,}",
        rate=RATE,
        seeds=SEEDS,
        epochs=EPOCHS,
        held_out=f"{smollm2.HELD_OUT * smollm2.POSITIONS:,}",
    )


def rows() -> list[dict[str, Any]]:
    """One row an arm: what was measured, seed by seed, and the difference to all classes with its interval."""
    found = shared_out(trained)
    sizes = {ALL: 2 * 49_152, **{name: size for name, (size, _) in arms().items()}}
    told = []
    for name, size in sizes.items():
        row: dict[str, Any] = {"format": name, "bytes": size}
        for at, what in enumerate(MEASURED):
            values, whole = ([found[seed][arm][at] for seed in range(SEEDS)] for arm in (name, ALL))
            row[what] = {"per_seed": values, **plain(interval(values))}
            if name != ALL:
                row[what]["difference"] = plain(paired_interval(values, whole))
        told.append(row)
    return told


def shared_out(study: Callable[[list[int]], dict[int, Any]]) -> dict[int, Any]:
    """What a study of some seeds gives, by seed, in as many processes as there are cores."""
    smollm2.load()  # made before the processes begin
    workers = max(1, min(SEEDS, (os.cpu_count() or 1)))
    shares = [list(range(at, SEEDS, workers)) for at in range(workers)]
    found: dict[int, Any] = {}
    with concurrent.futures.ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        for part in pool.map(study, shares):
            found |= part
    return found


def told(row: dict[str, Any]) -> str:
    """A row in one line."""
    return f"{row['format']}, {row['bytes']} bytes: " + ", ".join(f"{what} {row[what]['mean']:.4f}" for what in MEASURED)


def plain(found: Interval) -> dict[str, float]:
    """An interval as JSON."""
    return {"mean": found.mean, "low": found.low, "high": found.high}
