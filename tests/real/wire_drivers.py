"""Clients of GridFS as people write them: right, and wrong in the ways that lose bytes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import unquote, urlsplit

from midstream.drivers import Job

ATTEMPTS = 5
PIECE = 65_536


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
