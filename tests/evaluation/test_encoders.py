"""Numbers of encoders against loops, scikit-learn and SciPy; limits. Shapes: N samples, D width."""

from __future__ import annotations

import pytest
import torch
from scipy.stats import spearmanr
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from tutelage.data import Table
from tutelage.evaluation.encoder_wording import kept
from tutelage.evaluation.encoders import Embedded, embed, measure_encoder, probe, ranks_of_pairs, spearman
from tutelage.signals import Model


def drawn(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


class States(torch.nn.Module):
    """Hidden states of token ids: rows of an embedding."""

    def __init__(self, width=4):
        super().__init__()
        self.rows = torch.nn.Embedding(9, width)

    def forward(self, input_ids, attention_mask=None):
        return self.rows(input_ids)


def reading(width=4, seed=0):
    """An encoder whose tokenizer counts letters; shorter texts are padded."""

    def inputs(batch):
        longest = max(len(t) for t in batch["text"])
        ids = torch.tensor([[ord(c) % 9 for c in t] + [0] * (longest - len(t)) for t in batch["text"]])
        return {"input_ids": ids, "attention_mask": torch.tensor([[1] * len(t) + [0] * (longest - len(t)) for t in batch["text"]])}

    return Model(lambda: States(width), seed=seed, inputs=inputs, encodes=True)


TEXTS = ["ab", "bcd", "a", "cccab", "dd"]


@pytest.mark.parametrize("batch_size", [1, 2, 64])
def test_an_embedding_is_the_mean_of_true_tokens(batch_size):
    """Whatever stands beside a text."""
    model = reading()
    found = embed(model, Table({"text": TEXTS, "y": torch.arange(5)}), batch_size=batch_size)
    rows = model.module.rows.weight.detach()
    by_hand = torch.stack([rows[[ord(c) % 9 for c in t]].mean(0) for t in TEXTS])
    torch.testing.assert_close(found.vectors, by_hand)
    assert found.labels.tolist() == [0, 1, 2, 3, 4]
    assert found.others is None
    pairs = embed(model, Table({"text": TEXTS, "text_pair": TEXTS[::-1]}), batch_size=batch_size)
    torch.testing.assert_close(pairs.vectors, by_hand)
    torch.testing.assert_close(pairs.others, by_hand.flip(0))


def test_the_probe_is_a_logistic_regression():
    """Against scikit-learn, whose C sums where we take means."""
    centres = drawn(0, 3, 5)
    y, asked = torch.arange(90) % 3, torch.arange(60) % 3
    train, test = centres[y] + drawn(1, 90, 5), centres[asked] + drawn(2, 60, 5)
    scaler = StandardScaler().fit(train.numpy())
    other = LogisticRegression(C=1 / (90 * 1e-2), max_iter=1000, tol=1e-8).fit(scaler.transform(train.numpy()), y.numpy())
    expected = other.score(scaler.transform(test.numpy()), asked.numpy())
    assert probe(Embedded(train, None, y), Embedded(test, None, asked)) == pytest.approx(expected)
    assert expected > 0.5
    hidden = torch.where(torch.arange(60) < 30, asked, -100)
    half = probe(Embedded(train, None, y), Embedded(test, None, hidden))
    assert half == pytest.approx(other.score(scaler.transform(test[:30].numpy()), asked[:30].numpy()))
    assert probe(Embedded(train), Embedded(test, None, asked)) is None
    assert probe(Embedded(train, None, y), Embedded(test, None, torch.full((60,), -100))) is None


def test_ranks_and_correlations():
    """By a loop, and by SciPy with ties."""
    one, other = drawn(0, 7, 3), drawn(1, 7, 3)
    by_loop = [sum(float(one[i] @ other[j]) >= float(one[i] @ other[i]) - 1e-12 for j in range(7)) for i in range(7)]
    assert ranks_of_pairs(one, other).tolist() == by_loop
    x, y = torch.tensor([1.0, 2, 2, 5, 3]), torch.tensor([3.0, 1, 4, 4, 4])
    assert spearman(x, y) == pytest.approx(spearmanr(x.numpy(), y.numpy()).statistic)
    assert spearman(x, torch.ones(5)) == 0.0


def test_an_encoder_like_its_teacher_is_told_so():
    """Up to a turn and a scale, which change no cosine; and one of noise is not."""
    vectors = drawn(0, 40, 6)
    turn, _ = torch.linalg.qr(drawn(1, 6, 6))
    same = measure_encoder(Embedded(3 * vectors @ turn), teacher=Embedded(vectors))
    assert same["similarity"] == pytest.approx(1.0)
    assert same["neighbours"] == 1.0
    noise = measure_encoder(Embedded(drawn(2, 40, 6)), teacher=Embedded(vectors))
    assert abs(noise["similarity"]) < 0.2
    assert noise["neighbours"] < 0.6


def test_pairs_with_and_without_scores():
    """A score each is followed; without, a text must find its own."""
    one = drawn(0, 30, 8)
    found = measure_encoder(Embedded(one, one + 1e-3))
    assert found["mrr"] == found["recall_at_10"] == 1.0
    others = drawn(1, 30, 8)
    scores = torch.nn.functional.cosine_similarity(one, others).exp()
    assert measure_encoder(Embedded(one, others, scores))["score_correlation"] == pytest.approx(1.0)


def test_what_was_kept_in_words():
    """By the probe where there are labels, else by pairs, else by likeness to the teacher."""
    report = {"samples": 1000, "split": "test"}
    said = kept({"probe_accuracy": 0.8, "similarity": 0.9}, {"probe_accuracy": 0.9}, "the teacher", report)
    assert said == "The student keeps 88.8 % of the teacher's accuracy under a linear probe (80.00 % against 90.00 %)"
    assert "0.900" in kept({"similarity": 0.9}, {}, "the teacher", report)
    assert "is right on 80.00 % of 1,000 test samples" in kept({"probe_accuracy": 0.8}, {}, "", report)
