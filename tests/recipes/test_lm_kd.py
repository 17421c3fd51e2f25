"""lm-kd on sequences with masks, held against loops that write each divergence out; and what it refuses."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from small_texts import BATCH, FIT, SIZE, columns, descend, go, mean, net, sharp, texts
from tutelage import Frozen, Model
from tutelage.data import Data, Order, Table
from tutelage.errors import BadInput
from tutelage.language.next_token import TERMS
from tutelage.recipes.hinton_kd import hinton_kd
from tutelage.recipes.lm_kd import lm_kd


def divergences(p, q, beta=0.3, skew=0.2):
    def kl(a, b):
        return (a * (a.log() - b.log())).sum(-1)

    m = beta * p + (1 - beta) * q
    return {
        "forward": kl(p, q),
        "reverse": kl(q, p),
        "jsd": beta * kl(p, m) + (1 - beta) * kl(q, m),
        "skew": kl(p, skew * p + (1 - skew) * q),
        "skew-reverse": kl(q, (1 - skew) * p + skew * q),
    }


@pytest.mark.parametrize("micro_batch", [None, 2])
@pytest.mark.parametrize(("alpha", "reduction"), [(1.0, "token"), (0.4, "sequence")])
@pytest.mark.parametrize("divergence", TERMS)
def test_it_equals_a_loop_that_writes_the_divergence_out(divergence, alpha, reduction, micro_batch):
    """Guards direction, shares, T^2, the mask, and a mean that must not depend on how the batch is cut."""
    data, teacher, student = texts(), sharp(), Model(net, seed=1)
    expected, order = student.fresh(1).module, Order(SIZE, BATCH, 2, "distil")
    for step in range(FIT.steps):
        batch = data.train.batch(order.batch(step)[0])
        z, told = expected(batch["input_ids"]), teacher.module(batch["input_ids"]).detach()
        parts = divergences((told / 2).softmax(-1), (z / 2).softmax(-1))
        labels = F.cross_entropy(z.transpose(1, 2), batch["y"], ignore_index=-100, reduction="none")
        loss = alpha * 4 * mean(parts[divergence], batch["mask"], reduction) + (1 - alpha) * mean(labels, batch["mask"], reduction)
        descend(expected, loss)
    knobs = {"divergence": divergence, "temperature": 2.0, "beta": 0.3, "skew": 0.2, "alpha": alpha, "reduction": reduction}
    ours, terms = go(lm_kd(Frozen(teacher), student, data, fit=FIT, **knobs), micro_batch=micro_batch)
    for a, b in zip(ours.parameters(), expected.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)
    assert set(terms[0]) == ({TERMS[divergence]} if alpha == 1 else {TERMS[divergence], "labels"})


def test_what_the_mask_leaves_out_does_not_count():
    """Padding that is trained on teaches the student to pad."""
    data, teacher = texts(), sharp()
    plan = lm_kd(Frozen(teacher), Model(net, seed=1), data, alpha=0.5, fit=FIT)
    found = columns()
    found["input_ids"] = torch.where(found["mask"], found["input_ids"], 0)
    other = lm_kd(Frozen(teacher), Model(net, seed=1), Data(Table(found), classes=data.classes), alpha=0.5, fit=FIT)
    for a, b in zip(go(plan)[0].parameters(), go(other)[0].parameters(), strict=True):
        torch.testing.assert_close(a, b)


def test_forward_equals_hinton_kd_without_labels():
    """The stated relation to its neighbour."""
    data, teacher = texts(), sharp()
    plans = (recipe(Frozen(teacher), Model(net, seed=1), data, temperature=2.0, alpha=1.0, fit=FIT) for recipe in (lm_kd, hinton_kd))
    one, other = (go(plan)[0] for plan in plans)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


def test_without_its_share_the_teacher_is_never_asked():
    """A teacher that weighs nothing must cost nothing."""
    teacher, calls = sharp(), []
    teacher.module.register_forward_hook(lambda *_: calls.append(1))
    go(lm_kd(Frozen(teacher), Model(net, seed=1), texts(), alpha=0.0, fit=FIT))
    assert not calls


def test_sequences_without_labels_can_be_studied():
    """Text needs no labels where the teacher says what follows."""
    go(lm_kd(Frozen(sharp()), Model(net), texts(labels=False), fit=FIT))
    with pytest.raises(BadInput, match="alpha=1"):
        lm_kd(Frozen(sharp()), Model(net), texts(labels=False), alpha=0.5)


@pytest.mark.parametrize(
    "bad",
    [
        {"alpha": 1.1},
        {"divergence": "backward"},
        {"reduction": "mean"},
        {"temperature": 0},
        {"divergence": "jsd", "beta": 1.0},
        {"divergence": "skew", "skew": 1},
    ],
)
def test_knobs_that_are_none_are_refused(bad):
    with pytest.raises(BadInput):
        lm_kd(Frozen(sharp()), Model(net), texts(), **bad)
