"""The U-Net: shapes, what it is told, and what cannot be built."""

from __future__ import annotations

import pytest
import torch

from tutelage.errors import BadInput
from tutelage.students.unet import time_waves, unet


@pytest.mark.parametrize(("size", "levels", "channels"), [(8, 1, 1), (8, 2, 3), (28, 2, 1), (7, 0, 1), (16, 3, 1)])
def test_it_gives_what_it_takes(size, levels, channels, rng):
    net = unet(size=size, levels=levels, channels=channels, width=4, depth=2, classes=5)
    x = torch.randn(3, channels, size, size, generator=rng)
    given = net(x, torch.tensor([0, 7, 999]), torch.tensor([0, 4, 5]))
    assert given.shape == x.shape
    assert torch.equal(given, torch.zeros_like(x))  # its last layer begins at zero
    assert net.shape == (channels, size, size)


def test_time_and_class_reach_every_block(rng):
    """A net that does not hear the time denoises all times alike."""
    torch.manual_seed(0)
    net = unet(width=8, levels=1, classes=3)
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    x, none = torch.randn(2, 1, 8, 8, generator=rng), torch.tensor([3, 3])
    plain = net(x, torch.tensor([5, 5]), none)
    assert not torch.allclose(plain, net(x, torch.tensor([900, 900]), none))
    assert not torch.allclose(plain, net(x, torch.tensor([5, 5]), torch.tensor([0, 1])))
    plain.square().sum().backward()
    assert all(p.grad is not None and bool(p.grad.abs().sum() > 0) for name, p in net.named_parameters() if "label" not in name)


def test_waves_of_a_time_by_a_loop():
    waves = time_waves(torch.tensor([0, 3]), 6)
    for i in range(3):
        rate = 10_000 ** (-i / 3)
        assert float(waves[1, i]) == pytest.approx(torch.sin(torch.tensor(3 * rate)).item(), abs=1e-6)
        assert float(waves[1, 3 + i]) == pytest.approx(torch.cos(torch.tensor(3 * rate)).item(), abs=1e-6)
    assert waves[0].tolist() == [0, 0, 0, 1, 1, 1]


@pytest.mark.parametrize(
    ("sizes", "said"),
    [({"size": 7}, "cannot be halved"), ({"width": 0}, "at least 1"), ({"width": 5}, "an even width"), ({"levels": -1}, "at least 1")],
)
def test_what_cannot_be_built_is_refused(sizes, said):
    with pytest.raises(BadInput, match=said):
        unet(**sizes)
