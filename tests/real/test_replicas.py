"""Swift's proxy goes on from another replica, and what the harness can do to its object servers."""

from __future__ import annotations

import http.client
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
from tests.real.conftest import need

from midstream._content import Content
from midstream._errors import StoreDied, UsageError
from midstream._registry import load
from midstream.stores import Traits
from midstream.stores.swift_aio import RunningSwiftAIO
from midstream.testing.stores import HELD, holding, rest

CONTENT = Content(32 * 2**20, seed=11)


@pytest.fixture(scope="module")
def swift(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningSwiftAIO]:
    need("swift-aio")
    running = load("stores", "swift-aio").start(tmp_path_factory.mktemp("swift"))
    yield running
    running.stop()


@pytest.fixture
def key(swift: RunningSwiftAIO) -> Iterator[str]:
    for number in range(swift.replicas):
        swift.revive_backend(number)
    swift.put("object", CONTENT, Traits())
    yield "object"
    for number in range(swift.replicas):
        swift.revive_backend(number)


def url(swift: RunningSwiftAIO, key: str) -> str:
    return swift.access(key, f"http://127.0.0.1:{swift.port}").url


def test_two_of_three_end(swift: RunningSwiftAIO, key: str) -> None:
    """The proxy knits a response together from what three object servers send, whole to the last byte."""
    with holding(url(swift, key)) as response:
        body = response.read(HELD)
        swift.kill_backend(0)
        body += response.read(2**23)
        swift.kill_backend(1)
        body += rest(response)
    assert body == CONTENT.whole()
    assert swift.read(key, 0, 100) == CONTENT.read(0, 100)


def test_all_end(swift: RunningSwiftAIO, key: str) -> None:
    """Without any replica a response ends early: those that are ended are those it came from."""
    with holding(url(swift, key)) as response:
        body = response.read(HELD)
        for number in range(swift.replicas):
            swift.kill_backend(number)
        body += rest(response)
    assert len(body) < CONTENT.size
    assert body == CONTENT.read(0, len(body))
    assert swift.alive()
    connection = http.client.HTTPConnection("127.0.0.1", swift.port, timeout=20)
    connection.request("GET", urlsplit(url(swift, key)).path)
    assert connection.getresponse().status == 503
    connection.close()


def test_written_without_one(swift: RunningSwiftAIO, key: str) -> None:
    """Two replicas are enough to write; the third comes back empty, and twice is as good as once."""
    swift.kill_backend(2)
    swift.kill_backend(2)
    swift.put("another", Content(5000), Traits())
    swift.revive_backend(2)
    swift.revive_backend(2)
    for _ in range(6):
        assert swift.read("another") == Content(5000).whole()
    swift.delete("another")
    assert swift.stat("another") is None


@pytest.mark.parametrize("number", [-1, 3])
def test_no_such_backend(swift: RunningSwiftAIO, number: int) -> None:
    """A backend that does not exist cannot be killed."""
    with pytest.raises(UsageError, match="there are 3"):
        swift.kill_backend(number)


def test_strangers_give_no_orders(swift: RunningSwiftAIO, key: str) -> None:
    """Only who has started the servers can end them."""
    port, _ = swift._orders
    swift._orders = port, "guess"
    try:
        with pytest.raises(StoreDied):
            swift.kill_backend(0)
    finally:
        swift._orders = port, swift._server.ready["secret"]
    assert swift.read(key, 0, 10) == CONTENT.read(0, 10)
