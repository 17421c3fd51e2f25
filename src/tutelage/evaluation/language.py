"""Measure language models: how well they predict each next token, how sure they are, and how far they follow a teacher.

Several models are asked about the same batch and compared row by row, a few rows at a time, since the distributions of a whole source
over a large vocabulary fit nowhere. What is kept are sums by sample, so that intervals can be drawn over samples.

Shapes: N samples, B batch, T positions, R unmasked positions of a batch, V vocabulary.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tutelage.data import Source
from tutelage.errors import BadInput
from tutelage.evaluation.classification import BINS, NO_LABEL
from tutelage.randomness import generator
from tutelage.signals import Batch, DeferredLogits, Model
from tutelage.signals.head import held
from tutelage.signals.outputs import raised
from tutelage.teachers import Teacher

NUMBERS = 2**23
"""Logits of a model that are looked at at once (32 MiB)."""
DRAWS = 1000
SAMPLES = 16
AT_ONCE = 2**27
"""Samples, and logits of a model (512 MiB), of a pass."""


@dataclass(frozen=True)
class Told:
    """What a model said about each sample of a source, as sums over the sample's tokens, float64 (N,).

    Args:
        tokens: how many were predicted.
        nats: the negative log-likelihood of the tokens that came.
        right: how often the likeliest token came.
        entropy: of the model's distributions, in nats.
        bins: of confidence: how many choices, how many right, and the sum of their confidences, (BINS, 3).
        forward: KL(reference || model) in nats; None without a reference.
        reverse: KL(model || reference) in nats.
        same: how often both find the same token likeliest.
    """

    tokens: Tensor
    nats: Tensor
    right: Tensor
    entropy: Tensor
    bins: Tensor
    forward: Tensor | None = None
    reverse: Tensor | None = None
    same: Tensor | None = None


SUMS = ("tokens", "nats", "right", "entropy", "forward", "reverse", "same")


def is_language(source: Source) -> bool:
    """Whether a source has a token at each position to be predicted: labels of whole numbers, (B, T)."""
    labels = source.batch(torch.tensor([0])).get("y")
    return isinstance(labels, Tensor) and labels.ndim == 2 and not labels.is_floating_point()


def tokens_of(source: Source, batch_size: int = 64) -> int:
    """How many tokens of a source are to be predicted."""
    batches = (source.batch(positions)["y"] for positions in torch.arange(len(source)).split(batch_size))
    return sum(int((y_BT != NO_LABEL).sum()) for y_BT in batches)


def told(
    models: Mapping[str, Model | Teacher],
    source: Source,
    *,
    reference: str | None = None,
    device: torch.device | str = "cpu",
    batch_size: int | None = None,
) -> dict[str, Told]:
    """Ask models about every token of a source, in evaluation mode and without gradients.

    Args:
        models: by name; moved to the device.
        source: with labels (B, T): the token that follows each position, -100 where there is none.
        reference: name of the model that all are compared with, the teacher.
        device: where to compute.
        batch_size: samples a pass; None means 16, or fewer where their logits would fill the memory.

    Returns:
        What each said.

    Raises:
        BadInput: no position has a label, or a model knows fewer tokens than occur.
    """
    sums: dict[str, list[Tensor]] = {name: [] for name in models}
    bins = {name: torch.zeros(BINS, 3, dtype=torch.float64) for name in models}
    for model in _single(models):
        model.module.to(device)
    first = _placed(source.batch(torch.arange(min(1, len(source)))), device)
    deferring = {name for name, each in models.items() if _can_defer(each, first)}
    place, count = 0, batch_size or 1  # the first shows how many fit
    while place < len(source):
        positions = torch.arange(place, min(place + count, len(source)))
        place += len(positions)
        placed = _placed(source.batch(positions), device)
        known_BT = placed["y"] != NO_LABEL
        shown = {name: _logits(each, placed, name in deferring) for name, each in models.items()}
        width = max(logits.shape[-1] for logits in shown.values())
        count = batch_size or max(1, min(SAMPLES, AT_ONCE // (width * known_BT.shape[1])))
        of_samples = {name: torch.zeros(len(positions), len(SUMS), dtype=torch.float64) for name in models}
        for rows in _parts(known_BT, width):
            label_R, sample_R = placed["y"][rows], rows[0].cpu()
            log_probs = {name: _rows(logits, rows).log_softmax(-1) for name, logits in shown.items()}
            for name, log_q_RV in log_probs.items():
                if int(label_R.max()) >= log_q_RV.shape[-1]:
                    raise BadInput(
                        f"{name} knows {log_q_RV.shape[-1]:,} tokens, but {source.name} has the token {int(label_R.max())}; "
                        "give data that were split by its tokenizer"
                    )
                numbers_RS, confidence_R = _numbers(log_q_RV, label_R, log_probs.get(reference) if reference else None)
                of_samples[name].index_add_(0, sample_R, numbers_RS.cpu())
                place_R = (confidence_R * BINS).long().clamp(max=BINS - 1)
                each_R3 = torch.stack([torch.ones_like(confidence_R), numbers_RS[:, 2], confidence_R], dim=-1)
                bins[name].index_add_(0, place_R.cpu(), each_R3.cpu())
        for name, found in of_samples.items():
            sums[name].append(found)
    whole = {name: torch.cat(each).unbind(-1) for name, each in sums.items()}
    if models and not next(iter(whole.values()))[0].any():
        raise BadInput(f"{source.name} has no token to be predicted: all labels are {NO_LABEL}")
    kept = SUMS if reference is not None else SUMS[:4]
    return {name: Told(bins=bins[name], **dict(zip(kept, each[: len(kept)], strict=True))) for name, each in whole.items()}


def measure_tokens(said: Told) -> dict[str, float]:
    """Numbers of a language model, means over tokens.

    Returns:
        `nll` (nats a token), `perplexity`, its exponential, and `likelihood`, the inverse of that: the geometric mean of the probability
        of the token that came; `accuracy`, how often the likeliest token came; `ece`, the expected
        calibration error of that choice over 15 bins; `entropy` of its distributions (nats). With a reference: `forward_kl`,
        KL(teacher || model), `reverse_kl`, KL(model || teacher), in nats a token; `agreement`, how often both choose the same token.
    """
    count = float(said.tokens.sum())
    nll = float(said.nats.sum()) / count
    found = {"nll": nll, "perplexity": math.exp(min(nll, 700.0)), "likelihood": math.exp(-nll), "accuracy": float(said.right.sum()) / count}
    found["ece"] = float((said.bins[:, 1] - said.bins[:, 2]).abs().sum() / count)
    found["entropy"] = float(said.entropy.sum()) / count
    for key, sums in (("forward_kl", said.forward), ("reverse_kl", said.reverse), ("agreement", said.same)):
        if sums is not None:
            found[key] = float(sums.sum()) / count
    return found


def reliability_of_tokens(said: Told) -> list[dict[str, Any]]:
    """How often the likeliest token comes when the model is so sure of it, by bins of confidence; as `classification.reliability`."""
    rows = []
    for count, right, confidence in said.bins.tolist():
        each = {"accuracy": right / count, "confidence": confidence / count} if count else {"accuracy": None, "confidence": None}
        rows.append({"samples": int(count), **each})
    return rows


def token_difference(first: Told, second: Told, *, seed: int = 0, draws: int = DRAWS) -> dict[str, Any]:
    """How many nats a token the first model has less or more than the second, on the same samples.

    Returns:
        `nll`, first less second; `low` and `high`, its 95 % interval over samples: they are drawn anew, tokens of one sample together,
        since what follows one another is no independent evidence. It knows nothing of how other seeds would have ended.

    Source: Efron, "Bootstrap Methods: Another Look at the Jackknife", Annals of Statistics 7, 1979.
    """
    gap_N = first.nats - second.nats
    low, high = _interval(_drawn(gap_N.unsqueeze(1), first.tokens, seed, draws)[:, 0])
    return {"nll": float(gap_N.sum() / first.tokens.sum()), "low": low, "high": high}


MEANS = {"nll": "nats", "accuracy": "right", "entropy": "entropy", "forward_kl": "forward", "reverse_kl": "reverse", "agreement": "same"}
"""Numbers that are means over tokens, and the sums that they are of."""


def token_intervals(said: Told, *, seed: int = 0, draws: int = DRAWS) -> dict[str, tuple[float, float]]:
    """95 % intervals of a model's numbers over samples, drawn as for `token_difference`; by the names that `measure_tokens` gives."""
    known = {key: sums for key, name in MEANS.items() if (sums := getattr(said, name)) is not None}
    drawn_RK = _drawn(torch.stack(list(known.values()), dim=-1), said.tokens, seed, draws)
    found = {key: _interval(drawn_R) for key, drawn_R in zip(known, drawn_RK.unbind(-1), strict=True)}
    low, high = found["nll"]
    return {"perplexity": (math.exp(min(low, 700.0)), math.exp(min(high, 700.0))), **found}


