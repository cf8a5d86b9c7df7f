"""The store drivers for Glance, called as glance_store calls them."""

from __future__ import annotations

import os
from typing import Any

import pytest

if not os.environ.get("MIDSTREAM_CI"):
    pytest.importorskip("glance_store", reason="pip install 'midstream[glance]'")

import glance_store
from glance_store import exceptions
from oslo_config import cfg

from reknit import Changed, Exhausted, Integrity, Refused
from reknit.glance._reading import told

DATA = bytes(range(256)) * 40


@pytest.fixture
def get() -> Any:
    """Read an image by its URL: `get(url, offset=, chunk_size=)` gives the bytes and the announced size."""
    conf = cfg.ConfigOpts()
    glance_store.register_opts(conf)
    conf([], project="x", default_config_files=[])
    conf.set_override("stores", ["reknit-http"], group="glance_store")
    conf.set_override("default_store", "http", group="glance_store")
    conf.set_override("reknit_attempts", 1, group="glance_store")
    conf.set_override("reknit_backoff_base", 0.0, group="glance_store")
    glance_store.create_stores(conf)
    store = glance_store.get_store_from_scheme("http")

    def read(url: str, *positional: int, **part: int | None) -> tuple[bytes, int]:
        where = glance_store.location.get_location_from_uri(url, conf=conf)
        data, size = store.get(where, *positional, **part)
        assert len(data) == size
        return b"".join(data), size

    read.size = lambda url: store.get_size(  # type: ignore[attr-defined]
        glance_store.location.get_location_from_uri(url, conf=conf)
    )
    return read


def test_whole_and_parts(origin, whole, say, get) -> None:
    """chunk_size is how many bytes to read, offset where they begin, by keyword or by position."""
    origin.then = lambda asked: say(whole(DATA, asked))
    assert get(origin.url()) == (DATA, len(DATA))
    assert get(origin.url(), offset=100, chunk_size=50) == (DATA[100:150], 50)
    assert get(origin.url(), 100, 50) == (DATA[100:150], 50)
    assert get(origin.url(), offset=10200) == (DATA[10200:], 40)
    assert get(origin.url(), offset=10200, chunk_size=500) == (DATA[10200:], 40)
    assert get(origin.url(), chunk_size=7) == (DATA[:7], 7)
    assert get.size(origin.url()) == len(DATA)


def test_past_the_end(origin, say, get) -> None:
    """Nothing, as from the file driver."""
    wire = b"HTTP/1.1 416 x\r\nContent-Range: bytes */5\r\nContent-Length: 0\r\n\r\n"
    origin.then = lambda asked: say(wire)
    assert get(origin.url(), offset=99) == (b"", 0)


def test_drops_are_healed_and_the_rest_is_bound(origin, whole, say, get) -> None:
    """The rest is asked for by the tag of the beginning."""
    origin.script = [say(whole(DATA)[:-5000], "rst")]
    origin.then = lambda asked: say(whole(DATA, asked))
    assert get(origin.url())[0] == DATA
    assert 'if-range: "a"' in origin.asked[1].lower()


def test_what_cannot_be_healed_is_an_error(origin, whole, say, get) -> None:
    """The iterator raises instead of ending."""
    origin.script = [say(whole(DATA)[:-5000])]
    origin.then = lambda asked: say(b"HTTP/1.1 503 x\r\nContent-Length: 0\r\n\r\n")
    with pytest.raises(exceptions.RemoteServiceUnavailable):
        get(origin.url())


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (404, exceptions.NotFound),
        (403, exceptions.Forbidden),
        (400, exceptions.BadStoreUri),
        (503, exceptions.RemoteServiceUnavailable),
    ],
)
def test_refusals_come_at_once(origin, say, get, status: int, error: type[Exception]) -> None:
    """Before the iterator, so that Glance can try another location; for the size, too."""
    origin.then = lambda asked: say(b"HTTP/1.1 %d x\r\nContent-Length: 0\r\n\r\n" % status)
    with pytest.raises(error):
        get(origin.url())
    with pytest.raises(error):
        get.size(origin.url())


def test_errors_in_the_words_of_glance() -> None:
    """Each of ours has one of theirs, with its text."""
    for ours, theirs in [
        (Refused("gone", 410), exceptions.NotFound),
        (Exhausted("tired"), exceptions.RemoteServiceUnavailable),
        (Changed("other"), exceptions.BackendException),
        (Integrity("wrong"), exceptions.BackendException),
    ]:
        found = told(ours)
        assert isinstance(found, theirs)
        assert str(ours) in str(found)
