"""The GridFS store without a server: its URLs, what it makes of documents, and what it calls its failures."""

from __future__ import annotations

import datetime
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import pytest

from reknit import CallerError, Options
from reknit._checksums import offered
from reknit._errors import StoreFault
from reknit.stores import _gridfs_upload, gridfs, open_store

pytest.importorskip("pymongo")
from pymongo import errors

MADE = datetime.datetime(2026, 1, 2, 3, 4, 5)
FILE = {"_id": 7, "length": 25, "chunkSize": 10, "uploadDate": MADE, "filename": "name"}
DATA = bytes(range(25))


class Chunks:
    """A collection of chunks that answers the one query there is."""

    def __init__(self, documents: Sequence[Mapping[str, Any]]) -> None:
        self.documents, self.asked, self.batch = documents, {}, 0

    @contextmanager
    def find(self, query: Mapping[str, Any], sort: object, batch_size: int) -> Iterator[Any]:
        self.asked, self.batch = query["n"], batch_size
        low, high = query["n"]["$gte"], query["n"]["$lt"]
        yield (d for d in self.documents if low <= d["n"] < high)


def chunked(data: bytes = DATA, size: int = 10) -> list[dict[str, Any]]:
    return [{"n": n, "data": data[at : at + size]} for n, at in enumerate(range(0, len(data), size))]


@pytest.mark.parametrize("first", range(26))
@pytest.mark.parametrize("end", range(26))
def test_every_range(first: int, end: int) -> None:
    """Any two ends, and no chunk is asked for that holds none of the bytes."""
    chunks = Chunks(chunked())
    assert b"".join(gridfs._chunks(chunks, FILE, first, end, 1 << 20)) == DATA[first:end]
    if first < end:
        assert chunks.asked == {"$gte": first // 10, "$lt": (end + 9) // 10}


def test_batches_are_no_larger_than_a_buffer() -> None:
    """What a broken connection can lose is bounded by the buffer, at least one chunk."""
    for buffer, batch in ((1, 1), (39, 1), (40, 2), (200, 10)):
        chunks = Chunks(chunked())
        list(gridfs._chunks(chunks, FILE, 0, 25, buffer))
        assert chunks.batch == batch


@pytest.mark.parametrize("gone", [0, 1, 2])
def test_missing_chunk(gone: int) -> None:
    """A chunk that is not there ends the body in an error that names it, after the bytes before it."""
    chunks = Chunks([c for c in chunked() if c["n"] != gone])
    got: list[bytes] = []
    with pytest.raises(StoreFault, match=f"chunk {gone} of the file") as caught:
        got.extend(gridfs._chunks(chunks, FILE, 0, 25, 100))
    assert b"".join(got) == DATA[: gone * 10]
    assert caught.value.kind == "changed"


@pytest.mark.parametrize("length", [0, 9, 11])
def test_chunk_of_another_size(length: int) -> None:
    """A chunk that is short or long is as good as missing: what follows it would be moved."""
    documents = chunked()
    documents[1]["data"] = bytes(length)
    with pytest.raises(StoreFault, match="chunk 1 "):
        list(gridfs._chunks(Chunks(documents), FILE, 0, 25, 100))


@pytest.mark.parametrize("sizes", [[], [0], [1], [10], [11], [3, 3, 3, 3], [25, 0, 5], [9, 1, 1]])
def test_cut_into_chunks(sizes: list[int]) -> None:
    """Blocks of any sizes become chunks of one size, but for the last; no byte is lost or doubled."""
    data, blocks, at = bytes(range(sum(sizes))), [], 0
    for size in sizes:
        blocks.append(memoryview(data)[at : at + size])
        at += size
    chunks = list(_gridfs_upload._cut(blocks, 10))
    assert b"".join(chunks) == data
    assert [len(c) for c in chunks] == [10] * (at // 10) + [at % 10] * bool(at % 10)


def test_validator() -> None:
    """It is strong, the same for the same revision, and another for any other."""
    tags = {
        gridfs._etag({**FILE, name: value})
        for name, value in (
            ("length", 25),
            ("_id", 8),
            ("length", 24),
            ("chunkSize", 11),
            ("uploadDate", None),
            ("md5", "0" * 32),
        )
    }
    assert len(tags) == 6
    assert gridfs._etag(FILE) in tags
    assert all(tag.startswith('"') and tag.endswith('"') for tag in tags)


def test_digests() -> None:
    """An md5 of the file and digests in its metadata are offered where they look like such."""
    head = gridfs._head({**FILE, "md5": "0a" * 16, "metadata": {"sha256": "0B" * 32}})
    digests = [(d.algorithm, d.value) for d in offered(head, etag_is_md5=False)]
    assert digests == [("sha256", "0b" * 32), ("md5", "0a" * 16)]
    for odd in ({"md5": 5}, {"md5": "0a"}, {"metadata": "text"}, {"metadata": {"sha256": "no"}}, {}):
        assert "repr-digest" not in gridfs._head({**FILE, **odd})
    assert gridfs._head({**FILE, "metadata": {"contentType": "a/b"}})["content-type"] == "a/b"


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (errors.NetworkTimeout("t"), "timeout"),
        (errors.ServerSelectionTimeoutError("t"), "connect"),
        (errors.AutoReconnect("t"), "reset"),
        (errors.CursorNotFound("t"), "protocol"),
        (errors.OperationFailure("t", 1), "protocol"),
        (BrokenPipeError("t"), "protocol"),
    ],
)
def test_failures(error: Exception, kind: str) -> None:
    """Each failure of the library has its kind and names itself."""
    fault = gridfs._fault(error)
    assert isinstance(fault, StoreFault)
    assert fault.kind == kind
    assert type(error).__name__ in str(fault)
    bug = ZeroDivisionError()
    assert gridfs._fault(bug) is bug


