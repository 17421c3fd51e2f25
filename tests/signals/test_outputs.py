"""Reading logits out of what models give, and choosing what they take. Shapes: B=3, D=5, V=7."""

from __future__ import annotations

from collections import namedtuple
from dataclasses import dataclass

import pytest
import torch
from torch import nn
from transformers.modeling_outputs import BaseModelOutput, SequenceClassifierOutput

from tutelage.errors import BadInput
from tutelage.signals import Model
from tutelage.signals.outputs import first_tensor, inputs_of, raised

B, D, V = 3, 5, 7
Z, H = torch.zeros(B, V), torch.ones(B, D)


@dataclass
class Output:
    hidden: torch.Tensor
    logits: torch.Tensor


Pair = namedtuple("Pair", ["hidden", "logits"])


class Gives(nn.Module):
    def __init__(self, output):
        super().__init__()
        self.output = output

    def forward(self, x):
        return self.output


def batch(**columns):
    return {"id": torch.arange(B), "y": torch.arange(B), **columns}


@pytest.mark.parametrize(
    "output",
    [
        Z,
        (Z, H),
        [Z, H],
        ((Z, H), H),
        {"hidden": H, "logits": Z},
        Output(H, Z),
        Pair(H, Z),
        SequenceClassifierOutput(logits=Z, hidden_states=(H,)),
    ],
    ids=["tensor", "tuple", "list", "nested", "dict", "dataclass", "namedtuple", "transformers"],
)
def test_logits_are_found_in_whatever_a_model_gives(output):
    """Users' models stay as they are."""
    assert Model(Gives(output)).observe(batch(x=H), {"logits"})["logits"] is Z


@pytest.mark.parametrize(
    "output",
    [{"scores": Z}, BaseModelOutput(last_hidden_state=H), Output(H, None), {"logits": [1.0]}, (), None, 3.0],
    ids=["dict", "transformers", "dataclass", "no tensor", "empty", "none", "number"],
)
def test_an_output_without_logits_is_an_error_with_the_way_out(output):
    """Taking just any tensor for logits would train on hidden states."""
    with pytest.raises(BadInput, match=r"without logits.*logits=lambda"):
        Model(Gives(output)).observe(batch(x=H), {"logits"})


def test_a_function_of_the_users_finds_the_logits():
    """For models that fit no custom."""
    model = Model(Gives({"scores": Z}), logits=lambda output: output["scores"])
    assert model.observe(batch(x=H), {"logits"})["logits"] is Z
    assert model.copy().logits({"scores": Z}) is Z


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        (H, H),
        ((None, H, Z), H),
        ({"a": None, "b": [H]}, H),
        (Output(H, Z), H),
        (BaseModelOutput(last_hidden_state=H), H),
        ((), None),
        ("x", None),
    ],
)
def test_the_first_tensor_of_a_module_is_its_signal(output, expected):
    """Attention modules give (output, weights): the tap is the output."""
    assert first_tensor(output) is expected


class Named(nn.Module):
    def forward(self, pixels, lengths, scale=None):
        return pixels * lengths * (1 if scale is None else scale)


def test_one_input_column_is_the_only_argument_under_any_name():
    """A table's `x` fits a model's `pixels`."""
    assert inputs_of(batch(anything=H), Named(), "net") == (H,)


def test_several_columns_go_by_the_names_of_the_arguments_in_any_order():
    """Positional order of columns is an accident of the data set."""
    x, lengths = torch.ones(B), torch.full((B,), 2.0)
    extra = batch(lengths=lengths, unused=H, pixels=x, mask=H, weight=H, domain=H, view=H)
    assert inputs_of(extra, Named(), "net") == {"pixels": x, "lengths": lengths}
    shown = Model(Named()).observe(batch(lengths=lengths, scale=torch.tensor(5.0), pixels=x), {"logits"})["logits"]
    torch.testing.assert_close(shown, torch.full((B,), 10.0))


def test_a_missing_input_is_named_with_what_there_is():
    """Torch would say `forward() missing 1 required positional argument`, not which column."""
    with pytest.raises(BadInput, match=r"net takes \['pixels', 'lengths', 'scale'\].*\['other', 'pixels'\].*missing: \['lengths'\]"):
        inputs_of(batch(pixels=H, other=H), Named(), "net")


def test_a_batch_of_labels_only_has_no_input():
    """A forgotten input column must not become a model called with its labels."""
    with pytest.raises(BadInput, match=r"no input column for net.*\['id', 'y'\]"):
        inputs_of(batch(), Named(), "net")


def test_a_model_that_takes_any_keywords_gets_all_input_columns():
    """But never ids, labels or masks."""

    class Anything(nn.Module):
        def forward(self, **columns):
            return columns

    assert inputs_of(batch(a=H, b=Z, mask=H), Anything(), "net") == {"a": H, "b": Z}


@pytest.mark.parametrize("given", [lambda b: (b["x"] * 2,), lambda b: {"input": b["x"] * 2}], ids=["tuple", "dict"])
def test_a_model_keeps_its_own_preprocessing(given, rng):
    """Teacher and student may see the sample differently; the teacher's way must not be lost in a copy."""
    x = torch.randn(B, D, generator=rng)
    model = Model(nn.Linear(D, V), inputs=given)
    for handle in (model, model.copy()):
        torch.testing.assert_close(handle.observe(batch(x=x), {"logits"})["logits"], model.module(2 * x))


@pytest.mark.parametrize(
    ("dtype", "becomes"),
    [(torch.float16, torch.float32), (torch.bfloat16, torch.float32), (torch.float32, torch.float32), (torch.float64, torch.float64)],
)
def test_half_precision_is_raised_and_the_rest_stays(dtype, becomes):
    """float64 must stay, or gradients cannot be checked."""
    assert raised(torch.zeros(1, dtype=dtype)).dtype == becomes
