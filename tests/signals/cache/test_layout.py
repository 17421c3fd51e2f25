"""What a shard holds, said in one place: files are as it says, and as large."""

from __future__ import annotations

import pytest
import torch

from shard_folders import write
from tutelage.signals.cache import PLAIN, KeptLogits, KeptSplit, KeptTap, bytes_a_row, bytes_a_sample
from tutelage.signals.cache.layout import check_tensors, parts
from tutelage.signals.cache.shards import open_shard

N, T = 6, 4

LOGITS = [
    *(KeptLogits("dense", 9, 9, 1.0, precision) for precision in ("full", "float16", "bfloat16")),
    *(
        KeptLogits(form, classes, 4, 2.0, precision)
        for form in ("top-k", "sampled")
        for classes in (256, 257, 65_536, 65_537)
        for precision in ("full", "float16", "8-bit")
    ),
]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("logits", LOGITS, ids=lambda kept: f"{kept.form}-{kept.classes}-{kept.precision}")
def test_estimates_of_logits_are_the_bytes_of_real_files(logits, dtype, tmp_path, rng):
    """The table before the writing would be wrong, and the disk full in the middle."""
    kept = KeptSplit(N, N, "d", logits)
    values = torch.randn(N, logits.classes, generator=rng).to(dtype)
    folder = write(tmp_path, kept, torch.arange(N), {PLAIN: {"logits": values}}, uniforms=torch.rand(N, generator=rng)).folder
    tensors = open_shard(folder / "train" / "plain-00000.safetensors")
    size = sum(tensor.nbytes for tensor in tensors.values()) - tensors["id"].nbytes
    assert bytes_a_sample(kept, dtype=dtype) == {"logits": size / N}
    assert bytes_a_row(logits, dtype) == size / N


@pytest.mark.parametrize(("classes", "k", "size"), [(256, 20, 42), (49_152, 20, 62), (65_536, 20, 62), (151_936, 15, 62)])
def test_a_token_takes_less_than_64_bytes(classes, k, size):
    """The aim: what the best public toolkit needs 114 to 344 for."""
    assert bytes_a_row(KeptLogits("sampled", classes, k, 1.0, "8-bit", True)) == size


@pytest.mark.parametrize("precision", ["full", "float16", "bfloat16", "8-bit"])
@pytest.mark.parametrize("ragged", [False, True])
def test_estimates_of_taps_are_the_bytes_of_real_files(precision, ragged, tmp_path, rng):
    mask = torch.arange(T) < torch.tensor([4, 1, 0, 2, 3, 1])[:, None]
    taps = {"map": KeptTap("m", (3, 2, 2), precision), "token": KeptTap("t", (5,), precision, True)}
    kept = KeptSplit(N, 4, "d", None, taps, 0, ragged)
    shown = {"map": torch.randn(N, 3, 2, 2, generator=rng), "token": torch.randn(N, T, 5, generator=rng)}
    folder = write(tmp_path, kept, torch.arange(N), {PLAIN: shown}, mask=mask if ragged else None).folder
    shards = [open_shard(file) for file in sorted(folder.glob("*/*.safetensors"))]
    positions = float(mask.sum()) / N if ragged else T
    sizes = bytes_a_sample(kept, positions)
    assert sizes == {name: pytest.approx(sum(shard[f"tap.{name}"].nbytes for shard in shards) / N) for name in taps}
    for number, shard in enumerate(shards):
        assert shard.keys() == parts(kept).keys()
        check_tensors(shard, kept, len(kept.rows(number)), "it")
