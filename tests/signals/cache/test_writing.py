"""What a writer refuses before it is on disk, and that batches do not matter."""

from __future__ import annotations

import pytest
import torch

from tutelage.errors import BadInput, ShapeMismatch
from tutelage.signals.cache import KeptLogits, KeptSplit, KeptTap, Shard

V = 5
IDS = torch.arange(3)
KEPT = KeptSplit(3, 3, "d", KeptLogits("dense", V, V), {"tap": KeptTap("a", (2, 4))})
TOKENS = KeptSplit(3, 3, "d", KeptLogits("dense", V, V, positions=True), {"tap": KeptTap("a", (2,), positions=True)})
RAGGED = KeptSplit(3, 3, "d", KeptLogits("sampled", V, 2, positions=True), {"tap": KeptTap("a", (2,), positions=True)}, 0, True)
MASK = torch.tensor([[1, 1, 0], [0, 0, 0], [1, 0, 0]])


@pytest.mark.parametrize(
    ("logits", "tap"),
    [((2, V), (3, 2, 4)), ((3, V), (4, 2, 4)), ((3, V + 1), (3, 2, 4)), ((3, V), (3, 4, 2)), ((3, 1, V), (3, 2, 4)), ((3,), (3, 2, 4))],
)
def test_a_signal_of_another_shape_is_refused(logits, tap):
    """One row too few would give each following sample its neighbour's numbers."""
    with pytest.raises(ShapeMismatch, match="a cache keeps signals of one shape"):
        Shard(KEPT).add(IDS, {"logits": torch.ones(logits), "tap": torch.ones(tap)})


def test_batches_with_other_numbers_of_positions_need_lengths():
    shard = Shard(TOKENS)
    shard.add(IDS, {"logits": torch.ones(3, 4, V), "tap": torch.ones(3, 4, 2)})
    with pytest.raises(ShapeMismatch, match=r"\(3, 6, 2\).*expected \(3, 4, 2\)"):
        shard.add(IDS, {"logits": torch.ones(3, 6, V), "tap": torch.ones(3, 6, 2)})
    with pytest.raises(ShapeMismatch, match=r"\(3, 4, 5\).*expected \(3, 6, 5\)"):
        Shard(TOKENS).add(IDS, {"logits": torch.ones(3, 4, V), "tap": torch.ones(3, 6, 2)})


def test_signals_and_mask_must_have_the_same_positions():
    with pytest.raises(ShapeMismatch, match=r"expected \(3, 3, 5\)"):
        Shard(RAGGED).add(IDS, {"logits": torch.ones(3, 4, V), "tap": torch.ones(3, 3, 2)}, mask_BT=MASK, uniforms=torch.ones(3, 3))


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("name", ["logits", "tap"])
def test_what_is_not_finite_is_refused(name, value):
    signals = {"logits": torch.ones(3, V), "tap": torch.ones(3, 2, 4)}
    signals[name].view(-1)[3] = value
    with pytest.raises(BadInput, match=f"NaN or infinite numbers at '{name}'"):
        Shard(KEPT).add(IDS, signals)


@pytest.mark.parametrize("dtype", [torch.int64, torch.bool, torch.complex64, torch.float8_e4m3fn])
def test_a_type_that_is_not_kept_is_refused(dtype):
    """Before it is on disk, where no reader would take it."""
    with pytest.raises(BadInput, match=f"is of {dtype}; a cache keeps torch.float32"):
        Shard(KEPT).add(IDS, {"logits": torch.ones(3, V).to(dtype), "tap": torch.ones(3, 2, 4)})


@pytest.mark.parametrize("mask", [None, torch.ones(3), torch.ones(2, 3)])
def test_a_mask_that_says_no_lengths_is_refused(mask):
    """Which position is real could not be told."""
    with pytest.raises(BadInput, match="mask"):
        Shard(RAGGED).add(IDS, {"logits": torch.ones(3, 3, V), "tap": torch.ones(3, 3, 2)}, mask_BT=mask, uniforms=torch.ones(3, 3))


def test_sampled_logits_need_uniform_numbers():
    with pytest.raises(BadInput, match="uniform numbers"):
        Shard(RAGGED).add(IDS, {"logits": torch.ones(3, 3, V), "tap": torch.ones(3, 3, 2)}, mask_BT=MASK)


def test_numbers_too_large_for_their_precision_are_refused():
    kept = KeptSplit(3, 3, "d", KeptLogits("dense", V, V, 1.0, "float16"))
    with pytest.raises(BadInput, match="too large for float16"):
        Shard(kept).add(IDS, {"logits": torch.full((3, V), 1e5)})


@pytest.mark.parametrize("kept", [KEPT, TOKENS, RAGGED], ids=["plain", "positions", "ragged"])
def test_a_shard_is_the_same_whatever_the_batches(kept, rng):
    positions = kept is not KEPT
    signals = {
        "logits": torch.randn(3, *([3] * positions), V, generator=rng),
        "tap": torch.randn(3, *([3] * positions), *kept.taps["tap"].shape, generator=rng),
    }
    uniforms = torch.rand(3, 3, generator=rng)
    made = []
    for cuts in ([3], [1, 2], [2, 1], [1, 1, 1]):
        shard = Shard(kept)
        for rows in torch.arange(3).split(cuts):
            parts = {name: signal[rows] for name, signal in signals.items()}
            shard.add(IDS[rows], parts, uniforms=uniforms[rows] if kept is RAGGED else None, mask_BT=MASK[rows] if kept is RAGGED else None)
        made.append(shard.tensors())
    assert all(each.keys() == made[0].keys() for each in made)
    assert all(torch.equal(each[name], tensor) for each in made for name, tensor in made[0].items())
