"""Intervals from draws, against scikit-learn on the drawn samples themselves and on simulated models whose worth is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import f1_score, log_loss

from tutelage.evaluation import Predictions, measure
from tutelage.evaluation import bootstrap as module
from tutelage.evaluation.bootstrap import Drawn, calibration_interval, draw, interval
from tutelage.randomness import generator

N, V = 101, 7


def answers(seed: int, labels: torch.Tensor, skill: float = 2.0, classes: int = V) -> Predictions:
    made = torch.Generator().manual_seed(seed)
    hard = labels.argmax(1) if labels.ndim == 2 else labels.clamp(min=0)
    return Predictions(torch.randn(len(hard), classes, generator=made) + skill * torch.nn.functional.one_hot(hard, classes), labels)


@pytest.fixture
def labels(rng) -> torch.Tensor:
    found = torch.randint(0, V - 2, (N,), generator=rng)
    found[::6] = -100
    return found


def test_the_first_of_the_draws_is_what_is_measured(labels):
    """Otherwise the interval would belong to another number than the one beside it."""
    for each in (labels, torch.nn.functional.one_hot(labels.clamp(min=0), V) * 0.7 + 0.3 / V):
        said = answers(1, each)
        drawn, numbers = draw({"a": said}, seed=0, draws=3)["a"], measure(said)
        for key in ("macro_f1", "nll", "ece"):
            assert getattr(drawn, key)[0] == pytest.approx(numbers[key], abs=1e-6)


def test_a_draw_is_a_measurement_of_the_drawn_samples(labels):
    """Samples repeated as often as they were drawn, measured by other libraries."""
    said = answers(1, labels)
    drawn = draw({"a": said}, seed=5, draws=4)["a"]
    known = labels != -100
    logits, hard = said.logits[known], labels[known]
    for number in range(4):
        chosen = torch.randint(len(hard), (len(hard),), generator=generator("bootstrap", 5, number))
        probabilities = logits[chosen].double().softmax(1).numpy()
        expected = f1_score(hard[chosen], probabilities.argmax(1), average="macro", zero_division=0)
        assert drawn.macro_f1[number + 1] == pytest.approx(expected)
        assert drawn.nll[number + 1] == pytest.approx(log_loss(hard[chosen], probabilities, labels=range(V)))
        assert drawn.ece[number + 1] == pytest.approx(measure(Predictions(logits[chosen], hard[chosen]))["ece"], abs=1e-6)


def test_all_models_see_the_same_draws_however_many_are_held_at_once(labels, monkeypatch):
    """Else differences would not be paired, and a number would depend on the memory at hand."""
    whole = draw({"a": answers(1, labels), "b": answers(2, labels)}, seed=0, draws=50)
    monkeypatch.setattr(module, "NUMBERS", 300)
    alone = draw({"b": answers(2, labels)}, seed=0, draws=50)
    for key in ("macro_f1", "nll", "ece", "calibrated"):
        np.testing.assert_allclose(getattr(whole["b"], key), getattr(alone["b"], key), rtol=1e-12)
        assert getattr(whole["a"], key).shape == (50 if key == "calibrated" else 51,)
    assert (draw({"b": answers(2, labels)}, seed=1, draws=50)["b"].nll[1:] != alone["b"].nll[1:]).any()


def test_models_with_more_logits_than_others_are_drawn_along(labels):
    """A teacher may know classes that the data lack."""
    found = draw({"few": answers(1, labels), "many": answers(2, labels, classes=V + 4)}, seed=0, draws=5)
    assert found["many"].macro_f1[0] == pytest.approx(measure(answers(2, labels, classes=V + 4))["macro_f1"], abs=1e-6)


@pytest.mark.parametrize("logit", [3.0, -3.0, 100.0])
@pytest.mark.parametrize("rows", [1, 4])
def test_one_sample_one_class_all_right_or_all_wrong_have_an_interval(rows, logit):
    """Numbers, and none of them NaN."""
    said = Predictions(torch.tensor([[logit, 0.0]] * rows), torch.zeros(rows, dtype=torch.long))
    drawn = draw({"a": said}, seed=0, draws=20)["a"]
    assert interval(drawn.macro_f1) == (float(logit > 0),) * 2
    assert interval(drawn.nll) == pytest.approx((measure(said)["nll"],) * 2, abs=1e-6)
    low, high = calibration_interval(drawn)
    assert 0 <= low <= drawn.ece[0] <= high


def test_an_interval_holds_the_middle_of_the_draws():
    """And not the first, which is no draw."""
    assert interval(np.array([1e9, *range(101)])) == pytest.approx((2.5, 97.5))
    assert interval(np.array([1e9, *range(101)]), 0.5) == (25, 75)


def logits_of(confidence: np.ndarray) -> torch.Tensor:
    sure = torch.from_numpy(confidence)
    return torch.stack([sure.log(), (1 - sure).log()], 1)


@pytest.mark.parametrize(("over", "expected"), [(0.0, 0.9), (0.02, 0.85), (0.1, 0.85)])
@pytest.mark.parametrize("samples", [150, 1500])
def test_the_interval_of_a_calibration_error_holds_the_true_one(over, expected, samples):
    """The percentiles of draws would miss it nearly always where the model is calibrated: that error can only be too large.

    A model that is `over` too sure on samples of every confidence has just that error; 60 data sets are drawn.
    """
    random = np.random.default_rng(0)
    held = percentiles = 0
    for number in range(60):
        sure = 0.62 + 0.37 * random.random(samples)
        right = random.random(samples) < sure - over
        labels = torch.from_numpy(1 - right.astype(np.int64))
        drawn = draw({"a": Predictions(logits_of(sure), labels)}, seed=number, draws=150)["a"]
        low, high = calibration_interval(drawn)
        held += low <= over <= high
        percentiles += interval(drawn.ece)[0] <= over
    assert held >= expected * 60
    assert over > 0 or percentiles < 0.2 * 60  # why it is not taken


def test_a_model_that_is_far_off_is_not_called_calibrated():
    """The low end is 0 only as long as chance could have made the error."""
    off = Drawn(np.ones(3), np.ones(3), np.array([0.3, 0.29, 0.31]), np.full(100, 0.05))
    low, high = calibration_interval(off)
    assert 0.28 < low <= 0.3 <= high < 0.32


def test_intervals_of_macro_f1_and_nats_hold_the_true_ones_about_as_often_as_they_say():
    """On models of known worth: 80 data sets of 200 samples against one of a hundred thousand."""
    random = torch.Generator().manual_seed(0)

    def sample(size: int) -> Predictions:
        labels = torch.multinomial(torch.tensor([0.5, 0.3, 0.2]), size, replacement=True, generator=random)
        return Predictions(torch.randn(size, 3, generator=random) + 1.5 * torch.nn.functional.one_hot(labels, 3), labels)

    truth = measure(sample(100_000))
    held = {"macro_f1": 0, "nll": 0}
    for number in range(80):
        drawn = draw({"a": sample(200)}, seed=number, draws=200)["a"]
        for key in held:
            low, high = interval(getattr(drawn, key))
            held[key] += low <= truth[key] <= high
    assert all(count >= 0.88 * 80 for count in held.values()), held
