"""Packed weights: as few bytes as the bits say, and nothing lost."""

from __future__ import annotations

import itertools

import pytest
import torch

from tutelage.errors import BadInput, Mismatch
from tutelage.signals import Model
from tutelage.students import vit
from tutelage.students.packed import pack, packed, read_packed, unpack, write_packed
from tutelage.students.quantised import quantise, quantised
from tutelage.students.quantisers import BITS

NET = {"width": 8, "depth": 2, "heads": 2, "patch": 4}
LEVELS = ("ternary", "binary", "int4", "int8")


def codes_of(levels, count, rng):
    most = {"ternary": 1, "binary": 1, "int4": 7, "int8": 127}[levels]
    found = torch.randint(-most, most + 1, (count,), generator=rng)
    return (torch.where(found > 0, 1, -1) if levels == "binary" else found).to(torch.int8)


@pytest.mark.parametrize(("levels", "count"), [*itertools.product(LEVELS, (1, 3, 4, 7, 8, 64, 65))])
def test_codes_come_back_from_as_few_bytes_as_there_can_be(levels, count, rng):
    codes = codes_of(levels, count, rng)
    small = pack(codes, levels)
    assert small.dtype == torch.uint8
    assert len(small) == -(-count * BITS[levels] // 8)
    assert torch.equal(unpack(small, levels, torch.Size((count,))), codes)
    # against a loop over bits
    offset = {"ternary": 1, "binary": 0, "int4": 7, "int8": 127}[levels]
    numbers = [(c + 1) // 2 if levels == "binary" else c + offset for c in codes.tolist()]
    whole = sum(number << (BITS[levels] * place) for place, number in enumerate(numbers))
    assert small.tolist() == list(whole.to_bytes(len(small), "little"))


@pytest.mark.parametrize("levels", LEVELS)
def test_a_packed_student_says_what_it_said_and_is_small(levels, tmp_path):
    """Its file takes the bits of its weights, and a little for scales and for what stays in full precision."""
    torch.manual_seed(0)
    net = quantise(vit(**NET), levels)
    x = torch.rand(5, 1, 8, 8)
    said = net(x)
    write_packed(net, levels, tmp_path / "small.safetensors")
    again = quantise(read_packed(vit(**NET), levels, tmp_path / "small.safetensors"), levels)
    torch.testing.assert_close(again(x), said, rtol=1e-4, atol=1e-5)
    tensors = packed(net, levels)
    few = sum(value.numel() for name, value in tensors.items() if name.endswith(".codes"))
    full = sum(p.numel() for name, p in net.named_parameters() if f"{name}.codes" in tensors)
    assert full > 1000
    assert few == pytest.approx(full * BITS[levels] / 8, rel=0.01)


def test_another_nets_file_is_refused(tmp_path):
    write_packed(quantise(vit(**NET), "ternary"), "ternary", tmp_path / "small.safetensors")
    with pytest.raises((BadInput, Mismatch), match=r"do not hold|another net"):
        read_packed(vit(**{**NET, "width": 16}), "ternary", tmp_path / "small.safetensors")
    with pytest.raises((BadInput, Mismatch), match="another net"):
        read_packed(vit(**{**NET, "depth": 3}), "ternary", tmp_path / "small.safetensors")
    (tmp_path / "bad.safetensors").write_bytes(b"x")
    with pytest.raises(BadInput, match=r"damaged.*export it again"):
        read_packed(vit(**NET), "ternary", tmp_path / "bad.safetensors")


def test_a_handle_is_quantised_after_it_was_read(tmp_path):
    net = quantise(vit(**NET), "binary")
    write_packed(net, "binary", tmp_path / "small.safetensors")
    plain = Model(lambda: vit(**NET), name="small")
    read = quantised(plain.changed(lambda module: read_packed(module, "binary", tmp_path / "small.safetensors")), "binary")
    x = torch.rand(3, 1, 8, 8)
    torch.testing.assert_close(read.module(x), net(x), rtol=1e-4, atol=1e-5)
