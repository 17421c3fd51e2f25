"""Frozen: no gradients, evaluation mode, the user's model as it was. Shapes: B=3, D=5, V=7."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from tutelage.signals import Model
from tutelage.teachers import Frozen

B, D, V = 3, 5, 7


@pytest.fixture
def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(D, 11), nn.BatchNorm1d(11), nn.Dropout(0.5), nn.Linear(11, V))


@pytest.fixture
def batch(rng):
    return {"id": torch.arange(B), "x": torch.randn(B, D, generator=rng)}


@pytest.mark.parametrize("gradient", [False, True])
def test_a_frozen_teacher_answers_in_evaluation_mode_and_goes_back_to_its_own(net, batch, gradient):
    """Dropout and batch statistics in the teacher are the commonest silent fault of distillation."""
    expected = copy.deepcopy(net).eval()(batch["x"])
    buffers = copy.deepcopy(dict(net.named_buffers()))
    net[2].eval()
    modes = [m.training for m in net.modules()]
    found = Frozen(Model(net), gradient=gradient).signals(batch, {"logits"})["logits"]
    torch.testing.assert_close(found, expected)
    assert [m.training for m in net.modules()] == modes
    assert all(torch.equal(b, buffers[n]) for n, b in net.named_buffers())


def test_a_part_left_in_training_mode_is_put_into_evaluation_too(net, batch):
    """`net.eval()` before a batch norm was swapped in leaves that part training."""
    net.eval()
    net[1].train()
    expected = copy.deepcopy(net).eval()(batch["x"])
    torch.testing.assert_close(Frozen(Model(net)).signals(batch, {"logits"})["logits"], expected)
    assert net[1].num_batches_tracked == 0
    assert net[1].training


def test_a_model_that_raises_goes_back_to_its_mode(batch):
    """The error may be caught in a notebook, and the model trained on."""

    class Broken(nn.Linear):
        def forward(self, x):
            raise ZeroDivisionError

    net = Broken(D, V)
    with pytest.raises(ZeroDivisionError):
        Frozen(Model(net)).signals(batch, {"logits"})
    assert net.training
    assert all(p.requires_grad for p in net.parameters())


def test_a_frozen_teacher_gives_no_gradient_but_tensors_that_autograd_may_keep(net, batch):
    """An inference tensor cannot be saved for backward: a connector on the teacher's side would fail."""
    x = batch["x"].requires_grad_()
    shown = Frozen(Model(net)).signals({**batch, "x": x}, {"0", "logits"})
    assert not any(s.requires_grad or s.is_inference() for s in shown.values())
    connector = nn.Linear(V, 2)
    connector(shown["logits"]).sum().backward()
    assert connector.weight.grad is not None
    assert x.grad is None


def test_gradient_lets_a_student_be_trained_through_it_while_its_weights_get_none(net, batch):
    """A generator learns through the teacher; gradients that pile up on its weights cost memory and could be stepped on."""
    x = batch["x"].clone().requires_grad_()
    teacher = Frozen(Model(net), gradient=True)
    teacher.signals({**batch, "x": x}, {"logits"})["logits"].square().sum().backward()
    y = batch["x"].clone().requires_grad_()
    copy.deepcopy(net).eval()(y).square().sum().backward()
    torch.testing.assert_close(x.grad, y.grad)
    assert all(p.grad is None and p.requires_grad for p in net.parameters())
    assert teacher.gives.gradient


def test_parameters_that_were_frozen_stay_frozen(net, batch):
    """The user's own choice of what is trainable must survive a pass."""
    net[0].weight.requires_grad_(False)
    Frozen(Model(net), gradient=True).signals(batch, {"logits"})
    assert [n for n, p in net.named_parameters() if not p.requires_grad] == ["0.weight"]


def test_only_as_much_of_the_teacher_runs_as_its_taps_need(batch):
    """A hint in the lower half must not pay for the whole teacher."""
    calls = []

    class Counted(nn.Linear):
        def forward(self, x):
            calls.append(self)
            return super().forward(x)

    net = nn.Sequential(*(Counted(D, D) for _ in range(4)))
    shown = Frozen(Model(net)).signals(batch, {"1"})
    assert calls == [net[0], net[1]]
    torch.testing.assert_close(shown["1"], net[:2](batch["x"]))


def test_a_teacher_is_a_light_handle_with_the_models_name(net):
    """Building a plan must load no weights."""
    made = []
    model = Model(lambda: made.append(1) or net, name="big")
    teacher = Frozen(model)
    assert made == []
    assert (teacher.name, teacher.models()) == ("big", [model])
    assert (teacher.gives.taps, teacher.gives.gradient, teacher.gives.new_inputs) == ("any", False, True)
    assert not isinstance(teacher, nn.Module)
