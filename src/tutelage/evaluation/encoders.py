"""What an encoder without a head is worth: a linear probe on its embeddings, pairs that it brings together, agreement with a teacher.

An embedding is the mean of the hidden states over the tokens that are no padding. Shapes: N samples, T tokens, D width, P pairs.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from tutelage.data import Source
from tutelage.signals import Batch, Model
from tutelage.signals.attention import valid_tokens
from tutelage.signals.outputs import raised

PROBED = 5_000
"""Training samples that a probe is fitted to."""
COMPARED = 1_000
"""Samples whose similarities and neighbours are compared."""
NEAREST = 10


@dataclass(frozen=True)
class Embedded:
    """What an encoder makes of a source.

    Args:
        vectors: (N, D), on the CPU.
        others: of the second text of each pair, (N, D); None where samples are single.
        labels: (N,), or None.
    """

    vectors: Tensor
    others: Tensor | None = None
    labels: Tensor | None = None


def embed(model: Model, source: Source, *, device: torch.device | str = "cpu", batch_size: int = 64) -> Embedded:
    """Ask an encoder about every sample, in evaluation mode and without gradients; texts of a pair one by one.

    Args:
        model: an encoder; moved to the device.
        source: the samples.
        device: where to compute.
        batch_size: samples a pass.
    """
    model.module.to(device)
    valid = valid_tokens(model)
    found: list[list[Tensor]] = [[], []]
    labels = []
    with model.mode(training=False), torch.no_grad():
        for positions in torch.arange(len(source)).split(batch_size):
            batch = {k: v.to(device) if isinstance(v, Tensor) else v for k, v in source.batch(positions).items()}
            texts = batch.pop("text_pair", None)
            for rows, each in zip(found, [batch, *([{**batch, "text": texts}] if texts is not None else [])], strict=False):
                rows.append(pooled(model, each, valid(each)).cpu())
            if "y" in batch:
                labels.append(torch.as_tensor(batch["y"]).cpu())
    one, other = (torch.cat(rows) if rows else None for rows in found)
    assert one is not None
    return Embedded(one, other, torch.cat(labels) if labels else None)


def pooled(model: Model, batch: Batch, valid_BT: Tensor | None) -> Tensor:
    """The embedding of each sample, (B, D), in float32 or wider: the mean over its true tokens."""
    states = raised(model.observe(batch, {"logits"})["logits"])
    if states.ndim == 2:
        return states
    kept_BT1 = torch.ones_like(states[..., :1]) if valid_BT is None else valid_BT.unsqueeze(-1).to(states.dtype)
    return (states * kept_BT1).sum(1) / kept_BT1.sum(1).clamp(min=1)


def probe(train: Embedded, test: Embedded, decay: float = 1e-2) -> float | None:
    """Accuracy of a logistic regression on frozen embeddings; None without labels, one class a sample, on both sides.

    Args:
        train: what it is fitted to; standardised by its own mean and deviation.
        test: what it is judged on.
        decay: penalty on half the squared weights, of the mean loss.
    """
    known = [None if e.labels is None or e.labels.ndim != 1 or e.labels.is_floating_point() else e.labels >= 0 for e in (train, test)]
    if known[0] is None or known[1] is None or not known[0].any() or not known[1].any():
        return None
    assert train.labels is not None
    assert test.labels is not None
    x, y, asked, right = train.vectors[known[0]].double(), train.labels[known[0]], test.vectors[known[1]].double(), test.labels[known[1]]
    mean, deviation = x.mean(0), x.std(0, correction=0).clamp(min=1e-8)
    x, asked = (x - mean) / deviation, (asked - mean) / deviation
    classes = int(max(y.max(), right.max())) + 1
    weight, bias = (torch.zeros(*shape, dtype=torch.float64, requires_grad=True) for shape in ((x.shape[1], classes), (classes,)))
    solver = torch.optim.LBFGS([weight, bias], max_iter=200, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        solver.zero_grad()
        value = F.cross_entropy(x @ weight + bias, y) + decay / 2 * weight.square().sum()
        value.backward()
        return value

    with torch.enable_grad():
        solver.step(loss)
    return float(((asked @ weight + bias).argmax(1) == right).double().mean())


def measure_encoder(own: Embedded, train: Embedded | None = None, teacher: Embedded | None = None) -> dict[str, float]:
    """Numbers of an encoder.

    Args:
        own: what it makes of the samples it is judged on.
        train: what it makes of training samples, for the probe.
        teacher: what a teacher makes of the samples it is judged on.

    Returns:
        With labels `probe_accuracy`. Of pairs with a score each, `score_correlation`: Spearman's between the scores and the cosines. Of
        pairs without, `mrr`, the mean of 1 / rank of a text's own pair among all, and `recall_at_10`. Where there is a teacher,
        `similarity`: Spearman's between both sides' cosines of all two of the first 1,000 samples; and `neighbours`, the share of the 10
        nearest on the teacher's side that are among the 10 nearest here.
    """
    found: dict[str, float] = {}
    right = None if train is None or own.others is not None else probe(train, own)
    if right is not None:
        found["probe_accuracy"] = right
    one = F.normalize(own.vectors.double(), dim=1)
    if own.others is not None:
        other = F.normalize(own.others.double(), dim=1)
        if own.labels is not None and own.labels.is_floating_point():
            found["score_correlation"] = spearman((one * other).sum(1), own.labels)
        elif own.labels is None:
            rank_N = ranks_of_pairs(one, other)
            found |= {"mrr": float((1 / rank_N).mean()), f"recall_at_{NEAREST}": float((rank_N <= NEAREST).double().mean())}
    if teacher is not None and len(one) > 2:
        its = F.normalize(teacher.vectors.double(), dim=1)
        near, goal = (x[:COMPARED] @ x[:COMPARED].T for x in (one, its))
        above = torch.ones_like(near, dtype=torch.bool).triu(1)
        found["similarity"] = spearman(near[above], goal[above])
        k = min(NEAREST, len(near) - 1)
        mine, theirs = (x.fill_diagonal_(-2).topk(k, dim=1).indices for x in (near, goal))
        found["neighbours"] = float((mine.unsqueeze(2) == theirs.unsqueeze(1)).any(2).double().mean())
    return found


def ranks_of_pairs(one_PD: Tensor, other_PD: Tensor) -> Tensor:
    """For each text the rank, from 1, of its own pair among all by the inner product; of equals it is the last, (P,)."""
    rank = []
    for part_PD, own_PD in zip(one_PD.split(512), other_PD.split(512), strict=True):
        rank.append((part_PD @ other_PD.T >= (part_PD * own_PD).sum(1, keepdim=True) - 1e-12).sum(1))
    return torch.cat(rank).double()


def spearman(one: Tensor, other: Tensor) -> float:
    """The rank correlation of two rows of numbers; 0 where one of them says nothing."""
    from scipy.stats import rankdata

    x, y = (torch.from_numpy(rankdata(v.detach().cpu().numpy())).double() for v in (one, other))
    x, y = x - x.mean(), y - y.mean()
    scale = float(x.norm() * y.norm())
    return float(x @ y) / scale if scale > 0 else 0.0