def _drawn(sums_NK: Tensor, tokens_N: Tensor, seed: int, draws: int) -> Tensor:
    """Means over tokens when samples are drawn anew, as many with replacement, (draws, K); the same draws for all models."""
    samples = len(tokens_N)
    found = []
    for number in range(draws):
        chosen = torch.randint(samples, (samples,), generator=generator("token-bootstrap", seed, number))
        found.append(sums_NK[chosen].sum(0) / tokens_N[chosen].sum().clamp(min=1))
    return torch.stack(found)


def _interval(drawn_R: Tensor) -> tuple[float, float]:
    low, high = drawn_R.quantile(torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
    return low, high


def _single(models: Mapping[str, Model | Teacher]) -> list[Model]:
    return [model for each in models.values() for model in (each.models() if isinstance(each, Teacher) else [each])]


def _placed(batch: Batch, device: torch.device | str) -> dict[str, Any]:
    return {k: v.to(device) if isinstance(v, Tensor) else v for k, v in batch.items()}


def _can_defer(who: Model | Teacher, batch: Batch) -> bool:
    """Whether the logits over a large vocabulary need not exist as a whole."""
    if isinstance(who, Teacher) and "deferred" not in who.gives.forms:
        return False
    with contextlib.ExitStack() as stack:
        return all(stack.enter_context(held(model, batch)) is None for model in _single({"": who}))


def _logits(who: Model | Teacher, batch: Batch, deferring: bool) -> Any:
    with contextlib.ExitStack() as stack:
        for model in _single({"": who}) if deferring else ():
            stack.enter_context(model.deferring())
        if isinstance(who, Teacher):
            return who.signals(batch, {"logits"})["logits"]
        with who.mode(training=False), torch.no_grad():
            return who.observe(batch, {"logits"})["logits"]


def _parts(known_BT: Tensor, classes: int) -> list[tuple[Tensor, Tensor]]:
    """Indices of the unmasked positions, some at a time."""
    places_R2 = known_BT.nonzero()
    return [(part[:, 0], part[:, 1]) for part in places_R2.split(max(1, NUMBERS // classes)) if len(part)]


def _rows(logits: Any, rows: tuple[Tensor, Tensor]) -> Tensor:
    """The logits (R, V) at some positions, in float32 or wider."""
    return raised(logits.at(rows).dense() if isinstance(logits, DeferredLogits) else logits[rows])


def _numbers(log_q_RV: Tensor, label_R: Tensor, log_p_RV: Tensor | None) -> tuple[Tensor, Tensor]:
    """Each row's numbers in the order of SUMS, (R, 7) float64, and its confidence (R,) float64."""
    best_R = log_q_RV.max(-1)
    q_RV = log_q_RV.exp()
    none_R = torch.zeros_like(best_R.values)
    found = [
        torch.ones_like(none_R),
        -log_q_RV.gather(-1, label_R.unsqueeze(-1)).squeeze(-1),
        (best_R.indices == label_R).to(none_R.dtype),
        -(q_RV * log_q_RV).nan_to_num(nan=0.0).sum(-1),
        none_R,
        none_R,
        none_R,
    ]
    if log_p_RV is not None:
        V = min(log_p_RV.shape[-1], log_q_RV.shape[-1])
        log_p_RV, log_q_RV, q_RV = log_p_RV[:, :V], log_q_RV[:, :V], q_RV[:, :V]
        gap_RV = log_p_RV - log_q_RV
        p_RV = log_p_RV.exp()
        found[4:] = [
            torch.where(p_RV > 0, p_RV * gap_RV, 0.0).sum(-1),
            torch.where(q_RV > 0, -q_RV * gap_RV, 0.0).sum(-1),
            (log_p_RV.argmax(-1) == best_R.indices).to(none_R.dtype),
        ]
    return torch.stack([each.double() for each in found], dim=-1), best_R.values.double().exp()
