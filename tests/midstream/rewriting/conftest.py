"""One embedded injector for the tests of a module, and a store that answers with layouts."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from midstream.injectors import RunningInjector
from midstream.injectors.embedded import Embedded
from midstream.testing.injectors import objects
from midstream.testing.wire import ScriptedOrigin


@pytest.fixture(scope="module")
def running() -> Iterator[RunningInjector]:
    running = Embedded().start()
    yield running
    running.stop()


@pytest.fixture(scope="module")
def store() -> Iterator[ScriptedOrigin]:
    store = ScriptedOrigin(objects)
    yield store
    store.stop()