@pytest.mark.parametrize(("code", "status"), [(18, 401), (13, 403), (26, 404)])
def test_refusals(code: int, status: int) -> None:
    """The server's no is an answer, not something to try again."""
    answer = gridfs.refusal(errors.OperationFailure("not you", code))
    assert answer.status == status
    assert "not you" in answer.headers["x-reknit-error"]


@pytest.mark.parametrize(
    "url",
    [
        "gridfs://host",
        "gridfs://host/db",
        "gridfs://host/db/",
        "gridfs://host:x/db/name",
        "gridfs://host/db/name?x=1",
        "gridfs:///db/name",
    ],
)
def test_bad_urls(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is no address of a file is said before anything is asked."""
    monkeypatch.delenv("MONGODB_URI", raising=False)
    with pytest.raises(CallerError, match="GridFS URL"):
        open_store(url, Options())


def test_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """A URL without a host takes the connection string, of the settings or the environment."""
    monkeypatch.setenv("MONGODB_URI", "mongodb://me:secret@one,two/?replicaSet=r&password=x")
    store = open_store("gridfs:///db/a%2Fb", Options(store={"bucket": "images"}))
    assert store.identity == "gridfs mongodb://one,two/ db.images a/b"
    with pytest.raises(CallerError, match="unknown GridFS setting buckets"):
        open_store("gridfs:///db/name", Options(store={"buckets": "x"}))
    with pytest.raises(CallerError, match="gridfs: "):
        open_store("gridfs:///db/name", Options(store={"uri": "http://x"})).stat()


def test_secrets() -> None:
    """Credentials in a URL are in no identity and no message."""
    assert "secret" not in open_store("gridfs://me:secret@host:5/db/name", Options()).identity
    with pytest.raises(CallerError) as caught:
        open_store("gridfs://me:secret@host/db", Options())
    assert "secret" not in str(caught.value)


def test_without_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    """What to install is said."""
    monkeypatch.setitem(sys.modules, "pymongo", None)
    with pytest.raises(CallerError, match=r"pip install 'midstream\[gridfs\]'"):
        open_store("gridfs://host/db/name", Options()).stat()
