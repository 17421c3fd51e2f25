"""What tells one teacher from another."""

from __future__ import annotations

import copy
import functools
import subprocess
import sys

import pytest
import torch
from torch import nn

from tutelage.signals import Model
from tutelage.signals.cache import preprocessing_of, weights_of
from tutelage.signals.images import ImageInputs


def net(**conv) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 3, 3, **conv), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten())


def changed(change):
    module = net()
    with torch.no_grad():
        change(module)
    return module


def test_a_copy_has_the_same_fingerprint():
    assert weights_of(copy.deepcopy(net())) == weights_of(net())
    assert weights_of(net().eval()) == weights_of(net())


@pytest.mark.parametrize(
    "other",
    [
        changed(lambda m: m[0].weight.view(-1)[4:5].add_(1e-6)),
        changed(lambda m: m[1].running_var[0].add_(1e-6)),
        changed(lambda m: m.__setitem__(2, nn.Tanh())),
        changed(lambda m: m.double()),
        changed(lambda m: m.append(nn.Identity())),
        net(stride=2),
        net(padding=1),
    ],
    ids=["a weight", "a statistic", "an activation", "the type", "a part", "stride", "padding"],
)
def test_what_changes_a_teachers_answers_changes_its_fingerprint(other):
    """Weights alone do not: two nets of other strides have the same."""
    assert weights_of(other) != weights_of(net())


def test_types_that_share_bytes_are_told_apart():
    one, two = nn.ParameterList([torch.zeros(4)]), nn.ParameterList([torch.zeros(2, 2)])
    assert weights_of(one) != weights_of(two)


class Addressed(nn.Module):
    def extra_repr(self) -> str:
        return f"by={object()!r}"


def test_addresses_in_memory_do_not_count():
    """Another process would never find its own cache again."""
    assert weights_of(Addressed()) == weights_of(Addressed())


def test_another_process_finds_the_same_fingerprint():
    script = "import torch; from tutelage.signals.cache import weights_of; torch.manual_seed(0); print(weights_of(torch.nn.Linear(3, 2)))"
    torch.manual_seed(0)
    here = weights_of(nn.Linear(3, 2))
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.strip() == here


def test_weights_of_odd_shapes_and_types_have_one():
    module = nn.Module()
    for name, tensor in {
        "scalar": torch.tensor(3.0),
        "none": torch.zeros(0, 3),
        "short": torch.ones(2, dtype=torch.bfloat16),
        "flag": torch.tensor([True]),
        "turned": torch.arange(6.0).view(2, 3).t(),
    }.items():
        module.register_buffer(name, tensor)
    assert len(weights_of(module)) == 16


def halved(x):
    return x / 2


def doubled(x):
    return x * 2


def times(x, factor):
    return x * factor


class Times:
    def __init__(self, factor):
        self.factor, self.calls = factor, object()

    def __call__(self, x):
        return x * self.factor


def seen(inputs):
    return preprocessing_of(Model(nn.Linear(3, 2), inputs=inputs))


@pytest.mark.parametrize(
    ("one", "again", "other"),
    [
        (halved, halved, doubled),
        (functools.partial(times, factor=2), functools.partial(times, factor=2), functools.partial(times, factor=3)),
        (Times(2), Times(2), Times(3)),
        (Times(torch.ones(2)), Times(torch.ones(2)), Times(torch.zeros(2))),
    ],
    ids=["functions", "partials", "objects", "tensors"],
)
def test_preprocessing_of_ones_own_is_known_by_its_text_and_values(one, again, other):
    """The same model that sees its inputs otherwise is another teacher."""
    assert seen(one)["kind"] == "code"
    assert seen(one) == seen(again) != seen(other)
    assert seen(None) == {"kind": "none"}


def test_preprocessing_of_ours_is_known_by_its_values():
    one, other = (seen(ImageInputs(mean=(mean,), std=(0.5,))) for mean in (0.1, 0.2))
    assert one != other
    assert one["kind"] == "images"
