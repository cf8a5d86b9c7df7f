"""Tests over servers that do not come with the package.

A server that is missing skips its tests with the way to get it; with MIDSTREAM_CI set it fails them.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from midstream._registry import load

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.real)


def need(store: str) -> None:
    """Skip, or under CI fail, when a store cannot run here."""
    can = load("stores", store).available()
    if not can.available:
        text = f"{store}: {can.reason}; {can.hint}"
        if os.environ.get("MIDSTREAM_CI"):
            pytest.fail(text)
        pytest.skip(text)
