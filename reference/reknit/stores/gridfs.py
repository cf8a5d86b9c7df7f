"""MongoDB's GridFS: gridfs://HOST[:PORT]/DATABASE/NAME, through pymongo.

Settings in `Options.store`, with the environment variables that stand in for them:

    uri       MONGODB_URI   for a URL without a host: a connection string (replica sets, TLS, credentials)
    bucket                  fs

A name may have many revisions; the newest is read (GridFS specification, "openDownloadStreamByName"). What is
read then stays that revision: a file is never changed in place, and the validator holds its _id, so a resume
finds it even if a newer one has come. Uploads are in _gridfs_upload.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import unquote, urlsplit

from reknit._errors import CallerError, StoreFault
from reknit._options import Options
from reknit._representation import Dialect
from reknit.stores._base import Head, Response, pinned, settings
from reknit.stores._uploader import Uploader

SCHEMES = ("gridfs",)

_SETTINGS: dict[str, tuple[str, ...]] = {"uri": ("MONGODB_URI",), "bucket": ()}

# Error codes of the server that say who may do what (mongo/base/error_codes.yml).
DENIED = {18: 401, 13: 403, 8000: 401, 26: 404}

Document = Mapping[str, Any]


class GridFSStore:
    """One name in one bucket. It answers in the words of HTTP, so that one machine judges all stores."""

    dialect = Dialect("If-Match")

    def __init__(self, database: str, name: str, address: Mapping[str, Any], options: Options) -> None:
        self._database, self.name, self._address, self._options = database, name, address, options
        self._bucket = settings("GridFS", options.store, _SETTINGS)["bucket"] or "fs"
        place = _public(address["host"]).partition("?")[0]
        self.identity = f"gridfs {place} {database}.{self._bucket} {name}"

    def stat(self) -> Response:
        """The newest revision's facts."""
        return self._ask(0, None, None, body=False)

    def open_range(self, first: int, last: int | None, etag: str | None) -> Response:
        """200 or 206 from the revision that `etag` names, 412 when it is gone; the newest without one."""
        return self._ask(first, last, etag, body=True)

    def renew(self) -> bool:
        """Credentials are in the connection string, and do not expire by themselves."""
        return False

    def _ask(self, first: int, last: int | None, etag: str | None, *, body: bool) -> Response:
        client = self.connect()
        try:
            found = self._revision(client, etag)
            if found is None:
                gone = etag is not None and self._revision(client, None) is not None
                client.close()
                return Head(412 if gone else 404, {"x-reknit-error": f"no file is called {self.name!r}"})
            status, head, end = pinned(_head(found), first, last, etag)
            if not body or status in (412, 416):
                client.close()
                return Head(status, head)
            chunks = self.bucket(client).chunks
            return _Body(status, head, client, _chunks(chunks, found, first, end, self._options.buffer))
        except Exception as error:
            client.close()
            return refusal(error)

    def _revision(self, client: Any, etag: str | None) -> Document | None:
        """The document of the file: the newest, or the one with this tag."""
        files = self.bucket(client).files
        for found in files.find({"filename": self.name}, sort=[("uploadDate", -1)]):
            if etag in (None, _etag(found)):
                document: Document = found
                return document
        return None

    def bucket(self, client: Any) -> Any:
        """The two collections of the bucket."""
        return client[self._database][self._bucket]

    def connect(self) -> Any:
        """A client of its own for each answer: retries, pools and their waits are switched off.

        One layer retries (RFC 9110 §9.2.2 says of whom), and the driver's own single retry of a read would
        hide from it how often the store has failed.
        """
        pymongo = _pymongo()
        try:
            return pymongo.MongoClient(
                **self._address,
                appname="reknit",
                retryReads=False,
                retryWrites=False,
                serverMonitoringMode="poll",  # no second connection to watch the first answer
                serverSelectionTimeoutMS=_milliseconds(self._options.connect_timeout),
                connectTimeoutMS=_milliseconds(self._options.connect_timeout),
                socketTimeoutMS=_milliseconds(self._options.idle_timeout),
            )
        except (pymongo.errors.PyMongoError, ValueError) as error:
            raise CallerError(f"gridfs: {error}") from error


class _Body(Head):
    """The bytes of a range, a batch of chunks at a time."""

    def __init__(self, status: int, headers: Mapping[str, str], client: Any, blocks: Iterator[bytes]) -> None:
        super().__init__(status, headers)
        self._client, self._blocks, self._rest = client, blocks, memoryview(b"")

    def read(self, limit: int) -> bytes | memoryview:
        """The rest of a chunk, or of the next one."""
        if not self._rest:
            try:
                self._rest = memoryview(next(self._blocks, b""))
            except Exception as error:
                raise _fault(error) from error
        data, self._rest = self._rest[:limit], self._rest[limit:]
        return data

    def close(self) -> None:
        """Close the client, its monitor and its connections."""
        self._client.close()


