"""What an attack may change, what it finds, and what it must leave as it was."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from tutelage.attacks import Attack, fgsm, images_in, pgd, search
from tutelage.errors import BadInput
from tutelage.signals import Model
from tutelage.signals.images import ImageInputs


def linear(classes: int = 3, seed: int = 0, **options) -> Model:
    return Model(lambda: nn.Sequential(nn.Flatten(), nn.Linear(32, classes)), seed=seed, **options)


def normed() -> Model:
    layers = nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.5), nn.Flatten(), nn.Linear(16, 3)
    return Model(lambda: nn.Sequential(*layers), seed=1)


def images(count: int = 5, seed: int = 0, low: float = 0.0, high: float = 1.0) -> dict:
    made = torch.Generator().manual_seed(seed)
    x = torch.rand(count, 2, 4, 4, generator=made) * (high - low) + low
    return {"x": x, "y": torch.randint(3, (count,), generator=made), "id": torch.arange(count)}


def loss(model: Model, batch: dict, x: torch.Tensor, goal: torch.Tensor) -> torch.Tensor:
    with torch.no_grad(), model.mode(training=False):
        logits = model.observe({**batch, "x": x}, {"logits"})["logits"]
    return F.cross_entropy(logits, goal, reduction="none")


@pytest.mark.parametrize("attack", [fgsm(eps=0.1), pgd(eps=0.1, steps=7), Attack(0.1, steps=3, start="none")])
def test_on_a_linear_model_of_two_classes_the_end_is_the_closed_form(attack):
    """The worst change within the ball is eps times the sign of the weights' difference, whatever the start."""
    model, batch = linear(2), images(low=0.2, high=0.8)
    batch["y"] = batch["y"] % 2
    weight = model.module[1].weight
    away = (weight[1] - weight[0]).sign().view(1, 2, 4, 4) * (1 - 2 * batch["y"]).view(-1, 1, 1, 1)
    found = search(attack, model, batch, batch["y"], range(5))
    torch.testing.assert_close(found, batch["x"] + 0.1 * away, atol=1e-6, rtol=0)


def test_on_a_linear_model_of_two_classes_the_end_within_a_sphere_lies_along_the_weights():
    """Under l2 the worst change is eps times the unit vector of the weights' difference."""
    model, batch = linear(2), images(low=0.3, high=0.7)
    batch["y"] = batch["y"] % 2
    weight = model.module[1].weight
    away = (weight[1] - weight[0]).view(1, 2, 4, 4) * (1 - 2 * batch["y"]).view(-1, 1, 1, 1)
    away = away / away.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
    found = search(pgd(eps=0.2, norm="l2", steps=50, step=0.2), model, batch, batch["y"], range(5))
    torch.testing.assert_close(found, batch["x"] + 0.2 * away, atol=2e-3, rtol=0)


@settings(max_examples=40, deadline=None)
@given(
    eps=st.floats(0, 0.7),
    norm=st.sampled_from(["linf", "l2"]),
    start=st.sampled_from(["uniform", "near"]),
    steps=st.integers(1, 4),
    step=st.none() | st.floats(0.001, 2),
    restarts=st.integers(1, 2),
    against=st.sampled_from(["labels", "self"]),
)
def test_the_end_lies_in_the_ball_and_is_an_image(eps, norm, start, steps, step, restarts, against):
    """Else the attack would have cheated."""
    batch = images(4, seed=3)
    found = search(Attack(eps, norm, steps, step, start, restarts, against), normed(), batch, batch["y"], range(4))
    change = (found - batch["x"]).flatten(1)
    far = change.abs().amax(1) if norm == "linf" else change.norm(dim=1)
    assert (far <= eps * (1 + 1e-5) + 1e-6).all()
    assert found.min() >= 0
    assert found.max() <= 1
    assert not found.requires_grad


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_the_loss_rises_and_more_restarts_never_lower_it(norm):
    """What an attack is for."""
    model, batch = normed(), images(20, seed=5)
    before = loss(model, batch, batch["x"], batch["y"])
    ends = [
        loss(model, batch, search(pgd(eps=0.2, steps=8, norm=norm, restarts=n), model, batch, batch["y"], range(20)), batch["y"])
        for n in (1, 2, 4)
    ]
    assert (ends[0] >= before).float().mean() > 0.9
    assert ends[0].mean() > before.mean() + 0.01
    assert (ends[1] >= ends[0] - 1e-6).all()
    assert (ends[2] >= ends[1] - 1e-6).all()


def test_nothing_is_changed_within_a_ball_of_no_size():
    """eps = 0 must be the identity, bit for bit."""
    batch = images()
    assert torch.equal(search(pgd(eps=0, steps=3), normed(), batch, batch["y"], range(5)), batch["x"])
    assert torch.equal(search(fgsm(eps=0), normed(), batch, batch["y"], range(5)), batch["x"])


def test_each_image_is_searched_for_by_itself():
    """Otherwise micro-batches would change what is learned."""
    model, batch = normed(), images(6)
    whole = search(pgd(eps=0.1, steps=3), model, batch, batch["y"], range(6))
    halves = [
        search(pgd(eps=0.1, steps=3), model, {k: v[p] for k, v in batch.items()}, batch["y"][p], p.tolist())
        for p in torch.arange(6).chunk(2)
    ]
    torch.testing.assert_close(torch.cat(halves), whole, atol=1e-6, rtol=0)


