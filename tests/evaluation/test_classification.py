"""What is said of a classifier, against scikit-learn and plain loops."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from sklearn.metrics import confusion_matrix, f1_score, recall_score

from tutelage.data import Table
from tutelage.evaluation import Predictions, aurc, class_counts, confusion, measure, predict, recalls, reliability
from tutelage.signals import Model

N, V = 211, 7


@pytest.fixture
def said(rng) -> Predictions:
    """Random answers, a fifth of the labels missing, class 4 never a label and class 6 neither label nor choice."""
    logits = 3 * torch.randn(N, V, generator=rng)
    logits[:, 6] = -50
    labels = torch.randint(0, 4, (N,), generator=rng)
    labels[::5] = -100
    return Predictions(logits, labels)


def softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)


def calibration_error(probabilities: np.ndarray, labels: np.ndarray, bins: int = 15) -> float:
    """The definition, bin by bin."""
    confidence, choice = probabilities.max(1), probabilities.argmax(1)
    total = 0.0
    for i in range(bins):
        inside = (confidence >= i / bins) & ((confidence < (i + 1) / bins) | (i == bins - 1))
        if inside.any():
            total += inside.mean() * abs((choice == labels)[inside].mean() - confidence[inside].mean())
    return total


def test_numbers_are_those_of_other_libraries_on_the_labelled_samples(said):
    """A number that counted samples without a label would be wrong for every half-labelled data set."""
    known = said.labels.numpy() != -100
    logits, labels = said.logits.double().numpy()[known], said.labels.numpy()[known]
    found = measure(said, said)
    assert set(found) == {"accuracy", "macro_f1", "nll", "ece", "agreement"}
    assert found["accuracy"] == pytest.approx((logits.argmax(1) == labels).mean())
    assert found["macro_f1"] == pytest.approx(f1_score(labels, logits.argmax(1), average="macro"), abs=1e-6)
    assert found["nll"] == pytest.approx(-np.log(softmax(logits))[range(len(labels)), labels].mean(), rel=1e-5)
    assert found["ece"] == pytest.approx(calibration_error(softmax(logits), labels), abs=1e-6)
    assert found["agreement"] == 1.0


def test_logits_that_look_like_probabilities_are_still_logits(rng):
    """Small logits all lie in [0, 1]; taken as probabilities they would give another calibration error."""
    logits, labels = torch.rand(N, V, generator=rng), torch.randint(0, V, (N,), generator=rng)
    expected = calibration_error(softmax(logits.double().numpy()), labels.numpy())
    assert measure(Predictions(logits, labels))["ece"] == pytest.approx(expected, abs=1e-6)


def test_full_confidence_belongs_to_the_last_bin():
    """Half of the samples at confidence 1 and half just below are one bin: their errors cancel."""
    logits = torch.tensor([[100.0, 0.0], [100.0, 0.0], [4.0, 0.0], [4.0, 0.0]])
    labels = torch.tensor([1, 0, 0, 0])
    expected = abs(3 / 4 - (1 + 1 + 2 / (1 + math.exp(-4))) / 4)
    assert measure(Predictions(logits, labels))["ece"] == pytest.approx(expected, abs=1e-5)


def test_rows_of_class_probabilities_count_as_their_largest(said, rng):
    """Soft labels are measured like hard ones, except for the nats, which are against the rows."""
    hard = torch.randint(0, V, (N,), generator=rng)
    rows = torch.nn.functional.one_hot(hard, V) * 0.6 + 0.4 / V
    soft, plain = measure(Predictions(said.logits, rows)), measure(Predictions(said.logits, hard))
    assert {k: v for k, v in soft.items() if k != "nll"} == {k: v for k, v in plain.items() if k != "nll"}
    logs = np.log(softmax(said.logits.double().numpy()))
    assert soft["nll"] == pytest.approx(-(rows.numpy() * logs).sum(1).mean(), rel=1e-5)
    assert class_counts(rows, V) == torch.bincount(hard, minlength=V).tolist()


@pytest.mark.parametrize("labels", [None, torch.full((N,), -100)])
def test_without_a_single_label_there_is_only_agreement(said, labels):
    """An accuracy of nothing would be NaN in the report."""
    bare = Predictions(said.logits, labels)
    assert measure(bare) == {}
    assert set(measure(bare, said)) == {"agreement"}
    assert recalls(bare, 4) == [None] * 4
    assert reliability(bare) == []


def test_positions_are_compared_where_logits_are_not_one_row_a_sample(rng):
    """Language models agree position by position; there is no accuracy of a sample."""
    first, second = torch.randn(5, 3, V, generator=rng), torch.randn(5, 3, V, generator=rng)
    found = measure(Predictions(first, torch.zeros(5, 3, dtype=torch.long)), Predictions(second, None))
    assert found == {"agreement": pytest.approx((first.argmax(-1) == second.argmax(-1)).numpy().mean())}


def test_labels_of_another_kind_are_not_counted_as_classes(said):
    """Tokens of a text and numbers to regress are no classes of a sample."""
    for labels in (torch.zeros(N, 3, dtype=torch.long), torch.rand(N)):
        assert class_counts(labels, V) is None
        assert measure(Predictions(said.logits, labels), said) == {"agreement": 1.0}


def test_recall_is_that_of_each_class_and_unknown_where_there_are_no_samples(said):
    """A class that the test split lacks is not a class that the student fails."""
    known = said.labels != -100
    expected = recall_score(said.labels[known], said.logits.argmax(1)[known], labels=range(4), average=None)
    found = recalls(said, 6)
    assert found[:4] == pytest.approx(expected)
    assert found[4:] == [None, None]


def test_the_reliability_diagram_shows_what_the_calibration_error_says(said):
    """Otherwise figure and number would contradict each other."""
    rows = reliability(said)
    total = sum(row["samples"] for row in rows)
    assert len(rows) == 15
    assert total == int((said.labels != -100).sum())
    filled = [row for row in rows if row["samples"]]
    error = sum(row["samples"] / total * abs(row["accuracy"] - row["confidence"]) for row in filled)
    assert error == pytest.approx(measure(said)["ece"], abs=1e-6)
    for i, row in enumerate(rows):
        assert row["confidence"] is None or i / 15 <= row["confidence"] <= (i + 1) / 15


def test_confusion_counts_pairs_and_leaves_unknown_ones_out(said, rng):
    """Rows by the first, columns by the second; a swap would blame the wrong model."""
    other = torch.randint(0, V, (N,), generator=rng)
    known = said.labels != -100
    expected = confusion_matrix(said.labels[known], other[known], labels=range(V))
    assert (confusion(said.labels, other, V).numpy() == expected).all()


def test_predictions_carry_the_ids_in_the_order_of_the_source():
    """Kept predictions are found again by id."""
    table = Table({"x": torch.arange(7.0).unsqueeze(1), "id": torch.tensor([3, 1, 4, 15, 9, 2, 6])})
    found = predict(Model(torch.nn.Identity()), table, batch_size=3)
    assert found.ids.tolist() == [3, 1, 4, 15, 9, 2, 6]
    assert found.logits.squeeze(1).tolist() == list(range(7))
    assert found.labels is None


def test_aurc_is_the_mean_risk_over_coverages(rng):
    logits, labels = torch.randn(40, 5, generator=rng), torch.randint(5, (40,), generator=rng)
    shown = Predictions(logits, labels)
    confidence, wrong = logits.softmax(-1).max(-1).values.numpy(), (logits.argmax(-1) != labels).numpy()
    order = np.argsort(-confidence)
    risks = [wrong[order[: k + 1]].mean() for k in range(40)]
    assert aurc(shown) == pytest.approx(np.mean(risks))


def test_aurc_of_the_best_and_the_worst_order():
    confidence = torch.tensor([0.9, 0.8, 0.7, 0.6])
    logits = torch.stack([confidence, 1 - confidence], 1).log()
    assert aurc(Predictions(logits, torch.tensor([0, 0, 1, 1]))) == pytest.approx((0 + 0 + 1 / 3 + 2 / 4) / 4)
    assert aurc(Predictions(logits, torch.tensor([1, 1, 0, 0]))) == pytest.approx((1 + 1 + 2 / 3 + 2 / 4) / 4)
    assert aurc(Predictions(logits, torch.zeros(4).long())) == 0


def test_aurc_of_equal_confidences_is_the_error_rate(rng):
    logits = torch.tensor([2.0, 0.0]).repeat(10, 1)
    labels = torch.tensor([1, 0, 0, 0, 0, 0, 0, 0, 0, 1])
    assert aurc(Predictions(logits, labels)) == pytest.approx(0.2)
    assert aurc(Predictions(logits, labels.flip(0))) == pytest.approx(0.2)


def test_aurc_leaves_out_what_has_no_label():
    logits = torch.tensor([[2.0, 0.0], [0.0, 3.0], [1.0, 0.0]])
    assert aurc(Predictions(logits, torch.tensor([0, -100, 1]))) == aurc(Predictions(logits[[0, 2]], torch.tensor([0, 1])))
