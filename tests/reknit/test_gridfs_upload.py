"""What becomes of chunks and their document when the wire breaks anywhere, without a server."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from pymongo import errors

from reknit import Options
from reknit._errors import SourceError, StoreFault
from reknit.stores import _gridfs_upload, gridfs, open_uploader
from reknit.stores._uploader import Small

DATA = bytes(range(256)) * 3000  # three chunks
LOST = errors.AutoReconnect("the connection was lost")


class Server:
    """Two collections in memory. `faults` gives, for the n-th call, an error, and whether it comes after."""

    def __init__(self, faults: dict[int, tuple[Exception, bool]]) -> None:
        self.faults = faults
        self.calls = itertools.count(1)
        self.made: dict[str, list[dict[str, Any]]] = {"files": [], "chunks": []}
        self.files, self.chunks = Collection(self, "files"), Collection(self, "chunks")
        self.open = 0

    def call(self, what: Any) -> None:
        error, after = self.faults.get(next(self.calls), (None, False))
        if error is None or after:
            what()
        if error is not None:
            raise error

    # -- the client

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.open -= 1

    # -- what is there

    def whole(self) -> bool:
        """Whether each file has all of its chunks."""
        for file in self.made["files"]:
            own = [c for c in self.made["chunks"] if c["files_id"] == file["_id"]]
            if b"".join(c["data"] for c in sorted(own, key=lambda c: c["n"])) != DATA:
                return False
        return True

    def strays(self) -> int:
        named = {file["_id"] for file in self.made["files"]}
        return sum(chunk["files_id"] not in named for chunk in self.made["chunks"])


class Collection:
    def __init__(self, server: Server, name: str) -> None:
        self._server, self._name = server, name

    def create_index(self, *_: object, **__: object) -> None:
        self._server.call(lambda: None)

    def insert_one(self, document: dict[str, Any]) -> None:
        def insert() -> None:
            there = self._server.made[self._name]
            if any("_id" in each and each["_id"] == document.get("_id") for each in there):
                raise errors.DuplicateKeyError("it is there")
            there.append(document)

        self._server.call(insert)

    def delete_many(self, which: dict[str, Any]) -> None:
        gone = which["files_id"]["$in"]
        there = self._server.made[self._name]
        self._server.call(
            lambda: there.__setitem__(slice(None), [c for c in there if c["files_id"] not in gone])
        )


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    servers: list[Server] = []

    def made(faults: dict[int, tuple[Exception, bool]]) -> tuple[Server, _gridfs_upload.GridFSUploader]:
        server = Server(faults)
        servers.append(server)

        def connect(_: object) -> Server:
            server.open += 1
            return server

        monkeypatch.setattr(gridfs.GridFSStore, "connect", connect)
        monkeypatch.setattr(
            gridfs.GridFSStore, "bucket", lambda *_: SimpleNamespace(files=server.files, chunks=server.chunks)
        )
        uploader = open_uploader("gridfs://127.0.0.1/db/name", Options())
        assert isinstance(uploader, _gridfs_upload.GridFSUploader)
        return server, uploader

    yield made
    assert all(server.open == 0 for server in servers), "every client is closed"


def finish(uploader: _gridfs_upload.GridFSUploader) -> int:
    """Ask until it is there, as the machine does; how often that was."""
    for times in range(1, 10):
        try:
            assert uploader.put(Small(DATA)).done
        except StoreFault:
            continue
        uploader.close()
        return times
    raise AssertionError("it never is")


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("first", range(1, 9))
@pytest.mark.parametrize("gap", [0, 1, 2, 6])
def test_lost_anywhere_twice(serve: Any, first: int, gap: int, after: bool) -> None:
    """Whichever two calls get no answer, done or not, there is one file, whole, and no other chunk."""
    faults = {first: (LOST, after)} | ({first + gap: (LOST, not after)} if gap else {})
    server, uploader = serve(faults)
    finish(uploader)
    assert len(server.made["files"]) == 1
    assert server.whole()
    assert server.strays() == 0


@pytest.mark.parametrize("after", [False, True])
def test_document_without_an_answer(serve: Any, after: bool) -> None:
    """Its chunks stay, and are not sent again: the document goes out as it was."""
    document = 2 + 3 + 1
    server, uploader = serve({document: (LOST, after)})
    with pytest.raises(StoreFault):
        uploader.put(Small(DATA))
    chunks = list(server.made["chunks"])
    uploader.close()
    assert server.made["chunks"] == chunks
    assert finish(uploader) == 1
    assert server.made["chunks"] == chunks
    assert len(server.made["files"]) == 1


@pytest.mark.parametrize(
    ("error", "kept"),
    [
        (errors.WriteError("the document fails validation"), False),
        (errors.OperationFailure("not authorized", 13), False),
        (errors.WTimeoutError("waiting for replication timed out"), True),
        (errors.OperationFailure("interrupted at shutdown", 11600), True),
    ],
)
def test_document_refused(serve: Any, error: Exception, kept: bool) -> None:
    """Chunks are removed when their document is certainly not there, and not when it may be."""
    server, uploader = serve({6: (error, False)})
    try:
        assert not uploader.put(Small(DATA)).done
    except StoreFault:
        pass
    uploader.close()
    assert bool(server.made["chunks"]) == kept


def test_end_of_the_source(serve: Any) -> None:
    """A source that breaks leaves nothing, even if the removal is answered at the second time only."""

    class Short(Small):
        def blocks(self) -> Iterator[memoryview]:
            yield memoryview(DATA[:600_000])
            raise SourceError("it has shrunk")

    server, uploader = serve({5: (LOST, False)})
    with pytest.raises(SourceError):
        uploader.put(Short(DATA))
    assert server.strays() == 2
    uploader.close()
    assert server.made == {"files": [], "chunks": []}