def test_seeds_decide_on_the_start():
    """The same seeds find the same images, others others; the global generators are not touched."""
    model, batch = normed(), images()
    before = torch.get_rng_state()
    first, same, other = (search(pgd(eps=0.1, steps=1, step=0.01), model, batch, batch["y"], s) for s in ([1] * 5, [1] * 5, [2] * 5))
    assert torch.equal(first, same)
    assert not torch.equal(first, other)
    assert torch.equal(torch.get_rng_state(), before)


def test_the_model_is_left_as_it_was():
    """Statistics under attack are not those of the data, and an attack must not train."""
    model, batch = normed(), images()
    model.module.train()
    before = {k: v.clone() for k, v in model.module.state_dict().items()}
    for grad in (torch.enable_grad, torch.no_grad):
        with grad():
            search(pgd(eps=0.1, steps=2), model, batch, batch["y"], range(5))
    assert all(torch.equal(v, before[k]) for k, v in model.module.state_dict().items())
    assert all(p.grad is None for p in model.module.parameters())
    assert all(part.training for part in model.module.modules())


def test_the_ball_is_one_of_images_and_not_of_what_the_model_makes_of_them():
    """A model that divides by 0.25 would else be attacked four times as hard."""
    weights = linear(2).module.state_dict()
    plain, scaled = linear(2), linear(2, inputs=ImageInputs(mean=0.5, std=0.25))
    scaled.module.load_state_dict(weights)
    batch = images(low=0.2, high=0.8)
    batch["y"] = batch["y"] % 2
    ends = [search(pgd(eps=0.1, steps=5), model, batch, batch["y"], range(5)) for model in (plain, scaled)]
    torch.testing.assert_close(*ends, atol=1e-6, rtol=0)


def test_samples_without_a_label_are_left_at_their_start():
    """-100 is no label."""
    batch = images()
    found = search(Attack(0.1, start="none"), normed(), batch, torch.full((5,), -100), range(5))
    assert torch.equal(found, batch["x"])


def test_rows_of_probabilities_are_what_their_classes_are():
    """A one-hot row is its class."""
    model, batch = normed(), images()
    hard = search(pgd(eps=0.1, steps=4), model, batch, batch["y"], range(5))
    soft = search(pgd(eps=0.1, steps=4), model, batch, F.one_hot(batch["y"], 3).float(), range(5))
    torch.testing.assert_close(hard, soft, atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("batch", "said"),
    [
        ({"x": torch.randn(2, 1, 4, 4)}, r"keeps images in \[0, 1\], but these go from -"),
        ({"x": torch.full((2, 1, 4, 4), 255.0)}, "divided by 255"),
        ({"x": torch.full((2, 1, 4, 4), float("nan"))}, "keeps images in"),
        ({"x": torch.rand(2, 5)}, "attack changes images"),
        ({"input_ids": torch.ones(2, 5, dtype=torch.int64)}, "attack changes images.*input_ids"),
        ({"text": ["a", "b"]}, "attack changes images.*text"),
        ({"x": torch.rand(2, 1, 4, 4), "z": torch.rand(2, 1)}, "attack changes images.*x, z"),
    ],
)
def test_what_is_no_image_is_refused(batch, said):
    with pytest.raises(BadInput, match=said):
        images_in({**batch, "id": torch.arange(2), "y": torch.zeros(2, dtype=torch.int64)})


def test_a_model_without_a_gradient_is_refused():
    class Opaque(nn.Module):
        def forward(self, x):
            return x.detach().flatten(1)[:, :3] * 2

    batch = images()
    with pytest.raises(BadInput, match="no gradient on its inputs"):
        search(pgd(eps=0.1), Model(Opaque()), batch, batch["y"], range(5))


def test_a_model_of_positions_is_refused():
    batch = images()
    with pytest.raises(BadInput, match="one row a sample"):
        search(pgd(eps=0.1), Model(nn.Conv2d(2, 3, 1)), batch, batch["y"], range(5))


@pytest.mark.parametrize(
    ("knobs", "said"),
    [
        ({"eps": -0.1}, "eps=-0.1; expected a finite number of at least 0"),
        ({"eps": float("nan")}, "eps=nan"),
        ({"eps": True}, "eps=True"),
        ({"steps": 0}, "steps=0; expected a whole number"),
        ({"steps": 2.5}, "steps=2.5"),
        ({"step": 0.0}, "step=0.0; expected a finite number above 0"),
        ({"norm": "linff"}, "norm=linff; expected linf or l2.*linf"),
        ({"start": "far"}, "start=far; expected uniform, near or none"),
        ({"against": "label"}, "against=label.*labels"),
        ({"restarts": 3, "start": "none"}, "all the same"),
        ({"against": "self", "start": "none"}, "no gradient at the image itself"),
    ],
)
def test_an_attack_that_means_nothing_is_refused(knobs, said):
    with pytest.raises(BadInput, match=said):
        Attack(**knobs)


def test_an_attack_says_what_it_is():
    assert fgsm(eps=0.1).named == "FGSM, linf 0.1"
    assert pgd(eps=0.5, norm="l2", restarts=3).named == "PGD-20 from 3 starts, l2 0.5"
    assert pgd(eps=0.1, steps=20).length == pytest.approx(0.0125)
