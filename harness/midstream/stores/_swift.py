"""What the two faces of Swift share: whether it can run here, and its server."""

from __future__ import annotations

import errno
import itertools
import json
import os
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote

from midstream._content import GENERATIONS, Content
from midstream._errors import HarnessError, SetupError, StoreDied, UsageError
from midstream._processes import ServerProcess
from midstream._registry import Availability
from midstream.stores import CONTAINER
from midstream.stores._bodies import ContentFile, body, pieces
from midstream.stores._starting import installed, own_folder, require, start

if TYPE_CHECKING:
    import requests

ACCOUNT, KEY = "midstream", "midstream-key"
OWNER, S3_USER = f"{ACCOUNT}:owner", f"{ACCOUNT}:driver"
# A user has one token at a time: for one driver to lose its token, those that run beside it are other users.
DRIVERS = tuple(f"{ACCOUNT}:driver{n}" for n in range(16))
SEGMENTS = f"{CONTAINER}_segments"  # where Swift's own client puts them too
SECONDS = 60.0


def available() -> Availability:
    """Whether Swift is installed and the folder for temporary files can hold its data."""
    found = installed("swift", "swift", ("swift", "eventlet", "xattr", "pyeclib", "boto3"))
    if found.available and (lack := lacks_xattrs(Path(tempfile.gettempdir()))):
        return Availability(False, lack, "set TMPDIR to a folder on ext4 or xfs", found.version)
    return found


def lacks_xattrs(folder: Path) -> str:
    """Why Swift cannot keep its data in this folder; "" when it can."""
    if not hasattr(os, "setxattr"):
        return "this system has no user xattrs, which Swift keeps its metadata in"
    try:
        with tempfile.NamedTemporaryFile(dir=folder) as probe:
            os.setxattr(probe.name, "user.swift.metadata", b"midstream")
    except OSError as error:
        if error.errno not in (errno.ENOTSUP, errno.EPERM, errno.ENOSPC):
            raise
        return f"{folder} is on a file system without user xattrs, which Swift keeps its metadata in"
    return ""


def start_server(name: str, folder: Path) -> tuple[ServerProcess, Path, str]:
    """Start Swift below `folder`: the process, the folder it takes with it, the version."""
    # Only the folder that is used counts here, not the one for temporary files.
    found = installed("swift", "swift", ("swift", "eventlet", "xattr", "pyeclib", "boto3"))
    require(name, found)
    own = own_folder(name, folder)
    if lack := lacks_xattrs(own):
        own.rmdir()
        raise SetupError(f"{name}: {lack}; give a data folder on ext4 or xfs")
    users = [option for user in (OWNER, S3_USER, *DRIVERS) for option in ("--user", user)]
    options = ("--data", str(own / "data"), "--key", KEY, *users)
    return start(name, "midstream.stores._swift_server", own, *options), own, found.version


class Api:
    """Swift's own API, out of band, as a user no driver is."""

    def __init__(self, name: str, port: int) -> None:
        import requests

        self.name = name
        self.port = port
        self._failure = requests.RequestException
        self._session = requests.Session()
        self._session.trust_env = False  # no proxy between us and loopback
        response = self._request(
            "GET", f"http://127.0.0.1:{port}/auth/v1.0", {"X-Auth-User": OWNER, "X-Auth-Key": KEY}
        )
        self._session.headers["X-Auth-Token"] = response.headers["X-Auth-Token"]
        self._account = response.headers["X-Storage-Url"]

    def close(self) -> None:
        self._session.close()

    def request(
        self,
        method: str,
        path: str,
        headers: dict[str, str] | None = None,
        data: bytes | ContentFile | None = None,
        missing: bool = False,
    ) -> requests.Response:
        """Ask for `path` below the account; with `missing` a 404 is an answer, not an error."""
        return self._request(method, f"{self._account}/{path}", headers, data, missing)

    def control(self, path: str, user: str = "") -> None:
        """Ask the server for something that is no request to Swift."""
        self._request("POST", f"http://127.0.0.1:{self.port}{path}", {"X-Auth-User": user})

    def _request(
        self,
        method: str,
        url: str,
        headers: dict[str, str] | None = None,
        data: bytes | ContentFile | None = None,
        missing: bool = False,
    ) -> requests.Response:
        try:
            response = self._session.request(method, url, headers=headers, data=data, timeout=SECONDS)
        except self._failure as error:
            raise StoreDied(f"{self.name}: does not answer on port {self.port}: {error}") from error
        if response.status_code == 404 and missing:
            return response
        if not response.ok:
            raise HarnessError(f"{self.name}: {method} {url} gave {response.status_code} {response.reason}")
        return response

    def create_containers(self) -> None:
        """Make the containers, from which everybody may read."""
        self.request("PUT", CONTAINER, {"X-Container-Read": ".r:*"})
        # to read a dynamic large object is to list its segments
        self.request("PUT", SEGMENTS, {"X-Container-Read": ".r:*,.rlistings"})


@dataclass(frozen=True)
class Segment:
    """A segment: its path below the account, and which bytes of the object it holds."""

    path: str
    first: int
    length: int
    etag: str = ""


class Segments:
    """The segments of large objects: kept by key, since an object does not outlive the store that made it."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._made: dict[str, tuple[Content, list[Segment]]] = {}
        self._folders = itertools.count()

    def upload(self, content: Content, key: str) -> list[Segment]:
        """Put an object's segments, four or as many as it has bytes, below a name of their own."""
        if not content.size:
            raise UsageError(f"{self._api.name}: a large object has at least one byte")
        folder = f"{SEGMENTS}/{quote(key)}/{next(self._folders):08d}"
        made = []
        for number, (first, length) in enumerate(pieces(content.size, -(-content.size // 4))):
            path = f"{folder}/{number:08d}"
            reply = self._api.request("PUT", path, data=body(content, first, length))
            made.append(Segment(path, first, length, reply.headers["ETag"]))
        return made

    def swap(self, key: str, content: Content, segments: list[Segment]) -> None:
        """The object of that name now has these segments: remove those it had."""
        _, old = self._made.pop(key, (content, []))
        if segments:
            self._made[key] = content, segments
        for segment in old:
            self._api.request("DELETE", segment.path, missing=True)

    def last(self, key: str) -> tuple[Content, Segment]:
        if key not in self._made:
            raise UsageError(f"{self._api.name}: {key!r} has no segments")
        content, segments = self._made[key]
        return content, segments[-1]

    def lose(self, key: str) -> None:
        self._api.request("DELETE", self.last(key)[1].path, missing=True)

    def change(self, key: str) -> None:
        content, segment = self.last(key)
        other = replace(content, generation=content.generation % GENERATIONS + 1)
        self._api.request("PUT", segment.path, data=body(other, segment.first, segment.length))


def manifest(layout: str, segments: list[Segment]) -> tuple[str, dict[str, str], bytes]:
    """What makes one object of segments: the query, the headers and the body it is put with."""
    if layout == "dlo":
        return "", {"X-Object-Manifest": segments[0].path.rpartition("/")[0] + "/"}, b""
    rows = [{"path": f"/{unquote(s.path)}", "etag": s.etag, "size_bytes": s.length} for s in segments]
    return "?multipart-manifest=put", {}, json.dumps(rows).encode()
