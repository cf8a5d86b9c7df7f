"""Engines that do not come with the package: what is missing skips its tests, or under CI fails them."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from functools import cache

import pytest

from midstream._registry import load
from midstream.injectors import Injector, RunningInjector
from midstream.testing.injectors import objects
from midstream.testing.wire import ScriptedOrigin

ENGINES = ("toxiproxy", "mitmproxy")


@cache
def lack(name: str) -> str:
    here = load("injectors", name).available()
    return "" if here.available else f"{name}: {here.reason}; {here.hint}"


def engine(name: str) -> Injector:
    """An engine's injector; skips, or under CI fails, when it cannot run here."""
    if text := lack(name):
        if os.environ.get("MIDSTREAM_CI"):
            pytest.fail(text)
        pytest.skip(text)
    kind: Injector = load("injectors", name)
    return kind


@pytest.fixture(scope="module")
def store() -> Iterator[ScriptedOrigin]:
    store = ScriptedOrigin(objects)
    yield store
    store.stop()


@pytest.fixture(scope="module")
def mitmproxy() -> Iterator[RunningInjector]:
    running = engine("mitmproxy").start()
    yield running
    running.stop()


@pytest.fixture(scope="module")
def toxiproxy() -> Iterator[RunningInjector]:
    running = engine("toxiproxy").start()
    yield running
    running.stop()


@pytest.fixture(scope="module")
def curl() -> str:
    """curl with HTTP/2; without it the tests are skipped, or under CI fail."""
    path = shutil.which("curl")
    known = subprocess.run([path, "--version"], capture_output=True, text=True).stdout if path else ""
    if path is None or "HTTP2" not in known:
        text = "no curl with HTTP/2; apt-get install curl"
        if os.environ.get("MIDSTREAM_CI"):
            pytest.fail(text)
        pytest.skip(text)
    return path
