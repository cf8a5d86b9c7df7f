"""GridFS, on a server of MongoDB's wire protocol."""

from __future__ import annotations

import hashlib
import secrets
import shutil
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar, TypeVar, cast
from urllib.parse import quote, urlsplit

from midstream._content import Content
from midstream._errors import HarnessError, StoreDied, UsageError
from midstream._parts import Endpoint, find
from midstream._processes import ServerProcess
from midstream._registry import Availability
from midstream.stores import Access, ObjectInfo, RunningStore, Store, Traits, refusal
from midstream.stores._bodies import body
from midstream.stores._hosted import launch
from midstream.stores._starting import installed, own_folder, require

PREFIX = "midstream"
SECONDS = 30.0
_T = TypeVar("_T")


class RunningGridFS(RunningStore):
    """One bucket in a database of its own for each name, for chunks do not say what they were to become.

    The names of the databases begin with `prefix`; `server` is None where it runs already and is somebody
    else's.
    """

    id = "gridfs"

    def __init__(
        self, host: str, port: int, prefix: str, folder: Path, server: ServerProcess | None, version: str
    ) -> None:
        import pymongo

        self.port, self.version = port, version
        self.pid = server.pid if server else 0
        self._host, self._prefix, self._folder, self._server = host, prefix, folder, server
        self._client: Any = pymongo.MongoClient(
            host,
            port,
            directConnection=True,
            serverMonitoringMode="poll",
            serverSelectionTimeoutMS=2000,
            socketTimeoutMS=int(SECONDS * 1000),
        )
        self._stopped = False

    @property
    def upstream(self) -> tuple[str, int]:
        return (self._host, self.port)

    def _database(self, key: str) -> str:
        return f"{self._prefix}-{hashlib.sha256(key.encode()).hexdigest()[:24]}"

    def call(self, what: Callable[[Any], _T]) -> _T:
        """Do something with the client; errors that are not the server's answer become StoreDied."""
        from pymongo import errors

        if not self.alive():
            raise StoreDied(f"{self.id}: the server on port {self.port} has ended")
        try:
            return what(self._client)
        except errors.ConnectionFailure as error:
            raise StoreDied(f"{self.id}: does not answer on port {self.port}: {error}") from error
        except errors.PyMongoError as error:
            raise HarnessError(f"{self.id}: {error}") from error

    def _with(self, key: str, what: Callable[[Any], _T]) -> _T:
        """Do something with the bucket that holds a name."""
        from gridfs import GridFSBucket

        return self.call(lambda client: what(GridFSBucket(client[self._database(key)])))

    def put(self, key: str, content: Content, traits: Traits) -> None:
        if reason := refusal(self.id, ("plain",), traits):
            raise UsageError(reason)

        def upload(bucket: Any) -> None:
            old = [found._id for found in bucket.find({"filename": key})]
            bucket.upload_from_stream(key, body(content))
            for each in old:
                bucket.delete(each)

        self._with(key, upload)

    def stat(self, key: str) -> ObjectInfo | None:
        def look(bucket: Any) -> ObjectInfo | None:
            for found in bucket.find({"filename": key}).sort("uploadDate", -1):
                return ObjectInfo(found.length, str(found._id))
            return None

        return self._with(key, look)

    def read(self, key: str, start: int = 0, length: int | None = None) -> bytes:
        info = self.stat(key)
        if info is None:
            raise UsageError(f"{self.id}: no object is called {key!r}")
        if start >= info.size:
            return b""

        def fetch(bucket: Any) -> bytes:
            from gridfs.errors import CorruptGridFile

            try:
                with bucket.open_download_stream_by_name(key) as stream:
                    stream.seek(start)
                    return cast(bytes, stream.read(-1 if length is None else max(0, length)))
            except CorruptGridFile as error:
                raise HarnessError(f"{self.id}: {key!r}: {error}") from error

        return self._with(key, fetch)

    def delete(self, key: str) -> None:
        def remove(bucket: Any) -> None:
            for found in bucket.find({"filename": key}):
                bucket.delete(found._id)

        self._with(key, remove)

    def purge(self, key: str) -> None:
        self.call(lambda client: client.drop_database(self._database(key)))

    def orphans(self, key: str) -> list[str]:
        """Chunks that no document names, and files of other names; revisions of the name are none."""

        def look(client: Any) -> list[str]:
            bucket = client[self._database(key)]["fs"]
            files = {found["_id"]: found.get("filename") for found in bucket.files.find({}, {"filename": 1})}
            owners = Counter(str(n["files_id"]) for n in bucket.chunks.find({}, {"files_id": 1}))
            named = {str(each) for each in files}
            strays = [f"{count} chunks of no file" for own, count in owners.items() if own not in named]
            return strays + [f"the file {name}" for name in files.values() if name != key]

        return self.call(look)

    def clear(self, key: str) -> None:
        self.purge(key)

    def keys(self) -> list[str]:
        def listing(client: Any) -> list[str]:
            names = (name for name in client.list_database_names() if name.startswith(f"{self._prefix}-"))
            found = (client[name]["fs"].files.find({}, {"filename": 1}) for name in names)
            return sorted({each["filename"] for files in found for each in files})

        return self.call(listing)

    def access(self, key: str, base_url: str) -> Access:
        where = urlsplit(base_url).netloc
        native = f"gridfs://{where}/{self._database(key)}/{quote(key, safe='')}"
        return Access("gridfs", native, native, {})

    def alive(self) -> bool:
        from pymongo import errors

        if self._stopped or self._server:
            return not self._stopped and self._server is not None and self._server.alive()
        try:
            self._client.admin.command("ping")
        except errors.PyMongoError:
            return False
        return True

    def stop(self) -> None:
        from pymongo import errors

        if self._stopped:
            return
        if self._server is None:
            try:
                for name in self._client.list_database_names():
                    if name.startswith(f"{self._prefix}-"):
                        self._client.drop_database(name)
            except errors.PyMongoError:
                pass  # it has ended, and what it held is its owner's
        self._stopped = True
        self._client.close()
        if self._server:
            self._server.stop()
        shutil.rmtree(self._folder, ignore_errors=True)


class GridFS(Store):
    """FerretDB on SQLite, or the mongod that MIDSTREAM_GRIDFS_URL names."""

    id: ClassVar[str] = "gridfs"
    summary: ClassVar[str] = "MongoDB's GridFS (FerretDB on SQLite), cut by the byte of the connection"
    kind: ClassVar[str] = "gridfs"
    raw: ClassVar[bool] = True
    uploads: ClassVar[tuple[str, ...]] = ("put",)

    def available(self) -> Availability:
        client = installed("gridfs", "pymongo", ("pymongo", "gridfs"))
        return find(self.id).availability() if client.available else client

    def start(self, folder: Path) -> RunningGridFS:
        require(self.id, self.available())
        found = find(self.id)
        own = own_folder(self.id, folder)
        if found.how == "attach":
            there = Endpoint.parse("MIDSTREAM_GRIDFS_URL", found.what)
            prefix = f"{PREFIX}-{secrets.token_hex(4)}"
            return RunningGridFS(there.host, there.port, prefix, own, None, found.version)
        (own / "data").mkdir()
        server = launch(found, own, ["127.0.0.1:{port}", str(own / "data")], {}, "")
        return RunningGridFS("127.0.0.1", server.ready["port"], PREFIX, own, server, found.version)

    def operation(self, method: str, target: str, headers: Mapping[str, str]) -> str:
        return "other"


MEMBER = GridFS()
