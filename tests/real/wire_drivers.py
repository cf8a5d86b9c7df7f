"""Clients of GridFS as people write them: right, and wrong in the ways that lose bytes."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import unquote, urlsplit

from midstream.drivers import Job

ATTEMPTS = 5
PIECE = 65_536
CHUNK = 255 << 10


@contextmanager
def opened(job: Job) -> Iterator[Any]:
    """The file, as pymongo streams it."""
    import pymongo
    from gridfs import GridFSBucket

    parts = urlsplit(job.native)
    client: Any = pymongo.MongoClient(
        parts.hostname, parts.port, directConnection=True, socketTimeoutMS=20_000, retryReads=False
    )
    database, name = map(unquote, parts.path[1:].split("/"))
    try:
        yield GridFSBucket(client[database]).open_download_stream_by_name(name)
    finally:
        client.close()


def from_the_start(job: Job) -> None:
    """Right, if wasteful: every failure begins again."""
    from pymongo.errors import PyMongoError

    for attempt in range(ATTEMPTS):
        part = job.dest.with_suffix(".part")
        try:
            with opened(job) as stream, part.open("wb") as sink:
                while data := stream.read(PIECE):
                    sink.write(data)
            part.replace(job.dest)
            return
        except PyMongoError:
            if attempt == ATTEMPTS - 1:
                part.unlink(missing_ok=True)
                raise


def appends(job: Job) -> None:
    """Wrong: what is there stays, and the whole comes after it."""
    from pymongo.errors import PyMongoError

    for attempt in range(ATTEMPTS):
        try:
            with opened(job) as stream, job.dest.open("ab") as sink:
                while data := stream.read(PIECE):
                    sink.write(data)
            return
        except PyMongoError:
            if attempt == ATTEMPTS - 1:
                raise


def takes_an_error_for_the_end(job: Job) -> None:
    """Wrong: a lost connection ends the loop like the last byte does."""
    from pymongo.errors import PyMongoError

    with opened(job) as stream, job.dest.open("wb") as sink:
        try:
            while data := stream.read(PIECE):
                sink.write(data)
        except PyMongoError:
            pass


def resumes_by_name(job: Job) -> None:
    """Wrong: seeks to where it was, in whatever has that name by then."""
    from pymongo.errors import PyMongoError

    job.dest.touch()
    for attempt in range(ATTEMPTS):
        try:
            with opened(job) as stream, job.dest.open("ab") as sink:
                stream.seek(sink.tell())
                while data := stream.read(PIECE):
                    sink.write(data)
            return
        except Exception as error:
            if attempt == ATTEMPTS - 1 or not isinstance(error, (PyMongoError, OSError)):
                raise


@contextmanager
def collections(job: Job) -> Iterator[Any]:
    """Files and chunks, to be written by hand."""
    import pymongo

    parts = urlsplit(job.native)
    client: Any = pymongo.MongoClient(
        parts.hostname, parts.port, directConnection=True, socketTimeoutMS=20_000, retryWrites=False
    )
    try:
        yield client[unquote(parts.path.split("/")[1])].fs
    finally:
        client.close()


def _document(job: Job, own: Any, length: int) -> dict[str, Any]:
    name = unquote(urlsplit(job.native).path.split("/")[2])
    made = datetime.datetime.now(datetime.UTC)
    return {"_id": own, "filename": name, "length": length, "chunkSize": CHUNK, "uploadDate": made}


def _send(job: Job, *, first: bool = False, forgives: bool = False) -> None:
    """One attempt: chunks and the document, which is to be the last."""
    import bson
    from pymongo.errors import PyMongoError

    assert job.source
    own, data = bson.ObjectId(), job.source.read_bytes()
    with collections(job) as bucket:
        if first:
            bucket.files.insert_one(_document(job, own, len(data)))
        try:
            for number, start in enumerate(range(0, len(data), CHUNK)):
                piece = data[start : start + CHUNK]
                bucket.chunks.insert_one({"files_id": own, "n": number, "data": piece})
        except PyMongoError:
            if not forgives:
                raise
        if not first:
            bucket.files.insert_one(_document(job, own, len(data)))


def _again(attempt: Callable[[], None]) -> None:
    from pymongo.errors import PyMongoError

    for _ in range(ATTEMPTS - 1):
        try:
            attempt()
            return
        except PyMongoError:
            continue
    attempt()


def forgets_its_chunks(job: Job) -> None:
    """Wrong: every attempt leaves the chunks of the one before."""
    _again(lambda: _send(job))


def names_before_it_sends(job: Job) -> None:
    """Wrong: the file is there before its bytes are."""
    _send(job, first=True)


def publishes_what_there_is(job: Job) -> None:
    """Wrong: an error ends the loop like the last chunk does."""
    _send(job, forgives=True)


def sends_with_the_usual_client(job: Job) -> None:
    """Right: pymongo's own, whose failed attempts remove their chunks."""
    import pymongo
    from gridfs import GridFSBucket

    parts = urlsplit(job.native)
    database, name = map(unquote, parts.path[1:].split("/"))
    assert job.source
    data = job.source.read_bytes()

    def attempt() -> None:
        client: Any = pymongo.MongoClient(parts.hostname, parts.port, directConnection=True)
        try:
            GridFSBucket(client[database]).upload_from_stream(name, data)
        finally:
            client.close()

    _again(attempt)
