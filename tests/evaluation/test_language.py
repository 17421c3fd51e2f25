"""The numbers of language models, against loops in NumPy; shapes: 11 samples, 5 positions, 7 tokens."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from tutelage.data import Table
from tutelage.errors import BadInput
from tutelage.evaluation import language
from tutelage.evaluation.language import is_language, measure_tokens, reliability_of_tokens, token_difference, tokens_of, told
from tutelage.signals import Model
from tutelage.teachers import Ensemble, Frozen

N, T, V = 11, 5, 7


@pytest.fixture
def source(rng):
    length = torch.randint(0, T + 1, (N,), generator=rng)
    y = torch.where(torch.arange(T) < length[:, None], torch.randint(V, (N, T), generator=rng), -100)
    return Table({"x": torch.randint(V, (N, T), generator=rng), "y": y})


def speaker(seed: int, scale: float = 2.0) -> Model:
    torch.manual_seed(seed)
    net = nn.Embedding(V, V)
    net.weight.data *= scale
    return Model(net, name=f"speaker {seed}")


def by_hand(model: Model, source: Table, teacher: Model | None = None) -> dict[str, float]:
    """Token by token."""

    def distribution(who, x):
        z = who.module.weight.detach().double().numpy()[x]
        return np.exp(z - z.max()) / np.exp(z - z.max()).sum()

    nats, right, entropy, forward, reverse, same, sure = [], [], [], [], [], [], []
    for x, y in zip(source.columns["x"].flatten().tolist(), source.columns["y"].flatten().tolist(), strict=True):
        if y == -100:
            continue
        q = distribution(model, x)
        nats.append(-np.log(q[y]))
        right.append(float(q.argmax() == y))
        sure.append(q.max())
        entropy.append(-(q * np.log(q)).sum())
        if teacher is not None:
            p = distribution(teacher, x)
            forward.append((p * np.log(p / q)).sum())
            reverse.append((q * np.log(q / p)).sum())
            same.append(float(p.argmax() == q.argmax()))
    nll = np.mean(nats)
    found = {"nll": nll, "perplexity": np.exp(nll), "likelihood": np.exp(-nll), "accuracy": np.mean(right), "entropy": np.mean(entropy)}
    place = np.minimum((np.array(sure) * 15).astype(int), 14)
    found["ece"] = sum(abs((np.array(right) - np.array(sure))[place == b].sum()) for b in range(15)) / len(right)
    if teacher is not None:
        found |= {"forward_kl": np.mean(forward), "reverse_kl": np.mean(reverse), "agreement": np.mean(same)}
    return found


@pytest.mark.parametrize(("batch_size", "numbers"), [(16, 2**23), (3, 2**23), (4, 2 * V), (16, 1)])
def test_the_numbers_are_those_of_a_loop_however_it_is_cut(source, batch_size, numbers, monkeypatch):
    """Samples, batches and rows must each count by their tokens."""
    monkeypatch.setattr(language, "NUMBERS", numbers)
    teacher, student = speaker(1), speaker(2)
    said = told({"teacher": teacher, "student": student}, source, reference="teacher", batch_size=batch_size)
    for name, model in (("teacher", teacher), ("student", student)):
        wanted = by_hand(model, source, teacher)
        assert measure_tokens(said[name]) == pytest.approx(wanted, abs=1e-6)
    assert said["student"].tokens.tolist() == (source.columns["y"] != -100).sum(1).tolist()


def test_without_a_teacher_nothing_is_compared(source):
    found = measure_tokens(told({"student": speaker(2)}, source)["student"])
    assert found == pytest.approx(by_hand(speaker(2), source), abs=1e-6)
    assert "forward_kl" not in found


def test_a_teacher_of_several_models_is_one_reference(source):
    ensemble = Ensemble([Frozen(speaker(1)), Frozen(speaker(1))])
    said = told({"ensemble": ensemble, "student": speaker(2)}, source, reference="ensemble")
    assert measure_tokens(said["student"]) == pytest.approx(by_hand(speaker(2), source, speaker(1)), abs=1e-5)


def test_sure_models_give_finite_numbers(source):
    """Probabilities of 0 in float32: 0 log 0 is 0, on either side."""
    said = told({"teacher": speaker(1, 300.0), "student": speaker(2, 300.0)}, source, reference="teacher")
    numbers = measure_tokens(said["student"])
    assert all(np.isfinite(value) for value in numbers.values())
    assert numbers["entropy"] == pytest.approx(0.0, abs=1e-3)


def test_a_wider_teacher_is_compared_on_the_common_tokens(source):
    """Heads of one family are padded to different widths."""
    wide = nn.Embedding(V, V + 2)
    wide.weight.data[:, :V] = speaker(1).module.weight.data
    wide.weight.data[:, V:] = -1e4
    said = told({"teacher": Model(wide), "student": speaker(2)}, source, reference="teacher")
    assert measure_tokens(said["student"]) == pytest.approx(by_hand(speaker(2), source, speaker(1)), abs=1e-5)


def test_reliability_has_all_tokens_in_its_bins(source):
    rows = reliability_of_tokens(told({"student": speaker(2)}, source)["student"])
    assert len(rows) == 15
    assert sum(row["samples"] for row in rows) == int((source.columns["y"] != -100).sum())
    assert all(abs(row["confidence"] * 15 - at - 0.5) <= 0.5 + 1e-9 for at, row in enumerate(rows) if row["samples"])
    assert any(row["accuracy"] is None for row in rows)


def test_a_difference_is_over_tokens_and_its_interval_over_samples(source):
    first, second = (told({"m": speaker(seed)}, source)["m"] for seed in (1, 2))
    gap = token_difference(first, second, draws=400)
    assert gap["nll"] == pytest.approx(measure_tokens(first)["nll"] - measure_tokens(second)["nll"])
    assert gap["low"] < gap["nll"] < gap["high"]
    assert token_difference(first, first)["low"] == token_difference(first, first)["high"] == 0.0
    assert token_difference(second, first, draws=400)["low"] == pytest.approx(-gap["high"])


def test_the_interval_holds_the_true_difference_about_as_often_as_it_says():
    """Tokens of a sample stand together: were they drawn one by one, it would hold far less often."""
    draw, held = torch.Generator().manual_seed(0), 0
    for trial in range(60):
        own = torch.randn(60, 1, generator=draw).expand(60, 20).sum(1).double()  # each sample's tokens have one gap in common
        zero, count = torch.zeros(60, dtype=torch.float64), torch.full((60,), 20.0, dtype=torch.float64)
        first, second = (language.Told(count, nats, zero, zero, torch.zeros(15, 3)) for nats in (own, zero))
        gap = token_difference(first, second, seed=trial, draws=200)
        held += gap["low"] <= 0 <= gap["high"]
    assert 50 <= held <= 60


def test_what_cannot_be_measured_is_refused(source):
    with pytest.raises(BadInput, match="no token to be predicted"):
        told({"student": speaker(2)}, Table({"x": source.columns["x"], "y": torch.full((N, T), -100)}))
    with pytest.raises(BadInput, match=r"knows 7 tokens, but .* has the token 9"):
        told({"student": speaker(2)}, Table({"x": source.columns["x"], "y": torch.full((N, T), 9)}))


def test_tokens_without_a_label_are_not_counted(source):
    """Prompts and padding."""
    assert tokens_of(source, batch_size=2) == int((source.labels() != -100).sum())


def test_language_is_told_by_its_labels(source):
    assert is_language(source)
    assert not is_language(Table({"x": torch.zeros(3, 2), "y": torch.arange(3)}))
    assert not is_language(Table({"x": torch.zeros(3, 2), "y": torch.full((3, 2), 0.5)}))
    assert not is_language(Table({"x": torch.zeros(3, 2)}))


def test_large_vocabularies_are_measured_without_all_their_logits(monkeypatch):
    """The numbers are those of dense logits, whether the models say themselves or a teacher does for them."""
    from small_texts import net, sharp, texts
    from tutelage.signals import head

    source = texts().train
    teacher, student = sharp(), Model(net, seed=1)
    expected = told({"teacher": Frozen(teacher), "student": student}, source, reference="teacher", batch_size=4)
    shown = []
    for model in (teacher, student):
        model.module.head.register_forward_hook(lambda _m, _i, out: shown.append(out.shape[1]))
    monkeypatch.setattr(language, "held", lambda model, batch: head.held(model, batch, least=0))
    found = told({"teacher": Frozen(teacher), "student": student}, source, reference="teacher", batch_size=4)
    assert max(shown) == 1
    for name, said in found.items():
        assert measure_tokens(said) == pytest.approx(measure_tokens(expected[name]), rel=1e-5)
        torch.testing.assert_close(said.nats, expected[name].nats, rtol=1e-5, atol=1e-5)