def _chunks(chunks: Any, found: Document, first: int, end: int, buffer: int) -> Iterator[bytes]:
    """The bytes `first` to `end` of a file.

    Not through gridfs.GridOut: it takes batches of up to 16 MiB, and what a connection that breaks has
    delivered of a batch is lost with it. Here a batch is about half a buffer.
    """
    size, total = found["chunkSize"], found["length"]
    number, stop = first // size, -(-end // size)
    if first >= end:
        return
    query = {"files_id": found["_id"], "n": {"$gte": number, "$lt": stop}}
    with chunks.find(query, sort=[("n", 1)], batch_size=max(1, buffer // 2 // size)) as cursor:
        for chunk in cursor:
            # Batches come as the server likes; a chunk that is missing or short must not pass for its bytes.
            whole = min(size, total - number * size)
            if chunk["n"] != number or len(chunk["data"]) != whole:
                break
            start = number * size
            yield chunk["data"][max(first - start, 0) : end - start]
            number += 1
    if number < stop:
        raise StoreFault("changed", f"chunk {number} of the file is missing or not whole")


def connect(url: str, options: Options) -> GridFSStore:
    """A store for one name. Raises CallerError for a bad URL or setting, or when pymongo is missing."""
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018  # raises for one that is none
    except ValueError as error:
        raise CallerError(f"not a GridFS URL: {error}") from None
    database, _, name = (unquote(part) for part in parts.path[1:].partition("/"))
    if not database or not name or parts.query or parts.fragment:
        raise CallerError(f"not a GridFS URL (gridfs://HOST[:PORT]/DATABASE/NAME): {_public(url)!r}")
    uri = settings("GridFS", options.store, _SETTINGS)["uri"]
    if parts.netloc:
        address = {"host": f"mongodb://{parts.netloc}/", "directConnection": "," not in parts.netloc}
    elif uri:
        address = {"host": uri}
    else:
        raise CallerError("a GridFS URL without a host needs the setting uri (or MONGODB_URI)")
    return GridFSStore(database, name, address, options)


def uploader(url: str, options: Options) -> Uploader:
    """The way to store one name. Raises as `connect` does."""
    from reknit.stores import _gridfs_upload  # it needs this module

    return _gridfs_upload.GridFSUploader(connect(url, options))


def _public(url: str) -> str:
    return re.sub(r"//[^/@]*@", "//", url)


def _head(found: Document) -> dict[str, str]:
    """What the document of a file says, in HTTP's fields."""
    head = {"content-length": str(found["length"]), "etag": _etag(found)}
    metadata = found.get("metadata")
    stored = metadata if isinstance(metadata, Mapping) else {}
    if media := found.get("contentType") or stored.get("contentType"):
        head["content-type"] = str(media)
    # Older drivers wrote an md5 themselves; the specification has dropped it, and has nothing in its place.
    offers = (("sha-256", stored.get("sha256"), 64), ("md5", found.get("md5") or stored.get("md5"), 32))
    digests = [
        f"{name}=:{base64.b64encode(bytes.fromhex(value)).decode()}:"
        for name, value, size in offers
        if isinstance(value, str) and re.fullmatch(f"[0-9a-fA-F]{{{size}}}", value)
    ]
    return {**head, "repr-digest": ", ".join(digests)} if digests else head


def _etag(found: Document) -> str:
    """One revision and no other: an _id can be of any type, so it goes in as BSON."""
    import bson

    facts = {name: found.get(name) for name in ("_id", "length", "chunkSize", "uploadDate", "md5")}
    return f'"{hashlib.sha256(bson.encode(facts)).hexdigest()[:40]}"'


def _pymongo() -> Any:
    try:
        import pymongo
    except ImportError as error:
        raise CallerError("gridfs:// needs pymongo: pip install 'midstream[gridfs]'") from error
    return pymongo


def _milliseconds(seconds: float) -> int:
    return max(1, int(seconds * 1000))


def refusal(error: Exception) -> Response:
    """The server's word as an answer; raises StoreFault for what broke on the way."""
    code = getattr(error, "code", None)
    if code in DENIED:
        return Head(DENIED[code], {"x-reknit-error": f"{type(error).__name__}: {error}"})
    raise _fault(error) from error


def _fault(error: Exception) -> Exception:
    """What broke; a bug of ours stays what it is."""
    from pymongo import errors

    kinds: tuple[tuple[str, type[Exception]], ...] = (
        ("timeout", errors.NetworkTimeout),
        ("timeout", errors.ExecutionTimeout),
        ("connect", errors.ServerSelectionTimeoutError),
        ("connect", errors.WaitQueueTimeoutError),
        ("reset", errors.ConnectionFailure),
        ("protocol", errors.PyMongoError),
        ("protocol", OSError),
    )
    if isinstance(error, (StoreFault, CallerError)):
        return error
    for kind, known in kinds:
        if isinstance(error, known):
            return StoreFault(kind, f"{kind}: {type(error).__name__}: {error}")
    return error
