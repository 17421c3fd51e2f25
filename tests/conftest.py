"""What all tests share: one torch thread, no hub, a seeded generator, a fresh accelerator."""

from __future__ import annotations

import os

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
import torch

torch.set_num_threads(1)


@pytest.fixture(autouse=True, scope="session")
def _own_cache(tmp_path_factory):
    """Nothing that tests keep lands in the user's cache, nor comes from it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TUTELAGE_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture
def rng() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.fixture
def timeless():
    """A function that leaves out of a report what no two runs have in common: the times that were measured."""

    def strip(found):
        if isinstance(found, dict):
            return {k: strip(v) for k, v in found.items() if k not in ("latency_ms", "throughput", "tokens_a_second", "ms_image")}
        return found

    return strip


@pytest.fixture
def no_page(monkeypatch):
    """Runs end without drawing their page, which takes longer than a small training and has tests of its own."""
    monkeypatch.setattr("tutelage.jobs.report.render", lambda contents: "")
    monkeypatch.setattr("tutelage.jobs.report.generator_page.render", lambda contents, grids: "")


@pytest.fixture
def untimed_caches(monkeypatch):
    """No second is spent on timing a teacher, and what it costs is the same each time; processes look often at what others write."""
    monkeypatch.setattr("tutelage.jobs.cache.costs", lambda models, *_, **__: {name: {"flops": 7} for name in models})
    monkeypatch.setattr("tutelage.jobs.caching.estimate.SECONDS", 0.0)
    monkeypatch.setattr("tutelage.jobs.caching.writing.PATIENCE", 0.005)


@pytest.fixture(scope="module")
def cheap_comparisons():
    """No time spent on the pages and the timing of comparisons."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tutelage.jobs.report.render", lambda contents: "")
        patch.setattr("tutelage.evaluation.cost.SECONDS", 0.0)
        patch.setattr("tutelage.jobs.compare.write_page", lambda place, found: None)
        yield


@pytest.fixture(autouse=True)
def _fresh_accelerator():
    """Accelerate keeps one state per process; tests ask for different precisions."""
    yield
    import sys

    if "accelerate" in sys.modules:
        from accelerate.state import AcceleratorState

        AcceleratorState._reset_state(reset_partial_state=True)
