"""The generators of the site, found beside its configuration."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture
def module(monkeypatch):
    """Imports a generator by its name."""
    monkeypatch.syspath_prepend(DOCS)
    return importlib.import_module
